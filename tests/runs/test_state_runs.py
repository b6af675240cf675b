"""A run on recordings with side files of states, from its files to new recordings."""

import csv
import math
import shutil

import numpy as np
import pytest
import soundfile
from reporters import Lines

import asd_jax
from asd_jax.config import load_config
from asd_jax.config.variants import load_variants
from asd_jax.data import Manifest
from asd_jax.errors import UserError
from asd_jax.evaluation.results import NO_DECISION, read_scores_csv
from asd_jax.fitting.recordings import score_files
from asd_jax.pipeline import dry_run
from asd_jax.runs.adapting import adapt_run
from asd_jax.runs.drift import find_drift

RATE = 16_000
SETTINGS = {
    "front_end.n_mels": "16",
    "data.clip_seconds": "1",
    "data.state": "speed,on",
    "data.state_log": "beside",
}


def write(folder, name, plan, seed):
    """A recording of (seconds, speed) stretches, and its side file."""
    rng, parts, lines, time = np.random.default_rng(seed), [], ["s,speed,on"], 0
    for seconds, speed in plan:
        noise = rng.normal(0, 1e-3, seconds * RATE)
        tone = np.sin(2 * np.pi * speed * np.arange(len(noise)) / RATE)
        parts.append(noise + 0.05 * tone * rng.uniform(0.9, 1.1, len(noise)))
        lines.append(f"{time},{speed},{int(speed > 0)}")
        time += seconds
    soundfile.write(folder / f"{name}.wav", np.concatenate(parts), RATE)
    (folder / f"{name}.csv").write_text("\n".join(lines) + "\n")


@pytest.fixture(scope="module")
def plant(tmp_path_factory):
    folder = tmp_path_factory.mktemp("plant")
    for seed, name in enumerate(("monday", "tuesday", "friday")):
        write(folder, name, [(5, 500), (2, 0), (5, 1000)], seed)
    write(folder, "new", [(2, 500), (2, 0), (2, 4000)], 9)
    rows = [f"{name}.wav,train,normal" for name in ("monday", "tuesday", "friday")]
    text = "\n".join(["path,split,label", *rows, "new.wav,test,normal"])
    (folder / "list.csv").write_text(text + "\n")
    return folder


@pytest.fixture(scope="module")
def ran(plant, cache, tmp_path_factory):
    """The run directory, and what was said."""
    out, said = tmp_path_factory.mktemp("states") / "run", Lines()
    config = load_config("mel_mahalanobis", SETTINGS)
    asd_jax.run(config, Manifest(plant / "list.csv"), out, cache_dir=cache, reporter=said)
    return out, said.lines


def test_what_is_off_or_unseen_is_counted_and_not_scored(ran):
    out, lines = ran
    assert any(
        "machine 00: 30 of 36 training clips are fitted to, of speed=1000, speed=500; not: 6 off"
        in line
        for line in lines
    )
    said = "2 off, 2 unseen state; results are without them"
    assert any(said in line for line in lines) and said in (out / "results.md").read_text()
    with open(out / "scores.csv", newline="") as file:
        rows = [*csv.DictReader(file)]
    assert [row["verdict"] for row in rows][2:] == ["off"] * 2 + ["unseen state"] * 2
    assert [row["state"] for row in rows] == ["speed=500"] * 2 + ["off"] * 2 + ["speed=4000"] * 2
    assert [row["decision"] for row in rows][2:] == [""] * 4
    assert len(read_scores_csv(out / "scores.csv")) == 2
    every = read_scores_csv(out / "scores.csv", every=True)
    assert every.numbers("decision").tolist()[2:] == [NO_DECISION] * 4


def test_new_recordings_are_scored_by_their_side_files_or_as_told(ran, plant, tmp_path):
    fitted = asd_jax.load(ran[0])
    rows = score_files(fitted, [plant / "new.wav"], report=lambda line: None)
    assert [row.verdict for row in rows[2:]] == ["off"] * 2 + ["unseen state"] * 2
    scored = read_scores_csv(ran[0] / "scores.csv").numbers("score")
    np.testing.assert_allclose([row.score for row in rows[:2]], scored, rtol=1e-6)
    assert all(math.isnan(row.score) for row in rows[2:])
    other = tmp_path / "alone.wav"
    other.write_bytes((plant / "monday.wav").read_bytes())
    said = []
    unknown = score_files(fitted, [other], report=said.append)
    assert any("no state is known of 1 recordings" in line for line in said)
    told = score_files(fitted, [other], report=lambda line: None, state="speed=500")
    np.testing.assert_allclose(told[0].score, unknown[0].score, rtol=1e-6)
    assert told[-1].score > 100 * unknown[-1].score and told[-1].verdict == "anomalous"
    with pytest.raises(UserError, match="the state 'load=1' has 'load'"):
        score_files(fitted, [other], report=lambda line: None, state="load=1")


