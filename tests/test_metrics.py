"""Metrics against scikit-learn, SciPy and values derived by hand."""

import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
import sklearn.metrics

from asd_jax import metrics
from asd_jax.errors import UserError

# float64 sums of whole numbers on both sides: only the last divisions round.
NUMPY_TOLERANCE = 1e-12
# One float32 division and a few products after exact integer sums, times 5.3 for McClish.
JAX_TOLERANCE = 1e-6


def _groups(n_groups, clips, levels, seed=0, dtype=np.float32):
    """Labels, scores on a few levels (heavy ties) and masks; both classes in every group."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2, (n_groups, clips))
    labels[:, :2] = [0, 1]
    scores = (rng.integers(0, levels, (n_groups, clips)) + labels).astype(dtype)
    mask = rng.random((n_groups, clips)) < 0.8
    mask[:, :2] = True
    return labels, scores, mask


def _sklearn(labels, scores, mask, **options):
    return np.array(
        [
            sklearn.metrics.roc_auc_score(y[m], s[m], **options)
            for y, s, m in zip(labels, scores, mask, strict=True)
        ]
    )


def _papers_pauc(labels, scores, p, tie=0.5):
    """The papers' double sum, with half a point for a tie; as printed, with none."""
    normal = np.sort(scores[labels == 0])[::-1]
    top = normal[: int(np.floor(p * len(normal) + 1e-9))]
    anomaly = scores[labels == 1]
    wins = (anomaly[:, None] > top).sum() + tie * (anomaly[:, None] == top).sum()
    return wins / (len(top) * len(anomaly))


ranking_metrics = jax.jit(metrics.ranking_metrics, static_argnums=3)


def on_device(labels, scores, mask, max_fpr):
    """Metrics of up to 30 groups of up to 400 clips: of one shape, so that they share a program."""
    groups, clips = scores.shape
    more = ((0, 30 - groups), (0, 400 - clips))
    labels, mask = (np.pad(np.broadcast_to(x, scores.shape), more) for x in (labels, mask))
    scores = np.pad(scores.astype(np.float32), more, constant_values=99)
    values = ranking_metrics(labels, scores, mask, max_fpr)
    return jax.tree.map(lambda value: np.asarray(value)[:groups], values)


@pytest.mark.parametrize("clips,levels", [(2, 2), (3, 1), (5, 3), (40, 4), (400, 30), (400, 10**6)])
@pytest.mark.parametrize("max_fpr", [0.1, 0.29, 1.0])
def test_equals_scikit_learn_with_ties_and_masks(clips, levels, max_fpr):
    labels, scores, mask = _groups(30, clips, levels)
    area = _sklearn(labels, scores, mask)
    partial = _sklearn(labels, scores, mask, max_fpr=max_fpr)
    np.testing.assert_allclose(
        metrics.auc(labels, scores, mask), area, rtol=0, atol=NUMPY_TOLERANCE
    )
    np.testing.assert_allclose(
        metrics.pauc(labels, scores, mask, max_fpr), partial, rtol=0, atol=NUMPY_TOLERANCE
    )
    values = on_device(labels, scores, mask, max_fpr)
    assert values.auc.dtype == jnp.float32
    np.testing.assert_allclose(values.auc, area, rtol=0, atol=JAX_TOLERANCE)
    np.testing.assert_allclose(values.pauc_mcclish, partial, rtol=0, atol=JAX_TOLERANCE)


@pytest.mark.parametrize("levels", [3, 300, 10**7])
def test_float32_stays_exact_with_many_clips(levels):
    labels, scores, mask = _groups(1, 100_000, levels, seed=1)
    values = ranking_metrics(labels, scores, mask, 0.1)
    np.testing.assert_allclose(values.auc, _sklearn(labels, scores, mask), atol=JAX_TOLERANCE)
    np.testing.assert_allclose(
        values.pauc_mcclish, _sklearn(labels, scores, mask, max_fpr=0.1), atol=JAX_TOLERANCE
    )
    expected = _papers_pauc(labels[mask][:400], scores[mask][:400], 0.1)
    few = on_device(labels[mask][None, :400], scores[mask][None, :400], True, 0.1).pauc
    np.testing.assert_allclose(few, [expected], atol=JAX_TOLERANCE)


