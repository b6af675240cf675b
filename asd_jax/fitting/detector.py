"""The fitted detector: weights, scoring of new recordings, saving and loading."""

import dataclasses
import functools
import itertools
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import IO, Any

import numpy as np

from asd_jax import config as configs
from asd_jax.config import Config
from asd_jax.detectors import Detector, config_classes, make_detector
from asd_jax.errors import UserError
from asd_jax.features.batches import ClipFrames, table_clips
from asd_jax.features.checks import check_features
from asd_jax.features.embeddings import Embedder, embedder_of, embeddings_of, mean_embedding
from asd_jax.features.frames import frames_in_memory
from asd_jax.features.table import ArrayFeatures, ClipInput, Features
from asd_jax.fitting.explaining import explain_table
from asd_jax.fitting.fitted_file import read_fitted, write_fitted
from asd_jax.fitting.history import History
from asd_jax.fitting.in_state import in_state
from asd_jax.fitting.judging import needs_levels
from asd_jax.fitting.kept import Kept
from asd_jax.fitting.layout import Group
from asd_jax.fitting.moved import without_moved
from asd_jax.fitting.normal import Normal
from asd_jax.fitting.operating import Operating
from asd_jax.fitting.pooled import pool_clips, pool_of_models, scores_of_pools, take
from asd_jax.fitting.served import Served
from asd_jax.runtime import distributed
from asd_jax.scoring.explanation import Explanation
from asd_jax.training import FleetModel

# Clips that are shared out to several processes together, and whose scores are made together.
SHARE_CLIPS = 32


