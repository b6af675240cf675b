"""Gaussians of several states against scikit-learn, and clips that are left out against refits."""

import jax
import numpy as np
import pytest
from sklearn.covariance import EmpiricalCovariance, LedoitWolf
from sklearn.preprocessing import StandardScaler

from asd_jax.errors import UserError
from asd_jax.scoring import rows
from asd_jax.scoring.state_sums import Other
from asd_jax.scoring.states import StateSettings, distance, fit_states, leave_out

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


def nearest_by_hand(values, state, new, *, standardise, towards_first=False):
    """scikit-learn's covariance of the rows minus their states' means, for each state's mean."""
    means = [values[state == s].mean(axis=0) for s in np.unique(state)]
    counts = [np.sum(state == s) for s in np.unique(state)]
    within = values - np.array(means)[np.searchsorted(np.unique(state), state)]
    scale = StandardScaler(with_mean=False).fit(within).scale_ if standardise else 1
    covariance = LedoitWolf(assume_centered=True).fit(within / scale).covariance_
    moved = [means[0]]
    for mean, n in zip(means[1:], counts[1:], strict=True):
        kept = 1.0
        if towards_first:
            gap = (mean - means[0]) / scale
            apart = gap @ np.linalg.inv(covariance) @ gap / (1 / n + 1 / counts[0])
            expected = fit_states(values, None, state, settings=StateSettings(standardise)).expected
            kept = np.clip(1 - (expected - 2) / apart, 0, 1)
        moved.append(means[0] + kept * (mean - means[0]))
    of_states = []
    for mean, n in zip(moved, counts, strict=True):
        delta = (new - mean) / scale
        squared = np.einsum("ni,ij,nj->n", delta, np.linalg.inv(covariance), delta)
        of_states.append(squared * n / (n + 1))
    most = max(counts)
    return np.min(of_states, axis=0) * (most + 1) / most


@pytest.mark.parametrize(
    ("n", "shrinkage", "estimator"),
    [(40, 0.0, EmpiricalCovariance), (40, None, LedoitWolf), (5, None, LedoitWolf)],
)
def test_one_state_equals_sklearn(n, shrinkage, estimator):
    values, new = draw(n), draw(20, seed=1)
    settings = StateSettings(shrinkage=shrinkage)
    found = distances(fit_states(values, settings=settings), new)
    expected = estimator().fit(values).mahalanobis(new)
    # The least share of the identity, 1e-12 of the mean variance, is 1e-7 of the smallest.
    np.testing.assert_allclose(found, expected, rtol=1e-6 if shrinkage == 0 else TOLERANCE)
    # Of clips in float32, too: their own rounding, at a level of 90 times the deviation.
    rounded = values.astype(np.float32)
    expected = estimator().fit(rounded.astype(np.float64)).mahalanobis(new)
    found = distances(fit_states(rounded, settings=settings), new)
    np.testing.assert_allclose(found, expected, rtol=1e-5)


@pytest.mark.parametrize("standardise", [False, True])
@pytest.mark.parametrize("towards_first", [False, True])
def test_several_states_share_a_covariance(standardise, towards_first):
    values, state = draw(60), np.repeat([0, 1, 2], [40, 15, 5])
    values[state == 1] += 30
    settings = {"standardise": standardise, "towards_first": towards_first}
    states = fit_states(values, None, state, settings=StateSettings(**settings))
    assert states.n_clips.tolist() == [40, 15, 5]
    new = np.concatenate([draw(10, seed=1), draw(10, seed=2) + 30])
    expected = nearest_by_hand(values, state, new, **settings)
    np.testing.assert_allclose(distances(states, new), expected, rtol=TOLERANCE)


def test_a_centre_of_few_clips_moves_by_what_chance_explains():
    """To that of the first state from nearby, hardly at all from far."""
    values, state = draw(60, d=20), np.arange(60) >= 52
    settings = StateSettings(standardise=True, towards_first=True)
    for gap, low, high in ((0.0, 0.0, 0.4), (60.0, 0.97, 1.0)):
        moved = values + gap * state[:, None]
        first, second = (moved[state == s].mean(axis=0) for s in (0, 1))
        centres = fit_states(moved, None, state, settings=settings).mean
        np.testing.assert_allclose(centres[0], first, rtol=1e-12)
        kept = (centres[1] - first) @ (second - first) / np.sum((second - first) ** 2)
        assert low <= kept <= high


