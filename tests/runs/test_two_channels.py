"""A far channel taken off: runs and arrays have the same scores, and mono recordings are named."""

import csv
import json
import shutil

import jax.numpy as jnp
import numpy as np
import pytest
import soundfile
from command_line import run_cli

import asd_jax
from asd_jax.audio.waveform_blocks import WaveformBlocks, samples_of
from asd_jax.config import load_config
from asd_jax.data import cancelled, find_clips, read
from asd_jax.data.synthetic import synthesize
from asd_jax.detectors import make_detector
from asd_jax.errors import UserError
from asd_jax.features.compute import compute_features
from asd_jax.fitting.recordings import score_files
from asd_jax.runs.candidates import by_channel, load_candidates
from asd_jax.runs.select import select
from asd_jax.runtime.progress import Silent

pytestmark = pytest.mark.usefixtures("no_pictures")
ON = "--config.front_end.canceller=True"


@pytest.fixture(scope="module")
def stereo(tmp_path_factory):
    folder = tmp_path_factory.mktemp("stereo") / "data"
    settings = {"hall": "loudspeaker", "far_db": -20.0, "seed": 5}
    synthesize(folder, year=2026, machines=["fan"], clips=8, duration=2.0, **settings)
    return folder


@pytest.fixture(scope="module")
def runs(stereo, tmp_path_factory):
    """Runs without and with it, which share a cache."""
    folder = tmp_path_factory.mktemp("runs")
    for name, value in (("off", "False"), ("on", "True")):
        config = load_config("spectral", {"front_end.canceller": value})
        asd_jax.run(config, stereo, folder / name, cache_dir=folder / "cache")
    return folder


def scores_of(run_dir):
    with open(run_dir / "scores.csv", encoding="utf-8") as file:
        return {row["clip"]: float(row["score"]) for row in csv.DictReader(file)}


def test_scores_are_of_the_cancelled_waveforms(stereo, runs):
    """To 1e-4 of what scores.csv rounds to: files, arrays of two channels, and of one, by hand."""
    with_it, without = scores_of(runs / "on"), scores_of(runs / "off")
    assert with_it.keys() == without.keys() and with_it != without
    fitted, plain = asd_jax.load(runs / "on"), asd_jax.load(runs / "off")
    paths = sorted((stereo / "dev_data" / "fan" / "test").iterdir())[:3]
    rows = score_files(fitted, paths, report=lambda line: None)
    for path, row in zip(paths, rows, strict=True):
        both, rate = soundfile.read(path, dtype="float32")
        assert row.score == pytest.approx(with_it[path.name], rel=1e-4)
        (score,) = fitted.score(both, rate)
        assert score == pytest.approx(row.score, rel=1e-5)
        # What has been taken off already is not taken off again.
        heard = fitted.features(cancelled(both), rate, one_channel=True)
        np.testing.assert_array_equal(heard, fitted.features(both, rate))
        assert plain.score(both[:, 0], rate)[0] == pytest.approx(without[path.name], rel=1e-4)
    assert json.loads((runs / "on" / "config.json").read_text())["front_end"]["canceller"] is True
    assert (runs / "on" / "report.html").is_file()


