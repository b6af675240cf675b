"""Mahalanobis distance of embeddings from Gaussians of normal clips, one for each of many models.

Embeddings have more columns than some machines have clips, so covariances are shrunk towards a
multiple of the identity. Ledoit and Wolf's formula gives the amount: next to none for many clips,
nearly all for a handful. `asd_jax.scoring.mahalanobis` is the challenge baseline's distance of
reconstruction residuals, without centring or shrinkage.

Source: Ledoit and Wolf 2004, A well-conditioned estimator for large-dimensional covariance
matrices.
"""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from asd_jax.errors import UserError
from asd_jax.scoring import rows

# Variances are raised to this share of the largest; float32 does not resolve smaller ones.
_VARIANCE_FLOOR = 1e-6


class Gaussian(NamedTuple):
    """Gaussians in d dimensions.

    Attributes:
        mean: (..., d).
        whitening: (..., d, d), W with W Wᵀ the inverse covariance.
        valid: (...), false for a model of fewer than two distinct rows, whose distances are
            infinite.
    """

    mean: Any
    whitening: Any
    valid: Any


def fit_gaussian(values: Any, mask: Any = None, *, shrinkage: float | None = None) -> Gaussian:
    """Fits mean and covariance to the rows of each of the leading axes, in float64.

    The covariance has n in its denominator, as in `sklearn.covariance`. The detectors fit both
    domains by `fit_domains`; this function is for clips of one domain.

    Args:
        values: (..., n, d), finite where they count.
        mask: (..., n), true where a row counts; None for all of them.
        shrinkage: share of the identity, scaled to the mean variance, in the covariance; None
            for Ledoit and Wolf's.

    Returns:
        The Gaussians as NumPy arrays, float64, all valid.

    Raises:
        UserError: wrong shapes, values that are not finite, a model without two distinct rows,
            a shrinkage outside [0, 1].

    Examples:
        >>> import numpy as np
        >>> values = np.random.default_rng(0).normal(size=(500, 2)) * [1.0, 10.0]
        >>> gaussian = fit_gaussian(values)
        >>> gaussian.mean.shape, gaussian.whitening.shape, bool(gaussian.valid)
        ((2,), (2, 2), True)
    """
    gaussian = _fitted(*rows.checked(values, mask), shrinkage)
    _check_valid(gaussian.valid, "rows")
    return gaussian


def fit_domains(values: Any, mask: Any, target: Any) -> tuple[Gaussian, Gaussian]:
    """Fits a Gaussian to the source and one to the target clips of each of the leading axes.

    A domain with fewer than two distinct clips has no Gaussian of its own: `valid` is false
    there, and `selective_distance` uses the other domain.

    Args:
        values: (..., n, d), finite where they count.
        mask: (..., n), true where a row counts; None for all of them.
        target: (..., n), true where a row is of the target domain.

    Returns:
        The Gaussians of the source and of the target domain.

    Raises:
        UserError: as `fit_gaussian`, for models where neither domain has two distinct clips.

    Examples:
        One clip of the target domain is too few for a Gaussian of its own.

        >>> import numpy as np
        >>> values = np.random.default_rng(0).normal(size=(50, 2))
        >>> source, target = fit_domains(values, None, np.arange(50) == 0)
        >>> bool(source.valid), bool(target.valid)
        (True, False)
    """
    values, mask = rows.checked(values, mask)
    is_target = np.broadcast_to(np.asarray(target, bool), mask.shape)
    of_source = _fitted(values, mask & ~is_target)
    of_target = _fitted(values, mask & is_target)
    _check_valid(of_source.valid | of_target.valid, "clips of one domain")
    return of_source, of_target


def distance(gaussian: Gaussian, values: jax.Array) -> jax.Array:
    """Squared Mahalanobis distances; jit-able, in the precision of its arguments.

    Args:
        gaussian: with any leading axes (...).
        values: (..., n, d), the leading axes broadcast; with a Gaussian without leading axes
            also (..., d) of any rank.

    Returns:
        (..., n), or (...); infinite where the Gaussian is not valid.

    Examples:
        >>> import numpy as np
        >>> standard = Gaussian(np.zeros(2), np.eye(2), True)
        >>> distance(standard, np.array([[0.0, 0.0], [3.0, 4.0]])).tolist()
        [0.0, 25.0]
    """
    mean, whitening, valid = (jnp.asarray(part) for part in gaussian)
    if mean.ndim > 1:
        mean, valid = mean[..., None, :], valid[..., None]
    white = jnp.matmul(values - mean, whitening, precision="highest")  # (..., n, d)
    return jnp.where(valid, jnp.sum(white**2, axis=-1), jnp.inf)


