"""The command `report --drift` and the lines of `score`, on recordings of a set-up that changed."""

import csv
import io
import json

import numpy as np
import pytest
import soundfile
from command_line import run_cli
from shared_runs import run_to_its_end, without_pictures

import asd_jax
from asd_jax.fitting.ensemble import FittedEnsemble
from asd_jax.fitting.recordings import score_files
from asd_jax.runs.drift import find_drift

RATE = 16_000


def machine(rng):
    """1 s of noise that falls with frequency, its level by 1 dB."""
    spectrum = np.fft.rfft(rng.normal(0, 0.3, RATE))
    spectrum /= 1 + np.arange(len(spectrum)) / 500
    return np.fft.irfft(spectrum) * 10 ** (rng.normal(0, 1) / 20)


@pytest.fixture(scope="module")
def place(tmp_path_factory, cache):
    """A run on 24 recordings of a pump, and folders of recent ones."""
    folder = tmp_path_factory.mktemp("drift")
    rng = np.random.default_rng(0)

    def write(name, sounds, rate=RATE):
        (folder / name).mkdir()
        for i, sound in enumerate(sounds):
            soundfile.write(folder / name / f"{i}.wav", sound, rate)

    recent = [machine(rng) for _ in range(12)]
    write("train", [machine(rng) for _ in range(24)])
    write("same", recent)
    write("louder", [2 * sound for sound in recent])
    write("half", [sound[::2] for sound in recent], RATE // 2)
    with without_pictures():
        run_to_its_end(
            [
                *("run", "--config=mel_mahalanobis", "--machine=pump", f"--cache_dir={cache}"),
                *(f"--normal={folder / 'train'}", f"--out_dir={folder / 'run'}"),
            ]
        )
    return folder


def test_the_same_set_up_and_a_louder_one(capsys, place, cache):
    status, out, _ = run_cli(
        capsys, "report", place / "run", f"--drift={place / 'same'}", f"--cache_dir={cache}"
    )
    assert status == 0 and "pump 00: 12 recent clips beside 24 of training" in out
    assert "no change of the sound to be seen" in out and "in at most 5 % of such reports" in out
    arguments = [f"--drift={place / 'louder'}", f"--cache_dir={cache}", "--false_alarms=0.01"]
    pictures = f"--out_dir={place / 'pictures'}"
    status, out, err = run_cli(capsys, "report", place / "run", *arguments, pictures)
    assert status == 0 and "the sound has changed" in out and "in at most 1 % of such" in out
    assert "dB louder in all bands: compatible with another gain" in out
    assert [path.name for path in (place / "pictures").iterdir()] == ["drift_pump_00.png"]
    status, out, _ = run_cli(capsys, "report", place / "run", *arguments, "--format=csv")
    rows = [*csv.DictReader(io.StringIO(out))]
    assert [row["record"] for row in rows] == ["sound", "score", "level"]
    assert float(rows[2]["size"]) == pytest.approx(6, abs=1)
    status, out, _ = run_cli(capsys, "report", place / "run", *arguments, "--format=json")
    assert json.loads(out)["rate"] == 0.01


def test_a_rate_that_was_halved_is_named_by_report_and_score(capsys, place, cache):
    drift = find_drift(place / "run", place / "half", cache_dir=cache)
    (pump,) = drift.machines
    assert pump.differs and "bandwidth" in [change.kind for change in pump.changes]
    assert pump.above[0] == 1
    score = ["score", place / "run", f"--cache_dir={cache}"]
    status, _, err = run_cli(capsys, *score, place / "half", place / "same")
    (line,) = [line for line in err.splitlines() if "cannot be of the set-up" in line]
    assert status == 0 and line.startswith("pump 00: 12 of 24 recordings cannot be of the set-up")
    assert "0.wav: nothing above 4 kHz" in line
    status, _, err = run_cli(capsys, *score, place / "same")
    assert status == 0 and "set-up" not in err


def test_members_of_an_ensemble_say_it_once(place):
    run = asd_jax.load(place / "run")
    scale = {"mean": [[0.0]] * 2, "deviation": [[1.0]] * 2, "threshold": 1.0, "thresholds": [1.0]}
    both = FittedEnsemble(
        {"one": run, "other": run}, (0,), "mean", [{"machine": "pump", "section": "00", **scale}]
    )
    lines = []
    files = sorted((place / "half").iterdir())
    scores = score_files(both, files, report=lines.append)
    assert len(scores) == 12 and len(set(lines)) == len(lines)
    (line,) = [line for line in lines if "cannot be of the set-up" in line]
    assert line.startswith("pump 00: 12 of 12 recordings cannot be of the set-up")


def test_what_cannot_be_compared_is_one_line(capsys, place, cache):
    report = ["report", place / "run", f"--cache_dir={cache}"]
    for flags, message in [
        ([f"--drift={place / 'train'}"], "has training recordings only"),
        ([f"--drift={place / 'nowhere'}"], "does not exist"),
        ([f"--drift={place / 'same'}", "--machine=fan"], "was not fitted"),
        ([f"--drift={place / 'same'}", "--format=latex"], "--drift has no --format=latex"),
        ([f"--drift={place / 'same'}", place / "run"], "--drift compares recordings with one run"),
        ([f"--drift={place / 'same'}", "--ground_truth=x"], "--ground_truth has no effect"),
        (["--out_dir=x"], "has no effect without --drift"),
    ]:
        status, _, err = run_cli(capsys, *report, *flags)
        assert status == 2 and message in err, (flags, err)


def test_two_recordings_are_too_few(capsys, place, cache, tmp_path):
    for i in range(2):
        (tmp_path / f"{i}.wav").write_bytes((place / "same" / f"{i}.wav").read_bytes())
    arguments = [f"--drift={tmp_path}", f"--cache_dir={cache}", "--false_alarms=0.001"]
    status, out, _ = run_cli(capsys, "report", place / "run", *arguments)
    assert status == 0 and "too few recordings" in out


def test_a_run_of_before_compares_scores(place, cache, tmp_path):
    """Without levels of its training clips."""
    import dataclasses

    fitted = asd_jax.load(place / "run")
    before = dataclasses.replace(fitted, history=None)
    before.save(tmp_path / "before.npz")
    drift = find_drift(tmp_path / "before.npz", place / "half", cache_dir=cache)
    (pump,) = drift.machines
    assert pump.sound is None and pump.score_differs
    assert any("levels of training clips are not known" in line for line in drift.lines())
