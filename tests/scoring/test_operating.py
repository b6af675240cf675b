"""What states move, against least squares of scikit-learn and refits; and spaces of states."""

import numpy as np
import pytest
from sklearn.linear_model import LinearRegression

from asd_jax.data.states import OFF
from asd_jax.errors import UserError
from asd_jax.scoring.operating import design, fit_effects, rest_of
from asd_jax.scoring.state_space import MOST_NAMES, Place, StateSpace, places_array

N, D = 48, 5


def drawn(kind):
    """Values, and places, of clips of a state each."""
    rng = np.random.default_rng(0)
    if kind == "categories":
        places = places_array([Place(i % 3, ()) for i in range(N)])
        moved = 10 * places[:, :1]
    else:
        speeds = rng.uniform(1, 3, N)
        places = places_array([Place(0, (speed,)) for speed in speeds])
        moved = 10 * (speeds[:, None] - 2) ** 2
    return rng.normal(moved, 1, (N, D)), places


@pytest.mark.parametrize("kind", ["categories", "operating point"])
@pytest.mark.parametrize("groups", [np.arange(N), np.arange(N) // 4])
def test_rests_are_those_of_fits_without_the_group(kind, groups):
    """To 1e-3 of least squares, as the penalty counts as a hundredth of a clip at most."""
    values, places = drawn(kind)
    effects, rests = fit_effects(values, places, groups, 3)
    rows = design(places, effects.state_knots, 3)
    centre = values.mean(axis=0)
    for group in np.unique(groups)[:5]:
        mine = groups == group
        plain = LinearRegression(fit_intercept=False).fit(rows[~mine], values[~mine] - centre)
        left = values[mine] - centre - plain.predict(rows[mine])
        inverse = np.linalg.pinv(rows[~mine].T @ rows[~mine])
        widened = 1 + np.einsum("ij,jk,ik->i", rows[mine], inverse, rows[mine])
        expected = left / np.sqrt(widened)[:, None] + centre
        tolerance = 1e-4 if kind == "categories" else 0.1
        np.testing.assert_allclose(rests[mine], expected, atol=tolerance)


@pytest.mark.parametrize("kind", ["categories", "operating point"])
def test_a_new_clip_is_treated_as_one_that_was_left_out(kind):
    values, places = drawn(kind)
    rests = fit_effects(values, places, np.arange(N), 3)[1]
    others = fit_effects(values[1:], places[1:], np.arange(N - 1), 3)[0]
    tolerance = 1e-6 if kind == "categories" else 0.3  # knots move with the clip, and the mean
    moved = values.mean(axis=0) - values[1:].mean(axis=0)
    found = rest_of(values[0], places[0], others) + moved
    np.testing.assert_allclose(found, rests[0], atol=tolerance + np.abs(moved).max())


def test_between_two_speeds_is_interpolated():
    """A line, by hand: 20 dB more a unit of speed."""
    speeds = np.repeat([1.0, 1.2, 1.8, 2.0], 10)
    values = 20 * speeds[:, None] + np.random.default_rng(0).normal(0, 0.01, (40, 2))
    places = places_array([Place(0, (speed,)) for speed in speeds])
    effects, _ = fit_effects(values, places, np.arange(40), 1)
    new = rest_of(np.array([30.0, 40.0]), places_array([Place(0, (1.5,))])[0], effects)
    # Half of a tenth of a dB is the penalty's.
    np.testing.assert_allclose(new - values.mean(axis=0), [0, 10 / np.sqrt(1 + 1 / 20)], atol=0.4)


def test_numbers_are_categories_or_an_operating_point():
    steps, _ = StateSpace.of([f"speed={speed}" for speed in (990, 1000, 1010, 2000, 2010)])
    assert steps.categories == (("1000",), ("2005",)) and not steps.points
    assert steps.place("speed=1040") and steps.place("speed=1500") is None
    space, category = StateSpace.of([f"speed={speed}" for speed in range(100, 200, 2)])
    assert space.points == ("speed",) and (category == 0).all()
    assert space.place("speed=151") == Place(0, (151.0,)) and space.place("speed=250") is None
    holes = [*range(100, 130), *range(300, 330)]
    space, _ = StateSpace.of([f"load=a speed={speed}" for speed in holes])
    assert space.place("load=a speed=200") is None and space.place("load=a speed=310")
    assert space.place("load=b speed=310") is None and space.place(OFF) is None
    assert space.lacks("load=a") == ("speed",)
    assert StateSpace.of_file([*space]) == space


def test_states_of_one_group_or_without_a_value_are_left_out():
    states = ["speed=1"] * 3 + ["speed=2"] * 2 + [""]
    space, category = StateSpace.of(states, ["a", "b", "b", "c", "c", "d"])
    assert category.tolist() == [0, 0, 0, -1, -1, -1] and len(space.categories) == 1
    unknown, category = StateSpace.of(["", "on"])
    assert category.tolist() == [0, 0] and unknown.place("") == Place(0, ())
    with pytest.raises(UserError, match="has 'load'; the normal clips have speed"):
        space.check("load=1")
    names = " ".join(f"n{i}=1" for i in range(MOST_NAMES + 1))
    with pytest.raises(UserError, match="9 columns make a state; at most 8 can"):
        StateSpace.of([names, names])
