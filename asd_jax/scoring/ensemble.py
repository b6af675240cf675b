"""Several systems' scores as one: on a scale that training clips set, then combined.

Source: Giri et al. 2020 (DCASE), section 2.3: each model's scores are transformed so that those
of a machine id's training clips have mean 0 and variance 1, and combined by their mean or maximum.
"""

from typing import Any, Literal

import numpy as np


def scale_of(training_scores: Any) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of training clips' scores, with n in its denominator.

    Where the scores do not differ, 1 takes the place of the deviation, so that scores are
    centred only.

    Args:
        training_scores: (..., clips).

    Returns:
        (...) means and (...) deviations, float64; NaN where a score is not finite.
    """
    scores = np.asarray(training_scores, np.float64)
    finite = np.isfinite(scores).all(axis=-1, keepdims=True)
    scores = np.where(finite, scores, np.nan)  # infinite ones have no deviation
    mean, deviation = scores.mean(axis=-1), scores.std(axis=-1)
    # Rounding leaves equal numbers a deviation of some 1e-16 of their size.
    constant = deviation <= 1e-12 * np.abs(mean)
    return mean, np.where(constant, 1.0, deviation)


def combine(
    scores: Any, mean: Any, deviation: Any, how: Literal["mean", "max"], axis: int = 0
) -> np.ndarray:
    """Standardised scores of several systems as one.

    Args:
        scores: with one axis for the systems.
        mean: of the systems' training scores, broadcast against `scores`.
        deviation: likewise.
        how: "mean" or "max" over the systems.
        axis: that of the systems.

    Returns:
        The scores without that axis, float64; NaN where a system's score is.
    """
    standardised = (np.asarray(scores, np.float64) - mean) / deviation
    return standardised.mean(axis=axis) if how == "mean" else standardised.max(axis=axis)
