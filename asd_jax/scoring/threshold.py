"""Decision thresholds from the scores of normal training clips."""

import math
import warnings
from typing import Any, NamedTuple

import numpy as np

from asd_jax.errors import UserError

# A fit of three parameters needs more than a handful of scores.
_FEWEST_SCORES = 10
# How often the number of scores above the true quantile lies within the limits of `_limits`.
_CONFIDENCE = 0.99
# A mean with fewer scores on one side says little of the others: one score moved it.
_LEAST_SIDE = 0.1
# Width of the middle half of a normal distribution, in deviations.
MIDDLE_HALF = 1.349


class Threshold(NamedTuple):
    """A decision threshold: a clip is anomalous if its score is larger than `value`.

    Attributes:
        value: the threshold; NaN where no training score is finite, so that no clip exceeds it.
        fallback: "" for what was asked for, else the reason why it is the empirical quantile of
            the scores, or their median in place of the mean.
    """

    value: float
    fallback: str = ""


def mean_threshold(scores: Any, deviations: float = 0.0) -> Threshold:
    """Mean of the training clips' scores plus some standard deviations, without infinite scores.

    The median replaces a mean that has less than a tenth of the scores on one side, and the width
    of their middle half, over that of a normal distribution, the deviation: a few outlying clips
    have moved them.

    Source: Jalali et al. 2020, section 3, for the mean: the error on the training set.

    Args:
        scores: (clips,) anomaly scores of normal training clips.
        deviations: standard deviations above the mean, with n − 1 in the denominator.

    Returns:
        The threshold; NaN, with the reason, without a finite score.

    Examples:
        >>> mean_threshold([1.0, 3.0, float("inf")]).value
        2.0
        >>> mean_threshold([1.0, 2.0, 3.0], deviations=3).value
        5.0
        >>> scores = [*range(40, 60), 300000]
        >>> mean_threshold(scores)
        Threshold(value=50.0, fallback='1 of 21 training scores are above their mean, 14332.9')
    """
    scores = np.asarray(scores, np.float64).ravel()
    finite = scores[np.isfinite(scores)]
    if not finite.size:
        return Threshold(float("nan"), "no finite training score")
    mean = float(finite.mean())
    for side, count in (("above", np.sum(finite > mean)), ("below", np.sum(finite < mean))):
        if finite.size >= _FEWEST_SCORES and 0 < count < _LEAST_SIDE * finite.size:
            reason = f"{count} of {finite.size} training scores are {side} their mean, {mean:.6g}"
            low, high = np.quantile(finite, (0.25, 0.75))
            middle = float(np.median(finite))
            return Threshold(middle + deviations * float(high - low) / MIDDLE_HALF, reason)
    deviation = float(finite.std(ddof=1)) if deviations and finite.size > 1 else 0.0
    return Threshold(mean + deviations * deviation)


def quantile_threshold(scores: Any, quantile: float = 0.9) -> Threshold:
    """Quantile of the training clips' scores, without those that are not finite.

    It lies between the two scores around place `quantile` × (n + 1), so that a score of the same
    distribution is above it with a probability of 1 − `quantile`, as far as there is such a place.

    Args:
        scores: (clips,) anomaly scores of normal training clips.
        quantile: in (0, 1).

    Returns:
        The threshold; the largest score, with the reason, where so few scores have no such
        quantile.

    Raises:
        UserError: quantile is outside (0, 1).

    Source: Weibull 1939; definition 6 of Hyndman and Fan 1996 (Sample quantiles in statistical
    packages).

    Examples:
        >>> quantile_threshold([4.0, 1.0, 2.0, 3.0], quantile=0.7).value
        3.5
        >>> quantile_threshold([1.0, 2.0, 3.0])
        Threshold(value=3.0, fallback='only 3 training scores, of which none is at the quantile')
    """
    _check_quantile(quantile)
    finite = np.asarray(scores, np.float64).ravel()
    finite = finite[np.isfinite(finite)]
    if not finite.size:
        return Threshold(float("nan"), "no finite training score")
    value = float(np.quantile(finite, quantile, method="weibull"))
    if quantile * (finite.size + 1) > finite.size + 1e-9:
        return Threshold(
            value, f"only {finite.size} training scores, of which none is at the quantile"
        )
    return Threshold(value)


def gamma_threshold(scores: Any, quantile: float = 0.9) -> Threshold:
    """Quantile of a gamma distribution fitted to the training clips' scores.

    Shape, location and scale are all free, as in the official baselines. The empirical quantile
    of the scores takes its place, and the result gives the reason, if there is no fit (fewer than
    10 scores, constant scores, no convergence); if scores are not finite, which are left out; or
    if the fit's quantile lies further from the empirical one than sampling explains, as that of a
    likelihood without a maximum does, or one that a few outlying clips have moved.

    Sampling explains so many scores above a threshold as a binomial distribution gives with 99 %,
    from a third to three times the expected number at the most. Between outlying scores and the
    others no score shows how far a threshold was moved. So one above the empirical quantile must
    also be nearer to it than twice the distance from there down to the lowest score that these
    limits allow, which leaves room for an exponential tail.

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
    _check_quantile(quantile)
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
    problem = _beyond_sampling(np.sort(finite), value, quantile)
    return Threshold(empirical, problem) if problem else Threshold(value)


def _check_quantile(quantile: float) -> None:
    if not 0 < quantile < 1:
        raise UserError(f"the threshold's quantile must be between 0 and 1, not {quantile}")


def _limits(n: int, share: float) -> tuple[int, int]:
    """Fewest and most of n scores that may lie above a threshold that a share exceeds."""
    import scipy.stats

    low, high = scipy.stats.binom.interval(_CONFIDENCE, n, share)
    expected = round(n * share, 6)  # 30 × (1 − 0.9) is a little less than 3
    if expected >= 3:  # a third of it is a score
        low, high = max(low, expected / 3), min(high, 3 * expected)
    return math.ceil(low), math.floor(high)


def _beyond_sampling(scores: np.ndarray, value: float, quantile: float) -> str:
    """Why a threshold is not a quantile of the ascending scores (n,); "" where it is one."""
    n = len(scores)
    fewest, most = _limits(n, 1 - quantile)
    if math.isnan(value):
        return "the gamma fit did not converge"
    above = int(np.sum(scores > value))
    if not fewest <= above <= most:
        return (
            f"{above} of {n} training scores are above the gamma fit's quantile, {value:.6g}, "
            f"which {n * (1 - quantile):.3g} should be"
        )
    empirical = np.quantile(scores, quantile)
    spread = empirical - np.quantile(scores, max(1 - most / n, 0))
    if value - empirical > 2 * spread:
        return (
            f"the gamma fit's quantile, {value:.6g}, is further above that of the training scores, "
            f"{empirical:.6g}, than sampling explains"
        )
    return ""
