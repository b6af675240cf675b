"""Decision thresholds from the scores of normal training clips."""

import warnings
from typing import Any, NamedTuple

import numpy as np

from asd_jax.errors import UserError

# Three parameters need more than a handful of scores.
_FEWEST_SCORES = 10


class Threshold(NamedTuple):
    """A decision threshold: a clip is anomalous if its score is larger than `value`.

    Attributes:
        value: the threshold; NaN where no training score is finite, so that no clip exceeds it.
        fallback: "" for a quantile of the fitted gamma distribution, else why the empirical
            quantile of the scores was taken instead.
    """

    value: float
    fallback: str = ""


def mean_threshold(scores: Any) -> Threshold:
    """The mean of the training clips' scores, those left out that are not finite.

    Source: Jalali et al. 2020, section 3, which takes the error on the training set.
    """
    scores = np.asarray(scores, np.float64).ravel()
    finite = scores[np.isfinite(scores)]
    if not finite.size:
        return Threshold(float("nan"), "no finite training score")
    return Threshold(float(finite.mean()))


def gamma_threshold(scores: Any, quantile: float = 0.9) -> Threshold:
    """The quantile of a gamma distribution fitted to the training clips' scores.

    Shape, location and scale are all free, as in the official baselines. Where the fit cannot
    be had (fewer than 10 scores, constant scores, no convergence) or puts its quantile further
    beyond the largest score than the scores spread, or below the smallest, the empirical
    quantile takes its place and the result says why. Scores that are not finite are left out,
    which the result says too.

    Args:
        scores: (clips,) anomaly scores of normal training clips, of any sign.
        quantile: of the distribution, in (0, 1).

    Returns:
        The threshold.

    Raises:
        UserError: quantile is outside (0, 1).

    Source: the official baselines from 2021 on, decision threshold 0.9.
    """
    if not 0 < quantile < 1:
        raise UserError(f"the threshold's quantile must be between 0 and 1, not {quantile}")
    scores = np.asarray(scores, np.float64).ravel()
    finite = scores[np.isfinite(scores)]
    if not finite.size:
        return Threshold(float("nan"), "no finite training score")
    empirical = float(np.quantile(finite, quantile))
    if finite.size < scores.size:
        lost = scores.size - finite.size
        return Threshold(empirical, f"{lost} of {scores.size} training scores are not finite")
    if finite.size < _FEWEST_SCORES:
        return Threshold(empirical, f"only {finite.size} training scores")
    low, high = finite.min(), finite.max()
    if high - low <= 1e-12 * max(abs(low), abs(high)):
        return Threshold(empirical, "constant training scores")
    import scipy.stats  # here, as it takes most of a second that nobody should wait to train

    try:
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore", RuntimeWarning)
            shape, location, scale = scipy.stats.gamma.fit(finite)
            value = float(scipy.stats.gamma.ppf(quantile, shape, location, scale))
    except (RuntimeError, ValueError, FloatingPointError) as error:
        return Threshold(empirical, f"the gamma fit failed: {error}")
    if not low <= value <= 2 * high - low:
        return Threshold(empirical, "the gamma fit did not converge")
    return Threshold(value)
