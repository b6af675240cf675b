"""Curves against scikit-learn, the project's own metrics, and counts by hand."""

import numpy as np
import pytest
from sklearn.metrics import roc_curve

from asd_jax import metrics
from asd_jax.evaluation.curves import ScoreAxis, mean_roc, score_axis, threshold_counts

EXACT = 1e-12  # sums of some hundred float64 ratios


@pytest.mark.parametrize("levels", [2, 5, 10**6])
@pytest.mark.parametrize(("n_neg", "n_pos"), [(1, 1), (3, 9), (50, 40)])
def test_one_seed_s_curve_is_scikit_learn_s(levels, n_neg, n_pos):
    rng = np.random.default_rng([levels, n_neg])
    labels = np.repeat([0, 1, -1], [n_neg, n_pos, 4])
    scores = rng.integers(0, levels, len(labels)).astype(float)
    curve = mean_roc(labels, scores)
    fpr, tpr, _ = roc_curve(labels[:-4], scores[:-4], drop_intermediate=False)
    # Each corner of theirs lies on ours: no point of a chain is further right and lower.
    for x, y in zip(fpr, tpr, strict=True):
        at = tpr_range(curve, x)
        assert at[0] - EXACT <= y <= at[1] + EXACT
    area = np.trapezoid(curve.tpr, curve.fpr)
    assert area == pytest.approx(float(metrics.auc(labels, scores)), abs=EXACT)


def tpr_range(curve, x):
    """Lowest and highest true positive rate of a curve at a false positive rate."""
    exact = curve.tpr[np.abs(curve.fpr - x) < EXACT]
    return (exact.min(), exact.max()) if len(exact) else (np.interp(x, *curve),) * 2


def test_the_area_below_a_mean_is_the_mean_of_the_areas():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 60)
    scores = rng.integers(0, 20, (3, 60)) + 4.0 * labels
    mask = rng.random(60) > 0.3
    curve = mean_roc(labels, scores, mask)
    expected = metrics.auc(labels, scores, mask).mean()
    assert np.trapezoid(curve.tpr, curve.fpr) == pytest.approx(float(expected), abs=EXACT)
    assert curve.fpr[0] == 0 == curve.tpr[0] and curve.fpr[-1] == 1 == curve.tpr[-1]
    assert (np.diff(curve.fpr) >= 0).all() and (np.diff(curve.tpr) >= 0).all()


def test_two_seeds_by_hand():
    """Seed 0 is right, seed 1 puts one of two normal clips above one of two anomalies."""
    curve = mean_roc([0, 0, 1, 1], [[1, 2, 3, 4], [1, 3, 2, 4]])
    points = [*zip(curve.fpr.tolist(), curve.tpr.tolist(), strict=True)]
    assert points == [(0, 0), (0, 0.75), (0.5, 0.75), (0.5, 1), (1, 1)]


def test_many_clips_make_a_curve_of_bounded_size():
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1], 5000)
    scores = rng.normal(size=10_000) + labels
    curve = mean_roc(labels, scores)
    assert len(curve.fpr) <= 512
    # Between two kept rates, 1/255 apart, the curve is off by less than its own rise.
    area = np.trapezoid(curve.tpr, curve.fpr)
    assert area == pytest.approx(float(metrics.auc(labels, scores)), abs=1e-3)


def test_what_has_no_curve():
    assert mean_roc([0, 0], [1, 2]) is None and mean_roc([], []) is None
    assert mean_roc([0, 1], [1, np.nan]) is None
    assert mean_roc([0, 1, -1], [1, 2, np.nan]) is not None
    infinite = mean_roc([0, 1, 1], [-np.inf, np.inf, 0])
    assert np.trapezoid(infinite.tpr, infinite.fpr) == 1


def test_an_axis_suits_its_scores():
    assert score_axis([1, 2, 3], 2.5).scale == "linear"
    heavy = score_axis([1, 2, 3, 500], 2.5)
    assert heavy.scale == "log" and 0 < heavy.low < 1 and heavy.high > 500
    assert score_axis([-1, 2, 3, 500]).scale == "asinh" == score_axis([-500, 1, 2, 3]).scale
    assert score_axis([1, 2, np.nan, np.inf, -np.inf], np.nan).high < 3
    assert score_axis([]) == ScoreAxis("linear", 0, 1)
    for value in (0.0, 1e-30, -3.0, 1e20):
        same = score_axis([value, value])
        assert same.low < value < same.high
        assert same.place(value) == pytest.approx(0.5)


@pytest.mark.parametrize("values", [[1, 2, 3], [1, 2, 3, 500], [-1, 2, 3, 500], [7, 7], [1e20]])
def test_bins_hold_all_scores_and_are_of_one_width(values):
    axis = score_axis(values)
    edges = axis.edges(12)
    assert np.histogram(values, edges)[0].sum() == len(values)
    np.testing.assert_allclose(axis.place(edges), np.linspace(0, 1, 13), atol=1e-9)


def test_counts_are_those_of_the_decision_rule():
    rng = np.random.default_rng(0)
    scores = {"normal": rng.normal(size=30).round(1), "anomaly": rng.normal(1, 1, 20).round(1)}
    counts = threshold_counts(scores, 0.55)
    assert counts.thresholds[counts.start] == 0.55
    for name, values in scores.items():
        for threshold, above in zip(counts.thresholds, counts.above[name], strict=True):
            assert above == (values > threshold).sum()
        assert counts.above[name][0] == len(values) and counts.above[name][-1] == 0


def test_many_scores_make_few_thresholds():
    scores = np.random.default_rng(0).lognormal(size=10_000)
    counts = threshold_counts({"all": scores}, 2.0)
    assert len(counts.thresholds) <= 512 and counts.thresholds[counts.start] == 2
    assert counts.above["all"][[0, -1]].tolist() == [10_000, 0]
    assert np.abs(np.diff(counts.above["all"])).max() <= 20  # 10,000 / 510


def test_scores_that_are_no_numbers():
    values = np.array([np.nan, -np.inf, np.inf, 1.0])
    counts = threshold_counts({"all": values}, np.nan)
    assert np.isfinite(counts.thresholds).all() and counts.above["all"].tolist() == [2, 1]
    assert threshold_counts({"all": np.full(3, np.nan)}, np.nan).above["all"].tolist() == [0, 0]
    assert threshold_counts({"all": np.full(3, 5.0)}, 5.0).above["all"].tolist() == [3, 0]
    assert threshold_counts({}, 1.0).thresholds[-1] == 1
