"""Synthetic data sets, judged by pseudo-anomalies and tested, for `select_calibration.py`.

    .venv/bin/python scripts/select_sets.py --seeds=100-111 --dir=CALIBRATION

For each seed, makes a data set, runs the candidates on it, has `asd_jax.runs.select` judge them,
and writes the scores of normal clips, pseudo-anomalies and test clips to SEED.npz. Years, halls and
kinds of faults take turns. What is there is not made again.
"""

import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import numpy as np
from absl import app, flags

import asd_jax
from asd_jax.audio.pseudo_anomalies import KINDS
from asd_jax.data.synthetic.synthesis import synthesize
from asd_jax.data.synthetic.takes import machines_of
from asd_jax.errors import UserError
from asd_jax.evaluation.pseudo_auc import SectionScores, weighted_auc
from asd_jax.evaluation.results import read_scores_csv, read_training_csv
from asd_jax.runs.select import judge
from asd_jax.runtime.progress import Silent

_YEARS, _HALLS, _FAULTS = (2020, 2024), ("own", "factory"), ("added", "all")
_MACHINES, _TRAINING, _SECONDS = 3, 80, 2.0
# Systems without training, each with several settings.
_CANDIDATES: Mapping[str, tuple[str, Mapping[str, str]]] = {
    "spectral": ("spectral", {}),
    "spectral_level": ("spectral", {"detector.statistics": "level,"}),
    "mahalanobis": ("mel_mahalanobis", {}),
    "mahalanobis_32": ("mel_mahalanobis", {"front_end.n_mels": "32"}),
    "mel_knn": ("mel_knn", {}),
    "mel_knn_euclidean": ("mel_knn", {"detector.metric": "euclidean"}),
    "spectrum_knn": ("spectrum_knn", {}),
    "twfr_gmm": ("twfr_gmm", {}),
    "twfr_mean": ("twfr_gmm", {"detector.r": "1.0,", "detector.components": "1"}),
}
# Of every third data set also a network, which holds out the clips that all are judged by.
_NETWORK = (
    "dense_ae",
    {
        "train.threshold_split": "0.3",
        "train.epochs": "10",
        "seeds": "0,",
        "front_end.n_mels": "64",
        "detector.hidden": "64,64",
    },
)
_ENSEMBLE = ("spectral", "mel_knn")


def year_of(seed: int) -> int:
    """Challenge year of a seed's data set."""
    return _YEARS[seed % 2]