def refitted(values, state, group, settings, fitted=True, other=None):
    """Each row's distance from what is fitted to the rows of other groups, and the expected one."""
    groups = np.unique(group)
    masks = (group != groups[:, None]) & fitted
    together = np.broadcast_to(values, (len(groups), *values.shape))
    of_rows = (np.broadcast_to(column, masks.shape) for column in (state, group))
    states = fit_states(together, masks, *of_rows, settings=settings, other=other)
    own = np.searchsorted(groups, group)
    return distances(states, together)[own, np.arange(len(values))], states.expected[own]


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
    values, state = draw(50), np.arange(50) % 7 == 3
    values[state] += [0, 0, 0, 3, 0, 0]
    values[4] += 40  # an outlying one
    group = {
        "clips": np.arange(50),
        "sessions": rng.permutation(np.arange(50) % 8),
        "a session is a state": np.where(state, 99, np.arange(50) % 8),
        "unequal": np.minimum(np.arange(50), 20),
    }[groups]
    settings = StateSettings(standardise, 0.1, towards_first=True, level=2.0 * standardise)
    found = leave_out(values, None, state, group, settings=settings)
    squared, expected = refitted(values, state, group, settings)
    np.testing.assert_allclose(found.squared, squared, rtol=TOLERANCE)
    np.testing.assert_allclose(found.expected, expected, rtol=TOLERANCE)


def noise_alone(n=40, d=6):
    """Covariance (d, d) of other rows, which vary together in their own way."""
    return np.cov(draw(n, d, seed=8) @ np.random.default_rng(9).normal(size=(d, d)) / 4, rowvar=0)


@pytest.mark.parametrize("standardise", [False, True])
@pytest.mark.parametrize(
    ("target", "own", "added"), [(0.5, 1, 0), (1, 1, 0), (0, 1, -1), (0, 0, 1), (0.3, 1, -0.2)]
)
def test_another_covariance_has_its_part(target, own, added, standardise):
    values, new = draw(30), draw(20, seed=1)
    settings = StateSettings(standardise=standardise)
    other = Other(noise_alone(), target, own, added)
    states = fit_states(values, settings=settings, other=other)
    scale = StandardScaler(with_mean=False).fit(values).scale_ if standardise else np.ones(6)
    sample = np.cov(values / scale, rowvar=0, bias=True)
    theirs = other.covariance / np.outer(scale, scale)
    size, spread = np.trace(theirs) / 6, np.trace(sample) / 6
    root, vectors = np.linalg.eigh(own * sample + added * theirs)
    kept = (vectors * np.maximum(root, 0)) @ vectors.T
    towards = target * theirs / size + (1 - target) * np.eye(6)
    shrinkage = LedoitWolf().fit(values / scale).shrinkage_
    covariance = (1 - shrinkage) * kept + shrinkage * spread * towards
    delta = (new - values.mean(axis=0)) / scale
    expected = np.einsum("ni,ij,nj->n", delta, np.linalg.inv(covariance), delta)
    np.testing.assert_allclose(distances(states, new), expected, rtol=TOLERANCE)


@pytest.mark.parametrize(("target", "own", "added"), [(0.5, 1, 0), (0, 1, -1), (0, 0, 1)])
def test_with_another_covariance_clips_left_out_are_as_refitted(target, own, added):
    values, state, group = draw(50), np.arange(50) % 7 == 3, np.arange(50) // 4
    other = Other(noise_alone(), target, own, added)
    settings = StateSettings(standardise=True, towards_first=True)
    found = leave_out(values, None, state, group, settings=settings, other=other)
    squared, expected = refitted(values, state, group, settings, other=other)
    np.testing.assert_allclose(found.squared, squared, rtol=TOLERANCE)
    np.testing.assert_allclose(found.expected, expected, rtol=TOLERANCE)


def test_what_is_expected_holds_with_another_covariance():
    """To 15 % of the mean of clips left out, as without it to 10 %."""
    values = draw(40, d=20)
    other = Other(noise_alone(200, 20), 0.5, 1.0, 0.0)
    left_out = leave_out(values, other=other)
    assert np.mean(left_out.squared) == pytest.approx(
        fit_states(values, other=other).expected, rel=0.15
    )


