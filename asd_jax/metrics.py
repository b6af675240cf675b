"""Ranking and decision metrics of the challenge, for every group of clips at once.

`auc`, `pauc` and `ranking_metrics` are array code: NumPy arrays are evaluated by NumPy (in
float64; on a CPU its sort is far faster than XLA's), JAX arrays by JAX, also inside `jit`
and `vmap`. Label 1 is an anomaly, 0 is normal, and a clip with any other label is ignored.
"""

import functools
import math
import warnings
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from asd_jax.errors import UserError

Array = np.ndarray | jax.Array

# Guards max_fpr * n_normal against rounding before it is floored.
FLOOR_SLACK = 1 + 1e-6
# The official programs' guard of divisions and harmonic means.
_EPSILON = float(np.finfo(np.float64).eps)


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
        present or a score is NaN. Exact to rounding for up to 10^6 clips in a group, also
        in float32.
    """
    value = ranking_metrics(labels, scores, mask).auc
    _warn_if_nan(value, "AUC", "only one class, or a score that is NaN")
    return value


def pauc(
    labels: Any, scores: Any, mask: Any = None, max_fpr: float = 0.1, standardized: bool = True
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

    Args:
        labels: (..., clips), as in `auc`.
        scores: (..., clips), as in `auc`.
        mask: (..., clips), as in `auc`.
        max_fpr: p, in (0, 1].
        standardized: which of the two.

    Returns:
        (...) values; NaN, with a warning outside `jit`, where only one class is present, a
        score is NaN, or (standardized=False) K is 0.

    Raises:
        UserError: max_fpr is outside (0, 1].
    """
    values = ranking_metrics(labels, scores, mask, max_fpr)
    if standardized:
        _warn_if_nan(values.pauc_mcclish, "pAUC", "only one class, or a score that is NaN")
        return values.pauc_mcclish
    few = "only one class, fewer than 1 / max_fpr normal clips, or a score that is NaN"
    _warn_if_nan(values.pauc, "pAUC", few)
    return values.pauc


def ranking_metrics(
    labels: Any, scores: Any, mask: Any = None, max_fpr: float = 0.1
) -> RankingMetrics:
    """AUC and both partial AUCs from one sort; never warns. Arguments as in `pauc`."""
    check_max_fpr(max_fpr)
    inputs = [labels, scores, True if mask is None else mask]
    if any(isinstance(x, jax.Array) for x in inputs):
        return _ranking_metrics_jax(*inputs, max_fpr)
    return _ranking_metrics(np, *inputs, max_fpr)


def _ranking_metrics(
    xp: Any, labels: Any, scores: Any, mask: Any, max_fpr: float
) -> RankingMetrics:
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
    true_pos = xp.cumsum(xp.take_along_axis(positive, order, axis=-1).astype(int), axis=-1)
    false_pos = xp.cumsum(xp.take_along_axis(negative, order, axis=-1).astype(int), axis=-1)
    n_pos, n_neg = true_pos[..., -1], false_pos[..., -1]

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
    limit = max_fpr * n_neg.astype(float)
    n_top = xp.floor(limit * FLOOR_SLACK)
    full, _ = _twice_area(curve, n_neg.astype(float))
    _, interpolated = _twice_area(curve, limit)
    stepped, _ = _twice_area(curve, n_top)

    def over(area: Array, n_normal: Array) -> Array:
        return area / xp.maximum(n_normal, 1) / (2 * xp.maximum(n_pos, 1))

    defined = (n_pos > 0) & (n_neg > 0) & ~xp.any(xp.isnan(scores) & used, axis=-1)
    return RankingMetrics(
        auc=xp.where(defined, over(full, n_neg), xp.nan)[()],
        pauc=xp.where(defined & (n_top > 0), over(stepped, n_top), xp.nan)[()],
        pauc_mcclish=xp.where(defined, mcclish(over(interpolated, n_neg), max_fpr), xp.nan)[()],
    )


_ranking_metrics_jax = jax.jit(functools.partial(_ranking_metrics, jnp), static_argnums=3)


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
        The area that gives every false positive of the cut segment the segment's mean height,
        and the area under the straight line. They differ only where normal clips tie with
        anomalies across the limit.
    """
    xp, corner, fp0, fp1, tp0, tp1 = curve
    limit = limit[..., None]
    height = tp0 + tp1
    width = xp.where(corner & (fp1 <= limit), fp1 - fp0, 0)
    high = xp.sum(width * (height >> 10), axis=-1).astype(float)
    low = xp.sum(width * (height & 1023), axis=-1).astype(float)
    whole = 1024 * high + low
    taken = xp.where(corner & (fp0 < limit) & (limit < fp1), limit - fp0, 0)
    share = taken / xp.maximum(fp1 - fp0, 1)
    mean_height = xp.sum(taken * height, axis=-1)
    line = xp.sum(taken * (2 * tp0 + share * (tp1 - tp0)), axis=-1)
    return whole + mean_height, whole + line


def mcclish(area: Array, max_fpr: float) -> Array:
    """McClish's standardisation of the area under the ROC curve up to `max_fpr`."""
    lowest, highest = max_fpr**2 / 2, max_fpr
    return (1 + (area - lowest) / (highest - lowest)) / 2


