"""Scores less what operating states move in them, of systems that compare clips of all states.

Errors of a network are larger at one speed than at another, and nothing is wrong. What a state
moves is therefore taken off a score as `asd_jax.scoring.operating` takes it off levels: of scores
that are all positive in their logarithms, as errors grow by factors; else of the scores. A score
then is what it would be in the average state, larger where it was larger within its state.

The scores that the effects are fitted to are by a fit without their group, as those of new clips.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from asd_jax.scoring.operating import Effects, fit_effects, has_others, rest_of
from asd_jax.scoring.state_space import Place, StateSpace, places_array

_MOST_CANDIDATES = 32
_FEWEST, _FEWEST_GROUPS = 10, 3


class MovedScores(NamedTuple):
    """What states move in the scores of one machine or section, by one seed.

    Attributes:
        space: the states.
        logarithm: whether effects are of the scores' logarithms.
        effects: of one value, (1,).
        known: (places, 1 + MOST_NAMES) where clips without a state are taken to be.
    """

    space: StateSpace
    logarithm: bool
    effects: Effects
    known: np.ndarray

    def less(self, score: float, state: str) -> float:
        """A score without what its state moves.

        Args:
            score: of a clip; NaN stays.
            state: of the clip; one that is not known is the one that leaves the least.
        """
        if not np.isfinite(score) or (self.logarithm and score <= 0):
            return score
        value = np.array([np.log(score) if self.logarithm else score])
        place = self.space.place(state)
        rows = self.known if place is None else places_array([place])
        least = min(float(rest_of(value, row, self.effects)[0]) for row in rows)
        return float(np.exp(least)) if self.logarithm else least

    def to_file(self) -> list[Any]:
        """Of JSON's types."""
        effects = [leaf.tolist() for leaf in self.effects]
        return [self.space, self.logarithm, effects, self.known.tolist()]

    @classmethod
    def of_file(cls, stored: Sequence[Any]) -> "MovedScores":
        """What `to_file` gave."""
        space, logarithm, effects, known = stored
        arrays = [np.array(leaf, np.float64) for leaf in effects]
        return cls(StateSpace.of_file(space), logarithm, Effects(*arrays), np.array(known))


def fit_moved_scores(
    scores: np.ndarray,
    states: Sequence[str],
    groups: np.ndarray,
    space: StateSpace,
    setting: np.ndarray | None = None,
) -> tuple[MovedScores, np.ndarray]:
    """Fits what states move in scores, and takes it off.

    Args:
        scores: (n,) of normal clips, finite.
        states: of each clip; those that are none of the space's have no part in the fit.
        groups: (n,) integers, equal for clips that were recorded together.
        space: the states that are known.
        setting: (n,) true where a score is of a clip that its network has not seen. The effects are
            by these alone where there are enough: three groups of each category, and ten clips.

    Returns:
        What is moved, and (n,) the scores without it; those that the effects are by as by a fit
        without their group.

    Raises:
        ValueError: no clip is in one of the states.

    Examples:
        Errors of two speeds, of which the second is as loud again.

        >>> states = ["speed=1", "speed=2"] * 20
        >>> scores = np.tile([1.0, 2.0], 20) * np.random.default_rng(0).uniform(0.9, 1.1, 40)
        >>> moved, rests = fit_moved_scores(scores, states, np.arange(40), StateSpace.of(states)[0])
        >>> bool(rests.max() / rests.min() < 1.3), round(moved.less(2.0, "speed=2"), 1)
        (True, 1.4)
        >>> bool(abs(moved.less(2.0, "speed=2") / moved.less(1.0, "speed=1") - 1) < 0.05)
        True
    """
    found = [space.place(state) for state in states]
    placed = np.array([place is not None for place in found])
    places = places_array([place or Place(-1, ()) for place in found])
    chosen = placed if setting is None else placed & setting
    if not _enough(places[chosen], groups[chosen], len(space.categories)):
        chosen = placed
    if not chosen.any():
        raise ValueError("no clip is in one of the states")
    logarithm = bool((scores[placed] > 0).all())
    values = np.log(scores[chosen]) if logarithm else scores[chosen]
    table = values[:, None], places[chosen], groups[chosen]
    effects, left = fit_effects(*table, len(space.categories))
    known = np.unique(places[placed], axis=0)
    if len(known) > _MOST_CANDIDATES:
        known = known[np.linspace(0, len(known) - 1, _MOST_CANDIDATES).round().astype(int)]
    moved = MovedScores(space, logarithm, effects, known)
    rests = np.array([moved.less(*own) for own in zip(scores.tolist(), states, strict=True)])
    own = has_others(*table[1:])
    rests[np.flatnonzero(chosen)[own]] = (np.exp(left) if logarithm else left)[own, 0]
    return moved, rests


def _enough(places: np.ndarray, groups: np.ndarray, n_categories: int) -> bool:
    """Whether clips say of each category what it moves."""
    of_categories = [len(np.unique(groups[places[:, 0] == c])) for c in range(n_categories)]
    return len(groups) >= _FEWEST and min(of_categories, default=0) >= _FEWEST_GROUPS