@dataclasses.dataclass(frozen=True, eq=False)
class FittedDetector(Served):
    """A system fitted to normal clips, ready to score others.

    Attributes:
        detector: the system, with the configuration it was fitted with.
        models: its models, in the order of the leading axis of the arrays below.
        weights: stacked weights; of a system with one network for all machines, one a seed.
        calibration: stacked results of `Detector.calibrate`.
        thresholds: (models,) decision threshold of the scores of each model's seed; NaN where
            there is none.
        group_thresholds: "machine/section" (the section empty where one model serves a
            machine type) → threshold of the mean score over the seeds.
        sections: machine → sections that had training clips, ascending.
        reference: "scores" (models, clips) of normal clips that the models were not fitted to, NaN
            for padding, "groups" (models, clips), equal for clips that were recorded together, and
            "sequences" (models, clips), equal for those that follow one another; empty without
            such clips.
        normal: what explanations compare with; None of a system of an earlier version.
        history: the clips that it knows; None of a system of an earlier version.
        kept: what it needs to be adapted; None of one that needs nothing, or of an earlier version.
        operating: operating states of the normal clips; none where they are not given or learned.
    """

    detector: Detector
    models: tuple[FleetModel, ...]
    weights: Mapping[str, Any] = dataclasses.field(repr=False)
    calibration: Mapping[str, Any] = dataclasses.field(repr=False)
    thresholds: np.ndarray = dataclasses.field(repr=False)
    group_thresholds: Mapping[str, float]
    sections: Mapping[str, tuple[str, ...]]
    reference: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict, repr=False)
    normal: Normal | None = dataclasses.field(default=None, repr=False)
    history: History | None = dataclasses.field(default=None, repr=False)
    kept: Kept | None = dataclasses.field(default=None, repr=False)
    operating: Operating = dataclasses.field(default_factory=Operating, repr=False)

    def seed_scores(
        self,
        waveforms: np.ndarray,
        sample_rate: int,
        group: Group,
        seeds: Sequence[int],
        states: Sequence[str] | None = None,
    ) -> np.ndarray:
        """(seeds, clips) scores of recordings by each seed."""
        features = self.features(waveforms, sample_rate)
        embeddings = self.embeddings(waveforms, sample_rate)
        return self.seed_feature_scores(features, group, seeds, embeddings, states=states)

    def heard_states(
        self, waveforms: np.ndarray, sample_rate: int, group: Group, states: Sequence[str]
    ) -> list[str]:
        """The given states, "off" or "transient" where levels say so."""
        if not needs_levels(self, group):
            return [*states]
        return self.feature_states(self.features(waveforms, sample_rate), group, states)

    def features(
        self, waveforms: np.ndarray, sample_rate: int, *, one_channel: bool = False
    ) -> np.ndarray:
        """Features of recordings, as `score_features` takes them.

        Args:
            waveforms: as in `score`.
            sample_rate: as in `score`.
            one_channel: whether the far channel is taken off already (`front_end.canceller`).

        Returns:
            (clips, frames, mels) float32; of a system that hears waveforms, blocks of samples.

        Raises:
            UserError: waveforms of other shapes, with samples that are not finite, or too
                short.
        """
        front_end, views = self.detector.front_end, self.detector.views
        canceller = self.config.front_end.canceller and not one_channel
        return np.stack(frames_in_memory(waveforms, sample_rate, front_end, views, canceller))

    def _checked(self, features: Iterable[np.ndarray]) -> list[np.ndarray]:
        """Features that a user gives."""
        if self.config.detector.hears_waveforms:
            raise UserError(
                f"{self.config.detector.name} hears waveforms, not features; use `score`, which "
                "takes recordings"
            )
        return check_features(features, self.config.front_end.n_mels, self.detector.views)

    def embeddings(
        self, waveforms: np.ndarray, sample_rate: int, *, one_channel: bool = False
    ) -> np.ndarray | None:
        """Embeddings of recordings by the pretrained network that the configuration names.

        Args:
            waveforms: as in `features`.
            sample_rate: as in `features`.
            one_channel: as in `features`.

        Returns:
            (clips, values) float32; None where no network is named.

        Raises:
            UserError: as `features`, or the network's weights are missing.
        """
        if not self.config.embedding.pretrained:
            return None
        canceller = self.config.front_end.canceller and not one_channel
        windows = frames_in_memory(waveforms, sample_rate, self.embedder, canceller=canceller)
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
        checked = self._checked(features)
        return self.seed_feature_scores(checked, group, seeds, embeddings).mean(axis=0)

    def seed_feature_scores(
        self,
        features: Sequence[np.ndarray] | np.ndarray,
        group: Group,
        seeds: Sequence[int],
        embeddings: np.ndarray | None = None,
        states: Sequence[str] | None = None,
    ) -> np.ndarray:
        """Scores clips by each seed from their features.

        Args:
            features: as in `score_features`; long enough, as those from `features` are.
            group: machine and section of the clips, from `resolve`.
            seeds: some of its seeds.
            embeddings: as in `score_features`.
            states: as in `model_scores`.

        Returns:
            (seeds, clips).
        """
        table, labels = self._table(features, group, embeddings)
        indices = range(len(labels))
        if self.config.detector.trains:
            chosen = self.models_of(group, seeds)
            return self.model_scores(chosen, table, indices, labels, states=states)
        # One model stands for any seed, those of an ensemble's other members included.
        scores = self.model_scores(self.models_of(group), table, indices, labels, states=states)
        return np.repeat(scores, len(seeds), axis=0)

    def _table(
        self, features: Sequence[np.ndarray] | np.ndarray, group: Group, embeddings: Any
    ) -> tuple[ArrayFeatures, np.ndarray]:
        """A table of clips, and `ClipInput.label` of each."""
        table = ArrayFeatures((), [*features], embeddings)
        if embeddings is not None or self.config.embedding.kind != "none":
            table.embeddings = embeddings_of(self.config, table)
        return table, np.full(len(features), self.label_of(group), np.int32)

    def model_scores(
        self,
        chosen: Sequence[int],
        features: Features,
        indices: Sequence[int] | np.ndarray,
        labels: np.ndarray,
        *,
        trained_on: bool = False,
        states: Sequence[str] | None = None,
    ) -> np.ndarray:
        """Scores clips by several models; several processes call this alike and share the work.

        Args:
            chosen: indices of the models, from `models_of`: all trainings of a seed are adjacent.
            features: a table of clips; only the clips asked for are read.
            indices: of the clips, which must be of the models' machine and sections.
            labels: int32 (clips,), `ClipInput.label` of each, from `label_of`.
            trained_on: whether they are training clips, see `ClipFacts.trained`.
            states: (clips,) of the machine, as in `Clip`; not known by default.

        Returns:
            (seeds, clips) float32; the smallest score among a seed's trainings.
        """
        count = len(indices)
        own = np.array([i for i in range(count) if distributed.is_own(i // SHARE_CLIPS)], int)
        scores = np.zeros((len(chosen), count), np.float32)  # (models, clips)
        scores[:, own] = np.nan
        own_states = None if states is None else [states[i] for i in own]
        clips = table_clips(features, np.asarray(indices)[own], np.asarray(labels)[own], own_states)
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
        # Of the precision of `model_scores`, so that equal clips have equal scores.
        return self.of_seeds(chosen, scores[np.asarray(chosen)].astype(np.float32))

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
        weights = take(self.weights, self.networks_of(chosen))
        pooled = pool_clips(self.detector, functools.partial(self.pool_pieces, weights), clips)
        while some := [*itertools.islice(pooled, SHARE_CLIPS)]:
            left = in_state(self, chosen, some)
            scores = self.scores_of_pools(chosen, left, trained_on=trained_on)
            for (clip, _), score in zip(some, scores.T, strict=True):
                yield clip, score

    def scores_of_pools(
        self,
        chosen: Sequence[int],
        some: Sequence[tuple[ClipFrames, Any]],
        *,
        trained_on: bool = False,
    ) -> np.ndarray:
        """(models, clips) scores of at most 32 clips with the values of their pools."""
        if type(self.detector).score_pooled is Detector.score_pooled:
            scores = np.stack([np.asarray(value, np.float32) for _, value in some], axis=1)
        else:
            scores = self._score_pooled(take(self.calibration, chosen), some, trained_on)
        states = [clip.state for clip, _ in some]
        return without_moved(self, chosen, states, scores[:, : len(some)])

    def explain(
        self,
        waveforms: np.ndarray,
        sample_rate: int,
        *,
        machine: str | None = None,
        section: str | int | None = None,
    ) -> list[Explanation]:
        """Says of each recording what its score is made of, when, and at which frequencies.

        Arguments and errors are those of `score`.
        """
        group = self.resolve(machine, section)
        embeddings = self.embeddings(waveforms, sample_rate)
        table, labels = self._table(self.features(waveforms, sample_rate), group, embeddings)
        return explain_table(self, self.models_of(group), table, labels)

    def explain_features(
        self,
        features: Sequence[np.ndarray] | np.ndarray,
        *,
        machine: str | None = None,
        section: str | int | None = None,
        embeddings: np.ndarray | None = None,
    ) -> list[Explanation]:
        """Says of each clip what its score is made of, from its features, as `score_features`."""
        group = self.resolve(machine, section)
        table, labels = self._table(self._checked(features), group, embeddings)
        return explain_table(self, self.models_of(group), table, labels)

    @functools.cached_property
    def pool_pieces(self) -> Callable[[Any, ClipInput], Any]:
        """(stacked weights, pieces) → pool of each model."""
        return pool_of_models(self.detector)

    @functools.cached_property
    def _score_pooled(self) -> Callable[[Any, Sequence[Any], bool], np.ndarray]:
        return scores_of_pools(self.detector, SHARE_CLIPS)

    def __getstate__(self) -> dict[str, Any]:
        """Its fields alone: compiled programs cannot be pickled, and are made again on demand."""
        return {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}

    def save(self, path: os.PathLike | str) -> None:
        """Writes everything to one file of plain arrays, whole or not at all."""
        meta: dict[str, Any] = {
            "config": configs.to_dict(self.config),
            "members": [dataclasses.astuple(model) for model in self.models],
            "group_thresholds": dict(self.group_thresholds),
            "sections": dict(self.sections),
        }
        trees: dict[str, Any] = {
            "weights": self.weights,
            "calibration": self.calibration,
            "reference": self.reference,
        }
        if self.operating != Operating():
            meta["operating"] = self.operating.to_file()
        if self.normal is not None:
            meta["normal"], trees["normal"] = self.normal.to_file()
        if self.history is not None:
            meta["history"], trees["history"] = self.history.to_file()
        if self.kept is not None:
            meta["kept"], trees["kept"] = self.kept.to_file()
        write_fitted(path, meta, trees, thresholds=self.thresholds)

    @classmethod
    def load(cls, path: os.PathLike | str | IO[bytes]) -> "FittedDetector":
        """Reads what `save` wrote, from the file or its content.

        Raises:
            UserError: the file is missing, damaged, or of a system this version lacks.
        """
        return read_fitted(path, cls._of_file)

    @classmethod
    def _of_file(cls, meta: Mapping[str, Any], trees: Any, thresholds: Any) -> "FittedDetector":
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
            reference=trees.get("reference", {}),
            normal=Normal.of_file(meta.get("normal"), trees.get("normal", {})),
            history=History.of_file(meta.get("history"), trees.get("history", {})),
            kept=Kept.of_file(meta.get("kept"), trees.get("kept", {})),
            operating=Operating.of_file(meta.get("operating")),
        )
