"""Classification heads: class weights for as many classes as the largest model of a fleet has.

Models of one fleet have arrays of one shape, but machines have different numbers of classes. So
a head has columns to spare: those from a model's own number of classes on are drawn like the
others and never used. Each column has its own key, so that a model starts with the same values
whatever the fleet.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp


class Head(NamedTuple):
    """Class weights.

    Attributes:
        kernel: (inputs, columns).
        bias: (columns,); no part of the cosines.
    """

    kernel: jax.Array
    bias: jax.Array


def init_head(key: jax.Array, inputs: int, columns: int, classes: jax.Array | int) -> Head:
    """Glorot's uniform weights, as Keras's dense layer draws them, and no bias.

    Args:
        key: of the draw.
        inputs: values of an embedding.
        columns: the most classes of a model in the fleet.
        classes: (), those of this model.
    """
    limit = jnp.sqrt(6 / (inputs + classes))

    def column(i):
        return jax.random.uniform(jax.random.fold_in(key, i), (inputs,), minval=-1, maxval=1)

    kernel = limit * jax.vmap(column, out_axes=1)(jnp.arange(columns))
    return Head(kernel, jnp.zeros(columns))


def logits(head: Head, embeddings: jax.Array, classes: jax.Array | int) -> jax.Array:
    """Scores of a linear layer.

    Args:
        head: the class weights.
        embeddings: (batch, inputs).
        classes: (), columns from here on are −∞.

    Returns:
        (batch, columns).
    """
    return _without_spare(embeddings @ head.kernel + head.bias, classes)


def cosines(head: Head, embeddings: jax.Array) -> jax.Array:
    """Cosines of the angles between embeddings and the classes' centres: (batch, columns)."""

    def unit(x, axis):
        return x * jax.lax.rsqrt(jnp.sum(x * x, axis=axis, keepdims=True) + 1e-12)

    return unit(embeddings, -1) @ unit(head.kernel, 0)


def arcface_logits(
    cosines: jax.Array,
    labels: jax.Array,
    classes: jax.Array | int,
    *,
    margin: float,
    scale: float,
) -> jax.Array:
    """Scaled cosines, with an additive margin on the angle of the class that should win.

    Source: Deng et al. 2019, equation 3. Where an angle and the margin exceed π together, where
    the cosine would rise again, the cosine less margin · sin(margin) continues it downwards, as
    in its authors' program.

    Args:
        cosines: (batch, columns).
        labels: (batch,) classes that get the margin.
        classes: (), as in `logits`.
        margin: in radians; 0 for none.
        scale: of the cosines.

    Returns:
        (batch, columns).
    """
    # The sine's slope is infinite at 1: rounding must not put a cosine there.
    limited = jnp.clip(cosines, -1 + 1e-6, 1 - 1e-6)
    sines = jnp.sqrt(1 - limited**2)
    turned = limited * jnp.cos(margin) - sines * jnp.sin(margin)
    turned = jnp.where(limited > -jnp.cos(margin), turned, limited - margin * jnp.sin(margin))
    chosen = jnp.arange(cosines.shape[-1]) == labels[:, None]
    return _without_spare(scale * jnp.where(chosen, turned, cosines), classes)


def _without_spare(scores: jax.Array, classes: jax.Array | int) -> jax.Array:
    return jnp.where(jnp.arange(scores.shape[-1]) < classes, scores, -jnp.inf)
