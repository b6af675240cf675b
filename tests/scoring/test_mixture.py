"""Gaussian mixtures against scikit-learn's from the same start, and where that has none."""

import threading
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import multivariate_normal
from sklearn.cluster import KMeans
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import GaussianMixture as SklearnMixture

from asd_jax.errors import UserError
from asd_jax.scoring import mixture as module
from asd_jax.scoring.mixture import GaussianMixture, fit_mixture, log_likelihood

pytestmark = pytest.mark.usefixtures("one_thread")

# Both run in float64; what rounding does to 1e-6 variances is below this, and it is asked for.
TOLERANCE = 1e-4


def _clips(kind="plain", n=150, d=6, seed=0):
    """Rows of three overlapping clusters, standardised, with what embeddings are apt to have."""
    rng = np.random.default_rng(seed)
    values = rng.normal(size=(3, d))[rng.integers(3, size=n)]
    values = values + rng.normal(size=(n, d)) @ rng.normal(size=(d, d)) / np.sqrt(d)
    values = (values - values.mean(0)) / values.std(0)
    if kind == "constant":
        values[:, :2] = [0, 7]
    elif kind == "same columns":
        values[:, 1] = values[:, 0]
    elif kind == "duplicates":
        values[n // 2 :] = values[0]
    elif kind == "offset":
        values = 1e3 + 20 * values
    return values


KINDS = ("plain", "constant", "same columns", "duplicates", "offset")


def _start(values, k=3, seed=0):
    """Means at some rows, with the columns' variances."""
    rng = np.random.default_rng(seed)
    scale = 1 / np.sqrt(values.var(axis=0) + 0.1)
    means = values[rng.choice(len(values), k, replace=False)]
    return GaussianMixture(np.full(k, 1 / k), means, np.stack([np.diag(scale)] * k))


def _sklearn(values, start, **settings):
    """scikit-learn's fit from parameters."""
    model = SklearnMixture(
        len(start.weights),
        init_params="random_from_data",
        weights_init=start.weights,
        means_init=start.means,
        precisions_init=start.precisions_cholesky @ start.precisions_cholesky.swapaxes(-1, -2),
        **settings,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return model.fit(values)


def _float64_log_likelihood(mixture, values):
    with jax.enable_x64(True):
        return np.asarray(jax.jit(log_likelihood)(mixture, values))


def _fit(*rows, **options):
    """Fits of up to six sets of rows (n, 6), and what was fitted.

    Rows that do not count and copies of the first set make them (3, 2, 150, 6), so that most
    tests share a program.
    """
    rows = [*rows, *[rows[0]] * (6 - len(rows))]
    values = np.full((6, 150, 6), np.nan)
    for own, each in zip(values, rows, strict=True):
        own[: len(each)] = each
    values = values.reshape(3, 2, 150, 6)
    mixture, fit = fit_mixture(values, np.isfinite(values).all(axis=-1), **options)
    return jax.tree.map(lambda leaf: leaf.reshape(6, *leaf.shape[2:]), (mixture, fit))


def _model(fitted, i):
    return jax.tree.map(lambda leaf: leaf[i], fitted)


def test_equals_sklearn_from_the_same_start():
    """Some converge before the 20th iteration, others are stopped there."""
    max_iter = 20
    values = np.stack([_clips(kind) for kind in KINDS])
    starts = [_start(rows) for rows in values]
    start = GaussianMixture(*(np.stack(parts) for parts in zip(*starts, strict=True)))
    new = np.stack([_clips(kind, n=40, seed=9) for kind in KINDS])
    mixture, fit = fit_mixture(values, start=start, max_iter=max_iter)
    scores = _float64_log_likelihood(mixture, np.concatenate([values, new], axis=1))
    assert fit.converged.any() and not fit.converged.all()
    for i, kind in enumerate(KINDS):
        expected = _sklearn(values[i], starts[i], max_iter=max_iter)
        assert fit.log_likelihood[i] == pytest.approx(expected.lower_bound_, abs=TOLERANCE), kind
        assert (fit.n_iter[i], fit.converged[i]) == (expected.n_iter_, expected.converged_), kind
        own = GaussianMixture(*(part[i] for part in mixture))
        np.testing.assert_allclose(
            scores[i, :150], expected.score_samples(values[i]), atol=TOLERANCE
        )
        # Of rows far away log-likelihoods are large: 1e6 for one beside a constant column.
        np.testing.assert_allclose(
            scores[i, 150:], expected.score_samples(new[i]), rtol=1e-6, atol=TOLERANCE
        )
        np.testing.assert_allclose(own.weights, expected.weights_, atol=1e-8)
        np.testing.assert_allclose(own.means, expected.means_, rtol=1e-8, atol=1e-6)
        assert not np.tril(own.precisions_cholesky, -1).any()


def test_start_by_kmeans_equals_sklearn():
    # Clusters this far apart are found from every k-means++ draw.
    values = _clips() + 40 * np.eye(6)[np.arange(150) % 3]
    mixture, fit = _model(_fit(values), 0)
    expected = SklearnMixture(3, random_state=0).fit(values)
    assert fit.log_likelihood == pytest.approx(expected.lower_bound_, abs=TOLERANCE)
    assert fit.n_iter == expected.n_iter_ and fit.converged
    scores = _float64_log_likelihood(mixture, values)
    np.testing.assert_allclose(scores, expected.score_samples(values), atol=TOLERANCE)


@pytest.mark.parametrize("kind", ["plain", "duplicates"])
def test_clusters_equal_sklearn_from_the_same_centres(kind):
    values = _clips(kind)
    values = values - values.mean(0)
    centres = values[:3] + 0.01
    labels = KMeans(3, init=centres, n_init=1).fit(values).labels_
    padded = np.concatenate([np.zeros((5, 6)), values])
    with jax.enable_x64(True):
        members = jax.jit(module._kmeans)(padded, np.arange(155) >= 5, jnp.asarray(centres))
    assert not members[:5].any()
    np.testing.assert_array_equal(members[5:], np.eye(3)[labels])


def test_draws_find_every_cluster_and_no_masked_row():
    values = np.repeat(50.0 * np.eye(4), 5, axis=0) + 0.1 * _clips(n=20, d=4)
    mask = np.arange(20) % 5 != 0
    with jax.enable_x64(True):
        draw = jax.vmap(lambda key: module._plus_plus(jnp.asarray(values), mask, key, 4))
        centres = np.asarray(jax.jit(draw)(jax.random.split(jax.random.key(0), 400)))
    clusters = np.sort(centres.argmax(axis=-1), axis=-1)
    np.testing.assert_array_equal(clusters, np.tile(np.arange(4), (400, 1)))
    rows = (centres[:, :1, None] == values).all(axis=-1).argmax(axis=-1)
    counts = np.bincount(rows.ravel(), minlength=20)
    assert not counts[~mask].any()
    # 25 expected of each row, standard deviation 5.
    assert counts[mask].min() > 5 and counts[mask].max() < 45


@pytest.fixture(scope="module")
def six():
    """Values, which rows count, seeds, and the fits of two restarts."""
    values = np.stack([_clips(seed=i) for i in range(6)]).reshape(3, 2, 150, 6)
    mask = np.arange(150) < np.array([[150, 100], [7, 150], [121, 150]])[..., None]
    mask[2, 1, ::3] = False
    holed = np.where(mask[..., None], values, np.nan)
    seeds = np.arange(6).reshape(3, 2)
    return holed, mask, seeds, fit_mixture(holed, mask, seed=seeds, restarts=2)


def test_a_model_is_the_one_it_would_have_been_without_the_others(six, monkeypatch):
    """Nor without rows that do not count, and all at once in place of one after another."""
    values, mask, seeds, (mixture, fit) = six
    assert fit.n_iter.shape == (3, 2) and mixture.means.shape == (3, 2, 3, 6)
    at = (np.array([0, 2]), np.array([1, 1]))  # each of 100 rows that count
    rows = np.stack([values[i, j][mask[i, j]] for i, j in zip(*at, strict=True)])
    in_turn = module.rows.in_turn()
    monkeypatch.setattr(module.rows, "in_turn", lambda: not in_turn)
    two, two_fit = fit_mixture(rows, seed=seeds[at], restarts=2)
    np.testing.assert_array_equal(fit.n_iter[at], two_fit.n_iter)
    np.testing.assert_allclose(fit.log_likelihood[at], two_fit.log_likelihood, rtol=1e-9)
    beside = jax.tree.map(lambda leaf: leaf[at], mixture)
    for i in range(2):
        # Restarts that find one maximum differ in the order of its components.
        orders = [np.argsort(each.weights[i]) for each in (beside, two)]
        for a, b in zip(beside, two, strict=True):
            # Sums of other lengths round otherwise.
            np.testing.assert_allclose(a[i][orders[0]], b[i][orders[1]], rtol=1e-6, atol=1e-6)


def test_the_best_restart_is_taken(six):
    values, mask, seeds, (_, fit) = six
    _, one = fit_mixture(values, mask, seed=seeds)
    gain = fit.log_likelihood - one.log_likelihood
    # From another draw to the same maximum is another way to round.
    assert (gain > -1e-9).all() and gain.max() > 0.1, gain


def test_fewer_distinct_rows_than_components():
    rng = np.random.default_rng(0)
    two = rng.normal(size=(2, 6))
    cases = np.stack(
        [np.repeat(two, [12, 8], axis=0), np.repeat(two, [20, 0], axis=0), np.tile(two, (10, 1))]
    )
    # All of the first; one clip; two.
    mixture, fit = jax.tree.map(lambda leaf: leaf[:3], _fit(cases[0], two[:1], two))
    assert fit.converged.all()
    scores = _float64_log_likelihood(mixture, cases)
    # A Gaussian of the floor's variance at every distinct row.
    top = multivariate_normal(np.zeros(6), 1e-6 * np.eye(6)).logpdf(np.zeros(6))
    expected = top + np.log(np.repeat([[0.6, 0.4], [1, 1], [0.5, 0.5]], [12, 8], axis=1))
    np.testing.assert_allclose(scores[0], expected[0], atol=TOLERANCE)
    np.testing.assert_allclose(scores[1], expected[1], atol=TOLERANCE)
    np.testing.assert_allclose(scores[2], expected[2], atol=TOLERANCE)
    np.testing.assert_allclose(mixture.weights.sum(-1), 1)
    assert ((mixture.weights < 1e-14).sum(axis=-1) == [1, 2, 1]).all()
    # Nothing but the two rows is likely.
    new = _float64_log_likelihood(mixture, rng.normal(size=(7, 6)))
    assert np.isfinite(new).all() and new.max() < -1e4


def test_any_scale_stays_finite():
    values = np.concatenate([_clips("constant", n=75), 3 * _clips("same columns", n=75)])
    values = np.array([1e-6, 1e6] * 3)[:, None, None] * values
    mixture, fit = _fit(*values)
    assert np.isfinite(fit.log_likelihood).all()
    assert np.isfinite(_float64_log_likelihood(mixture, values)).all()


def test_float32_scores_of_standardised_clips():
    values = _clips(n=400, d=55)
    values[:, :5] = 0
    values[:, 6] = values[:, 5]  # a direction of variance 1e-6 along no axis
    values = values.astype(np.float32)
    fitted = SklearnMixture(3, random_state=0).fit(values.astype(np.float64))
    mixture = GaussianMixture(fitted.weights_, fitted.means_, fitted.precisions_cholesky_)
    new = values[:50] + np.float32(0.1) * values[50:100]
    new[-1, 0] = 0.5
    scores = np.asarray(jax.jit(log_likelihood)(mixture, new))
    assert scores.dtype == np.float32
    expected = fitted.score_samples(new.astype(np.float64))
    # Values of order 1, rounded by 1e-7, over standard deviations of 1e-3.
    np.testing.assert_allclose(scores[:-1], expected[:-1], atol=5e-3)
    assert scores[-1] == pytest.approx(expected[-1], rel=1e-5) and expected[-1] < -1e5


def test_scores_over_leading_axes():
    values = np.stack([_clips(seed=i, n=60) for i in range(2)]).astype(np.float32)
    mixture, _ = jax.tree.map(lambda leaf: leaf[:2], _fit(*values))
    score = jax.jit(log_likelihood)
    together = np.asarray(score(mixture, values))
    everywhere = np.asarray(score(mixture, values[0]))
    for i in range(2):
        own = GaussianMixture(*(part[i] for part in mixture))
        np.testing.assert_allclose(together[i], score(own, values[i]), atol=1e-3)
        np.testing.assert_allclose(everywhere[i], score(own, values[0]), rtol=1e-5)
    assert not jax.config.jax_enable_x64


def test_what_cannot_be_fitted():
    values = _clips(n=10)
    with pytest.raises(UserError, match="at least one component"):
        fit_mixture(values, n_components=0)
    with pytest.raises(UserError, match=r"\(rows|shape"):
        fit_mixture(values[0])
    with pytest.raises(UserError, match=r"mask of shape \(9,\)"):
        fit_mixture(values, np.ones(9, bool))
    with pytest.raises(UserError, match=r"no rows to fit model \(1,\)"):
        fit_mixture(np.stack([values] * 2), np.array([[True] * 10, [False] * 10]))
    values[3, 2] = np.nan
    with pytest.raises(UserError, match=r"row \(3,\) of \(10,\) is not finite"):
        fit_mixture(values)
    with pytest.raises(UserError, match="start is not of 2 components in 6"):
        fit_mixture(_clips(n=10), n_components=2, start=_start(_clips(n=10)))


def test_fits_in_several_threads_do_not_wait_for_one_another():
    """A factorisation of several matrices at once would use the threads that the others hold."""
    values = np.random.default_rng(0).normal(size=(875, 128))
    fit_mixture(values, n_components=2, max_iter=1)  # compiles
    threads = [
        threading.Thread(
            target=lambda: [fit_mixture(values, n_components=2, max_iter=1) for _ in range(5)],
            daemon=True,
        )
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not any(thread.is_alive() for thread in threads)
