"""Standardised principal components against scikit-learn's scaler and full decomposition."""

import jax
import numpy as np
import pytest
from sklearn.decomposition import PCA
from sklearn.preprocessing import StandardScaler

from asd_jax.errors import UserError
from asd_jax.scoring import projection as module
from asd_jax.scoring.projection import Projection, fit_projection, project

pytestmark = pytest.mark.usefixtures("one_thread")

# Eigenvectors of float64 products against singular vectors: rounding over the distances of
# neighbouring variances, here about 1e-2.
TOLERANCE = 1e-8


def _embeddings(n, d, seed=0):
    rng = np.random.default_rng(seed)
    factors = rng.normal(size=(n, min(n, d))) * 0.97 ** np.arange(min(n, d))
    return 3 + factors @ rng.normal(size=(min(n, d), d))


@pytest.mark.parametrize(
    ("n", "d", "standardize"),
    [(90, 20, True), (20, 90, True), (30, 30, True), (20, 90, False)],
)
def test_equals_sklearn(n, d, standardize):
    values = _embeddings(n, d)
    values[:, 4] = 7.1  # 7.1 has no exact mean of so many
    found = fit_projection(values, n_components=10, standardize=standardize)
    scaler = StandardScaler(with_std=standardize).fit(values)
    expected = PCA(10, svd_solver="full").fit(scaler.transform(values))
    np.testing.assert_allclose(found.mean, values.mean(0), rtol=1e-12)
    if standardize:
        np.testing.assert_allclose(found.scale, scaler.scale_, rtol=1e-12)
        assert found.scale[4] == 1
    else:
        np.testing.assert_array_equal(found.scale, 1)
    np.testing.assert_allclose(found.components, expected.components_, atol=TOLERANCE)
    new = _embeddings(7, d, seed=1)
    reference = expected.transform(scaler.transform(new))
    with jax.enable_x64(True):
        np.testing.assert_allclose(jax.jit(project)(found, new), reference, atol=1e-6)
    # float32: sums over d products of order 1.
    scores = jax.jit(project)(found, new.astype(np.float32))
    assert scores.dtype == np.float32
    np.testing.assert_allclose(scores, reference, rtol=1e-4, atol=1e-4 * np.abs(reference).max())


@pytest.mark.parametrize(("n", "d", "rank"), [(6, 50, 5), (2, 9, 1), (1, 4, 0), (40, 12, 9)])
def test_components_beyond_the_rank_are_zero(n, d, rank):
    values = _embeddings(n, d).astype(np.float32)
    values[:, :3] = [0, 0.1, 1e5]  # constant columns
    found = fit_projection(values, n_components=min(d, 10))
    norms = np.linalg.norm(found.components, axis=-1)
    np.testing.assert_allclose(norms[:rank], 1, rtol=1e-12)
    np.testing.assert_array_equal(norms[rank:], 0)
    # What moves along constant columns alone moves no component.
    np.testing.assert_allclose(found.components[:, :3], 0, atol=1e-9)
    assert not np.asarray(jax.jit(project)(found, _embeddings(5, d, seed=2)))[:, rank:].any()
    # The training rows, standardised, are what their components say.
    if rank and rank <= len(norms):
        standardised = (values - found.mean) / found.scale
        again = standardised @ found.components.T @ found.components
        np.testing.assert_allclose(again, standardised, atol=1e-6)


def test_repeated_rows_have_no_components():
    found = fit_projection(np.full((5, 3), 0.1), n_components=2)
    np.testing.assert_array_equal(found.components, 0)
    np.testing.assert_array_equal(found.scale, 1)


def test_wide_embeddings_of_few_clips():
    values = _embeddings(12, 6144).astype(np.float32)
    found = fit_projection(values, n_components=50)
    scaled = StandardScaler().fit_transform(values.astype(np.float64))
    expected = PCA(11, svd_solver="full").fit(scaled).components_
    np.testing.assert_allclose(found.components[:11], expected, atol=TOLERANCE)
    assert found.components.shape == (50, 6144) and not found.components[11:].any()
    scores = np.asarray(jax.jit(project)(found, values))
    np.testing.assert_allclose(scores[:, :11], scaled @ expected.T, atol=1e-3)


def test_a_model_is_the_one_it_would_have_been_alone(monkeypatch):
    """Fitted one after another or all at once; of one without padding, and of two holed ones."""
    values = np.stack([_embeddings(40, 30, seed=i) for i in range(4)]).reshape(2, 2, 40, 30)
    mask = np.arange(40) < np.array([[40, 35], [12, 2]])[..., None]
    mask[0, 1, ::3] = False
    holed = np.where(mask[..., None], values, np.nan)
    fits = []
    for one_by_one in (True, False):
        monkeypatch.setattr(module.rows, "in_turn", lambda: one_by_one)  # noqa: B023
        fits.append(fit_projection(holed, mask, n_components=8))
    new = _embeddings(5, 30, seed=9)
    score = jax.jit(project)
    together = np.asarray(score(fits[0], new))
    assert together.shape == (2, 2, 5, 8)
    for at in ((0, 1), (1, 1)):
        alone = fit_projection(values[at][mask[at]], n_components=8)
        for found in fits:
            for a, b in zip(found, alone, strict=True):
                np.testing.assert_allclose(a[at], b, atol=TOLERANCE)
        own = Projection(*(part[at] for part in fits[0]))
        np.testing.assert_allclose(together[at], score(own, new), atol=1e-4)
        np.testing.assert_allclose(together[at][0], score(own, new[0]), atol=1e-4)


def test_what_cannot_be_fitted():
    with pytest.raises(UserError, match="n_components must be from 1 to the 3 columns, not 4"):
        fit_projection(np.ones((5, 3)), n_components=4)
    with pytest.raises(UserError, match=r"row \(2,\) of \(5,\) is not finite"):
        fit_projection(np.where(np.arange(5)[:, None] == 2, np.inf, np.ones(3)), n_components=1)
    with pytest.raises(UserError, match="no rows to fit"):
        fit_projection(np.ones((5, 3)), np.zeros(5, bool), n_components=1)


def test_rows_of_another_width_are_one_line():
    projection = Projection(np.zeros(3), np.ones(3), np.eye(2, 3))
    with pytest.raises(UserError, match="rows of 5 values, where the projection was fitted to 3"):
        project(projection, np.zeros((2, 5)))
