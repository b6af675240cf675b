"""Gaussian mixtures with full covariances, fitted to the rows of many models at once.

Expectation maximisation, its start, its stop and its result are those of scikit-learn's
`GaussianMixture`; `fit_mixture` lists the differences.
"""

import functools
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from asd_jax.errors import UserError
from asd_jax.scoring import rows

# The defaults of scikit-learn's KMeans.
_KMEANS_ITERATIONS = 300
_KMEANS_TOLERANCE = 1e-4

# Added to the diagonals of the covariances, as by default in scikit-learn; and the share of the
# diagonal's sum that is added at least, as smaller variances are rounding of float64.
_FLOOR = 1e-6
_RESOLVED = 10 * np.finfo(np.float64).eps
# Weight of components that have no rows, see `fit_mixture`.
_EMPTY = 1e-12


class GaussianMixture(NamedTuple):
    """Mixtures of k Gaussians in d dimensions.

    Attributes:
        weights: (..., k), positive, of sum 1.
        means: (..., k, d).
        precisions_cholesky: (..., k, d, d), upper triangular U with U Uᵀ the inverse covariance.
    """

    weights: Any
    means: Any
    precisions_cholesky: Any


class MixtureFit(NamedTuple):
    """Likelihood and convergence of the fits.

    Attributes:
        log_likelihood: (...), mean over the rows that count, before the last update of the
            parameters (scikit-learn's `lower_bound_`).
        n_iter: (...), iterations of the best restart.
        converged: (...), true if it stopped by `tol`, false if by `max_iter`.
    """

    log_likelihood: Any
    n_iter: Any
    converged: Any


_State = tuple[GaussianMixture, MixtureFit]


def fit_mixture(
    values: Any,
    mask: Any = None,
    *,
    n_components: int = 3,
    seed: Any = 0,
    restarts: int = 1,
    max_iter: int = 100,
    tol: float = 1e-3,
    start: GaussianMixture | None = None,
) -> tuple[GaussianMixture, MixtureFit]:
    """Fits a mixture for each of the leading axes, by expectation maximisation in float64.

    The start is k-means from a greedy k-means++ draw, as by default in scikit-learn; of several
    restarts the one with the largest likelihood is taken. A model depends only on its own rows
    and seed: fitted beside others, or with more rows that do not count, it is the same to
    rounding.

    Unlike scikit-learn, few or equal rows raise no error. With fewer distinct rows than
    components, the superfluous components are empty: their weight is below 1e-14 and their
    covariance is 1e-6 of the identity, around the mean of all rows, so that they add nothing to
    any density. A cluster that k-means empties stays empty. The 1e-6 added to the diagonals of
    covariances, as in scikit-learn, is raised to the resolution of float64 where variances exceed
    1e6.

    Args:
        values: (..., n, d), finite where they count.
        mask: (..., n), true where a row counts; None for all of them.
        n_components: k.
        seed: int, or (...) ints, of the k-means++ draws.
        restarts: number of starts drawn.
        max_iter: most iterations of expectation maximisation.
        tol: it stops when the mean log-likelihood changes by less.
        start: mixtures (...) to start from instead of k-means; then there is no restart.

    Returns:
        The mixtures, and the likelihood and convergence of their fits, as NumPy arrays, float64.

    Raises:
        UserError: wrong shapes or settings, values that are not finite, a model without rows, a
            likelihood that is not finite.

    Examples:
        Two clusters of 100 and 300 rows.

        >>> import numpy as np
        >>> rng = np.random.default_rng(0)
        >>> values = np.concatenate([rng.normal(-9, 1, (100, 1)), rng.normal(9, 1, (300, 1))])
        >>> mixture, fit = fit_mixture(values, n_components=2)
        >>> sorted(mixture.weights.round(3).tolist()), bool(fit.converged)
        ([0.25, 0.75], True)
    """
    if n_components < 1 or restarts < 1 or max_iter < 1:
        raise UserError("a mixture needs at least one component, one restart and one iteration")
    values, mask = rows.checked(values, mask)
    leading, d = values.shape[:-2], values.shape[-1]
    seeds = np.broadcast_to(np.asarray(seed, np.uint32), leading).ravel()
    if start is not None:
        shapes = ((n_components,), (n_components, d), (n_components, d, d))
        parts = [np.asarray(part, np.float64) for part in start]
        if [part.shape for part in parts] != [leading + shape for shape in shapes]:
            raise UserError(f"the start is not of {n_components} components in {d} dimensions")
        start = GaussianMixture(
            *(part.reshape(-1, *s) for part, s in zip(parts, shapes, strict=True))
        )
    with rows.float64():
        fitted = _fit_all(
            rows.flat(values, 2),
            rows.flat(mask, 1),
            seeds,
            start,
            float(tol),
            n_components=n_components,
            restarts=restarts if start is None else 1,
            max_iter=max_iter,
            one_by_one=rows.in_turn(),
        )
        mixture, fit = jax.tree.map(lambda x: np.asarray(x).reshape(leading + x.shape[1:]), fitted)
    if not np.isfinite(fit.log_likelihood).all():
        where = tuple(int(i) for i in np.argwhere(~np.isfinite(fit.log_likelihood))[0])
        raise UserError(f"mixture {where} of {leading} did not stay finite; scale its rows down")
    return mixture, fit


