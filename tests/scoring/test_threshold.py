"""Thresholds against known gamma distributions."""

import re

import numpy as np
import pytest
import scipy.stats

from asd_jax.errors import UserError
from asd_jax.scoring.threshold import (
    _beyond_sampling,
    _limits,
    gamma_threshold,
    mean_threshold,
)


@pytest.mark.parametrize("shape,location,scale", [(2.0, 0.0, 1.0), (9.0, 5.0, 0.3), (3, -40, 2)])
@pytest.mark.parametrize("quantile", [0.5, 0.9])
def test_recovers_the_quantile_of_a_gamma_distribution(shape, location, scale, quantile):
    distribution = scipy.stats.gamma(shape, location, scale)
    scores = distribution.rvs(3000, random_state=0).astype(np.float32)
    fitted = gamma_threshold(scores, quantile)
    assert fitted.fallback == ""
    # The standard error of a quantile of 3000 draws is below 0.04 standard deviations.
    assert fitted.value == pytest.approx(distribution.ppf(quantile), abs=0.15 * distribution.std())


@pytest.mark.parametrize(
    "scores,reason,expected",
    [
        (np.full(50, 3.5), "constant", 3.5),
        (np.zeros(50), "constant", 0.0),
        ([1.0, 2.0, 3.0], "only 3 training scores", 2.8),
        ([7.0], "only 1 training scores", 7.0),
        ([*np.linspace(0, 1, 101), np.nan], "1 of 102 training scores are not finite", 0.9),
    ],
)
def test_falls_back_to_the_empirical_quantile(scores, reason, expected):
    result = gamma_threshold(scores)
    assert reason in result.fallback
    assert result.value == pytest.approx(expected)


@pytest.mark.parametrize("scores", [[], [np.nan, np.inf]])
def test_without_a_finite_score_nothing_is_anomalous(scores):
    result = gamma_threshold(scores)
    assert np.isnan(result.value) and result.fallback == "no finite training score"


def _raise(error):
    raise error


@pytest.mark.parametrize(
    "fit,reason",
    [
        (lambda x: _raise(RuntimeError("no optimum")), "the gamma fit failed: no optimum"),
        (lambda x: (np.nan, 0.0, 1.0), "did not converge"),
        (lambda x: (1.0, 0.0, 1e9), r"^0 of 101 .* are above the gamma fit's quantile"),
        (lambda x: (1.0, -1e9, 1.0), r"^101 of 101 .* are above the gamma fit's quantile"),
    ],
)
def test_a_bad_fit_falls_back(monkeypatch, fit, reason):
    monkeypatch.setattr(scipy.stats.gamma, "fit", fit)
    result = gamma_threshold(np.linspace(0, 1, 101))
    assert re.search(reason, result.fallback) and result.value == pytest.approx(0.9)


@pytest.mark.parametrize("seed", range(5))
def test_odd_distributions_give_a_usable_threshold(seed):
    rng = np.random.default_rng(seed)
    for scores in (
        -rng.gamma(1.0, 1.0, 200),  # negative, with the long tail on the wrong side
        rng.normal(-5, 1, 200),
        rng.integers(0, 2, 200),
        1e-9 * rng.random(200) + 1,
        np.concatenate([rng.random(199), [1e6]]),
    ):
        value = gamma_threshold(scores).value
        assert np.min(scores) <= value <= 2 * np.max(scores) - np.min(scores)


_SOUND = {
    "gamma": lambda rng, n: rng.gamma(2, 1, n),
    "normal": lambda rng, n: rng.normal(44, 3, n),
    "long tail": lambda rng, n: rng.lognormal(0, 0.7, n),
    "near zero": lambda rng, n: rng.beta(0.3, 8, n),
    "negative": lambda rng, n: -rng.gamma(1, 1, n),
}
# Scores of dead, loud and outlying clips among others of a standard deviation of 1.
_OUTLYING = {
    "equal, far above": lambda rng, n: np.full(n, 1e4),
    "equal, far below": lambda rng, n: np.full(n, -1e6),
    "scattered above": lambda rng, n: rng.exponential(30, n),
    "scattered below": lambda rng, n: -rng.exponential(30, n),
}


