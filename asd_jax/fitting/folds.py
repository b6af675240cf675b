"""Scores of clips by fits that do not know them, for comparing fitted systems by their own clips.

A system without training is fitted again without some of its training clips, from the vectors that
its calibration keeps: no recording is read, and the fit is the one that these clips would have
had from the start. A network cannot forget: its scores are honest for the clips it held out.
"""

import dataclasses
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from asd_jax.data.groups import group_numbers
from asd_jax.detectors.untrained import OF_SUPPLEMENTAL, Untrained
from asd_jax.detectors.vectors import SIBLINGS
from asd_jax.evaluation.results import TrainingRow
from asd_jax.fitting.detector import FittedDetector
from asd_jax.fitting.ensemble import FittedMembers
from asd_jax.fitting.fitted import Fitted
from asd_jax.fitting.layout import Group
from asd_jax.fitting.pooled import take


def can_leave_out(fitted: Fitted) -> bool:
    """Whether a fitted system can be fitted again without some of its clips."""
    return isinstance(fitted, FittedDetector) and isinstance(fitted.detector, Untrained)


def leave_out(
    fitted: FittedDetector, group: Group, left_out: Sequence[np.ndarray]
) -> list[FittedDetector] | None:
    """Fits a system without training again, once for each set of clips that are left out.

    Args:
        fitted: a system that `can_leave_out`.
        group: machine and section of one of its models.
        left_out: bool (clips,) for each fit, of the training clips in their order in
            `training_scores.csv`.

    Returns:
        The fits, each for this group alone; None where fewer clips, or groups of them, are left
        than the system needs.
    """
    detector = fitted.detector
    assert isinstance(detector, Untrained)
    (model,) = fitted.models_for(group)
    there = [name for name in _OF_CLIPS if name in fitted.calibration]
    own = {name: np.asarray(fitted.calibration[name][model]) for name in there}
    count = int(np.isfinite(own["state"]).sum())  # the rest is padding
    kept = [np.flatnonzero(~np.asarray(mask, bool)) for mask in left_out]
    for rows in kept:
        groups = len(set(own["group"][rows].tolist()))
        if len(rows) < detector.fewest_clips or groups < 2:
            return None
        if (own["vectors"][rows] == own["vectors"][rows[0]]).all():
            return None
    most = max(map(len, kept))
    # Rows that are left out are cut off, not blanked, so that a fit has its usual padding: at the
    # end.
    tables = {}
    for name, leaf in own.items():
        table = np.full((len(kept), most, *leaf.shape[1:]), np.nan)
        for fold, rows in enumerate(kept):
            assert rows.max() < count
            table[fold, : len(rows)] = leaf[rows]
        tables[name] = table
    others = [name for name in fitted.calibration if name == "kin" or SIBLINGS in name]
    for name in [*(OF_SUPPLEMENTAL & fitted.calibration.keys()), *others]:
        # Of these clips, and of siblings, none is left out.
        tables[name] = np.stack([np.asarray(fitted.calibration[name][model])] * len(kept))
    for state, groups_ in zip(tables["state"], tables["group"], strict=True):
        _renumber(state)
        _renumber(groups_)
    calibration = detector.calibrate_fleet(tables, (), None)
    return [
        dataclasses.replace(
            fitted,
            models=(fitted.models[model],),
            calibration=take(calibration, [fold]),
            thresholds=np.full(1, np.nan),
            group_thresholds={},
            reference={},
            normal=None,
        )
        for fold in range(len(kept))
    ]


# What `Untrained.calibrate` gives for each clip.
_OF_CLIPS = ("vectors", "state", "group", "place")


def _renumber(numbers: np.ndarray) -> None:
    """Numbers from 0 without gaps, in their order; NaN stays. In place."""
    known = np.isfinite(numbers)
    numbers[known] = np.unique(numbers[known], return_inverse=True)[1]


def folds_of(rows: Sequence[TrainingRow], n_folds: int) -> np.ndarray:
    """Folds of clips: groups as a whole, dealt in their order.

    Args:
        rows: of the clips.
        n_folds: most folds; as many as groups where these are fewer.

    Returns:
        int (clips,) from 0.

    Examples:
        >>> rows = [TrainingRow("fan", "00", "", 0, f"{i}", 0.0, group=own)
        ...         for i, own in enumerate(["a", "a", "b", ""])]
        >>> folds_of(rows, 2).tolist()
        [0, 0, 1, 0]
    """
    numbers = group_numbers(rows)  # type: ignore[arg-type]  # rows have `group`, as clips do
    return numbers % max(1, min(n_folds, int(numbers.max()) + 1))


