"""Recordings of any lengths: an hour in the memory of a minute, one program for all of them."""

import dataclasses
import gc
import subprocess
import sys
import textwrap
import threading
from pathlib import Path

import jax
import numpy as np
import pytest
import soundfile

import asd_jax
from asd_jax.config import load_config
from asd_jax.data import audio_files, recordings
from asd_jax.data.clips import Clip
from asd_jax.features import batches, frames
from asd_jax.features.compute import compute_features
from asd_jax.features.embeddings import log_mel_embeddings
from asd_jax.fitting.recordings import score_files

TINY = {
    "front_end.n_mels": "16",
    "train.epochs": "1",
    "train.batch_size": "64",
    "detector.encoder": "8,",
    "seeds": "0,1",
}
RNG = np.random.default_rng(0)


def fit(name, **settings):
    config = load_config(name, {**TINY, **settings})
    features = [RNG.normal(-40, 5, (30 + i, 16)).astype(np.float32) for i in range(12)]
    return asd_jax.fit(config, features, machine="fan")


@pytest.fixture(scope="module")
def fitted():
    return fit("interpolation_ae")


@pytest.fixture
def small_blocks(monkeypatch):
    """What is long for a recording and for a table of features, made short."""
    monkeypatch.setattr(audio_files, "_BLOCK", 7001)
    monkeypatch.setattr(recordings, "_LONGEST", 20000)
    monkeypatch.setattr(frames, "_TOGETHER", 50)
    monkeypatch.setattr(batches, "_READ_FRAMES", 50)


def write(folder, seconds, rate=16000, channels=1):
    path = folder / f"{seconds:05.2f}_{rate}_{channels}.wav"
    soundfile.write(path, RNG.normal(0, 0.1, (int(seconds * rate), channels)), rate)
    return str(path)


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("interpolation_ae", {}),
        pytest.param(
            "iaeo3",
            {"embedding.kind": "log_mel", "detector.trainings": "1"},
            marks=pytest.mark.slow,
        ),
    ],
    ids=["alone", "with an embedding"],
)
def test_long_files_in_blocks_have_the_scores_of_their_waveforms(
    name, settings, tmp_path, small_blocks
):
    """To 1e-5: the same frames in other batches. Short and long files, resampled ones too."""
    fitted = fit(name, **settings)
    files = [write(tmp_path, 0.5), write(tmp_path, 8), write(tmp_path, 3, 22050, 2)]
    rows = score_files(fitted, files, report=lambda line: None)
    channel = fitted.config.data.channel
    waveforms = [asd_jax.data.read(path, 16000, channel) for path in files]
    expected = [fitted.score(waveform, 16000)[0] for waveform in waveforms]
    np.testing.assert_allclose([row.score for row in rows], expected, rtol=1e-5)


def test_more_clips_than_are_scored_together_are_as_alone():
    """To 1e-5: 40 clips, of which 32 scores are made together, where scores are more than pools."""
    settings = {"embedding.kind": "log_mel", "detector.trainings": "1", "seeds": "0"}
    fitted = fit("iaeo3", **settings)
    clips = [RNG.normal(-40, 5, (30 + i, 16)).astype(np.float32) for i in range(40)]
    together = fitted.score_features(clips)
    parts = [fitted.score_features(part) for part in (clips[:7], clips[7:])]
    assert len(set(together.tolist())) == 40
    np.testing.assert_allclose(together, np.concatenate(parts), rtol=1e-5)


def test_a_long_clip_s_features_and_training_are_those_in_memory(tmp_path, small_blocks):
    """To 1e-5 dB, read in parts or as a whole; also the statistics that an embedding is."""
    paths = [write(tmp_path, seconds) for seconds in (0.5, 9, 1, 4.1)]
    clips = [Clip("fan", "00", "train", str(i), path) for i, path in enumerate(paths)]
    front_end = load_config("interpolation_ae", TINY).front_end
    table = compute_features(clips, front_end, cache_dir=tmp_path / "cache")
    for i, path in enumerate(paths):
        expected = np.asarray(front_end(asd_jax.data.read(path, 16000)))
        np.testing.assert_allclose(table.read_clips([i])[0], expected, atol=1e-5)
        np.testing.assert_array_equal(table.read_frames(i, 3, 9), table.read_clips([i])[0][3:9])
        moments = [*expected.mean(axis=0), *expected.std(axis=0)]
        np.testing.assert_allclose(log_mel_embeddings(table)[i], moments, rtol=1e-5)