def test_the_largest_group_of_32_bits():
    """As exact as NumPy's 64 bits; one clip more is refused, also by a trace."""
    most = 2**21 - 1
    rng = np.random.default_rng(4)
    labels = np.arange(most) % 2
    scores = (rng.integers(0, 5000, most) + 4000 * labels).astype(np.float32)
    expected = ranking_metrics(labels, scores, None, 0.1)
    found = ranking_metrics(jnp.asarray(labels), jnp.asarray(scores), None, 0.1)
    np.testing.assert_allclose(found, expected, rtol=0, atol=JAX_TOLERANCE)
    more = jax.ShapeDtypeStruct((3, most + 1), jnp.float32)
    with pytest.raises(UserError, match="2097152 clips in a group are too many for JAX"):
        jax.eval_shape(metrics.auc, more, more)


@pytest.mark.parametrize("array", [np.asarray, jnp.asarray])
def test_the_number_of_highest_normal_clips_is_exact(array):
    """0.123 * 8813 is 1083.999: a slack of 1e-6 made 1084 of it."""
    labels = np.repeat([0, 1], [8813, 1])
    scores = np.concatenate([np.arange(8813)[::-1], [8813 - 1083 - 0.5]]).astype(np.float32)
    # Below all of the 1083 highest, and above the next.
    assert metrics.pauc(array(labels), array(scores), max_fpr=0.123, standardized=False) == 0


@pytest.mark.parametrize("levels", [2, 5, 10**6])
@pytest.mark.parametrize("p", [0.1, 0.29])
def test_unstandardised_pauc_is_the_papers_sum(levels, p):
    # 0.29 * 100 is 28.999999999999996 in floating point; K must be 29.
    rng = np.random.default_rng(2)
    labels = np.repeat([0, 1], [100, 60])
    scores = rng.integers(0, levels, (20, 160)) + labels
    expected = [_papers_pauc(labels, s, p) for s in scores]
    ours = metrics.pauc(labels, scores, max_fpr=p, standardized=False)
    np.testing.assert_allclose(ours, expected, rtol=0, atol=NUMPY_TOLERANCE)
    found = on_device(labels, scores, True, p).pauc
    np.testing.assert_allclose(found, expected, rtol=0, atol=JAX_TOLERANCE)


@pytest.mark.parametrize("levels,p", [(1, 0.5), (3, 0.1), (6, 0.05), (1000, 0.1)])
def test_ties_count_nothing_in_the_sum_as_printed(levels, p):
    labels, scores, _ = _groups(20, 150, levels)
    expected = [_papers_pauc(*group, p, tie=0) for group in zip(labels, scores, strict=True)]
    values = metrics.pauc(labels, scores, None, p, standardized=False, ties="none")
    np.testing.assert_allclose(values, expected, rtol=0, atol=NUMPY_TOLERANCE)
    on_device = metrics.pauc(jnp.asarray(labels), scores, None, p, False, "none")
    np.testing.assert_allclose(on_device, expected, rtol=0, atol=JAX_TOLERANCE)
    half = metrics.pauc(labels, scores, None, p, standardized=False)
    assert (values <= half).all() and (levels == 1 or (values < half).any())


@pytest.mark.parametrize(("standardized", "ties"), [(True, "none"), (False, "all")])
def test_ties_that_cannot_be(standardized, ties):
    with pytest.raises(UserError, match=f"ties is '{ties}'; it is 'half', or with standardized"):
        metrics.pauc([0] * 10 + [1], range(11), standardized=standardized, ties=ties)


def test_unstandardised_pauc_by_hand():
    # 20 normal clips, K = 2: the normal clips at 9 and 7; anomalies at 10, 8, 7.
    # Right pairs with 9: {10}; with 7: {10, 8} and half of 7. So (1 + 2.5) / (2 * 3).
    labels = np.repeat([0, 1], [20, 3])
    scores = np.concatenate([[9, 7], np.zeros(18), [10, 8, 7]])
    assert metrics.pauc(labels, scores, standardized=False) == pytest.approx(3.5 / 6, abs=1e-15)
    # All tied: every pair counts half, whichever normal clips are taken for the top.
    assert metrics.pauc(labels, np.ones(23), standardized=False) == 0.5


