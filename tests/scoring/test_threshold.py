"""Thresholds against known gamma distributions."""

import numpy as np
import pytest
import scipy.stats

from asd_jax.errors import UserError
from asd_jax.scoring.threshold import gamma_threshold, mean_threshold


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
        (lambda x: (1.0, 0.0, 1e9), "did not converge"),
        (lambda x: (1.0, -1e9, 1.0), "did not converge"),
    ],
)
def test_a_bad_fit_falls_back(monkeypatch, fit, reason):
    monkeypatch.setattr(scipy.stats.gamma, "fit", fit)
    result = gamma_threshold(np.linspace(0, 1, 101))
    assert reason in result.fallback and result.value == pytest.approx(0.9)


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


@pytest.mark.parametrize("quantile", [0, 1, 90])
def test_quantile_outside_its_range(quantile):
    with pytest.raises(UserError, match="quantile must be between 0 and 1"):
        gamma_threshold([1.0] * 20, quantile)


def test_the_mean_leaves_out_what_is_not_finite():
    assert mean_threshold([1.0, 2.0, 6.0, np.nan, np.inf]) == (3.0, "")
    assert np.isnan(mean_threshold([np.nan]).value)
