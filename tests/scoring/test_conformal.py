"""Conformal p-values, thresholds and promises, beside ranks counted one by one and SciPy."""

import numpy as np
import pytest
import scipy.stats

from asd_jax.errors import UserError
from asd_jax.scoring.conformal import (
    Promise,
    Reference,
    conformal_threshold,
    p_values,
    promise_of,
)


def counted(score, scores, groups):
    """The p-value by its definition."""
    shares = [
        np.mean([own >= score for own, name in zip(scores, groups, strict=True) if name == group])
        for group in set(groups)
    ]
    return (1 + sum(shares)) / (len(shares) + 1)


@pytest.fixture(params=["clips", "groups"])
def drawn(request):
    """Scores with ties, and their groups, of unequal sizes."""
    rng = np.random.default_rng(0)
    scores = rng.integers(0, 12, 40).astype(float)
    groups = np.arange(40) if request.param == "clips" else rng.integers(0, 7, 40)
    return scores, groups, Reference.of(scores, groups)


def test_p_values_are_ranks_among_groups(drawn):
    scores, groups, reference = drawn
    new = np.arange(-1, 13, 0.5)
    expected = [counted(score, scores, groups.tolist()) for score in new]
    np.testing.assert_allclose(p_values(new, reference), expected, rtol=1e-12)
    assert p_values([np.inf, -np.inf], reference).tolist() == [1 / (reference.n_groups + 1), 1.0]


@pytest.mark.parametrize("rate", [0.05, 0.1, 0.2, 0.5, 1 - 0.9, 0.9])
def test_a_score_is_above_the_threshold_where_its_p_value_is_small(drawn, rate):
    """Also of scores that the reference has; and the lowest such threshold is taken."""
    _, _, reference = drawn
    threshold, fallback = conformal_threshold(reference, rate)
    new = np.arange(-1, 13, 0.5)
    if fallback:
        assert rate < 1 / (reference.n_groups + 1)
        assert threshold == reference.scores.max()
    else:
        assert np.array_equal(new > threshold, p_values(new, reference) <= rate + 1e-9)
    promise = promise_of(threshold, reference)
    assert promise.rate <= max(rate, 1 / (reference.n_groups + 1)) + 1e-9 < promise.bound


def test_the_bound_of_single_clips_is_clopper_and_pearsons():
    """SciPy's exact one-sided interval for the number of clips above the threshold."""
    reference = Reference.of(np.arange(50))
    for above in (0, 1, 7, 49):
        exact = scipy.stats.binomtest(above, 50, alternative="less").proportion_ci(0.95, "exact")
        promise = promise_of(49 - above, reference)
        assert promise.bound == pytest.approx(exact.high, abs=1e-9)
        assert promise.rate == (1 + above) / 51


@pytest.mark.slow
@pytest.mark.parametrize("sessions", [False, True])
def test_rates_hold_for_new_clips(sessions):
    """Of 4,000 machines, seeded; three standard errors of a rate of 0.2 are 0.019.

    With sessions, whose clips resemble each other, counting clips would promise too much.
    """
    rng = np.random.default_rng(0)
    above, naive, bounded = 0, 0, 0
    for _ in range(4000):
        sizes = rng.integers(1, 6, 14) if sessions else np.ones(14, int)
        groups = np.repeat(np.arange(14), sizes)
        scores = (2 * rng.normal(size=14))[groups] + rng.normal(size=len(groups))
        reference = Reference.of(scores, groups)
        threshold = conformal_threshold(reference, 0.2).value
        new = 2 * rng.normal() + rng.normal()
        above += new > threshold
        naive += new > conformal_threshold(Reference.of(scores), 0.2).value
        true = scipy.stats.norm.sf(threshold, scale=5**0.5)
        bounded += true <= promise_of(threshold, reference).bound
    assert 0.12 < above / 4000 < 0.2 + 0.019
    assert bounded / 4000 > 0.94
    assert sessions == (naive > above)


def test_what_does_not_count_and_what_is_missing():
    reference = Reference.of([1.0, np.nan, 2.0], ["a", "b", "b"])
    assert reference.n_groups == 2
    assert p_values(1.5, reference) == (1 + 1) / 3
    none = Reference.of([np.nan])
    assert none.n_groups == 0
    assert np.isnan(p_values([1.0, 2.0], none)).all()
    assert np.isnan(p_values(np.nan, reference))
    assert np.isnan(conformal_threshold(none, 0.1).value)
    assert np.isnan(promise_of(1.0, none).rate)
    assert np.isnan(promise_of(np.nan, reference).bound)
    threshold, reason = conformal_threshold(Reference.of([1.0, np.inf]), 0.4)
    assert np.isnan(threshold) and reason.startswith("1 of 2 normal clips have an infinite score")
    assert conformal_threshold(Reference.of([1.0, 2.0, np.inf]), 0.5).value == 2.0


def test_requests_that_cannot_be_are_one_line():
    with pytest.raises(UserError, match="between 0 and 1, not 1"):
        conformal_threshold(Reference.of([1.0]), 1.0)
    with pytest.raises(UserError, match="2 scores of a reference, but 1 groups"):
        Reference.of([1.0, 2.0], ["a"])
    assert "5 groups of normal clips promise at most 16.7 %" in (
        conformal_threshold(Reference.of(np.arange(10), np.arange(10) // 2), 0.1).fallback
    )


def test_alarms_a_day_are_by_the_length_of_a_clip():
    assert Promise(0.01, 0.02, 99).alarms_a_day(10.0) == pytest.approx(86.4)