def test_relation_of_the_two_paucs():
    rng = np.random.default_rng(3)
    labels = np.repeat([0, 1], [200, 150])
    scores = rng.normal(size=(10, 350)) + labels
    r = metrics.pauc(labels, scores, standardized=False)
    # With p = 0.1: (1 + (0.1 r - 0.005) / (0.1 - 0.005)) / 2 = (0.9 + r) / 1.9.
    np.testing.assert_allclose(
        metrics.pauc(labels, scores), 0.9 / 1.9 + r / 1.9, rtol=0, atol=NUMPY_TOLERANCE
    )


def test_labels_broadcast_over_seeds_and_unlabelled_clips_do_not_count():
    labels, scores, _ = _groups(1, 50, 9, seed=4)
    seeds = np.stack([scores[0], scores[0][::-1], -scores[0]])
    expected = [sklearn.metrics.roc_auc_score(labels[0], s) for s in seeds]
    np.testing.assert_allclose(metrics.auc(labels[0], seeds), expected, atol=NUMPY_TOLERANCE)
    padded = np.pad(labels[0], (0, 7), constant_values=-1)
    extended = np.pad(seeds, ((0, 0), (0, 7)), constant_values=np.nan)
    np.testing.assert_allclose(metrics.auc(padded, extended), expected, atol=NUMPY_TOLERANCE)


def test_infinite_scores_rank_like_any_other():
    labels = np.array([0, 1, 0, 1, 0])
    scores = np.array([-np.inf, np.inf, 0.0, 0.0, -np.inf])
    mask = np.array([True, True, True, True, False])
    # Pairs: inf beats both; 0 beats -inf and ties with 0: 3.5 of 4.
    assert metrics.auc(labels, scores, mask) == 0.875


def test_vmap_equals_the_batched_call():
    groups = _groups(30, 400, 5)
    mapped = jax.jit(jax.vmap(lambda *group: metrics.pauc(*group)))(*groups)
    np.testing.assert_array_equal(mapped, on_device(*groups, 0.1).pauc_mcclish)


@pytest.mark.parametrize("array", [np.asarray, jnp.asarray])
def test_undefined_is_nan_with_a_warning(array):
    labels = array([[0, 1, 1], [1, 1, 1], [0, 0, 0], [0, 1, 0]])
    scores = array([[0.0, 1, 2], [0, 1, 2], [0, 1, 2], [0, np.nan, 2]])
    with pytest.warns(UserWarning, match="AUC is NaN for 3 of 4 groups"):
        value = metrics.auc(labels, scores)
    np.testing.assert_array_equal(value, [1, np.nan, np.nan, np.nan])
    with pytest.warns(UserWarning, match="pAUC is NaN for 3 of 4 groups"):
        assert np.isnan(metrics.pauc(labels, scores)).sum() == 3
    with pytest.warns(UserWarning, match="fewer than 1 / max_fpr normal"):
        assert np.isnan(metrics.pauc(labels, scores, standardized=False)).all()
    with pytest.warns(UserWarning, match="only one class"):
        assert np.isnan(metrics.auc(labels[0][:0], scores[0][:0]))


def test_no_warning_inside_jit():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert np.isnan(jax.jit(metrics.auc)(jnp.zeros(3), jnp.arange(3.0)))


@pytest.mark.parametrize("max_fpr", [0, -1, 1.1, float("nan")])
def test_max_fpr_outside_its_range(max_fpr):
    with pytest.raises(UserError, match="max_fpr must be in"):
        metrics.pauc([0, 1], [0.0, 1.0], max_fpr=max_fpr)


@pytest.mark.parametrize("array", [np.asarray, jnp.asarray])
def test_decision_metrics_equal_scikit_learn(array):
    rng = np.random.default_rng(5)
    labels, decisions = rng.integers(0, 2, (2, 8, 30))
    mask = rng.random((8, 30)) < 0.7
    decisions[0], labels[1] = 0, 0  # nothing called; nothing to find
    counts = metrics.confusion_counts(array(labels), array(decisions), array(mask))
    for i in range(8):
        y, d = labels[i][mask[i]], decisions[i][mask[i]]
        tn, fp, fn, tp = sklearn.metrics.confusion_matrix(y, d, labels=[0, 1]).ravel()
        assert [int(c[i]) for c in counts] == [tp, fp, fn, tn]
        p, r, f, _ = sklearn.metrics.precision_recall_fscore_support(
            y, d, average="binary", zero_division=0
        )
        ours = [float(m(counts)[i]) for m in (metrics.precision, metrics.recall, metrics.f1)]
        np.testing.assert_allclose(ours, [p, r, f], atol=JAX_TOLERANCE)


