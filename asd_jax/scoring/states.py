"""Gaussians of machines with several states, and the distance of each training clip if left out.

Normal clips of a machine come from one state or from several: domains, speeds, loads. Each state
has a centre of its own, and all share the covariance within the states, so that ten clips of a
new state do not need to say how sound varies around them. A clip is as far from normal as it is
from the nearest centre; its state is not asked for.

Distances of the training clips from a Gaussian that was fitted to them are too small to set a
threshold by. `leave_out` gives those from Gaussians fitted without the clip, or without its group
(a recording, a session, a day), by taking its part out of the sums instead of fitting again.

Distances of several statistics of a clip are comparable once each is divided by what that of a
normal clip is expected to be. `States.expected` is that, by generalised cross-validation: from
the sums alone, so that it, too, is what a fit without the clip would give.

Sources: Ledoit and Wolf 2004, as in `asd_jax.scoring.gaussian`; Golub, Heath and Wahba 1979,
Generalized cross-validation, here with the mean leverage of groups and of clips within them.
"""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from asd_jax.errors import UserError
from asd_jax.scoring import rows
from asd_jax.scoring.state_sums import (
    Rows,
    StateSettings,
    Sums,
    comparable,
    model_of,
    sums_of,
    without,
)

_PLAIN = StateSettings()


class States(NamedTuple):
    """Gaussians of several states with one covariance, in d dimensions.

    Attributes:
        mean: (..., states, d) centres.
        n_clips: (..., states) clips of each state; a state without clips is nobody's nearest.
        whitening: (..., d, d), W with W Wᵀ the inverse covariance.
        expected: (...) distance that is expected of a normal clip of another group.
        valid: (...), false for a model of fewer than two distinct clips, whose distances are
            infinite.
    """

    mean: Any
    n_clips: Any
    whitening: Any
    expected: Any
    valid: Any


class LeftOut(NamedTuple):
    """Distances of training clips from Gaussians that are fitted without their groups.

    Attributes:
        squared: (..., n), infinite where the other groups have fewer than two distinct rows, and
            NaN where a row does not count.
        expected: (..., n), `States.expected` of these Gaussians.
    """

    squared: Any
    expected: Any


def fit_states(
    values: Any,
    mask: Any = None,
    state: Any = None,
    group: Any = None,
    *,
    settings: StateSettings = _PLAIN,
) -> States:
    """Fits centres and covariance to the rows of each of the leading axes, in float64.

    Args:
        values: (..., n, d), finite where they count.
        mask: (..., n), true where a row counts; None for all of them.
        state: (..., n) integers from 0, the state of each row; None for one state.
        group: (..., n) integers, the group of each row within its model; None where each row is
            its own. Only `expected` depends on it.
        settings: how they are made.

    Returns:
        The Gaussians as NumPy arrays, float64.

    Raises:
        UserError: wrong shapes, values that are not finite, a model without rows, or settings out
            of range.

    Examples:
        Two states a long way apart, and a clip between them.

        >>> rng = np.random.default_rng(0)
        >>> values = np.concatenate([rng.normal(0, 1, (200, 2)), rng.normal(50, 1, (10, 2))])
        >>> states = fit_states(values, state=np.arange(210) >= 200)
        >>> states.n_clips.tolist()
        [200.0, 10.0]
        >>> distances = distance(states, np.array([[0.0, 0.0], [50.0, 50.0], [25.0, 25.0]]))
        >>> [bool(each < 3) for each in distances]
        [True, True, False]
        >>> round(float(states.expected), 1)  # two dimensions
        2.0
    """
    table, n_states, _ = _checked(values, mask, mask, state, group, settings)
    grouped = group is not None
    with jax.enable_x64(True):
        fitted = _fit_all(_flat(table), n_states, grouped, settings, rows.in_turn())
    leading = table.values.shape[:-2]
    return jax.tree.map(lambda leaf: np.asarray(leaf).reshape(leading + leaf.shape[1:]), fitted)


