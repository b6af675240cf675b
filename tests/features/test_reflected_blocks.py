"""Recordings that are read in blocks and reflected at both ends."""

import dataclasses
import hashlib
import json

import numpy as np
import pytest
from recordings import FRONT_END, make_clip, noise, rows

import asd_jax.data
from asd_jax.data import recordings
from asd_jax.data.recordings import Waveform
from asd_jax.features.frames import _reflected, frame_blocks, frames_in_memory
from asd_jax.features.request import FeatureSettings, Request

REFLECT = dataclasses.replace(FRONT_END, pad_mode="reflect")


def cut_at(waveform, *places):
    return np.split(waveform, places)


@pytest.mark.parametrize(
    ("n_samples", "places"),
    [
        (1, ()),
        (2, (1,)),
        (200, (50, 190)),
        (256, (1, 255)),
        (257, (256,)),
        (258, (257,)),
        (700, (1, 2, 3, 300, 650, 699)),
        (5000, (4000, 4990, 4999)),
        (5000, (0, 10, 10, 2000, 5000)),
        (70_000, (16_384, 32_768, 49_152, 65_536)),
        (70_000, (69_800,)),
    ],
)
def test_blocks_of_any_lengths_are_as_the_whole(n_samples, places):
    """Samples as `numpy.pad` has them; frames to 5e-5 dB, as sums are in another order."""
    waveform = noise(n_samples)[:, 0].astype(np.float32) / 32768
    blocks = cut_at(waveform, *places)
    for before, behind in ((256, 256), (255, 255), (0, 0), (3, 0), (0, 7)):
        found = np.concatenate([*_reflected(blocks, before, behind)])
        np.testing.assert_array_equal(found, np.pad(waveform, (before, behind), mode="reflect"))
    streamed = [(0, Waveform(n_samples, blocks))]
    ((_, parts),) = ((number, [*found]) for number, found in frame_blocks(streamed, REFLECT))
    expected = np.asarray(REFLECT(waveform))
    np.testing.assert_allclose(np.concatenate(parts), expected, atol=5e-5)
    (found,) = frames_in_memory(waveform, 16_000, REFLECT)
    np.testing.assert_allclose(found, expected, atol=5e-5)


@pytest.mark.parametrize("longest", [2**21, 1000])
def test_recordings_of_files_are_as_in_memory(tmp_path, compute, monkeypatch, longest):
    """Of 100 samples, less than half a frame, to three seconds; in memory and in blocks."""
    monkeypatch.setattr(recordings, "_LONGEST", longest)
    lengths = (100, 1001, 16_000, 16_100, 48_000)
    clips = [make_clip(tmp_path / "data", i, n) for i, n in enumerate(lengths)]
    found = compute(clips, REFLECT)
    for i, clip in enumerate(clips):
        expected = np.asarray(REFLECT(asd_jax.data.read(clip.path, 16_000)))
        np.testing.assert_allclose(found.read_clips([i])[0], expected, atol=5e-5)
    constant = compute(clips, FRONT_END)
    assert constant.key != found.key and compute.read == len(clips)
    assert np.abs(rows(constant) - rows(found)).max() > 1


def test_entries_of_zeros_are_named_as_before_it_was_a_setting():
    """By what the digest is of, without the setting."""
    fields = dataclasses.asdict(FRONT_END)
    del fields["canceller"], fields["pad_mode"]
    text = json.dumps([3, fields, "mean", 1, ["00"]], sort_keys=True)
    expected = hashlib.sha256(text.encode()).hexdigest()[:32]
    names = [
        Request(["a.wav"], [""], FeatureSettings(front_end, None, 1, 1)).digest([b"\0"])
        for front_end in (FRONT_END, REFLECT)
    ]
    assert names[0] == expected != names[1]