def test_arrays_are_fitted_so(stereo):
    clips = [soundfile.read(clip.path)[0] for clip in find_clips(stereo) if clip.split == "train"]
    config = load_config("mel_mahalanobis", {"front_end.canceller": "True"})
    fitted = asd_jax.fit(config, waveforms=clips, sample_rate=16_000)
    by_hand = asd_jax.fit(
        "mel_mahalanobis", waveforms=[cancelled(clip) for clip in clips], sample_rate=16_000
    )
    # To 1e-4: fit and score round the same features to float32.
    expected = by_hand.score(cancelled(clips[0]), 16_000)
    np.testing.assert_allclose(fitted.score(clips[0], 16_000), expected, rtol=1e-4)
    together = fitted.score(np.stack(clips[:2]), 16_000)  # (clips, samples, 2)
    np.testing.assert_allclose(together[0], expected[0], rtol=1e-4)
    integers = np.round(np.stack(clips[:1]) * 2**15).astype(np.int16)
    np.testing.assert_allclose(fitted.score(integers, 16_000), expected, rtol=1e-4)
    assert fitted.score(np.repeat(clips[0], 2, axis=0), 32_000).shape == (1,)  # is resampled

    with pytest.raises(UserError, match=r"waveforms\[0\] has shape \(32000,\).*\(samples, 2\)"):
        asd_jax.fit(config, waveforms=[clips[0][:, 0]], sample_rate=16_000)
    for wrong in (clips[0][:, 0], np.stack(clips[:2])[..., 0], np.zeros((2, 32_000, 3))):
        with pytest.raises(UserError, match=r"must be \(clips, samples, 2\), near the machine"):
            fitted.score(wrong, 16_000)
    with pytest.raises(UserError, match=r"must be \(clips, samples\)"):
        by_hand.score(np.stack(clips[:2]), 16_000)


def test_systems_that_hear_waveforms_hear_the_rest(stereo):
    config = load_config("multibranch", {"front_end.canceller": "True"})
    front_end = make_detector(config).front_end
    assert isinstance(front_end, WaveformBlocks)
    clips = find_clips(stereo)[:2]
    table = compute_features(clips, front_end, channel=config.channel, report=lambda line: None)
    heard = np.asarray(samples_of(jnp.asarray(table.read_clips([1])[0])))
    # 16 bits of each block's own range.
    expected = read(clips[1].path, 16_000, "canceller")[: len(heard)]
    np.testing.assert_allclose(heard, expected, atol=2**-15 * np.abs(expected).max())


def test_mono_recordings_are_named(stereo, tmp_path, capsys):
    data = shutil.copytree(stereo, tmp_path / "data")
    mono = sorted((data / "dev_data" / "fan" / "train").iterdir())[3]
    soundfile.write(mono, soundfile.read(mono)[0][:, 0], 16_000)
    run = ("run", "--config=spectral", ON, f"--data_dir={data}", f"--out_dir={tmp_path / 'run'}")
    run += (f"--cache_dir={tmp_path / 'cache'}",)
    for command in (run, (*run, "--dry_run")):
        status, _, err = run_cli(capsys, *command)
        assert status == 2
        line = err.splitlines()[-1]
        assert "1 of 24 recordings have 1 channel where the canceller needs two" in line
        assert f"first {mono}; set --config.front_end.canceller=False" in line
    status, out, _ = run_cli(capsys, "index", *run[1:4])
    assert status == 0  # the others can be used
    assert "1 × 1 channel where the canceller needs two" in " ".join(out.split())
    assert not (tmp_path / "run" / "scores.csv").exists()
    status, out, err = run_cli(capsys, *run, "--dry_run", "--on_bad_clip=skip")
    assert status == 0 and "1 of 24 recordings have 1 channel where" in out + err
    status, out, err = run_cli(capsys, *run, "--on_bad_clip=skip")
    assert status == 0 and "left out" in out + err and str(mono) in out + err


@pytest.mark.slow  # fits each run five times
def test_both_can_be_chosen_among(runs):
    """Each is judged by what it hears of the same recordings, changed in the same way."""
    paths = [runs / "off", runs / "on"]
    assert by_channel(load_candidates(paths)) == {0: [0], "canceller": [1]}
    found = select(paths, clips=8, reporter=Silent())
    assert {*found.names} == {"off", "on"}
    assert np.isfinite(found.of_machine).all() and found.of_machine[0] != found.of_machine[1]


def test_settings_that_it_leaves_without_effect_are_refused():
    with pytest.raises(UserError, match="data.channel is 1.*front_end.canceller takes both"):
        load_config("spectral", {"front_end.canceller": "True", "data.channel": "1"})
    front_end = load_config("spectral", {"front_end.canceller": "True"}).front_end
    with pytest.raises(UserError, match="asd_jax.data.cancelled"):
        front_end(np.zeros(16_000))
