"""Classification heads with spare columns, so that models of one fleet have equal shapes.

Machines have different numbers of classes. A head has as many columns as the fleet's largest
model has classes; the columns beyond a model's own classes are drawn like the others and never
used. Each column has its own key, so that a model's initial values do not depend on the fleet.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp


class Head(NamedTuple):
    """Class weights.

    Attributes:
        kernel: (inputs, columns).
        bias: (columns,); the cosines do not use it.
    """

    kernel: jax.Array
    bias: jax.Array


def init_head(key: jax.Array, inputs: int, columns: int, classes: jax.Array | int) -> Head:
    """Draws Glorot's uniform weights, as in Keras's dense layer, with a bias of zeros.

    Args:
        key: of the draw.
        inputs: values of an embedding.
        columns: the most classes of a model in the fleet.
        classes: (), number of classes of this model.

    Examples:
        >>> import jax
        >>> init = jax.jit(init_head, static_argnames=("inputs", "columns"))
        >>> head = init(jax.random.key(0), inputs=16, columns=6, classes=4)
        >>> head.kernel.shape, head.bias.shape
        ((16, 6), (6,))
    """
    limit = jnp.sqrt(6 / (inputs + classes))

    def column(i: jax.Array) -> jax.Array:
        return jax.random.uniform(jax.random.fold_in(key, i), (inputs,), minval=-1, maxval=1)

    kernel = limit * jax.vmap(column, out_axes=1)(jnp.arange(columns))
    return Head(kernel, jnp.zeros(columns))


def logits(head: Head, embeddings: jax.Array, classes: jax.Array | int) -> jax.Array:
    """Logits of a linear layer.

    Args:
        head: the class weights.
        embeddings: (batch, inputs).
        classes: (), columns from here on are −∞.

    Returns:
        (batch, columns).

    Examples:
        >>> import numpy as np
        >>> head = Head(np.eye(3), np.zeros(3))
        >>> logits(head, np.array([[1.0, 2.0, 3.0]]), classes=2).tolist()
        [[1.0, 2.0, -inf]]
    """
    return without_spare(embeddings @ head.kernel + head.bias, classes)


def cosines(head: Head, embeddings: jax.Array) -> jax.Array:
    """Cosines of the angles between embeddings and the classes' centres.

    Args:
        head: the class weights, whose columns are the centres.
        embeddings: (batch, inputs).

    Returns:
        (batch, columns).

    Examples:
        >>> import jax, numpy as np
        >>> head = Head(np.eye(2), np.zeros(2))
        >>> found = np.asarray(jax.jit(cosines)(head, np.array([[3.0, 4.0]])))
        >>> [round(float(cosine), 3) for cosine in found[0]]
        [0.6, 0.8]
    """

    def unit(x: jax.Array, axis: int) -> jax.Array:
        return x * jax.lax.rsqrt(jnp.sum(x * x, axis=axis, keepdims=True) + 1e-12)

    return unit(embeddings, -1) @ unit(head.kernel, 0)


def without_spare(scores: jax.Array, classes: jax.Array | int) -> jax.Array:
    """Puts the spare columns of logits out of the race.

    Args:
        scores: (batch, columns).
        classes: (), as in `logits`.

    Returns:
        (batch, columns), −∞ from column `classes` on.
    """
    return jnp.where(jnp.arange(scores.shape[-1]) < classes, scores, -jnp.inf)
