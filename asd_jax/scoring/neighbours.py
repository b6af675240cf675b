"""Distances of embeddings from the nearest normal clips, for many models at once.

Domain-generalised sets have about a thousand clips of the source domain and ten of the target
domain of a machine; test clips of both domains are not marked. The mean distance from the k
nearest of all clips would measure a target clip by source clips as soon as k exceeds the number
of its few neighbours. So each domain has its own k nearest clips, and a clip's score is its
distance from the nearer domain.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from asd_jax.errors import UserError

METRICS = ("cosine", "euclidean")

# Candidates beyond k: rounding of the products may exchange neighbours that are about as near.
_SPARE = 16
# Most products (queries × rows) at once, which bounds the memory of many queries.
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
    rows; a domain with fewer than k rows averages all of them. Candidates are chosen by matrix
    products; their distances are then computed from differences, since products lose near
    neighbours to rounding. The choice may confuse rows whose squared distances differ by less
    than 1e-6 of the squared lengths.

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

    Examples:
        >>> import numpy as np
        >>> rows = np.array([[0.0, 0.0], [0.0, 2.0], [9.0, 9.0]])
        >>> bank = Bank(rows, np.array([True, True, False]), np.zeros(3, bool))
        >>> queries = np.array([[0.0, 1.0], [9.0, 9.0], [3.0, 0.0]])
        >>> distances = knn_distance(queries, bank, k=2, metric="euclidean")
        >>> [round(float(distance), 3) for distance in distances]
        [1.0, 12.065, 3.303]
    """
    if metric not in METRICS:
        raise UserError(f"no metric {metric!r}; there are {', '.join(METRICS)}")
    if k < 1:
        raise UserError(f"the number of neighbours must be at least 1, not {k}")
    width, bank_width = jnp.shape(queries)[-1], jnp.shape(bank.embeddings)[-1]
    if width != bank_width:
        raise UserError(f"queries have {width} columns, the bank has {bank_width}")

    def one_bank(
        queries: jax.Array,  # (q, d)
        embeddings: jax.Array,  # (n, d)
        mask: jax.Array,  # (n,)
        target: jax.Array,  # (n,)
    ) -> jax.Array:
        # Rows that do not count may be NaN, which a product with 0 would keep.
        embeddings = jnp.where(mask[:, None], embeddings, 0)
        if metric == "cosine":
            queries, embeddings = directions(queries), directions(embeddings)
        # Centred vectors are short, so that the rounding of their products is small.
        middle = jnp.sum(embeddings, axis=0) / jnp.maximum(jnp.sum(mask), 1)  # (d,)
        moved = jnp.where(mask[:, None], embeddings - middle, 0)  # (n, d)
        lengths = jnp.sum(moved**2, axis=-1)  # (n,)

        def block(queries: jax.Array) -> jax.Array:
            # |q − x|² = |q|² − (2 q·x − |x|²): the nearest row has the largest closeness.
            products = jnp.matmul(queries - middle, moved.T, precision="highest")  # (q, n)
            closeness = 2 * products - lengths
            source, target_only = (
                _mean_nearest(queries, embeddings, closeness, rows, k, metric)
                for rows in (mask & ~target, mask & target)
            )
            return jnp.minimum(source, target_only)

        return _in_blocks(block, queries, max(1, _BLOCK // len(embeddings)))

    over = jnp.vectorize(one_bank, signature="(q,d),(n,d),(n),(n)->(q)")
    return over(queries, *bank)


def _mean_nearest(
    queries: jax.Array,
    embeddings: jax.Array,
    closeness: jax.Array,
    rows: jax.Array,
    k: int,
    metric: str,
) -> jax.Array:
    """Mean distance (q,) from the k nearest of the rows (n,) that count."""
    _, candidates = jax.lax.top_k(jnp.where(rows, closeness, -jnp.inf), min(k + _SPARE, len(rows)))

    def distance(candidate: jax.Array) -> jax.Array:
        distances = vector_distance(queries, embeddings[candidate], metric)
        return jnp.where(rows[candidate], distances, jnp.inf)

    # Candidate by candidate, so that no array has queries × candidates × columns.
    distances = jnp.sort(jax.lax.map(distance, candidates.T), axis=0)[:k]  # (k, q)
    # With fewer than k rows, the last places of the sorted distances are infinite.
    count = jnp.minimum(jnp.sum(rows), len(distances))
    counts = (jnp.arange(len(distances)) < count)[:, None]
    mean = jnp.sum(jnp.where(counts, distances, 0), axis=0) / jnp.maximum(count, 1)
    return jnp.where(count > 0, mean, jnp.inf)


def vector_distance(a: jax.Array, b: jax.Array, metric: str) -> jax.Array:
    """Distance of vectors (..., d), of unit length or zero for the cosine."""
    squared = jnp.sum((a - b) ** 2, axis=-1)
    if metric == "euclidean":
        return jnp.sqrt(squared)
    # Of unit vectors, 1 − cos is half the squared difference, which does not cancel.
    either_zero = ~(jnp.any(a != 0, axis=-1) & jnp.any(b != 0, axis=-1))
    return jnp.where(either_zero, 1, squared / 2)


def directions(vectors: jax.Array) -> jax.Array:
    """Vectors (..., d) scaled to unit length; zero vectors stay."""
    largest = jnp.max(jnp.abs(vectors), axis=-1, keepdims=True)
    # Divided by the largest entry first, so that no square overflows or vanishes.
    scaled = vectors / jnp.where(largest > 0, largest, 1)
    length = jnp.linalg.norm(scaled, axis=-1, keepdims=True)
    return scaled / jnp.where(length > 0, length, 1)


def _in_blocks(
    function: Callable[[jax.Array], jax.Array], queries: jax.Array, size: int
) -> jax.Array:
    """`function` of queries (q, d), `size` queries at a time."""
    q = len(queries)
    if q <= size:
        return function(queries)
    padded = jnp.pad(queries, ((0, -q % size), (0, 0)))
    blocks = jax.lax.map(function, padded.reshape(-1, size, queries.shape[-1]))
    return blocks.reshape(-1)[:q]
