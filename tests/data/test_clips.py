"""The table of clips against lists of the same clips."""

import dataclasses
import os
import random
import tracemalloc

import numpy as np
import pytest

from asd_jax.audio import FrontEnd
from asd_jax.data.clips import ANOMALY, NORMAL, UNLABELLED, Clip, ClipTable
from asd_jax.features.cache import Entry
from asd_jax.features.table import FeatureSet

# A lone surrogate stands for a byte of a file name that is not UTF-8.
NAMES = (
    *("a", "a\0", "ab", "", "section_00_source_train_normal_0000.wav", "é", "漢字.wav", "😀.wav"),
    *(os.fsdecode(b"\xff.wav"), "\ud800", "\uffff", "normal/00000000.wav"),
    *(f"section_00_source_train_normal_{i:04}_vel_6.wav" for i in range(6)),
    "x" * 300,
)


def random_clips(count, seed=0):
    rng = random.Random(seed)
    clips = []
    for _ in range(count):
        name = rng.choice(NAMES)
        folder = rng.choice(["/data/fan/train/", "/data/fan/", "", "/daten/Lüfter\udce9/"])
        clips.append(
            Clip(
                machine=rng.choice(["fan", "valve", "ToyCar"]),
                section=rng.choice(["00", "01", "02"]),
                split=rng.choice(["train", "test", "other"]),
                name=name,
                path=rng.choice([folder + name, folder, folder + name + ".flac"]),
                year=rng.choice([0, 2020, 2023]),
                subset=rng.choice(["dev", "eval"]),
                domain=rng.choice(["", "source", "target"]),
                label=rng.choice([NORMAL, ANOMALY, UNLABELLED]),
                attributes=rng.choice([(), (("vel", "6"),), (("vel", "6"), ("loc", "A"))]),
                perturbation=rng.choice(["", "resample 0.9"]),
            )
        )
    return clips


CLIPS = random_clips(3000)


def test_rows_are_the_clips():
    table = ClipTable.of(iter(CLIPS))
    assert len(table) == len(CLIPS)
    assert list(table) == CLIPS
    assert [table[i] for i in range(len(table))] == CLIPS
    assert [table.path(i) for i in range(len(table))] == [clip.path for clip in CLIPS]
    assert table[-1] == CLIPS[-1] and table[np.int64(7)] == CLIPS[7]
    assert [type(value) for value in vars(table[0]).values()] == [
        type(value) for value in vars(CLIPS[0]).values()
    ]
    assert CLIPS[5] in table and table.index(CLIPS[0]) == 0
    assert repr(table) == "<ClipTable of 3000 clips>"
    assert ClipTable.of(table) is table
    for row in (3000, -3001):
        with pytest.raises(IndexError, match=f"no clip {row} in a table of 3000"):
            table[row]


def test_equal_where_the_rows_are():
    table = ClipTable.of(CLIPS[:9])
    assert table == CLIPS[:9] and tuple(CLIPS[:9]) == table and table == ClipTable.of(CLIPS[:9])
    assert table != CLIPS[:8] and table != CLIPS[1:10] and table != "clips"
    assert ClipTable.of([]) == ClipTable.of(()) != table


def test_parts_as_of_an_array():
    table = ClipTable.of(CLIPS)
    for part in (slice(5, 90, 7), slice(None, None, -1), slice(10, 10)):
        assert table[part] == CLIPS[part]
    indices = [7, 7, 2999, -1, 0]
    for each in (indices, tuple(indices), np.array(indices, np.int32), range(3)):
        assert table[each] == [CLIPS[i] for i in each]
    mask = np.array([clip.machine == "fan" for clip in CLIPS])
    of_fan = [clip for clip in CLIPS if clip.machine == "fan"]
    assert table[mask] == table[mask.tolist()] == of_fan
    assert table[mask][10:][5] == of_fan[15]
    assert table[[]] == table[np.zeros(len(CLIPS), bool)] == []
    with pytest.raises(IndexError):
        table[mask[:-1]]


def test_an_empty_table():
    table = ClipTable.of([])
    assert not table and list(table) == []
    assert table.sorted() == table + [] == table[:0] == table.replace(split="test") == []
    assert table.distinct("machine") == [] and list(table.namesakes()) == []
    assert table.groups("machine", "folder") == {}
    assert table.where(machine="fan").shape == (0,)
    assert table + CLIPS == ClipTable.concatenate([table, CLIPS, []]) == CLIPS
    assert ClipTable.concatenate([]) == []


@pytest.mark.parametrize("seed", range(3))
def test_sorted_like_a_list(seed):
    """Ties in machine, section, split and name among them: 3000 clips of 459 such values."""
    clips = random_clips(3000, seed)
    assert ClipTable.of(clips).sorted() == sorted(clips)
    assert ClipTable.of(clips)[::2].sorted() == sorted(clips[::2])


def test_paths_are_sorted_as_a_whole():
    """A folder within another one comes before files of the same name by its own name."""
    clips = [Clip("fan", "00", "train", "x", f"/{folder}/x") for folder in ("a", "a/b", "a/y")]
    assert [c.path for c in ClipTable.of(clips).sorted()] == ["/a/b/x", "/a/x", "/a/y/x"]


def test_one_below_the_other():
    table = ClipTable.of(CLIPS)
    others = random_clips(50, seed=9)
    assert table + others == CLIPS + others
    assert table + ClipTable.of(others)[3:] + table[:2] == CLIPS + others[3:] + CLIPS[:2]
    # Parts of one table do not take the bytes of its names again.
    joined = table[:10] + table[20:] + table[::3]
    assert joined == CLIPS[:10] + CLIPS[20:] + CLIPS[::3]
    assert joined._names.buffer is table._names.buffer


