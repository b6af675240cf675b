"""Standardised distances and scores: by hand, and against loops over refits."""

import jax
import numpy as np
import pytest
from scipy.spatial.distance import cdist

from asd_jax.errors import UserError
from asd_jax.scoring.normalisation import leave_out_pairs
from asd_jax.scoring.standardisation import (
    Scales,
    domain_scales,
    leave_out_minimum_of_z,
    leave_out_standardised,
    minimum_of_z,
    standardised_distance,
)

# Float64 on both sides, sums of two dozen terms.
TOLERANCE = 1e-8

N = 24
TARGET = np.arange(N) % 4 == 1  # 6 rows, 5 of them count
MASK = np.arange(N) < 20
GROUP = np.arange(N) // 2 + 40
GROUP[[1, 5, 9]] = 1  # leaves 2 target rows
GROUP[[17, 18, 19]] = 2


def in_float64(function, *arguments):
    with jax.enable_x64(True):
        return jax.tree.map(np.asarray, jax.jit(function)(*arguments))


def within_and_between():
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(N, 4)) * np.where(TARGET, 5, 1)[:, None]
    return cdist(rows, rows), cdist(rng.normal(size=(7, 4)) * 3, rows)


def scores_by_hand(between, within, target, k, few):
    """Scores of queries by a bank whose rows all count, in a loop."""
    own, z = {}, []
    for side in (False, True):
        rows = np.flatnonzero(target == side)
        own[side] = [np.sort(within[row, rows[rows != row]])[:k].mean() for row in rows]
    for side in (False, True):
        mean, deviation = np.mean(own[side]), np.std(own[side])
        if side and len(own[side]) < few:
            deviation = np.std(own[False])
        near = np.sort(between[:, target == side], axis=1)[:, :k].mean(axis=1)
        z.append((near - mean) / deviation)
    return np.minimum(*z)


def test_equals_loops_with_and_without_a_group(k=2, few=5):
    """Without some groups, fewer than five target rows stay."""
    within, between = within_and_between()
    holed = np.where(MASK & MASK[:, None], within, np.nan)

    def both(within, between, mask, target):
        scales = domain_scales(within, mask, target, k=k, few=few)
        scores = standardised_distance(between, scales, mask, target, k=k)
        return scores, leave_out_standardised(within, mask, target, GROUP, k=k, few=few)

    found, out = in_float64(both, holed, np.where(MASK, between, np.nan), MASK, TARGET)
    part = within[np.ix_(MASK, MASK)]
    expected = scores_by_hand(between[:, MASK], part, TARGET[MASK], k, few)
    np.testing.assert_allclose(found, expected, rtol=TOLERANCE)
    assert np.isnan(out[~MASK]).all()
    for label in np.unique(GROUP[MASK]):
        stays, gone = MASK & (label != GROUP), MASK & (label == GROUP)
        expected = scores_by_hand(
            within[np.ix_(gone, stays)], within[np.ix_(stays, stays)], TARGET[stays], k, few
        )
        np.testing.assert_allclose(out[gone], expected, rtol=TOLERANCE, err_msg=str(label))


ROWS = np.array([0.0, 1.0, 4.0, 90.0, 92.0, 99.0])[:, None]
WITHIN = cdist(ROWS, ROWS).astype(np.float32)
QUERY = cdist([[7.0]], ROWS).astype(np.float32)


@jax.jit
def scaled(mask, target):
    scales = domain_scales(WITHIN, mask, target, few=2)
    return scales, standardised_distance(QUERY, scales, mask, target)


