"""Reading many recordings: order, memory, threads, and long ones in blocks."""

import os
import threading
import weakref

import numpy as np
import pytest
import soundfile
from recordings import RATE, noise

from asd_jax.data import audio_files, recordings
from asd_jax.data.audio_files import AudioInfo, Recording, read
from asd_jax.data.levels import Level
from asd_jax.data.recordings import Waveform, read_recordings
from asd_jax.errors import UserError


def quiet(line):
    raise AssertionError(f"nothing should be said, but: {line}")


def samples_of(waveform):
    return np.concatenate([*waveform.blocks])


@pytest.fixture
def all_are_long(monkeypatch):
    """A recording of more than 1,000 samples is long, and a block has 300."""
    monkeypatch.setattr(recordings, "_LONGEST", 1000)
    monkeypatch.setattr(audio_files, "_BLOCK", 300)


@pytest.mark.parametrize("threads", [1, 5])
def test_they_are_in_order_and_complete(wav, threads):
    samples = [noise(20 + i, seed=i)[:, 0] for i in range(11)]
    paths = [wav(f"{i}.wav", each) for i, each in enumerate(samples)]
    found = [*read_recordings(paths, RATE, threads=threads, report=quiet)]
    assert [i for i, _ in found] == [*range(11)]
    for each, (_, waveform) in zip(samples, found, strict=True):
        assert waveform.n_samples == len(each)
        np.testing.assert_array_equal(samples_of(waveform), each / np.float32(32768))


def test_no_paths_no_recordings():
    assert [*read_recordings([], RATE, report=quiet)] == []


def test_bad_clip_stops_or_is_left_out(wav):
    paths = [wav(f"{i}.wav", noise(20)) for i in range(5)]
    paths[1].write_bytes(b"")
    paths[4].unlink()
    stopping = read_recordings(paths, RATE, report=quiet)
    assert next(stopping)[0] == 0
    with pytest.raises(UserError, match="1.wav: empty file"):
        next(stopping)
    said = []
    skipping = read_recordings(paths, RATE, on_bad_clip="skip", report=said.append)
    assert [i for i, _ in skipping] == [0, 2, 3]
    assert len(said) == 2
    assert "1.wav: empty file" in said[0]
    assert "4.wav: missing" in said[1]


def test_other_rates_and_channels_are_said_once_a_kind(wav):
    paths = [wav(f"a{i}.wav", noise(3200), 32000) for i in range(3)]
    paths += [wav(f"b{i}.wav", noise(1600, channels=2)) for i in range(3)]
    paths += [wav("c.wav", noise(4800, channels=2), 48000)]
    said = []
    found = [*read_recordings(paths, RATE, 0, report=said.append)]
    assert {samples_of(waveform).shape for _, waveform in found} == {(1600,)}
    assert [line.partition(", first")[0] for line in said] == [
        "recordings of 32000 Hz are resampled to 16000 Hz",
        "recordings of 2 channels are reduced to channel 0",
        "recordings of 48000 Hz are resampled to 16000 Hz",
    ]
    said.clear()
    assert len([*read_recordings(paths[3:4], RATE, "mean", report=said.append)]) == 1
    assert len(said) == 1
    assert said[0].startswith("recordings of 2 channels are reduced to their mean")


@pytest.mark.parametrize(
    ("rate", "channels", "channel"),
    [(RATE, 1, None), (RATE, 2, "mean"), (44100, 2, 1), (48000, 1, None), (8000, 1, None)],
)
def test_a_long_one_in_blocks_is_what_one_read_gives(wav, all_are_long, rate, channels, channel):
    """To the bit: soxr keeps its state from block to block. Blocks may be gone through again."""
    path = wav("long.wav", noise(10007, channels), rate)
    ((_, waveform),) = read_recordings([path], RATE, channel, report=lambda line: None)
    whole = read(path, RATE, channel)
    assert len([*waveform.blocks]) > 30
    # The filter's tail comes with the last block.
    assert max(map(len, waveform.blocks)) <= 2000
    np.testing.assert_array_equal(samples_of(waveform), whole)
    assert waveform.n_samples == len(whole)


def test_a_long_one_that_ends_early_or_changes_is_not_begun(wav, all_are_long):
    """Nobody has used its first half when its second turns out not to be there."""
    path = wav("long.flac", noise(10))
    soundfile.write(path, noise(20000)[:, 0], RATE, format="FLAC")
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(UserError, match="long.flac: .*(truncated|unreadable)"):
        next(read_recordings([path], RATE))
    path.write_bytes(content)
    ((_, waveform),) = read_recordings([path], RATE)
    os.utime(path, (0, 0))
    with pytest.raises(UserError, match="long.flac changed while it was read"):
        next(iter(waveform.blocks))


def test_levels_are_measured_across_blocks(wav, all_are_long):
    """Full scale from the last sample of a block to the first of the next; the whole's level."""
    samples = noise(2000)[:, 0]
    samples[290:310] = 32767
    path = wav("clipped.wav", samples)
    noted = {}
    assert len([*read_recordings([path], RATE, note=noted.__setitem__)]) == 1
    expected = Level.of(samples[:, None] / np.float32(32768))
    assert noted[0].level.clipped == expected.clipped == 19 / 2000
    assert noted[0].level.peak == expected.peak
    assert noted[0].level.rms_db == pytest.approx(expected.rms_db, abs=1e-5)
    constant = wav("constant.wav", np.full(2000, 77, np.int16))
    steps = wav("steps.wav", np.repeat(np.arange(20, dtype=np.int16), 300))
    assert len([*read_recordings([constant, steps], RATE, note=noted.__setitem__)]) == 2
    assert noted[0].level.constant and not noted[1].level.constant


def test_a_few_are_read_meanwhile_and_no_more(monkeypatch):
    """Counts waveforms alive, with a reader that needs no files."""
    count, counting, started = {"alive": 0, "peak": 0}, threading.Lock(), threading.Semaphore(0)

    def change(by):
        with counting:
            count["alive"] += by
            count["peak"] = max(count.values())

    def fake(path, sample_rate, channel):
        samples = np.zeros(4, np.float32)
        weakref.finalize(samples, change, -1)
        change(1)
        started.release()
        return Waveform.of(samples), Recording(AudioInfo(RATE, 1, 4), None, b"", Level())

    monkeypatch.setattr(recordings, "_read", fake)
    found = read_recordings([str(i) for i in range(60)], RATE, threads=2)
    for k, (_, waveform) in enumerate(found):
        # The caller holds recording k; the next four are read without being asked for.
        for _ in range(5 if k == 0 else k < 56):
            assert started.acquire(timeout=10)
        del waveform
    assert count["alive"] == 0 and count["peak"] <= 6


def test_stopping_early_leaves_no_thread(wav):
    found = read_recordings([wav(f"{i}.wav", noise(20)) for i in range(6)], RATE, threads=3)
    next(found)
    found.close()
    assert not [t for t in threading.enumerate() if t.name.startswith("read_audio")]


@pytest.mark.parametrize("wrong", [{"on_bad_clip": "ignore"}, {"threads": 0}, {"channel": "x"}])
def test_wrong_arguments_are_refused_at_once(wrong):
    with pytest.raises(UserError, match=next(iter(wrong))):
        read_recordings(["a.wav"], RATE, **wrong)
    with pytest.raises(UserError, match="sample_rate"):
        read_recordings(["a.wav"], 0)
