"""AUC and partial AUC of every group of clips at once.

`auc`, `pauc` and `ranking_metrics` are array code: NumPy arrays are evaluated by NumPy (in
float64; on a CPU its sort is far faster than XLA's), JAX arrays by JAX, also inside `jit`
and `vmap`. Label 1 is an anomaly, 0 is normal, and a clip with any other label is ignored.
"""

import functools
import warnings
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from asd_jax.errors import UserError

Array = np.ndarray | jax.Array

# Guards max_fpr * n_normal, in float64, against rounding before it is floored.
FLOOR_SLACK = 1 + 1e-12
# Clips of a group from which on sums of int32 could overflow, see `_twice_area`.
_TOO_MANY_OF_32_BITS = 2**21


class RankingMetrics(NamedTuple):
    """AUC and both partial AUCs.

    Attributes:
        auc: area under the ROC curve, ties counted half.
        pauc: the papers' partial AUC in [0, 1]: the share of (normal, anomaly) pairs in the
            right order among the floor(max_fpr * n_normal) highest-scoring normal clips.
        pauc_mcclish: the official programs' partial AUC, `roc_auc_score(max_fpr=...)`: the
            area under the interpolated ROC curve up to max_fpr, McClish-standardised, so
            that chance is 0.5.
    """

    auc: Any
    pauc: Any
    pauc_mcclish: Any


def auc(labels: Any, scores: Any, mask: Any = None) -> Array:
    """Area under the ROC curve; equal scores of both classes count half.

    Args:
        labels: (..., clips), 1 for an anomaly and 0 for a normal clip; its leading axes
            broadcast against those of `scores`.
        scores: (..., clips), larger is more anomalous.
        mask: (..., clips), True for the clips that count; None for all of them.

    Returns:
        (...) values in [0, 1]; NaN, with a warning outside `jit`, where only one class is
        present or a score is NaN. Exact to rounding, also in float32.

    Raises:
        UserError: JAX arrays have 2^21 clips in a group, or more, and no integers of 64 bits.

    Examples:
        Two groups of four clips; one anomaly of the second scores below a normal clip.

        >>> auc([0, 0, 1, 1], [[0.1, 0.2, 0.8, 0.9], [0.1, 0.5, 0.4, 0.9]]).tolist()
        [1.0, 0.75]
    """
    value = ranking_metrics(labels, scores, mask).auc
    _warn_if_nan(value, "AUC", "only one class, or a score that is NaN")
    return value


def pauc(
    labels: Any,
    scores: Any,
    mask: Any = None,
    max_fpr: float = 0.1,
    standardized: bool = True,
    ties: Literal["half", "none"] = "half",
) -> Array:
    """Partial AUC over the false positive rates from 0 to `max_fpr`.

    With standardized=True it is scikit-learn's `roc_auc_score(max_fpr=...)`, which the
    official programs print: the area A under the interpolated ROC curve up to p = max_fpr,
    mapped by McClish to (1 + (A - p²/2) / (p - p²/2)) / 2.

    With standardized=False it is the papers' formula r: the pairs in the right order among
    the K = floor(p * n_normal) highest-scoring normal clips, divided by K * n_anomaly, with
    ties counted half. Where normal clips tie for rank K, each of them has the same share of
    right pairs, so r does not depend on which are taken. If p * n_normal is an integer and
    no normal clip ties with an anomaly across rank K, then r = A / p, and for p = 0.1 the
    McClish value is 0.4737 + 0.5263 r.

    The papers' sum is of H(s⁺ − s⁻), with H(0) = 0: as printed, an anomaly that scores like a
    normal clip counts nothing. That is ties="none", which takes constant scores for the worst
    ones. Their AUC is printed with the same H; the official programs count half in both.

    Args:
        labels: (..., clips), as in `auc`.
        scores: (..., clips), as in `auc`.
        mask: (..., clips), as in `auc`.
        max_fpr: p, in (0, 1].
        standardized: True for scikit-learn's value, False for the papers'.
        ties: what an anomaly and a normal clip of the same score count, "half" a right pair or
            "none"; for standardized=False alone.

    Returns:
        (...) values; NaN, with a warning outside `jit`, where only one class is present, a
        score is NaN, or (standardized=False) K is 0.

    Raises:
        UserError: max_fpr is outside (0, 1], another value of `ties`, or as `auc`.

    Examples:
        Half of the ten normal clips count. The anomaly scores above three of these five.

        >>> labels, scores = [0] * 10 + [1], [*range(10), 7.5]
        >>> round(float(pauc(labels, scores, max_fpr=0.5, standardized=False)), 3)
        0.6
        >>> round(float(pauc(labels, scores, max_fpr=0.5)), 3)
        0.733

        Here it scores like the third of them.

        >>> labels, scores = [0] * 10 + [1], [*range(10), 7.0]
        >>> [float(pauc(labels, scores, None, 0.5, False, ties)) for ties in ("half", "none")]
        [0.5, 0.4]
    """
    if ties not in ("half", "none") or (standardized and ties != "half"):
        raise UserError(
            f"ties is {ties!r}; it is 'half', or with standardized=False 'none' for the papers' "
            "formula as printed"
        )
    values = _ranking(labels, scores, mask, max_fpr, ties == "half")
    if standardized:
        _warn_if_nan(values.pauc_mcclish, "pAUC", "only one class, or a score that is NaN")
        return values.pauc_mcclish
    few = "only one class, fewer than 1 / max_fpr normal clips, or a score that is NaN"
    _warn_if_nan(values.pauc, "pAUC", few)
    return values.pauc


