"""Sums that Gaussians of several states are computed from: of all rows, and without a group's.

The inner part of `asd_jax.scoring.states`, which says what it is for; float64, under jit.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from asd_jax.scoring.gaussian import ledoit_wolf

# Smallest share of the identity: float64 solves with it, whatever the values.
_LEAST_SHRINKAGE = 1e-12
# Rows up to which their outer products are added one by one.
_FEW_OUTER = 4
# Degrees of freedom, clips less states, below which the covariance is a multiple of the identity.
_FEWEST_FREE = 3
# Of the sample covariance, with a smaller share of which nothing of it is resolved.
_LEAST_SHARE = 1e-6


class StateSettings(NamedTuple):
    """How centres and covariance are made.

    Attributes:
        standardise: whether columns are scaled to a variance of 1 within the states before the
            covariance is shrunk, so that no column counts for more by its unit.
        resolution: with `standardise`, smallest standard deviation that columns are scaled by, in
            their unit: what a measurement does not resolve.
        shrinkage: share of the identity, scaled to the mean variance, in the covariance; None
            for Ledoit and Wolf's.
        towards_first: whether the other centres are moved towards that of state 0, the more, the
            less their distance exceeds what so few clips explain.
        level: standard deviation of what all columns have in common beside their covariance, as
            levels in dB have the gain of a microphone.
    """

    standardise: bool = False
    resolution: float = 0.0
    shrinkage: float | None = None
    towards_first: bool = False
    level: float = 0.0


class Other(NamedTuple):
    """Covariance of other rows, and its part in that of a model.

    As of clips of the noise alone: they say how sound varies together, where few rows do.

    Attributes:
        covariance: (..., d, d), in the units of the values.
        target: (...) its share, scaled to the mean variance, in what the covariance is shrunk
            towards; the rest is the identity.
        own: (...) factor of the rows' covariance before it is shrunk.
        added: (...) factor of the other one, which is added to it; −1 takes it off. What would be
            less than no variance is none.
    """

    covariance: Any
    target: Any
    own: Any
    added: Any


class Siblings(NamedTuple):
    """Covariance of other machines' rows, of which a model with few rows borrows.

    Attributes:
        covariance: (..., d, d), in the units of the values.
        weight: (...) rows that it counts as beside those of the model; 0 borrows nothing. See
            `asd_jax.scoring.siblings`.
    """

    covariance: Any
    weight: Any


def numbers_of(settings: StateSettings) -> Any:
    """Settings as float64 numbers, so that one program serves all; a shrinkage of −1 for None."""
    shrinkage = -1.0 if settings.shrinkage is None else settings.shrinkage
    numbers: Any = map(np.float64, settings._replace(shrinkage=shrinkage))
    return StateSettings(*numbers)


class Rows(NamedTuple):
    """Rows of one model, or with a leading axis of several.

    Attributes:
        values: (n, d).
        fitted: (n,) true where a row is fitted to.
        state: (n,) from 0.
        cell: (n,) from 0, the group and state of a row, as one number.
    """

    values: Any
    fitted: Any
    state: Any
    cell: Any


class Sums(NamedTuple):
    """What a model is computed from.

    Attributes:
        mean: (states, d) mean of each state's rows.
        n_clips: (states,) their number.
        scatter: (d, d) sum of the products of the rows' deviations from their state's mean.
        between: (d, d) the same of the mean deviations of each group, once for each row; None
            where each row is a group, for which it is `scatter`.
        n_cells: () groups, counted once in each of their states.
    """

    mean: jax.Array
    n_clips: jax.Array
    scatter: jax.Array
    between: jax.Array | None
    n_cells: jax.Array


class Model(NamedTuple):
    """A model before its states are compared.

    Attributes:
        mean: (states, d) centres.
        n_clips: (states,).
        scale: (d,) by which deviations are divided.
        inverse: (d, d) lower; its transpose times itself is the inverse covariance of scaled
            deviations.
        expected: ().
        valid: ().
    """

    mean: jax.Array
    n_clips: jax.Array
    scale: jax.Array
    inverse: jax.Array
    expected: jax.Array
    valid: jax.Array


def sums_of(table: Rows, n_states: int, grouped: bool) -> tuple[Sums, jax.Array]:
    """Sums of one model, and the rows' deviations (n, d) from their states' means."""
    values, fitted = table.values.astype(jnp.float64), table.fitted[:, None]
    of_state = (table.state[:, None] == jnp.arange(n_states)) & fitted  # (n, states)
    count = jnp.sum(of_state, axis=0).astype(values.dtype)
    # From a row's neighbourhood: sums of values far from 0 would lose digits.
    middle = jnp.sum(values, axis=0, where=fitted) / jnp.sum(count)
    near = values - middle
    mean = of_state.astype(values.dtype).T @ jnp.where(fitted, near, 0)
    mean /= jnp.maximum(count, 1)[:, None]  # (states, d)
    deviations = near - mean[table.state]
    own = jnp.where(fitted, deviations, 0)
    in_cells = jnp.zeros(len(own)).at[table.cell].add(fitted[:, 0])
    between = None
    if grouped:
        of_cells = jnp.zeros_like(own).at[table.cell].add(own)  # at most as many cells as rows
        means = of_cells / jnp.sqrt(jnp.maximum(in_cells, 1))[:, None]
        between = means.T @ means
    sums = Sums(mean + middle, count, own.T @ own, between, jnp.sum(in_cells > 0))
    return sums, deviations


def model_of(
    sums: Sums,
    deviations: jax.Array,
    fitted: jax.Array,
    settings: Any,
    other: Other | Siblings | None = None,
) -> Model:
    """The Gaussians of some sums and of the rows (n, d) that are fitted in them.

    Args:
        sums: the sums.
        deviations: (n, d) of the rows from their states' means.
        fitted: (n,).
        settings: a `StateSettings` of numbers, from `numbers_of`.
        other: covariance of other rows, or of siblings.
    """
    mean, count, scatter = sums.mean, sums.n_clips, sums.scatter
    n, d = jnp.maximum(jnp.sum(count), 1), scatter.shape[-1]
    variance = jnp.maximum(jnp.diag(scatter) / n, 0)
    # Equal rows differ from their mean by rounding alone, which is no variance.
    least = (4 * jnp.finfo(scatter.dtype).eps * jnp.max(jnp.abs(mean))) ** 2
    varies = variance > jnp.maximum(least, settings.resolution**2)
    steady = jnp.where(settings.resolution > 0, settings.resolution, 1)
    # Two or three clips do not tell which columns vary more, nor how they vary together: of two,
    # Ledoit and Wolf's formula sees one direction, and takes it for the whole.
    few = n - jnp.sum(count > 0) < _FEWEST_FREE
    own = jnp.where(varies, jnp.sqrt(variance), steady)
    scale = jnp.where((settings.standardise > 0) & ~few, own, 1)
    covariance = scatter / n / (scale[:, None] * scale)  # (d, d)
    spread = jnp.trace(covariance) / d  # the mean variance
    scaled = jnp.where(fitted[:, None], deviations / scale, 0)
    chosen = jnp.where(few, 1, ledoit_wolf(scaled, covariance, n))
    shrinkage = jnp.where(settings.shrinkage >= 0, settings.shrinkage, chosen)
    shrinkage = jnp.maximum(shrinkage, _LEAST_SHRINKAGE)
    valid = jnp.sum(variance) / d > least
    spread = jnp.where(valid, spread, 1)
    share, kept, target = 1 - shrinkage, covariance, jnp.eye(d)
    if isinstance(other, Other):
        share *= other.own
        kept, target = _with_other(covariance, other, scale)
    shrunk = (1 - shrinkage) * kept + shrinkage * spread * target
    own_part: Any = 1.0
    if isinstance(other, Siblings):
        free = jnp.maximum(jnp.sum(count) - jnp.sum(count > 0), 0)
        borrows = other.weight > 0
        own_part = jnp.where(borrows, free / jnp.where(borrows, free + other.weight, 1), 1)
        shrunk = own_part * shrunk + (1 - own_part) * other.covariance / (scale[:, None] * scale)
        share *= own_part
        valid |= borrows
    shrunk += settings.level**2 / (scale[:, None] * scale)
    lower = jax.lax.linalg.cholesky(shrunk, symmetrize_input=False)
    inverse = jax.scipy.linalg.solve_triangular(lower, jnp.eye(d), lower=True)
    # tr C⁻¹ S from C = (1 − α) S + α t I + L, which needs no further product of matrices.
    rest = d - shrinkage * spread * jnp.sum(inverse**2)
    rest -= settings.level**2 * jnp.sum((inverse @ (1 / scale)) ** 2)
    within = jax.lax.cond(
        (share > _LEAST_SHARE) & (other is None),
        lambda: rest / jnp.maximum(share, _LEAST_SHARE),
        lambda: jnp.sum((inverse @ covariance) * inverse),  # all but shrunk away, or another C
    )
    groups = within
    if sums.between is not None:
        groups = jnp.sum((inverse @ (sums.between / n / (scale[:, None] * scale))) * inverse)
    expected = _expected(sums, groups, jnp.maximum(within - groups, 0), share)
    if isinstance(other, Siblings):
        # By the siblings' part a clip is as far as its covariance says, and its centre's error.
        whole = d - settings.level**2 * jnp.sum((inverse @ (1 / scale)) ** 2)
        expected = own_part * expected + (1 - own_part) * whole * (1 + jnp.sum(count > 0) / n)
    nearer = _towards_first(mean, count, inverse / scale, expected)
    centres = jnp.where(settings.towards_first, nearer, mean)
    valid &= jnp.all(jnp.isfinite(inverse))
    return Model(centres, count, scale, inverse, expected, valid)


def _with_other(
    covariance: jax.Array, other: Other, scale: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """The covariance (d, d) of scaled rows with another's part, and what it is shrunk towards."""
    theirs = other.covariance / (scale[:, None] * scale)
    size = jnp.trace(theirs) / len(theirs)
    share = jnp.where(size > 0, other.target, 0)
    target = share * theirs / jnp.where(size > 0, size, 1) + (1 - share) * jnp.eye(len(theirs))

    def mixed() -> jax.Array:
        values, vectors = jnp.linalg.eigh(other.own * covariance + other.added * theirs)
        return (vectors * jnp.maximum(values, 0)) @ vectors.T

    return jax.lax.cond(other.added != 0, mixed, lambda: other.own * covariance), target


