"""Thresholds of a fitted system and of an ensemble, where training clips are not what they seem."""

import shutil

import numpy as np
import pytest
from command_line import run_cli
from shared_runs import rows_of

import asd_jax
from asd_jax.evaluation.results import TrainingRow, read_training_csv, write_training_csv
from asd_jax.fitting.scores import with_thresholds
from asd_jax.runtime.progress import Silent


class Lines(Silent):
    """Keeps the lines."""

    def __init__(self):
        self.lines = []

    def line(self, text):
        self.lines.append(text)


def training_rows(scores):
    """Rows of one machine's section from scores (seeds, clips)."""
    return [
        TrainingRow("fan", "00", "source", seed, f"{i}.wav", score)
        for seed, of_seed in enumerate(scores)
        for i, score in enumerate(of_seed)
    ]


@pytest.mark.parametrize("outlier", [-1e6, 3e5])
def test_one_dead_or_loud_clip_moves_no_threshold_and_is_said(finished, outlier):
    """Of the seed that has it, and of the mean of the seeds."""
    scores = np.random.default_rng(0).normal(44, 3, (2, 50))
    scores[1, 7] = outlier
    fitted, said = asd_jax.load(finished), Lines()
    fitted = with_thresholds(fitted, training_rows(scores), said)
    thresholds = [fitted.threshold(machine="fan", section="00", seed=seed) for seed in (0, 1)]
    shares = [np.mean(own > threshold) for own, threshold in zip(scores, thresholds, strict=True)]
    assert 1 / 30 <= min(shares) <= max(shares) <= 0.3
    assert 40 < thresholds[1] < 55
    mean = fitted.threshold(machine="fan", section="00")
    assert mean == np.quantile(np.float32(scores).mean(axis=0), 0.9)
    assert [line.partition(": threshold ")[0] for line in said.lines] == [
        "fan seed 1",
        "fan mean of the seeds",
    ]
    assert all("the gamma fit's quantile" in line for line in said.lines)


def test_an_ensemble_says_so_as_well(finished, tmp_path, capsys):
    for name in ("one", "two"):
        run = shutil.copytree(finished, tmp_path / name)
        rows = read_training_csv(run / "training_scores.csv")
        loud = rows[0]._replace(score=1e6)
        write_training_csv(run / "training_scores.csv", [loud, *rows[1:]])
    flags = [f"--run_dir={tmp_path / name}" for name in ("one", "two")]
    status, _, said = run_cli(capsys, "ensemble", *flags, f"--out_dir={tmp_path / 'both'}")
    assert status == 0, said
    training = rows_of(tmp_path / "both/training_scores.csv")
    of_test = rows_of(tmp_path / "both/scores.csv")
    key = (loud.machine, loud.section, str(loud.seed))
    own = [float(r["score"]) for r in training if (r["machine"], r["section"], r["seed"]) == key]
    (threshold,) = {
        float(r["threshold"]) for r in of_test if (r["machine"], r["section"], r["seed"]) == key
    }
    assert 1 / 30 <= np.mean(np.array(own) > threshold) <= 0.3
    assert f"{loud.machine} {loud.section} seed {loud.seed}: threshold" in said
    for name in ("one", "two"):
        widened = f"member {name}, {loud.machine} {loud.section}: outlying training clips make the"
        (line,) = [line for line in said.splitlines() if line.startswith(widened)]
        assert f"first {loud.clip}: score 1e+06, where half of all are from" in line
