"""Groups of clips, and the clips that are held out."""

import numpy as np
import pytest
from work import Counted

from asd_jax.data import groups as module
from asd_jax.data.clips import Clip, ClipTable
from asd_jax.data.groups import group_numbers, hold_out, members_of, with_groups
from asd_jax.errors import UserError


def clips_of(groups, machine="fan", **settings):
    return ClipTable.of(
        [
            Clip(machine, "00", "train", f"{i}.wav", f"/{own}/{i}.wav", group=own, **settings)
            for i, own in enumerate(groups)
        ]
    )


def test_groups_come_from_paths_and_attributes():
    clips = clips_of([""] * 4, attributes=(("day", "tuesday"),))
    assert {clip.group for clip in with_groups(clips, "day")} == {"tuesday"}
    assert [clip.group for clip in with_groups(clips, r"([0-9])\.wav")] == ["0", "1", "2", "3"]
    assert with_groups(clips, "") is clips
    test = clips.replace(split="test")
    assert {clip.group for clip in with_groups(test, "no such")} == {""}
    with pytest.raises(UserError, match="does not tell its group; its attributes: day"):
        with_groups(clips, "month")


def test_a_clip_without_a_group_is_by_itself():
    assert group_numbers(clips_of(["a", "", "", "a"])).tolist() == [0, 1, 2, 0]


@pytest.mark.parametrize("share", [0.1, 0.3, 0.6, 0.99])
def test_groups_are_held_out_as_a_whole_and_one_stays(share):
    groups = np.repeat([*"abcdefgh"], [1, 2, 3, 4, 5, 6, 7, 8]).tolist()
    clips = clips_of(groups)
    held = hold_out(clips, np.zeros(len(clips), int), share)
    of_groups = {
        name: {bool(held[i]) for i, own in enumerate(groups) if own == name} for name in set(groups)
    }
    assert all(len(own) == 1 for own in of_groups.values())
    assert 0 < held.sum() < len(clips)
    more = hold_out(clips, np.zeros(len(clips), int), min(share + 0.2, 0.999))
    assert np.all(more[held]) or share > 0.7  # of nearly all, one group stays


def test_one_group_is_not_held_out():
    clips = clips_of(["a"] * 5)
    assert not hold_out(clips, np.zeros(5, int), 0.5).any()
    assert not hold_out(clips_of(["", ""]), np.zeros(2, int), 0.0).any()


def test_a_group_of_several_sections_is_held_out_of_all_that_is_learned_together():
    """A network of the machine would know the session from the other section."""
    groups = [*"abcde", *"cadeb"]
    clips = ClipTable.of(
        [
            Clip("fan", "00" if i < 5 else "01", "train", f"{i}", "", group=own)
            for i, own in enumerate(groups)
        ]
    )
    labels = np.repeat([0, 1], 5)
    held = hold_out(clips, labels, 0.2, ("machine",))
    assert len({groups[i] for i in np.flatnonzero(held)}) == 1 and held.sum() == 2
    apart = hold_out(clips, labels, 0.2, ("machine", "section"))
    assert [apart[:5].sum(), apart[5:].sum()] == [1, 1]


def test_members_of_groups():
    numbers = np.array([2, 0, 2, 1])
    assert [own.tolist() for own in members_of(numbers, np.array([3, 5, 8, 9]))] == [
        [5],
        [9],
        [3, 8],
    ]
    assert members_of(np.zeros(0, int)) == []


@pytest.mark.parametrize("own_group", [True, False])
def test_work_of_holding_out_grows_as_the_clips(monkeypatch, own_group):
    """Clips that are groups of their own, and each of its own class, are the most of either."""
    monkeypatch.setattr(module, "group_numbers", lambda clips: Counted.of(group_numbers(clips)))

    def work(count):
        clips = clips_of([str(i) if own_group else "" for i in range(count)])
        labels = Counted.of(np.arange(count))
        held = hold_out(clips, labels, 0.5)
        assert not held.any()  # each is the last of its class
        return Counted.elements

    assert work(800) <= 2.2 * work(400)
