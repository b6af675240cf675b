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
    return _without_spare(embeddings @ head.kernel + head.bias, classes)


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


def arcface_logits(
    cosines: jax.Array,
    labels: jax.Array,
    classes: jax.Array | int,
    *,
    margin: float,
    scale: float,
) -> jax.Array:
    """Scaled cosines, with an additive margin on the angle of the clip's own class.

    Source: Deng et al. 2019, equation 3. Where angle plus margin exceeds π, the cosine would rise
    again; there the cosine minus margin · sin(margin) continues it downwards, as in the authors'
    program.

    Args:
        cosines: (batch, columns).
        labels: (batch,) classes that get the margin.
        classes: (), as in `logits`.
        margin: in radians; 0 for none.
        scale: factor of the cosines.

    Returns:
        (batch, columns).

    Examples:
        The own class at 60°, with a margin of 30°, is scored as if at 90°.

        >>> import jax, numpy as np
        >>> cosine, own = np.array([[0.5, 0.2]]), np.array([0])
        >>> values = jax.jit(arcface_logits)(cosine, own, 2, margin=np.pi / 6, scale=10.0)
        >>> [round(float(value), 3) + 0.0 for value in np.asarray(values)[0]]
        [0.0, 2.0]
    """
    # The slope of the sine √(1 − cos²) is infinite at ±1, where rounding could put a cosine.
    limited = jnp.clip(cosines, -1 + 1e-6, 1 - 1e-6)
    sines = jnp.sqrt(1 - limited**2)
    turned = limited * jnp.cos(margin) - sines * jnp.sin(margin)  # cos(angle + margin)
    turned = jnp.where(limited > -jnp.cos(margin), turned, limited - margin * jnp.sin(margin))
    chosen = jnp.arange(cosines.shape[-1]) == labels[:, None]
    return _without_spare(scale * jnp.where(chosen, turned, cosines), classes)


def _without_spare(scores: jax.Array, classes: jax.Array | int) -> jax.Array:
    return jnp.where(jnp.arange(scores.shape[-1]) < classes, scores, -jnp.inf)
