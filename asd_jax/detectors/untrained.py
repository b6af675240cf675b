"""Systems without training: a clip's vector of statistics, compared with those of normal clips.

A system of this kind has no network, no epochs and one seed. It pools each clip into a vector,
and fits something closed to the vectors of a machine's normal clips. All else that drives a run
serves it as it serves a network.

To write one, subclass `Untrained` in a file of its own (`mel_mahalanobis` is the shortest):

    views         how a clip is cut for `pool`, by default into single frames
    pool          statistics of a piece of a clip; the value of the merged pools is the vector
    fit           arrays from the vectors of all models, among them `training_scores`
    score_pooled  the score of a clip, from its vector and these arrays

Scores of the training clips are not those of clips that the model has seen: `fit` computes them
from models without the clip's group, and thresholds are set by these. A group is what was
recorded together, a recording, a session or a day: clips of one group resemble each other more
than they resemble those of tomorrow.
"""

import abc
import dataclasses
import itertools
import zlib
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

import jax
import numpy as np

from asd_jax.audio.views import ViewSpec
from asd_jax.data.clips import Clip, ClipTable
from asd_jax.data.groups import group_numbers
from asd_jax.data.supplemental import SPLIT, is_noise
from asd_jax.detectors.banked import spread
from asd_jax.detectors.base import Detector, DetectorConfig, TrainingClips
from asd_jax.detectors.vectors import (
    LeftOutPart,
    Vectors,
    borrowing_lines,
    in_order,
    kin_of,
    left_out_parts,
    one_model,
    order_of,
    without_states,
)
from asd_jax.errors import UserError
from asd_jax.features.table import ClipFacts
from asd_jax.scoring.clusters import cluster_states
from asd_jax.scoring.explanation import Part, map_of_parts
from asd_jax.scoring.rows import float64
from asd_jax.scoring.state_space import Place, StateSpace, places_array
from asd_jax.training.task import Task

# What `fit` may give for each clip, beside arrays for `score_pooled`.
_OF_CLIPS = {"training_scores", "usual"}
_PARTS_AT_ONCE = 16
# Fields of `Vectors` that are of supplemental clips.
OF_SUPPLEMENTAL = {"supplemental", "is_noise"}


@dataclasses.dataclass(frozen=True)
class UntrainedConfig(DetectorConfig):
    """Settings that all systems without training have.

    Attributes:
        states: which normal clips share a centre: those of a "domain"; those of a domain with the
            same "attributes"; or those that are in one of its "clusters", where clips show several.
            All share one covariance.
        siblings: of whose clips a model's covariance borrows, the more, the fewer it has itself,
            see `asd_jax.scoring.siblings`: "machine" for the other sections of its machine type,
            "all" for all other machines and sections of the run. A single clip is then enough, of
            a system whose score is by a covariance.
    """

    trains: ClassVar[bool] = False
    states: Literal["domain", "attributes", "clusters"] = "domain"
    siblings: Literal["none", "machine", "all"] = "none"


