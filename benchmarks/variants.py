"""Eight learning rates as one program, and eight runs one after another.

Ways of `variants.commands`, each from cached features to results and pages, in processes of their
own as users start them:

    ours    asd-jax run --config.train.learning_rate=R1,…,R8
    runs    asd-jax run --config.train.learning_rate=R, eight times

Ways of `variants.training`, of the training alone, programs compiled anew:

    ours    one fleet whose models have settings of their own
    runs    a fleet for each learning rate

Results are compared: scores of every test clip, or weights.
"""

import dataclasses
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import jax
import numpy as np

from asd_jax.config import load_config
from asd_jax.data.clips import Clip
from asd_jax.data.synthetic import synthesize
from asd_jax.detectors import make_detector
from asd_jax.features.table import ArrayFeatures
from asd_jax.runs.outcome import RunResult
from asd_jax.runs.together import task_of_variants
from asd_jax.training import FleetModel, fleet_clips, train
from benchmarks.fleets import make_frames
from benchmarks.harness import Comparison, Difference, Prepared, Way, WrongAnswer, largest
from benchmarks.processes import ROOT, environment

RATES = [1e-4, 2e-4, 5e-4, 1e-3, 2e-3, 5e-3, 1e-2, 2e-2]
_KEY = "train.learning_rate"
_WHY = "the same programs but for a constant that is an argument"


def _command(arguments: Sequence[str]) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "asd_jax", "run", *arguments],
        env=environment(ROOT),
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise WrongAnswer(done.stderr.strip().splitlines()[-1][:300])


def commands(quick: bool, peers: Sequence[str]) -> Prepared:
    """Recordings are made and features computed before."""
    folder = Path(tempfile.mkdtemp(prefix="variants-"))
    machines, seeds, clips, epochs = (["fan"], 1, 10, 5)
    if not quick:
        machines, seeds, clips, epochs = (["fan", "valve"], 2, 100, 20)
    synthesize(folder / "data", machines=machines, sections=1, clips=clips, duration=2.0)
    base = [
        "--config=dense_ae",
        f"--data_dir={folder / 'data'}",
        f"--cache_dir={folder / 'cache'}",
        f"--config.train.epochs={epochs}",
        f"--config.seeds={','.join(map(str, range(seeds)))},",
    ]

    def path(name: str, rate: float) -> Path:
        return folder / name / (f"{_KEY}={rate}" if name == "ours" else str(rate))

    def scores(name: str) -> np.ndarray:
        return np.stack([RunResult(path(name, rate), "").scores["score"] for rate in RATES])

    def ours() -> np.ndarray:
        rates = ",".join(map(str, RATES))
        _command([*base, f"--config.{_KEY}={rates}", f"--out_dir={folder / 'ours'}"])
        return scores("ours")

    def runs() -> np.ndarray:
        for rate in RATES:
            _command([*base, f"--config.{_KEY}={rate}", f"--out_dir={path('runs', rate)}"])
        return scores("runs")

    def removed(name: str) -> None:
        shutil.rmtree(folder / name, ignore_errors=True)

    def check(peer, ours, theirs):
        yield Difference("scores, relative", largest(ours, theirs, relative=True), 1e-5, _WHY)

    return Prepared(
        f"runs of `dense_ae` by {len(RATES)} learning rates: {len(machines)} machines, {seeds} "
        f"seeds, {epochs} epochs of {clips} training clips of 2 s, from cached features to results",
        {"ours": Way(ours, lambda: removed("ours"))}
        | {peer: Way(runs, lambda: removed("runs")) for peer in peers},
        check,
        close=lambda: shutil.rmtree(folder, ignore_errors=True),
        processor_time=True,
    )


def training(quick: bool, peers: Sequence[str]) -> Prepared:
    """Frames are in memory before; what is compiled is compiled anew each time."""
    epochs, frames = (1, 1028) if quick else (4, 10244)
    config = load_config("dense_ae", {"train.epochs": str(epochs)})
    settings = dataclasses.replace(config.train, validation_split=0.0)
    table = make_frames(2, frames)
    clips = [Clip(machine, "", "train", machine, "") for machine in ("fan", "valve")]
    features = ArrayFeatures(clips, list(table))

    def with_rate(rate: float):
        rates = dataclasses.replace(config.train, learning_rate=rate)
        return dataclasses.replace(config, train=rates)

    def weights(rates: Sequence[float], task) -> np.ndarray:
        models = [
            FleetModel(clip.machine, "", seed).as_variant(str(rate), ((_KEY, rate),))
            for rate in rates
            for clip in clips
            for seed in (0, 1)
        ]
        if len(rates) == 1:
            models = [model.of_variant for model in models]
        own = [(np.array([i // 2 % 2]), np.zeros(1, np.int32)) for i in range(len(models))]
        fleet = fleet_clips(
            *(models, own, features.n_frames),
            view_length=task.view_length,
            view_hop=1,
            config=settings,
        )
        params = train(task, fleet, features, settings)["params"]
        return np.concatenate(
            [leaf.reshape(len(models), -1) for leaf in jax.tree.leaves(params)], 1
        )

    def ours() -> np.ndarray:
        return weights(RATES, task_of_variants(make_detector(config), 1))

    def runs() -> np.ndarray:
        return np.concatenate(
            [weights([rate], make_detector(with_rate(rate)).task()) for rate in RATES]
        )

    def check(peer, ours, theirs):
        yield Difference("weights, absolute", largest(ours, theirs), 1e-5, _WHY)

    return Prepared(
        f"training of `dense_ae` by {len(RATES)} learning rates, compiling included: 2 machines, "
        f"2 seeds, {epochs} epochs of {frames} frames",
        {"ours": Way(ours, jax.clear_caches)}
        | {peer: Way(runs, jax.clear_caches) for peer in peers},
        check,
        processor_time=True,
    )


COMPARISONS = [
    Comparison(
        f"variants.{name}",
        {"runs": lambda: ""},
        setup,
        {(backend, "runs"): goal for backend in ("cpu", "gpu")},
        rounds=3,
    )
    for name, setup, goal in (("commands", commands, 2), ("training", training, 1))
]
