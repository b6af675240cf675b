"""Losses by the angle between an embedding and what stands for a class.

A network that tells apart all that is known of normal clips, machine, section and attributes, gives
embeddings in which anomalous clips lie apart. What stands for a class is several centres, learned
or fixed (`sub_centre_log_probabilities`), or a subspace (`projection_cosines`). Labels are soft, as
those of mixed waveforms are: a proportion for each class.

    cosines = centre_cosines(embeddings, centres)             # (batch, classes, sub-centres)
    log_p = sub_centre_log_probabilities(cosines, adacos_scale(classes * sub_centres))
    loss = soft_cross_entropy(log_p, labels).mean()

Sources: Zhang et al. 2019, AdaCos (the scale); Wilkinghoff 2021, Sub-cluster AdaCos; Wilkinghoff
2024, AdaProj; Fujimura et al., ASDKit (github.com/TakuyaFujimura/dcase-asd-toolkit, MIT), whose
recipe has learned centres and a fixed scale.

Decided here: with several centres, the angle that AdaCos's dynamic scale takes the median of is
that to the nearest centre of a class; ASDKit takes the sum over angles to centres of mixed classes.
"""

import math
from typing import Any

import jax
import jax.numpy as jnp

# Cosines are kept so far from ±1, where the slope of the angle is infinite.
_EPSILON = 1e-7


def adacos_scale(columns: int) -> float:
    """The scale √2 · ln(columns − 1) of so many centres or subspaces.

    Args:
        columns: their number, 3 or more.

    Examples:
        >>> round(adacos_scale(101), 3)
        6.513
    """
    return math.sqrt(2) * math.log(columns - 1)


def init_centres(key: jax.Array, inputs: int, classes: int, sub_centres: int) -> jax.Array:
    """Draws centres by Glorot's uniform distribution, as ASDKit.

    Args:
        key: of the draw.
        inputs: values of an embedding.
        classes: number of classes.
        sub_centres: of each class.

    Returns:
        (inputs, classes, sub_centres).

    Examples:
        >>> init = jax.jit(init_centres, static_argnums=(1, 2, 3))
        >>> init(jax.random.key(0), 8, 3, 2).shape
        (8, 3, 2)
    """
    return _glorot(key, (inputs, classes, sub_centres), inputs + classes * sub_centres)


def init_subspaces(key: jax.Array, inputs: int, classes: int, dimensions: int) -> jax.Array:
    """Draws what spans the classes' subspaces, as ASDKit.

    Args:
        key: of the draw.
        inputs: values of an embedding.
        classes: number of classes.
        dimensions: of each subspace.

    Returns:
        (classes, dimensions, inputs).

    Examples:
        >>> init = jax.jit(init_subspaces, static_argnums=(1, 2, 3))
        >>> init(jax.random.key(0), 8, 3, 2).shape
        (3, 2, 8)
    """
    # PyTorch takes the axes behind the second for those of a convolution's kernel.
    return _glorot(key, (classes, dimensions, inputs), inputs * (classes + dimensions))


def centre_cosines(embeddings: jax.Array, centres: jax.Array) -> jax.Array:
    """Cosines of the angles between embeddings and the classes' centres.

    Args:
        embeddings: (batch, inputs).
        centres: (inputs, classes, sub_centres).

    Returns:
        (batch, classes, sub_centres).

    Examples:
        >>> import numpy as np
        >>> centres = np.array([[[1.0, 0.0]], [[0.0, 2.0]]])  # one class, of two centres
        >>> found = jax.jit(centre_cosines)(np.array([[3.0, 4.0]]), centres)
        >>> [round(float(cosine), 3) for cosine in found[0, 0]]
        [0.6, 0.8]
    """
    unit, centres = _unit(embeddings, axis=1), _unit(centres, axis=0)
    return jnp.tensordot(unit, centres, axes=1)


def projection_cosines(embeddings: jax.Array, subspaces: jax.Array) -> jax.Array:
    """Cosines of the angles between embeddings and their images in the classes' subspaces.

    The image is the sum of the projections on the unit vectors that span a subspace. They are not
    orthogonal, so that it is not quite the projection on the subspace.

    Args:
        embeddings: (batch, inputs).
        subspaces: (classes, dimensions, inputs).

    Returns:
        (batch, classes).

    Examples:
        >>> import numpy as np
        >>> plane, line = [[1.0, 0, 0], [0, 1, 0]], [[1.0, 0, 0], [1, 0, 0]]
        >>> subspaces = np.array([plane, line])
        >>> found = jax.jit(projection_cosines)(np.array([[3.0, 4.0, 0.0]]), subspaces)
        >>> [round(float(cosine), 3) for cosine in found[0]]
        [1.0, 0.6]
    """
    unit, spanning = _unit(embeddings, axis=1), _unit(subspaces, axis=2)
    along = jnp.einsum("bd,cjd->bcj", unit, spanning)
    images = _unit(jnp.einsum("bcj,cjd->bcd", along, spanning), axis=2)
    return jnp.einsum("bd,bcd->bc", unit, images)