def distance(states: States, values: jax.Array) -> jax.Array:
    """Squared distances from the nearest state; jit-able, in the precision of its arguments.

    A new clip is further from the mean of n clips than from the true centre, by 1 + 1 / n. So
    distances are divided by that, relative to the state of the most clips; of one state they are
    plain Mahalanobis distances.

    Args:
        states: with any leading axes (...).
        values: (..., n, d), the leading axes broadcast.

    Returns:
        (..., n); infinite where the model is not valid.
    """
    squared = distances(states, values)
    return jnp.where(jnp.asarray(states.valid)[..., None], jnp.min(squared, axis=-1), jnp.inf)


def distances(states: States, values: jax.Array) -> jax.Array:
    """(..., n, states) scaled squared distances from each state; arguments as of `distance`."""
    mean, count, whitening = (
        jnp.asarray(part) for part in (states.mean, states.n_clips, states.whitening)
    )
    # The centres are whitened with the values, from a point near both, so that nothing cancels.
    middle = mean[..., :1, :]
    white = jnp.matmul(values - middle, whitening, precision="highest")  # (..., n, d)
    centres = jnp.matmul(mean - middle, whitening, precision="highest")  # (..., states, d)
    squared = jnp.sum((white[..., None, :] - centres[..., None, :, :]) ** 2, axis=-1)
    return comparable(squared, count[..., None, :])


def leave_out(
    values: Any,
    mask: Any = None,
    state: Any = None,
    group: Any = None,
    *,
    fitted: Any = None,
    settings: StateSettings = _PLAIN,
) -> LeftOut:
    """Distance of each row from the Gaussians that are fitted without its group.

    It equals `fit_states` and `distance`, once for each group, to rounding.

    Args:
        values: as in `fit_states`.
        mask: as in `fit_states`.
        state: as in `fit_states`.
        group: as in `fit_states`.
        fitted: (..., n), true where a row is fitted to; the others have distances only. None for
            all that count.
        settings: as in `fit_states`.

    Returns:
        (..., n) squared distances and what they are expected to be, float64.

    Raises:
        UserError: as `fit_states`.

    Examples:
        The distance of a lonely clip from a model that has seen it is small; without it, large.

        >>> values = np.random.default_rng(0).normal(0, 1, (50, 3))
        >>> values[7] = 20
        >>> within = float(distance(fit_states(values), values)[7])
        >>> round(within), round(float(leave_out(values).squared[7]), -2)
        (132, 1300.0)
    """
    grouped = group is not None
    table, n_states, group = _checked(values, mask, fitted, state, group, settings)
    mask = np.ones(group.shape, bool) if mask is None else np.broadcast_to(mask, group.shape)
    members = _members(mask, group)
    with jax.enable_x64(True):
        found = _leave_out_all(
            _flat(table), rows.flat(members, 2), n_states, grouped, settings, rows.in_turn()
        )
    return LeftOut(
        *(np.where(mask, np.asarray(leaf).reshape(mask.shape), np.nan) for leaf in found)
    )


def _checked(
    values: Any, mask: Any, fitted: Any, state: Any, group: Any, settings: StateSettings
) -> tuple[Rows, int, np.ndarray]:
    """Rows with numbered cells, the number of states, and the groups (..., n)."""
    shrinkage = settings.shrinkage
    if shrinkage is not None and not 0 <= shrinkage <= 1:
        raise UserError(f"the shrinkage must be from 0 to 1, not {shrinkage}")
    for name in ("towards_first", "resolution", "level"):
        if not getattr(settings, name) >= 0:
            raise UserError(f"{name} is {getattr(settings, name)}; it must be 0 or more")
    values, mask = rows.checked(values, mask)
    if fitted is not None:
        mask = rows.checked(values, mask & np.asarray(fitted, bool))[1]
    state = np.zeros(mask.shape, np.int32) if state is None else np.asarray(state, np.int32)
    state = np.where(mask, np.broadcast_to(state, mask.shape), 0)
    if state.min() < 0:
        raise UserError("states are numbered from 0")
    n_states = int(state.max()) + 1
    group = np.arange(mask.shape[-1]) if group is None else np.asarray(group)
    group = np.broadcast_to(group, mask.shape)
    cell = np.empty(mask.shape, np.int32)
    for at in np.ndindex(mask.shape[:-1]):  # numbers of each model by itself
        of_group = np.unique(group[at], return_inverse=True)[1]
        cell[at] = np.unique(of_group * n_states + state[at], return_inverse=True)[1]
    return Rows(values, mask, state, cell), n_states, group


