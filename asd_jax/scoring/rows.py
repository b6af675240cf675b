"""Rows that models are fitted to: checks and loops shared by the fits of `asd_jax.scoring`.

A fit reads (..., rows, columns) and a mask (..., rows) and makes one model for each of the
leading axes; rows that do not count may hold anything. Fits run in float64.
"""

import contextlib
import functools
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import threadpoolctl

from asd_jax.errors import UserError
from asd_jax.runtime.cores import usable_cores


def checked(values: Any, mask: Any) -> tuple[np.ndarray, np.ndarray]:
    """Rows and mask as NumPy arrays; rows that do not count become zero.

    Args:
        values: (..., n, d).
        mask: (..., n), broadcast over the leading axes of `values`; None where all rows count.

    Returns:
        Values (..., n, d), float64 if they were, else float32, and the mask (..., n).

    Raises:
        UserError: wrong shapes, values that are not finite, a model without rows.

    Examples:
        >>> values, mask = checked([[1.0, 2.0], [float("nan"), 0.0]], [True, False])
        >>> values.tolist(), mask.tolist()
        ([[1.0, 2.0], [0.0, 0.0]], [True, False])
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
    """Reshapes all but the last `rank` axes into one.

    Examples:
        >>> import numpy as np
        >>> flat(np.zeros((2, 3, 5, 7)), 2).shape
        (6, 5, 7)
    """
    return array.reshape(-1, *array.shape[array.ndim - rank :])


def in_turn() -> bool:
    """True if fits should run one after another on this backend, each until it has converged.

    On a CPU the arrays of one fit stay in the processor's cache, those of all fits do not; and
    fits that run together all go on until the last has converged. Mixtures of a fleet then take
    three times as long.
    """
    return jax.default_backend() == "cpu"


@contextlib.contextmanager
def float64() -> Iterator[None]:
    """Inside, JAX computes in float64, and a CPU's LAPACK, which factorises for it, in one thread.

    Many small matrices are factorised one after another. To share each among threads gains
    nothing, and takes up to fifty times as long where another process competes for the cores.
    Results are waited for inside: JAX computes after it has returned.
    """
    with jax.enable_x64(True), _one_thread():
        yield


def side_by_side(function: Callable[[int], Any], count: int) -> list[Any]:
    """Results of `function` for 0 to `count` − 1, a thread for each core that is to be used.

    For compiled programs of one model each, which compute outside Python's lock. They must hold no
    batch of matrices to factorise: JAX (0.10) shares a batch among XLA's threads, where those of
    several programs wait for one another, for ever.

    Examples:
        >>> side_by_side(lambda model: model * 10, 3)
        [0, 10, 20]
    """
    pool = ThreadPoolExecutor(min(usable_cores(), count), thread_name_prefix="fit")
    with _one_thread(), pool:
        return [*pool.map(function, range(count))]


def _one_thread() -> AbstractContextManager[Any]:
    return _thread_pools().limit(limits=1, user_api="blas")


@functools.cache
def _thread_pools() -> threadpoolctl.ThreadpoolController:
    import scipy.linalg  # noqa: F401 - whose LAPACK JAX calls, and which must be loaded to be found

    return threadpoolctl.ThreadpoolController()


def each(function: Callable[..., Any], one_by_one: bool) -> Callable[..., Any]:
    """Maps `function` over the first axis of its arguments, one by one or all at once.

    Examples:
        >>> import jax.numpy as jnp
        >>> each(jnp.sum, one_by_one=True)(jnp.array([[1, 2], [3, 4]])).tolist()
        [3, 7]
    """
    if one_by_one:
        return lambda *arguments: jax.lax.map(lambda row: function(*row), arguments)
    return jax.vmap(function)


def mean(values: jax.Array, mask: jax.Array) -> jax.Array:
    """Mean (d,) of the rows (n, d) that count; the others must be zero.

    Examples:
        >>> import jax.numpy as jnp
        >>> mean(jnp.array([[1.0], [3.0], [0.0]]), jnp.array([True, True, False])).tolist()
        [2.0]
    """
    return jnp.sum(values, axis=0) / jnp.sum(mask)


def centred(values: jax.Array, mask: jax.Array, mean: jax.Array) -> jax.Array:
    """Rows (n, d) minus their mean; those that do not count are zero.

    Examples:
        >>> import jax.numpy as jnp
        >>> rows, mask = jnp.array([[1.0], [3.0], [0.0]]), jnp.array([True, True, False])
        >>> centred(rows, mask, mean(rows, mask)).ravel().tolist()
        [-1.0, 1.0, 0.0]
    """
    return jnp.where(mask[:, None], values - mean, 0)
