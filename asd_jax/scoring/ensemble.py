"""Combination of several systems' scores, each standardised by its training clips' scores.

Source: Giri et al. 2020 (DCASE), section 2.3: each model's scores are transformed so that those
of a machine id's training clips have mean 0 and variance 1, and combined by their mean or maximum.
"""

from typing import Any, Literal

import numpy as np

from asd_jax.scoring.threshold import MIDDLE_HALF


def scale_of(training_scores: Any) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of training clips' scores, with n in its denominator.

    Where all scores are equal, the deviation is 1, so that scores are only centred.

    Args:
        training_scores: (..., clips).

    Returns:
        (...) means and (...) deviations, float64; NaN where a score is not finite.

    Examples:
        >>> mean, deviation = scale_of([[1.0, 3.0], [5.0, 5.0]])
        >>> mean.tolist(), deviation.tolist()
        ([2.0, 5.0], [1.0, 1.0])
    """
    scores = np.asarray(training_scores, np.float64)
    finite = np.isfinite(scores).all(axis=-1, keepdims=True)
    scores = np.where(finite, scores, np.nan)  # the deviation of infinite scores is undefined
    mean, deviation = scores.mean(axis=-1), scores.std(axis=-1)
    # The computed deviation of equal numbers is some 1e-16 of their size, by rounding.
    constant = deviation <= 1e-12 * np.abs(mean)
    return mean, np.where(constant, 1.0, deviation)


def widening(training_scores: Any) -> np.ndarray:
    """How much wider a few outlying clips make the scale of the scores.

    Args:
        training_scores: as of `scale_of`.

    Returns:
        (...) the deviation, divided by the one that the middle half of the scores has in a normal
        distribution: 1 for that, 1.2 for an exponential one; NaN where half of them are equal, or
        one is not finite.

    Examples:
        >>> scores = np.linspace(-1, 1, 99)
        >>> float(widening(scores).round(1)), float(widening([*scores, 50.0]).round(1))
        (0.8, 6.7)
    """
    scores = np.asarray(training_scores, np.float64)
    scores = np.where(np.isfinite(scores), scores, np.nan)
    low, high = np.quantile(scores, (0.25, 0.75), axis=-1)
    middle = (high - low) / MIDDLE_HALF
    _, deviation = scale_of(scores)
    return np.divide(deviation, middle, out=np.full_like(middle, np.nan), where=middle > 0)


def combine(
    scores: Any, mean: Any, deviation: Any, how: Literal["mean", "max"], axis: int = 0
) -> np.ndarray:
    """Standardises the scores of several systems and combines them.

    Args:
        scores: with one axis for the systems.
        mean: of the systems' training scores, broadcast against `scores`.
        deviation: likewise.
        how: "mean" or "max" over the systems.
        axis: that of the systems.

    Returns:
        The scores without that axis, float64; NaN where a system's score is.

    Examples:
        Two systems score two clips.

        >>> scores, mean, deviation = [[3.0, 1.0], [50.0, 20.0]], [[1.0], [10.0]], [[1.0], [10.0]]
        >>> combine(scores, mean, deviation, "mean").tolist()
        [3.0, 0.5]
        >>> combine(scores, mean, deviation, "max").tolist()
        [4.0, 1.0]
    """
    standardised = (np.asarray(scores, np.float64) - mean) / deviation
    return standardised.mean(axis=axis) if how == "mean" else standardised.max(axis=axis)
