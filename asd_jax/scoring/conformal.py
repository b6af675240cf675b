"""Conformal p-values and thresholds: decisions with a stated rate of false alarms.

A score says how unusual a clip is, and not how often a normal clip is as unusual. Normal clips that
the system was not fitted to, the reference, say that: with n of them, the score of one more normal
clip is equally likely to be of each rank among all n + 1. So a clip whose score is above those of
all n has the p-value 1/(n + 1), and none can have a smaller one.

What was recorded together resembles each other: a hundred clips of one day say little of
tomorrow. So ranks are of groups (recordings, sessions, days): each group counts once, shared by its
clips, and n is their number. A promise is then about a clip of a group that is not in the
reference.

Sources: Vovk, Gammerman and Shafer 2005 (Algorithmic Learning in a Random World), section 2.2; for
groups Lee, Barber and Willett 2023 (Distribution-free inference with hierarchical data), section
2.2; for the bound Bates, Angelopoulos, Lei, Malik and Jordan 2021 (Distribution-free,
risk-controlling prediction sets), section 3.1.
"""

import math
from typing import Any, NamedTuple

import numpy as np

from asd_jax.errors import UserError
from asd_jax.scoring.threshold import Threshold

# Sums of fractions, and 1 − 0.9, are off by rounding.
_ROUNDING = 1e-9
_CONFIDENCE = 0.95  # of `Promise.bound`
_SECONDS_A_DAY = 86_400


class Reference(NamedTuple):
    """Scores of normal clips that the system was not fitted to.

    Attributes:
        scores: (clips,) float; NaN for a clip that does not count.
        groups: int (clips,), equal for clips that were recorded together.
        sequences: int (clips,), equal for clips that follow one another without a gap, in their
            order; None where it is not known which do.
    """

    scores: np.ndarray
    groups: np.ndarray
    sequences: np.ndarray | None = None

    @classmethod
    def of(cls, scores: Any, groups: Any = None, sequences: Any = None) -> "Reference":
        """Scores (clips,) and the names (clips,) of their groups; by default each clip has its own.

        Args:
            scores: (clips,).
            groups: (clips,) names.
            sequences: as of the class.

        Raises:
            UserError: not as many groups as scores.

        Examples:
            >>> Reference.of([0.5, 0.7, 0.6], ["monday", "monday", "tuesday"]).groups.tolist()
            [0, 0, 1]
        """
        scores = np.asarray(scores, np.float64).ravel()
        names = np.arange(len(scores)) if groups is None else np.asarray(groups).ravel()
        if len(names) != len(scores):
            raise UserError(f"{len(scores)} scores of a reference, but {len(names)} groups")
        return cls(scores, np.unique(names, return_inverse=True)[1], sequences)

    @property
    def n_groups(self) -> int:
        """Groups that have a clip that counts."""
        return len(np.unique(self.groups[~np.isnan(self.scores)]))


class Promise(NamedTuple):
    """What a threshold promises of normal clips of groups that are not in the reference.

    Attributes:
        rate: largest rate of false alarms, on average over references.
        bound: largest rate given this reference, with 95 % confidence.
        n_groups: groups of the reference.
    """

    rate: float
    bound: float
    n_groups: int

    def alarms_a_day(self, seconds: float) -> float:
        """False alarms a day at `rate`, if clips of so many seconds follow one another.

        Examples:
            >>> Promise(0.01, 0.05, 100).alarms_a_day(10)
            86.4
        """
        return self.rate * _SECONDS_A_DAY / seconds


def p_values(scores: Any, reference: Reference) -> np.ndarray:
    """Rates at which normal clips have scores as large, or larger.

    Of a normal clip of a new group, the p-value is a or less with a probability of a at most,
    whatever the distribution of the scores, if groups are exchangeable.

    Args:
        scores: (...) of clips.
        reference: scores of normal clips.

    Returns:
        (...) from 1/(groups + 1) to 1; NaN of a score that is NaN, and without a reference.

    Examples:
        >>> p_values([9.0, 2.5, 0.0], Reference.of([1.0, 2.0, 3.0])).tolist()
        [0.25, 0.5, 1.0]

        Two clips of one group count half each.

        >>> p_values(2.5, Reference.of([1.0, 2.0, 3.0], [0, 0, 1])).tolist()
        0.6666666666666666
        >>> p_values(1.5, Reference.of([1.0, 2.0, 3.0], [0, 0, 1])).round(6).tolist()
        0.833333
    """
    scores = np.asarray(scores, np.float64)
    ordered, above = _at_least(reference)
    if not len(ordered):
        return np.full(scores.shape, np.nan)
    # (...) the sum of the groups' shares with scores as large.
    share = above[np.searchsorted(ordered, scores, side="left")]
    rates = np.minimum((1 + share) / (reference.n_groups + 1), 1)  # sums of shares are rounded
    return np.where(np.isnan(scores), np.nan, rates)