def test_domains_of_few_rows():
    everything, target = np.ones(6, bool), np.arange(6) > 2
    source = (5 / 3, np.std([1, 1, 3]))
    cases = {
        "both": (everything, target, (*source, 11 / 3, np.std([2, 2, 7])), (3 - 5 / 3) / source[1]),
        "one target row": (np.arange(6) < 4, target, source * 2, (3 - 5 / 3) / source[1]),
        "no target row": (np.arange(6) < 3, target, source * 2, (3 - 5 / 3) / source[1]),
        "two equally far": (np.arange(6) != 5, target, (*source, 2, 1), (3 - 5 / 3) / source[1]),
        "no source row": (np.arange(6) > 2, target, (0, 1, 11 / 3, np.std([2, 2, 7])), None),
        "one row": (np.arange(6) == 2, target, (0, 1, 0, 1), 3),
        "none": (np.zeros(6, bool), target, (0, 1, 0, 1), np.inf),
    }
    for name, (mask, target, wanted, score) in cases.items():
        scales, found = scaled(mask, target)
        both = np.stack([scales.mean, scales.deviation], axis=1).ravel()
        np.testing.assert_allclose(both, wanted, rtol=1e-6, err_msg=name)
        if score is None:
            score = (83 - 11 / 3) / np.std([2, 2, 7])
        np.testing.assert_allclose(found, score, rtol=1e-5, err_msg=name)


def test_the_smallest_z_of_back_ends():
    """Of two banks at once; what is not finite or does not count has no part in it."""
    own = np.array([[1.0, 3.0, np.nan, np.inf], [10.0, 30.0, 50.0, 8.0], [5.0, 5.0, 5.0, 5.0]])
    scores = np.array([[4.0, 1.0], [50.0, 60.0], [9.0, 9.0]])
    mask = np.array([True, True, True, False])
    z = [(scores[0] - 2) / 1, (scores[1] - 30) / np.std([10, 30, 50]), scores[2] - 5]
    found = jax.jit(minimum_of_z)(
        np.stack([scores, scores]), np.stack([own, own * [[1], [np.nan], [1]]]), mask
    )
    np.testing.assert_allclose(found[0], np.min(z, axis=0), rtol=1e-6)
    np.testing.assert_allclose(found[1], np.minimum(z[0], z[2]), rtol=1e-6)


def test_the_smallest_z_without_a_group():
    """Refits of two back ends: the nearest row, and the ratio."""
    within, _ = within_and_between()

    def of(within, mask):
        pairs = [leave_out_pairs(within, mask, None, GROUP, alpha=alpha) for alpha in (0.0, 1.0)]
        return jax.numpy.stack(pairs), leave_out_minimum_of_z(jax.numpy.stack(pairs), mask, GROUP)

    pairs, found = in_float64(of, within, MASK)
    for row in range(N):
        if not MASK[row]:
            assert np.isnan(found[row])
            continue
        stays = np.flatnonzero(MASK & (GROUP[row] != GROUP))
        z = []
        for power in (0, 1):

            def score(query, bank, power=power):
                part = within[np.ix_(bank, bank)] + np.diag(np.full(len(bank), np.inf))
                return np.min(within[query, bank] / part.min(axis=1) ** power)

            own = np.full(N, np.nan)
            for other in np.flatnonzero(MASK):
                own[other] = score(other, stays[stays != other])
            np.testing.assert_allclose(pairs[power, row], own, rtol=TOLERANCE)
            own = own[stays]
            z.append((score(row, stays) - np.mean(own)) / np.std(own))
        np.testing.assert_allclose(found[row], min(z), rtol=TOLERANCE)


def test_bad_arguments():
    square = np.zeros((3, 3), np.float32)
    with pytest.raises(UserError, match=r"have the shape \(..., n, n\), not \(3, 4\)"):
        domain_scales(np.zeros((3, 4)))
    with pytest.raises(UserError, match="at least 1, not 0"):
        leave_out_standardised(square, k=0)
    with pytest.raises(UserError, match="few, the target rows of a known deviation, must be 1 or"):
        domain_scales(square, few=0)
    with pytest.raises(UserError, match="at least 1, not 0"):
        standardised_distance(square, Scales(np.zeros(2), np.ones(2)), k=0)
    with pytest.raises(UserError, match="have the shape"):
        leave_out_minimum_of_z(np.zeros((2, 3, 4)))