@pytest.mark.parametrize("array", [np.asarray, jnp.asarray])
def test_decision_rates_equal_scikit_learn(array):
    """Of all clips, and where one class is never predicted, to rounding."""
    rng = np.random.default_rng(3)
    labels = rng.integers(0, 2, (30, 40))
    decisions = rng.integers(0, 2, (30, 40)) * (np.arange(30)[:, None] > 2)
    rates = metrics.decision_rates(metrics.confusion_counts(array(labels), array(decisions)))
    options = {"average": "weighted", "zero_division": 0}
    expected = {
        "tpr": lambda y, d: sklearn.metrics.recall_score(y, d),
        "tnr": lambda y, d: sklearn.metrics.recall_score(y, d, pos_label=0),
        "accuracy": sklearn.metrics.accuracy_score,
        "precision_weighted": lambda y, d: sklearn.metrics.precision_score(y, d, **options),
        "recall_weighted": lambda y, d: sklearn.metrics.recall_score(y, d, **options),
    }
    for name, score in expected.items():
        values = [score(y, d) for y, d in zip(labels, decisions, strict=True)]
        np.testing.assert_allclose(getattr(rates, name), values, rtol=0, atol=JAX_TOLERANCE)
    np.testing.assert_allclose(rates.fnr, 1 - rates.tpr, rtol=0, atol=0)
    np.testing.assert_allclose(rates.fpr, 1 - rates.tnr, rtol=0, atol=0)


def test_rates_without_clips_of_a_class_are_nan():
    rates = metrics.decision_rates(metrics.confusion_counts([0, 0], [0, 1]))
    assert np.isnan([rates.tpr, rates.fnr]).all() and rates.fpr == rates.accuracy == 0.5
    assert np.isnan(metrics.decision_rates(metrics.confusion_counts([], []))).all()


def test_harmonic_mean():
    values = np.random.default_rng(6).random((4, 5))
    np.testing.assert_allclose(metrics.harmonic_mean(values), scipy.stats.hmean(values, axis=-1))
    np.testing.assert_allclose(
        metrics.harmonic_mean(values, axis=0), scipy.stats.hmean(values, axis=0)
    )
    assert metrics.harmonic_mean([0.0, 1.0]) < 1e-15
    assert np.isnan(metrics.harmonic_mean([])) and np.isnan(metrics.harmonic_mean([0.5, np.nan]))


def test_official_score_of_every_year():
    score = metrics.official_score(2020, ["all", "all"], [0.6, 0.8], [0.5, 0.7])
    assert score == {"AUC": pytest.approx(0.7), "pAUC": pytest.approx(0.6)}
    # 4 / (1/0.5 + 1/0.8 + 1/0.5 + 1/0.4)
    score = metrics.official_score(2021, ["source", "target"], [0.5, 0.8], [0.5, 0.4])
    assert score == {"official score": pytest.approx(4 / 7.75)}
    # 3 / (1/0.5 + 1/0.8 + 1/0.4): the AUC over all and the domains' pAUCs play no part.
    domains = ["all", "source", "target"]
    score = metrics.official_score(2023, domains, [0.99, 0.5, 0.8], [0.4, 0.99, np.nan])
    assert score == {"official score": pytest.approx(3 / 5.75)}
    both = metrics.official_score(2023, domains, [[0.9, 0.5, 0.8]] * 2, [[0.4, 0.9, 0.9]] * 2)
    np.testing.assert_allclose(both["official score"], [3 / 5.75] * 2)
    assert np.isnan(metrics.official_score(2023, ["all"], [0.9], [0.9])["official score"])
    assert np.isnan(metrics.official_score(2020, [], [], [])["AUC"])
