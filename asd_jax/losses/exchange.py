"""Exchanged parts of embeddings as classes of their own (FeatEx)."""

from typing import Any

import jax
import jax.numpy as jnp

from asd_jax.audio.augmentation import draw_pairs


def exchange_parts(
    key: jax.Array,
    embeddings: jax.Array,
    labels: jax.Array,
    mask: Any = None,
    *,
    parts: int,
    probability: float = 0.5,
) -> tuple[jax.Array, jax.Array]:
    """Puts parts of other rows' embeddings into some rows, which a classifier learns to notice.

    A network of several branches then has to keep in each branch what tells the classes apart.

    Source: Wilkinghoff 2024, Self-supervised learning for anomalous sound detection, as in ASDKit.
    There a row may be its own partner; here it has another one.

    Args:
        key: of `jax.random`.
        embeddings: (batch, parts · values), the parts side by side.
        labels: (batch, classes) proportions.
        mask: (batch,) true where a row counts; None for all of them.
        parts: number of parts, 2 or more. The first stays, each other is from a row of its own.
        probability: of a row's parts being exchanged.

    Returns:
        Embeddings, and labels (batch, (1 + parts) · classes): those of a row without exchange in
        the first block, else a share of each part's label in the block of the part.

    Examples:
        >>> import numpy as np
        >>> embeddings, labels = np.array([[1.0, 10.0], [2.0, 20.0]]), np.eye(2)
        >>> parts, shares = exchange_parts(
        ...     jax.random.key(0), embeddings, labels, parts=2, probability=1.0
        ... )
        >>> parts.tolist(), shares[0].tolist()
        ([[1.0, 20.0], [2.0, 10.0]], [0.0, 0.0, 0.5, 0.0, 0.0, 0.5])
    """
    embeddings, labels = jnp.asarray(embeddings), jnp.asarray(labels)
    batch, width = embeddings.shape
    if parts < 2 or width % parts:
        raise ValueError(f"embeddings of {width} values cannot be exchanged in {parts} parts")
    mask = jnp.ones(batch, bool) if mask is None else jnp.asarray(mask, bool)
    for_choice, *for_parts = jax.random.split(key, parts)
    partners = [jnp.arange(batch), *(draw_pairs(each, mask)[0] for each in for_parts)]
    chosen = jax.random.bernoulli(for_choice, probability, (batch,))
    # Padding, and a row without another one, is its own partner and has nothing to exchange.
    chosen = (chosen & (partners[1] != jnp.arange(batch)))[:, None]
    by_part = jnp.split(embeddings, parts, axis=1)
    exchanged = [part[rows] for part, rows in zip(by_part, partners, strict=True)]
    blocks = [jnp.where(chosen, 0, labels)]
    blocks += [jnp.where(chosen, labels[rows] / parts, 0) for rows in partners]
    mixed = jnp.where(chosen, jnp.concatenate(exchanged, axis=1), embeddings)
    return mixed, jnp.concatenate(blocks, axis=1)