@dataclasses.dataclass(frozen=True)
class FoldScorer:
    """Scores clips of one machine and section, each by the fit without its fold.

    Args:
        fitted: the system, or an ensemble or choice.
        group: machine and section.
        refits: of each system without training, by its identity, what `leave_out` gives.
        states: of each system that was fitted with given states, by its identity, those of its
            clips by name.
    """

    fitted: Fitted
    group: Group
    refits: dict[int, list[FittedDetector] | None]
    states: dict[int, Mapping[str, str]] = dataclasses.field(default_factory=dict)

    @classmethod
    def of(
        cls,
        fitted: Fitted,
        group: Group,
        fold_of: Mapping[str, int],
        names_of: Callable[[FittedDetector], Sequence[str]],
    ) -> "FoldScorer":
        """Fits again what can be.

        Args:
            fitted: the system.
            group: machine and section.
            fold_of: of each clip's name, from 0; clips that are not named are left out of no fit.
            names_of: names of the group's training clips of a system that `can_leave_out`, in
                their order in its `training_scores.csv`.
        """
        folds = range(max(fold_of.values()) + 1)
        refits = {}
        states: dict[int, Mapping[str, str]] = {}
        for leaf in leaves(fitted, group):
            if leaf.operating.spaces:
                states[id(leaf)] = _states_of(leaf, group, names_of(leaf))
            if can_leave_out(leaf):
                own = np.array([fold_of.get(name, -1) for name in names_of(leaf)])
                refits[id(leaf)] = leave_out(
                    leaf, leaf.resolve(*group), [own == fold for fold in folds]
                )
        return cls(fitted, group, refits, states)

    @property
    def complete(self) -> bool:
        """Whether all its systems without training are fitted again."""
        return None not in self.refits.values()

    def __call__(
        self,
        waveforms: np.ndarray,
        sample_rate: int,
        folds: np.ndarray,
        shared: dict[Hashable, np.ndarray],
        names: Sequence[str] | None = None,
    ) -> np.ndarray:
        """(clips,) scores, mean over the seeds.

        Args:
            waveforms: (clips, samples), as the system reads them (`Config.channel`).
            sample_rate: Hz.
            folds: int (clips,), the fold of each.
            shared: features of these waveforms, by what makes them; those that are missing are
                added, for other systems.
            names: (clips,) of the training clips that these are, or are made of, whose states they
                have; by default they have none.
        """
        sound = _Sound(waveforms, sample_rate, folds, shared, names)
        return self._seed_scores(self.fitted, sound).mean(axis=0)

    def _seed_scores(self, fitted: Fitted, sound: "_Sound") -> np.ndarray:
        """(seeds, clips); one row of a system that draws nothing."""
        own = fitted.resolve(self.group[0], self.group[1] or None)
        folds = sound.folds
        if isinstance(fitted, FittedMembers):
            shape = len(fitted.seeds), len(folds)
            members = [fitted.members[name] for name in fitted.serving(own[0])]
            scores = [np.broadcast_to(self._seed_scores(each, sound), shape) for each in members]
            return fitted.combined(scores, own, fitted.seeds)
        assert isinstance(fitted, FittedDetector)
        key = fitted.detector.front_end, fitted.detector.views
        if key not in sound.shared:
            sound.shared[key] = fitted.features(*sound[:2], one_channel=True)
        features = sound.shared[key]
        embeddings = fitted.embeddings(*sound[:2], one_channel=True)
        states: list[str] | None = None
        if sound.names is not None and id(fitted) in self.states:
            states = [self.states[id(fitted)].get(name, "") for name in sound.names]
        refit = self.refits.get(id(fitted))
        if refit is None:
            return fitted.seed_feature_scores(features, own, fitted.seeds, embeddings, states)
        scores_of_fits = np.empty((1, len(folds)))
        for fold in np.unique(folds):
            its = folds == fold
            its_embeddings = None if embeddings is None else embeddings[its]
            its_states = None if states is None else [states[i] for i in np.flatnonzero(its)]
            scores_of_fits[:, its] = refit[fold].seed_feature_scores(
                features[its], own, fitted.seeds[:1], its_embeddings, its_states
            )
        return scores_of_fits


class _Sound(NamedTuple):
    waveforms: np.ndarray
    sample_rate: int
    folds: np.ndarray
    shared: dict[Hashable, np.ndarray]
    names: Sequence[str] | None = None


def _states_of(fitted: FittedDetector, group: Group, names: Sequence[str]) -> dict[str, str]:
    """States of the training clips of a machine and section, by their names in their order."""
    assert fitted.history is not None  # as states are later than it
    known = fitted.history.known[fitted.resolve(group[0], group[1] or None)].clips
    own = [clip for clip in known if clip.section == group[1] or not group[1]]
    return dict(zip(names, (clip.state for clip in own), strict=True))


def leaves(fitted: Fitted, group: Group) -> list[FittedDetector]:
    """The fitted detectors that score a machine and section, those of ensembles included."""
    if isinstance(fitted, FittedMembers):
        members = [fitted.members[name] for name in fitted.serving(group[0])]
        return [leaf for member in members for leaf in leaves(member, group)]
    assert isinstance(fitted, FittedDetector)
    return [fitted]
