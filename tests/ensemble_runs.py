"""Run directories written by hand, and what is read of those of ensembles."""

import csv
import dataclasses
import json

from command_line import run_cli
from shared_runs import rows_of

from asd_jax import config as configs
from asd_jax.config import load_config
from asd_jax.evaluation.results import write_results_csv

TEST = ["machine", "section", "domain", "seed", "clip", "label", "score", "threshold", "decision"]
TRAINING = ["machine", "section", "domain", "seed", "clip", "score"]
RESULTS = {"scores", "scores.csv", "training_scores.csv", "results.csv", "results.md"}


def given(training, test, labels=None, machine="fan", section="00", seed=0):
    """Scores of a machine id's training and test clips by one seed; the first half is normal."""
    labels = [int(2 * i >= len(test)) for i in range(len(test))] if labels is None else labels
    return {
        "key": (machine, section, seed),
        "training": {f"train_{i:02d}.wav": score for i, score in enumerate(training)},
        "test": {
            f"test_{i:02d}.wav": pair for i, pair in enumerate(zip(test, labels, strict=True))
        },
    }


def write_run(path, groups, *, year=2020, seeds=None, domain=""):
    """A finished run directory with these scores."""
    path.mkdir(parents=True, exist_ok=True)
    seeds = seeds or tuple(sorted({group["key"][2] for group in groups}))
    config = dataclasses.replace(load_config("dense_ae"), seeds=seeds)
    (path / "config.json").write_text(configs.to_json(config))
    data = {"year": year, "synthetic": False, "n_clips": 9, "fingerprint": "f"}
    (path / "data.json").write_text(json.dumps(data))
    test, training = [], []
    for group in groups:
        machine, section, seed = group["key"]
        where = [machine, section, domain, seed]
        training += [[*where, clip, score] for clip, score in group["training"].items()]
        test += [[*where, clip, label, s, 0.0, 0] for clip, (s, label) in group["test"].items()]
    for name, header, rows in (
        ("scores.csv", TEST, test),
        ("training_scores.csv", TRAINING, training),
    ):
        with open(path / name, "w", newline="") as file:
            csv.writer(file, lineterminator="\n").writerows([header, *rows])
    for name in ("model.npz", "results.md"):
        (path / name).touch()
    write_results_csv(path / "results.csv", [])
    (path / "scores").mkdir(exist_ok=True)
    return path


def numbers(rows, column="score"):
    return [float(row[column]) for row in rows]


def combined(capsys, out_dir, *runs, how="mean"):
    """Does it, and returns the rows of scores.csv."""
    flags = [f"--run_dir={run}" for run in runs]
    status, _, err = run_cli(capsys, "ensemble", *flags, f"--out_dir={out_dir}", f"--combine={how}")
    assert status == 0, err
    return rows_of(out_dir / "scores.csv")
