"""Scores of several systems as one, against scikit-learn's scaler and numbers by hand."""

import numpy as np
import pytest
from sklearn.preprocessing import StandardScaler

from asd_jax.scoring.ensemble import combine, scale_of, widening


def test_numbers_by_hand():
    """Two systems, two training clips each: means 2 and 12, deviations 1 and 2; exact."""
    mean, deviation = scale_of([[1.0, 3.0], [10.0, 14.0]])
    np.testing.assert_array_equal(mean, [2, 12])
    np.testing.assert_array_equal(deviation, [1, 2])
    scores = [[2.0, 5.0], [16.0, 8.0]]  # 0, 3 and 2, -2
    scale = mean[:, None], deviation[:, None]
    np.testing.assert_array_equal(combine(scores, *scale, "mean"), [1, 0.5])
    np.testing.assert_array_equal(combine(scores, *scale, "max"), [2, 3])


@pytest.mark.parametrize("how", ["mean", "max"])
def test_standardisation_is_scikit_learns(how):
    """Both are float64; sums in another order differ by some 1e-15 of the size, 1e-12 is ample."""
    rng = np.random.default_rng(0)
    training = rng.gamma(3.0, size=(3, 50)) * [[1.0], [1e-3], [1e4]] + [[0.0], [5.0], [-2e5]]
    test = rng.normal(size=(3, 20)) * 1e3
    scalers = [StandardScaler().fit(row[:, None]) for row in training]
    expected = np.stack(
        [s.transform(row[:, None])[:, 0] for s, row in zip(scalers, test, strict=True)]
    )
    expected = expected.mean(axis=0) if how == "mean" else expected.max(axis=0)
    mean, deviation = scale_of(training)
    np.testing.assert_allclose(
        combine(test, mean[:, None], deviation[:, None], how), expected, rtol=1e-12
    )


def test_training_scores_become_mean_0_and_variance_1():
    """That is what the scale is for; float64, so to 1e-12."""
    training = np.random.default_rng(1).normal(700.0, 30.0, size=(1, 2, 40))
    mean, deviation = scale_of(training)
    assert mean.shape == deviation.shape == (1, 2)
    own = combine(training, mean[..., None], deviation[..., None], "mean")
    np.testing.assert_allclose(own.mean(axis=-1), 0, atol=1e-12)
    np.testing.assert_allclose(own.var(axis=-1), 1, rtol=1e-12)


@pytest.mark.parametrize("value", [0.0, 0.1, -3e-9, 123456.7])
def test_equal_training_scores_are_centred_only(value):
    """The mean of equal numbers is off by rounding, which must not become a scale."""
    mean, deviation = scale_of([value] * 7)
    assert deviation == 1
    assert mean == pytest.approx(value, rel=1e-14)
    assert scale_of([value, value * (1 + 1e-9) + 1e-15])[1] < 1  # little, but a scale


@pytest.mark.parametrize("lost", [np.nan, np.inf, -np.inf])
@pytest.mark.filterwarnings("error")
def test_scores_that_are_not_finite(lost):
    """One in training: nothing of that system can be told. One in a test clip: not of that clip."""
    mean, deviation = scale_of([[1.0, lost, 3.0], [1.0, 2.0, 3.0]])
    assert np.isnan(mean[0]) and np.isnan(deviation[0])
    assert mean[1] == 2
    assert deviation[1] == pytest.approx(np.sqrt(2 / 3), rel=1e-15)
    for how in ("mean", "max"):
        scores = combine([[np.nan, 1.0], [0.0, 0.0]], 0.0, 1.0, how)
        assert np.isnan(scores[0]) and np.isfinite(scores[1])


def test_the_axis_of_the_systems_may_be_another():
    scores = np.arange(12.0).reshape(3, 4)
    np.testing.assert_array_equal(
        combine(scores.T, 0.0, 2.0, "max", axis=1), combine(scores, 0.0, 2.0, "max")
    )


@pytest.mark.filterwarnings("error")
def test_outlying_clips_widen_a_scale():
    """Of 10^5 draws, to 1 %: by the distributions' quartiles; and by one clip, by hand."""
    rng = np.random.default_rng(0)
    draws = np.stack([rng.normal(5, 3, 100_000), rng.exponential(2, 100_000)])
    expected = [1, 1.349 / np.log(3)]
    np.testing.assert_allclose(widening(draws), expected, rtol=0.01)
    # Quartiles -1 and 1; the squares' sum is 50 · 1 and the mean 0, but for one clip.
    scores = np.repeat([-1.0, 1.0], 50)
    assert widening(scores) == pytest.approx(1.349 / 2)
    scores[-1] = 101
    assert widening(scores) == pytest.approx(1.349 / 2 * np.sqrt((99 + 101**2) / 100 - 1))
    for lost in ([1.0] * 9, [1.0, np.nan, 2.0], [1.0, np.inf, 2.0]):
        assert np.isnan(widening(lost))