def test_another_covariance_of_nothing_changes_nothing():
    values, new = np.stack([draw(30), draw(30, seed=4)]), draw(20, seed=1)
    other = Other(np.zeros((2, 6, 6)), [0.5, 0.0], 1.0, 0.0)
    found = distances(fit_states(values, other=other), new)
    np.testing.assert_allclose(found, distances(fit_states(values), new), rtol=TOLERANCE)


def test_rows_that_are_not_fitted_to_have_distances():
    values, fitted = draw(50), np.arange(50) % 9 != 4
    group, state = np.arange(50) // 5, np.zeros(50, int)
    values[~fitted] += 30
    found = leave_out(values, None, state, group, fitted=fitted)
    squared, expected = refitted(values, state, group, StateSettings(), fitted)
    np.testing.assert_allclose(found.squared, squared, rtol=TOLERANCE)
    np.testing.assert_allclose(found.expected, expected, rtol=TOLERANCE)


def test_the_expected_distance_is_that_of_clips_left_out():
    """Of 60 clips in 20 dimensions, and of ten sessions of six, to 10 and 35 %.

    All clips are given the same leverage, which they have not. Distances from a model that has
    seen the clips are further away than that.
    """
    session = np.arange(60) // 6
    moved = draw(60, d=20) + 3 * draw(10, d=20, seed=5, level=0.0)[session]
    for values, group, tolerance in ((draw(60, d=20), None, 0.1), (moved, session, 0.35)):
        left_out = leave_out(values, group=group)
        states = fit_states(values, group=group)
        assert np.mean(left_out.squared) == pytest.approx(states.expected, rel=tolerance)
        assert np.mean(distances(states, values)) < (1 - 1.5 * tolerance) * states.expected


def test_a_level_common_to_all_columns_is_forgiven():
    """With 3 dB of it, 6 dB more are 2² at the most: the score is that of before, and 4 more."""
    values, new = draw(60, d=20), draw(10, d=20, seed=1)
    plain, forgiving = (fit_states(values, settings=StateSettings(level=own)) for own in (0, 3.0))
    assert (distances(plain, new + 6) > distances(plain, new) + 30).all()
    change = distances(forgiving, new + 6) - distances(forgiving, new)
    assert np.abs(change).max() < 4 * (1 + 2)  # (z + 2)² − z² for a z of up to 2


def test_what_is_expected_does_not_jump_where_all_is_shrunk_away():
    """With a level beside the identity; to 1e-4 of a shrinkage of nearly 1."""
    values = draw(40)
    expected = [
        fit_states(values, settings=StateSettings(shrinkage=own, level=3.0)).expected
        for own in (1 - 1e-5, 1.0)
    ]
    assert expected[1] == pytest.approx(expected[0], rel=1e-4)


def test_two_and_three_clips_are_no_covariance():
    """Of their one or two directions; a multiple of the identity takes its place."""
    values = draw(3)
    left = leave_out(values)
    assert np.isfinite(left.squared).all() and np.isfinite(left.expected).all()
    for n in (2, 3):
        states = fit_states(values[:n])
        variance = np.mean(values[:n].var(axis=0))
        inverse = states.whitening @ states.whitening.T
        np.testing.assert_allclose(inverse, np.eye(6) / variance, atol=1e-9)


def test_columns_below_the_resolution_are_not_magnified():
    values = draw(40)
    values[:, 2] = -156 + 1e-5 * np.random.default_rng(0).normal(size=40)
    new = draw(5, seed=1)
    new[:, 2] = -156 + 1e-2
    settings = StateSettings(standardise=True, resolution=0.1)
    states = fit_states(values, settings=settings)
    same = np.where(np.arange(values.shape[1]) == 2, -156, new)
    np.testing.assert_allclose(distances(states, new), distances(states, same), atol=0.2)
    magnified = fit_states(values, settings=StateSettings(standardise=True))
    assert (distances(magnified, new) > 1e5).all()


