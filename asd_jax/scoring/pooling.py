"""Pooling of one value a frame into values of a clip."""

import jax
import jax.numpy as jnp

STATISTICS = ("mean", "std", "median", "max", "iqr")


def mean(errors: jax.Array, mask: jax.Array) -> jax.Array:
    """Mean over the frames that count.

    Args:
        errors: (..., frames).
        mask: (..., frames) true where a frame counts; at least one must.

    Returns:
        (...).

    Examples:
        >>> import numpy as np
        >>> errors, mask = np.array([1.0, 3.0, 9.0]), np.array([True, True, False])
        >>> float(mean(errors, mask))
        2.0
    """
    return jnp.mean(errors, axis=-1, where=mask)


def maximum(errors: jax.Array, mask: jax.Array) -> jax.Array:
    """Maximum over the frames that count; arguments as in `mean`.

    Examples:
        >>> import numpy as np
        >>> float(maximum(np.array([1.0, 3.0, 9.0]), np.array([True, True, False])))
        3.0
    """
    return jnp.max(errors, axis=-1, where=mask, initial=-jnp.inf)


def statistics(errors: jax.Array, mask: jax.Array) -> jax.Array:
    """The five statistics of Grollmisch et al. 2020, section 3.1, in the order of `STATISTICS`.

    Standard deviation with n in its denominator, quantiles by linear interpolation. These are
    NumPy's defaults: the report names no others and used scikit-learn, which is built on NumPy.

    Args:
        errors: (..., frames).
        mask: (..., frames) as in `mean`.

    Returns:
        (..., 5).

    Examples:
        >>> import numpy as np
        >>> values = statistics(np.array([1.0, 2.0, 3.0, 6.0]), np.ones(4, bool))
        >>> dict(zip(STATISTICS, [round(float(value), 3) for value in values]))
        {'mean': 3.0, 'std': 1.871, 'median': 2.5, 'max': 6.0, 'iqr': 2.0}
    """
    quartiles = jnp.nanquantile(  # (3, ...)
        jnp.where(mask, errors, jnp.nan), jnp.array([0.25, 0.5, 0.75]), axis=-1
    )
    return jnp.stack(
        [
            mean(errors, mask),
            jnp.std(errors, axis=-1, where=mask),
            quartiles[1],
            maximum(errors, mask),
            quartiles[2] - quartiles[0],
        ],
        axis=-1,
    )
