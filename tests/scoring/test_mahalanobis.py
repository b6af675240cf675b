"""Mahalanobis scores against NumPy's covariance, SciPy's distance and the double mean."""

import jax
import numpy as np
import pytest
from scipy.spatial.distance import mahalanobis as scipy_mahalanobis

from asd_jax.errors import UserError
from asd_jax.scoring import mahalanobis as module

# float32 sums over a few hundred vectors, amplified by a condition number of about 10.
TOLERANCE = 1e-4


def _residuals(vectors, dim, seed=0):
    rng = np.random.default_rng(seed)
    mixing = rng.normal(size=(dim, dim)) / np.sqrt(dim) + np.eye(dim)
    return (rng.normal(size=(vectors, dim)) @ mixing + 0.3).astype(np.float32)


MOMENTS, DISTANCE = jax.jit(module.moments), jax.jit(module.mahalanobis)
SELECTIVE = jax.jit(module.selective)


def _precision(residuals, mask=None):
    return module.precision(MOMENTS(residuals, mask))


def test_precision_is_the_inverse_of_the_sample_covariance():
    residuals = _residuals(500, 6)
    expected = np.linalg.inv(np.cov(residuals.T.astype(np.float64)))
    precision = _precision(residuals)
    assert precision.dtype == np.float64
    np.testing.assert_allclose(precision, expected, rtol=TOLERANCE, atol=TOLERANCE)
    masked = np.concatenate([residuals, np.full((9, 6), np.nan, np.float32)])
    again = _precision(masked, np.arange(509) < 500)
    np.testing.assert_allclose(again, expected, rtol=TOLERANCE, atol=TOLERANCE)


def test_merged_batches_equal_all_at_once():
    residuals = _residuals(501, 6)
    residuals[300:] += 2  # batches with unlike means
    empty = module.Moments(0.0, np.zeros(6), np.zeros((6, 6)))
    parts = [MOMENTS(batch) for batch in np.split(residuals, [250, 251])]
    merged = module.Moments.merge([empty, *parts, empty])
    assert merged.count == 501
    np.testing.assert_allclose(merged.mean, residuals.mean(0), atol=1e-5)
    covariance = np.cov(residuals.T.astype(np.float64))
    np.testing.assert_allclose(merged.scatter / 500, covariance, rtol=TOLERANCE, atol=TOLERANCE)


def test_moments_over_leading_axes():
    residuals = _residuals(60, 4).reshape(3, 20, 4)
    mask = np.arange(20) < np.array([[20], [7], [0]])
    together = jax.device_get(MOMENTS(residuals, mask))
    assert together.scatter.shape == (3, 4, 4)
    for i, count in enumerate([20, 7]):
        alone = MOMENTS(residuals[i, :count], None)
        for a, b in zip(together, alone, strict=True):
            np.testing.assert_allclose(a[i], b, rtol=1e-5, atol=1e-5)
    assert together.count[2] == 0 and not np.any(together.scatter[2])


def test_distance_equals_scipy_and_the_mean_over_all_pairs_of_vectors():
    precision = _precision(_residuals(500, 6)).astype(np.float32)
    vectors = _residuals(2 * 30, 6, seed=1).reshape(2, 30, 6)
    distances = np.asarray(DISTANCE(vectors.mean(axis=1), precision))
    for clip, distance in zip(vectors, distances, strict=True):
        expected = scipy_mahalanobis(clip.mean(0), np.zeros(6), precision) ** 2
        assert distance == pytest.approx(expected, rel=TOLERANCE)
        # The official program averages the matrix of all vectors' products.
        assert distance == pytest.approx((clip @ precision @ clip.T).mean(), rel=TOLERANCE)


def test_selective_takes_the_smaller_distance():
    delta = np.eye(2, dtype=np.float32)
    source, target = (np.diag(np.float32(values)) for values in ([1, 9], [4, 2]))
    np.testing.assert_array_equal(SELECTIVE(delta, source, target), [1, 2])
    np.testing.assert_array_equal(SELECTIVE(delta, source), [1, 9])
    # One precision matrix a group of clips, by broadcasting.
    stacked = SELECTIVE(delta, np.stack([source, target]))
    np.testing.assert_array_equal(stacked, [1, 2])


def test_singular_covariance_sees_what_never_occurred():
    residuals = _residuals(20, 40)  # fewer vectors than dimensions
    with pytest.warns(UserWarning, match="21 of 40 variances are raised"):
        precision = _precision(residuals)
    assert np.isfinite(precision).all() and np.linalg.eigvalsh(precision)[0] > 0
    unseen = np.linalg.svd(residuals - residuals.mean(0))[2][-1]
    seen = residuals[0] - residuals.mean(0)
    seen /= np.linalg.norm(seen)
    far, near = np.asarray(DISTANCE(np.stack([unseen, seen]), precision.astype(np.float32)))
    assert far > 1e3 * near


def test_what_no_covariance_can_come_from():
    with pytest.raises(UserError, match="at least 2 residual vectors, got 1"):
        _precision(np.ones((1, 3), np.float32))
    with pytest.raises(UserError, match="all the same"):
        _precision(np.ones((5, 3), np.float32))
    with pytest.raises(UserError, match="not finite"):
        _precision(np.full((5, 3), np.nan, np.float32))
    with pytest.raises(UserError, match="no residuals"):
        module.Moments.merge([])