def _assert_usable(scores):
    """A third to three times a tenth of the scores are above; returns the threshold.

    The scores of the sound clips are between -5 and 11.
    """
    threshold = gamma_threshold(scores)
    assert 1 / 30 <= np.mean(scores > threshold.value) <= 0.3
    assert -5 < threshold.value < 11
    return threshold


def _sound_scores(sound, n):
    scores = _SOUND[sound](np.random.default_rng(0), n)
    return (scores - scores.mean()) / scores.std()


@pytest.mark.parametrize("sound", _SOUND)
def test_without_outlying_clips_thresholds_are_usable(sound):
    for n in (30, 41, 100, 333, 1000):
        threshold = _assert_usable(_sound_scores(sound, n))
        if sound in ("gamma", "normal"):
            assert threshold.fallback == ""


@pytest.mark.parametrize(
    "sizes", [(30, 333), pytest.param((41, 100, 1000), marks=pytest.mark.slow)]
)
@pytest.mark.parametrize("outlying", _OUTLYING)
@pytest.mark.parametrize("sound", _SOUND)
def test_outlying_clips_move_no_threshold(sound, outlying, sizes):
    """One, two and 5 % of the clips."""
    for n in sizes:
        for k in {1, 2, n // 20}:
            scores = _sound_scores(sound, n)
            scores[:k] = _OUTLYING[outlying](np.random.default_rng(0), k)
            _assert_usable(scores)


def test_a_fit_that_ends_below_almost_all_scores_is_replaced():
    scores = np.append(np.random.default_rng(0).normal(10, 1, 199), 30.0)
    threshold = gamma_threshold(scores)
    assert threshold.value == np.quantile(scores, 0.9)
    assert threshold.fallback.startswith("197 of 200 training scores are above the gamma fit's")


def test_a_tenth_of_thirty_is_three():
    """In floating point a little less; a threshold above all of 30 scores is none of theirs."""
    assert _limits(30, 1 - 0.9)[0] == 1
    problem = _beyond_sampling(np.arange(30.0), 29.5, 0.9)
    assert problem.startswith("0 of 30 training scores are above the gamma fit's quantile, 29.5")


def test_rare_shares_keep_the_fit():
    """Of 50 clips the quantile 0.99 leaves half a clip above: none is no surprise."""
    scores = np.random.default_rng(3).gamma(4, 1, 50)
    threshold = gamma_threshold(scores, 0.99)
    assert threshold.fallback == ""
    assert threshold.value == pytest.approx(
        scipy.stats.gamma.ppf(0.99, *scipy.stats.gamma.fit(scores))
    )


@pytest.mark.parametrize("outlier,side", [(3e5, "above"), (-3e5, "below")])
def test_one_clip_does_not_move_the_mean(outlier, side):
    scores = [*range(40, 61), outlier]
    threshold = mean_threshold(scores)
    assert threshold.value == np.median(scores)
    assert threshold.fallback.startswith(f"1 of 22 training scores are {side} their mean")
    tail = np.random.default_rng(0).lognormal(0, 1, 100)
    assert mean_threshold(tail) == (tail.mean(), "")


@pytest.mark.parametrize("quantile", [0, 1, 90])
def test_quantile_outside_its_range(quantile):
    with pytest.raises(UserError, match="quantile must be between 0 and 1"):
        gamma_threshold([1.0] * 20, quantile)


def test_the_mean_leaves_out_what_is_not_finite():
    assert mean_threshold([1.0, 2.0, 6.0, np.nan, np.inf]) == (3.0, "")
    assert np.isnan(mean_threshold([np.nan]).value)
