import dataclasses
import os
import subprocess
import sys
import textwrap

import librosa
import numpy as np
import pytest
import soundfile
from recordings import FRONT_END, make_clip, rows

from asd_jax.audio import FrontEnd, ViewSpec
from asd_jax.audio.perturbation import perturb
from asd_jax.errors import UserError
from asd_jax.features import cache as feature_cache
from asd_jax.features.batches import clip_batches, table_clips


def librosa_log_mel(path, front_end=FRONT_END):
    waveform, sample_rate = soundfile.read(path, dtype="float32")
    mel = librosa.feature.melspectrogram(
        y=waveform,
        sr=sample_rate,
        n_fft=front_end.n_fft,
        hop_length=front_end.hop_length,
        n_mels=front_end.n_mels,
        center=front_end.center,
    )
    return 10 * np.log10(np.maximum(mel.T, front_end.eps))


@pytest.mark.filterwarnings("ignore:n_fft")
def test_each_clip_is_as_librosa_has_it(clips, compute):
    found = compute(clips)
    assert found.clips == tuple(clips)
    assert found.n_frames.tolist() == [63, 36, 63, 1, 129]
    assert found.offsets.tolist() == [0, 63, 99, 162, 163]
    assert found.offsets.dtype == np.int64
    assert found.total_frames == 292
    for i, clip in enumerate(clips):
        # The tolerance of the front end.
        np.testing.assert_allclose(found.read_clips([i])[0], librosa_log_mel(clip.path), atol=1e-3)


