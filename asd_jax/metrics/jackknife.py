"""The jackknife interval of the official evaluators since 2022."""

from typing import Any, NamedTuple

import numpy as np
import scipy

from asd_jax.metrics.ranking import ranking_metrics

_AT_ONCE = 1 << 22  # values of leave-one-out samples that are ranked together


class Jackknife(NamedTuple):
    """Jackknife of AUC and McClish pAUC over clips.

    Attributes:
        standard_error: the standard error of their mean.
        official: what the evaluators print as "official score ci95".
    """

    standard_error: float
    official: float


def jackknife(labels: Any, scores: Any) -> Jackknife:
    """Jackknife of a system's AUC and McClish pAUC, each over all of its clips together.

    Of values t_i without clip i, of N clips, the standard error is ((N − 1)/N · Σ (t_i − t)²)^½.
    The evaluators print Student's 95 % quantile times (Σ (t_i − t)² / (N (N − 1)))^½, the mean of
    AUC's and pAUC's. That is how means of independent values spread, which the t_i are not: it is
    N − 1 times smaller than an interval by the first.

    Args:
        labels: (clips,) 1 for an anomaly, 0 for a normal clip.
        scores: (clips,).

    Returns:
        Both; NaN where a metric is undefined.

    Source: Mesaros et al. 2019, "Sound Event Detection in the DCASE 2017 Challenge", section IV.

    Examples:
        >>> rng = np.random.default_rng(0)
        >>> labels = np.repeat([0, 1], 50)
        >>> found = jackknife(labels, rng.normal(labels))
        >>> round(found.standard_error, 3), round(found.official, 5)
        (0.04, 0.0009)
    """
    labels, scores = np.asarray(labels), np.asarray(scores, np.float64)
    count = len(labels)
    if count < 2:
        return Jackknife(np.nan, np.nan)
    values = []
    step = max(1, _AT_ONCE // count)
    for first in range(0, count, step):
        left_out = np.arange(first, min(first + step, count))
        mask = np.arange(count) != left_out[:, None]  # (clips left out, clips)
        found = ranking_metrics(labels, np.broadcast_to(scores, mask.shape), mask)
        values.append(np.stack([found.auc, found.pauc_mcclish]))
    without = np.concatenate(values, axis=1)  # (2, clips)
    squares = ((without - without.mean(axis=1, keepdims=True)) ** 2).sum(axis=1)
    apart = without.mean(axis=0)
    return Jackknife(
        float(np.sqrt((count - 1) / count * ((apart - apart.mean()) ** 2).sum())),
        float(
            scipy.stats.t.ppf(0.975, count - 1) * np.sqrt(squares / (count * (count - 1))).mean()
        ),
    )
