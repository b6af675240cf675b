"""Distances from the nearest normal clips, by the embeddings of many models at once.

Domain-generalised sets have about a thousand clips of the source domain and ten of the target
domain of a machine, and test clips of both without a name. The mean distance from k clips of
all would measure a target clip by source clips as soon as k is more than its few neighbours, so
each domain has its own k nearest, and a clip is as anomalous as the nearer domain finds it.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from asd_jax.errors import UserError

METRICS = ("cosine", "euclidean")

# Neighbours by products, which rounding may confuse, from which the k nearest are chosen.
_SPARE = 16
# Most products at once, which bounds the memory of long lists of queries.
_BLOCK = 1 << 22


class Bank(NamedTuple):
    """Embeddings of normal clips.

    Attributes:
        embeddings: (..., n, d), finite where they count.
        mask: (..., n), true where a row counts.
        target: (..., n), true where a row is of the target domain.
    """

    embeddings: Any
    mask: Any
    target: Any


def knn_distance(
    queries: jax.Array, bank: Bank, *, k: int = 1, metric: str = "cosine"
) -> jax.Array:
    """Mean distance from the k nearest rows of the bank; jit-able.

    With rows of both domains, the smaller of the means within the source and within the target
    rows; with fewer than k of them, over all there are. Distances are computed from differences,
    for one of products is rounding where neighbours are near; only which rows are near is found
    by products, of which rounding may confuse those whose squared distances differ by less than
    1e-6 of the squared lengths.

    A zero vector has no direction: its cosine distance is 1 from all, as in scikit-learn.

    Args:
        queries: (..., q, d).
        bank: its leading axes are broadcast with those of the queries.
        k: number of neighbours.
        metric: "cosine", 1 − cos, or "euclidean".

    Returns:
        (..., q); infinite where no row of the bank counts.

    Raises:
        UserError: no such metric, k below 1, or queries and bank of unlike width.
    """
    if metric not in METRICS:
        raise UserError(f"no metric {metric!r}; there are {', '.join(METRICS)}")
    if k < 1:
        raise UserError(f"the number of neighbours must be at least 1, not {k}")
    width, bank_width = jnp.shape(queries)[-1], jnp.shape(bank.embeddings)[-1]
    if width != bank_width:
        raise UserError(f"queries have {width} columns, the bank has {bank_width}")

    def one_bank(queries, embeddings, mask, target):
        # Rows that do not count may be NaN, which a product with 0 would keep.
        embeddings = jnp.where(mask[:, None], embeddings, 0)
        if metric == "cosine":
            queries, embeddings = _directions(queries), _directions(embeddings)
        # Around their middle, vectors are as short as they can be, and their products as exact.
        middle = jnp.sum(embeddings, axis=0) / jnp.maximum(jnp.sum(mask), 1)
        moved = jnp.where(mask[:, None], embeddings - middle, 0)
        lengths = jnp.sum(moved**2, axis=-1)

        def block(queries):
            products = jnp.matmul(queries - middle, moved.T, precision="highest")
            closeness = 2 * products - lengths
            source, target_only = (
                _mean_nearest(queries, embeddings, closeness, rows, k, metric)
                for rows in (mask & ~target, mask & target)
            )
            return jnp.minimum(source, target_only)

        return _in_blocks(block, queries, max(1, _BLOCK // len(embeddings)))

    over = jnp.vectorize(one_bank, signature="(q,d),(n,d),(n),(n)->(q)")
    return over(queries, *bank)


def _mean_nearest(queries, embeddings, closeness, rows, k: int, metric: str) -> jax.Array:
    """Mean distance (q,) from the k nearest of the rows (n,) that count."""
    _, candidates = jax.lax.top_k(jnp.where(rows, closeness, -jnp.inf), min(k + _SPARE, len(rows)))

    def distance(candidate):
        distances = _distance(queries, embeddings[candidate], metric)
        return jnp.where(rows[candidate], distances, jnp.inf)

    # Candidate by candidate, so that no array has queries × candidates × columns.
    distances = jnp.sort(jax.lax.map(distance, candidates.T), axis=0)[:k]
    count = jnp.minimum(jnp.sum(rows), len(distances))
    counts = (jnp.arange(len(distances)) < count)[:, None]
    mean = jnp.sum(jnp.where(counts, distances, 0), axis=0) / jnp.maximum(count, 1)
    return jnp.where(count > 0, mean, jnp.inf)


def _distance(a: jax.Array, b: jax.Array, metric: str) -> jax.Array:
    """Distance of vectors (..., d), of unit length or zero for the cosine."""
    squared = jnp.sum((a - b) ** 2, axis=-1)
    if metric == "euclidean":
        return jnp.sqrt(squared)
    # Half the squared difference is 1 − cos of two unit vectors, without its cancellation.
    either_zero = ~(jnp.any(a != 0, axis=-1) & jnp.any(b != 0, axis=-1))
    return jnp.where(either_zero, 1, squared / 2)


def _directions(vectors: jax.Array) -> jax.Array:
    """Vectors (..., d) scaled to unit length; zero vectors stay."""
    largest = jnp.max(jnp.abs(vectors), axis=-1, keepdims=True)
    # First by the largest entry, so that no square overflows or vanishes.
    scaled = vectors / jnp.where(largest > 0, largest, 1)
    length = jnp.linalg.norm(scaled, axis=-1, keepdims=True)
    return scaled / jnp.where(length > 0, length, 1)


def _in_blocks(function, queries: jax.Array, size: int) -> jax.Array:
    """`function` of queries (q, d), so many at a time."""
    q = len(queries)
    if q <= size:
        return function(queries)
    padded = jnp.pad(queries, ((0, -q % size), (0, 0)))
    blocks = jax.lax.map(function, padded.reshape(-1, size, queries.shape[-1]))
    return blocks.reshape(-1)[:q]