def test_a_file_that_stops_leaves_no_thread(fitted, tmp_path):
    """Also while its error is held, as a notebook does."""
    gc.collect()
    files = [write(tmp_path, 1 + 0.1 * i) for i in range(12)]
    Path(files[1]).write_bytes(b"")
    before = set(threading.enumerate())
    with pytest.raises(asd_jax.UserError, match="empty file") as held:
        score_files(fitted, files, report=lambda line: None)
    assert held.value.__traceback__ is not None
    left = {thread for thread in threading.enumerate() if thread.name.startswith("read_audio")}
    assert left <= before


def test_files_of_many_lengths_share_programs(fitted, tmp_path):
    """One for frames, one for scores, of full batches; those of fewer pieces are powers of two."""
    compiled = []

    def count(event, duration, **facts):
        if event == "/jax/core/compile/backend_compile_duration":
            compiled.append(event)

    def programs(files):
        jax.clear_caches()
        fresh = dataclasses.replace(fitted)
        compiled.clear()
        score_files(fresh, files, report=lambda line: None)
        return len(compiled)

    jax.monitoring.register_event_duration_secs_listener(count)
    one = programs([write(tmp_path, 1.0)] * 24)
    many = programs([write(tmp_path, 1 + 0.1 * i) for i in range(24)])
    assert 0 < many <= one + 1


def test_the_pieces_of_one_clip_are_not_those_of_32(fitted):
    """Views computed for a clip of 30 s, of which one more may fill the last piece."""
    shapes = []
    pool = fitted.pool_pieces

    def noted(weights, pieces):
        shapes.append(pieces.features.shape)
        return pool(weights, pieces)

    fitted.__dict__["pool_pieces"] = noted
    try:
        clip = RNG.normal(-40, 5, (938, 16)).astype(np.float32)
        fitted.score_features([clip])
        alone = sum(shape[0] for shape in shapes)
        shapes.clear()
        fitted.score_features([clip] * 32)
        together = sum(shape[0] for shape in shapes)
    finally:
        fitted.__dict__["pool_pieces"] = pool
    assert 15 <= alone <= together / 30 + 1


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="no /proc")
def test_memory_does_not_grow_with_the_length(fitted, tmp_path):
    """Scores and features of ten seconds, ten minutes and half an hour, each in a process."""
    (tmp_path / "run").mkdir()
    fitted.save(tmp_path / "run/model.npz")
    program = textwrap.dedent("""
        import sys
        from asd_jax.data.clips import Clip
        from asd_jax.features.compute import compute_features
        from asd_jax.fitting.detector import FittedDetector
        from asd_jax.fitting.recordings import score_files
        kind, model, path, cache = sys.argv[1:]
        fitted = FittedDetector.load(model)
        if kind == "score":
            (row,) = score_files(fitted, [path], report=lambda line: None)
        else:
            clips = [Clip("fan", "00", "train", str(i), path) for i in range(3)]
            front_end = fitted.config.front_end
            compute_features(clips, front_end, cache_dir=cache, report=lambda line: None)
        # Of this program alone, unlike ru_maxrss, which begins with the parent's.
        status = dict(line.split(":") for line in open("/proc/self/status"))
        print(status["VmHWM"].split()[0])
    """)
    for kind in ("score", "features"):
        peaks = []
        for seconds in (10, 600, 1800):
            path = write(tmp_path, seconds, 32000, 2)
            arguments = [sys.executable, "-c", program, kind, str(tmp_path / "run/model.npz"), path]
            out = subprocess.run(
                [*arguments, str(tmp_path / f"cache{seconds}")],
                capture_output=True,
                text=True,
                check=True,
            )
            peaks.append(int(out.stdout) / 1024)
        # Ten minutes are 147 MiB of samples, half an hour three times that.
        assert peaks[1] - peaks[0] < 400, (kind, peaks)
        assert peaks[2] - peaks[1] < 60, (kind, peaks)
