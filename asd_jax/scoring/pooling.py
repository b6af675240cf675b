"""From one value a frame to values of a clip."""

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
    """
    return jnp.mean(errors, axis=-1, where=mask)


def maximum(errors: jax.Array, mask: jax.Array) -> jax.Array:
    """Largest of the frames that count; arguments as in `mean`."""
    return jnp.max(errors, axis=-1, where=mask, initial=-jnp.inf)


def statistics(errors: jax.Array, mask: jax.Array) -> jax.Array:
    """The five statistics of Grollmisch et al. 2020, section 3.1, in the order of `STATISTICS`.

    Standard deviation with n in its denominator, quantiles by linear interpolation: NumPy's
    defaults, as the report, which names none, was computed with scikit-learn's stack.

    Args:
        errors: (..., frames).
        mask: (..., frames) as in `mean`.

    Returns:
        (..., 5).
    """
    quartiles = jnp.nanquantile(
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
