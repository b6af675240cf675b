"""The fitted detector: weights, scoring of new recordings, saving and loading."""

import dataclasses
import functools
import itertools
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import IO, Any

import jax
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from asd_jax import config as configs
from asd_jax.config import Config
from asd_jax.data.recordings import Waveform
from asd_jax.detectors import Detector, config_classes, make_detector
from asd_jax.errors import UserError
from asd_jax.features.batches import ClipFrames, table_clips
from asd_jax.features.checks import check_features, checked_waveforms
from asd_jax.features.embeddings import Embedder, embedder_of, embeddings_of, mean_embedding
from asd_jax.features.frames import frame_blocks
from asd_jax.features.request import ClipFrontEnd
from asd_jax.features.table import ArrayFeatures, ClipFacts, ClipInput, Features
from asd_jax.fitting.fitted import Fitted
from asd_jax.fitting.layout import Group
from asd_jax.fitting.pooled import pool_clips, pool_program
from asd_jax.runtime import distributed
from asd_jax.runtime.compilation import compiler_options
from asd_jax.runtime.files import DAMAGE, atomic_write, read_arrays
from asd_jax.training import FleetModel, fleet

# Clips that are shared out to several processes together, and whose scores are made together.
_SHARE_CLIPS = 32


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
        return np.stack(self._checked(_all_frames(waveforms, sample_rate, self.config.front_end)))

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
        windows = _all_frames(waveforms, sample_rate, self.embedder)
        return np.stack([mean_embedding([each]) for each in windows])

    @functools.cached_property
    def embedder(self) -> Embedder:
        """The pretrained network that the configuration names; UserError without its weights."""
        return embedder_of(self.config)

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
        if self.config.detector.trains:
            return self.model_scores(self.models_of(group, seeds), table, indices, labels)
        # One model stands for any seed, those of an ensemble's other members included.
        scores = self.model_scores(self.models_of(group), table, indices, labels)
        return np.repeat(scores, len(seeds), axis=0)

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
            trained_on: whether they are training clips, see `ClipFacts.trained`.

        Returns:
            (seeds, clips) float32; the smallest score among a seed's trainings.
        """
        count = len(indices)
        own = np.array([i for i in range(count) if distributed.is_own(i // _SHARE_CLIPS)], int)
        scores = np.zeros((len(chosen), count), np.float32)  # (models, clips)
        scores[:, own] = np.nan
        clips = table_clips(features, np.asarray(indices)[own], np.asarray(labels)[own])
        for clip, score in self.clip_scores(chosen, clips, trained_on=trained_on):
            scores[:, own[clip.position]] = score
        scores = np.sum(distributed.gather(scores), axis=0)  # 0 where another process scored
        return self.of_seeds(chosen, scores)

    def training_scores(self, chosen: Sequence[int]) -> np.ndarray | None:
        """(seeds, clips) scores of the training clips, where the system had to compute them.

        Args:
            chosen: as of `model_scores`; they have the same training clips.
        """
        scores = self.detector.training_scores(self.calibration)
        if scores is None:
            return None
        return self.of_seeds(chosen, scores[np.asarray(chosen)])

    def of_seeds(self, chosen: Sequence[int], scores: np.ndarray) -> np.ndarray:
        """(seeds, clips) scores from those of chosen models, (models, clips)."""
        # NaN of a diverged training, already reported, leaves the seed to its other trainings.
        n_seeds = len({self.models[m].seed for m in chosen})
        of_seeds = scores.reshape(n_seeds, -1, scores.shape[1])  # (seeds, trainings, clips)
        return np.fmin.reduce(of_seeds, axis=1)

    def clip_scores(
        self, chosen: Sequence[int], clips: Iterable[ClipFrames], *, trained_on: bool = False
    ) -> Iterator[tuple[ClipFrames, np.ndarray]]:
        """Scores clips of any lengths, one after another, in a fixed amount of memory.

        Args:
            chosen: as of `model_scores`.
            clips: the clips; their features are read once, block by block.
            trained_on: as of `model_scores`.

        Yields:
            Each clip, and its score by each model, float32 (models,).
        """
        weights, calibration = take((self.weights, self.calibration), chosen)
        pooled = pool_clips(self.detector, functools.partial(self._pool, weights), clips)
        if type(self.detector).score_pooled is Detector.score_pooled:
            for clip, value in pooled:
                yield clip, np.asarray(value, np.float32)
            return
        while some := [*itertools.islice(pooled, _SHARE_CLIPS)]:
            values = jax.tree.map(lambda *rows: _rows(rows, axis=1), *(value for _, value in some))
            if not self.detector.float64:
                values = jax.tree.map(_single, values)
            labels = _rows([np.int32(clip.label) for clip, _ in some])
            embeddings = None
            if some[0][0].embedding is not None:
                embeddings = _rows([clip.embedding for clip, _ in some])
            scores = np.asarray(
                self._score_pooled(calibration, values, labels, embeddings, trained_on)
            )
            for i, (clip, _) in enumerate(some):
                yield clip, scores[:, i]

    @functools.cached_property
    def _pool(self) -> Callable[[Any, ClipInput], Any]:
        """(weights, pieces) → pool, its arrays (models, pieces, …)."""
        detector = self.detector
        one = pool_program(detector, detector.pool)
        if not self.config.detector.trains:
            return one  # a machine and section has one model, without weights
        if fleet.choose_driver(self.config.train, detector.kind) == "vmap":
            over_models = jax.vmap(jax.vmap(detector.pool, in_axes=(None, 0)), in_axes=(0, None))
            return jax.jit(over_models, compiler_options=compiler_options(detector.kind))

        # On a CPU, models one after another, as in training.
        def pool(weights: Any, pieces: ClipInput) -> Any:
            count = len(jax.tree.leaves(weights)[0])
            pools = [one(take(weights, m), pieces) for m in range(count)]
            return jax.tree.map(lambda *leaves: np.concatenate(leaves), *pools)

        return pool

    @functools.cached_property
    def _score_pooled(self) -> Callable[[Any, Any, Any, Any, bool], jax.Array]:
        """(calibration, values, labels, embeddings, trained) → (models, clips)."""

        @functools.partial(jax.jit, static_argnums=4)
        def score(
            calibration: Any, values: Any, labels: Any, embeddings: Any, trained: bool
        ) -> jax.Array:
            def of_clip(calibration: Any, value: Any, label: Any, embedding: Any) -> jax.Array:
                facts = ClipFacts(label, embedding, trained)
                return self.detector.score_pooled(calibration, value, facts)

            of_clips = jax.vmap(of_clip, in_axes=(None, 0, 0, 0))
            return jax.vmap(of_clips, in_axes=(0, 0, None, None))(
                calibration, values, labels, embeddings
            )

        def in_precision(*arguments: Any) -> jax.Array:
            with jax.enable_x64(self.detector.float64):
                return score(*arguments)

        return in_precision

    def __getstate__(self) -> dict[str, Any]:
        """Its fields alone: compiled programs cannot be pickled, and are made again on demand."""
        return {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}

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
                weights=trees.get("weights", {}),
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


def _all_frames(
    waveforms: np.ndarray, sample_rate: int, front_end: ClipFrontEnd
) -> list[np.ndarray]:
    """(frames, width) of each waveform in memory."""
    checked = checked_waveforms(waveforms, sample_rate, front_end.sample_rate)
    front_end.frames(checked.shape[1])  # UserError where they have none
    numbered = ((i, Waveform.of(waveform)) for i, waveform in enumerate(checked))
    return [np.concatenate([*blocks]) for _, blocks in frame_blocks(numbered, front_end)]


def _rows(rows: Sequence[Any], axis: int = 0) -> np.ndarray:
    """Stacks rows, and repeats the last up to `_SHARE_CLIPS`."""
    return np.stack([*rows, *[rows[-1]] * (_SHARE_CLIPS - len(rows))], axis=axis)


def _single(leaf: np.ndarray) -> np.ndarray:
    return leaf.astype(np.float32) if leaf.dtype == np.float64 else leaf


def take(tree: Any, chosen: int | Sequence[int]) -> Any:
    """The chosen models of a stacked tree."""
    rows = chosen if isinstance(chosen, int) else np.asarray(chosen)
    return jax.tree.map(lambda leaf: leaf[rows], tree)
