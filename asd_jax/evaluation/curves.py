"""Curves of scores for figures: ROC curves, histograms, and counts at many thresholds."""

import math
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

import numpy as np

# An axis is logarithmic if the largest value is so many times the median.
_HEAVY_TAIL = 20
# Of the length of an axis, free on either side.
_MARGIN = 0.02


class RocCurve(NamedTuple):
    """A ROC curve, a chain of straight lines.

    Attributes:
        fpr: (points,) false positive rates, ascending from 0 to 1.
        tpr: (points,) true positive rates, ascending from 0 to 1.
    """

    fpr: np.ndarray
    tpr: np.ndarray


def mean_roc(labels: Any, scores: Any, mask: Any = None, *, most: int = 256) -> RocCurve | None:
    """The mean of the seeds' ROC curves: of their true positive rates at each false positive rate.

    So the area under it is the mean of the seeds' AUCs. Where a normal clip and an anomaly have
    the same score, the curve is a diagonal, as in `metrics.auc`.

    Args:
        labels: (clips,), 1 anomaly, 0 normal; clips with other labels are ignored.
        scores: (seeds, clips), or (clips,) of one seed; larger is more anomalous.
        mask: (clips,), True for the clips that count; None for all of them.
        most: false positive rates at which the curve is kept, 2 or more. With more normal clips
            than that, lines take the place of steps.

    Returns:
        The curve; None with one class only, or a score that is NaN.

    Examples:
        >>> curve = mean_roc([0, 0, 1, 1], [0.1, 0.5, 0.4, 0.9])
        >>> curve.fpr.tolist(), curve.tpr.tolist()
        ([0.0, 0.0, 0.5, 0.5, 1.0], [0.0, 0.5, 0.5, 1.0, 1.0])
    """
    labels, scores = np.asarray(labels), np.atleast_2d(np.asarray(scores, np.float64))
    counts = np.isin(labels, (0, 1)) & (True if mask is None else np.asarray(mask, bool))
    labels, scores = labels[counts], scores[:, counts]
    n_pos, n_neg = int((labels == 1).sum()), int((labels == 0).sum())
    if not n_pos or not n_neg or np.isnan(scores).any():
        return None
    # Anomalies found with k false positives, at least and at most: (seeds, normal clips + 1).
    lower, upper = np.mean([_steps(labels, row) for row in scores], axis=0)
    kept = np.unique(np.linspace(0, n_neg, min(most, n_neg + 1)).round().astype(int))
    fpr = np.repeat(kept / n_neg, 2)
    tpr = np.stack([lower[kept], upper[kept]], axis=1).ravel() / n_pos
    new = np.concatenate([[True], (np.diff(fpr) > 0) | (np.diff(tpr) > 0)])
    return RocCurve(fpr[new], tpr[new])