def conformal_threshold(reference: Reference, false_alarms: float) -> Threshold:
    """The lowest threshold above which the p-value is at most the rate of false alarms.

    A score is above it exactly where its p-value is `false_alarms` or less. So few groups that no
    p-value is as small promise less: the threshold is then their largest score, with the reason.

    Args:
        reference: scores of normal clips.
        false_alarms: the rate, in (0, 1).

    Returns:
        The threshold; NaN, with the reason, without a reference.

    Raises:
        UserError: a rate outside (0, 1).

    Examples:
        >>> reference = Reference.of(range(1, 20))
        >>> conformal_threshold(reference, 0.1).value, float(p_values(18.5, reference))
        (18.0, 0.1)
        >>> conformal_threshold(reference, 0.01)
        Threshold(value=19.0, fallback='19 normal clips promise at most 5 % false alarms, not 1 %')
    """
    if not 0 < false_alarms < 1:
        raise UserError(f"a rate of false alarms is between 0 and 1, not {false_alarms}")
    ordered, above = _at_least(reference)
    if not len(ordered):
        return Threshold(float("nan"), "no normal clip was kept apart from the fit")
    n = reference.n_groups
    # above[after] is the share of scores that are larger than ordered[i], also among equal ones.
    after = np.searchsorted(ordered, ordered, side="right")
    rates = (1 + above[after]) / (n + 1)
    small = np.flatnonzero(rates <= false_alarms * (1 + _ROUNDING))
    if np.isposinf(ordered[small[0] if len(small) else -1]):
        infinite = int(np.isposinf(ordered).sum())
        return Threshold(
            float("nan"),
            f"{infinite} of {len(ordered)} normal clips have an infinite score, as nothing is left "
            "to compare them with, so nothing is above; give more normal clips",
        )
    if len(small):
        return Threshold(float(ordered[small[0]]))
    what = "normal clips" if n == np.sum(~np.isnan(reference.scores)) else "groups of normal clips"
    return Threshold(
        float(ordered[-1]),
        f"{n} {what} promise at most {percent(1 / (n + 1))} false alarms, not "
        f"{percent(false_alarms)}",
    )


def promise_of(threshold: float, reference: Reference) -> Promise:
    """What a threshold promises, however it was chosen from the reference.

    The bound of clips that each are a group is the exact binomial one (Clopper and Pearson); of
    groups of several clips it is Hoeffding's and Bentkus's, which holds for any shares of a group.

    Args:
        threshold: of the scores.
        reference: scores of normal clips.

    Returns:
        The promise; rates are NaN without a reference or a threshold.

    Examples:
        >>> promise = promise_of(18.0, Reference.of(range(1, 20)))
        >>> promise.rate, round(promise.bound, 4), promise.n_groups
        (0.1, 0.2264, 19)
    """
    ordered, above = _at_least(reference)
    n = reference.n_groups
    if not n or math.isnan(threshold):
        return Promise(math.nan, math.nan, n)
    share = float(above[np.searchsorted(ordered, threshold, side="right")])
    single = n == len(ordered)
    return Promise((1 + share) / (n + 1), _largest_rate(share, n, single), n)


def _at_least(reference: Reference) -> tuple[np.ndarray, np.ndarray]:
    """Ascending scores (n,) that count, and (n + 1,) the groups' shares of scores from each on."""
    counts = ~np.isnan(reference.scores)
    scores, groups = reference.scores[counts], reference.groups[counts]
    order = np.argsort(scores, kind="stable")
    sizes = np.bincount(groups, minlength=1)[groups[order]]
    shares = np.append(np.cumsum((1 / sizes)[::-1])[::-1], 0.0)
    return scores[order], shares


def _largest_rate(share: float, n: int, single: bool) -> float:
    """The largest mean of n shares in [0, 1] whose sum is as small as `share` with 5 %."""
    import scipy.optimize
    import scipy.stats

    count = math.ceil(share - _ROUNDING)
    if count >= n:
        return 1.0
    if single:
        return float(scipy.stats.beta.ppf(_CONFIDENCE, count + 1, n - count))
    mean = share / n

    def excess(rate: float) -> float:
        """Above 0 where a sum as small is more likely than 5 %."""
        divergence = sum(
            p * math.log(p / q) for p, q in ((mean, rate), (1 - mean, 1 - rate)) if p > 0
        )
        hoeffding = math.exp(-n * divergence)
        bentkus = math.e * float(scipy.stats.binom.cdf(count, n, rate))
        return min(hoeffding, bentkus) - (1 - _CONFIDENCE)

    return float(scipy.optimize.brentq(excess, max(mean, 1e-12), 1 - 1e-12))


def percent(rate: float) -> str:
    """A rate in percent, with as many digits as it needs.

    Examples:
        >>> percent(0.1), percent(1 / 31), percent(0.0005)
        ('10 %', '3.23 %', '0.05 %')
    """
    return f"{100 * rate:.3g} %"
