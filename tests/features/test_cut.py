"""Long recordings cut into clips, by their features."""

import numpy as np
import pytest
import soundfile

from asd_jax.audio import FrontEnd
from asd_jax.data.clips import Clip, ClipTable
from asd_jax.errors import UserError
from asd_jax.features.compute import compute_features
from asd_jax.features.cut import cut, n_pieces

RATE = 16_000
FRONT_END = FrontEnd(n_mels=8)
SECONDS = {"long": 5.2, "short": 1.0, "middle": 2.6}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    root = tmp_path_factory.mktemp("long")
    clips = []
    for machine, names in (("fan", ("long", "short", "middle")), ("pump", ("long",))):
        for name in names:
            sound = np.random.default_rng(len(clips)).normal(0, 0.1, int(SECONDS[name] * RATE))
            path = root / f"{machine} {name}.wav"
            soundfile.write(path, sound, RATE, "FLOAT")
            group = "monday" if name == "middle" else ""
            clips.append(Clip(machine, "00", "train", path.name, str(path), group=group))
    return compute_features(ClipTable.of(clips), FRONT_END, cache_dir=root / "cache")


def test_clips_are_all_of_a_recording_and_equally_long(whole):
    pieces = cut(whole, FRONT_END, 1.0, 2)
    counts = n_pieces(whole.n_frames, FRONT_END, 1.0, 2)
    assert counts.tolist() == [5, 1, 3, 5]
    rows = np.repeat(np.arange(4), counts)
    for i, frames in enumerate(whole.read_clips(range(4))):
        own = pieces.read_clips(np.flatnonzero(rows == i))
        np.testing.assert_array_equal(np.concatenate(own), frames)
        lengths = [len(part) for part in own]
        assert max(lengths) - min(lengths) <= 1
    assert pieces.total_frames == whole.total_frames
    np.testing.assert_array_equal(pieces.digests, whole.digests[rows])


def test_names_have_the_time_and_recordings_are_groups(whole):
    clips = cut(whole, FRONT_END, 1.0, 2).clips
    own = [clip for clip in clips if clip.machine == "fan"]
    assert [clip.name.partition("wav")[2] for clip in own[:3]] == ["@0-1s", "@1-2.1s", "@2.1-3.1s"]
    assert own[5].name == "fan short.wav" and own[5].group == "" and own[5].start == 0
    assert {clip.group for clip in own[:5]} == {own[0].path}
    assert {clip.group for clip in own[6:]} == {"monday"}
    assert {clip.group for clip in clips if clip.machine == "pump"} == {""}  # its only recording
    starts = np.array([clip.start for clip in own[:5]])
    np.testing.assert_allclose(np.diff(starts), 5.2 / 5, atol=512 / RATE)


def test_clips_that_would_be_too_short_are_one_line(whole):
    with pytest.raises(UserError, match=r"data.clip_seconds is 0.1, and .* clips of 0.32 s"):
        cut(whole, FRONT_END, 0.1, 10)
    same = cut(whole, FRONT_END, 60.0, 10)
    assert same.clips == whole.clips