def log_likelihood(mixture: GaussianMixture, values: jax.Array) -> jax.Array:
    """Logarithm of the mixtures' density; jit-able, in the precision of its arguments.

    In float32 the error is about 1e-3 where standard deviations are 1e-3 of the values; rounding
    of the values themselves causes as much.

    Args:
        mixture: with any leading axes (...).
        values: (..., n, d); the leading axes are broadcast.

    Returns:
        (..., n), scikit-learn's `score_samples`.

    Examples:
        The standard normal density at 0 is 1 / √(2π).

        >>> import numpy as np
        >>> normal = GaussianMixture(np.ones(1), np.zeros((1, 1)), np.ones((1, 1, 1)))
        >>> round(float(np.exp(log_likelihood(normal, np.zeros((1, 1))))[0]), 4)
        0.3989
    """

    def density(*arguments: jax.Array) -> jax.Array:
        *parts, values = arguments
        return jax.nn.logsumexp(_log_densities(GaussianMixture(*parts), values), axis=-1)

    signature = "(k),(k,d),(k,d,d),(n,d)->(n)"
    return jnp.vectorize(density, signature=signature)(*mixture, values)


def component_log_densities(mixture: GaussianMixture, values: jax.Array) -> jax.Array:
    """Logarithms of the components' densities, without their weights; jit-able.

    Args:
        mixture: with any leading axes (...).
        values: (..., n, d); the leading axes are broadcast.

    Returns:
        (..., n, k); −∞ for components that are empty.

    Examples:
        >>> import numpy as np
        >>> one = np.ones(2)
        >>> pair = GaussianMixture(one / 2, np.array([[0.0], [3.0]]), one.reshape(2, 1, 1))
        >>> [round(float(each), 2) for each in component_log_densities(pair, np.zeros((1, 1)))[0]]
        [-0.92, -5.42]
    """

    def densities(*arguments: jax.Array) -> jax.Array:
        (weights, *parts), values = arguments[:-1], arguments[-1]
        found = _log_densities(GaussianMixture(jnp.ones_like(weights), *parts), values)
        return jnp.where(weights < _EMPTY, -jnp.inf, found)

    signature = "(k),(k,d),(k,d,d),(n,d)->(n,k)"
    return jnp.vectorize(densities, signature=signature)(*mixture, values)


def _log_densities(mixture: GaussianMixture, values: jax.Array) -> jax.Array:
    """Weighted log-densities (n, k) of rows (n, d) under one mixture."""
    weights, means, precisions = mixture
    # The mean is subtracted before the product: that of each alone would magnify its rounding.
    squared = [  # (n,) for each component
        jnp.sum(jnp.matmul(values - mean, precision, precision="highest") ** 2, axis=-1)
        for mean, precision in zip(means, precisions, strict=True)
    ]
    log_determinant = jnp.sum(jnp.log(jnp.diagonal(precisions, axis1=-2, axis2=-1)), axis=-1)
    constant = jnp.log(weights) + log_determinant - values.shape[-1] / 2 * math.log(2 * math.pi)
    return constant - jnp.stack(squared, axis=-1) / 2


