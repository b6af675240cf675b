"""Entries of a training's log: losses, steps and speed of every epoch."""

import datetime
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from asd_jax.config import TrainConfig
from asd_jax.training.models import FleetClips
from asd_jax.training.windows import Schedule

# Setting of a model that the log names.
_RATE = "train.learning_rate"


class Work(NamedTuple):
    """What an epoch does for each model that is not frozen.

    Attributes:
        steps: (models,) optimiser steps.
        views: (models,) views that are learned from.
    """

    steps: np.ndarray
    views: np.ndarray


def work_of(clips: FleetClips, plan: Schedule, epoch: int) -> Work:
    """Steps and views of an epoch.

    Args:
        clips: the models and their clips.
        plan: the windows of an epoch; each ends with a step of its own.
        epoch: number of epochs before.
    """
    n_views = clips.n_views()
    steps, views = np.zeros((2, len(clips.models)), np.int64)
    for window in plan.windows(epoch):
        if not window.training:
            continue
        inside = np.zeros(len(n_views), bool)
        inside[window.clips] = True
        of_window = [int(n_views[own[inside[own]]].sum()) for own, _ in clips.training]
        steps += [-(-count // clips.batch_size) for count in of_window]
        views += of_window
    return Work(steps, views)


class EpochLog:
    """Makes the entries of the log, and counts the steps.

    Args:
        clips: the models and their clips.
        plan: the windows of an epoch.
        config: training settings.
        trained: (models,) epochs that each model was trained before.
        rate: (epochs before) → () factor of the learning rate; None keeps it.
    """

    def __init__(
        self,
        clips: FleetClips,
        plan: Schedule,
        config: TrainConfig,
        trained: np.ndarray,
        rate: Callable[[int], Any] | None = None,
    ):
        self._clips, self._plan, self._config, self._rate = clips, plan, config, rate
        # Where one window holds all frames, all epochs do the same.
        self._always = work_of(clips, plan, 0) if plan.resident else None
        self._steps = np.zeros(len(clips.models), np.int64)
        for epoch in range(int(trained.max(initial=0))):
            self._steps += np.where(trained > epoch, self._work(epoch).steps, 0)
        variants = [model.variant for model in clips.models]
        self._rows = {
            variant: [m for m, own in enumerate(variants) if own == variant]
            for variant in dict.fromkeys(variants)
        }

    def entries(
        self, epoch: int, losses: Mapping[str, np.ndarray], running: np.ndarray, seconds: float
    ) -> list[tuple[list[int], dict[str, Any]]]:
        """The entry of an epoch for each variant of the fleet, mostly one.

        Args:
            epoch: its number, from 1.
            losses: (models,) by their names; NaN where there is none.
            running: (models,) whether it was trained.
            seconds: that the epoch took, of all variants.

        Returns:
            Indices of the models, and the entry.
        """
        work = self._work(epoch - 1)
        steps, views = (np.where(running, part, 0) for part in work)
        self._steps += steps
        models, now = self._clips.models, datetime.datetime.now(datetime.UTC)
        found = []
        for variant, rows in self._rows.items():
            entry: dict[str, Any] = {
                "event": "epoch",
                "epoch": epoch,
                "time": now.isoformat(timespec="milliseconds"),
                "seconds": round(seconds, 6),
                "steps": int(self._steps[rows].sum()),
                "steps_per_second": _rate(steps[rows], seconds),
                "views_per_second": _rate(views[rows], seconds),
                "learning_rate": self._learning_rate(rows[0], epoch),
            }
            if variant:
                entry |= {"variant": variant, "variants": len(self._rows)}
            for name, values in losses.items():
                entry[name] = {
                    models[m].of_variant.name: float(values[m])
                    for m in rows
                    if np.isfinite(values[m])
                }
            found.append((rows, entry))
        return found

    def _work(self, epoch: int) -> Work:
        return self._always or work_of(self._clips, self._plan, epoch)

    def _learning_rate(self, row: int, epoch: int) -> float:
        settings = dict(self._clips.models[row].settings)
        factor = 1.0 if self._rate is None else float(self._rate(epoch - 1))
        return settings.get(_RATE, self._config.learning_rate) * factor


def _rate(done: np.ndarray, seconds: float) -> float:
    """Of three digits, as more are noise."""
    return float(f"{int(done.sum()) / max(seconds, 1e-9):.4g}")