def check_max_fpr(max_fpr: float) -> None:
    """Raises UserError unless 0 < max_fpr <= 1."""
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


class Confusion(NamedTuple):
    """Counts of decisions, each (...): true/false positives, false/true negatives."""

    tp: Array
    fp: Array
    fn: Array
    tn: Array


def confusion_counts(labels: Any, decisions: Any, mask: Any = None) -> Confusion:
    """Counts the decisions of each kind.

    Args:
        labels: (..., clips), 1 anomaly, 0 normal; clips with other labels are ignored.
        decisions: (..., clips), 1 where the clip was called anomalous, else 0.
        mask: (..., clips), True for the clips that count; None for all of them.

    Returns:
        The four counts, each (...).
    """
    inputs = [labels, decisions, True if mask is None else mask]
    xp = jnp if any(isinstance(x, jax.Array) for x in inputs) else np
    labels, decisions, mask = xp.broadcast_arrays(*map(xp.asarray, inputs))
    called = decisions.astype(bool)
    anomaly, normal = (labels == 1) & mask, (labels == 0) & mask
    return Confusion(
        tp=xp.sum(anomaly & called, axis=-1),
        fp=xp.sum(normal & called, axis=-1),
        fn=xp.sum(anomaly & ~called, axis=-1),
        tn=xp.sum(normal & ~called, axis=-1),
    )


def precision(counts: Confusion) -> Array:
    """Share of the called anomalies that are anomalies; 0 where none was called."""
    return counts.tp / _at_least_one(counts.tp + counts.fp)


def recall(counts: Confusion) -> Array:
    """Share of the anomalies that were called; 0 where there are none."""
    return counts.tp / _at_least_one(counts.tp + counts.fn)


def f1(counts: Confusion) -> Array:
    """Harmonic mean of precision and recall; 0 where both are 0."""
    return 2 * counts.tp / _at_least_one(2 * counts.tp + counts.fp + counts.fn)


def _at_least_one(count: Array) -> Array:
    return (jnp if isinstance(count, jax.Array) else np).maximum(count, 1)


def harmonic_mean(values: Any, axis: int = -1) -> np.ndarray:
    """Harmonic mean of values in [0, 1], 0 raised to float64's eps as in the official programs.

    Args:
        values: any shape.
        axis: the axis to average over.

    Returns:
        `values` without that axis; NaN where one of the values is NaN or there are none.
    """
    values = np.maximum(np.asarray(values, np.float64), _EPSILON)
    with np.errstate(invalid="ignore", divide="ignore"):
        return values.shape[axis] / np.sum(1 / values, axis=axis)


def official_score(year: int, domains: Any, auc: Any, pauc_mcclish: Any) -> dict[str, np.ndarray]:
    """A challenge year's score over all machines and sections.

    2020 (and MIMII, year 0): the arithmetic means of AUC and pAUC over all machine ids.
    2021: the harmonic mean of the AUCs and pAUCs of both domains.
    2022 and later: the harmonic mean of AUC (source), AUC (target) and pAUC over both domains.

    Args:
        year: challenge year.
        domains: (rows,), "all", "source" or "target"; a row is a machine, section and domain.
        auc: (..., rows).
        pauc_mcclish: (..., rows), the official programs' pAUC.

    Returns:
        Name to value (...): "AUC" and "pAUC" for 2020, "official score" later. NaN if one of
        the values needed is NaN, or there is no AUC or no pAUC to average.
    """
    domains = np.asarray(domains)
    auc, pauc_mcclish = np.asarray(auc, np.float64), np.asarray(pauc_mcclish, np.float64)
    if year <= 2020:
        count = domains.size or math.nan
        return {"AUC": auc.sum(-1) / count, "pAUC": pauc_mcclish.sum(-1) / count}
    of_domain = (domains == "source") | (domains == "target")
    of_pauc = of_domain if year == 2021 else domains == "all"
    values = np.concatenate([auc[..., of_domain], pauc_mcclish[..., of_pauc]], axis=-1)
    if not (of_domain.any() and of_pauc.any()):
        values = values[..., :0]
    return {"official score": harmonic_mean(values)}


def domains_of(year: int) -> tuple[str, ...]:
    """The domains that a year's results are split into."""
    if year <= 2020:
        return ("all",)
    return ("source", "target") if year == 2021 else ("all", "source", "target")


def mean_over_sections(values: Any, year: int, axis: int = -1) -> np.ndarray:
    """A machine's mean as the year's official program forms it: arithmetic, since 2021 harmonic."""
    values = np.asarray(values, np.float64)
    return harmonic_mean(values, axis) if year >= 2021 else values.mean(axis)
