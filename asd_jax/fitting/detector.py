"""A fitted system: its weights, what it gives of new recordings, and the file it lives in."""

import dataclasses
import functools
import json
import os
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from asd_jax import config as configs
from asd_jax.config import Config
from asd_jax.data.clips import Clip
from asd_jax.detectors import Detector, make_detector, registry
from asd_jax.errors import UserError
from asd_jax.features.arrays import check_features, checked_waveforms
from asd_jax.features.embeddings import Embedder, clip_means, embedder_of, embeddings_of
from asd_jax.features.table import (
    BATCH_CLIPS,
    ArrayFeatures,
    Features,
    clip_batches,
    embedding_batch,
)
from asd_jax.runtime import distributed
from asd_jax.runtime.compilation import compiler_options
from asd_jax.runtime.files import DAMAGE, atomic_write, read_arrays
from asd_jax.training import Member, fleet


@dataclasses.dataclass(frozen=True, eq=False)
class FittedDetector:
    """A system fitted to normal clips, ready to score others.

    Attributes:
        config: the configuration it was fitted with.
        members: its models, in the order of the leading axis of what follows.
        weights: stacked weights.
        calibration: stacked results of `Detector.calibrate`.
        thresholds: (members,) above which the score of a model's seed is a decision for
            "anomalous"; NaN where there is none.
        group_thresholds: "machine/section" (the section empty where one model serves a
            machine type) → threshold of the mean score over the seeds.
        sections: machine → sections that had training clips, ascending.
    """

    config: Config
    members: tuple[Member, ...]
    weights: Mapping[str, Any] = dataclasses.field(repr=False)
    calibration: Mapping[str, Any] = dataclasses.field(repr=False)
    thresholds: np.ndarray = dataclasses.field(repr=False)
    group_thresholds: Mapping[str, float]
    sections: Mapping[str, tuple[str, ...]]

    @functools.cached_property
    def detector(self):
        """The system's functions."""
        return make_detector(self.config)

    @property
    def machines(self) -> tuple[str, ...]:
        """Machine types it can score."""
        return tuple(dict.fromkeys(member.machine for member in self.members))

    def score(
        self,
        waveforms: np.ndarray,
        sample_rate: int,
        *,
        machine: str | None = None,
        section: str | int | None = None,
        seed: int | None = None,
    ) -> np.ndarray:
        """Scores recordings; larger is more anomalous.

        Args:
            waveforms: as in `features`.
            sample_rate: as in `features`.
            machine: machine type; may be left out where there is only one.
            section: section or machine id; may be left out where it does not matter, as with
                models that serve all sections of a machine alike, or there is only one.
            seed: the model of that seed; the mean over all seeds by default.

        Returns:
            (clips,).
        """
        features = self.features(waveforms, sample_rate)
        embeddings = self.embeddings(waveforms, sample_rate)
        return self.score_features(
            features, machine=machine, section=section, seed=seed, embeddings=embeddings
        )

    def features(self, waveforms: np.ndarray, sample_rate: int) -> np.ndarray:
        """Features of recordings, as `score_features` takes them.

        Args:
            waveforms: (clips, samples), or (samples,) of one clip; −1 to 1, or signed integers
                of any width.
            sample_rate: Hz; resampled where it is not the front end's.

        Returns:
            (clips, frames, mels) float32.

        Raises:
            UserError: waveforms of other shapes, with samples that are no finite numbers, or
                too short.
        """
        features = np.asarray(
            self._front_end(
                checked_waveforms(waveforms, sample_rate, self.config.front_end.sample_rate)
            )
        )
        return np.stack(self._checked(features))

    def _checked(self, features: Sequence[np.ndarray]) -> list[np.ndarray]:
        detector = self.detector
        return check_features(features, self.config, detector.view_length, detector.fewest_frames)

    def embeddings(self, waveforms: np.ndarray, sample_rate: int) -> np.ndarray | None:
        """Embeddings of recordings by the pretrained network that the configuration names.

        Args:
            waveforms: as in `features`.
            sample_rate: as in `features`.

        Returns:
            (clips, values) float32; None where no network is named.

        Raises:
            UserError: as `features`, or the network's weights are not there.
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
    def _front_end(self):
        return jax.jit(self.config.front_end)

    def score_features(
        self,
        features: Sequence[np.ndarray],
        *,
        machine: str | None = None,
        section: str | None = None,
        seed: int | None = None,
        embeddings: np.ndarray | None = None,
    ) -> np.ndarray:
        """Scores clips of which the features are at hand.

        Args:
            features: (frames, mels) a clip, of any lengths.
            machine: as in `score`.
            section: as in `score`.
            seed: as in `score`.
            embeddings: (clips, values) as `embeddings` gives them, where the configuration names
                a pretrained network.

        Returns:
            (clips,).
        """
        return self.seed_scores(features, machine, section, seed, embeddings).mean(axis=0)

    def seed_scores(
        self,
        features: Sequence[np.ndarray],
        machine: str | None = None,
        section: str | None = None,
        seed: int | None = None,
        embeddings: np.ndarray | None = None,
    ) -> np.ndarray:
        """(seeds, clips) scores of each seed by itself; arguments as in `score_features`."""
        features = self._checked(features)
        chosen = self.choose(machine, section, seed)
        machine, section = self.resolve(machine, section)
        clips = [Clip(machine, section, "", "", "")] * len(features)
        table = ArrayFeatures(clips, features, embeddings)
        table.embeddings = embeddings_of(self.config, table)
        return self.member_scores(chosen, table, range(len(features)))

    def threshold(
        self, *, machine: str | None = None, section: str | None = None, seed: int | None = None
    ) -> float:
        """The score above which a clip is decided to be anomalous; arguments as in `score`."""
        chosen = self.choose(machine, section, seed)
        if seed is not None or len(self.config.seeds) == 1:
            return float(self.thresholds[chosen[0]])
        return self.group_thresholds[group_name(self.members[chosen[0]])]

    def seed_scores_of(
        self,
        waveforms: np.ndarray,
        sample_rate: int,
        machine: str | None = None,
        section: str | None = None,
    ) -> np.ndarray:
        """(seeds, clips) scores of recordings by each seed; arguments as in `score`."""
        features = self.features(waveforms, sample_rate)
        embeddings = self.embeddings(waveforms, sample_rate)
        return self.seed_scores(features, machine, section, embeddings=embeddings)

    def choose(
        self, machine: str | None = None, section: str | None = None, seed: int | None = None
    ) -> list[int]:
        """Indices of the members that serve a machine and section; arguments as in `score`.

        Raises:
            UserError: none does.
        """
        machine, section = self.resolve(machine, section)
        found = [
            m
            for m, member in enumerate(self.members)
            if member.machine == machine and member.section in ("", section)
        ]
        if seed is not None:
            if seed not in self.config.seeds:
                raise UserError(
                    f"seed {seed} was not fitted; there are "
                    + ", ".join(map(str, self.config.seeds))
                )
            found = [m for m in found if self.members[m].seed == seed]
        return found

    def resolve(self, machine: str | None, section: str | int | None) -> tuple[str, str]:
        """Machine and section by their names; "" for a section that does not matter.

        Raises:
            UserError: they are not told, or no model serves them.
        """
        if machine is None and len(self.machines) == 1:
            machine = self.machines[0]
        if machine is None:
            raise UserError(
                "of which machine the recordings are must be said (machine=, --machine=); there "
                "are " + ", ".join(self.machines)
            )
        if machine not in self.machines:
            raise UserError(
                f"machine {machine!r} was not fitted{configs.nearest(machine, self.machines)}; "
                "there are " + ", ".join(self.machines)
            )
        if self.detector.scope == "machine" and not self.detector.by_section:
            return machine, ""
        sections = self.sections[machine]
        if section is None and len(sections) == 1:
            section = sections[0]
        if section is None:
            raise UserError(
                f"of which section of {machine} the recordings are must be said (section=, "
                "--section=); there are " + ", ".join(sections)
            )
        if str(section) not in sections:
            raise UserError(
                f"{machine}: section {section} was not fitted; there are " + ", ".join(sections)
            )
        return machine, str(section)

    def _labels(self, features: Features, indices: Sequence[int]) -> np.ndarray:
        """(indices,) int32, see `Detector.by_section`."""
        if not self.detector.by_section:
            return np.zeros(len(indices), np.int32)
        clips = features.clips[indices]
        return np.array([self.sections[c.machine].index(c.section) for c in clips], np.int32)

    def member_scores(
        self,
        chosen: Sequence[int],
        features: Features,
        indices: Sequence[int],
        *,
        trained_on: bool = False,
    ) -> np.ndarray:
        """Scores clips by several members; several processes call this alike and share the work.

        Args:
            chosen: indices of the members, as `choose` gives them: all trainings of a seed side
                by side.
            features: a table of clips; only what is asked for is read.
            indices: of the clips, which must be of the members' machine and sections.
            trained_on: whether they are training clips, see `Detector.score_trained`.

        Returns:
            (seeds, clips) float32; of a seed's trainings the smallest score.
        """
        weights, calibration = take((self.weights, self.calibration), chosen)
        scores = np.zeros((len(chosen), len(indices)), np.float32)
        for first, batch, n_frames in clip_batches(
            features, indices, self.detector.view_length, share=True
        ):
            count = min(BATCH_CLIPS, len(indices) - first)
            labels = np.zeros(BATCH_CLIPS, np.int32)
            labels[:count] = self._labels(features, indices[first:][:count])
            embeddings = embedding_batch(features, indices[first : first + count])
            score = self._score_trained if trained_on else self._score
            found = score(weights, calibration, batch, n_frames, labels, embeddings)
            scores[:, first : first + count] = found[:, :count]
        scores = np.sum(distributed.gather(scores), axis=0)  # zeros where others scored
        # A training that diverged, of which training told, leaves a seed to the others.
        of_seeds = scores.reshape(-1, self.detector.repeats, len(indices))
        return np.fmin.reduce(of_seeds, axis=1)

    @functools.cached_property
    def _score(self):
        return self._compiled(self.detector.score)

    @functools.cached_property
    def _score_trained(self):
        if type(self.detector).score_trained is Detector.score_trained:
            return self._score
        return self._compiled(self.detector.score_trained)

    def _compiled(self, score_clip):
        """(weights, calibration, batch, n_frames, labels, embeddings) → (members, clips)."""

        def of_clip(weights, calibration, features, n_frames, label, embedding):
            extra = () if embedding is None else (embedding,)
            return score_clip(weights, calibration, features, n_frames, label, *extra)

        over_clips = jax.vmap(of_clip, in_axes=(None, None, 0, 0, 0, 0))
        kind = self.detector.task().kind
        jit = functools.partial(jax.jit, compiler_options=compiler_options(kind))
        if fleet.choose_driver(self.config.train, kind) == "vmap":
            return jit(jax.vmap(over_clips, in_axes=(0, 0, None, None, None, None)))
        # On a CPU, members one after another, as in training.
        one = jit(over_clips)

        def score(weights, calibration, *clips):
            count = len(jax.tree.leaves(weights)[0])
            return np.stack([one(*take((weights, calibration), m), *clips) for m in range(count)])

        return score

    def save(self, path: os.PathLike | str) -> None:
        """Writes everything to one file of plain arrays, whole or not at all."""
        meta = {
            "config": configs.to_dict(self.config),
            "members": [dataclasses.astuple(member) for member in self.members],
            "group_thresholds": dict(self.group_thresholds),
            "sections": dict(self.sections),
        }
        trees = {"weights": self.weights, "calibration": self.calibration}
        arrays = {k: np.asarray(v) for k, v in flatten_dict(trees, sep="/").items()}
        with atomic_write(path, "wb") as file:
            np.savez(file, meta=json.dumps(meta), thresholds=self.thresholds, **arrays)

    @classmethod
    def load(cls, path: os.PathLike | str) -> "FittedDetector":
        """Reads what `save` wrote.

        Raises:
            UserError: the file is missing, damaged, or of a system this version lacks.
        """
        kinds = {name: kind.Config for name, kind in registry().items()}
        try:
            arrays = read_arrays(path)
            meta = json.loads(str(arrays.pop("meta")))
            thresholds = arrays.pop("thresholds")
            trees = unflatten_dict(arrays, sep="/")
            return cls(
                config=configs.from_dict(meta["config"], kinds),
                members=tuple(Member(*member) for member in meta["members"]),
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


def group_name(member: Member) -> str:
    """What the members that differ only in their seed have in common: "machine/section"."""
    return f"{member.machine}/{member.section}"


def take(tree: Any, chosen: int | Sequence[int]) -> Any:
    """The chosen members of a stacked tree."""
    if not isinstance(chosen, int):
        chosen = np.asarray(chosen)
    return jax.tree.map(lambda leaf: leaf[chosen], tree)
