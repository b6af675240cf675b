"""Rows to fit models to: what all fits of `asd_jax.scoring` ask of their input.

A fit gets (..., rows, columns) with a mask (..., rows), one model for each of the leading axes;
rows that do not count may hold anything. Fits run in float64.
"""

import jax
import jax.numpy as jnp
import numpy as np

from asd_jax.errors import UserError


def checked(values, mask) -> tuple[np.ndarray, np.ndarray]:
    """Rows and mask as NumPy arrays, those that do not count set to zero.

    Args:
        values: (..., n, d).
        mask: (..., n), broadcast over the leading axes of `values`; None where all rows count.

    Returns:
        Values (..., n, d), float64 if they were, else float32, and the mask (..., n).

    Raises:
        UserError: wrong shapes, values that are not finite, a model without rows.
    """
    values = np.asarray(values)
    if values.dtype != np.float64:
        values = values.astype(np.float32)
    if values.ndim < 2 or not values.shape[-1]:
        raise UserError(f"rows to fit have the shape (..., rows, columns), not {values.shape}")
    shape = values.shape[:-1]
    mask = np.ones(shape, bool) if mask is None else np.asarray(mask, bool)
    try:
        mask = np.broadcast_to(mask, shape)
    except ValueError:
        raise UserError(f"a mask of shape {mask.shape} does not fit rows of {shape}") from None
    if not mask.any(axis=-1).all():
        where = tuple(int(i) for i in np.argwhere(~mask.any(axis=-1))[0])
        raise UserError(f"no rows to fit model {where} of {shape[:-1]} to")
    values = np.where(mask[..., None], values, 0)
    if not np.isfinite(values).all():
        where = tuple(int(i) for i in np.argwhere(~np.isfinite(values).all(axis=-1))[0])
        raise UserError(f"row {where} of {shape} is not finite; mask it")
    return values, mask


def flat(array: np.ndarray, rank: int) -> np.ndarray:
    """All but the last `rank` axes as one."""
    return array.reshape(-1, *array.shape[array.ndim - rank :])


def in_turn() -> bool:
    """Whether fits go best one after another here, each until it has converged.

    On a CPU the arrays of one fit stay in the processor's cache, those of all do not, and all at
    once go on until the last has converged: mixtures of a fleet take three times as long.
    """
    return jax.default_backend() == "cpu"


def each(function, one_by_one: bool):
    """`function` over the first axis of its arguments, one by one or all at once."""
    if one_by_one:
        return lambda *arguments: jax.lax.map(lambda row: function(*row), arguments)
    return jax.vmap(function)


def mean(values: jax.Array, mask: jax.Array) -> jax.Array:
    """Mean of the rows (n, d) that count, the others being zero."""
    return jnp.sum(values, axis=0) / jnp.sum(mask)


def centred(values: jax.Array, mask: jax.Array, mean: jax.Array) -> jax.Array:
    """Rows (n, d) less their mean, those that do not count zero."""
    return jnp.where(mask[:, None], values - mean, 0)
