"""Bootstrap intervals of AUC and pAUC for all machines, seeds and resamples.

Every group is sorted once. A resample is then a vector of whole-number weights on the sorted
clips, and its AUC and pAUCs are sums of cumulative weights, vectorised over the resamples. This
runs in NumPy on the host, where sorting and counting cost far less than in XLA on a CPU.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from asd_jax.errors import UserError
from asd_jax.metrics import FLOOR_SLACK, RankingMetrics, check_max_fpr, mcclish

# Clips times resamples in memory at once.
_BLOCK = 4_000_000
# Clips times resamples whose draws are counted together, so that the counts stay in a core's cache.
_CELLS = 80_000
# Share of the resamples inside an interval.
_COVERAGE = 0.95


def percentile_interval(values: np.ndarray) -> np.ndarray:
    """The central 95 % of resampled values.

    Args:
        values: (..., n_resamples), from `bootstrap`, or means of it.

    Returns:
        (..., 2), low and high; NaN where a value is NaN.

    Examples:
        >>> percentile_interval(np.arange(101.0)).round(3).tolist()
        [2.5, 97.5]
    """
    tail = 50 * (1 - _COVERAGE)
    return np.moveaxis(np.percentile(values, [tail, 100 - tail], axis=-1), 0, -1)


def bootstrap(
    labels: Any,
    scores: Any,
    mask: Any = None,
    *,
    n_resamples: int = 1000,
    seed: int = 0,
    max_fpr: float = 0.1,
) -> RankingMetrics:
    """AUC and both partial AUCs of every bootstrap resample.

    The bootstrap is stratified: a resample draws as many normal clips and as many anomalies as
    the set has, with replacement, because the design of a test set fixes its class sizes. So no
    resample has one class only.

    Each row of labels and mask, broadcast against each other, has its own resamples, shared by
    all rows of scores that broadcast against it. So labels with a seed axis of length 1 pair the
    seeds: all are resampled alike.

    Args:
        labels: (..., clips), 1 anomaly, 0 normal; clips with other labels are ignored.
        scores: (..., clips), larger is more anomalous.
        mask: (..., clips), True for the clips that count; None for all of them.
        n_resamples: number of resamples.
        seed: the same seed gives the same resamples.
        max_fpr: limit of the partial AUCs, in (0, 1].

    Returns:
        Values (..., n_resamples), float64; NaN where `metrics.ranking_metrics` has NaN.

    Raises:
        UserError: n_resamples is not positive or max_fpr is outside (0, 1].

    Examples:
        >>> values = bootstrap([0, 0, 1, 1], [0.1, 0.2, 0.8, 0.9], n_resamples=100)
        >>> values.auc.shape, percentile_interval(values.auc).tolist()
        ((100,), [1.0, 1.0])
    """
    check_max_fpr(max_fpr)
    if n_resamples < 1:
        raise UserError(f"n_resamples must be at least 1, not {n_resamples}")
    # Labels and mask get the axes of the scores, of length 1 where they do not depend on them.
    labels, mask = np.broadcast_arrays(labels, True if mask is None else mask)
    scores = np.asarray(scores)
    scores = scores.astype(np.result_type(scores, np.float32), copy=False)
    shape = np.broadcast_shapes(labels.shape, scores.shape)
    scores = np.broadcast_to(scores, shape)
    new_axes = (1,) * (len(shape) - labels.ndim)
    labels, mask = (
        np.broadcast_to(x.reshape(new_axes + x.shape), (*new_axes, *x.shape[:-1], shape[-1]))
        for x in (labels, mask)
    )

    values = np.full((3, *shape[:-1], n_resamples), np.nan)
    for row, index in enumerate(np.ndindex(labels.shape[:-1])):
        # The rows of scores that share this row's labels: all of an axis that is broadcast.
        shared = tuple(
            slice(None) if size == 1 else slice(i, i + 1)
            for i, size in zip(index, labels.shape[:-1], strict=True)
        )
        values[(slice(None), *shared)] = resample_group(
            labels[index], scores[shared], mask[index], n_resamples, [seed, row], shape[-1], max_fpr
        )
    return RankingMetrics(*values)


def resample_group(
    labels: np.ndarray,
    scores: np.ndarray,
    mask: np.ndarray,
    n_resamples: int,
    seed: Sequence[int],
    longest: int,
    max_fpr: float = 0.1,
) -> RankingMetrics:
    """The values of `bootstrap` of one group, without the padding of arrays of groups.

    Args:
        labels: (clips,), as of `bootstrap`.
        scores: (..., clips), of which each row has the same resamples.
        mask: (clips,), as of `bootstrap`.
        n_resamples: as of `bootstrap`.
        seed: of `bootstrap`, and the group's number.
        longest: clips of the longest group, which decide how many resamples are drawn at a time,
            and so which.
        max_fpr: as of `bootstrap`.

    Returns:
        Values (..., n_resamples).
    """
    values = np.full((3, *scores.shape[:-1], n_resamples), np.nan)
    positive = np.flatnonzero((labels == 1) & mask)
    negative = np.flatnonzero((labels == 0) & mask)
    if not positive.size or not negative.size:
        return RankingMetrics(*values)
    rng = np.random.default_rng(seed)
    block = resamples_at_once(n_resamples, longest)
    for start in range(0, n_resamples, block):
        count = min(block, n_resamples - start)
        draws_pos = _draw(rng, positive.size, count)
        draws_neg = _draw(rng, negative.size, count)
        for place in np.ndindex(scores.shape[:-1]):
            clip_scores = scores[place]  # (clips,)
            values[(slice(None), *place, slice(start, start + count))] = _weighted_metrics(
                clip_scores[positive], clip_scores[negative], draws_pos, draws_neg, max_fpr
            )
    return RankingMetrics(*values)


def resamples_at_once(n_resamples: int, longest: int) -> int:
    """Resamples that are drawn at a time where the longest group has so many clips."""
    return max(1, min(n_resamples, _BLOCK // max(longest, 1)))


def _draw(rng: np.random.Generator, n: int, n_resamples: int) -> np.ndarray:
    """Counts how often each of n clips is drawn in n draws: (n, n_resamples)."""
    draws = rng.integers(n, size=(n_resamples, n), dtype=np.uint16 if n <= 2**16 else np.uint32)
    counts = np.empty((n, n_resamples), np.float32)
    together = max(1, _CELLS // n)
    for first in range(0, n_resamples, together):
        # One count for some resamples: each has n cells of its own.
        part = draws[first : first + together]
        cells = part + np.arange(len(part))[:, None] * n
        of_cells = np.bincount(cells.ravel(), minlength=n * len(part))
        counts[:, first : first + together] = of_cells.reshape(len(part), n).T
    return counts


def _weighted_metrics(
    pos: np.ndarray,
    neg: np.ndarray,
    pos_weights: np.ndarray,
    neg_weights: np.ndarray,
    max_fpr: float,
) -> np.ndarray:
    """The three metrics (3, n_resamples) of one group, with weights (clips, n_resamples)."""
    n_pos, n_neg = len(pos), len(neg)
    if np.isnan(pos).any() or np.isnan(neg).any():
        return np.full((3, pos_weights.shape[1]), np.nan)
    # Every sum is a whole number of at most 2 n_pos n_neg, exact in float32 up to 2^24.
    dtype: Any = np.float32 if 2 * n_pos * n_neg < 2**24 else np.float64
    # Weight of the k highest anomalies, for every k.
    order = np.argsort(pos)
    above = _cumulate(pos_weights[order[::-1]].astype(dtype, copy=False))
    # Levels: distinct scores of normal clips, descending; each one's weight is the width of its
    # segment of the ROC curve.
    descending, ordered = np.argsort(-neg), np.sort(neg)[::-1]
    first = np.flatnonzero(np.concatenate([[True], ordered[1:] != ordered[:-1]]))
    width = neg_weights[descending].astype(dtype, copy=False)
    if len(first) < n_neg:
        width = np.add.reduceat(width, first, axis=0)  # (levels, n_resamples)
    # Anomalies above each level of normal scores, without and with those equal to it.
    higher = n_pos - np.searchsorted(pos[order], ordered[first], side="right")
    as_high = n_pos - np.searchsorted(pos[order], ordered[first], side="left")
    tp0 = above[higher]
    tp1 = above[as_high] if (as_high != higher).any() else tp0  # equal but for ties
    height = tp0 + tp1  # twice a segment's mean height
    auc = np.einsum("lr,lr->r", width, height) / (2 * n_pos * n_neg)

    limit = max_fpr * n_neg
    n_top = float(np.floor(limit * FLOOR_SLACK))
    # False positives before each level; levels beyond the limit in every resample are dropped.
    fp0 = _cumulate(width)
    needed = 1 + np.searchsorted(fp0[1:].min(axis=1), limit)
    fp0, width, height, tp0, tp1 = (x[:needed] for x in (fp0, width, height, tp0, tp1))
    # The area of each segment up to the limit: a rectangle, and where anomalies tie with normal
    # clips a triangle on top.
    taken = np.clip(limit - fp0, 0, width)
    area = 2 * np.einsum("lr,lr->r", taken, tp0)
    if (as_high != higher)[:needed].any():
        area += np.einsum("lr,lr->r", taken * taken / np.maximum(width, 1), tp1 - tp0)
    standardised = mcclish(area / (2 * n_pos * n_neg), max_fpr)
    if n_top == 0:
        return np.stack([auc, np.full_like(auc, np.nan), standardised])
    stepped = np.einsum("lr,lr->r", np.clip(n_top - fp0, 0, width), height)
    return np.stack([auc, stepped / (2 * n_pos * n_top), standardised])


def _cumulate(weights: np.ndarray) -> np.ndarray:
    """Cumulative sums of rows, from zero: (rows + 1, columns).

    Adding whole rows is four times as fast as numpy.cumsum along the first axis.
    """
    out = np.empty((len(weights) + 1, weights.shape[1]), weights.dtype)
    out[0] = 0
    for i, row in enumerate(weights):
        np.add(out[i], row, out=out[i + 1])
    return out
