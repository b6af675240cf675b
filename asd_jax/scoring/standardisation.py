"""Distances and scores in units of what the bank's own rows have, each if it is left out.

Distances from the source clips and from the few target clips of a machine have unlike means and
spreads, and so have the scores of several back ends. Standardised by the scores of the bank's own
rows, which are normal, they can be compared, and the smallest of them is the score.

Source of the minimum over back ends: arXiv 2606.19269.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from asd_jax.errors import UserError
from asd_jax.scoring import neighbourhoods
from asd_jax.scoring.neighbourhoods import Neighbours

# Target clips below which their spread is the source's: of so few it is hardly known.
FEW = 5


class Scales(NamedTuple):
    """Means and standard deviations of the distances of a bank's rows from the others.

    Attributes:
        mean: (..., 2) of the source and of the target rows, each from the rows of its domain.
        deviation: (..., 2), never 0.
    """

    mean: Any
    deviation: Any


def domain_scales(
    within: jax.Array, mask: Any = None, target: Any = None, *, k: int = 1, few: int = FEW
) -> Scales:
    """Mean and deviation of the distances of each domain's rows from its others; jit-able.

    Deviations have n in their denominator. A deviation of 0 becomes 1. The source's take the
    place of a target deviation of fewer than `few` rows, and of the mean of a single target row,
    where the source has `few` rows. A domain of one row without that has the mean 0 and the
    deviation 1: its distances stay as they are.

    Args:
        within: (..., n, n) distances of the bank's rows from each other.
        mask: (..., n), true where a row counts; None for all of them.
        target: (..., n), true where a row is of the target domain; None for none of them.
        k: number of neighbours that a distance is the mean of.
        few: target rows of which a deviation is known, at least.

    Raises:
        UserError: distances that are not square, or k or `few` below 1.

    Examples:
        >>> import numpy as np
        >>> from asd_jax.scoring.neighbourhoods import distances
        >>> rows = np.array([[0.0], [1.0], [4.0], [90.0], [92.0]])
        >>> within = distances(rows, rows, metric="euclidean")
        >>> scales = domain_scales(within, target=np.arange(5) > 2, few=1)
        >>> [round(float(mean), 3) for mean in scales.mean]
        [1.667, 2.0]
        >>> [round(float(deviation), 3) for deviation in scales.deviation]
        [0.943, 1.0]
    """
    _check(within, k, few)

    def one(within: jax.Array, mask: jax.Array, target: jax.Array) -> Scales:
        lists = _lists(within, mask, target, k, taken_out=0)
        return _scales(lists, mask, target, k, few)

    over = jnp.vectorize(one, signature="(n,n),(n),(n)->(d),(d)")
    return Scales(*over(*neighbourhoods.filled(within, mask, target)[:3]))


def standardised_distance(
    between: jax.Array, scales: Scales, mask: Any = None, target: Any = None, *, k: int = 1
) -> jax.Array:
    """The smaller of the standardised distances from the source and the target rows; jit-able.

    Args:
        between: (..., q, n) distances of the queries from the rows.
        scales: of the bank, with the same k.
        mask: (..., n), true where a row counts; None for all of them.
        target: (..., n), true where a row is of the target domain; None for none of them.
        k: number of neighbours, in each domain; all of its rows where it has fewer.

    Returns:
        (..., q); infinite where no row counts.

    Raises:
        UserError: k below 1.

    Examples:
        Two deviations from the source, one and a half from the target.

        >>> import numpy as np
        >>> scales = Scales(np.array([1.0, 3.0]), np.array([2.0, 4.0]))
        >>> between = np.array([[5.0, 9.0]])
        >>> standardised_distance(between, scales, target=np.array([False, True])).tolist()
        [1.5]
    """
    if k < 1:
        raise UserError(f"the number of neighbours must be at least 1, not {k}")

    def one(
        between: jax.Array,
        mask: jax.Array,
        target: jax.Array,
        mean: jax.Array,
        deviation: jax.Array,
    ) -> jax.Array:
        return _smaller(between, Scales(mean, deviation), mask, target, k)

    n = jnp.shape(between)[-1]
    mask = jnp.ones(n, bool) if mask is None else jnp.asarray(mask, bool)
    target = jnp.zeros(n, bool) if target is None else jnp.asarray(target, bool)
    over = jnp.vectorize(one, signature="(q,n),(n),(n),(d),(d)->(q)")
    return over(between, mask, target, *scales)


def leave_out_standardised(
    within: jax.Array,
    mask: Any = None,
    target: Any = None,
    group: Any = None,
    *,
    k: int = 1,
    few: int = FEW,
    most: int | None = None,
) -> jax.Array:
    """The score of each row by a bank without its group; jit-able.

    It equals `domain_scales` and `standardised_distance` once for each group, in a time that
    grows as n² times k + the rows of the largest group.

    Args:
        within: as in `domain_scales`.
        mask: as in `domain_scales`.
        target: as in `domain_scales`.
        group: as in `asd_jax.scoring.normalisation.leave_out`.
        k: as in `domain_scales`.
        few: as in `domain_scales`.
        most: as in `asd_jax.scoring.normalisation.leave_out`.

    Returns:
        (..., n); infinite where no other group has rows, NaN where a row does not count.

    Raises:
        UserError: as `domain_scales`.
    """
    _check(within, k, few)
    taken_out = most or neighbourhoods.largest(group, jnp.shape(within)[-1])

    def one(within: jax.Array, mask: jax.Array, target: jax.Array, group: jax.Array) -> jax.Array:
        lists = _lists(within, mask, target, k, taken_out)

        def score(row: jax.Array, stays: jax.Array) -> jax.Array:
            scales = _scales(lists, stays, target, k, few)
            return _smaller(within[row][None], scales, stays, target, k)[0]

        return neighbourhoods.left_out(score, mask, group)

    over = jnp.vectorize(one, signature="(n,n),(n),(n),(n)->(n)")
    return over(*neighbourhoods.filled(within, mask, target, group))


def minimum_of_z(scores: jax.Array, own: jax.Array, mask: Any = None) -> jax.Array:
    """The smallest of the z-scores of several back ends; jit-able.

    Each back end's scores are standardised by its own scores of the bank's rows, each by a bank
    without that row. A deviation of 0 counts as 1; own scores that are not finite do not count,
    nor does a back end that has none.

    Args:
        scores: (..., backends, q).
        own: (..., backends, n) leave-one-out scores of the bank's rows.
        mask: (..., n), true where a row counts; None for all of them.

    Returns:
        (..., q); infinite where no back end has own scores.

    Examples:
        >>> import numpy as np
        >>> own = np.array([[0.0, 2.0], [10.0, 30.0]])
        >>> minimum_of_z(np.array([[4.0], [40.0]]), own).tolist()
        [2.0]
    """
    own = jnp.asarray(own)
    mask = jnp.ones(own.shape[-1], bool) if mask is None else jnp.asarray(mask, bool)
    counts = mask[..., None, :] & jnp.isfinite(own)
    mean, deviation = neighbourhoods.moments(own, counts)
    z = (scores - mean[..., None]) / _never_zero(deviation, mean)[..., None]
    known = jnp.any(counts, axis=-1)[..., None]
    return jnp.min(jnp.where(known, z, jnp.inf), axis=-2)


def leave_out_minimum_of_z(pairs: jax.Array, mask: Any = None, group: Any = None) -> jax.Array:
    """The smallest z-score of each row by banks without its group; jit-able.

    Args:
        pairs: (..., backends, n, n): [i, j] a back end's score of row j by a bank without row j
            and without the group of row i, as `asd_jax.scoring.normalisation.leave_out_pairs`
            makes them.
        mask: (..., n), true where a row counts; None for all of them.
        group: (n,) or (..., n) labels; None where each row is its own group.

    Returns:
        (..., n); NaN where a row does not count.

    Raises:
        UserError: pairs that are not square.
    """
    pairs, mask, _, group = neighbourhoods.filled(pairs, mask, None, group)
    neighbourhoods.check_square(pairs)
    alone = jnp.diagonal(pairs, axis1=-2, axis2=-1)  # (..., backends, n)
    stays = mask[..., None, :] & (group[..., None, :] != group[..., :, None])  # (..., n, n)
    # Row after row as a bank of its own: (..., n, backends, n) with a mask (..., n, n).
    own = jnp.swapaxes(pairs, -3, -2)
    scores = jnp.swapaxes(alone, -2, -1)[..., None]  # (..., n, backends, 1)
    return jnp.where(mask, minimum_of_z(scores, own, stays)[..., 0], jnp.nan)


def _lists(
    within: jax.Array, mask: jax.Array, target: jax.Array, k: int, taken_out: int
) -> Neighbours:
    """Sorted neighbours in the rows' own domains."""
    same = neighbourhoods.others(mask) & (target[:, None] == target)
    return neighbourhoods.nearest(
        within, same, neighbourhoods.needed(len(mask), k, None, taken_out)
    )