def faults_of(seed: int) -> str:
    """Kinds of faults in it, as of `synthesize`."""
    return _FAULTS[seed // 2 % 2]


def hall_of(seed: int) -> str:
    """Its background, as of `synthesize`."""
    return _HALLS[seed // 4 % 2]


def has_network(seed: int) -> bool:
    """Whether a network is among its candidates."""
    return seed % 3 == 2


class Machine(NamedTuple):
    """One machine of a data set, judged and tested.

    Attributes:
        data: seed of the data set.
        machine: its name.
        names: of the candidates.
        section: scores of normal clips and pseudo-anomalies.
        test: (candidates, test clips) scores.
        label: (test clips,) 1 of an anomaly.
        target: bool (test clips,).
        scale: (2, candidates) mean and deviation of normal clips' scores.
    """

    data: int
    machine: str
    names: tuple[str, ...]
    section: SectionScores
    test: np.ndarray
    label: np.ndarray
    target: np.ndarray
    scale: np.ndarray

    def auc_of(self, scores: np.ndarray) -> np.ndarray:
        """(…) true AUCs of scores (…, test clips), the mean over the domains."""
        normal = self.label == 0
        weights = np.ones(int(normal.sum()))
        own = self.target[normal]
        if own.any() and not own.all():
            for domain in (own, ~own):
                weights[domain] = len(own) / 2 / domain.sum()
        return weighted_auc(scores[..., normal], scores[..., ~normal], weights[None])[..., 0]

    @property
    def true(self) -> np.ndarray:
        """(candidates,) true AUCs."""
        return self.auc_of(self.test)

    @property
    def lowest_z(self) -> float:
        """True AUC of the fixed minimum of all candidates' standardised scores."""
        standardised = (self.test - self.scale[0][:, None]) / self.scale[1][:, None]
        return float(self.auc_of(standardised.min(axis=0)))


def measure_set(folder: Path, seed: int, clips: int) -> None:
    """Makes, runs and judges one data set, unless it was."""
    folder.mkdir(parents=True, exist_ok=True)
    if (folder / f"{seed}.npz").exists():
        return
    year = year_of(seed)
    rng = np.random.default_rng(seed)
    machines = [str(name) for name in rng.permutation(machines_of(year, "dev"))[:_MACHINES]]
    with tempfile.TemporaryDirectory() as place:
        data = Path(place, "data")
        synthesize(
            data,
            year=year,
            machines=machines,
            sections=1,
            clips=_TRAINING,
            seed=seed,
            duration=_SECONDS,
            faults=faults_of(seed),
            hall=hall_of(seed),
            workers=1,
        )
        runs = run_candidates(data, Path(place), with_network=has_network(seed))
        judged = judge([*runs.values()], clips=clips, seed=seed, reporter=Silent(), kinds=KINDS)
        arrays: dict[str, Any] = {"names": np.array(judged.names)}
        for machine, (section,) in judged.sections.items():
            found = {**section._asdict(), **tested([*runs.values()], machine)}
            arrays |= {f"{machine}/{name}": value for name, value in found.items()}
        np.savez_compressed(Path(place, "made.npz"), **arrays)
        shutil.move(Path(place, "made.npz"), folder / f"{seed}.npz")
    print(f"seed {seed}: {year}, {', '.join(machines)}", flush=True)


def run_candidates(data: Path, place: Path, *, with_network: bool) -> dict[str, Path]:
    """Run directories by name."""
    wanted = {**_CANDIDATES, **({"dense_ae": _NETWORK} if with_network else {})}
    runs = {}
    # Pictures and pages, which nobody looks at here, would take most of the time.
    drawing = ("evaluation.analysis.write_spectrograms", "runs.page.write_page")
    with mock.patch(f"asd_jax.{drawing[0]}"), mock.patch(f"asd_jax.{drawing[1]}"):
        for name, (config, settings) in wanted.items():
            runs[name] = place / name
            asd_jax.run(
                asd_jax.load_config(config, settings), data, runs[name],
                cache_dir=place / "cache", reporter=Silent(),
            )  # fmt: skip
        members = [runs[name] for name in _ENSEMBLE]
        runs["ensemble"] = place / "ensemble"
        asd_jax.ensemble(members, runs["ensemble"], reporter=Silent())
    return runs


def tested(runs: Sequence[Path], machine: str) -> dict[str, np.ndarray]:
    """Scores of the test clips, and the scale of normal ones, by the runs' files."""
    of_runs, scales = [], []
    for run in runs:
        rows = [row for row in read_scores_csv(run / "scores.csv") if row.machine == machine]
        first = sorted((row for row in rows if row.seed == rows[0].seed), key=lambda row: row.clip)
        of_runs.append([row.score for row in first])
        normal = [
            row.score
            for row in read_training_csv(run / "training_scores.csv")
            if row.machine == machine and row.sets_threshold and row.seed == rows[0].seed
        ]
        scales.append((np.mean(normal), np.std(normal)))
    return {
        "test": np.array(of_runs),
        "label": np.array([row.label for row in first]),
        "test_target": np.array([row.domain == "target" for row in first]),
        "scale": np.array(scales).T,
    }


def load(folder: str) -> list[Machine]:
    """The machines of measured data sets."""
    machines = []
    for path in sorted(Path(folder).glob("*.npz"), key=lambda path: int(path.stem)):
        with np.load(path, allow_pickle=False) as stored:
            names = tuple(map(str, stored["names"]))
            for machine in dict.fromkeys(key.partition("/")[0] for key in stored if "/" in key):
                own = {
                    key.partition("/")[2]: stored[key]
                    for key in stored
                    if key.startswith(f"{machine}/")
                }
                section = SectionScores(**{name: own[name] for name in SectionScores._fields})
                machines.append(
                    Machine(
                        int(path.stem), machine, names, section,
                        own["test"], own["label"], own["test_target"], own["scale"],
                    )
                )  # fmt: skip
    if not machines:
        raise UserError(f"{folder} has no measured data sets; scripts/select_sets.py makes them")
    return machines


def by_set(machines: Sequence[Machine]) -> Iterator[list[Machine]]:
    """The machines of each data set."""
    for data in dict.fromkeys(machine.data for machine in machines):
        yield [machine for machine in machines if machine.data == data]


def main(_: list[str]) -> None:
    """Measures each seed."""
    first, _, last = _SEEDS.value.partition("-")
    try:
        for seed in range(int(first), int(last or first) + 1):
            measure_set(Path(_DIR.value), seed, _CLIPS.value)
    except UserError as error:
        sys.exit(f"select_sets: {error}")


if __name__ == "__main__":
    _DIR = flags.DEFINE_string("dir", None, "folder to write to", required=True)
    _SEEDS = flags.DEFINE_string("seeds", "100-111", "first and last seed")
    _CLIPS = flags.DEFINE_integer("clips", 90, "pseudo-anomalies of a machine and strength")
    app.run(main)
