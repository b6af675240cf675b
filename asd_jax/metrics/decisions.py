"""Precision, recall, F1 and other rates of decisions, for every group of clips at once."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

Array = np.ndarray | jax.Array


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
        decisions: (..., clips), 1 for a clip predicted anomalous, else 0.
        mask: (..., clips), True for the clips that count; None for all of them.

    Returns:
        The four counts, each (...).

    Examples:
        >>> counts = confusion_counts(labels=[0, 0, 0, 1, 1], decisions=[0, 0, 1, 1, 0])
        >>> [int(count) for count in counts]  # tp, fp, fn, tn
        [1, 1, 1, 2]
    """
    inputs = [labels, decisions, True if mask is None else mask]
    xp = jnp if any(isinstance(x, jax.Array) for x in inputs) else np
    labels, decisions, mask = xp.broadcast_arrays(*map(xp.asarray, inputs))
    predicted = decisions.astype(bool)
    anomaly, normal = (labels == 1) & mask, (labels == 0) & mask
    return Confusion(
        tp=xp.sum(anomaly & predicted, axis=-1),
        fp=xp.sum(normal & predicted, axis=-1),
        fn=xp.sum(anomaly & ~predicted, axis=-1),
        tn=xp.sum(normal & ~predicted, axis=-1),
    )


def precision(counts: Confusion) -> Array:
    """Share of the predicted anomalies that are anomalies; 0 where none was predicted.

    Examples:
        >>> float(precision(Confusion(tp=3, fp=1, fn=2, tn=4)))
        0.75
    """
    return counts.tp / _at_least_one(counts.tp + counts.fp)


def recall(counts: Confusion) -> Array:
    """Share of the anomalies that were predicted; 0 where there are none.

    Examples:
        >>> float(recall(Confusion(tp=3, fp=1, fn=2, tn=4)))
        0.6
    """
    return counts.tp / _at_least_one(counts.tp + counts.fn)


def f1(counts: Confusion) -> Array:
    """Harmonic mean of precision and recall; 0 where both are 0.

    Examples:
        >>> round(float(f1(Confusion(tp=3, fp=1, fn=2, tn=4))), 3)
        0.667
    """
    return 2 * counts.tp / _at_least_one(2 * counts.tp + counts.fp + counts.fn)


class DecisionRates(NamedTuple):
    """Rates of decisions, each (...); NaN without a clip that they are of.

    Attributes:
        tpr: share of the anomalies that are predicted anomalous.
        fnr: share of the anomalies that are predicted normal.
        tnr: share of the normal clips that are predicted normal.
        fpr: share of the normal clips that are predicted anomalous.
        accuracy: share of right decisions.
        precision_weighted: mean of both classes' precisions, weighted by their numbers of clips,
            0 for a class that is not predicted; scikit-learn's average="weighted".
        recall_weighted: likewise of their recalls, which is the accuracy.
    """

    tpr: Array
    fnr: Array
    tnr: Array
    fpr: Array
    accuracy: Array
    precision_weighted: Array
    recall_weighted: Array


def decision_rates(counts: Confusion) -> DecisionRates:
    """Rates from counts of decisions.

    Args:
        counts: each (...), of one group or of several added up.

    Examples:
        >>> rates = decision_rates(Confusion(tp=3, fp=1, fn=2, tn=4))
        >>> [round(float(rate), 3) for rate in rates]
        [0.6, 0.4, 0.8, 0.2, 0.7, 0.708, 0.7]
    """
    tp, fp, fn, tn = counts
    xp = jnp if any(isinstance(count, jax.Array) for count in counts) else np
    normal, anomalous = xp.asarray(fp + tn, float), xp.asarray(tp + fn, float)
    clips = normal + anomalous
    with np.errstate(invalid="ignore"):
        tpr, tnr, accuracy = tp / anomalous, tn / normal, (tp + tn) / clips
        of_normal = tn / _at_least_one(tn + fn)
        weighted = (anomalous * precision(counts) + normal * of_normal) / clips
    return DecisionRates(tpr, 1 - tpr, tnr, 1 - tnr, accuracy, weighted, accuracy)


def _at_least_one(count: Array) -> Array:
    return (jnp if isinstance(count, jax.Array) else np).maximum(count, 1)