def test_more_values_than_a_byte_has():
    clips = [dataclasses.replace(CLIPS[0], section=f"{i:03}") for i in range(300)]
    table = ClipTable.of(clips[:200]) + ClipTable.of(clips[200:])
    assert table == clips
    assert table.replace(np.arange(300) == 299, section="new")[299].section == "new"
    assert table[::-1].sorted() == clips


def test_where():
    table = ClipTable.of(CLIPS)
    assert table[table.where(machine="fan", label=NORMAL)] == [
        clip for clip in CLIPS if clip.machine == "fan" and clip.label == NORMAL
    ]
    for values in (["00", "02", "99"], {"00", "02"}):
        assert table[table.where(section=values)] == [c for c in CLIPS if c.section in values]
    attributes = (("vel", "6"),)
    assert table[table.where(attributes=attributes)] == [
        clip for clip in CLIPS if clip.attributes == attributes
    ]
    assert not table.where(machine="pump").any() and not table.where(machine=[]).any()
    assert table.where().all()


def test_distinct_values_and_their_places():
    table = ClipTable.of(CLIPS)
    assert table.distinct("machine") == ["ToyCar", "fan", "valve"]
    assert table[table.where(machine=["fan", "valve"])].distinct("machine") == ["fan", "valve"]
    assert table.distinct("label") == [-1, 0, 1]
    order = ["02", "03", "00", "01"]
    expected = [order.index(clip.section) for clip in CLIPS]
    np.testing.assert_array_equal(table.places("section", order), expected)
    with pytest.raises(ValueError):
        table.places("section", ["00", "01"])
    # Only what is there counts.
    of_one = table[table.where(section="01")]
    np.testing.assert_array_equal(of_one.places("section", ["00", "01"]), 1)


@pytest.mark.parametrize("by", [("machine",), ("year", "subset", "machine", "split"), ("label",)])
def test_groups_come_by_their_first_clips(by):
    table = ClipTable.of(CLIPS)
    expected, of_source = {}, {}
    for i, clip in enumerate(CLIPS):
        key = tuple(getattr(clip, name) for name in by)
        expected.setdefault(key, []).append(i)
        if clip.domain == "source":
            of_source.setdefault(key, []).append(i)
    for groups, wanted in (
        (table.groups(*by), expected),
        (table.groups(*by, rows=table.where(domain="source")), of_source),
    ):
        assert list(groups) == list(wanted)
        for key, indices in wanted.items():
            assert groups[key].dtype == np.int64
            np.testing.assert_array_equal(groups[key], indices)


def test_groups_of_folders():
    clips = [Clip("", "", "", name, folder + name) for name in "ab" for folder in ("/x/", "/y/")]
    groups = list(ClipTable.of(clips).groups("folder").values())
    np.testing.assert_array_equal(groups, [[0, 2], [1, 3]])


def test_other_values():
    table = ClipTable.of(CLIPS)
    everywhere = table.replace(split="other", year=2026)
    assert everywhere == [dataclasses.replace(c, split="other", year=2026) for c in CLIPS]
    mask = table.where(split="test")
    assert table.replace(mask, split="held out") == [
        dataclasses.replace(c, split="held out") if c.split == "test" else c for c in CLIPS
    ]
    assert table == CLIPS
    assert table.replace(split="other").distinct("split") == ["other"]


def test_namesakes():
    groups = {}
    for i, clip in enumerate(CLIPS):
        key = (clip.machine, clip.section, clip.split, clip.name)
        groups.setdefault(key, []).append(i)
    expected = sorted(each for each in groups.values() if len(each) > 1)
    assert sorted(each.tolist() for each in ClipTable.of(CLIPS).namesakes()) == expected
    assert list(ClipTable.of([CLIPS[i[0]] for i in groups.values()]).namesakes()) == []


def challenge_clips(count):
    """Named as in the challenge, in the deep folders of several data sets."""
    machines = ("ToyCar", "ToyTrain", "bearing", "fan", "gearbox", "slider", "valve")
    for i in range(count):
        machine, year = machines[i % 7], 2022 + i % 2
        domain = "target" if i % 100 == 0 else "source"
        velocity, place = str(i % 13), "ABC"[i % 3]
        name = f"section_00_{domain}_train_normal_{i:07}_vel_{velocity}_loc_{place}.wav"
        yield Clip(
            machine=machine,
            section="00",
            split="train",
            name=name,
            path=f"/mnt/storage/recordings/dcase{year}/dev_data/raw/{machine}/train/{name}",
            year=year,
            domain=domain,
            label=NORMAL,
            attributes=(("vel", velocity), ("loc", place)),
        )


def test_memory_of_a_clip():
    """Ten million clips with their features' places in 3 GiB: 322 bytes each."""
    count = 20_000
    tracemalloc.start()
    try:
        table = ClipTable.of(challenge_clips(count)).sorted()
        features = FeatureSet(
            clips=table[table.where(split="train")],
            n_frames=np.full(count, 313, np.int32),
            width=FrontEnd().width,
            key="",
            digests=np.zeros(count, "V16"),
            levels=np.zeros((count, 4), np.float32),
            _entries=tuple(Entry("/cache", f"{i:032x}", 128) for i in range(count // 1024 + 1)),
            _entry=np.arange(count, dtype=np.int32) // 1024,
            _rows=np.arange(count) % 1024 * 313,
        )
        kept, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(features.clips) == len(features.offsets) == count
    # The name alone is 57 bytes. As it is built the table may take as much again.
    assert kept / count < 155
    assert peak / count < 300
