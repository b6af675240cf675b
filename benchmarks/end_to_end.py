"""From files to results: `asd-jax run`, and the same with the usual tools.

A synthetic data set of the layout and machines of DCASE 2020's development set; by default a
tenth of its clips. Nothing is cached from one run to the next. Ours is in a process of its own,
set up as the command sets itself up (`benchmarks.processes`).
"""

import csv
import functools
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import soundfile
from scipy.stats import spearmanr

from asd_jax.config import Config, load_config
from asd_jax.data.clips import ClipTable
from asd_jax.data.layouts import find_clips
from asd_jax.data.synthetic.synthesis import synthesize
from asd_jax.data.synthetic.takes import machines_of
from asd_jax.detectors import make_detector
from asd_jax.runs.plan import plan_clips
from benchmarks.frontend import log_mel_work
from benchmarks.harness import Comparison, Difference, Prepared, Way, installed
from benchmarks.processes import Worker
from benchmarks.roofline import total, training_work

# Training clips of an id; the test set has as many again: 3,220 clips of 23 ids.
_CLIPS = 70
_EPOCHS, _QUICK_EPOCHS = 10, 3
_LIBROSA, _TORCH = "librosa, NumPy, scikit-learn", "torch, scikit-learn"


class Recordings(NamedTuple):
    """A synthetic data set in a temporary folder.

    Attributes:
        place: the folder; the recordings are in `data` of it.
        data: folder of the recordings.
        clips: the recordings.
        close: removes it.
    """

    place: Path
    data: Path
    clips: ClipTable
    close: Callable[[], None]

    @property
    def machines(self) -> int:
        """Number of machine types."""
        return len({clip.machine for clip in self.clips})

    @property
    def lengths(self) -> list[int]:
        """Samples of each recording."""
        return [soundfile.info(clip.path).frames for clip in self.clips]


def make_recordings(quick: bool) -> Recordings:
    """Makes the data set."""
    small = {"machines": ("fan", "valve"), "sections": 2, "clips": 16, "duration": 4.0}
    full = {"machines": machines_of(2020, "dev"), "clips": _CLIPS}
    return recordings_in(functools.partial(synthesize, year=2020, **(small if quick else full)))


def recordings_in(make: Callable[[Path], Any]) -> Recordings:
    """Makes a data set in a temporary folder.

    Args:
        make: writes the recordings into a folder.
    """
    temporary = tempfile.TemporaryDirectory(prefix="asd_jax_benchmark_")
    place = Path(temporary.name)
    make(place / "data")
    clips = ClipTable.of(find_clips(place / "data", report=lambda line: None))
    return Recordings(place, place / "data", clips, temporary.cleanup)


class Results(NamedTuple):
    """What a run wrote.

    Attributes:
        scores: (machine, section, clip's name) → score of a test clip.
        auc: (machine, section) → AUC.
    """

    scores: dict[tuple[str, ...], float]
    auc: dict[tuple[str, ...], float]

    @classmethod
    def read(cls, run_dir: Path) -> "Results":
        """Reads a run directory of ours."""
        scores = _read(run_dir / "scores.csv", ("machine", "section", "clip"), "score")
        auc = _read(run_dir / "results.csv", ("machine", "section", "domain"), "auc")
        return cls(scores, {key[:2]: value for key, value in auc.items() if key[2] == "all"})


def _read(path: Path, keys: Sequence[str], value: str) -> dict[tuple[str, ...], float]:
    with open(path, newline="", encoding="utf-8") as file:
        return {tuple(row[key] for key in keys): float(row[value]) for row in csv.DictReader(file)}


def differences(
    ours: Results, scores: Mapping, auc: Mapping, *, order: float, area: float, why: str
) -> Iterator[Difference]:
    """Whether both scored the same clips, and how alike scores and results are.

    Args:
        ours: our results.
        scores: the peer's, by the same keys.
        auc: the peer's, (machine, section) → AUC.
        order: allowed difference of an id's scores in order.
        area: allowed difference of the mean AUC.
        why: reason for these limits.
    """
    unlike = len(ours.scores.keys() ^ scores.keys())
    yield Difference("number of test clips scored", unlike, 0, "the same clips")
    similar = []
    for machine, section in auc:
        keys = [key for key in ours.scores if key[:2] == (machine, section)]
        pair = [[values[key] for key in keys] for values in (ours.scores, scores)]
        similar.append(spearmanr(*pair).statistic)
    yield Difference(
        "order of an id's clips by score, 1 − Spearman's correlation, mean",
        1 - float(np.mean(similar)),
        order,
        why,
    )
    means = np.mean([[ours.auc[key], auc[key]] for key in auc], axis=0)
    yield Difference("mean AUC", abs(float(means[0] - means[1])), area, why)


def our_way(name: str, overrides: dict[str, str], recordings: Recordings, worker: Worker) -> Way:
    """A run of a configuration from files to results, with nothing cached."""
    place = recordings.place
    folders = {"out": str(place / "run"), "cache": str(place / "cache")}

    def run() -> Results:
        worker.ask("run", config=name, overrides=overrides, data=str(recordings.data), **folders)
        return Results.read(place / "run")

    return Way(run, lambda: worker.ask("clear", folders=[*folders.values()], programs=True))


