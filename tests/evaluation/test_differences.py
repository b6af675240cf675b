"""Paired differences against scipy.stats.bootstrap and values by hand."""

import numpy as np
import pytest
from scipy import stats

from asd_jax import metrics
from asd_jax.evaluation.differences import ALL, differences
from asd_jax.evaluation.results import ScoreRow


def rows_of(scores, labels, machine="fan", section="00", seeds=(0,), domains=None):
    """Rows of scores (seeds, clips)."""
    return [
        ScoreRow(
            machine,
            section,
            "" if domains is None else domains[i],
            seed,
            f"{i}.wav",
            int(labels[i]),
            float(score),
            0.0,
            int(score > 0),
        )
        for seed, row in zip(seeds, np.atleast_2d(scores), strict=True)
        for i, score in enumerate(row)
    ]


def difficult(n=60, seed=0):
    """Labels, and scores of two runs that agree on which clips are hard."""
    rng = np.random.default_rng(seed)
    labels = np.repeat([0, 1], n // 2)
    hardness = rng.normal(size=n)
    first = labels + hardness
    return labels, first, first + 0.4 * labels + 0.2 * rng.normal(size=n)


@pytest.mark.parametrize("metric", ["AUC", pytest.param("pAUC (McClish)", marks=pytest.mark.slow)])
def test_intervals_are_scipy_s_paired_ones(metric):
    """Normal clips and anomalies are drawn apart, the same ones for both runs.

    The ends of an interval of 4000 resamples have a Monte Carlo error of about 4 % of its width;
    both sides have one.
    """
    labels, first, second = difficult()
    found = differences(
        [rows_of(first, labels), rows_of(second, labels)], 2020, n_resamples=4000
    ).rows
    (row,) = [row for row in found if row.metric == metric and row.machine == "fan"]
    name = {"AUC": "auc", "pAUC (McClish)": "pauc_mcclish"}[metric]

    def statistic(normal, anomalous):
        drawn = np.concatenate([normal, anomalous]).astype(int)
        values = [
            getattr(metrics.ranking_metrics(labels[drawn], own[drawn]), name)
            for own in (first, second)
        ]
        return values[1] - values[0]

    expected = stats.bootstrap(
        (np.flatnonzero(labels == 0), np.flatnonzero(labels == 1)),
        statistic,
        n_resamples=4000,
        vectorized=False,
        method="percentile",
        rng=np.random.default_rng(1),
    ).confidence_interval
    tolerance = 0.12 * (expected.high - expected.low)
    assert row.low[0] == pytest.approx(expected.low, abs=tolerance)
    assert row.high[0] == pytest.approx(expected.high, abs=tolerance)
    assert row.difference[0] == pytest.approx(statistic(*np.split(np.arange(60), 2)), abs=1e-12)


def test_pairing_finds_what_two_intervals_would_not():
    labels, first, second = difficult()
    (row, *_) = differences([rows_of(first, labels), rows_of(second, labels)], 2020).rows
    assert row.low[0] > 0
    (own, *_) = differences([rows_of(first, labels), rows_of(first, labels)], 2020).rows
    assert own.low[0] == own.high[0] == own.difference[0] == 0


def test_means_over_seeds_sections_and_machines_by_hand():
    """AUCs: fan 00 1/2, fan 02 1, pump 1 of the first run; of the second all 1."""
    labels = [0, 0, 1, 1]
    half, right = [1, 4, 2, 5], [1, 2, 3, 4]  # AUC 3/4 and 1
    wrong = [4, 2, 1, 3]  # 1/4
    first = (
        rows_of([half, wrong], labels, seeds=(3, 5))
        + rows_of([right, right], labels, section="02", seeds=(3, 5))
        + rows_of([right, right], labels, machine="pump", seeds=(3, 5))
    )
    second = (
        rows_of(right, labels, seeds=(7,))
        + rows_of(right, labels, section="02", seeds=(7,))
        + rows_of(right, labels, machine="pump", seeds=(7,))
    )
    found = {
        (row.machine, row.metric): row
        for row in differences([first, second], 2020, n_resamples=50).rows
    }
    np.testing.assert_allclose(found["fan", "AUC"].values, [0.75, 1])
    np.testing.assert_allclose(found["pump", "AUC"].values, [1, 1])
    np.testing.assert_allclose(found[ALL, "AUC"].values, [2.5 / 3, 1])
    assert {machine for machine, _ in found} == {"fan", "pump", ALL}


def test_the_official_score_of_later_years():
    rng = np.random.default_rng(0)
    labels = np.tile([0, 0, 1, 1], 10)
    domains = np.tile(["source", "target"], 20)
    runs = [
        rows_of(rng.normal(size=40) + gap * labels, labels, domains=domains) for gap in (0.5, 2)
    ]
    row = differences(runs, 2023, n_resamples=100).rows[-1]
    assert (row.machine, row.metric) == (ALL, "official score")
    by_hand = []
    for own in runs:
        scores = np.array([r.score for r in own])
        of = {
            d: metrics.auc(labels, scores, (domains == d) | (labels == 1))
            for d in ("source", "target")
        }
        pauc = metrics.pauc(labels, scores)
        by_hand.append(3 / (1 / of["source"] + 1 / of["target"] + 1 / pauc))
    np.testing.assert_allclose(row.values, by_hand, rtol=1e-9)


def test_sections_of_other_clips_or_labels_are_left_out():
    labels = [0, 0, 1, 1]
    scores = [1, 2, 3, 4]
    first = rows_of(scores, labels) + rows_of(scores, labels, section="02")
    second = rows_of(scores, labels) + rows_of(scores, [0, 1, 0, 1], section="02")
    second += rows_of(scores, labels, machine="pump")
    found = differences([first, second], 2020, n_resamples=10)
    assert found.left_out == ("fan 02", "pump 00")
    assert {row.machine for row in found.rows} == {"fan", ALL}
    nothing = differences([first, rows_of(scores, [-1] * 4, machine="saw")], 2020)
    assert nothing.rows == () and len(nothing.left_out) == 3


def test_without_labels_or_numbers_there_is_no_difference():
    assert differences([rows_of([1, 2], [-1, -1])] * 2, 2020).rows == ()
    assert differences([rows_of([1, 2], [0, 0])] * 2, 2020).rows == ()
    broken = rows_of([1, np.nan], [0, 1])
    (row, *_) = differences([broken, rows_of([1, 2], [0, 1])], 2020, n_resamples=10).rows
    assert np.isnan(row.difference).all() and np.isnan(row.low).all()
