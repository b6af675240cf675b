"""The permutation test: its stated rate, groups, power, and the correction for several tests."""

import itertools

import numpy as np
import pytest

from asd_jax.audio import FrontEnd
from asd_jax.data import read
from asd_jax.fitting.history import BandMeter
from asd_jax.scoring.drift import compare_levels, compare_scores, of_groups, rejected

BANDS = 16


def levels(rng, groups, clips):
    """Clips of some groups: a level of each group, heavy tails, bands that go together."""
    together = rng.normal(0, 3, (groups, 1, 1, 1)) + rng.normal(0, 1, (groups, 1, 1, BANDS))
    own = rng.standard_t(3, (groups, clips, 3, BANDS)).cumsum(axis=-1) / 4
    return (together + own - 50).reshape(-1, 3, BANDS), np.repeat(np.arange(groups), clips)


def false_warnings(draw, splits, rate):
    """(rate, three standard errors above what was stated) of tests where nothing has changed."""
    found = [draw(np.random.default_rng(seed)).p_value <= rate for seed in range(splits)]
    return np.mean(found), rate + 3 * np.sqrt(rate * (1 - rate) / splits)


@pytest.mark.parametrize("rate", [0.05, 0.2])
def test_the_stated_rate_holds_with_groups_that_differ(rate):
    def draw(rng):
        own, groups = levels(rng, 12, 5)
        recent = groups >= 8
        return compare_levels(own[~recent], own[recent], groups[~recent], groups[recent], draws=99)

    share, most = false_warnings(draw, 200, rate)
    assert share <= most

    # Of clips that are counted one by one, days that differ would be changes.
    def alone(rng):
        own, groups = levels(rng, 12, 5)
        return compare_levels(own[groups < 8], own[groups >= 8], draws=99)

    assert false_warnings(alone, 100, rate)[0] > 2 * rate


def test_the_stated_rate_holds_on_real_recordings(shared):
    """75 recordings of one machine, of which a random third are the recent ones."""
    front_end = FrontEnd(n_mels=64)
    found = []
    for path in sorted((shared / "data/mimii_id00").glob("normal_*.wav")):
        meter = BandMeter()
        meter.add(np.asarray(front_end(read(path, 16_000))))
        found.append(meter.levels())
    own = np.stack(found)

    def draw(rng):
        order = rng.permutation(len(own))
        return compare_levels(own[order[25:]], own[order[:25]], draws=99)

    share, most = false_warnings(draw, 200, 0.05)
    assert share <= most
    louder = compare_levels(own[25:], own[:25] + 6)
    assert louder.p_value < 0.01 and louder.by_statistic["level"] < 0.01


def test_p_values_are_exact_with_few_groups():
    """By hand: with 1 recent group among 10, the largest of all has a p-value of 1 in 10."""
    own = np.zeros((10, 3, 4)) + np.arange(10)[:, None, None] / 10
    found = compare_levels(own[:9], own[9:] + 5, draws=4999)
    # A draw is the observed choice in one of ten: three standard errors of 5000 draws.
    assert found.by_statistic["level"] == pytest.approx(0.1, abs=0.013)
    assert found.smallest == 0.1
    scores = compare_scores(np.arange(9.0), np.array([9.0]))
    assert scores.p_value == pytest.approx(0.1, abs=0.013)


def test_scores_agree_with_all_permutations():
    older, recent = np.array([0.1, 0.5, 0.9, 1.4, 2.0]), np.array([1.0, 2.5, 3.0])
    ranks = np.argsort(np.argsort(np.append(older, recent))) + 1.0
    sums = [ranks[list(some)].sum() for some in itertools.combinations(range(8), 3)]
    expected = np.mean(np.array(sums) >= ranks[5:].sum())
    assert compare_scores(older, recent).p_value == pytest.approx(expected, abs=0.013)


@pytest.mark.parametrize(
    "change, statistic",
    [
        (lambda x: x + 6, "level"),
        (lambda x: x + np.linspace(-4, 4, BANDS), "response"),
        (lambda x: x + 8.0 * (np.arange(BANDS) == 5), "band"),
        (lambda x: x + np.array([0, 5, 0])[:, None], "quiet moments"),
    ],
)
def test_changes_are_found(change, statistic):
    rng = np.random.default_rng(0)
    own = rng.normal(-50, 2, (45, 3, BANDS))
    found = compare_levels(own[:30], change(own[30:]))
    assert found.p_value <= 0.001 and found.by_statistic[statistic] <= 0.001


def test_groups_count_once():
    values = np.array([1.0, 3.0, 10.0])
    np.testing.assert_array_equal(of_groups(values, ["a", "a", "b"]), [2.0, 10.0])
    assert compare_levels(np.zeros((0, 3, 4)), np.zeros((3, 3, 4))).p_value == 1


def test_holms_correction():
    """As by hand: 0.01 ≤ 0.05 / 4, 0.015 ≤ 0.05 / 3, 0.03 > 0.05 / 2."""
    assert rejected([0.03, 0.01, 0.04, 0.015], 0.05) == [False, True, False, True]
    assert rejected([], 0.05) == []