def ranking_metrics(
    labels: Any, scores: Any, mask: Any = None, max_fpr: float = 0.1
) -> RankingMetrics:
    """AUC and both partial AUCs from one sort; never warns.

    Args:
        labels: (..., clips), as in `auc`.
        scores: (..., clips), as in `auc`.
        mask: (..., clips), as in `auc`.
        max_fpr: as in `pauc`.

    Returns:
        The metrics, each (...).

    Raises:
        UserError: max_fpr is outside (0, 1], or as `auc`.

    Examples:
        >>> values = ranking_metrics([0] * 10 + [1], [*range(10), 7.5], max_fpr=0.5)
        >>> [round(float(value), 3) for value in values]
        [0.8, 0.6, 0.733]
    """
    return _ranking(labels, scores, mask, max_fpr, True)


def _ranking(
    labels: Any, scores: Any, mask: Any, max_fpr: float, half_ties: bool
) -> RankingMetrics:
    """`ranking_metrics`, whose `pauc` counts ties half or not at all."""
    check_max_fpr(max_fpr)
    mask = True if mask is None else mask
    if any(isinstance(x, jax.Array) for x in (labels, scores, mask)):
        return _ranking_metrics_jax(labels, scores, mask, max_fpr, half_ties)
    return _ranking_metrics(np, labels, scores, mask, max_fpr, half_ties)


def _ranking_metrics(
    xp: Any, labels: Any, scores: Any, mask: Any, max_fpr: float, half_ties: bool
) -> RankingMetrics:
    """`_ranking` by NumPy or JAX (`xp`); every array is (..., clips) until the sums."""
    labels, scores, mask = xp.broadcast_arrays(*map(xp.asarray, (labels, scores, mask)))
    if not xp.issubdtype(scores.dtype, xp.floating):
        scores = scores.astype(float)
    if scores.shape[-1] == 0:
        return RankingMetrics(*[xp.full(scores.shape[:-1], xp.nan)[()]] * 3)

    positive, negative = (labels == 1) & mask, (labels == 0) & mask
    used = positive | negative
    # Descending scores. Clips that do not count go last, where they weigh nothing.
    key = xp.where(used, -scores, xp.inf)
    order = xp.argsort(key, axis=-1)
    key = xp.take_along_axis(key, order, axis=-1)
    # Counts after each clip, were the threshold just below its score.
    true_pos = xp.cumsum(xp.take_along_axis(positive, order, axis=-1).astype(int), axis=-1)
    false_pos = xp.cumsum(xp.take_along_axis(negative, order, axis=-1).astype(int), axis=-1)
    n_pos, n_neg = true_pos[..., -1], false_pos[..., -1]  # (...)
    clips = scores.shape[-1]
    if n_pos.dtype.itemsize < 8 and clips >= _TOO_MANY_OF_32_BITS:
        raise UserError(
            f"{clips} clips in a group are too many for JAX's integers of 32 bits, which count up "
            f"to {_TOO_MANY_OF_32_BITS - 1}: give NumPy arrays, or set JAX_ENABLE_X64"
        )

    # The ROC curve has a corner after the last clip of every run of equal scores.
    corner = xp.concatenate(
        [key[..., 1:] != key[..., :-1], xp.ones((*key.shape[:-1], 1), bool)], axis=-1
    )
    curve = _Curve(
        xp,
        corner,
        fp0=_previous(xp, corner, false_pos),
        fp1=false_pos,
        tp0=_previous(xp, corner, true_pos),
        tp1=true_pos,
    )
    limit = max_fpr * n_neg.astype(float)  # false positives up to max_fpr, a fraction
    n_top = _whole(xp, max_fpr, clips)[n_neg]  # and as whole clips, K in the papers
    full, _ = _twice_area(curve, n_neg.astype(float))
    _, interpolated = _twice_area(curve, limit)
    # A normal clip that ties with anomalies has none of them below it, or half of them.
    steps = curve if half_ties else curve._replace(tp1=curve.tp0)
    stepped, _ = _twice_area(steps, n_top)

    def over(area: Array, n_normal: Array) -> Array:
        """Rates from a doubled area in counts."""
        return area / xp.maximum(n_normal, 1) / (2 * xp.maximum(n_pos, 1))

    defined = (n_pos > 0) & (n_neg > 0) & ~xp.any(xp.isnan(scores) & used, axis=-1)
    return RankingMetrics(
        auc=xp.where(defined, over(full, n_neg), xp.nan)[()],
        pauc=xp.where(defined & (n_top > 0), over(stepped, n_top), xp.nan)[()],
        pauc_mcclish=xp.where(defined, mcclish(over(interpolated, n_neg), max_fpr), xp.nan)[()],
    )