def sub_centre_log_probabilities(cosines: jax.Array, scale: jax.Array | float) -> jax.Array:
    """Logarithms of the classes' probabilities: a softmax over all centres, summed by class.

    Args:
        cosines: (batch, classes, sub_centres), from `centre_cosines`.
        scale: () factor of the cosines.

    Returns:
        (batch, classes).

    Examples:
        >>> import numpy as np
        >>> found = jax.jit(sub_centre_log_probabilities)(np.zeros((1, 4, 2)), 5.0)
        >>> [round(float(each), 3) for each in np.exp(found[0])]
        [0.25, 0.25, 0.25, 0.25]
    """
    logits = scale * cosines
    of_classes = jax.nn.logsumexp(logits, axis=2)
    return of_classes - jax.nn.logsumexp(logits, axis=(1, 2))[:, None]


def soft_cross_entropy(log_probabilities: jax.Array, labels: jax.Array) -> jax.Array:
    """Cross-entropy −Σ y ln p of soft labels.

    Args:
        log_probabilities: (batch, classes).
        labels: (batch, classes) proportions; where one is 0, the class does not count.

    Returns:
        (batch,).

    Examples:
        >>> import numpy as np
        >>> half = np.log(np.array([[0.5, 0.5]]))
        >>> round(float(soft_cross_entropy(half, np.array([[0.3, 0.7]]))[0]), 4)
        0.6931
    """
    terms = labels * jnp.where(labels > 0, log_probabilities, 0)
    return -jnp.sum(terms, axis=-1)


def dynamic_scale(
    cosines: jax.Array,
    labels: jax.Array,
    scale: jax.Array | float,
    *,
    mask: Any = None,
    without_own: bool = False,
) -> jax.Array:
    """AdaCos's next scale, from those of a batch; without a gradient.

    ln B / cos(min(π/4, median angle)), where B is the mean over the batch of the sum of
    exp(scale · cosine) over all classes and centres, and the angle is that to a clip's own class.

    Args:
        cosines: (batch, classes, sub_centres), or (batch, classes) of one each.
        labels: (batch, classes) proportions.
        scale: () of the last step, at first `adacos_scale`.
        mask: (batch,) true where a row counts; None for all of them.
        without_own: leave the exponential of a row's own class out of B; it is 1 there. As
            AdaProj's.

    Returns:
        () the scale; the median of an even number of rows is the lower one, as in PyTorch.

    Examples:
        Two classes at right angles to all embeddings: B is 2, and the median angle π/2.

        >>> import numpy as np
        >>> labels = np.eye(2)[[0, 1, 0, 1]]
        >>> round(float(jax.jit(dynamic_scale)(np.zeros((4, 2)), labels, 1.0)), 4)
        0.9803
    """
    cosines = jax.lax.stop_gradient(jnp.asarray(cosines))
    if cosines.ndim == 2:
        cosines = cosines[..., None]
    mask = jnp.ones(len(cosines), bool) if mask is None else jnp.asarray(mask, bool)
    logits = scale * cosines
    if without_own:
        logits = jnp.where(labels[..., None] < 1, logits, 0)
    of_rows = jax.nn.logsumexp(logits, axis=(1, 2))  # (batch,)
    log_b = jax.nn.logsumexp(jnp.where(mask, of_rows, -jnp.inf)) - jnp.log(jnp.sum(mask))
    nearest = jnp.clip(jnp.max(cosines, axis=2), -1 + _EPSILON, 1 - _EPSILON)
    angles = jnp.sum(labels * jnp.arccos(nearest), axis=1)  # (batch,)
    middle = jnp.sort(jnp.where(mask, angles, jnp.inf))[(jnp.sum(mask) - 1) // 2]
    return log_b / jnp.cos(jnp.minimum(jnp.pi / 4, middle))


def _glorot(key: jax.Array, shape: tuple[int, ...], fans: int) -> jax.Array:
    limit = math.sqrt(6 / fans)
    return jax.random.uniform(key, shape, minval=-limit, maxval=limit)


def _unit(x: jax.Array, axis: int) -> jax.Array:
    """Vectors along an axis, of length 1; zeros stay zeros, with a gradient of zero."""
    squared = jnp.sum(x * x, axis=axis, keepdims=True)
    return jnp.where(squared > 0, x * jax.lax.rsqrt(jnp.where(squared > 0, squared, 1)), 0)
