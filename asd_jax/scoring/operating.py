"""What a given state moves in a clip's statistics, taken off before they are compared.

Statistics in dB are regressed on the state: a mean of each category, and a line with a few bends
over each operating point. What is compared with normal is the rest. So clips of all states share
one covariance, a clip is compared with its own state alone, and between two speeds that were heard
what is normal is interpolated.

The rest of a training clip is by a regression without its group, which did not know it, as a new
clip's is. It is divided by the standard deviation that the regression's own uncertainty gives it,
so that states of few clips and of many are on one scale: sqrt(1 + b (BᵀB)⁻¹ bᵀ) for a row b of the
design B, of the clips that are left.

The rests of two clips are not independent: each knows the other. A distance of a training clip from
the others' rests is therefore by rests of a fit without it, see `parts_of` and
`asd_jax.detectors.vectors`.

Source: leave-one-out residuals by downdating BᵀB, as in Belsley, Kuh and Welsch 1980, Regression
Diagnostics; here for groups, which are refitted.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from asd_jax.scoring.state_space import MOST_NAMES

_MOST_KNOTS = 6
_CLIPS_A_KNOT = 10
# What holds neighbouring bends together where clips do not say, in clips; and all else in place.
_TOGETHER, _LEAST = 0.01, 1e-6
_MOST_PARTS = 100
NAMES = ("state_centre", "state_effects", "state_inverse", "state_knots")


class Effects(NamedTuple):
    """What states move, of one model.

    Attributes:
        state_centre: (d,) mean of the training clips.
        state_effects: (k, d) of each column of the design.
        state_inverse: (k, k) inverse of BᵀB.
        state_knots: (MOST_NAMES, knots) of each operating point, ascending; NaN for padding.
    """

    state_centre: np.ndarray
    state_effects: np.ndarray
    state_inverse: np.ndarray
    state_knots: np.ndarray

    @classmethod
    def of(cls, calibration: Mapping[str, Any]) -> "Effects":
        """Those in a model's calibration."""
        return cls(*(np.asarray(calibration[name]) for name in NAMES))


def fit_effects(
    values: np.ndarray, places: np.ndarray, groups: np.ndarray, n_categories: int
) -> tuple[Effects, np.ndarray]:
    """Fits what states move, and gives the rest of each training clip.

    Args:
        values: (n, d).
        places: (n, 1 + MOST_NAMES) from `places_array`.
        groups: (n,) integers, equal for clips that were recorded together.
        n_categories: columns of the design for categories; those of no clip have no effect.

    Returns:
        The effects, and (n, d) the rest of each clip, by a fit without its group, around the mean
        of all; of a clip of which `has_others` is false it says nothing.

    Examples:
        Two states 10 dB apart, and a clip of the quiet one that sounds like the loud one.

        >>> rng = np.random.default_rng(0)
        >>> places = np.full((40, 9), np.nan)
        >>> places[:, 0] = np.arange(40) % 2
        >>> values = rng.normal(10 * places[:, :1], 1, (40, 3))
        >>> values[0] += 10
        >>> rest = fit_effects(values, places, np.arange(40), 2)[1]
        >>> bool(rest[0].mean() - rest[1:].mean() > 8), bool(rest[1:].std() < 1.5)
        (True, True)
    """
    values = np.asarray(values, np.float64)
    knots = _knots(places)
    used = np.append(np.ones(n_categories, bool), np.isfinite(knots))  # the rest is padding
    rows = design(places, knots, n_categories)[:, used]
    centre = values.mean(axis=0)
    own = values - centre
    gram = rows.T @ rows + _penalty(n_categories, knots)[np.ix_(used, used)]
    products = rows.T @ own
    inverse = np.linalg.inv(gram)
    effects = inverse @ products
    leverage = np.sum((rows @ inverse) * rows, axis=1)
    # What a fit without a clip leaves of it, e / (1 − h), over its scale, 1 / √(1 − h).
    rest = (own - rows @ effects) / np.sqrt(np.maximum(1 - leverage, _LEAST))[:, None]
    known, count = np.unique(groups, return_counts=True)
    for group in known[count > 1]:
        mine = groups == group
        without = np.linalg.inv(gram - rows[mine].T @ rows[mine])
        theirs = without @ (products - rows[mine].T @ own[mine])
        rest[mine] = (own[mine] - rows[mine] @ theirs) / _scale(rows[mine], without)[:, None]
    every_effect, every_inverse = np.zeros((len(used), own.shape[1])), np.eye(len(used)) / _LEAST
    every_effect[used], every_inverse[np.ix_(used, used)] = effects, inverse
    return Effects(centre, every_effect, every_inverse, knots), rest + centre


