"""Gaussians of several states against scikit-learn, and clips that are left out against refits."""

import jax
import numpy as np
import pytest
from sklearn.covariance import EmpiricalCovariance, LedoitWolf
from sklearn.preprocessing import StandardScaler

from asd_jax.errors import UserError
from asd_jax.scoring.states import distance, fit_states, leave_out

pytestmark = pytest.mark.usefixtures("one_thread")

# Both in float64, with condition numbers up to 1e3.
TOLERANCE = 1e-8


def draw(n, d=6, seed=0, level=-90.0):
    """Correlated columns of unlike variances, at the level of log-mels in dB."""
    rng = np.random.default_rng(seed)
    mixing = np.random.default_rng(100).normal(size=(d, d)) / np.sqrt(d) + np.eye(d)
    return level + rng.normal(size=(n, d)) @ mixing * np.logspace(-1, 1, d)


def distances(states, values):
    with jax.enable_x64(True):
        return np.asarray(jax.jit(distance)(states, values))


def nearest_by_hand(values, state, new, *, standardise, towards_first=0.0):
    """scikit-learn's covariance of the rows minus their states' means, for each state's mean."""
    means = [values[state == s].mean(axis=0) for s in np.unique(state)]
    counts = [np.sum(state == s) for s in np.unique(state)]
    within = values - np.array(means)[np.searchsorted(np.unique(state), state)]
    scale = StandardScaler(with_mean=False).fit(within).scale_ if standardise else 1
    covariance = LedoitWolf(assume_centered=True).fit(within / scale).covariance_
    moved = [means[0]]
    for mean, n in zip(means[1:], counts[1:], strict=True):
        moved.append((n * mean + towards_first * means[0]) / (n + towards_first))
    of_states = []
    for mean, n in zip(moved, counts, strict=True):
        delta = (new - mean) / scale
        squared = np.einsum("ni,ij,nj->n", delta, np.linalg.inv(covariance), delta)
        of_states.append(squared * n / (n + 1))
    return np.min(of_states, axis=0)


@pytest.mark.parametrize(
    ("n", "shrinkage", "estimator"),
    [(40, 0.0, EmpiricalCovariance), (40, None, LedoitWolf), (5, None, LedoitWolf)],
)
def test_one_state_equals_sklearn(n, shrinkage, estimator):
    values, new = draw(n), draw(20, seed=1)
    found = distances(fit_states(values, shrinkage=shrinkage), new)
    expected = estimator().fit(values).mahalanobis(new) * n / (n + 1)
    # The least share of the identity, 1e-12 of the mean variance, is 1e-7 of the smallest.
    np.testing.assert_allclose(found, expected, rtol=1e-6 if shrinkage == 0 else TOLERANCE)
    # Of clips in float32, too: their own rounding, at a level of 90 times the deviation.
    rounded = values.astype(np.float32)
    expected = estimator().fit(rounded.astype(np.float64)).mahalanobis(new) * n / (n + 1)
    found = distances(fit_states(rounded, shrinkage=shrinkage), new)
    np.testing.assert_allclose(found, expected, rtol=1e-5)


@pytest.mark.parametrize("standardise", [False, True])
@pytest.mark.parametrize("towards_first", [0.0, 5.0])
def test_several_states_share_a_covariance(standardise, towards_first):
    values, state = draw(60), np.repeat([0, 1, 2], [40, 15, 5])
    values[state == 1] += 30
    settings = {"standardise": standardise, "towards_first": towards_first}
    states = fit_states(values, None, state, **settings)
    assert states.n_clips.tolist() == [40, 15, 5]
    new = np.concatenate([draw(10, seed=1), draw(10, seed=2) + 30])
    expected = nearest_by_hand(values, state, new, **settings)
    np.testing.assert_allclose(distances(states, new), expected, rtol=TOLERANCE)


def refitted(values, state, group, **settings):
    """Each row's distance from what is fitted to the rows of other groups."""
    groups = np.unique(group)
    masks = group != groups[:, None]
    together = np.broadcast_to(values, (len(groups), *values.shape))
    states = fit_states(together, masks, np.broadcast_to(state, masks.shape), **settings)
    of_groups = distances(states, together)
    return of_groups[np.searchsorted(groups, group), np.arange(len(values))]


