"""Borrowed covariances against their formula, and clips that are left out against refits."""

import numpy as np
import pytest

from asd_jax.scoring.siblings import siblings_of
from asd_jax.scoring.state_sums import Siblings, StateSettings
from asd_jax.scoring.states import fit_states, leave_out

D = 4
MIXING = np.random.default_rng(1).normal(size=(D, D)) + 2 * np.eye(D)
SETTINGS = StateSettings(standardise=True, towards_first=True)


def draw(n, seed=0):
    return np.random.default_rng(seed).normal(size=(n, D)) @ MIXING


def covariance(states):
    inverse = np.linalg.inv(states.whitening)
    return inverse.T @ inverse


@pytest.mark.parametrize("n", [2, 10, 50])
def test_the_covariance_is_the_weighted_mean_of_both(n):
    """By hand: (f C + ν S) / (f + ν) with f = n − 1; to 1e-9."""
    theirs, weight, values = MIXING.T @ MIXING, 7.0, draw(n)
    settings = StateSettings()
    found = covariance(fit_states(values, settings=settings, other=Siblings(theirs, weight)))
    own = covariance(fit_states(values, settings=settings))
    free = n - 1
    np.testing.assert_allclose(found, (free * own + weight * theirs) / (free + weight), rtol=1e-9)


@pytest.mark.parametrize("weight", [0.0, 3.0, 100.0])
def test_clips_left_out_are_as_refitted(weight):
    """To 1e-6: each clip's distance from a fit to the others."""
    values, other = draw(8), Siblings(MIXING.T @ MIXING, weight)
    left = leave_out(values, settings=SETTINGS, other=other)
    for i in range(8):
        rest = fit_states(np.delete(values, i, axis=0), settings=SETTINGS, other=other)
        white = (values[i] - rest.mean[0]) @ rest.whitening
        assert left.squared[i] == pytest.approx(white @ white, rel=1e-6)
        assert left.expected[i] == pytest.approx(float(rest.expected), rel=1e-6)


def test_without_a_weight_it_is_the_plain_fit_bit_for_bit():
    values = draw(20)
    plain = fit_states(values, settings=SETTINGS)
    borrowed = fit_states(values, settings=SETTINGS, other=Siblings(np.eye(D), 0.0))
    for one, other in zip(plain, borrowed, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-12)


def test_with_many_clips_it_is_the_plain_fit():
    """4,000 clips: what is borrowed is less than a thousandth, of a covariance twice as wide."""
    values, other = draw(4000), Siblings(4 * MIXING.T @ MIXING, 1.0)
    plain, borrowed = (fit_states(values, settings=SETTINGS, other=o) for o in (None, other))
    np.testing.assert_allclose(covariance(borrowed), covariance(plain), rtol=2e-3, atol=1e-2)
    assert borrowed.expected == pytest.approx(float(plain.expected), rel=2e-3)


def test_one_clip_has_its_siblings_distances():
    theirs = MIXING.T @ MIXING
    states = fit_states(draw(1), settings=SETTINGS, other=Siblings(theirs, 5.0))
    assert states.valid and float(states.expected) == pytest.approx(2 * D)
    np.testing.assert_allclose(covariance(states), theirs, rtol=1e-9)


def table(values, counts):
    """Models' rows with their mask, state and group."""
    mask = np.arange(values.shape[1]) < np.array(counts)[:, None]
    group = np.broadcast_to(np.arange(values.shape[1]), mask.shape)
    return np.where(mask[..., None], values, 0), mask, np.zeros(mask.shape, int), group


def test_alike_machines_borrow_and_unlike_ones_do_not():
    values = np.stack([draw(80, seed) for seed in range(4)])
    rows = table(values, [80, 80, 80, 4])
    alike = siblings_of(*rows, np.zeros(4), SETTINGS)
    turned = np.linalg.qr(np.random.default_rng(9).normal(size=(D, D)))[0]
    unlike = values * np.array([[1e-2, 1e2, 1, 10]]) ** np.arange(4)[:, None, None] @ turned
    rare = siblings_of(*table(unlike, [80, 80, 80, 4]), np.zeros(4), SETTINGS)
    assert alike.weight[0] >= 100 > 10 >= rare.weight[0]
    assert (alike.weight == alike.weight[0]).all()
    np.testing.assert_allclose(alike.covariance[3], MIXING.T @ MIXING, rtol=0.6, atol=0.8)


def test_nothing_is_borrowed_of_a_machine_s_own_clips_or_of_strangers():
    values = np.stack([draw(30, seed) for seed in range(3)])
    kin = np.array([0, 0, 1])
    found = siblings_of(*table(values, [30] * 3), kin, SETTINGS)
    assert found.weight[2] == 0
    changed = values.copy()
    changed[[0, 2]] *= 5
    again = siblings_of(*table(changed, [30] * 3), kin, SETTINGS)
    np.testing.assert_array_equal(found.covariance[0], again.covariance[0])
    assert not np.allclose(found.covariance[1], again.covariance[1])
