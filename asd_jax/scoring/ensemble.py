"""Combination of several systems' scores, each standardised by its training clips' scores.

Source: Giri et al. 2020 (DCASE), section 2.3: each model's scores are transformed so that those
of a machine id's training clips have mean 0 and variance 1, and combined by their mean or maximum.
"""

from typing import Any, Literal

import numpy as np


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