def _towards_first(
    mean: jax.Array, count: jax.Array, whitening: jax.Array, expected: jax.Array
) -> jax.Array:
    """Centres (states, d), moved towards the first as James and Stein's estimator moves them.

    Of equal states, the squared distance of two means is about 1 / n₁ + 1 / n₂ times that which is
    expected of a clip; the share of it that this explains is taken away.

    Source: James and Stein 1961, Estimation with quadratic loss, its positive part.
    """
    apart = jnp.sum(((mean - mean[0]) @ whitening.T) ** 2, axis=-1)  # (states,)
    explained = (1 / jnp.maximum(count, 1) + 1 / jnp.maximum(count[0], 1)) * (expected - 2)
    kept = jnp.where(apart > 0, jnp.maximum(1 - explained / jnp.where(apart > 0, apart, 1), 0), 1)
    kept = jnp.where((jnp.arange(len(mean)) > 0) & (count[0] > 0), jnp.minimum(kept, 1), 1)
    return jnp.where(kept[:, None] < 1, mean[0] + kept[:, None] * (mean - mean[0]), mean)


def _expected(sums: Sums, groups: jax.Array, within: jax.Array, share: jax.Array) -> jax.Array:
    """Mean distance of clips whose group is left out, if all groups have the mean leverage.

    With a group's part c x xᵀ taken out of a covariance C, x is further by 1 / (1 − c xᵀ C⁻¹ x);
    and the mean of the other groups is further from it than the mean of all.

    Args:
        sums: of the model.
        groups: () mean distance of the means of groups that the model is fitted to.
        within: () mean distance of their clips from these means.
        share: () of the sample covariance in the shrunk one.
    """
    n, n_states = jnp.sum(sums.n_clips), jnp.maximum(jnp.sum(sums.n_clips > 0), 1)

    def left_out(mean: jax.Array, parts: jax.Array) -> jax.Array:
        """The mean distance if one of so many parts is not in the covariance."""
        leverage = share * mean / jnp.maximum(parts, 1)
        return mean / jnp.maximum(1 - leverage, 1 / (n + 1))

    others = jnp.maximum(sums.n_cells - n_states, 1)
    moved = (sums.n_cells / others) ** 2
    return moved * left_out(groups, sums.n_cells) + left_out(within, n - sums.n_cells)


