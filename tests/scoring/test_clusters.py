"""Clusters against what was planted."""

import numpy as np
from sklearn.metrics import adjusted_rand_score

from asd_jax.scoring.clusters import cluster_states


def draw(counts, gap, seed=0, d=24):
    """Clips of some states, whose spectra differ by a gap, in random order, and their states."""
    rng = np.random.default_rng(seed)
    state = rng.permutation(np.repeat(np.arange(len(counts)), counts))
    return -60 + rng.normal(size=(len(state), d)) + gap * rng.normal(size=(len(counts), d))[
        state
    ], state


def test_states_that_differ_are_told_apart_and_numbered_by_size():
    values, state = draw((20, 50, 30), gap=4)
    found = cluster_states(values)
    assert adjusted_rand_score(state, found) == 1
    assert np.bincount(found).tolist() == [50, 30, 20]


def test_one_state_is_not_cut_up():
    """Nor are a common variation of all bands, three clips of another state, and few clips."""
    assert not cluster_states(draw((80,), gap=0)[0]).any()
    together = np.random.default_rng(1).normal(0, 30, (80, 1))
    assert not cluster_states(draw((80,), gap=0)[0] + together).any()
    assert not cluster_states(draw((60, 3), gap=4)[0]).any()
    assert not cluster_states(draw((5, 4), gap=9)[0]).any()


def test_the_order_of_clips_is_of_no_account():
    """Of four states of one size, whose numbers nothing else tells."""
    values, _ = draw((9, 9, 9, 9), gap=4)
    found, order = cluster_states(values), np.random.default_rng(5).permutation(36)
    assert found.max() == 3
    np.testing.assert_array_equal(cluster_states(values[order]), found[order])


def test_odd_clips_do_not_make_a_state():
    values, state = draw((50, 30), gap=4)
    values[[3, 9, 20, 33, 60, 70]] = -156
    usual = (values > -100).any(axis=1)
    found = cluster_states(values)
    assert adjusted_rand_score(state[usual], found[usual]) == 1 and found.max() == 1
