"""Frames of windows that overlap, beside those of each window as a recording of its own."""

import threading

import numpy as np
import pytest

from asd_jax.audio import FrontEnd
from asd_jax.audio.views import ViewSpec
from asd_jax.audio.waveform_blocks import WaveformBlocks
from asd_jax.deploy.watch import frames
from asd_jax.deploy.watch.program import filled_to
from asd_jax.deploy.watch.windows import Place, window_begins
from asd_jax.features.batches import _filled
from asd_jax.features.frames import frames_in_memory

RATE = 16000
LOG_MEL = FrontEnd(n_mels=16)
FRONT_ENDS = {
    "waveforms": WaveformBlocks(RATE),
    "zeros": LOG_MEL,
    "reflect": FrontEnd(n_mels=16, pad_mode="reflect"),
    "whole": FrontEnd(n_mels=16, center=False),
    "odd": FrontEnd(n_mels=16, n_fft=1000, hop_length=333, pad_mode="reflect"),
    "apart": FrontEnd(n_mels=16, n_fft=256, hop_length=500),
}
SIGNAL = np.random.default_rng(0).normal(0, 0.1, 6 * RATE).astype(np.float32)


def alone(begins, front_end, length=RATE):
    waveforms = cut(begins, length)
    return [frames_in_memory(each[None], RATE, front_end)[0] for each in waveforms]


def cut(begins, length=RATE):
    return [SIGNAL[begin : begin + length] for begin in begins]


def places(begins, stream="fan", signal=0):
    return [Place(stream, signal, begin) for begin in begins]


@pytest.mark.parametrize("front_end", FRONT_ENDS.values(), ids=[*FRONT_ENDS])
@pytest.mark.parametrize("hops", [1, 7, 40, 5.5])
def test_frames_are_those_of_recordings(front_end, hops):
    """To the last bit, however far windows are apart and however many come at a time."""
    begins = window_begins(len(SIGNAL), RATE, round(hops * front_end.hop_length))[:7]
    wanted = alone(begins, front_end)
    for at_once in (1, 3, 7):
        own, found = frames.WindowFrames(front_end), []
        for first in range(0, len(begins), at_once):
            some = begins[first : first + at_once]
            found += own.of(cut(some), places(some))
        for each, other in zip(found, wanted, strict=True):
            np.testing.assert_array_equal(each, other)
            assert each.dtype == other.dtype


def test_shared_frames_are_computed_once(monkeypatch):
    """Of twenty windows of 32 frames: all of the first, and what each other one adds."""
    counts = []

    def counting(front_end):
        def program(waveforms):
            counts.append(front_end.frames(waveforms.shape[1] - front_end.n_fft))
            return front_end.of_padded(waveforms)

        return program

    monkeypatch.setattr(frames, "_program", counting)
    begins = [4 * 512 * i for i in range(20)]
    frames.WindowFrames(LOG_MEL).of(cut(begins), places(begins))
    in_part = LOG_MEL.frames_at_once // 4
    # Of each other window one frame at its begin, four new ones and one at its end; and two in
    # which pieces meet.
    assert sum(counts) == -(-(33 + 19 * (1 + 1 + 5 + 1)) // in_part) * in_part
    counts.clear()
    frames.WindowFrames(LOG_MEL).of(cut(begins), [None] * len(begins))
    assert sum(counts) == -(-20 * 33 // in_part) * in_part


@pytest.mark.parametrize("length", [1, 300, 600, 1024, 1535])
def test_windows_of_few_frames(length):
    for front_end in (LOG_MEL, FRONT_ENDS["reflect"]):
        begins = [0, 512, 1024]
        found = frames.WindowFrames(front_end).of(cut(begins, length), places(begins))
        for own, wanted in zip(found, alone(begins, front_end, length), strict=True):
            np.testing.assert_array_equal(own, wanted)


def test_only_windows_of_one_signal_share():
    """Another recording, another stream, a window that was skipped or is from before."""
    shared = frames.WindowFrames(LOG_MEL)
    rng = np.random.default_rng(1)
    others = rng.normal(0, 0.1, (4, RATE)).astype(np.float32)
    begins = [0, 512, 4096, 1024, 30000]
    waveforms, wheres = cut(begins), places(begins)
    waveforms += [*others]
    wheres += [Place("fan", 1, 512), Place("pump", 0, 512), Place("pump", 2, 1024), None]
    for own, waveform in zip(shared.of(waveforms, wheres), waveforms, strict=True):
        np.testing.assert_array_equal(own, frames_in_memory(waveform[None], RATE, LOG_MEL)[0])


def test_what_is_remembered_does_not_grow():
    shared = frames.WindowFrames(LOG_MEL)
    begins = [512 * 5 * i for i in range(30)]
    sizes = []
    for begin in begins:
        shared.of(cut([begin]), places([begin]))
        (known,) = shared._known.values()
        assert known.frames.base is None  # not a part of something larger
        sizes.append(len(known.frames))
    assert sizes == [30] + 29 * [25]  # of those within the window; what the next one shares


def test_threads_that_are_ahead_of_one_another():
    begins = [512 * 5 * i for i in range(30)]
    shared, found = frames.WindowFrames(LOG_MEL), {}

    def some(numbers):
        for i in numbers:
            (found[i],) = shared.of(cut([begins[i]]), places([begins[i]]))

    threads = [threading.Thread(target=some, args=(range(i, 30, 3),)) for i in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for i, wanted in enumerate(alone(begins, LOG_MEL)):
        np.testing.assert_array_equal(found[i], wanted)


@pytest.mark.parametrize(
    "views",
    [ViewSpec(5), ViewSpec(9, 7, crop=True), ViewSpec(40, 3, 3, crop=True), ViewSpec(40, 3, 3)],
    ids=["frames", "crop", "short crop", "short"],
)
def test_views_are_filled_as_those_of_recordings(views):
    (own,) = frames_in_memory(SIGNAL[None, :RATE], RATE, LOG_MEL)
    (wanted,) = frames_in_memory(SIGNAL[None, :RATE], RATE, LOG_MEL, views)
    if views.crop:
        wanted = np.concatenate([*_filled([wanted], views)])
    found = own[np.arange(filled_to(len(own), views)) % len(own)]
    np.testing.assert_array_equal(found, wanted)
