"""Decision thresholds from the scores of normal training clips."""

import warnings
from typing import Any, NamedTuple

import numpy as np

from asd_jax.errors import UserError

# A fit of three parameters needs more than a handful of scores.
_FEWEST_SCORES = 10


class Threshold(NamedTuple):
    """A decision threshold: a clip is anomalous if its score is larger than `value`.

    Attributes:
        value: the threshold; NaN where no training score is finite, so that no clip exceeds it.
        fallback: "" for a quantile of the fitted gamma distribution, else the reason why it is
            the empirical quantile of the scores.
    """

    value: float
    fallback: str = ""


def mean_threshold(scores: Any) -> Threshold:
    """Mean of the training clips' scores, without those that are not finite.

    Source: Jalali et al. 2020, section 3: the error on the training set.

    Args:
        scores: (clips,) anomaly scores of normal training clips.

    Returns:
        The threshold; NaN, with the reason, without a finite score.

    Examples:
        >>> mean_threshold([1.0, 3.0, float("inf")]).value
        2.0
    """
    scores = np.asarray(scores, np.float64).ravel()
    finite = scores[np.isfinite(scores)]
    if not finite.size:
        return Threshold(float("nan"), "no finite training score")
    return Threshold(float(finite.mean()))


def gamma_threshold(scores: Any, quantile: float = 0.9) -> Threshold:
    """Quantile of a gamma distribution fitted to the training clips' scores.

    Shape, location and scale are all free, as in the official baselines. The empirical quantile
    replaces that of the fit, and the result gives the reason, if there is no fit (fewer than 10
    scores, constant scores, no convergence), or if its quantile lies below the smallest score, or
    further above the largest one than the scores spread. So does it if scores are not finite:
    these are left out.

    Args:
        scores: (clips,) anomaly scores of normal training clips, of any sign.
        quantile: of the distribution, in (0, 1).

    Returns:
        The threshold.

    Raises:
        UserError: quantile is outside (0, 1).

    Source: the official baselines from 2021 on, decision threshold 0.9.

    Examples:
        >>> gamma_threshold([1.0, 2.0, 3.0], quantile=0.5)
        Threshold(value=2.0, fallback='only 3 training scores')
        >>> import numpy as np
        >>> scores = np.random.default_rng(0).gamma(2.0, 1.0, 1000)
        >>> threshold = gamma_threshold(scores, quantile=0.9)
        >>> threshold.fallback, bool(0.85 < (scores <= threshold.value).mean() < 0.95)
        ('', True)
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
    import scipy.stats  # here: its import takes most of a second, which other uses save

    try:
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore", RuntimeWarning)
            shape, location, scale = scipy.stats.gamma.fit(finite)
            value = float(scipy.stats.gamma.ppf(quantile, shape, location, scale))
    except (RuntimeError, ValueError, FloatingPointError) as error:
        return Threshold(empirical, f"the gamma fit failed: {error}")
    # A likelihood without a maximum ends in quantiles like these, without a warning.
    if not low <= value <= 2 * high - low:
        return Threshold(empirical, "the gamma fit did not converge")
    return Threshold(value)
