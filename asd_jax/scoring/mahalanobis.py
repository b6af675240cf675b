"""Selective Mahalanobis score of reconstruction residuals (official baseline since 2023).

A clip's score is δᵀ Σ⁻¹ δ for its mean residual δ, with Σ the covariance of the training
residuals around their own mean: that of the source or of the target clips, whichever gives the
smaller value. δ itself is not centred.

The official program works on blocks of 128 values: a stacked vector of 5 frames × 128 mels
counts as five samples of one frame each, in Σ and in δ. Reshape residuals to (..., 128) to do
the same. It divides the scatter of those samples by the number of stacked vectors minus one, not
by that of samples, so its scores are a fifth of those here. This changes no ranking and no
decision at a quantile of the training scores.
"""

import warnings
from collections.abc import Iterable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from asd_jax.errors import UserError

# float32 residuals do not resolve variances below this share of the largest; smaller ones are
# raised to it. A well-conditioned covariance stays as it is.
_VARIANCE_FLOOR = 1e-6


class Moments(NamedTuple):
    """Sample moments of residual vectors, a `pooling.Pool`.

    Attributes:
        count: (...) number of vectors.
        mean: (..., dim).
        scatter: (..., dim, dim), sum of outer products of the deviations from the mean.
    """

    count: Any
    mean: Any
    scatter: Any

    @classmethod
    def merge(cls, parts: Iterable["Moments"]) -> "Moments":
        """Moments of the vectors of all parts, in float64 NumPy.

        The official program instead centres the source and the target vectors of every shuffled
        batch of 256 on their own means, and so leaves out the scatter between those means: at
        1 % target vectors that shrinks the target covariance by about a third, depending on the
        batches.

        Args:
            parts: moments with the same leading axes (...); at least one.

        Raises:
            UserError: there is no part.

        Examples:
            >>> import numpy as np
            >>> parts = [np.array([[0.0], [2.0]]), np.array([[7.0]])]
            >>> count, mean, scatter = Moments.merge(map(moments, parts))
            >>> float(count), mean.tolist(), scatter.tolist()
            (3.0, [3.0], [[26.0]])
        """
        total = None
        for part in parts:
            count, mean, scatter = (np.asarray(x, np.float64) for x in part)
            if total is None:
                total = cls(count, mean, scatter)
                continue
            both = total.count + count
            share = count / np.maximum(both, 1)
            # Around the common mean: the scatter within each part, and that between their means.
            shift = mean - total.mean  # (..., dim)
            between = shift[..., :, None] * shift[..., None, :]
            scatter = total.scatter + scatter + between * (total.count * share)[..., None, None]
            total = cls(both, total.mean + shift * share[..., None], scatter)
        if total is None:
            raise UserError("no residuals to estimate a covariance from")
        return total

    @property
    def value(self) -> "Moments":
        """The moments themselves."""
        return self


def moments(residuals: jax.Array, mask: jax.Array | None = None) -> Moments:
    """Moments of one batch of residual vectors, for `Moments.merge` and `precision`; jit-able.

    Args:
        residuals: (..., vectors, dim), input minus reconstruction.
        mask: (..., vectors), True for the vectors that count; None for all of them.

    Returns:
        Moments with the leading axes (...), in the residuals' dtype.

    Examples:
        >>> import numpy as np
        >>> count, mean, scatter = moments(np.array([[0.0, 0.0], [2.0, 4.0]]))
        >>> float(count), mean.tolist(), scatter.tolist()
        (2.0, [1.0, 2.0], [[2.0, 4.0], [4.0, 8.0]])
    """
    if mask is None:
        mask = jnp.ones(residuals.shape[:-1], bool)
    weight = mask.astype(residuals.dtype)[..., None]  # (..., vectors, 1)
    count = jnp.sum(weight, axis=-2)  # (..., 1)
    mean = jnp.sum(jnp.where(weight > 0, residuals, 0), axis=-2) / jnp.maximum(count, 1)
    centred = jnp.where(weight > 0, residuals - mean[..., None, :], 0)
    scatter = jnp.einsum("...vi,...vj->...ij", centred, centred, precision="highest")
    return Moments(count[..., 0], mean, scatter)


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

    Examples:
        >>> import numpy as np
        >>> precision(Moments(3, np.zeros(2), np.diag([2.0, 8.0]))).tolist()
        [[1.0, 0.0], [0.0, 0.25]]
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

    Examples:
        >>> import numpy as np
        >>> float(mahalanobis(np.array([3.0, 4.0]), np.diag([1.0, 0.25])))
        13.0
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
            distance is the source's.

    Returns:
        (...) scores, larger is more anomalous.

    Examples:
        >>> import numpy as np
        >>> float(selective(np.array([3.0, 4.0]), np.eye(2), np.eye(2) / 5))
        5.0
    """
    source = mahalanobis(delta, source_precision)
    if target_precision is None:
        return source
    return jnp.minimum(source, mahalanobis(delta, target_precision))