@dataclasses.dataclass(frozen=True)
class Loudness:
    """What `compute_features` asks of a front end and no more: mean squares of half seconds."""

    gain: float = 1.0
    sample_rate = 16000
    n_fft = hop_length = 8000
    frames_at_once = 3
    width = 1
    dtype = "float32"

    def frames(self, n_samples):
        return -(-n_samples // 8000)

    def padding(self, n_samples):
        return 0, -n_samples % 8000

    def of_padded(self, frames):
        return (self.gain * frames.reshape(len(frames), -1, 8000) ** 2).mean(-1, keepdims=True)


def test_what_acts_like_a_front_end_is_one(clips, compute):
    """To float32's rounding; its fields are what the cache depends on."""
    found = compute(clips, Loudness())
    assert found.n_frames.tolist() == [2, 2, 2, 1, 5] and found.width == 1
    for i, clip in enumerate(clips):
        waveform, _ = soundfile.read(clip.path)
        starts = range(0, len(waveform), 8000)
        expected = [np.sum(waveform[at : at + 8000] ** 2) / 8000 for at in starts]
        np.testing.assert_allclose(found.read_clips([i])[0][:, 0], expected, rtol=1e-5)
    assert compute(clips, Loudness(2.0)).key != found.key and compute.read == 5
    assert compute(clips, Loudness()).key == found.key and compute.read == 0


@dataclasses.dataclass(frozen=True)
class Samples:
    """A front end whose frames are 100 samples, as 16 bits."""

    sample_rate = 16000
    n_fft = hop_length = 100
    frames_at_once = 1000
    width = 100
    dtype = "int16"

    def frames(self, n_samples):
        return n_samples // 100

    def padding(self, n_samples):
        return 0, 0

    def of_padded(self, waveforms):
        n = waveforms.shape[1] // 100
        frames = waveforms[:, : 100 * n].reshape(len(waveforms), n, 100)
        return np.round(frames * 32768).astype(np.int16)


def test_frames_have_any_width_and_type(clips, compute, tmp_path):
    """Files of 16 bits come back as they are; a chunk that went missing is damage, not silence."""
    found = compute(clips, Samples())
    assert (found.width, found.dtype) == (100, np.int16)
    for i, clip in enumerate(clips):
        samples, _ = soundfile.read(clip.path, dtype="int16")
        expected = samples[: 100 * found.n_frames[i]].reshape(-1, 100)
        np.testing.assert_array_equal(found.read_clips([i])[0], expected)
        assert found.read_clips([i])[0].dtype == np.int16
    (_, batch), *_ = clip_batches(table_clips(found, [0, 3]), ViewSpec(1), 128)
    assert batch.features.dtype == np.int16 and batch.features.shape[2] == 100
    assert compute(clips, Samples()).key == found.key and compute.read == 0
    for chunk in (tmp_path / "cache").rglob("c/0/0"):
        chunk.unlink()
    with pytest.raises(UserError, match="damaged"):
        found.read(0, 5)


@pytest.mark.parametrize("center", [True, False])
def test_padding_into_a_batch_changes_no_frame(clips, compute, center):
    front_end = dataclasses.replace(FRONT_END, center=center)
    del clips[3]
    found = compute(clips, front_end)
    for i, clip in enumerate(clips):
        waveform, _ = soundfile.read(clip.path, dtype="float32")
        # One transform after another, padded or not: equal up to the order of sums.
        np.testing.assert_allclose(
            found.read_clips([i])[0], front_end(waveform), rtol=1e-6, atol=1e-5
        )


def test_reading_parts_of_the_table(clips, compute, monkeypatch, tmp_path):
    monkeypatch.setattr(feature_cache, "_CHUNK_FRAMES", 50)
    others = [make_clip(tmp_path / "data", i, 8000, machine="pump") for i in range(3)]
    mixed = [clips[0], others[0], clips[1], clips[2], others[1], clips[4], others[2]]
    found = compute(mixed)
    assert found.clips == tuple(mixed)
    table = rows(found)
    assert table.shape == (found.total_frames, 32) and table.dtype == np.float32
    expected = np.concatenate([found.read_clips([i])[0] for i in range(7)])
    np.testing.assert_array_equal(table, expected)
    for indices in ([1, 2, 3], range(7), [5, 0, 1, 4], [6], []):
        together = found.read_clips(indices)
        assert len(together) == len(indices)
        for i, clip in zip(indices, together, strict=True):
            np.testing.assert_array_equal(clip, found.read_clips([i])[0])
    for start in range(0, found.total_frames, 7):
        stop = min(start + 61, found.total_frames)
        np.testing.assert_array_equal(found.read(start, stop), expected[start:stop])
    assert found.read(5, 5).shape == (0, 32)
    with pytest.raises(UserError, match="no frames"):
        found.read(0, found.total_frames + 1)


def test_the_second_call_reads_no_recording(clips, compute):
    done = []
    first = compute(clips, progress=done.append)
    assert compute.read == 5 and done == [1, 2, 3, 4, 5, 5]
    again = compute(clips, progress=done.append)
    assert compute.read == 0 and done[-1] == 5
    assert again.key == first.key
    np.testing.assert_array_equal(rows(again), rows(first))


def test_a_changed_recording_costs_its_group_only(clips, compute, tmp_path):
    others = [make_clip(tmp_path / "data", i, 8000, split="test") for i in range(2)]
    first = compute(clips + others)
    soundfile.write(others[1].path, np.zeros(8000), 16000)
    second = compute(clips + others)
    assert compute.read == 2 and second.key != first.key
    assert (second.read_clips([6])[0] < -150).all()


def test_every_setting_has_an_entry_of_its_own(clips, compute, monkeypatch):
    """What is computed is others' to test: here zeros, without compiling each front end."""

    def zeros(self, waveforms):
        return np.zeros((len(waveforms), self.frames(waveforms.shape[1]), self.n_mels), np.float32)

    monkeypatch.setattr(FrontEnd, "__call__", zeros)
    changes = {
        "sample_rate": 8000,
        "n_fft": 1024,
        "hop_length": 128,
        "n_mels": 16,
        "power": 1.0,
        "scale": "htk",
        "norm": None,
        "fmin": 20.0,
        "fmax": 4000.0,
        "center": False,
        "db": "add",
        "eps": 1e-10,
        "precision": "float32",
        "pad_mode": "reflect",
    }
    fields = {field.name for field in dataclasses.fields(FrontEnd)}
    assert set(changes) == fields - {"canceller"}  # which the channel says
    with pytest.raises(UserError, match='the front end has canceller: give "canceller"'):
        compute(clips[:1], dataclasses.replace(FRONT_END, canceller=True))
    keys = {compute(clips[:1]).key, compute(clips[:1], channel=0).key}
    keys.add(compute(clips[:1], min_frames=2).key)
    for name, value in changes.items():
        keys.add(compute(clips[:1], dataclasses.replace(FRONT_END, **{name: value})).key)
        assert compute.read == 1, name
    assert len(keys) == 3 + len(changes)


def test_a_clip_without_features_is_named(clips, compute):
    clips[1] = dataclasses.replace(clips[1], path=clips[1].path + ".gone")
    with pytest.raises(UserError, match="gone: missing"):
        compute(clips)
    for _ in range(2):  # computed, then from the cache
        found = compute(clips, min_frames=5, on_bad_clip="skip")
        assert found.clips == (clips[0], clips[2], clips[4])
        assert found.offsets.tolist() == [0, 63, 126]
        short, gone = sorted(compute.lines, key=lambda line: "gone" in line)
        assert "left out" in gone and clips[1].path in gone
        assert (
            f"left out: {clips[3].path}: too short: 1 frames where 5 are needed; give a longer one"
            == short
        )
    assert compute.read == 0
    with pytest.raises(UserError, match="gone: missing"):
        compute(clips, min_frames=5)


def test_a_clip_shorter_than_a_view_is_repeated(clips, compute):
    plain, found = compute(clips), compute(clips, min_frames=1, fill_frames=50)
    assert found.n_frames.tolist() == [63, 50, 63, 50, 129] and found.key != plain.key
    short, filled = plain.read_clips([1])[0], found.read_clips([1])[0]
    np.testing.assert_array_equal(filled, np.concatenate([short, short[:14]]))


def test_a_clip_shorter_than_a_frame_is_named(clips, compute):
    front_end = dataclasses.replace(FRONT_END, center=False)
    with pytest.raises(UserError, match="00000003.wav: a waveform of 100 samples has no frame"):
        compute(clips, front_end)
    assert len(compute(clips, front_end, on_bad_clip="skip").clips) == 4
    with pytest.raises(UserError, match="none of the 1 clips"):
        compute(clips[3:4], front_end, on_bad_clip="skip")
    with pytest.raises(UserError, match="neither 'stop' nor 'skip'"):
        compute(clips, on_bad_clip="ignore")


@pytest.mark.filterwarnings("ignore:overflow encountered")
def test_features_that_are_not_finite_stay_out(clips, compute):
    # A gain by which the loudest clip alone overflows float32.
    front_end = Loudness(1e35)
    soundfile.write(clips[2].path, np.full(16000, 9.0), 16000, subtype="FLOAT")
    with pytest.raises(UserError, match="00000002.wav: its features are not finite"):
        compute(clips, front_end)
    found = compute(clips, front_end, on_bad_clip="skip")
    assert len(found.clips) == 4 and np.isfinite(rows(found)).all()


@pytest.mark.filterwarnings("ignore:overflow encountered")
@pytest.mark.parametrize("fault", ["missing", "too short", "not finite"])
def test_what_comes_before_a_bad_clip_is_kept(clips, compute, tmp_path, fault):
    front_end = Loudness(1e35)
    later = [make_clip(tmp_path / "data", i, 16000, machine="pump") for i in range(3)]
    bad = later[0].path
    if fault == "missing":
        os.rename(bad, bad + ".away")
    else:
        n_samples = 100 if fault == "too short" else 16000
        soundfile.write(bad, np.full(n_samples, 9.0), 16000, subtype="FLOAT")
    after = [make_clip(tmp_path / "data", i, 16000, machine="valve") for i in range(3)]
    chosen = [clips[0], clips[2], *later, *after]
    with pytest.raises(UserError, match=f"pump.*{fault}"):
        compute(chosen, front_end, min_frames=2)
    compute([clips[0], clips[2]], front_end, min_frames=2)
    assert compute.read == 0  # the fan's
    found = compute(chosen, front_end, min_frames=2, on_bad_clip="skip")
    assert len(found.clips) == 7 and len(compute.lines) == 1 and bad in compute.lines[0]
    assert compute.read == 6


@pytest.mark.filterwarnings("ignore:overflow encountered")
def test_of_two_bad_clips_none_is_left_out_in_silence(clips, compute, tmp_path):
    """A file is missed while it is read, values when they are computed, which may be later."""
    front_end = Loudness(1e35)
    soundfile.write(clips[0].path, np.full(16000, 9.0), 16000, subtype="FLOAT")
    missing = make_clip(tmp_path / "data", 0, 16000, machine="pump")
    os.remove(missing.path)
    others = [make_clip(tmp_path / "data", i, 16000, machine="pump") for i in range(1, 3)]
    chosen = [*clips[:1], missing, *others]
    with pytest.raises(UserError, match="fan.*not finite"):
        compute(chosen, front_end)
    assert len(compute(chosen, front_end, on_bad_clip="skip").clips) == 2
    assert [line.split(":")[0] for line in sorted(compute.lines)] == ["left out"] * 2


def test_an_interrupted_computation_is_not_a_finished_one(clips, compute):
    class Interruption(Exception):
        pass

    def interrupt(done):
        if done == 3:
            raise Interruption

    with pytest.raises(Interruption):
        compute(clips, progress=interrupt)
    found = compute(clips)
    assert compute.read == 5 and np.isfinite(rows(found)).all()


def test_a_recording_that_changes_meanwhile(clips, compute):
    def touch(done):
        os.utime(clips[0].path, (0, done))

    with pytest.raises(UserError, match="fan train changed while they were read"):
        compute(clips, progress=touch)
    compute(clips)
    assert compute.read == 5


@pytest.mark.slow
def test_memory_does_not_grow_with_the_number_of_clips(tmp_path):
    clip = make_clip(tmp_path / "data", 0, 160000)
    program = textwrap.dedent("""
        import re, sys
        from asd_jax.audio import FrontEnd
        from asd_jax.data.clips import Clip
        from asd_jax.features.compute import compute_features
        path, n, cache = sys.argv[1], int(sys.argv[2]), sys.argv[3]
        clips = [Clip("fan", "00", "train", str(i), path) for i in range(n)]
        found = compute_features(clips, FrontEnd(), cache_dir=cache)
        for i in range(n):
            found.read_clips([i])[0]
        # Of this program alone, unlike ru_maxrss, which begins with the parent's.
        print(re.search("VmHWM:(.*) kB", open("/proc/self/status").read())[1])
    """)
    peaks = []
    for n in (20, 200, 600):
        arguments = [sys.executable, "-c", program, clip.path, str(n), str(tmp_path / str(n))]
        out = subprocess.run(arguments, capture_output=True, text=True, check=True)
        peaks.append(int(out.stdout) / 1024)
    # 180 clips more would be 115 MB of waveforms or 29 MB of features; 400 more, twice that.
    assert peaks[1] - peaks[0] < 60 and peaks[2] - peaks[1] < 30, peaks


def test_perturbed_clips_are_what_the_front_end_gives_of_the_changed_waveform(clips, compute):
    """Padding into a batch regroups sums, as above; the same files give no entry of the other."""
    copies = [
        dataclasses.replace(clips[0], split="perturbed", perturbation=text)
        for text in ("resample 1.25", "pitch_and_stretch 3")
    ]
    found = compute([clips[0], *copies])
    waveform, _ = soundfile.read(clips[0].path, dtype="float32")
    for i, clip in enumerate(found.clips):
        expected = FRONT_END(perturb(waveform, 16000, clip.perturbation))
        np.testing.assert_allclose(found.read_clips([i])[0], expected, rtol=1e-5, atol=1e-4)
    assert found.n_frames[1] == 51  # 12,800 samples
    again = compute([clips[0], *copies])
    assert again.key == found.key and compute.read == 0
    other = dataclasses.replace(copies[1], perturbation="pitch_and_stretch 4")
    changed = compute([clips[0], copies[0], other])
    assert changed.key != found.key and compute.read == 2