def without(
    own: jax.Array, sums: Sums, deviations: jax.Array, table: Rows
) -> tuple[Sums, jax.Array, jax.Array]:
    """Takes rows out of the sums.

    Args:
        own: (most,) rows of one group; −1 for padding.
        sums: of all rows.
        deviations: (n, d) of the rows from their states' means.
        table: the rows.

    Returns:
        The sums of the other rows, their deviations (n, d), and which are fitted (n,).
    """
    n, n_states = len(table.fitted), len(sums.n_clips)
    counts = own >= 0
    stays = table.fitted & ~jnp.zeros(n + 1, bool).at[jnp.where(counts, own, n)].set(True)[:-1]
    own = jnp.maximum(own, 0)
    goes = (counts & table.fitted[own])[:, None]
    left = jnp.where(goes, deviations[own], 0)  # (most, d)
    of_state = (table.state[own][:, None] == jnp.arange(n_states)) & goes  # (most, states)
    gone_count = jnp.sum(of_state, axis=0)
    count = sums.n_clips - gone_count
    # A state's deviations add up to 0, those that stay to minus those that go: its mean moves.
    gone = of_state.astype(left.dtype).T @ left  # (states, d)
    moved = -gone / jnp.maximum(count, 1)[:, None]
    of_moved = _outer_sum(count[:, None] * moved, moved)
    between = None
    if sums.between is not None:
        of_group = _outer_sum(gone, gone / jnp.maximum(gone_count, 1)[:, None])
        between = sums.between - of_group - of_moved
    others = Sums(
        sums.mean + moved,
        count,
        sums.scatter - _outer_sum(left, left) - of_moved,
        between,
        sums.n_cells - jnp.sum(gone_count > 0),
    )
    return others, deviations - moved[table.state], stays


def _outer_sum(left: jax.Array, right: jax.Array) -> jax.Array:
    """Sum (d, d) of the outer products of rows (m, d)."""
    if len(left) > _FEW_OUTER:
        return left.T @ right
    # XLA calls a product of matrices for these on a CPU, at ten times the cost of writing them.
    return sum(own[:, None] * other for own, other in zip(left, right, strict=True))


def comparable(squared: jax.Array, count: jax.Array) -> jax.Array:
    """Squared distances (..., states) from means of `count` (states,) clips, brought to one scale.

    A new clip is further by 1 + 1 / n from the mean of n clips than from the true centre. All are
    scaled to the state of the most clips, so that one state has its plain distance. Infinite for
    a state of none.
    """
    of_new = 1 + 1 / jnp.maximum(count, 1)
    scaled = squared * jnp.min(of_new, axis=-1, keepdims=True) / of_new
    return jnp.where(count > 0, scaled, jnp.inf)