def test_models_of_unequal_numbers_of_rows_are_as_alone():
    values = np.stack([draw(30), draw(30, seed=1)])
    mask = np.stack([np.ones(30, bool), np.arange(30) < 12])
    values[~mask] = np.nan
    state = np.stack([np.arange(30) % 2, np.zeros(30, int)])
    group = np.arange(30) // 5
    settings = StateSettings(standardise=True)
    together = fit_states(values, mask, state, group, settings=settings)
    left_out = leave_out(values, mask, state, group, settings=settings).squared
    assert np.isnan(left_out[~mask]).all()
    for m, n in enumerate((30, 12)):
        alone = fit_states(values[m, :n], None, state[m, :n], group[:n], settings=settings)
        new = draw(5, seed=9)
        one = jax.tree.map(lambda leaf, m=m: leaf[m], together)
        np.testing.assert_allclose(distances(one, new), distances(alone, new), rtol=TOLERANCE)
        assert together.expected[m] == pytest.approx(alone.expected, rel=TOLERANCE)
        expected = leave_out(values[m, :n], None, state[m, :n], group[:n], settings=settings)
        np.testing.assert_allclose(left_out[m, :n], expected.squared, rtol=TOLERANCE)
    # One state of the second model, so that the other of the first has none there.
    assert together.n_clips.tolist() == [[15, 15], [12, 0]]


def test_left_out_distances_are_those_of_new_clips():
    """The median of ten models' 60 clips in 20 dimensions, to 7 %; within them it is too low."""
    values, new = np.stack([draw(60, d=20, seed=seed) for seed in range(10)]), draw(4000, 20, 99)
    states = fit_states(values)
    of_new = np.median(distances(states, new))
    assert np.median(leave_out(values).squared) == pytest.approx(of_new, rel=0.07)
    assert np.median(distances(states, values)) < 0.85 * of_new


def test_constant_columns_and_equal_rows():
    """Models of one, two equal, two and three clips, and of one with a column that is constant."""
    values = np.stack([draw(30)] * 5)
    values[1, 1] = values[1, 0]
    values[4, :, 2] = -156
    mask = np.arange(30) < np.array([1, 2, 2, 3, 30])[:, None]
    states = fit_states(values, mask, settings=StateSettings(standardise=True))
    assert states.valid.tolist() == [False, False, True, True, True]
    found = distances(states, values)
    assert np.isinf(found[:2]).all() and np.isfinite(found[2:]).all()
    left_out = leave_out(values, mask, settings=StateSettings(standardise=True)).squared
    assert np.isinf(left_out[:3][mask[:3]]).all()  # one clip is left, or two equal ones
    assert np.isfinite(left_out[3:][mask[3:]]).all()


def test_a_twin_stays_when_a_clip_is_left_out():
    """A clip's equal is left out with it only if it is of its group."""
    values, groups = draw(30), np.arange(30) // 6
    values[20] = values[4]
    together = np.where(np.arange(30) == 20, groups[4], groups)
    apart, left = (leave_out(values, group=own).squared[4] for own in (groups, together))
    assert apart < left


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"settings": StateSettings(shrinkage=1.5)}, "the shrinkage must be from 0 to 1"),
        ({"settings": StateSettings(level=-1.0)}, "level is -1.0"),
        ({"state": [-1] * 9}, "states are numbered from 0"),
    ],
)
def test_settings_that_make_no_sense(settings, message):
    for function in (fit_states, leave_out):
        with pytest.raises(UserError, match=message):
            function(draw(9), **settings)


@pytest.mark.slow  # how accelerators compute, in programs of their own
def test_models_together_are_as_one_after_another(monkeypatch):
    values, group = np.stack([draw(50), draw(50, seed=1)]), np.arange(50) // 7
    settings = StateSettings(standardise=True, towards_first=True)
    state = np.arange(50) >= 40
    states, left = [], []
    for in_turn in (True, False):
        monkeypatch.setattr(rows, "in_turn", lambda in_turn=in_turn: in_turn)
        states.append(fit_states(values, None, state, group, settings=settings))
        left.append(leave_out(values, None, state, group, settings=settings))
    for one, other in ((states), (left)):
        for name in one._fields:
            found, expected = getattr(one, name), getattr(other, name)
            np.testing.assert_allclose(found, expected, rtol=TOLERANCE, atol=1e-12, err_msg=name)
