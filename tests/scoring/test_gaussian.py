"""Mahalanobis distances against scikit-learn's covariance estimators."""

import jax
import numpy as np
import pytest
from sklearn.covariance import EmpiricalCovariance, LedoitWolf

from asd_jax.errors import UserError
from asd_jax.scoring import gaussian as module
from asd_jax.scoring.gaussian import (
    Gaussian,
    distance,
    fit_domains,
    fit_gaussian,
    selective_distance,
)

pytestmark = pytest.mark.usefixtures("one_thread")

# Both in float64, with condition numbers up to 1e3.
TOLERANCE = 1e-8
# float32 sums under the same.
FLOAT32 = 1e-3


def _embeddings(n, d=8, seed=0):
    rng = np.random.default_rng(seed)
    mixing = np.random.default_rng(100).normal(size=(d, d)) / np.sqrt(d) + np.eye(d)
    return 2 + rng.normal(size=(n, d)) @ mixing


def _distance(gaussian, values):
    with jax.enable_x64(True):
        return np.asarray(jax.jit(distance)(gaussian, values))


@pytest.mark.parametrize(
    ("n", "shrinkage", "estimator"),
    [(40, 0.0, EmpiricalCovariance), (40, None, LedoitWolf), (5, None, LedoitWolf)],
)
def test_equals_sklearn(n, shrinkage, estimator):
    values, new = _embeddings(n), _embeddings(20, seed=1) * 3
    found = fit_gaussian(values, shrinkage=shrinkage)
    expected = estimator().fit(values).mahalanobis(new)
    np.testing.assert_allclose(_distance(found, new), expected, rtol=TOLERANCE)
    scores = np.asarray(jax.jit(distance)(found, new.astype(np.float32)))
    assert scores.dtype == np.float32
    np.testing.assert_allclose(scores, expected, rtol=FLOAT32)
    one = jax.jit(distance)(found, new[0].astype(np.float32))
    np.testing.assert_allclose(one, expected[0], rtol=FLOAT32)


def test_a_share_of_the_identity_as_given():
    values, new = _embeddings(40), _embeddings(20, seed=1)
    covariance = np.cov(values.T, bias=True)
    covariance = 0.7 * covariance + 0.3 * np.trace(covariance) / 8 * np.eye(8)
    delta = new - values.mean(0)
    expected = np.einsum("ni,ij,nj->n", delta, np.linalg.inv(covariance), delta)
    found = _distance(fit_gaussian(values, shrinkage=0.3), new)
    np.testing.assert_allclose(found, expected, rtol=TOLERANCE)


@pytest.mark.parametrize("shrinkage", [0.0, None])
def test_fewer_clips_than_dimensions_and_constant_columns(shrinkage):
    values = _embeddings(10, 30).astype(np.float32)
    values[:, 0] = 0.3
    found = fit_gaussian(values, shrinkage=shrinkage)
    unseen = values[:1] + np.eye(30, dtype=np.float32)[:1]
    near, far = np.asarray(jax.jit(distance)(found, np.concatenate([values[:1], unseen])))
    assert np.isfinite(far) and far > near + 0.1
    if shrinkage == 0:
        # The floor: variances of 1e-6 of the largest.
        largest = np.linalg.eigvalsh(np.cov(values.T.astype(np.float64), bias=True))[-1]
        assert np.linalg.norm(found.whitening, 2) == pytest.approx((1e-6 * largest) ** -0.5)


def test_a_model_is_the_one_it_would_have_been_alone(monkeypatch):
    """Fitted one after another or all at once; of one without padding, and of two holed ones."""
    values = np.stack([_embeddings(40, seed=i) for i in range(4)]).reshape(2, 2, 40, 8)
    mask = np.arange(40) < np.array([[40, 35], [12, 2]])[..., None]
    mask[0, 1, ::3] = False
    new = _embeddings(5, seed=9)
    fits = []
    for one_by_one in (True, False):
        monkeypatch.setattr(module.rows, "in_turn", lambda: one_by_one)  # noqa: B023
        fits.append(fit_gaussian(np.where(mask[..., None], values, np.nan), mask))
    scores = [_distance(found, new) for found in fits]
    assert scores[0].shape == (2, 2, 5)
    for at in ((0, 1), (1, 1)):
        alone = _distance(fit_gaussian(values[at][mask[at]]), new)
        for found, together in zip(fits, scores, strict=True):
            np.testing.assert_allclose(together[at], alone, rtol=1e-6)
            own = Gaussian(*(part[at] for part in found))
            np.testing.assert_allclose(together[at], _distance(own, new), rtol=1e-6)


def test_the_nearer_domain_decides():
    values = np.stack([_embeddings(60, seed=i) for i in range(3)])
    target = np.arange(60) < np.array([[7], [1], [59]])  # in the last, one source clip
    values[0, :7] += 20
    source, other = fit_domains(values, None, target)
    np.testing.assert_array_equal(source.valid, [True, True, False])
    np.testing.assert_array_equal(other.valid, [True, False, True])
    new = _embeddings(6, seed=9) + 20 * (np.arange(6) % 2)[:, None]
    found = jax.jit(selective_distance)(source, other, new)
    assert found.shape == (3, 6)

    def alone(i, rows):
        return LedoitWolf().fit(values[i][rows]).mahalanobis(new)

    of_source, of_target = alone(0, ~target[0]), alone(0, target[0])
    np.testing.assert_allclose(found[0], np.minimum(of_source, of_target), rtol=FLOAT32)
    assert (of_target < of_source).any() and (of_source < of_target).any()
    np.testing.assert_allclose(found[1], alone(1, ~target[1]), rtol=FLOAT32)
    np.testing.assert_allclose(found[2], alone(2, target[2]), rtol=FLOAT32)


def test_what_cannot_be_fitted():
    with pytest.raises(UserError, match=r"model \(1,\) of \(2,\) has no two distinct rows"):
        fit_gaussian(np.stack([_embeddings(5), np.full((5, 8), 0.1)]))
    with pytest.raises(UserError, match="no two distinct clips of one domain"):
        values = np.stack([_embeddings(5), _embeddings(5)])
        fit_domains(values, np.tile(np.arange(5) < 2, (2, 1)), np.arange(5) == 0)
    with pytest.raises(UserError, match="shrinkage must be from 0 to 1, not 2"):
        fit_gaussian(_embeddings(5), shrinkage=2)
    with pytest.raises(UserError, match="not finite"):
        fit_gaussian(np.full((5, 2), np.nan))