def _scales(lists: Neighbours, stays: jax.Array, target: jax.Array, k: int, few: int) -> Scales:
    """Means and deviations (2,) of a bank of the rows that stay (n,)."""
    own = neighbourhoods.mean_nearest(lists, stays, k)  # (n,)
    of_domain = jnp.stack([stays & ~target, stays & target])  # (2, n)
    counts = of_domain & jnp.isfinite(own)
    mean, deviation = neighbourhoods.moments(jnp.broadcast_to(own, counts.shape), counts)
    deviation = _never_zero(deviation, mean)
    source_rows, target_rows = jnp.sum(of_domain, axis=-1)
    few = max(few, 2)  # one row has no distance from others
    known = source_rows >= few
    mean = mean.at[1].set(jnp.where(known & (target_rows < 2), mean[0], mean[1]))
    deviation = deviation.at[1].set(
        jnp.where(known & (target_rows < few), deviation[0], deviation[1])
    )
    return Scales(mean, deviation)


def _never_zero(deviation: jax.Array, mean: jax.Array) -> jax.Array:
    """Deviations, 1 where equal values differ by rounding alone."""
    rounding = 100 * jnp.finfo(deviation.dtype).eps * jnp.abs(mean)
    return jnp.where(deviation > rounding, deviation, 1)


