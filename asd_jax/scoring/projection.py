"""Standardisation and principal components of the rows of many models at once."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from asd_jax.errors import UserError
from asd_jax.scoring import rows


class Projection(NamedTuple):
    """An affine map onto principal components.

    Attributes:
        mean: (..., d), of the columns.
        scale: (..., d), what the centred columns are divided by: their standard deviation, 1
            where they are constant or were not to be standardised.
        components: (..., n_components, d), orthonormal rows by falling variance; rows of zeros
            where there is no more variance.
    """

    mean: Any
    scale: Any
    components: Any


def fit_projection(values, mask=None, *, n_components: int, standardize: bool = True) -> Projection:
    """Standardisation and principal components for each of the leading axes, in float64.

    Equal to scikit-learn's `StandardScaler` followed by `PCA(svd_solver="full")`, signs
    included, but for components beyond the rank of the rows: those are zero here, so that they
    give 0 for any row; scikit-learn's are directions by chance, which let through noise that no
    training row had. Constant columns and fewer rows than components are where that happens.

    Variances come from eigenvalues, of the smaller of the rows' and the columns' products. They
    resolve standard deviations down to 1e-6 of the largest, at a thousand rows; what is below
    counts as no variance.

    Args:
        values: (..., n, d), finite where they count.
        mask: (..., n), true where a row counts; None for all of them.
        n_components: number of components, at most d.
        standardize: whether each column is divided by its standard deviation, with n in its
            denominator.

    Returns:
        The projections as NumPy arrays, float64.

    Raises:
        UserError: wrong shapes, values that are not finite, a model without rows.
    """
    values, mask = rows.checked(values, mask)
    leading, d = values.shape[:-2], values.shape[-1]
    if not 1 <= n_components <= d:
        raise UserError(f"n_components must be from 1 to the {d} columns, not {n_components}")
    with jax.enable_x64(True):
        fitted = _fit_all(
            rows.flat(values, 2),
            rows.flat(mask, 1),
            n_components=n_components,
            standardize=standardize,
            one_by_one=rows.in_turn(),
        )
    return jax.tree.map(lambda x: np.asarray(x).reshape(leading + x.shape[1:]), fitted)


def project(projection: Projection, values: jax.Array) -> jax.Array:
    """Rows on the principal components; jit-able, in the precision of its arguments.

    Args:
        projection: with any leading axes (...).
        values: (..., n, d), the leading axes broadcast; with a projection without leading axes
            also (..., d) of any rank.

    Returns:
        (..., n, n_components), or (..., n_components).

    Raises:
        UserError: rows of another width than those it was fitted to.
    """
    mean, scale, components = (jnp.asarray(part) for part in projection)
    if jnp.shape(values)[-1] != mean.shape[-1]:
        raise UserError(
            f"rows of {jnp.shape(values)[-1]} values, where the projection was fitted to "
            f"{mean.shape[-1]}; give embeddings of the same kind"
        )
    if mean.ndim > 1:
        mean, scale = mean[..., None, :], scale[..., None, :]
    standardised = (values - mean) / scale
    return jnp.matmul(standardised, jnp.swapaxes(components, -1, -2), precision="highest")


@functools.partial(jax.jit, static_argnames=("n_components", "standardize", "one_by_one"))
def _fit_all(values, mask, *, n_components, standardize, one_by_one):
    fit = functools.partial(_fit, n_components=n_components, standardize=standardize)
    return rows.each(fit, one_by_one)(values, mask)


def _fit(values, mask, *, n_components, standardize):
    """The projection of the rows (n, d) of one model."""
    # Here, model by model: all embeddings in float64 might not fit into memory.
    values = values.astype(jnp.float64)
    count, d = jnp.sum(mask), values.shape[-1]
    mean = rows.mean(values, mask)
    values = rows.centred(values, mask, mean)
    scale = jnp.ones(d)
    if standardize:
        variance = jnp.sum(values**2, axis=0) / count
        # What rounding of the mean leaves of a constant column, the bound of scikit-learn.
        eps = jnp.finfo(jnp.float64).eps
        constant = variance <= count * eps * variance + (count * mean * eps) ** 2
        scale = jnp.where(constant, 1, jnp.sqrt(variance))
        values = jnp.where(constant, 0, values / scale)
    components = _components(values, n_components)
    return Projection(mean, scale, components)


def _components(values: jax.Array, n_components: int) -> jax.Array:
    """Principal components (n_components, d) of centred rows (n, d)."""
    n, d = values.shape
    wide = n < d
    products = values @ values.T if wide else values.T @ values
    variances, vectors = jnp.linalg.eigh(products)
    found = min(n_components, n, d)
    variances, vectors = variances[::-1][:found], vectors[:, ::-1][:, :found]
    components = vectors.T @ values if wide else vectors.T
    tiny = variances <= variances[0] * max(n, d) * jnp.finfo(values.dtype).eps
    length = jnp.linalg.norm(components, axis=-1)
    keep = ~tiny & (length > 0)
    components = components / jnp.where(keep, length, 1)[:, None]
    # The largest entry of a component is positive, as scikit-learn has it.
    largest = jnp.argmax(jnp.abs(components), axis=-1)
    sign = jnp.sign(jnp.take_along_axis(components, largest[:, None], axis=-1))
    components = jnp.where(keep[:, None], components * sign, 0)
    return jnp.pad(components, ((0, n_components - found), (0, 0)))