def _peers_way(run: Callable[[Path], Any], place: Path, warm: Callable = lambda: None) -> Way:
    """A peer's run into an empty folder."""

    def before() -> None:
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir()
        warm()

    return Way(lambda: run(place), before)


def _closing(recordings: Recordings, worker: Worker) -> Callable[[], None]:
    def close() -> None:
        worker.close()
        recordings.close()

    return close


def _about(recordings: Recordings) -> str:
    return f"{len(recordings.clips)} synthetic clips of {recordings.machines} machine types"


def setup_dense(quick: bool, peers: Sequence[str]) -> Prepared:
    """Makes the data set in a temporary folder."""
    recordings = make_recordings(quick)
    epochs = _QUICK_EPOCHS if quick else _EPOCHS
    overrides = {"seeds": "0,", "train.epochs": str(epochs)}
    config = load_config("dense_ae", overrides)
    steps = epochs * _steps(config, recordings.clips)
    worker = Worker(recordings.machines)

    def torch(out_dir: Path) -> Any:
        from benchmarks.peers import torch_baseline

        return torch_baseline.run(config, recordings.clips, out_dir, seed=0)

    def check(peer: str, ours: Results, theirs: Any) -> Iterator[Difference]:
        yield Difference("number of steps", abs(theirs.steps - steps), 0, "the same training")
        yield from differences(
            ours,
            theirs.scores,
            {key: values[0] for key, values in theirs.auc.items()},
            order=0.2,
            area=0.1,
            why="same features, network and training, other draws of its values",
        )

    ways = {"ours": our_way("dense_ae", overrides, recordings, worker)}
    return Prepared(
        f"`dense_ae` on {_about(recordings)}, {epochs} epochs ({steps} steps), one seed: reading, "
        "features, training, scores of the test clips, metrics; float32",
        ways | {peer: _peers_way(torch, recordings.place / "torch") for peer in peers},
        check,
        lambda _: total(
            training_work(
                make_detector(config).task(),
                config.front_end.n_mels,
                config.train.batch_size,
                steps,
            ),
            log_mel_work(recordings.lengths, config.front_end),
        ),
        notes=[
            "ours also caches features, keeps checkpoints, scores the training clips for "
            "thresholds, computes bootstrap intervals and draws spectrograms",
            f"{epochs} of the baseline's 100 epochs",
            "programs are compiled anew in each run of ours, as in one started alone with an "
            f"empty cache; {worker.devices}",
        ],
        close=_closing(recordings, worker),
    )


def _steps(config: Config, clips: ClipTable) -> int:
    """Steps of an epoch."""
    return plan_clips(make_detector(config), [c for c in clips if c.split == "train"]).steps


def setup_spectral(quick: bool, peers: Sequence[str]) -> Prepared:
    """Makes the data set in a temporary folder."""
    from benchmarks.peers import spectral

    recordings = make_recordings(quick)
    front_end = load_config("spectral").front_end
    ids = {(clip.machine, clip.section) for clip in recordings.clips}
    worker = Worker(len(ids))
    clips = [*recordings.clips]
    first = [clip.path for clip in clips[:64]]
    vectors = {_LIBROSA: spectral.by_librosa, _TORCH: spectral.by_torch}

    def peers_way(peer: str) -> Way:
        of = vectors[peer]
        return _peers_way(
            lambda out_dir: spectral.run(clips, front_end, out_dir, of),
            recordings.place / "peer",
            # Processes are started, and their libraries imported, beforehand.
            lambda: of(first, front_end),
        )

    def check(peer: str, ours: Results, theirs: spectral.Outcome) -> Iterator[Difference]:
        yield from differences(
            ours,
            theirs.scores,
            {key: values[0] for key, values in theirs.auc.items()},
            order=1e-2,
            area=5e-3,
            why="the same statistics and Gaussians; float32 spectra, so that near ties may swap",
        )

    ways = {"ours": our_way("spectral", {}, recordings, worker)}
    return Prepared(
        f"`spectral` on {_about(recordings)}, {len(ids)} ids: reading, log-mels, statistics of "
        "the bands, Gaussians, scores of the test clips, metrics",
        ways | {peer: peers_way(peer) for peer in peers},
        check,
        lambda _: log_mel_work(recordings.lengths, front_end),
        notes=[
            "ours also caches features, scores each training clip by a fit without it for "
            "thresholds, computes bootstrap intervals and draws spectrograms; its transform is "
            "float64, librosa's and PyTorch's float32",
            "librosa in a process a core, PyTorch in a thread a core, both started beforehand",
            "programs are compiled anew in each run of ours, as in one started alone with an "
            f"empty cache; {worker.devices}",
        ],
        close=_closing(recordings, worker),
    )


def _both(*modules: str) -> str:
    """The reason why one of the modules cannot be imported; "" if all can."""
    return next(filter(None, (installed(module)() for module in modules)), "")


COMPARISONS = [
    Comparison(
        "end_to_end.dense_ae",
        {"torch": installed("torch")},
        setup_dense,
        {("cpu", "torch"): 1.8, ("gpu", "torch"): 10},
        rounds=3,
        brief=True,
    ),
    Comparison(
        "end_to_end.spectral",
        {
            _LIBROSA: functools.partial(_both, "librosa", "sklearn"),
            _TORCH: functools.partial(_both, "torch", "sklearn"),
        },
        setup_spectral,
        {("cpu", _LIBROSA): 3},
        rounds=3,
        brief=True,
    ),
]