def _smaller(
    between: jax.Array, scales: Scales, stays: jax.Array, target: jax.Array, k: int
) -> jax.Array:
    """Smaller standardised distance (q,) of queries from the source or the target rows."""
    distances = jnp.stack(
        [
            _mean_of_smallest(between, stays & ~target, k),
            _mean_of_smallest(between, stays & target, k),
        ]
    )
    z = (distances - scales.mean[:, None]) / scales.deviation[:, None]
    return jnp.min(z, axis=0)


def _mean_of_smallest(between: jax.Array, counts: jax.Array, k: int) -> jax.Array:
    """Mean (q,) of the k smallest distances (q, n) from rows that count; infinite without any."""
    found = neighbourhoods.nearest(between, counts, min(k, len(counts)))
    everything = jnp.ones(len(counts), bool)
    return jnp.where(
        jnp.any(counts),
        jnp.sum(jnp.where(neighbourhoods.staying(found, everything), found.distance, 0), axis=-1)
        / jnp.maximum(jnp.minimum(jnp.sum(counts), k), 1),
        jnp.inf,
    )


def _check(within: jax.Array, k: int, few: int) -> None:
    neighbourhoods.check_square(within)
    if k < 1:
        raise UserError(f"the number of neighbours must be at least 1, not {k}")
    if few < 1:
        raise UserError(f"few, the target rows of a known deviation, must be 1 or more, not {few}")
