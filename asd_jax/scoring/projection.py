"""Standardisation and principal components, fitted to the rows of many models at once."""

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
        scale: (..., d), divisors of the centred columns: their standard deviations, or 1 for
            constant columns and without standardisation.
        components: (..., n_components, d), orthonormal rows by falling variance; rows of zeros
            beyond the rank of the data.
    """

    mean: Any
    scale: Any
    components: Any


def fit_projection(
    values: Any, mask: Any = None, *, n_components: int, standardize: bool = True
) -> Projection:
    """Fits standardisation and principal components for each of the leading axes, in float64.

    Equal to scikit-learn's `StandardScaler` followed by `PCA(svd_solver="full")`, signs
    included, except for components beyond the rank of the rows (with constant columns, or fewer
    rows than components): those are zero here, so that they give 0 for any row. scikit-learn's
    are random directions, which pass noise that no training row had.

    Variances are eigenvalues of the products of rows or of columns, whichever are fewer. They
    resolve standard deviations down to 1e-6 of the largest, for a thousand rows; smaller ones
    count as no variance.

    Args:
        values: (..., n, d), finite where they count.
        mask: (..., n), true where a row counts; None for all of them.
        n_components: number of components, at most d.
        standardize: divide each column by its standard deviation, with n in its denominator.

    Returns:
        The projections as NumPy arrays, float64.

    Raises:
        UserError: wrong shapes, values that are not finite, a model without rows, or a number of
            components outside 1 to d.

    Examples:
        Rows on a line have one component; the second one is zero.

        >>> import numpy as np
        >>> projection = fit_projection(np.outer(np.arange(5), [1.0, 2.0, 3.0]), n_components=2)
        >>> projection.components.round(3).tolist()
        [[0.577, 0.577, 0.577], [0.0, 0.0, 0.0]]
    """
    values, mask = rows.checked(values, mask)
    leading, d = values.shape[:-2], values.shape[-1]
    if not 1 <= n_components <= d:
        raise UserError(f"n_components must be from 1 to the {d} columns, not {n_components}")
    with rows.float64():
        fitted = _fit_all(
            rows.flat(values, 2),
            rows.flat(mask, 1),
            n_components=n_components,
            standardize=standardize,
            one_by_one=rows.in_turn(),
        )
        return jax.tree.map(lambda x: np.asarray(x).reshape(leading + x.shape[1:]), fitted)


def project(projection: Projection, values: jax.Array | np.ndarray) -> jax.Array:
    """Projects rows onto the principal components; jit-able, in the precision of its arguments.

    Args:
        projection: with any leading axes (...).
        values: (..., n, d), the leading axes broadcast; with a projection without leading axes
            also (..., d) of any rank.

    Returns:
        (..., n, n_components), or (..., n_components).

    Raises:
        UserError: rows of another width than those it was fitted to.

    Examples:
        >>> import numpy as np
        >>> projection = Projection(np.zeros(2), np.array([1.0, 2.0]), np.array([[0.6, 0.8]]))
        >>> round(float(project(projection, np.array([[1.0, 4.0]]))[0, 0]), 3)
        2.2
    """
    mean, scale, components = (jnp.asarray(part) for part in projection)
    if jnp.shape(values)[-1] != mean.shape[-1]:
        raise UserError(
            f"rows of {jnp.shape(values)[-1]} values, where the projection was fitted to "
            f"{mean.shape[-1]}; give embeddings of the same kind"
        )
    if mean.ndim > 1:
        mean, scale = mean[..., None, :], scale[..., None, :]  # (..., 1, d)
    standardised = (values - mean) / scale  # (..., n, d)
    return jnp.matmul(standardised, jnp.swapaxes(components, -1, -2), precision="highest")


@functools.partial(jax.jit, static_argnames=("n_components", "standardize", "one_by_one"))
def _fit_all(
    values: jax.Array, mask: jax.Array, *, n_components: int, standardize: bool, one_by_one: bool
) -> Projection:
    fit = functools.partial(_fit, n_components=n_components, standardize=standardize)
    return rows.each(fit, one_by_one)(values, mask)


def _fit(values: jax.Array, mask: jax.Array, *, n_components: int, standardize: bool) -> Projection:
    """The projection of the rows (n, d) of one model."""
    # Widened model by model, as all embeddings in float64 might not fit into memory.
    values = values.astype(jnp.float64)
    count, d = jnp.sum(mask), values.shape[-1]
    mean = rows.mean(values, mask)  # (d,)
    values = rows.centred(values, mask, mean)  # (n, d)
    scale = jnp.ones(d)
    if standardize:
        variance = jnp.sum(values**2, axis=0) / count  # (d,)
        # A constant column's variance by rounding of its mean; the bound is scikit-learn's.
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
    # X Xᵀ and Xᵀ X have the same eigenvalues other than zero; the smaller is the cheaper one.
    products = values @ values.T if wide else values.T @ values
    variances, vectors = jnp.linalg.eigh(products)
    # `eigh` sorts by rising eigenvalue: the last ones are the first components.
    count = min(n_components, n, d)
    variances, vectors = variances[::-1][:count], vectors[:, ::-1][:, :count]
    # An eigenvector u of X Xᵀ becomes the eigenvector Xᵀ u of Xᵀ X.
    components = vectors.T @ values if wide else vectors.T  # (count, d)
    # Eigenvalues at the size of rounding are no variance; their directions are random.
    tiny = variances <= variances[0] * max(n, d) * jnp.finfo(values.dtype).eps
    length = jnp.linalg.norm(components, axis=-1)
    keep = ~tiny & (length > 0)
    components = components / jnp.where(keep, length, 1)[:, None]
    # The largest entry of a component is made positive, as in scikit-learn.
    largest = jnp.argmax(jnp.abs(components), axis=-1)
    sign = jnp.sign(jnp.take_along_axis(components, largest[:, None], axis=-1))
    components = jnp.where(keep[:, None], components * sign, 0)
    return jnp.pad(components, ((0, n_components - count), (0, 0)))
