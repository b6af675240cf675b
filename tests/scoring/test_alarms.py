"""Alarms of streams, beside rules followed by hand and by brute force."""

import itertools

import numpy as np
import pytest

from asd_jax.errors import UserError
from asd_jax.scoring.alarms import AlarmRule, alarms_of, levels, start, step

RULES = [
    AlarmRule(),
    AlarmRule(2, 3),
    AlarmRule(3, 3, lasting=2),
    AlarmRule(2, 5, lasting=4, clear_after=3),
    AlarmRule(1, 4, lasting=6, clear_after=2, stays=9),
]


def followed(rule, scores, threshold, lower):
    """The rule in words: lists of windows, and no arrays."""
    found, past, held, raised_at, quiet = [], [], 0, None, 0
    for t, score in enumerate(scores):
        if np.isnan(score):
            continue
        past.append(score > threshold)
        held = held + 1 if sum(past[-rule.among :]) >= rule.need else 0
        if raised_at is None:
            if held >= rule.lasting:
                raised_at, age, quiet = t, 0, 0
                found.append((t, None))
            continue
        age += 1
        quiet = quiet + 1 if score <= lower else 0
        if quiet >= rule.clear_after and age >= rule.stays:
            found[-1] = (raised_at, t)
            past, held, raised_at = [], 0, None
    return found


@pytest.mark.parametrize("rule", RULES, ids=str)
def test_alarms_are_those_of_the_rule_followed_in_words(rule):
    rng = np.random.default_rng(0)
    some = 0
    for _ in range(40):
        scores = rng.normal(size=60)
        scores[rng.random(60) < 0.1] = np.nan
        threshold = float(rng.normal() / 2)
        lower = threshold - float(rng.random())
        own = alarms_of(rule, scores, threshold, lower)
        assert own == followed(rule, scores, threshold, lower)
        some += len(own)
    assert some > 20


@pytest.mark.parametrize("rule", RULES, ids=str)
def test_streams_together_are_streams_one_by_one(rule):
    """Whose windows come at different times, as of machines that are switched on and off."""
    rng = np.random.default_rng(1)
    scores, there = rng.normal(size=(80, 7)), rng.random((80, 7)) < 0.7
    thresholds = rng.normal(size=7) / 2
    state, together = start(rule, 7), [[] for _ in range(7)]
    for t in range(80):
        state, raised, ended = step(rule, state, scores[t], thresholds, counted=there[t])
        for stream in range(7):
            together[stream] += [t] * int(raised[stream]) + [-t] * int(ended[stream])
    for stream in range(7):
        own = np.flatnonzero(there[:, stream])
        alone = alarms_of(rule, scores[own, stream], thresholds[stream])
        places = [(int(own[a]), None if b is None else -int(own[b])) for a, b in alone]
        assert together[stream] == [t for pair in places for t in pair if t is not None]


def test_hysteresis_keeps_one_alarm_of_scores_around_the_threshold():
    scores = np.tile([5.1, 4.9], 10)
    rule = AlarmRule(clear_after=1)
    assert len(alarms_of(rule, scores, 5.0)) == 10
    assert alarms_of(rule, scores, 5.0, clear_threshold=4.0) == [(0, None)]
    assert alarms_of(rule, [*scores, 3.9], 5.0, clear_threshold=4.0) == [(0, 20)]
    # A lower threshold above the other one would end alarms that are on.
    assert alarms_of(rule, [6.0, 6.0], 5.0, clear_threshold=9.0) == [(0, None)]


def test_a_threshold_that_is_nan_raises_nothing():
    assert alarms_of(AlarmRule(), [1.0, np.inf], np.nan) == []
    assert alarms_of(AlarmRule(), [1.0, np.inf, 0.0], 2.0) == [(1, 2)]


def test_levels_are_the_thresholds_below_which_an_alarm_is_raised():
    """Sorted windows one by one; and every threshold between the scores tried."""
    rng = np.random.default_rng(2)
    for _ in range(60):
        among = int(rng.integers(1, 9))
        rule = AlarmRule(int(rng.integers(1, among + 1)), among, int(rng.integers(1, 6)))
        scores = rng.permutation(int(rng.integers(1, 30))).astype(float)
        level = levels(rule, scores)
        for threshold in np.arange(-0.5, len(scores)):
            alarms = alarms_of(rule, scores, threshold)
            first = np.flatnonzero(level > threshold)
            assert [a for a, _ in alarms][:1] == first[:1].tolist()
    assert levels(AlarmRule(), []).tolist() == []


@pytest.mark.parametrize(("need", "among"), [(1, 1), (1, 3), (2, 3), (3, 3), (2, 4), (4, 4)])
def test_the_fewest_windows_of_an_alarm_by_all_sequences(need, among):
    for lasting in range(1, 6):
        rule = AlarmRule(need, among, lasting)
        fewest = min(
            sum(bits)
            for bits in itertools.product([0, 1], repeat=rule.windows)
            if all(sum(bits[i : i + among]) >= need for i in range(lasting))
        )
        assert rule.exceeding == fewest


def test_no_window_counts_for_two_alarms_and_alarms_keep_their_distance():
    rng = np.random.default_rng(3)
    for rule in RULES:
        for rate in (0.2, 0.6, 0.95):
            scores = (rng.random(4000) < rate).astype(float)
            alarms = alarms_of(rule, scores, 0.5)
            assert len(alarms) * rule.exceeding <= scores.sum()
            assert np.all(np.diff([a for a, _ in alarms]) > rule.stays)


def test_bad_rules_are_refused():
    with pytest.raises(UserError, match=r"alarm\.need is 4, of alarm\.among=3"):
        AlarmRule(4, 3)
    with pytest.raises(UserError, match=r"alarm\.lasting"):
        AlarmRule(lasting=0)
    with pytest.raises(UserError, match=r"alarm\.stays"):
        AlarmRule(stays=1.5)  # type: ignore[arg-type]