@functools.partial(jax.jit, static_argnames=("n_components", "restarts", "max_iter", "one_by_one"))
def _fit_all(
    values: jax.Array,
    mask: jax.Array,
    seeds: jax.Array,
    start: GaussianMixture | None,
    tol: float,
    *,
    n_components: int,
    restarts: int,
    max_iter: int,
    one_by_one: bool,
) -> tuple[GaussianMixture, MixtureFit]:
    """Fits of (models, n, d), one after another or all until the last has converged."""

    def fit(
        values: jax.Array, mask: jax.Array, seed: jax.Array, start: GaussianMixture | None
    ) -> tuple[GaussianMixture, MixtureFit]:
        values = values.astype(jnp.float64)
        # Centred rows have the most exact products; the means are moved back at the end.
        centre = rows.mean(values, mask)
        values = rows.centred(values, mask, centre)

        def run(restart: jax.Array) -> _State:
            if start is not None:
                first = start._replace(means=start.means - centre)
            else:
                key = jax.random.fold_in(jax.random.key(seed), restart)
                centres = _plus_plus(values, mask, key, n_components)
                first = _maximise(values, _kmeans(values, mask, centres))
            return _em(values, mask, first, tol, max_iter)

        runs = rows.each(run, one_by_one)(jnp.arange(restarts))
        _, fits = runs
        best = jnp.argmax(fits.log_likelihood)
        mixture, fit = jax.tree.map(lambda x: x[best], runs)
        return mixture._replace(means=mixture.means + centre), fit

    return rows.each(fit, one_by_one)(values, mask, seeds, start)


def _em(
    values: jax.Array, mask: jax.Array, mixture: GaussianMixture, tol: float, max_iter: int
) -> _State:
    """Expectation maximisation of one mixture, starting from `mixture`."""

    def going(state: _State) -> jax.Array:
        _, fit = state
        return (fit.n_iter < max_iter) & ~fit.converged

    def step(state: _State) -> _State:
        mixture, last = state
        # Expectation: each component's share in each row, at the mixture so far.
        densities = _log_densities(mixture, values)  # (n, k)
        total = jax.nn.logsumexp(densities, axis=-1)  # (n,)
        share = jnp.where(mask[:, None], jnp.exp(densities - total[:, None]), 0)
        bound = jnp.sum(total, where=mask) / jnp.sum(mask)
        fit = MixtureFit(bound, last.n_iter + 1, jnp.abs(bound - last.log_likelihood) < tol)
        return _maximise(values, share), fit

    return jax.lax.while_loop(going, step, (mixture, MixtureFit(-jnp.inf, 0, False)))


def _maximise(values: jax.Array, share: jax.Array) -> GaussianMixture:
    """The mixture of largest likelihood for the components' shares (n, k) in the rows."""
    (n, d), k = values.shape, share.shape[-1]
    # The small number keeps empty components from a division by zero, as in scikit-learn.
    count = jnp.sum(share, axis=0) + 10 * jnp.finfo(share.dtype).eps  # (k,)
    means = (share.T @ values) / count[:, None]  # (k, d)
    # Deviations sum to zero, so that the other factor need not be centred; and one product for
    # all components, of transposed rows, takes half the time on CPUs of a product for each.
    deviations = (values.T - means[..., None]) * share.T[:, None]  # (k, d, n)
    scatters = (deviations.reshape(k * d, n) @ values).reshape(k, d, d)
    covariances = scatters / count[:, None, None]
    floor = jnp.maximum(_FLOOR, _RESOLVED * jnp.trace(covariances, axis1=-2, axis2=-1))  # (k,)
    covariances += floor[:, None, None] * jnp.eye(d)
    # Σ = L Lᵀ, so Σ⁻¹ = U Uᵀ with the upper triangular U = L⁻ᵀ.
    # One by one on CPUs: in a batch, fits of several Python threads would wait for one another.
    factor = functools.partial(jax.lax.linalg.cholesky, symmetrize_input=False)
    factors = rows.each(factor, rows.in_turn())(covariances)  # (k, d, d)
    inverse = _inverse_triangular(factors)
    return GaussianMixture(count / jnp.sum(count), means, jnp.swapaxes(inverse, -1, -2))