_ranking_metrics_jax = jax.jit(functools.partial(_ranking_metrics, jnp), static_argnums=(3, 4))


def _whole(xp: Any, max_fpr: float, clips: int) -> Array:
    """(clips + 1,) floor(max_fpr * n) for every number n of normal clips.

    It is computed in float64 whatever the metrics are: in float32 it is off by one from some
    thousand clips on.
    """
    floors = np.floor(max_fpr * np.arange(clips + 1) * FLOOR_SLACK)
    return floors if xp is np else xp.asarray(floors, float)


class _Curve(NamedTuple):
    """ROC segments that end at the corners: counts before (0) and after (1) each."""

    xp: Any
    corner: Array
    fp0: Array
    fp1: Array
    tp0: Array
    tp1: Array


def _previous(xp: Any, corner: Array, counts: Array) -> Array:
    """The value of the non-decreasing `counts` at the corner before each element."""
    at_corners = xp.where(corner, counts, 0)
    reached: Array
    if xp is np:
        reached = np.maximum.accumulate(at_corners, axis=-1)
    else:
        reached = jax.lax.cummax(at_corners, axis=at_corners.ndim - 1)
    return xp.concatenate([xp.zeros_like(reached[..., :1]), reached[..., :-1]], axis=-1)


def _twice_area(curve: _Curve, limit: Array) -> tuple[Array, Array]:
    """Twice the area, in counts, under the ROC curve up to `limit` false positives.

    Segments that the limit does not cut are summed as integers in two halves, so that int32
    and float32 lose nothing; at most one segment is cut.

    Returns:
        The area with the cut segment's mean height for each of its false positives, and the
        area under the straight line; each (...). They differ only where normal clips tie with
        anomalies across the limit.
    """
    xp, corner, fp0, fp1, tp0, tp1 = curve
    limit = limit[..., None]
    height = tp0 + tp1  # twice a segment's mean height
    # Whole segments: heights as 1024 * high + low, so that neither sum leaves int32.
    width = xp.where(corner & (fp1 <= limit), fp1 - fp0, 0)
    high = xp.sum(width * (height >> 10), axis=-1).astype(float)
    low = xp.sum(width * (height & 1023), axis=-1).astype(float)
    whole = 1024 * high + low
    # The segment that the limit cuts, by its width before the limit.
    taken = xp.where(corner & (fp0 < limit) & (limit < fp1), limit - fp0, 0)
    share = taken / xp.maximum(fp1 - fp0, 1)
    mean_height = xp.sum(taken * height, axis=-1)
    line = xp.sum(taken * (2 * tp0 + share * (tp1 - tp0)), axis=-1)
    return whole + mean_height, whole + line


def mcclish(area: Array, max_fpr: float) -> Array:
    """McClish's standardisation of the area under the ROC curve up to `max_fpr`.

    Args:
        area: (...), between rates.
        max_fpr: largest false positive rate, in (0, 1].

    Returns:
        (...), 1 for a perfect ranking and 0.5 for chance.

    Examples:
        >>> mcclish(0.1, 0.1), mcclish(0.1**2 / 2, 0.1)
        (1.0, 0.5)
    """
    lowest, highest = max_fpr**2 / 2, max_fpr
    return (1 + (area - lowest) / (highest - lowest)) / 2


def check_max_fpr(max_fpr: float) -> None:
    """Raises UserError unless 0 < max_fpr <= 1.

    Examples:
        >>> check_max_fpr(10)
        Traceback (most recent call last):
        asd_jax.errors.UserError: max_fpr must be in (0, 1], not 10
    """
    if not 0 < max_fpr <= 1:
        raise UserError(f"max_fpr must be in (0, 1], not {max_fpr}")


def _warn_if_nan(value: Array, name: str, reason: str) -> None:
    if isinstance(value, jax.core.Tracer):
        return
    undefined = np.isnan(value)
    if undefined.any():
        warnings.warn(
            f"{name} is NaN for {undefined.sum()} of {undefined.size} groups: {reason}",
            stacklevel=3,
        )