def selective_distance(source: Gaussian, target: Gaussian, values: jax.Array) -> jax.Array:
    """The smaller of the distances from the source's and the target's Gaussian; jit-able.

    A normal clip resembles those of its own domain, and a test clip's name does not give its
    domain. Arguments and result as in `distance`.

    Examples:
        >>> import numpy as np
        >>> source = Gaussian(np.zeros(2), np.eye(2), True)
        >>> target = Gaussian(np.array([3.0, 4.0]), np.eye(2), True)
        >>> selective_distance(source, target, np.array([[3.0, 3.0]])).tolist()
        [1.0]
    """
    return jnp.minimum(distance(source, values), distance(target, values))


def _check_valid(valid: np.ndarray, what: str) -> None:
    if not valid.all():
        where = tuple(int(i) for i in np.argwhere(~valid)[0])
        raise UserError(f"model {where} of {valid.shape} has no two distinct {what} to fit to")


def _fitted(values: np.ndarray, mask: np.ndarray, shrinkage: float | None = None) -> Gaussian:
    """Gaussians of checked rows (..., n, d), as NumPy arrays."""
    if shrinkage is not None and not 0 <= shrinkage <= 1:
        raise UserError(f"the shrinkage must be from 0 to 1, not {shrinkage}")
    leading = values.shape[:-2]
    with rows.float64():
        fitted = _fit_all(
            rows.flat(values, 2), rows.flat(mask, 1), shrinkage, one_by_one=rows.in_turn()
        )
        return jax.tree.map(lambda x: np.asarray(x).reshape(leading + x.shape[1:]), fitted)


@functools.partial(jax.jit, static_argnames="one_by_one")
def _fit_all(
    values: jax.Array, mask: jax.Array, shrinkage: float | None, *, one_by_one: bool
) -> Gaussian:
    """Gaussians of rows (models, n, d)."""

    def fit(values: jax.Array, mask: jax.Array) -> Gaussian:
        # Widened model by model, as all embeddings in float64 might not fit into memory.
        return _fit(values.astype(jnp.float64), mask, shrinkage)

    return rows.each(fit, one_by_one)(values, mask)


def _fit(values: jax.Array, mask: jax.Array, shrinkage: float | jax.Array | None) -> Gaussian:
    """The Gaussian of the rows (n, d) of one model."""
    count, d = jnp.maximum(jnp.sum(mask), 1), values.shape[-1]
    mean = jnp.sum(values, axis=0, where=mask[:, None]) / count
    values = rows.centred(values, mask, mean)
    covariance = values.T @ values / count  # (d, d)
    spread = jnp.trace(covariance) / d  # the mean variance
    if shrinkage is None:
        shrinkage = ledoit_wolf(values, covariance, count)
    covariance = (1 - shrinkage) * covariance + shrinkage * spread * jnp.eye(d)
    # Inverse covariance = V diag(1 / variances) Vᵀ = W Wᵀ with W = V / √variances.
    variances, directions = jnp.linalg.eigh(covariance)
    # Equal rows differ from their mean by rounding alone, which is no variance.
    valid = spread > (4 * jnp.finfo(values.dtype).eps * jnp.max(jnp.abs(mean))) ** 2
    floored = jnp.maximum(variances, _VARIANCE_FLOOR * variances[-1])
    return Gaussian(mean, directions / jnp.sqrt(jnp.where(valid, floored, 1)), valid)


def ledoit_wolf(centred: jax.Array, covariance: jax.Array, count: jax.Array) -> jax.Array:
    """Share of the identity that minimises the mean squared error, 0 to 1.

    In Ledoit and Wolf's notation it is b² / d².
    """
    d = len(covariance)
    spread = jnp.trace(covariance) / d
    squares = jnp.sum(covariance**2)
    unlike = (squares - d * spread**2) / d  # squared distance from the scaled identity
    fourth = jnp.sum(jnp.sum(centred**2, axis=-1) ** 2)  # of the rows' lengths
    # Squared error of the sample covariance, by the spread of its rows' contributions.
    noise = jnp.minimum((fourth / count - squares) / (count * d), unlike)
    return jnp.where(noise > 0, noise / jnp.where(unlike > 0, unlike, 1), 0)
