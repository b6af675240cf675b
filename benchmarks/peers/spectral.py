"""`spectral` from files to results with the usual tools: librosa or PyTorch, NumPy, scikit-learn.

As their users write it. Clips become level, change and peak of each band, by librosa and NumPy in
as many processes as there are cores, or by PyTorch in as many threads. Each machine id has
scikit-learn's Gaussians of Ledoit and Wolf, of bands of equal variance, and its metrics. What ours
does beside that is left out: scores of the training clips, thresholds, intervals, pictures.
"""

import csv
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import soundfile
from sklearn.covariance import LedoitWolf
from sklearn.metrics import roc_auc_score

from asd_jax.audio import FrontEnd
from asd_jax.data.clips import ANOMALY, Clip
from asd_jax.runtime.cores import usable_cores
from benchmarks.peers.librosa_frontend import log_mel

# Of log-mels, and of changes from frame to frame, as `spectral` has them.
_RESOLUTION_DB, _LEAST_CHANGE_DB = 0.01, 1e-3


class Outcome(NamedTuple):
    """Results.

    Attributes:
        scores: (machine, section, clip's name) → score of a test clip.
        auc: (machine, section) → AUC and McClish's partial AUC.
    """

    scores: dict[tuple[str, str, str], float]
    auc: dict[tuple[str, str], tuple[float, float]]


def log_mels(path: str, front_end: FrontEnd) -> np.ndarray:
    """librosa's log-mels (frames, mels) in dB of a recording of one channel."""
    waveform, rate = soundfile.read(path, dtype="float32")
    assert rate == front_end.sample_rate
    return log_mel(waveform, front_end)


def statistics(levels: np.ndarray) -> np.ndarray:
    """(3, mels): level, change and peak of log-mels (frames, mels)."""
    change = np.sqrt(np.mean(np.diff(levels, axis=0) ** 2, axis=0, dtype=np.float64))
    return np.stack(
        [
            levels.mean(axis=0, dtype=np.float64),
            20 * np.log10(change + _LEAST_CHANGE_DB),
            levels.max(axis=0),
        ]
    )


def _of_file(path: str, front_end: FrontEnd) -> np.ndarray:
    return statistics(log_mels(path, front_end))


def in_processes(function: Callable, paths: Sequence[str], front_end: FrontEnd) -> list[Any]:
    """Results of a function of path and front end, in a process a core, one thread each.

    joblib's processes stay, so that a later call finds them with their libraries imported.
    """
    import joblib

    with joblib.parallel_config("loky", n_jobs=usable_cores(), inner_max_num_threads=1):
        share = joblib.Parallel(batch_size=16)
        return list(share(joblib.delayed(function)(path, front_end) for path in paths))


def by_librosa(paths: Sequence[str], front_end: FrontEnd) -> np.ndarray:
    """(clips, 3, mels)."""
    return np.stack(in_processes(_of_file, paths, front_end))


def by_torch(paths: Sequence[str], front_end: FrontEnd) -> np.ndarray:
    """(clips, 3, mels); files are decoded in a thread a core, and on a GPU transformed there."""
    import torch

    from benchmarks.peers.torch_frontend import Bands, decibels, threads_a_core

    device = "cuda" if torch.cuda.is_available() else "cpu"
    bands = Bands(front_end).to(device)

    def of_file(path: str) -> np.ndarray:
        waveform, _ = soundfile.read(path, dtype="float32")
        with torch.no_grad():
            power = bands(torch.from_numpy(waveform).to(device)[None])[0]  # (mels, frames)
            levels = decibels(power, front_end)
            change = torch.diff(levels, dim=1).square().mean(dim=1).sqrt()
            change = 20 * torch.log10(change + _LEAST_CHANGE_DB)
            return torch.stack([levels.mean(dim=1), change, levels.amax(dim=1)]).cpu().numpy()

    with threads_a_core() as share:
        return np.stack([*share(of_file, paths)]).astype(np.float64)


def run(
    clips: Sequence[Clip],
    front_end: FrontEnd,
    out_dir: Path,
    vectors_of: Callable[[Sequence[str], FrontEnd], np.ndarray],
) -> Outcome:
    """Fits to the training clips of each machine id, scores and evaluates its test clips.

    Args:
        clips: of training and testing, of one domain.
        front_end: of the log-mels.
        out_dir: where scores.csv and results.csv are written.
        vectors_of: `by_librosa` or `by_torch`.
    """
    vectors = vectors_of([clip.path for clip in clips], front_end)
    outcome = Outcome({}, {})
    for machine, section in sorted({(clip.machine, clip.section) for clip in clips}):
        own = [i for i, c in enumerate(clips) if (c.machine, c.section) == (machine, section)]
        trained = vectors[[i for i in own if clips[i].split == "train"]]
        tested = [i for i in own if clips[i].split == "test"]
        parts = [_distances(trained[:, j], vectors[tested, j]) for j in range(3)]
        scores = np.mean(parts, axis=0)
        for i, score in zip(tested, scores, strict=True):
            outcome.scores[machine, section, clips[i].name] = float(score)
        labels = [clips[i].label == ANOMALY for i in tested]
        outcome.auc[machine, section] = (
            roc_auc_score(labels, scores),
            roc_auc_score(labels, scores, max_fpr=0.1),
        )
    _write(outcome, out_dir)
    return outcome


def _distances(trained: np.ndarray, tested: np.ndarray) -> np.ndarray:
    """Squared distances of rows, over that which generalised cross-validation expects."""
    scale = np.maximum(trained.std(axis=0), _RESOLUTION_DB)
    model = LedoitWolf().fit(trained / scale)
    n = len(trained)
    within = model.mahalanobis(trained / scale).mean()
    leverage = (1 - model.shrinkage_) * within / n
    expected = (n / (n - 1)) ** 2 * within / (1 - leverage)
    return model.mahalanobis(tested / scale) / expected


def _write(outcome: Outcome, out_dir: Path) -> None:
    scores = [[*key, value] for key, value in outcome.scores.items()]
    results = [[*key, *values] for key, values in outcome.auc.items()]
    for name, rows in (("scores.csv", scores), ("results.csv", results)):
        with open(out_dir / name, "w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows(rows)
