"""Selective Mahalanobis score of reconstruction residuals (official baseline since 2023).

A clip's score is δᵀ Σ⁻¹ δ for its mean residual δ, with Σ the covariance of the training
residuals around their own mean, of the source or the target clips, whichever gives the smaller
value. δ itself is not centred.

The official program works on blocks of 128 values: a stacked vector of 5 frames × 128 mels
counts as five samples of one frame each, in Σ and in δ. Reshape residuals to (..., 128) to do
the same. It divides the scatter of those samples by the number of stacked vectors minus one,
not of samples, so its scores are a fifth of the ones here, which changes no ranking and no
decision at a quantile of the training scores.
"""

import warnings
from collections.abc import Iterable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from asd_jax.errors import UserError

# Directions with less than this share of the largest variance are below what float32
# residuals resolve; their variance is raised to it, which leaves a sound covariance as it is.
_VARIANCE_FLOOR = 1e-6


class Moments(NamedTuple):
    """Sample moments of residual vectors.

    Attributes:
        count: (...) number of vectors.
        mean: (..., dim).
        scatter: (..., dim, dim), sum of outer products of the deviations from the mean.
    """

    count: Any
    mean: Any
    scatter: Any


def moments(residuals: jax.Array, mask: jax.Array | None = None) -> Moments:
    """Moments of one batch of residual vectors, for `merge` and `precision`; jit-able.

    Args:
        residuals: (..., vectors, dim), input minus reconstruction.
        mask: (..., vectors), True for the vectors that count; None for all of them.

    Returns:
        Moments with the leading axes (...), in the residuals' dtype.
    """
    if mask is None:
        mask = jnp.ones(residuals.shape[:-1], bool)
    weight = mask.astype(residuals.dtype)[..., None]
    count = jnp.sum(weight, axis=-2)
    mean = jnp.sum(jnp.where(weight > 0, residuals, 0), axis=-2) / jnp.maximum(count, 1)
    centred = jnp.where(weight > 0, residuals - mean[..., None, :], 0)
    scatter = jnp.einsum("...vi,...vj->...ij", centred, centred, precision="highest")
    return Moments(count[..., 0], mean, scatter)


def merge(batches: Iterable[Moments]) -> Moments:
    """Moments of all batches together, in float64 NumPy.

    The official program instead centres the source and the target vectors of every shuffled
    batch of 256 on their own means, and so leaves out the scatter between those means: at 1 %
    target vectors that shrinks the target covariance by about a third, by chance of the batches.

    Args:
        batches: moments without leading axes; at least one.

    Returns:
        The moments, without leading axes.
    """
    total = None
    for batch in batches:
        count, mean, scatter = (np.asarray(x, np.float64) for x in batch)
        if total is None:
            total = Moments(count, mean, scatter)
            continue
        both = total.count + count
        if both == 0:
            continue
        shift = mean - total.mean
        scatter = total.scatter + scatter
        scatter = scatter + np.outer(shift, shift) * (total.count * count / both)
        total = Moments(both, total.mean + shift * (count / both), scatter)
    if total is None:
        raise UserError("no residuals to estimate a covariance from")
    return total


def precision(moments: Moments) -> np.ndarray:
    """Inverse of the sample covariance, by eigenvalues in float64.

    A singular covariance (fewer vectors than dimensions, dead mel bands) has no inverse; its
    smallest variances are raised to 1e-6 of the largest. A pseudo-inverse would instead give
    no distance at all to what never occurred in training.

    Args:
        moments: without leading axes, of at least two vectors.

    Returns:
        (dim, dim), float64, symmetric.

    Raises:
        UserError: fewer than two vectors, residuals that are not finite, or that never vary.
    """
    count, _, scatter = (np.asarray(x, np.float64) for x in moments)
    if count < 2:
        raise UserError(f"a covariance needs at least 2 residual vectors, got {int(count)}")
    if not np.isfinite(scatter).all():
        raise UserError("cannot estimate a covariance: residuals are not finite")
    variances, directions = np.linalg.eigh(scatter / (count - 1))
    floor = _VARIANCE_FLOOR * variances[-1]
    if floor <= 0:
        raise UserError("cannot estimate a covariance: the residuals are all the same")
    raised = int((variances < floor).sum())
    if raised:
        warnings.warn(
            f"the covariance of {int(count)} residual vectors is singular: {raised} of "
            f"{len(variances)} variances are raised to {_VARIANCE_FLOOR:g} of the largest",
            stacklevel=2,
        )
    return (directions / np.maximum(variances, floor)) @ directions.T


def mahalanobis(delta: jax.Array, precision: jax.Array) -> jax.Array:
    """Squared Mahalanobis distance of mean residuals from zero; jit-able.

    Args:
        delta: (..., dim), a clip's residual averaged over its frames.
        precision: (..., dim, dim), its leading axes broadcast against those of `delta`.

    Returns:
        (...) distances.
    """
    delta, precision = jnp.asarray(delta), jnp.asarray(precision)
    return jnp.einsum("...i,...ij,...j->...", delta, precision, delta, precision="highest")


def selective(
    delta: jax.Array, source_precision: jax.Array, target_precision: jax.Array | None = None
) -> jax.Array:
    """The smaller of the distances under the source's and the target's covariance; jit-able.

    Args:
        delta: (..., dim), a clip's residual averaged over its frames.
        source_precision: (..., dim, dim).
        target_precision: the same, or None where there are no target clips (2020): then the
            source's alone decides.

    Returns:
        (...) scores, larger is more anomalous.
    """
    source = mahalanobis(delta, source_precision)
    if target_precision is None:
        return source
    return jnp.minimum(source, mahalanobis(delta, target_precision))