def _flat(table: Rows) -> Rows:
    return Rows(rows.flat(table.values, 2), *(rows.flat(leaf, 1) for leaf in table[1:]))


def _members(mask: np.ndarray, group: np.ndarray) -> np.ndarray:
    """(..., groups, most) rows of each group, padded with −1; groups are those of each model."""
    of_models = []
    for counts, groups in zip(rows.flat(mask, 1), rows.flat(group, 1), strict=True):
        own = np.flatnonzero(counts)
        _, place = np.unique(groups[own], return_inverse=True)
        order = np.argsort(place, kind="stable")
        of_models.append(np.split(own[order], np.cumsum(np.bincount(place))[:-1]))
    n_groups = max(map(len, of_models))
    most = max(len(each) for split in of_models for each in split)
    members = np.full((len(of_models), n_groups, most), -1, np.int32)
    for padded, split in zip(members, of_models, strict=True):
        for row, each in zip(padded, split, strict=False):
            row[: len(each)] = each
    return members.reshape(*mask.shape[:-1], n_groups, most)


@functools.partial(jax.jit, static_argnums=(1, 2, 3, 4))
def _fit_all(
    table: Rows, n_states: int, grouped: bool, settings: StateSettings, one_by_one: bool
) -> States:
    """Models of rows (models, n, …)."""

    def fit(*fields: jax.Array) -> States:
        table = Rows(*fields)
        sums, deviations = sums_of(table, n_states, grouped)
        model = model_of(sums, deviations, table.fitted, settings)
        whitening = model.inverse.T / model.scale[:, None]
        return States(model.mean, model.n_clips, whitening, model.expected, model.valid)

    return rows.each(fit, one_by_one)(*table)


@functools.partial(jax.jit, static_argnums=(2, 3, 4, 5))
def _leave_out_all(
    table: Rows,
    members: jax.Array,
    n_states: int,
    grouped: bool,
    settings: StateSettings,
    one_by_one: bool,
) -> LeftOut:
    """Distances (models, n) of rows (models, n, …) by their members (models, groups, most)."""

    def of_model(members: jax.Array, *fields: jax.Array) -> LeftOut:
        table = Rows(*fields)
        sums, deviations = sums_of(table, n_states, grouped)

        def left_out(own: jax.Array) -> LeftOut:
            return _without(own, sums, deviations, table, settings)

        of_groups = jax.lax.map(left_out, members)  # (groups, most)
        # Padding goes to a place behind all rows.
        places = jnp.where(members >= 0, members, len(table.fitted))
        empty = jnp.zeros(len(table.fitted) + 1)
        return LeftOut(*(empty.at[places].set(leaf)[:-1] for leaf in of_groups))

    return rows.each(of_model, one_by_one)(members, *table)


def _without(
    own: jax.Array, sums: Sums, deviations: jax.Array, table: Rows, settings: StateSettings
) -> LeftOut:
    """Distances of the rows `own` (most,) from the Gaussians without them."""
    model = model_of(*without(own, sums, deviations, table), settings)
    own = jnp.maximum(own, 0)
    # Deviations from the old mean of the row's state, turned into those from each new centre.
    centres = model.mean - sums.mean[table.state[own]][:, None]  # (most, states, d)
    scaled = (deviations[own][:, None] - centres) / model.scale
    squared = jnp.sum((scaled @ model.inverse.T) ** 2, axis=-1)  # (most, states)
    nearest = jnp.min(comparable(squared, model.n_clips), axis=-1)
    nearest = jnp.where(model.valid, nearest, jnp.inf)
    return LeftOut(nearest, jnp.broadcast_to(model.expected, nearest.shape))