def has_others(places: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """(n,) true where a clip of another group is of a clip's category; all true where none is.

    What a regression leaves of a clip alone in its category says nothing of how sound varies.

    Args:
        places: as in `fit_effects`.
        groups: as in `fit_effects`.
    """
    found = np.zeros(len(groups), bool)
    for category in np.unique(places[:, 0]):
        own = places[:, 0] == category
        found[own] = len(np.unique(groups[own])) > 1
    return found if found.any() else ~found


def parts_of(places: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """(n,) parts to leave out in turn: each group by itself, of more than 100 groups 100 parts.

    Groups of a category are dealt in turn, so that no part takes more of it than it must.

    Args:
        places: as in `fit_effects`.
        groups: as in `fit_effects`.

    Examples:
        >>> from asd_jax.scoring.state_space import Place, places_array
        >>> parts_of(places_array([Place(0, ())] * 4), np.array([5, 5, 2, 3])).tolist()
        [2, 2, 0, 1]
    """
    known, first, number = np.unique(groups, return_index=True, return_inverse=True)
    order = np.argsort(places[first, 0], kind="stable")
    part = np.empty(len(known), int)
    part[order] = np.arange(len(known)) % _MOST_PARTS
    return part[number]


def rest_of(value: np.ndarray, place: np.ndarray, effects: Effects) -> np.ndarray:
    """The rest of a new clip.

    Args:
        value: (d,).
        place: (1 + MOST_NAMES,) of its state.
        effects: of its model.

    Returns:
        (d,), which is compared with the rests of the training clips; NaN of a category of which the
        fit has no clip.
    """
    n_categories = len(effects.state_inverse) - _width(effects.state_knots)
    row = design(np.asarray(place)[None], effects.state_knots, n_categories)
    own = (value - effects.state_centre - row[0] @ effects.state_effects).astype(np.float64)
    scale = _scale(row, effects.state_inverse)[0]
    if scale**2 > 0.5 / _LEAST:  # by the penalty alone
        return np.full_like(own, np.nan)
    return own / scale + effects.state_centre


def design(places: np.ndarray, knots: np.ndarray, n_categories: int) -> np.ndarray:
    """(n, k) rows of the design: one of the categories, and shares of the two nearest knots.

    Values beyond the last knot count as those at it.
    """
    columns = [(places[:, :1] == np.arange(n_categories)).astype(np.float64)]
    for name, own in enumerate(knots):
        known = own[np.isfinite(own)]
        shares = np.zeros((len(places), len(own)))
        if len(known):
            at = np.clip(places[:, 1 + name], known[0], known[-1])
            for k in range(len(known)):
                shares[:, k] = np.interp(at, known, np.arange(len(known)) == k)
        columns.append(shares)
    return np.concatenate(columns, axis=1)


def _width(knots: np.ndarray) -> int:
    return knots.size


def _knots(places: np.ndarray) -> np.ndarray:
    """(MOST_NAMES, knots) at even shares of each operating point's clips."""
    knots = np.full((MOST_NAMES, _MOST_KNOTS), np.nan)
    for own, values in zip(knots, places[:, 1:].T, strict=True):
        if np.isfinite(values).all():
            count = min(max(len(values) // _CLIPS_A_KNOT, 2), _MOST_KNOTS)
            known = np.unique(np.quantile(values, np.linspace(0, 1, count)))
            own[: len(known)] = known
    return knots


def _penalty(n_categories: int, knots: np.ndarray) -> np.ndarray:
    """(k, k) added to BᵀB."""
    penalty = _LEAST * np.eye(n_categories + _width(knots))
    for name, own in enumerate(knots):
        first = n_categories + name * len(own)
        for k in range(int(np.isfinite(own).sum()) - 1):
            pair = [first + k, first + k + 1]
            penalty[np.ix_(pair, pair)] += _TOGETHER * np.array([[1, -1], [-1, 1]])
    return penalty


def _scale(rows: np.ndarray, inverse: np.ndarray) -> np.ndarray:
    """(n,) by how much a regression's uncertainty widens what is left of a clip."""
    return np.sqrt(1 + np.sum((rows @ inverse) * rows, axis=1))
