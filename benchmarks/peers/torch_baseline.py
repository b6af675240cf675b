"""The challenge's baseline from files to results, in plain PyTorch.

As its users write it: librosa's features, in threads; one tensor of five-frame vectors a machine
type; PyTorch's network; scikit-learn's metrics; a CSV file. A tenth of the clips is held out and
its loss computed every epoch, as ours does.
"""

import concurrent.futures
import csv
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import soundfile
import torch
from sklearn.metrics import roc_auc_score

from asd_jax.config import Config
from asd_jax.data.clips import ANOMALY, Clip
from asd_jax.runtime.cores import usable_cores
from benchmarks.peers.librosa_frontend import log_mel
from benchmarks.peers.torch_autoencoders import DenseAutoencoder


class Outcome(NamedTuple):
    """Results of a run.

    Attributes:
        scores: (machine, section, clip's name) → score of a test clip.
        auc: (machine, section) → AUC and McClish's partial AUC.
        steps: optimiser steps.
    """

    scores: dict[tuple[str, str, str], float]
    auc: dict[tuple[str, str], tuple[float, float]]
    steps: int


def features(path: str, config: Config) -> np.ndarray:
    """Log-mels (frames, mels) in dB."""
    front_end = config.front_end
    waveform, rate = soundfile.read(path, dtype="float32", always_2d=True)
    assert rate == front_end.sample_rate
    return log_mel(waveform[:, config.data.channel], front_end)


def vectors(clips: Sequence[np.ndarray], frames: int, device: str) -> torch.Tensor:
    """(vectors, frames, mels) of clips' features."""
    tensors = (torch.from_numpy(np.ascontiguousarray(clip)).to(device) for clip in clips)
    return torch.cat([clip.unfold(0, frames, 1).transpose(1, 2) for clip in tensors])


def run(config: Config, clips: Sequence[Clip], out_dir: Path, seed: int) -> Outcome:
    """Trains, scores and evaluates one model a machine type.

    Args:
        config: of `dense_ae`, with the mean squared error as its score.
        clips: of training and testing.
        out_dir: where scores.csv and results.csv are written.
        seed: of the models.
    """
    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.manual_seed(seed)
    frames, outcome = config.detector.frames, Outcome({}, {}, 0)
    with concurrent.futures.ThreadPoolExecutor(usable_cores()) as pool:
        for machine in sorted({clip.machine for clip in clips}):
            chosen = [clip for clip in clips if clip.machine == machine]
            paths = [clip.path for clip in chosen]
            spectra = list(pool.map(features, paths, [config] * len(paths)))
            training = [f for f, c in zip(spectra, chosen, strict=True) if c.split == "train"]
            model, steps = _train(config, training, device)
            outcome = outcome._replace(steps=outcome.steps + steps)
            for clip, values in zip(chosen, spectra, strict=True):
                if clip.split == "test":
                    score = float(model.evaluate(vectors([values], frames, device)))
                    outcome.scores[machine, clip.section, clip.name] = score
            outcome.auc.update(_evaluate(chosen, outcome.scores))
    _write(outcome, out_dir)
    return outcome


def _train(config: Config, clips: Sequence[np.ndarray], device: str):
    """Trains a model; returns it with its number of steps."""
    order = np.random.default_rng(0).permutation(len(clips))
    held = max(1, round(config.train.validation_split * len(clips)))
    frames, size = config.detector.frames, config.train.batch_size
    training = vectors([clips[i] for i in order[held:]], frames, device)
    validation = vectors([clips[i] for i in order[:held]], frames, device)
    rate = config.train.learning_rate
    model = DenseAutoencoder(frames * config.front_end.n_mels, rate).to(device)
    optimizers, steps = model.optimizers(), 0
    for _ in range(config.train.epochs):
        for part in torch.randperm(len(training), device=device).split(size):
            model.train_step(training[part], optimizers)
            steps += 1
        losses = [model.evaluate(part) * len(part) for part in validation.split(size)]
        torch.stack(losses).sum().item()
    return model, steps


def _evaluate(clips: Sequence[Clip], scores) -> dict[tuple[str, str], tuple[float, float]]:
    areas = {}
    tested = [clip for clip in clips if clip.split == "test"]
    for machine, section in sorted({(clip.machine, clip.section) for clip in tested}):
        own = [clip for clip in tested if clip.section == section]
        labels = [clip.label == ANOMALY for clip in own]
        values = [scores[machine, section, clip.name] for clip in own]
        areas[machine, section] = (
            roc_auc_score(labels, values),
            roc_auc_score(labels, values, max_fpr=0.1),
        )
    return areas


def _write(outcome: Outcome, out_dir: Path) -> None:
    scores = [[*key, value] for key, value in outcome.scores.items()]
    results = [[*key, *values] for key, values in outcome.auc.items()]
    for name, rows in (("scores.csv", scores), ("results.csv", results)):
        with open(out_dir / name, "w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows(rows)
