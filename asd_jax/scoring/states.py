"""Gaussians of machines with several states, and the distance of each training clip if left out.

Normal clips of a machine come from one state or from several: domains, speeds, loads. Each state
has a centre of its own, and all share the covariance within the states, so that ten clips of a
new state do not need to say how sound varies around them. A clip is as far from normal as it is
from the nearest centre; its state is not asked for.

Distances of the training clips from a Gaussian that was fitted to them are too small to set a
threshold by. `leave_out` gives those from Gaussians fitted without the clip, or without its group
(a recording, a session, a day), by taking its part out of the sums instead of fitting again.

Source of the covariance: Ledoit and Wolf 2004, as in `asd_jax.scoring.gaussian`.
"""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from asd_jax.errors import UserError
from asd_jax.scoring import rows
from asd_jax.scoring.gaussian import ledoit_wolf

# Smallest share of the identity: float64 solves with it, whatever the values.
_LEAST_SHRINKAGE = 1e-12


class States(NamedTuple):
    """Gaussians of several states with one covariance, in d dimensions.

    Attributes:
        mean: (..., states, d) centres.
        n_clips: (..., states) clips of each state; a state without clips is nobody's nearest.
        whitening: (..., d, d), W with W Wᵀ the inverse covariance.
        valid: (...), false for a model of fewer than two distinct clips, whose distances are
            infinite.
    """

    mean: Any
    n_clips: Any
    whitening: Any
    valid: Any


class _Sums(NamedTuple):
    """What a model is computed from.

    Attributes:
        mean: (states, d) mean of each state's rows.
        n_clips: (states,) their number.
        scatter: (d, d) sum of the products of the rows' deviations from their state's mean.
    """

    mean: jax.Array
    n_clips: jax.Array
    scatter: jax.Array


class _Model(NamedTuple):
    """A model before its covariance is inverted.

    Attributes:
        mean: (states, d) centres.
        n_clips: (states,).
        scale: (d,) by which deviations are divided.
        root: (d, d) lower, times its transpose the covariance of scaled deviations.
        valid: ().
    """

    mean: jax.Array
    n_clips: jax.Array
    scale: jax.Array
    root: jax.Array
    valid: jax.Array


def fit_states(
    values: Any,
    mask: Any = None,
    state: Any = None,
    *,
    standardise: bool = False,
    shrinkage: float | None = None,
    towards_first: float = 0.0,
) -> States:
    """Fits centres and covariance to the rows of each of the leading axes, in float64.

    Args:
        values: (..., n, d), finite where they count.
        mask: (..., n), true where a row counts; None for all of them.
        state: (..., n) integers from 0, the state of each row; None for one state.
        standardise: whether columns are scaled to a variance of 1 within the states before the
            covariance is shrunk, so that no column counts for more by its unit.
        shrinkage: share of the identity, scaled to the mean variance, in the covariance; None
            for Ledoit and Wolf's.
        towards_first: clips that the centre of state 0 is worth in each other centre, which is
            thus moved towards it the more, the fewer clips it has.

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
    """
    values, mask, state, n_states = _checked(values, mask, state, shrinkage, towards_first)
    settings = (n_states, standardise, shrinkage, towards_first)
    with jax.enable_x64(True):
        fitted = _fit_all(
            rows.flat(values, 2), rows.flat(mask, 1), rows.flat(state, 1), settings, rows.in_turn()
        )
    leading = values.shape[:-2]
    return jax.tree.map(lambda leaf: np.asarray(leaf).reshape(leading + leaf.shape[1:]), fitted)


def distance(states: States, values: jax.Array) -> jax.Array:
    """Squared distances from the nearest state; jit-able, in the precision of its arguments.

    Each is scaled by n / (n + 1), with n the state's number of clips: a new clip is that much
    further from the mean of n clips than from the true centre.

    Args:
        states: with any leading axes (...).
        values: (..., n, d), the leading axes broadcast.

    Returns:
        (..., n); infinite where the model is not valid.
    """
    mean, count, whitening, valid = (jnp.asarray(part) for part in states)
    # The centres are whitened with the values, from a point near both, so that nothing cancels.
    middle = mean[..., :1, :]
    white = jnp.matmul(values - middle, whitening, precision="highest")  # (..., n, d)
    centres = jnp.matmul(mean - middle, whitening, precision="highest")  # (..., states, d)
    squared = jnp.sum((white[..., None, :] - centres[..., None, :, :]) ** 2, axis=-1)
    nearest = _nearest(squared, count[..., None, :])
    return jnp.where(valid[..., None], nearest, jnp.inf)


