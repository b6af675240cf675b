"""The models of a fitted detector: which serve a machine and section, and their decisions."""

from collections.abc import Mapping, Sequence

import numpy as np

from asd_jax.config import Config
from asd_jax.detectors import Detector
from asd_jax.fitting.fitted import Fitted
from asd_jax.fitting.layout import Group, group_name
from asd_jax.scoring.conformal import Reference
from asd_jax.training import FleetModel


class Served(Fitted):
    """Base of `FittedDetector`; attributes as there."""

    detector: Detector
    models: tuple[FleetModel, ...]
    thresholds: np.ndarray
    group_thresholds: Mapping[str, float]
    sections: Mapping[str, tuple[str, ...]]
    reference: Mapping[str, np.ndarray]

    @property
    def config(self) -> Config:
        """The configuration it was fitted with."""
        return self.detector.config

    @property
    def machines(self) -> tuple[str, ...]:
        """Machine types it can score."""
        return tuple(dict.fromkeys(model.machine for model in self.models))

    @property
    def seeds(self) -> tuple[int, ...]:
        """Seeds of its models."""
        return self.config.seeds

    def sections_of(self, machine: str) -> tuple[str, ...] | None:
        """Sections of a machine type; None where one model scores all of them alike."""
        return None if self.detector.scope == "machine" else self.sections[machine]

    def group_threshold(self, group: Group, seed: int | None) -> float:
        """The threshold of a seed's scores, or of their mean over the seeds."""
        chosen = self.models_of(group, self._seeds(seed))
        if seed is not None or len(self.seeds) == 1:
            return float(self.thresholds[chosen[0]])
        return self.group_thresholds[group_name(self.models[chosen[0]])]

    def group_reference(self, group: Group, seed: int | None) -> Reference:
        """The reference of a seed's scores, or of their mean over the seeds."""
        if not self.reference:
            return Reference.of([])
        # Those of a seed's trainings are alike, and a system without training has any seed's.
        seeds = None if seed is None or not self.config.detector.trains else (seed,)
        chosen = self.models_of(group, seeds)[:: self.detector.repeats]
        scores = self.reference["scores"][chosen].mean(axis=0).astype(np.float64)
        own = {k: leaf[chosen[0]] for k, leaf in self.reference.items() if k != "scores"}
        return Reference(scores, own["groups"], own.get("sequences"))  # earlier ones lack these

    def models_for(self, group: Group) -> list[int]:
        """Indices of the models that are fitted to a group of the layout, of all seeds."""
        return [m for m, own in enumerate(self.models) if (own.machine, own.section) == group]

    def models_of(self, group: Group, seeds: Sequence[int] | None = None) -> list[int]:
        """Indices of the models that serve a machine and section.

        Args:
            group: machine and section, from `resolve`.
            seeds: of the models; all by default.
        """
        machine, section = group
        return [
            m
            for m, model in enumerate(self.models)
            if model.machine == machine
            and model.section in ("", section)
            and (seeds is None or model.seed in seeds)
        ]

    def networks_of(self, chosen: Sequence[int]) -> list[int]:
        """Rows of `weights` by which models score."""
        if not self.detector.joint:
            return [*chosen]
        return [self.seeds.index(self.models[m].seed) for m in chosen]

    def label_of(self, group: Group) -> int:
        """`ClipInput.label` of the clips of a machine and section."""
        machine, section = group
        if self.detector.scope != "machine by section":
            return 0
        return self.sections[machine].index(section)

    def of_seeds(self, chosen: Sequence[int], scores: np.ndarray) -> np.ndarray:
        """(seeds, clips) scores from those of chosen models, (models, clips)."""
        # NaN of a diverged training, already reported, leaves the seed to its other trainings.
        n_seeds = len({self.models[m].seed for m in chosen})
        of_seeds = scores.reshape(n_seeds, -1, scores.shape[1])  # (seeds, trainings, clips)
        return np.fmin.reduce(of_seeds, axis=1)