def _steps(labels: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Least and greatest number of anomalies found with 0, 1, 2 … false positives."""
    order = np.argsort(-scores, kind="stable")
    descending = scores[order]
    corner = np.concatenate([descending[1:] != descending[:-1], [True]])
    tp = np.concatenate([[0], np.cumsum(labels[order] == 1)[corner]])
    fp = np.concatenate([[0], np.cumsum(labels[order] == 0)[corner]])
    at, first = np.unique(fp, return_index=True)
    low = tp[first]
    high = np.concatenate([tp[first[1:] - 1], tp[-1:]])
    grid = np.arange(fp[-1] + 1)
    right = np.searchsorted(at, grid)
    left = np.maximum(right - 1, 0)
    # Between corners, where scores of several clips are equal, the curve is a straight line.
    is_corner = at[right] == grid
    share = (grid - at[left]) / np.where(is_corner, 1, at[right] - at[left])
    between = high[left] + share * (low[right] - high[left])
    return np.where(is_corner, low[right], between), np.where(is_corner, high[right], between)


class ScoreAxis(NamedTuple):
    """An axis for scores.

    Attributes:
        scale: "linear", "log", or "asinh" (linear around 0, logarithmic beyond `width`).
        low: its left end.
        high: its right end.
        width: of the linear part of "asinh".
    """

    scale: Literal["linear", "log", "asinh"]
    low: float
    high: float
    width: float = 1.0

    def place(self, values: Any) -> np.ndarray:
        """Places (...) of values (...) on the axis: 0 its left end, 1 its right end.

        Examples:
            >>> ScoreAxis("log", 1.0, 100.0).place([1, 10, 100]).tolist()
            [0.0, 0.5, 1.0]
        """
        low, high = self._forward(np.array([self.low, self.high]))
        return (self._forward(np.asarray(values, np.float64)) - low) / (high - low)

    def edges(self, bins: int) -> np.ndarray:
        """(bins + 1,) limits of bins of equal width on the axis.

        Examples:
            >>> ScoreAxis("log", 1.0, 100.0).edges(2).round(6).tolist()
            [1.0, 10.0, 100.0]
        """
        low, high = self._forward(np.array([self.low, self.high]))
        edges = self._backward(np.linspace(low, high, bins + 1))
        edges[[0, -1]] = self.low, self.high  # whatever was rounded
        return edges

    def _forward(self, values: np.ndarray) -> np.ndarray:
        if self.scale == "log":
            return np.log(values)
        return np.arcsinh(values / self.width) if self.scale == "asinh" else values

    def _backward(self, values: np.ndarray) -> np.ndarray:
        if self.scale == "log":
            return np.exp(values)
        return self.width * np.sinh(values) if self.scale == "asinh" else values


def score_axis(values: Any, threshold: float = math.nan) -> ScoreAxis:
    """An axis on which all finite scores and the threshold have a place.

    It is logarithmic where some scores are many times as large as most.

    Args:
        values: scores, any shape.
        threshold: the decision threshold; not finite for none.

    Examples:
        >>> score_axis([1.0, 2.0, 3.0]).scale, score_axis([1.0, 2.0, 300.0]).scale
        ('linear', 'log')
    """
    values = np.append(np.ravel(np.asarray(values, np.float64)), threshold)
    values = values[np.isfinite(values)]
    if not len(values):
        return ScoreAxis("linear", 0.0, 1.0)
    low, high = float(values.min()), float(values.max())
    typical = float(np.median(np.abs(values)))
    if max(high, -low) > _HEAVY_TAIL * typical > 0:
        axis = ScoreAxis("log" if low > 0 else "asinh", low, high, typical)
    else:
        axis = ScoreAxis("linear", low, high)
    ends = axis._forward(np.array([low, high]))
    # Equal scores lie in the middle of an axis that is wide enough to tell numbers apart.
    margin = _MARGIN * (ends[1] - ends[0]) or max(0.5 * abs(ends[0]), 0.5)
    low, high = axis._backward(ends + [-margin, margin]).tolist()
    return axis._replace(low=low, high=high)


class ThresholdCounts(NamedTuple):
    """Clips above each of many thresholds.

    Attributes:
        thresholds: (thresholds,) ascending; the lowest is below all finite scores.
        above: by class of clips, (thresholds,) how many have a larger score.
        start: place of the decision threshold; the middle if there is none.
    """

    thresholds: np.ndarray
    above: dict[str, np.ndarray]
    start: int


def threshold_counts(
    scores: Mapping[str, np.ndarray], threshold: float, *, most: int = 512
) -> ThresholdCounts:
    """Counts the clips above the decision threshold and other ones.

    The others are the scores themselves, as each is the least threshold that its clip does not
    exceed; where there are too many, some of them, with as many scores between any two.

    Args:
        scores: by class, (clips,); one that is NaN is above no threshold.
        threshold: the decision threshold; not finite for none.
        most: number of thresholds, 3 or more.

    Examples:
        >>> counts = threshold_counts({"all": np.array([1.0, 3.0, 5.0])}, 4.0)
        >>> counts.thresholds[1:].tolist(), counts.above["all"].tolist(), counts.start
        ([1.0, 3.0, 4.0, 5.0], [3, 2, 1, 1, 0], 3)
    """
    every = np.concatenate([*map(np.ravel, scores.values()), []]).astype(np.float64)
    levels = np.unique(every[np.isfinite(every)])
    if not len(levels):
        levels = np.zeros(1)
    steps = [1e-3 * abs(levels[0]), 1e-2 * (levels[-1] - levels[0])]
    lowest = levels[0] - min([step for step in steps if step > 0], default=1e-3)
    if len(levels) > most - 2:
        levels = levels[np.linspace(0, len(levels) - 1, most - 2).round().astype(int)]
    decision = [threshold] * math.isfinite(threshold)
    thresholds = np.unique(np.concatenate([[lowest], levels, decision]))
    above = {}
    for name, values in scores.items():
        ordered = np.sort(values[~np.isnan(values)].astype(np.float64))
        above[name] = len(ordered) - np.searchsorted(ordered, thresholds, side="right")
    start = int(np.searchsorted(thresholds, threshold)) if decision else len(thresholds) // 2
    return ThresholdCounts(thresholds, above, start)
