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
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from asd_jax.errors import UserError
from asd_jax.runtime.compilation import round_up
from asd_jax.scoring import rows
from asd_jax.scoring.state_sums import (
    Other,
    Rows,
    Siblings,
    StateSettings,
    Sums,
    comparable,
    model_of,
    numbers_of,
    sums_of,
    without,
)

_PLAIN = StateSettings()
# What rows and groups are padded to at least, see `round_up`: few programs serve all sizes.
_FEWEST_ROWS = 64


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
    other: Other | Siblings | None = None,
) -> States:
    """Fits centres and covariance to the rows of each of the leading axes, in float64.

    Args:
        values: (..., n, d), finite where they count.
        mask: (..., n), true where a row counts; None for all of them.
        state: (..., n) integers from 0, the state of each row; None for one state.
        group: (..., n) integers, the group of each row within its model; None where each row is
            its own. Only `expected` depends on it.
        settings: how they are made.
        other: covariance of other rows, or of siblings; leading axes broadcast to the values'.

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
    flat, places = _flat(table), _few_states(n_states)
    numbers = _repeated(numbers_of(settings), len(flat.values))
    others = _flat_other(other, table)
    fitted: States = _of_models(_fit, (flat, numbers, others), (places, _grouped(table)))
    fitted = fitted._replace(mean=fitted.mean[:, :n_states], n_clips=fitted.n_clips[:, :n_states])
    leading = table.values.shape[:-2]
    return States(*(leaf.reshape(leading + leaf.shape[1:]) for leaf in fitted))


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


def nearest_state(states: States, values: Any) -> tuple[np.ndarray, float]:
    """Deviation of one row from the nearest centre of one model, by NumPy.

    Args:
        states: without leading axes.
        values: (d,).

    Returns:
        (d,) the row minus the centre, and the factor that brings its squared distance to the
        scale of the state of the most clips, see `distance`.
    """
    mean, count, whitening = (
        np.asarray(part, np.float64) for part in (states.mean, states.n_clips, states.whitening)
    )
    deviations = np.asarray(values, np.float64) - mean  # (states, d)
    of_new = 1 + 1 / np.maximum(count, 1)
    factors = of_new.min(where=count > 0, initial=2.0) / of_new
    squared = np.sum((deviations @ whitening) ** 2, axis=1) * factors
    nearest = int(np.where(count > 0, squared, np.inf).argmin())
    return deviations[nearest], float(factors[nearest])


def leave_out(
    values: Any,
    mask: Any = None,
    state: Any = None,
    group: Any = None,
    *,
    fitted: Any = None,
    settings: StateSettings = _PLAIN,
    other: Other | Siblings | None = None,
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
        other: as in `fit_states`.

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
    table, n_states, group = _checked(values, mask, fitted, state, group, settings)
    mask = np.ones(group.shape, bool) if mask is None else np.broadcast_to(mask, group.shape)
    members = _members(rows.flat(mask, 1), rows.flat(group, 1))
    numbers = _repeated(numbers_of(settings), len(members))
    static = _few_states(n_states), _grouped(table)
    arguments = _flat(table), members, numbers, _flat_other(other, table)
    found = _of_models(_leave_out, arguments, static)
    own = [leaf[:, : mask.shape[-1]].reshape(mask.shape) for leaf in found]
    return LeftOut(*(np.where(mask, leaf, np.nan) for leaf in own))


def _checked(
    values: Any, mask: Any, fitted: Any, state: Any, group: Any, settings: StateSettings
) -> tuple[Rows, int, np.ndarray]:
    """Rows with numbered cells, the number of states, and the groups (..., n)."""
    shrinkage = settings.shrinkage
    if shrinkage is not None and not 0 <= shrinkage <= 1:
        raise UserError(f"the shrinkage must be from 0 to 1, not {shrinkage}")
    for name in ("resolution", "level"):
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


def _few_states(n_states: int) -> int:
    """The next power of two, and at least two: states without clips cost nothing."""
    return 1 << max(1, (n_states - 1).bit_length())


def _repeated(settings: Any, models: int) -> Any:
    return jax.tree.map(lambda number: np.full(models, number), settings)


def _grouped(table: Rows) -> bool:
    """Whether a group has more than one of the rows that are fitted to."""
    fitted, cell = (rows.flat(leaf, 1) for leaf in (table.fitted, table.cell))
    return any(
        len(np.unique(cells[own])) < own.sum() for own, cells in zip(fitted, cell, strict=True)
    )


def _flat(table: Rows) -> Rows:
    """Rows of all models (models, rows, …), their number padded to one of few."""
    flat = [rows.flat(table.values, 2), *(rows.flat(leaf, 1) for leaf in table[1:])]
    n = flat[0].shape[1]
    more = round_up(n, _FEWEST_ROWS) - n
    return Rows(*(np.pad(leaf, [(0, 0), (0, more), *[(0, 0)] * (leaf.ndim - 2)]) for leaf in flat))


def _flat_other(other: Any, table: Rows) -> Any:
    """The other covariances of all models (models, …), float64."""
    if other is None:
        return None
    leading, d = table.values.shape[:-2], table.values.shape[-1]
    covariance, *factors = (np.asarray(leaf, np.float64) for leaf in other)
    return type(other)(
        rows.flat(np.broadcast_to(covariance, (*leading, d, d)), 2),
        *(np.broadcast_to(factor, leading).ravel() for factor in factors),
    )


def _members(mask: np.ndarray, group: np.ndarray) -> np.ndarray:
    """Rows of each group of each model.

    Args:
        mask: (models, n) rows that count.
        group: (models, n).

    Returns:
        (models, groups, most), padded with −1 to one of few shapes.
    """
    of_models = []
    for counts, groups in zip(mask, group, strict=True):
        own = np.flatnonzero(counts)
        _, place = np.unique(groups[own], return_inverse=True)
        order = np.argsort(place, kind="stable")
        of_models.append(np.split(own[order], np.cumsum(np.bincount(place))[:-1]))
    n_groups = round_up(max(map(len, of_models)), _FEWEST_ROWS)
    most = max(len(each) for split in of_models for each in split)
    most = 1 << (most - 1).bit_length()
    members = np.full((len(of_models), n_groups, most), -1, np.int32)
    for padded, split in zip(members, of_models, strict=True):
        for row, each in zip(padded, split, strict=False):
            row[: len(each)] = each
    return members


@functools.partial(jax.jit, static_argnums=(3, 4))
def _fit(
    table: Rows, settings: Any, other: Other | Siblings | None, n_states: int, grouped: bool
) -> States:
    """The model of rows (n, …)."""
    sums, deviations = sums_of(table, n_states, grouped)
    model = model_of(sums, deviations, table.fitted, settings, other)
    whitening = model.inverse.T / model.scale[:, None]
    return States(model.mean, model.n_clips, whitening, model.expected, model.valid)


@functools.partial(jax.jit, static_argnums=(4, 5))
def _leave_out(
    table: Rows,
    members: jax.Array,
    settings: Any,
    other: Other | Siblings | None,
    n_states: int,
    grouped: bool,
) -> LeftOut:
    """Distances (n,) of the rows (n, …) of one model by their members (groups, most)."""
    sums, deviations = sums_of(table, n_states, grouped)

    def left_out(own: jax.Array) -> LeftOut:
        return _without(own, sums, deviations, table, settings, other)

    of_groups = jax.lax.map(left_out, members)  # (groups, most)
    # Padding goes to a place behind all rows.
    places = jnp.where(members >= 0, members, len(table.fitted))
    empty = jnp.zeros(len(table.fitted) + 1)
    return LeftOut(*(empty.at[places].set(leaf)[:-1] for leaf in of_groups))


def _of_models(
    function: Callable[..., Any], arguments: Sequence[Any], static: Sequence[Any]
) -> Any:
    """Results of `function` for each model of its arguments, as NumPy arrays.

    On a CPU each model is computed by itself, in a program of one model, which then serves any
    number of them; else all together.
    """
    with rows.float64():
        if not rows.in_turn():
            found = jax.vmap(lambda *own: function(*own, *static))(*arguments)
            return jax.tree.map(np.asarray, found)

        def fitted(m: int) -> Any:
            with jax.enable_x64(True):  # which each thread says for itself
                own = jax.tree.map(lambda leaf: leaf[m], arguments)
                return jax.tree.map(np.asarray, function(*own, *static))

        found = rows.side_by_side(fitted, len(jax.tree.leaves(arguments)[0]))
    return jax.tree.map(lambda *leaves: np.stack(leaves), *found)


def _without(
    own: jax.Array,
    sums: Sums,
    deviations: jax.Array,
    table: Rows,
    settings: Any,
    other: Other | Siblings | None,
) -> LeftOut:
    """Distances of the rows `own` (most,) from the Gaussians without them."""
    model = model_of(*without(own, sums, deviations, table), settings, other)
    own = jnp.maximum(own, 0)
    # Deviations from the old mean of the row's state, turned into those from each new centre.
    centres = model.mean - sums.mean[table.state[own]][:, None]  # (most, states, d)
    scaled = (deviations[own][:, None] - centres) / model.scale
    squared = jnp.sum((scaled @ model.inverse.T) ** 2, axis=-1)  # (most, states)
    nearest = jnp.min(comparable(squared, model.n_clips), axis=-1)
    nearest = jnp.where(model.valid, nearest, jnp.inf)
    return LeftOut(nearest, jnp.broadcast_to(model.expected, nearest.shape))
