"""Fitted runs of several systems: an ensemble of their scores, or a choice by machine type."""

import abc
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np

from asd_jax.evaluation.promises import References
from asd_jax.fitting.fitted import Fitted
from asd_jax.fitting.layout import Group
from asd_jax.scoring import ensemble
from asd_jax.scoring.conformal import Reference
from asd_jax.scoring.quiet import Quiet
from asd_jax.scoring.state_space import StateSpace


class FittedMembers(Fitted):
    """Base of an ensemble and a choice.

    Args:
        members: the fitted systems by their names.
        seeds: of all members.
    """

    def __init__(self, members: Mapping[str, Fitted], seeds: Sequence[int]):
        self.members = dict(members)
        self._own_seeds = tuple(seeds)

    @property
    def seeds(self) -> tuple[int, ...]:
        """Seeds of all members."""
        return self._own_seeds

    @property
    def two_channels(self) -> bool:
        """As of the members."""
        return any(member.two_channels for member in self.members.values())

    def state_spaces(self, group: Group) -> list[tuple[StateSpace | None, Quiet | None]]:
        """Those of the members that score the group."""
        return [own for member, place in self._serving(group) for own in member.state_spaces(place)]

    def heard_states(
        self, waveforms: np.ndarray, sample_rate: int, group: Group, states: Sequence[str]
    ) -> list[str]:
        """The states as any of the members hears them."""
        found = [*states]
        for member, place in self._serving(group):
            found = member.heard_states(waveforms, sample_rate, place, found)
        return found

    def _serving(self, group: Group) -> list[tuple[Fitted, Group]]:
        """The members that score a group, each with its own name of it."""
        members = [self.members[name] for name in self.serving(group[0])]
        return [(member, member.resolve(group[0], group[1] or None)) for member in members]

    @abc.abstractmethod
    def serving(self, machine: str) -> list[str]:
        """Names of the members that score a machine type's recordings."""

    @abc.abstractmethod
    def combined(
        self, scores: Sequence[np.ndarray], group: Group, seeds: Sequence[int]
    ) -> np.ndarray:
        """(seeds, clips) scores from (seeds, clips) of each member that serves the group."""

    def seed_scores(
        self,
        waveforms: np.ndarray,
        sample_rate: int,
        group: Group,
        seeds: Sequence[int],
        states: Sequence[str] | None = None,
    ) -> np.ndarray:
        """(seeds, clips) scores of recordings by each seed."""
        machine, section = group
        scores = []
        for name in self.serving(machine):
            member = self.members[name]
            own = member.resolve(machine, section or None)
            scores.append(member.seed_scores(waveforms, sample_rate, own, seeds, states))
        return self.combined(scores, group, seeds)


class FittedEnsemble(FittedMembers):
    """A finished ensemble, ready to score other recordings.

    Args:
        members: the fitted systems by their names.
        seeds: of all members.
        combine: "mean" or "max" of the standardised scores.
        scales: of each machine and section: "mean" and "deviation" (members, seeds) of the
            members' scores, "thresholds" (seeds,), and "threshold" of the mean over the seeds.
        references: of each machine and section, the combined scores of normal clips that no member
            was fitted to.
    """

    def __init__(
        self,
        members: Mapping[str, Fitted],
        seeds: Sequence[int],
        combine: Literal["mean", "max"],
        scales: Sequence[Mapping[str, Any]],
        references: Mapping[Group, References] | None = None,
    ):
        super().__init__(members, seeds)
        self._references = dict(references or {})
        self.combine = combine
        self._scales = {(scale["machine"], scale["section"]): scale for scale in scales}

    @property
    def machines(self) -> tuple[str, ...]:
        """Machine types that it scores."""
        return tuple(dict.fromkeys(machine for machine, _ in self._scales))

    def sections_of(self, machine: str) -> tuple[str, ...]:
        """Sections of a machine type; scales are of each section by itself."""
        return tuple(section for own, section in self._scales if own == machine)

    def serving(self, machine: str) -> list[str]:
        """All members."""
        return [*self.members]

    def combined(
        self, scores: Sequence[np.ndarray], group: Group, seeds: Sequence[int]
    ) -> np.ndarray:
        """The mean or the largest of the members' standardised scores."""
        scale = self._scales[group]
        places = [self.seeds.index(seed) for seed in seeds]
        mean, deviation = (
            np.array(scale[name])[:, places, None]  # (members, seeds, 1)
            for name in ("mean", "deviation")
        )
        # (members, seeds, clips) → (seeds, clips)
        return ensemble.combine(np.stack(scores), mean, deviation, self.combine)

    def group_threshold(self, group: Group, seed: int | None) -> float:
        """The threshold of a seed's scores, or of their mean."""
        scale = self._scales[group]
        return scale["threshold"] if seed is None else scale["thresholds"][self.seeds.index(seed)]

    def group_reference(self, group: Group, seed: int | None) -> Reference:
        """The reference of a seed's scores, or of their mean."""
        own = self._references.get(group)
        return Reference.of([]) if own is None else own.of_seed(seed)


class FittedChoice(FittedMembers):
    """A finished choice: each machine type is scored by one member.

    Args:
        members: the fitted systems by their names.
        seeds: of all members.
        chosen: the name of the member that serves each machine type.
    """

    def __init__(
        self, members: Mapping[str, Fitted], seeds: Sequence[int], chosen: Mapping[str, str]
    ):
        super().__init__(members, seeds)
        self.chosen = dict(chosen)

    @property
    def machines(self) -> tuple[str, ...]:
        """Machine types that it scores."""
        return tuple(self.chosen)

    def sections_of(self, machine: str) -> tuple[str, ...] | None:
        """Sections of the member that serves the machine type."""
        return self._member_for(machine).sections_of(machine)

    def serving(self, machine: str) -> list[str]:
        """The one member that serves a machine type."""
        return [self.chosen[machine]]

    def combined(
        self, scores: Sequence[np.ndarray], group: Group, seeds: Sequence[int]
    ) -> np.ndarray:
        """The scores of the one member."""
        return np.asarray(scores[0])

    def group_threshold(self, group: Group, seed: int | None) -> float:
        """The member's own threshold."""
        member = self._member_for(group[0])
        # A member that trains nothing has one model for all seeds.
        return member.group_threshold(group, seed if seed in member.seeds else None)

    def group_reference(self, group: Group, seed: int | None) -> Reference:
        """The member's own reference."""
        member = self._member_for(group[0])
        return member.group_reference(group, seed if seed in member.seeds else None)

    def _member_for(self, machine: str) -> Fitted:
        return self.members[self.chosen[machine]]