def leave_out(
    values: Any,
    mask: Any = None,
    state: Any = None,
    group: Any = None,
    *,
    standardise: bool = False,
    shrinkage: float | None = None,
    towards_first: float = 0.0,
) -> np.ndarray:
    """Squared distance of each row from the Gaussians that are fitted without its group.

    It equals `fit_states` and `distance`, once for each group, to rounding.

    Args:
        values: as in `fit_states`.
        mask: as in `fit_states`.
        state: as in `fit_states`.
        group: (..., n) integers, the group of each row within its model; None where each row is
            its own.
        standardise: as in `fit_states`.
        shrinkage: as in `fit_states`.
        towards_first: as in `fit_states`.

    Returns:
        (..., n) float64; infinite where the other groups have fewer than two distinct rows, and
        NaN where a row does not count.

    Raises:
        UserError: as `fit_states`.

    Examples:
        The distance of a lonely clip from a model that has seen it is small; without it, large.

        >>> values = np.random.default_rng(0).normal(0, 1, (50, 3))
        >>> values[7] = 20
        >>> within = float(distance(fit_states(values), values)[7])
        >>> round(within), round(float(leave_out(values)[7]), -2)
        (130, 1300.0)
    """
    values, mask, state, n_states = _checked(values, mask, state, shrinkage, towards_first)
    members = _members(mask, group)
    settings = (n_states, standardise, shrinkage, towards_first)
    with jax.enable_x64(True):
        distances = _leave_out_all(
            *(rows.flat(values, 2), rows.flat(mask, 1), rows.flat(state, 1)),
            *(rows.flat(members, 2), settings, rows.in_turn()),
        )
    found = np.asarray(distances).reshape(mask.shape)
    return np.where(mask, found, np.nan)


def _checked(
    values: Any, mask: Any, state: Any, shrinkage: float | None, towards_first: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray, int]:
    if shrinkage is not None and not 0 <= shrinkage <= 1:
        raise UserError(f"the shrinkage must be from 0 to 1, not {shrinkage}")
    if not towards_first >= 0:
        raise UserError(f"towards_first is {towards_first}; it must be 0 or more")
    values, mask = rows.checked(values, mask)
    state = np.zeros(mask.shape, np.int32) if state is None else np.asarray(state, np.int32)
    state = np.where(mask, np.broadcast_to(state, mask.shape), 0)
    if state.min() < 0:
        raise UserError("states are numbered from 0")
    return values, mask, state, int(state.max()) + 1


def _members(mask: np.ndarray, group: Any) -> np.ndarray:
    """(..., groups, most) rows of each group, padded with −1; groups are those of each model."""
    group = np.arange(mask.shape[-1]) if group is None else np.asarray(group)
    group = np.broadcast_to(group, mask.shape)
    flat_mask, flat_group = rows.flat(mask, 1), rows.flat(group, 1)
    of_models = []
    for counts, groups in zip(flat_mask, flat_group, strict=True):
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


@functools.partial(jax.jit, static_argnums=(3, 4))
def _fit_all(
    values: jax.Array, mask: jax.Array, state: jax.Array, settings: Any, one_by_one: bool
) -> States:
    """Models of rows (models, n, d)."""

    def fit(values: jax.Array, mask: jax.Array, state: jax.Array) -> States:
        sums, deviations = _sums(values.astype(jnp.float64), mask, state, settings[0])
        mean, count, scale, root, valid = _model(sums, deviations, mask, settings)
        inverse = jax.scipy.linalg.solve_triangular(root, jnp.eye(len(root)), lower=True)
        return States(mean, count, inverse.T / scale[:, None], valid)

    return rows.each(fit, one_by_one)(values, mask, state)


def _sums(
    values: jax.Array, mask: jax.Array, state: jax.Array, n_states: int
) -> tuple[_Sums, jax.Array]:
    """Sums of the rows (n, d) of one model, and the rows' deviations (n, d) from their means."""
    of_state = (state[:, None] == jnp.arange(n_states)) & mask[:, None]  # (n, states)
    count = jnp.sum(of_state, axis=0).astype(values.dtype)
    # From a row's neighbourhood: sums of values far from 0 would lose digits.
    middle = jnp.sum(values, axis=0, where=mask[:, None]) / jnp.sum(count)
    near = jnp.where(mask[:, None], values - middle, 0)
    mean = of_state.astype(values.dtype).T @ near / jnp.maximum(count, 1)[:, None]  # (states, d)
    deviations = jnp.where(mask[:, None], near - mean[state], 0)
    return _Sums(mean + middle, count, deviations.T @ deviations), deviations