class Untrained(Detector):
    """Base of the systems without training; see the module."""

    scope = "section"
    float64 = True
    by_gradient = False
    # Whether vectors are levels in dB, so that what a given state moves can be taken off.
    in_db: ClassVar[bool] = False
    by_covariance: ClassVar[bool] = False  # whether it can borrow one
    kinds: ClassVar[Mapping[str, int]] = {}  # of cells, by the statistic whose time they show

    @property
    def fewest_clips(self) -> int:
        """Training clips that a model needs."""
        return 2 if self.config.detector.siblings == "none" else 1

    def task(self, n_labels: int = 1) -> Task:
        """There is none: nothing is trained."""
        raise NotImplementedError(f"{self.config.detector.name} trains nothing")

    @property
    def views(self) -> ViewSpec:
        """Single frames."""
        return ViewSpec(1)

    @property
    def kind(self) -> str:
        """Its programs are as small as those of dense networks."""
        return "dense"

    @abc.abstractmethod
    def fit(self, vectors: Vectors) -> dict[str, np.ndarray]:
        """Fits all models at once.

        Args:
            vectors: of their training clips, in an order that does not depend on that of the
                files; each model has two or more groups.

        Returns:
            Arrays with the models' axis first, which `score_pooled` gets as its calibration.
            "training_scores" (models, clips) are scores of the training clips by models that
            are fitted without their groups; "usual" (models, clips), if it is there, is false
            for a clip that is not fitted to.
        """

    def refit(self, vectors: Vectors) -> dict[str, np.ndarray]:
        """What `score_pooled` needs of a fit to all clips: of systems whose vectors are in dB.

        Where states are given, training scores are by this: see `left_out_parts`.
        """
        raise NotImplementedError(f"{self.config.detector.name} has no levels in dB")

    def examples(
        self, own: np.ndarray, clips: Sequence[Clip], seed: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """A machine's own clips, once it is known that they have states."""
        settings = self.config.detector
        if settings.states == "attributes" and not any(map(_attributes, clips)):
            raise UserError(
                "detector.states is attributes, which has no effect: no clip has attributes; leave "
                "it at domain"
            )
        if settings.siblings != "none":
            self._check_siblings(own, clips)
        return super().examples(own, clips, seed)

    def _check_siblings(self, own: np.ndarray, clips: Sequence[Clip]) -> None:
        """Raises UserError where nothing can be borrowed, or a single clip has no siblings."""
        siblings, first = self.config.detector.siblings, clips[own[0]]
        if not self.by_covariance:
            raise UserError(
                f"detector.siblings is {siblings}, and {self.config.detector.name} has no "
                "covariance to be borrowed; leave it at none"
            )
        table = ClipTable.of(clips)
        wanted = {"machine": first.machine} if siblings == "machine" else {}
        there = table.groups("machine", "section", rows=table.where(split="train", **wanted))
        if len(own) < 2 and len(there) < 2:
            raise UserError(
                f"{first.machine} {first.section}: one training clip, and no siblings to borrow a "
                f"covariance from (detector.siblings={siblings})"
            )

    def calibrate(self, clips: TrainingClips) -> dict[str, np.ndarray]:
        """Vectors, states and groups of a model's training clips, and supplemental vectors."""
        every = [*clips]
        own, vectors = zip(*(each for each in every if each[0].split != SPLIT), strict=True)
        settings = self.config.detector
        groups = group_numbers(own)
        if len(own) > 1 and not groups.any():
            raise UserError(
                f"all {len(own)} training clips are of one group, {own[0].group!r}, and none is "
                "left to compare them with; tell finer groups apart (data.group, or groups= of fit)"
            )
        if len(own) < self.fewest_clips:
            raise UserError(
                f"{len(own)} training clip{'s' * (len(own) > 1)}; {settings.name} needs "
                f"{self.fewest_clips} to see how much the normal sound varies"
            )
        if len(own) > 1 and (np.asarray(vectors) == vectors[0]).all():
            raise UserError(
                f"{len(own)} training clips, all equal: how much the normal sound varies is not to "
                "be seen; add clips"
            )
        states = state_numbers(own, np.stack(vectors), settings.states, self.config.data.group)
        if len(own) > 1 and states.max() == len(own) - 1:
            raise UserError(
                f"each of the {len(own)} training clips is of a state of its own, by its "
                "attributes; leave detector.states at domain"
            )
        calibration = {
            "vectors": np.stack(vectors),
            "state": states,
            "group": groups.astype(np.float64),
        }
        if settings.siblings != "none":
            kin = own[0].machine if settings.siblings == "machine" else ""
            calibration["kin"] = np.array([float(zlib.crc32(kin.encode()))])
        if self.in_db and self.config.data.state:
            space, category = StateSpace.of([clip.state for clip in own], groups.tolist())
            places = [space.place(clip.state) or Place(-1, ()) for clip in own]
            assert (category >= 0).all()  # others are not fitted to
            calibration["place"] = places_array(places)
        if self.supplemental:
            others = [(vector, is_noise(clip)) for clip, vector in every if clip.split == SPLIT]
            values = [vector for vector, _ in others]
            calibration["supplemental"] = np.reshape(values, (len(values), vectors[0].size))
            calibration["is_noise"] = np.array([float(noise) for _, noise in others])
        return calibration

    def calibrate_fleet(
        self,
        calibrations: dict[str, np.ndarray],
        clips: Sequence[np.ndarray],
        embeddings: np.ndarray | None,
    ) -> dict[str, np.ndarray]:
        """What `fit` gives, beside vectors, states and groups; NaN for models without any."""
        mask = np.isfinite(calibrations["state"])  # (models, clips)
        sound = mask.any(axis=1)
        given = {name: calibrations[name] for name in OF_SUPPLEMENTAL & calibrations.keys()}
        table = {name: np.where(np.isnan(leaf), 0, leaf) for name, leaf in calibrations.items()}
        if "place" in calibrations:
            given["place"] = calibrations["place"]  # NaN where a clip has no such value
        vectors = Vectors(
            table["vectors"][sound],
            mask[sound],
            table["state"][sound].astype(np.int32),
            table["group"][sound].astype(np.int32),
            **{name: leaf[sound] for name, leaf in given.items()},
            **kin_of(calibrations, sound),
        )
        order = order_of(vectors)
        fitted = self._fit_rests(in_order(vectors, order))
        for name in _OF_CLIPS & fitted.keys():
            of_clips = np.empty_like(fitted[name])
            np.put_along_axis(of_clips, order, fitted[name], axis=1)
            fitted[name] = of_clips
        return {**calibrations, **{name: spread(leaf, sound) for name, leaf in fitted.items()}}

    def _fit_rests(self, vectors: Vectors) -> dict[str, np.ndarray]:
        """As `fit`, of what given states leave of the vectors, where there are any."""
        if vectors.place is None:
            return self.fit(vectors)
        with float64():
            rests, effects = without_states(vectors)
            fitted = {**self.fit(rests), **effects}
            usual = fitted["usual"] > 0 if "usual" in fitted else vectors.mask
            scores = np.full(vectors.mask.shape, np.nan)
            for m in range(len(scores)):
                model = one_model(vectors, fitted, m)
                parts = left_out_parts(model)
                while some := [*itertools.islice(parts, _PARTS_AT_ONCE)]:
                    found = self._scores_left_out(model, usual[m], some)
                    for part, of_part in zip(some, found, strict=True):
                        scores[m, part.left] = of_part[part.left]
        return {**fitted, "training_scores": scores}

    def _scores_left_out(
        self, model: Vectors, usual: np.ndarray, parts: Sequence[LeftOutPart]
    ) -> np.ndarray:
        """(parts, clips) scores of each part's clips by a fit to the others that are usual."""
        counts = np.stack([part.counts & usual for part in parts])
        there = counts.any(axis=1)
        scores = np.full(counts.shape, np.inf)
        if not there.any():
            return scores
        others = jax.tree.map(lambda leaf: np.repeat(leaf, there.sum(), axis=0), model)
        values, rests = (
            np.stack([getattr(part, name) for part in parts])[there] for name in ("others", "rests")
        )
        fitted = self.refit(others._replace(values=values, mask=counts[there], place=None))

        def score(calibration: Any, rest: Any) -> jax.Array:
            return self.score_pooled(calibration, rest, ClipFacts())

        scores[there] = jax.vmap(jax.vmap(score, (None, 0)))(fitted, rests)
        return scores

    def notes(
        self, calibration: Mapping[str, np.ndarray], clips: Sequence[Sequence[Clip]]
    ) -> list[str]:
        """Lines on clips that `fit` left out as odd, and on domains of a single group."""
        lines = []
        for own, group in zip(clips, calibration["group"], strict=True):
            target = np.array([clip.domain == "target" for clip in own])
            groups = group[: len(own)]
            for name, domain in (("source", ~target), ("target", target)):
                if target.any() and domain.sum() > 1 and len(set(groups[domain].tolist())) == 1:
                    lines.append(
                        f"{own[0].machine} {own[0].section}: all {domain.sum()} training clips of "
                        f"the {name} domain are of one group; without it none is left, so that "
                        "their training scores are too large and raise the threshold"
                    )
        lines += borrowing_lines(calibration, clips)
        for own, usual in zip(clips, calibration.get("usual", ()), strict=False):
            odd = np.flatnonzero(usual[: len(own)] == 0)
            if len(odd):
                lines.append(
                    f"{own[0].machine} {own[0].section}: {len(odd)} of {len(own)} training clips "
                    f"are unlike all others and are not fitted to, first {own[odd[0]].name}; "
                    "listen to them, and remove them if the machine was not running as usual"
                )
        return lines

    def map(self, parts: Sequence[Part], evidence: np.ndarray) -> np.ndarray | None:
        """The parts, spread over time by the cells that deviate as they do."""
        return map_of_parts(parts, evidence, self.kinds)

    def nearest(self, calibration: Mapping[str, np.ndarray], pooled: Any) -> int | None:
        """The training clip with the nearest vector, values standardised over these clips."""
        vectors = np.asarray(calibration["vectors"])  # NaN for padding
        if not np.isfinite(pooled).all() or np.isnan(vectors).all():
            return None
        spread = np.nanstd(vectors, axis=0)
        apart = (vectors - pooled) / np.where(spread > 0, spread, 1)
        return int(np.nanargmin(np.where(np.isnan(vectors[:, 0]), np.nan, (apart**2).sum(axis=1))))

    def training_scores(self, calibration: Mapping[str, np.ndarray]) -> np.ndarray:
        """(models, clips) scores of the training clips, from models without their groups."""
        return calibration["training_scores"]


def _attributes(clip: Clip, group: str = "") -> tuple[tuple[str, str], ...]:
    """A clip's attributes but for the one that names its group."""
    return tuple(own for own in clip.attributes if own[0] != group)


def state_numbers(
    clips: Sequence[Clip], vectors: np.ndarray, states: str, group: str = ""
) -> np.ndarray:
    """Numbers the states of a machine's clips.

    Args:
        clips: the clips.
        vectors: (clips, values).
        states: `UntrainedConfig.states`.
        group: `DataConfig.group`.

    Returns:
        float64 (clips,) from 0; those of the source domain first, then by their clips.
    """
    target = np.array([clip.domain == "target" for clip in clips])
    keys: list[tuple] = [()] * len(clips)
    if states == "attributes":
        keys = [_attributes(clip, group) for clip in clips]
    if states == "clusters":
        number = np.zeros(len(clips), int)
        for domain in (target, ~target):
            if domain.any():
                number[domain] = cluster_states(vectors[domain])
        keys = [(each,) for each in number.tolist()]
    of_clips = [*zip(target.tolist(), keys, strict=True)]
    order = sorted(set(of_clips), key=lambda state: (state[0], -of_clips.count(state), state[1]))
    return np.array([order.index(state) for state in of_clips], np.float64)