def _inverse_triangular(lower: jax.Array) -> jax.Array:
    """Inverse of lower triangular matrices (..., d, d), row by row.

    `triangular_solve` takes twice the time on CPUs, and many times as long beside other programs:
    BLAS shares these small products among threads, which wait for one another.
    """

    def step(i: jax.Array, inverse: jax.Array) -> jax.Array:
        # Row i of L L⁻¹ = 1, solved for row i of L⁻¹; the rows below are still zero.
        row = jax.lax.dynamic_index_in_dim(lower, i, axis=-2)
        pivot = jax.lax.dynamic_index_in_dim(row, i, axis=-1)
        unit = (jnp.arange(lower.shape[-1]) == i).astype(lower.dtype)
        row = (unit - row @ inverse) / pivot
        return jax.lax.dynamic_update_slice_in_dim(inverse, row, i, axis=-2)

    return jax.lax.fori_loop(0, lower.shape[-1], step, jnp.zeros_like(lower))


def _plus_plus(values: jax.Array, mask: jax.Array, key: jax.Array, k: int) -> jax.Array:
    """Chooses k rows as centres, by the greedy k-means++ draw of scikit-learn.

    A draw is a point on the cumulative sum of the rows' weights, so rows that do not count
    change no draw. When every row is a centre already, all rows are equally likely.
    """
    trials = 2 + int(math.log(k))  # candidates for each centre, as in scikit-learn
    alike = mask.astype(values.dtype)  # (n,), equal weights

    def draw(i: int, weights: jax.Array, shape: int) -> jax.Array:
        """Draws row numbers (shape,) with probabilities proportional to weights (n,)."""
        cumulative = jnp.cumsum(weights)
        # In (0, 1], so that no row without weight is ever drawn.
        uniform = 1 - jax.random.uniform(jax.random.fold_in(key, i), (shape, 1), values.dtype)
        return jnp.sum(cumulative < uniform * cumulative[-1], axis=-1)

    def squared_distances(chosen: jax.Array) -> jax.Array:  # (c,) → (c, n)
        return jnp.sum((values - values[chosen][:, None]) ** 2, axis=-1) * alike

    chosen = [draw(0, alike, 1)[0]]
    nearest = squared_distances(chosen[0][None])[0]  # (n,), from the nearest centre so far
    for i in range(1, k):
        candidates = draw(i, jnp.where(jnp.any(nearest > 0), nearest, alike), trials)
        distances = jnp.minimum(nearest, squared_distances(candidates))  # (trials, n)
        best = jnp.argmin(jnp.sum(distances, axis=-1))
        chosen.append(candidates[best])
        nearest = distances[best]
    return values[jnp.stack(chosen)]


def _kmeans(values: jax.Array, mask: jax.Array, centres: jax.Array) -> jax.Array:
    """Clusters (n, k) of rows (n, d) by Lloyd's iterations, 1 where a row is of a cluster."""
    components = jnp.arange(len(centres))
    variance = jnp.sum(values**2) / jnp.sum(mask) / values.shape[-1]

    def assign(centres: jax.Array) -> jax.Array:
        """The nearest centre (n,) of each row; |x|² is the same for all centres."""
        return jnp.argmin(jnp.sum(centres**2, axis=-1) - 2 * values @ centres.T, axis=-1)

    def one_hot(labels: jax.Array) -> jax.Array:  # (n,) → (n, k)
        return ((labels[:, None] == components) & mask[:, None]).astype(values.dtype)

    def going(state: tuple[jax.Array, ...]) -> jax.Array:
        _, _, moving, i = state
        return moving & (i < _KMEANS_ITERATIONS)

    def step(state: tuple[jax.Array, ...]) -> tuple[jax.Array, ...]:
        centres, last, _, i = state
        labels = assign(centres)
        share = one_hot(labels)
        count = jnp.sum(share, axis=0)[:, None]  # (k, 1)
        # An empty cluster keeps its centre.
        moved = jnp.where(count > 0, share.T @ values / jnp.maximum(count, 1), centres)
        # Stops when no row changes its cluster, or the centres hardly move.
        shift = jnp.sum((moved - centres) ** 2)
        moving = jnp.any((labels != last) & mask) & (shift > _KMEANS_TOLERANCE * variance)
        return moved, labels, moving, i + 1

    first: tuple[Any, ...] = (centres, jnp.full(len(values), -1), True, 0)
    return one_hot(assign(jax.lax.while_loop(going, step, first)[0]))