def _model(sums: _Sums, deviations: jax.Array, mask: jax.Array, settings: Any) -> _Model:
    """The Gaussians of some sums and of the rows (n, d) that count in them."""
    _, standardise, shrinkage, towards_first = settings
    mean, count, scatter = sums
    n, d = jnp.maximum(jnp.sum(count), 1), scatter.shape[-1]
    variance = jnp.maximum(jnp.diag(scatter) / n, 0)
    # Equal rows differ from their mean by rounding alone, which is no variance.
    least = (4 * jnp.finfo(scatter.dtype).eps * jnp.max(jnp.abs(mean))) ** 2
    scale = jnp.where(variance > least, jnp.sqrt(variance), 1) if standardise else jnp.ones(d)
    covariance = scatter / n / (scale[:, None] * scale)  # (d, d)
    spread = jnp.trace(covariance) / d  # the mean variance
    if shrinkage is None:
        scaled = jnp.where(mask[:, None], deviations / scale, 0)
        shrinkage = ledoit_wolf(scaled, covariance, n)
    valid = jnp.sum(variance) / d > least
    spread = jnp.where(valid, spread, 1)
    share = jnp.maximum(shrinkage, _LEAST_SHRINKAGE)
    covariance = (1 - shrinkage) * covariance + share * spread * jnp.eye(d)
    centres = mean
    if towards_first:
        worth = jnp.where(jnp.arange(len(count)) == 0, 0, towards_first) * (count[0] > 0)
        centres = (count[:, None] * mean + worth[:, None] * mean[0]) / jnp.maximum(
            count + worth, 1
        )[:, None]
    return _Model(centres, count, scale, jnp.linalg.cholesky(covariance), valid)


@functools.partial(jax.jit, static_argnums=(4, 5))
def _leave_out_all(
    values: jax.Array,
    mask: jax.Array,
    state: jax.Array,
    members: jax.Array,
    settings: Any,
    one_by_one: bool,
) -> jax.Array:
    """Distances (models, n) of rows (models, n, d) by their members (models, groups, most)."""

    def of_model(
        values: jax.Array, mask: jax.Array, state: jax.Array, members: jax.Array
    ) -> jax.Array:
        sums, deviations = _sums(values.astype(jnp.float64), mask, state, settings[0])

        def without(own: jax.Array) -> jax.Array:
            return _without(own, sums, deviations, mask, state, settings)

        distances = jax.lax.map(without, members)  # (groups, most)
        # Padding goes to a place behind all rows.
        places = jnp.where(members >= 0, members, len(mask))
        return jnp.zeros(len(mask) + 1).at[places].set(distances)[:-1]

    return rows.each(of_model, one_by_one)(values, mask, state, members)


def _without(
    own: jax.Array,
    sums: _Sums,
    deviations: jax.Array,
    mask: jax.Array,
    state: jax.Array,
    settings: Any,
) -> jax.Array:
    """Distances of the rows `own` (most,) from the Gaussians without them."""
    n_states = settings[0]
    counts = own >= 0
    own = jnp.maximum(own, 0)
    left = jnp.where(counts[:, None], deviations[own], 0)  # (most, d)
    of_state = (state[own][:, None] == jnp.arange(n_states)) & counts[:, None]  # (most, states)
    count = sums.n_clips - jnp.sum(of_state, axis=0)
    # A state's deviations add up to 0, those that stay to minus those that go: its mean moves.
    gone = of_state.astype(left.dtype).T @ left  # (states, d)
    moved = -gone / jnp.maximum(count, 1)[:, None]
    scatter = sums.scatter - left.T @ left - (count[:, None] * moved).T @ moved
    stays = (
        mask & ~jnp.zeros(len(mask) + 1, bool).at[jnp.where(counts, own, len(mask))].set(True)[:-1]
    )
    model = _model(
        _Sums(sums.mean + moved, count, scatter), deviations - moved[state], stays, settings
    )
    # Deviations from the old mean of the row's state, turned into those from each new centre.
    centres = model.mean - sums.mean[state[own]][:, None]  # (most, states, d)
    scaled = ((left[:, None] - centres) / model.scale).reshape(-1, left.shape[-1])
    white = jax.scipy.linalg.solve_triangular(model.root, scaled.T, lower=True)
    squared = jnp.sum(white**2, axis=0).reshape(centres.shape[:-1])  # (most, states)
    nearest = _nearest(squared, model.n_clips)
    return jnp.where(model.valid, nearest, jnp.inf)


def _nearest(squared: jax.Array, count: jax.Array) -> jax.Array:
    """(...) smallest of the squared distances (..., states) from states of `count` clips."""
    scaled = jnp.where(count > 0, squared * count / (count + 1), jnp.inf)
    return jnp.min(scaled, axis=-1)
