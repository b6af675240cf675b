"""The fitted detector: weights, scoring of new recordings, saving and loading."""

import dataclasses
import functools
import json
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import IO, Any

import jax
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from asd_jax import config as configs
from asd_jax.config import Config
from asd_jax.detectors import Detector, config_classes, make_detector
from asd_jax.errors import UserError
from asd_jax.features.embeddings import Embedder, clip_means, embedder_of, embeddings_of
from asd_jax.features.table import (
    BATCH_CLIPS,
    ArrayFeatures,
    ClipInput,
    Features,
    check_features,
    checked_waveforms,
    clip_batches,
)
from asd_jax.fitting.fitted import Fitted
from asd_jax.fitting.layout import Group
from asd_jax.runtime import distributed
from asd_jax.runtime.compilation import compiler_options
from asd_jax.runtime.files import DAMAGE, atomic_write, read_arrays
from asd_jax.training import FleetModel, fleet

# (weights, calibration, clips) → (models, clips)
_Score = Callable[[Any, Any, ClipInput], jax.Array | np.ndarray]


@dataclasses.dataclass(frozen=True, eq=False)
class FittedDetector(Fitted):
    """A system fitted to normal clips, ready to score others.

    Attributes:
        detector: the system, with the configuration it was fitted with.
        models: its models, in the order of the leading axis of the arrays below.
        weights: stacked weights.
        calibration: stacked results of `Detector.calibrate`.
        thresholds: (models,) decision threshold of the scores of each model's seed; NaN where
            there is none.
        group_thresholds: "machine/section" (the section empty where one model serves a
            machine type) → threshold of the mean score over the seeds.
        sections: machine → sections that had training clips, ascending.
    """

    detector: Detector
    models: tuple[FleetModel, ...]
    weights: Mapping[str, Any] = dataclasses.field(repr=False)
    calibration: Mapping[str, Any] = dataclasses.field(repr=False)
    thresholds: np.ndarray = dataclasses.field(repr=False)
    group_thresholds: Mapping[str, float]
    sections: Mapping[str, tuple[str, ...]]

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

    def seed_scores(
        self, waveforms: np.ndarray, sample_rate: int, group: Group, seeds: Sequence[int]
    ) -> np.ndarray:
        """(seeds, clips) scores of recordings by each seed."""
        features = self.features(waveforms, sample_rate)
        embeddings = self.embeddings(waveforms, sample_rate)
        return self.seed_feature_scores(features, group, seeds, embeddings)

    def features(self, waveforms: np.ndarray, sample_rate: int) -> np.ndarray:
        """Features of recordings, as `score_features` takes them.

        Args:
            waveforms: as in `score`.
            sample_rate: as in `score`.

        Returns:
            (clips, frames, mels) float32.

        Raises:
            UserError: waveforms of other shapes, with samples that are not finite, or too
                short.
        """
        features = np.asarray(
            self._front_end(
                checked_waveforms(waveforms, sample_rate, self.config.front_end.sample_rate)
            )
        )
        return np.stack(self._checked(features))

    def _checked(self, features: Iterable[np.ndarray]) -> list[np.ndarray]:
        return check_features(features, self.config.front_end.n_mels, self.detector.views)

    def embeddings(self, waveforms: np.ndarray, sample_rate: int) -> np.ndarray | None:
        """Embeddings of recordings by the pretrained network that the configuration names.

        Args:
            waveforms: as in `features`.
            sample_rate: as in `features`.

        Returns:
            (clips, values) float32; None where no network is named.

        Raises:
            UserError: as `features`, or the network's weights are missing.
        """
        if not self.config.embedding.pretrained:
            return None
        waveforms = checked_waveforms(waveforms, sample_rate, self.embedder.sample_rate)
        return clip_means(self.embedder, waveforms)

    @functools.cached_property
    def embedder(self) -> Embedder:
        """The pretrained network that the configuration names; UserError without its weights."""
        return embedder_of(self.config)

    @functools.cached_property
    def _front_end(self) -> Callable[[np.ndarray], jax.Array]:
        return jax.jit(self.config.front_end)

    def score_features(
        self,
        features: Sequence[np.ndarray] | np.ndarray,
        *,
        machine: str | None = None,
        section: str | None = None,
        seed: int | None = None,
        embeddings: np.ndarray | None = None,
    ) -> np.ndarray:
        """Scores clips from their features.

        Args:
            features: (frames, mels) a clip, of any lengths.
            machine: as in `score`.
            section: as in `score`.
            seed: as in `score`.
            embeddings: (clips, values) from `embeddings`, where the configuration names a
                pretrained network.

        Returns:
            (clips,).
        """
        group, seeds = self.resolve(machine, section), self._seeds(seed)
        return self.seed_feature_scores(features, group, seeds, embeddings).mean(axis=0)

    def seed_feature_scores(
        self,
        features: Sequence[np.ndarray] | np.ndarray,
        group: Group,
        seeds: Sequence[int],
        embeddings: np.ndarray | None = None,
    ) -> np.ndarray:
        """Scores clips by each seed from their features.

        Args:
            features: as in `score_features`.
            group: machine and section of the clips, from `resolve`.
            seeds: some of its seeds.
            embeddings: as in `score_features`.

        Returns:
            (seeds, clips).
        """
        table = ArrayFeatures((), self._checked(features), embeddings)
        if embeddings is not None or self.config.embedding.kind != "none":
            table.embeddings = embeddings_of(self.config, table)
        indices, label = range(len(features)), self.label_of(group)
        labels = np.full(len(features), label, np.int32)
        return self.model_scores(self.models_of(group, seeds), table, indices, labels)

    def group_threshold(self, group: Group, seed: int | None) -> float:
        """The threshold of a seed's scores, or of their mean over the seeds."""
        chosen = self.models_of(group, self._seeds(seed))
        if seed is not None or len(self.seeds) == 1:
            return float(self.thresholds[chosen[0]])
        return self.group_thresholds[group_name(self.models[chosen[0]])]

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

    def label_of(self, group: Group) -> int:
        """`ClipInput.label` of the clips of a machine and section."""
        machine, section = group
        if self.detector.scope != "machine by section":
            return 0
        return self.sections[machine].index(section)

    def model_scores(
        self,
        chosen: Sequence[int],
        features: Features,
        indices: Sequence[int] | np.ndarray,
        labels: np.ndarray,
        *,
        trained_on: bool = False,
    ) -> np.ndarray:
        """Scores clips by several models; several processes call this alike and share the work.

        Args:
            chosen: indices of the models, from `models_of`: all trainings of a seed are adjacent.
            features: a table of clips; only the clips asked for are read.
            indices: of the clips, which must be of the models' machine and sections.
            labels: int32 (clips,), `ClipInput.label` of each, from `label_of`.
            trained_on: whether they are training clips, see `Detector.score_trained`.

        Returns:
            (seeds, clips) float32; the smallest score among a seed's trainings.
        """
        weights, calibration = take((self.weights, self.calibration), chosen)
        score = self._score_trained if trained_on else self._score
        padding = self.detector.views.length
        scores = np.zeros((len(chosen), len(indices)), np.float32)  # (models, clips)
        for first, clips in clip_batches(
            features, indices, labels, padding_frames=padding, share=True
        ):
            count = min(BATCH_CLIPS, len(indices) - first)
            scores[:, first : first + count] = score(weights, calibration, clips)[:, :count]
        scores = np.sum(distributed.gather(scores), axis=0)  # 0 where another process scored
        # NaN of a diverged training, already reported, leaves the seed to its other trainings.
        n_seeds = len({self.models[m].seed for m in chosen})
        of_seeds = scores.reshape(n_seeds, -1, len(indices))  # (seeds, trainings, clips)
        return np.fmin.reduce(of_seeds, axis=1)

    @functools.cached_property
    def _score(self) -> _Score:
        return self._compiled(self.detector.score)

    @functools.cached_property
    def _score_trained(self) -> _Score:
        if type(self.detector).score_trained is Detector.score_trained:
            return self._score
        return self._compiled(self.detector.score_trained)

    def _compiled(self, score_clip: Callable[[Any, Any, ClipInput], jax.Array]) -> _Score:
        """Compiles (weights, calibration, clips) → (models, clips)."""
        over_clips = jax.vmap(score_clip, in_axes=(None, None, 0))
        kind = self.detector.task().kind
        jit = functools.partial(jax.jit, compiler_options=compiler_options(kind))
        if fleet.choose_driver(self.config.train, kind) == "vmap":
            return jit(jax.vmap(over_clips, in_axes=(0, 0, None)))
        # On a CPU, models one after another, as in training.
        one = jit(over_clips)

        def score(weights: Any, calibration: Any, clips: ClipInput) -> np.ndarray:
            count = len(jax.tree.leaves(weights)[0])
            return np.stack([one(*take((weights, calibration), m), clips) for m in range(count)])

        return score

    def save(self, path: os.PathLike | str) -> None:
        """Writes everything to one file of plain arrays, whole or not at all."""
        meta = {
            "config": configs.to_dict(self.config),
            "members": [dataclasses.astuple(model) for model in self.models],
            "group_thresholds": dict(self.group_thresholds),
            "sections": dict(self.sections),
        }
        trees = {"weights": self.weights, "calibration": self.calibration}
        arrays: dict[str, Any] = {k: np.asarray(v) for k, v in flatten_dict(trees, sep="/").items()}
        with atomic_write(path, "wb") as file:
            np.savez(file, meta=json.dumps(meta), thresholds=self.thresholds, **arrays)

    @classmethod
    def load(cls, path: os.PathLike | str | IO[bytes]) -> "FittedDetector":
        """Reads what `save` wrote, from the file or its content.

        Raises:
            UserError: the file is missing, damaged, or of a system this version lacks.
        """
        try:
            arrays = read_arrays(path)
            meta = json.loads(str(arrays.pop("meta")))
            thresholds = arrays.pop("thresholds")
            trees = unflatten_dict(arrays, sep="/")
            config = configs.from_dict(meta["config"], config_classes())
            if not isinstance(config, Config):
                raise ValueError("its configuration is of an ensemble")
            return cls(
                detector=make_detector(config),
                models=tuple(FleetModel(*model) for model in meta["members"]),
                weights=trees["weights"],
                calibration=trees.get("calibration", {}),
                thresholds=thresholds,
                group_thresholds=meta["group_thresholds"],
                sections={k: tuple(v) for k, v in meta["sections"].items()},
            )
        except FileNotFoundError:
            raise UserError(
                f"{path}: no such file; the run has not finished training. Start it again with "
                "the command that began it"
            ) from None
        except DAMAGE as error:
            raise UserError(
                f"{path} is damaged ({error}); remove it, and the command that made the run makes "
                "it again from the last checkpoint"
            ) from error


def group_name(model: FleetModel) -> str:
    """Name that models share which differ only in their seed: "machine/section"."""
    return f"{model.machine}/{model.section}"


def take(tree: Any, chosen: int | Sequence[int]) -> Any:
    """The chosen models of a stacked tree."""
    rows = chosen if isinstance(chosen, int) else np.asarray(chosen)
    return jax.tree.map(lambda leaf: leaf[rows], tree)
