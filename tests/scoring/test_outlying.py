"""Odd clips against what was planted."""

import numpy as np

from asd_jax.scoring.outlying import usual_rows


def draw(n=100, d=16):
    rng = np.random.default_rng(0)
    return rng.normal(-60, 2, (n, 1)) + rng.normal(0, 0.5, (n, d))  # levels that move together


def test_dead_loud_and_foreign_clips_are_odd_and_no_other():
    values = draw()
    values[[3, 4]] = -156
    values[50] += 40
    values[60, :12] += np.linspace(30, 60, 12)
    assert np.flatnonzero(~usual_rows(values)).tolist() == [3, 4, 50, 60]


def test_a_fifth_of_the_clips_is_a_way_the_machine_can_be():
    values = draw()
    values[:20] += 40
    assert usual_rows(values).all()


def test_of_clips_that_are_equal_otherwise_none_is_odd():
    values = np.repeat(draw()[:1], 30, axis=0)
    values[7] += 40
    assert usual_rows(values).all()


def test_each_state_has_its_own_middle():
    values, state = draw(), np.arange(100) >= 90
    values[state] += 40
    values[95] = -156
    assert np.flatnonzero(~usual_rows(values, state=state)).tolist() == [95]
    # Ten clips far from all others, whose state nothing tells.
    assert np.flatnonzero(~usual_rows(values)).tolist() == [*range(90, 100)]


def test_few_clips_columns_without_change_and_padding():
    values = np.stack([draw()] * 2)
    values[0, 5] = -156
    values[..., 3] = -156.0
    values[1, 50:] = np.nan
    mask = np.arange(100) < np.array([[100], [50]])
    usual = usual_rows(values, mask, resolution=0.01)
    assert np.flatnonzero(~usual[0]).tolist() == [5]
    assert usual[1].tolist() == mask[1].tolist()
    values[0, 5] = -156
    assert usual_rows(values[0, :9]).all()