def test_a_manifest_s_own_column_is_a_state(plant, tmp_path, cache):
    text = "path,speed\n" + "".join(f"{plant}/{n}.wav,6\n" for n in ("monday", "tuesday"))
    (tmp_path / "list.csv").write_text(text)
    config = load_config("mel_mahalanobis", {"data.clip_seconds": "1", "front_end.n_mels": "16"})
    with pytest.raises(UserError, match="no column 'speed'.*--config.data.state=speed,"):
        dry_run(config, Manifest(tmp_path / "list.csv"))
    named = load_config("mel_mahalanobis", {"data.state": "speed,", "front_end.n_mels": "16"})
    dry_run(named, Manifest(tmp_path / "list.csv"))


def test_a_run_is_adapted_by_side_files_and_off_clips_are_left_out(ran, plant, tmp_path):
    """A speed that was unseen is normal afterwards; what is off changes nothing."""
    out = tmp_path / "run"
    shutil.copytree(ran[0], out)
    said = Lines()
    for seed, name in enumerate(("saturday", "sunday")):
        write(tmp_path, name, [(2, 4000), (2, 0), (2, 500)], 20 + seed)
    (tmp_path / "normal").mkdir()
    for path in [*tmp_path.glob("s*.wav"), *tmp_path.glob("s*.csv")]:
        path.rename(tmp_path / "normal" / path.name)
    done = adapt_run(out, tmp_path / "normal", reporter=said)
    assert done.n_new == 8
    assert any(
        "8 of 12 new clips are learned from" in line and "4 off" in line for line in said.lines
    )
    rows = score_files(asd_jax.load(out), [plant / "new.wav"], report=lambda line: None)
    assert [row.verdict for row in rows[2:]] == ["off"] * 2 + ["normal"] * 2
    (tmp_path / "off").mkdir()
    write(tmp_path / "off", "night", [(3, 0)], 30)
    none = adapt_run(out, tmp_path / "off", reporter=said)
    assert none.n_new == 0 and "none of 3 new clips is in a state to learn from" in none.lines[0]
    (tmp_path / "off" / "night.csv").unlink()
    with pytest.raises(UserError, match="the state 'load=1' has 'load'"):
        adapt_run(out, tmp_path / "off", state="load=1", reporter=said)


def test_drift_is_judged_by_clips_of_a_running_machine(ran, tmp_path):
    said = Lines()
    for seed in range(3):
        write(tmp_path, f"recent{seed}", [(3, 500), (3, 0), (3, 1000)], 40 + seed)
    drift = find_drift(ran[0], tmp_path, reporter=said)
    assert [own.n_recent for own in drift.machines] == [18]
    assert any("9 of 27 clips are off" in line for line in said.lines)


@pytest.mark.slow  # trains
def test_variants_of_a_sweep_know_states(plant, cache, tmp_path):
    """Two networks of one program: the same clips are unfitted and unscored in each."""
    settings = {
        **SETTINGS,
        "detector.hidden": "8,",
        "train.epochs": "1",
        "train.batch_size": "64",
        "train.learning_rate": "1e-3,1e-4",
        "seeds": "0",
    }
    config = load_variants("dense_ae", settings)
    said = Lines()
    asd_jax.sweep(config, Manifest(plant / "list.csv"), tmp_path, cache_dir=cache, reporter=said)
    assert any("2 variants are trained as one program" in line for line in said.lines)
    runs = sorted(tmp_path.glob("*/scores.csv"))
    assert len(runs) == 2
    for path in runs:
        rows = read_scores_csv(path, every=True)
        assert [*rows.values("verdict")][2:] == ["off"] * 2 + ["unseen state"] * 2
        assert asd_jax.load(path.parent).operating.spaces
