"""The dense baseline from files to results: `asd-jax run`, and the same in plain PyTorch.

A synthetic data set of the layout and machines of DCASE 2020's development set; by default a
tenth of its clips. Nothing is cached from one run to the next.
"""

import csv
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from scipy.stats import spearmanr

from asd_jax import pipeline
from asd_jax.config import load_config
from asd_jax.data.layouts import find_clips
from asd_jax.data.synthetic.synthesis import synthesize
from asd_jax.data.synthetic.takes import machines_of
from asd_jax.detectors import make_detector
from asd_jax.runs.plan import plan_clips
from asd_jax.runtime.progress import Silent
from benchmarks.harness import Comparison, Difference, Prepared, Way, installed

# Training clips of an id; the test set has as many again: 3,220 clips of 23 ids.
_CLIPS = 70
_EPOCHS, _QUICK_EPOCHS = 10, 3


def _read(path: Path, keys: Sequence[str], value: str) -> dict[tuple[str, ...], float]:
    with open(path, newline="", encoding="utf-8") as file:
        return {tuple(row[key] for key in keys): float(row[value]) for row in csv.DictReader(file)}


def _differences(ours: Any, theirs: Any, steps: int) -> Iterator[Difference]:
    """Whether both scored the same clips after equally many steps, and how alike the scores are."""
    scores, auc = ours
    yield Difference(
        "number of test clips scored",
        len(scores.keys() ^ theirs.scores.keys()),
        0,
        "the same clips",
    )
    yield Difference("number of steps", abs(theirs.steps - steps), 0, "the same training")
    similar = []
    for machine, section in theirs.auc:
        keys = [key for key in scores if key[:2] == (machine, section)]
        pair = [[values[key] for key in keys] for values in (scores, theirs.scores)]
        similar.append(spearmanr(*pair).statistic)
    yield Difference(
        "order of an id's clips by score, 1 − Spearman's correlation, mean",
        1 - float(np.mean(similar)),
        0.2,
        "same features, network and training, other draws of its values",
    )
    means = [
        np.mean([auc[machine, section, "all"] for machine, section in theirs.auc]),
        np.mean([values[0] for values in theirs.auc.values()]),
    ]
    yield Difference(
        "mean AUC", abs(float(means[0] - means[1])), 0.1, "two seeds differ by as much"
    )


def setup(quick: bool, peers: Sequence[str]) -> Prepared:
    """Makes the data set in a temporary folder."""
    temporary = tempfile.TemporaryDirectory(prefix="asd_jax_benchmark_")
    place = Path(temporary.name)
    data = place / "data"
    small = {"machines": ("fan", "valve"), "sections": 2, "clips": 16, "duration": 4.0}
    full = {"machines": machines_of(2020, "dev"), "clips": _CLIPS}
    summary = synthesize(data, year=2020, **(small if quick else full))
    epochs = _QUICK_EPOCHS if quick else _EPOCHS
    overrides = {"seeds": "0,", "train.epochs": str(epochs)}
    config = load_config("dense_ae", overrides)
    clips = find_clips(data)
    steps = (
        epochs * plan_clips(make_detector(config), [c for c in clips if c.split == "train"]).steps
    )
    run_dir, peer_dir = place / "run", place / "torch"

    def clear():
        for folder in (run_dir, peer_dir, place / "cache"):
            shutil.rmtree(folder, ignore_errors=True)
        peer_dir.mkdir()
        jax.clear_caches()

    def ours():
        pipeline.run(config, data, run_dir, cache_dir=place / "cache", reporter=Silent())
        scores = _read(run_dir / "scores.csv", ("machine", "section", "clip"), "score")
        return scores, _read(run_dir / "results.csv", ("machine", "section", "domain"), "auc")

    def torch():
        from benchmarks.peers import torch_baseline

        return torch_baseline.run(config, clips, peer_dir, seed=0)

    return Prepared(
        f"`dense_ae` on {summary.clips} synthetic clips of {len(summary.machines)} machine types, "
        f"{epochs} epochs ({steps} steps), one seed: reading, features, training, scores of the "
        "test clips, metrics; float32",
        {"ours": Way(ours, clear)} | {peer: Way(torch, clear) for peer in peers},
        lambda peer, ours, theirs: _differences(ours, theirs, steps),
        notes=[
            "ours also caches features, keeps checkpoints, scores the training clips for "
            "thresholds, computes bootstrap intervals and draws spectrograms",
            f"{epochs} of the baseline's 100 epochs",
            "programs are compiled anew in each run of ours, as in one started alone with an "
            "empty cache",
        ],
        close=temporary.cleanup,
    )


COMPARISONS = [
    Comparison(
        "end_to_end",
        {"torch": installed("torch")},
        setup,
        {("cpu", "torch"): 3, ("gpu", "torch"): 10},
        rounds=3,
        brief=True,
    )
]
