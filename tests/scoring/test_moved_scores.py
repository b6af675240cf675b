"""What states move in scores, against least squares of scikit-learn on the other clips."""

import json

import numpy as np
import pytest
from sklearn.linear_model import LinearRegression

from asd_jax.scoring.moved_scores import MovedScores, fit_moved_scores
from asd_jax.scoring.state_space import StateSpace

STATES = ["speed=1", "speed=2", "speed=1", "speed=4"] * 15
LEVEL = {"speed=1": 0.0, "speed=2": 1.0, "speed=4": 3.0}
SPACE = StateSpace.of(STATES)[0]
N = len(STATES)


def drawn(seed=0, spread=0.1):
    """Logarithms of scores, by the state of each."""
    rng = np.random.default_rng(seed)
    return np.array([LEVEL[state] for state in STATES]) + rng.normal(0, spread, N)


@pytest.mark.parametrize("logarithm", [True, False])
def test_scores_are_those_that_a_regression_on_the_others_leaves(logarithm):
    """To 1e-4, as the penalty counts as a millionth of a clip."""
    values = drawn() if logarithm else drawn() - 1.5
    scores = np.exp(values) if logarithm else values
    moved, rests = fit_moved_scores(scores, STATES, np.arange(N) // 2, SPACE)
    assert moved.logarithm == logarithm
    rows = np.array([[state == each for each in LEVEL] for state in STATES], float)
    for group in range(3):
        mine = np.arange(N) // 2 == group
        plain = LinearRegression(fit_intercept=False).fit(rows[~mine], values[~mine])
        widened = 1 + 1 / (rows[~mine].T @ rows[~mine]).sum(axis=0)
        left = (values[mine] - plain.predict(rows[mine])) / np.sqrt(rows[mine] @ widened)
        expected = left + values.mean()
        np.testing.assert_allclose(
            np.log(rests[mine]) if logarithm else rests[mine], expected, atol=1e-4
        )


def test_a_new_score_is_larger_where_it_was_larger_within_its_state():
    moved, _ = fit_moved_scores(np.exp(drawn()), STATES, np.arange(N), SPACE)
    scores = np.exp(np.linspace(-1, 5, 20))
    for state in LEVEL:
        assert (np.diff([moved.less(score, state) for score in scores]) > 0).all()
    usual = [moved.less(np.exp(level), state) for state, level in LEVEL.items()]
    np.testing.assert_allclose(usual, np.exp(drawn().mean()), rtol=0.1)  # three spreads of a mean
    # Without a state, the one in which it is the least unusual; what cannot be moved stays.
    assert moved.less(9.0, "") == min(moved.less(9.0, state) for state in LEVEL)
    assert moved.less(0.0, "speed=1") == 0 and np.isnan(moved.less(np.nan, "speed=1"))


def test_clips_that_a_network_has_not_seen_say_what_is_moved_if_there_are_enough():
    """Scores of clips that it has learned from are small; by how much says nothing of states."""
    values = drawn(spread=0.01)
    unseen = np.arange(N) >= N // 2
    # Those that were learned from are more so in one state.
    scores = np.exp(values - ~unseen * np.array([state == "speed=4" for state in STATES]))
    moved, rests = fit_moved_scores(scores, STATES, np.arange(N), SPACE, unseen)
    assert np.ptp(np.log(rests[unseen])) < 0.06
    few = np.arange(N) >= N - 5
    every, _ = fit_moved_scores(scores, STATES, np.arange(N), SPACE, few)
    plain, _ = fit_moved_scores(scores, STATES, np.arange(N), SPACE)
    assert every.less(2.0, "speed=4") == plain.less(2.0, "speed=4") != moved.less(2.0, "speed=4")


def test_an_operating_point_is_a_line_with_bends():
    speeds = np.linspace(1, 3, 60)
    states = [f"speed={speed}" for speed in speeds]
    noise = np.random.default_rng(1).normal(0, 0.02, 60)
    moved, rests = fit_moved_scores(
        np.exp(2 * speeds + noise), states, np.arange(60), StateSpace.of(states)[0]
    )
    assert np.log(rests).std() < 0.03
    assert abs(np.log(moved.less(np.exp(2 * 1.51), "speed=1.51")) - np.log(rests).mean()) < 0.03


def test_what_is_stored_is_read_to_the_bit():
    moved, _ = fit_moved_scores(np.exp(drawn()), STATES, np.arange(N), SPACE)
    again = MovedScores.of_file(json.loads(json.dumps(moved.to_file())))
    for state in (*LEVEL, ""):
        assert again.less(2.0, state) == moved.less(2.0, state)


def test_without_a_known_state_there_is_nothing_to_fit():
    with pytest.raises(ValueError, match="no clip is in one"):
        fit_moved_scores(np.ones(3), ["speed=9"] * 3, np.arange(3), SPACE)