@pytest.mark.parametrize(
    ("groups", "standardise"),
    [
        ("clips", True),
        ("sessions", False),
        ("a session is a state", True),
        pytest.param("clips", False, marks=pytest.mark.slow),
        pytest.param("sessions", True, marks=pytest.mark.slow),
        pytest.param("unequal", True, marks=pytest.mark.slow),
    ],
)
def test_clips_left_out_are_as_refitted(groups, standardise):
    rng = np.random.default_rng(3)
    values, state = draw(50), rng.integers(0, 2, 50)
    values[state == 1] += [0, 0, 0, 3, 0, 0]
    values[4] += 40  # an outlying one
    group = {
        "clips": np.arange(50),
        "sessions": rng.integers(0, 7, 50),
        "a session is a state": np.where(state == 1, 99, np.arange(50) % 5),
        "unequal": np.minimum(np.arange(50), 20),
    }[groups]
    settings = {"standardise": standardise, "towards_first": 3.0}
    found = leave_out(values, None, state, group, **settings)
    expected = refitted(values, state, group, **settings)
    np.testing.assert_allclose(found, expected, rtol=TOLERANCE)


def test_models_of_unequal_numbers_of_rows_are_as_alone():
    values = np.stack([draw(30), draw(30, seed=1)])
    mask = np.stack([np.ones(30, bool), np.arange(30) < 12])
    values[~mask] = np.nan
    state = np.stack([np.arange(30) % 2, np.zeros(30, int)])
    group = np.arange(30) // 4
    together = fit_states(values, mask, state, standardise=True)
    left_out = leave_out(values, mask, state, group, standardise=True)
    assert np.isnan(left_out[~mask]).all()
    for m, n in enumerate((30, 12)):
        alone = fit_states(values[m, :n], None, state[m, :n], standardise=True)
        new = draw(5, seed=9)
        one = jax.tree.map(lambda leaf, m=m: leaf[m], together)
        np.testing.assert_allclose(distances(one, new), distances(alone, new), rtol=TOLERANCE)
        expected = leave_out(values[m, :n], None, state[m, :n], group[:n], standardise=True)
        np.testing.assert_allclose(left_out[m, :n], expected, rtol=TOLERANCE)
    # One state of the second model, so that the other of the first has none there.
    assert together.n_clips.tolist() == [[15, 15], [12, 0]]


def test_left_out_distances_are_those_of_new_clips():
    """The median of ten models' 100 clips in 20 dimensions, to 5 %; within them it is too low."""
    values, new = np.stack([draw(100, d=20, seed=seed) for seed in range(10)]), draw(4000, 20, 99)
    states = fit_states(values)
    of_new = np.median(distances(states, new))
    assert np.median(leave_out(values)) == pytest.approx(of_new, rel=0.05)
    assert np.median(distances(states, values)) < 0.92 * of_new


def test_constant_columns_and_equal_rows():
    """Models of one, two equal, two and three clips, and of one with a column that is constant."""
    values = np.stack([draw(30)] * 5)
    values[1, 1] = values[1, 0]
    values[4, :, 2] = -156
    mask = np.arange(30) < np.array([1, 2, 2, 3, 30])[:, None]
    states = fit_states(values, mask, standardise=True)
    assert states.valid.tolist() == [False, False, True, True, True]
    found = distances(states, values)
    assert np.isinf(found[:2]).all() and np.isfinite(found[2:]).all()
    left_out = leave_out(values, mask, standardise=True)
    assert np.isinf(left_out[:3][mask[:3]]).all()  # one clip is left, or two equal ones
    assert np.isfinite(left_out[3:][mask[3:]]).all()


def test_a_twin_stays_when_a_clip_is_left_out():
    values = draw(30)
    values[20] = values[4]
    pairs = np.where(np.arange(30) == 20, 4, np.arange(30))
    alone, together = leave_out(values)[4], leave_out(values, group=pairs)[4]
    assert alone < together


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"shrinkage": 1.5}, "the shrinkage must be from 0 to 1"),
        ({"towards_first": -1.0}, "towards_first is -1.0"),
        ({"state": [-1] * 9}, "states are numbered from 0"),
    ],
)
def test_settings_that_make_no_sense(settings, message):
    for function in (fit_states, leave_out):
        with pytest.raises(UserError, match=message):
            function(draw(9), **settings)
