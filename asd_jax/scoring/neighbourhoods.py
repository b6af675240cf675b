"""Distances between all rows, and each row's nearest others if some rows are taken out.

The parts that `asd_jax.scoring.normalisation` and `asd_jax.scoring.standardisation` are made of.
A row's neighbours are sorted once. A statistic of them without some rows then skips those rows in
the sorted list, so that leaving out each of a thousand rows in turn sorts nothing again.

Functions here are of one bank; those of the two modules take any leading axes.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from asd_jax.errors import UserError
from asd_jax.scoring.neighbours import METRICS, directions, vector_distance

# Weights of ranks below this share of the first do not change a sum in float64.
_NEGLIGIBLE = 1e-17
_PAIRS = 32

# Row that is scored, rows (n,) that stay in the bank → its score.
Score = Callable[[jax.Array, jax.Array], jax.Array]


class Neighbours(NamedTuple):
    """The nearest rows of each row, nearest first.

    Attributes:
        distance: (n, size), infinite where there are no more rows.
        place: (n, size) their places in the bank.
    """

    distance: jax.Array
    place: jax.Array


def distances(queries: jax.Array, rows: jax.Array, *, metric: str = "cosine") -> jax.Array:
    """Distances of queries from rows, from differences; jit-able.

    Matrix products would lose near neighbours to rounding. The distances of a bank from itself
    are exactly symmetric, and exactly 0 between equal rows of some length.

    Args:
        queries: (..., q, d).
        rows: (..., n, d), the leading axes broadcast.
        metric: "cosine", 1 − cos, or "euclidean".

    Returns:
        (..., q, n); of rows that are not finite, NaN.

    Raises:
        UserError: no such metric, or queries and rows of unlike width.

    Examples:
        >>> import numpy as np
        >>> rows = np.array([[0.0, 0.0], [3.0, 4.0]])
        >>> distances(rows, rows, metric="euclidean").tolist()
        [[0.0, 5.0], [5.0, 0.0]]
    """
    if metric not in METRICS:
        raise UserError(f"no metric {metric!r}; there are {', '.join(METRICS)}")
    width, rows_width = jnp.shape(queries)[-1], jnp.shape(rows)[-1]
    if width != rows_width:
        raise UserError(f"queries have {width} columns, the rows have {rows_width}")

    def one(queries: jax.Array, rows: jax.Array) -> jax.Array:
        if metric == "cosine":
            queries, rows = directions(queries), directions(rows)
        # Query by query, so that no array has queries × rows × columns.
        return jax.lax.map(lambda query: vector_distance(query, rows, metric), queries)

    return jnp.vectorize(one, signature="(q,d),(n,d)->(q,n)")(queries, rows)


def nearest(within: jax.Array, counts: jax.Array, size: int) -> Neighbours:
    """The nearest rows by the distances `within` (n, n), of pairs that count (n, n).

    Of equally near rows the first comes first, whichever others are taken out.
    """
    closeness, place = jax.lax.top_k(jnp.where(counts, -within, -jnp.inf), size)
    return Neighbours(-closeness, place)


def others(mask: jax.Array) -> jax.Array:
    """Pairs (n, n) of two different rows that count (n,)."""
    return mask[:, None] & mask & ~jnp.eye(len(mask), dtype=bool)


def staying(neighbours: Neighbours, stays: jax.Array) -> jax.Array:
    """Which neighbours (n, size) are rows that stay (n,) in the bank."""
    return stays[neighbours.place] & jnp.isfinite(neighbours.distance)


def mean_nearest(
    neighbours: Neighbours, stays: jax.Array, k: Any, r: float | None = None
) -> jax.Array:
    """Mean distance (n,) from the nearest rows that stay (n,); infinite where there are none.

    Args:
        neighbours: at least `needed` of each row.
        stays: rows that are in the bank.
        k: number of neighbours, of all rows or (n,) of each; fewer where there are fewer.
        r: None, or the base of weights r^0, r^1, … of all neighbours, the nearest first.
    """
    kept = staying(neighbours, stays)
    rank = jnp.cumsum(kept, axis=-1) - 1
    dtype = neighbours.distance.dtype
    if r is None:
        weight = (kept & (rank < jnp.broadcast_to(k, stays.shape)[:, None])).astype(dtype)
    else:
        of_rank = jnp.asarray(np.power(r, np.arange(kept.shape[-1], dtype=np.float64)), dtype)
        weight = jnp.where(kept, of_rank[rank], 0)
    total = jnp.sum(weight, axis=-1)
    distance = jnp.where(kept, neighbours.distance, 0)
    mean = jnp.sum(weight * distance, axis=-1) / jnp.where(total > 0, total, 1)
    return jnp.where(total > 0, mean, jnp.inf)


def needed(n: int, k: int, r: float | None, taken_out: int) -> int:
    """Neighbours to keep of each of n rows so that `mean_nearest` is exact.

    Args:
        n: rows.
        k: number of neighbours.
        r: as in `mean_nearest`; ranks of negligible weight are not needed.
        taken_out: most rows that are taken out at once.

    Examples:
        >>> needed(1000, 4, None, 1), needed(1000, 4, 0.5, 1), needed(3, 4, None, 1)
        (5, 58, 3)
    """
    ranks = k
    if r is not None:
        ranks = n if r >= 1 else 1 if r <= 0 else math.ceil(math.log(_NEGLIGIBLE) / math.log(r))
    return min(n, ranks + taken_out)


def check_square(within: Any) -> None:
    """Raises UserError unless the distances are those of a bank's rows from each other."""
    shape = jnp.shape(within)
    if len(shape) < 2 or shape[-1] != shape[-2]:
        raise UserError(f"distances of a bank's rows have the shape (..., n, n), not {shape}")


