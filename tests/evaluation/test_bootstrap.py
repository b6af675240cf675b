"""Bootstrap resamples against scikit-learn with sample weights."""

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from asd_jax import metrics
from asd_jax.errors import UserError
from asd_jax.evaluation import bootstrap as module
from asd_jax.evaluation.bootstrap import bootstrap, percentile_interval

# Sums of at most a few hundred float32 products of whole numbers and one fraction.
TOLERANCE = 2e-6


def _expected(labels, scores, weights, max_fpr):
    """AUC, the papers' pAUC of the clips repeated as often as drawn, McClish pAUC."""
    labels, scores = np.repeat(labels, weights), np.repeat(scores, weights)
    normal = np.sort(scores[labels == 0])[::-1]
    top = normal[: int(max_fpr * len(normal) + 1e-9)]
    above = scores[labels == 1][:, None]
    r = ((above > top) + 0.5 * (above == top)).mean() if len(top) else np.nan
    return [
        roc_auc_score(labels, scores),
        r,
        roc_auc_score(labels, scores, max_fpr=max_fpr),
    ]


@pytest.mark.parametrize("n_neg,n_pos", [(1, 1), (3, 2), (12, 7), (40, 30), (33, 50)])
@pytest.mark.parametrize("levels", [2, 6, 10**6])
@pytest.mark.parametrize("max_fpr", [0.1, 0.35])
def test_every_resample_equals_scikit_learn(n_neg, n_pos, levels, max_fpr):
    rng = np.random.default_rng(n_neg + levels)
    pos = rng.integers(0, levels, n_pos) + 0.5 * (levels > 6)
    neg = rng.integers(0, levels, n_neg).astype(float)
    weights_pos, weights_neg = module._draw(rng, n_pos, 8), module._draw(rng, n_neg, 8)
    assert (weights_pos.sum(0) == n_pos).all() and (weights_neg.sum(0) == n_neg).all()
    ours = module._weighted_metrics(pos, neg, weights_pos, weights_neg, max_fpr)
    labels, scores = np.repeat([1, 0], [n_pos, n_neg]), np.concatenate([pos, neg])
    weights = np.concatenate([weights_pos, weights_neg])
    for r in range(8):
        expected = _expected(labels, scores, weights[:, r].astype(int), max_fpr)
        np.testing.assert_allclose(ours[:, r], expected, rtol=0, atol=TOLERANCE)
        weighted = roc_auc_score(labels, scores, sample_weight=weights[:, r], max_fpr=max_fpr)
        assert ours[2, r] == pytest.approx(weighted, abs=TOLERANCE)


def test_weights_of_one_give_the_metrics_themselves():
    rng = np.random.default_rng(0)
    pos, neg = rng.normal(1, 1, 5000), rng.normal(0, 1, 4000)  # more than float32 counts exactly
    ours = module._weighted_metrics(
        pos, neg, np.ones((5000, 1), np.float32), np.ones((4000, 1), np.float32), 0.1
    )
    labels = np.repeat([1, 0], [5000, 4000])
    expected = metrics.ranking_metrics(labels, np.concatenate([pos, neg]))
    np.testing.assert_allclose(ours[:, 0], expected, rtol=0, atol=1e-12)  # float64 throughout


def test_seeds_that_share_labels_share_resamples():
    rng = np.random.default_rng(1)
    labels = rng.integers(0, 2, (3, 1, 60))
    scores = rng.normal(size=(3, 1, 60)) + labels
    # A monotone map leaves every ranking as it is, so paired resamples agree exactly.
    values = bootstrap(labels, np.concatenate([scores, 3 * scores + 1], axis=1), n_resamples=50)
    assert values.auc.shape == (3, 2, 50)
    for value in values:
        np.testing.assert_array_equal(value[:, 0], value[:, 1])
    # Different groups have resamples of their own, also with the same clips.
    same = bootstrap(np.repeat(labels[:1, 0], 2, axis=0), np.repeat(scores[0], 2, axis=0))
    assert (same.auc[0] != same.auc[1]).any()


def intervals_of(*arguments, **settings):
    """Percentile intervals of each metric."""
    values = bootstrap(*arguments, **settings)
    return type(values)(*map(percentile_interval, values))


def test_interval_equals_a_plain_loop_and_covers_the_truth():
    rng = np.random.default_rng(4)
    labels = np.repeat([0, 1], 100)
    scores = rng.normal(size=(200, 200)) + labels
    intervals = intervals_of(np.tile(labels, (200, 1)), scores, n_resamples=400)
    truth = 0.7602  # Phi(1 / sqrt(2))
    covered = ((intervals.auc[:, 0] < truth) & (truth < intervals.auc[:, 1])).mean()
    assert 0.90 < covered < 0.99  # 0.95 within three standard errors of 200 trials
    loop = []
    for _ in range(400):
        drawn = np.concatenate([rng.integers(0, 100, 100), rng.integers(100, 200, 100)])
        loop.append(roc_auc_score(labels, scores[0][drawn]))
    # Both ends have a Monte Carlo error of about 0.004.
    np.testing.assert_allclose(intervals.auc[0], np.percentile(loop, [2.5, 97.5]), atol=0.02)


def test_deterministic_and_in_blocks(monkeypatch):
    rng = np.random.default_rng(5)
    labels, scores = rng.integers(0, 2, 40), rng.normal(size=40)
    once = bootstrap(labels, scores, n_resamples=30, seed=1)
    again = bootstrap(labels, scores, n_resamples=30, seed=1)
    other = bootstrap(labels, scores, n_resamples=30, seed=2)
    np.testing.assert_array_equal(once.auc, again.auc)
    assert (once.auc != other.auc).any()
    monkeypatch.setattr(module, "_BLOCK", 40 * 7)
    blocks = bootstrap(labels, scores, n_resamples=30, seed=1)
    assert np.isfinite(blocks.pauc_mcclish).all() and len(set(blocks.auc)) > 10


def test_undefined_groups_are_nan_and_the_others_are_not():
    labels = np.array([[0, 1, 0, 1], [1, 1, 1, 1], [0, 1, 0, 1]])
    scores = np.array([[0, 1, 2, 3], [0, 1, 2, 3], [0, np.nan, 2, 3.0]])
    intervals = intervals_of(labels, scores, n_resamples=20)
    assert np.isfinite(intervals.auc[0]).all() and np.isnan(intervals.auc[1:]).all()
    assert np.isnan(intervals.pauc).all()  # two normal clips: none in the top tenth
    masked = intervals_of(labels, scores, np.isfinite(scores), n_resamples=20)
    assert np.isfinite(masked.auc[2]).all()
    separated = intervals_of([0, 0, 1, 1], [0, 1, 2, 3])
    np.testing.assert_array_equal(separated.auc, [1, 1])


def test_arguments_out_of_range():
    with pytest.raises(UserError, match="n_resamples must be at least 1"):
        bootstrap([0, 1], [0.0, 1.0], n_resamples=0)