def filled(
    within: Any, mask: Any = None, target: Any = None, group: Any = None
) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
    """Distances (..., n, n) and what is known of the rows, each (n,) or (..., n).

    Where they are None, all rows count, are of the source domain, and a group each.
    """
    n = jnp.shape(within)[-1]
    mask = jnp.ones(n, bool) if mask is None else jnp.asarray(mask, bool)
    target = jnp.zeros(n, bool) if target is None else jnp.asarray(target, bool)
    group = jnp.arange(n) if group is None else jnp.asarray(group)
    return jnp.asarray(within), mask, target, group


def largest(group: Any, n: int) -> int:
    """Most rows of one group; n of labels that are traced, whose numbers are not known yet.

    Examples:
        >>> largest(np.array([[4, 4, 7], [1, 2, 3]]), 3), largest(None, 3)
        (2, 1)
    """
    if group is None or n == 0:
        return 1
    if isinstance(group, jax.core.Tracer):
        return n
    labels = np.broadcast_to(np.asarray(group), (*np.shape(group)[:-1], n)).reshape(-1, n)
    return max(int(np.unique(each, return_counts=True)[1].max()) for each in labels)


def left_out(score: Score, mask: jax.Array, group: jax.Array) -> jax.Array:
    """Scores (n,) of the rows if the bank has no row of their group; NaN where none counts."""

    def one(row: jax.Array) -> jax.Array:
        return score(row, mask & (group != group[row]))

    return jnp.where(mask, jax.lax.map(one, jnp.arange(len(mask))), jnp.nan)


def left_out_pairs(score: Score, mask: jax.Array, group: jax.Array) -> jax.Array:
    """Scores (n, n): [i, j] of row j if the bank has neither row j nor a row of i's group."""
    rows = jnp.arange(len(mask))

    def one(row: jax.Array) -> jax.Array:
        stays = mask & (group != group[row])
        # Some at a time: one by one takes long, all at once much memory.
        return jax.lax.map(
            lambda other: score(other, stays & (rows != other)), rows, batch_size=_PAIRS
        )

    return jnp.where(mask[:, None] & mask, jax.lax.map(one, rows), jnp.nan)


def moments(values: jax.Array, counts: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Mean and standard deviation (...) over the last axis, of values (..., n) that count.

    The deviation has n in its denominator. Without values, both are 0.
    """
    number = jnp.maximum(jnp.sum(counts, axis=-1), 1)
    mean = jnp.sum(jnp.where(counts, values, 0), axis=-1) / number
    centred = jnp.where(counts, values - mean[..., None], 0)
    return mean, jnp.sqrt(jnp.sum(centred**2, axis=-1) / number)
