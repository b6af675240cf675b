"""Promised false alarms a month, beside streams that resemble themselves and are simulated."""

import numpy as np
import pytest
import scipy.signal
import scipy.stats

from asd_jax.errors import UserError
from asd_jax.scoring.alarm_promises import (
    MONTH_SECONDS,
    Cadence,
    alarm_promise,
    alarm_text,
    alarm_threshold,
)
from asd_jax.scoring.alarms import AlarmRule, alarms_of, start, step
from asd_jax.scoring.conformal import Reference, promise_of

RULE = AlarmRule(need=3, among=5, clear_after=3, stays=40)
OF_TEN = Cadence(10, 10)


def streams(rng, n_streams, n_windows, memory, session=0.0):
    """(streams, windows) scores, each like those before it by `memory` (AR(1)), of one variance.

    Each stream has a level of its own, as a session has, of the standard deviation `session`.
    """
    noise = rng.normal(size=(n_streams, n_windows + 200)) * np.sqrt(1 - memory**2)
    own = scipy.signal.lfilter([1], [1, -memory], noise, axis=1)[:, 200:]
    return own + session * rng.normal(size=(n_streams, 1))


def a_month_of(rule, scores, thresholds, hop_seconds):
    """Alarms a month at each threshold, by following all streams (streams, windows)."""
    wide = np.repeat(thresholds, len(scores))
    state, count = start(rule, len(wide)), np.zeros(len(wide))
    for column in scores.T:
        state, raised, _ = step(rule, state, np.tile(column, len(thresholds)), wide)
        count += raised
    months = scores.size * hop_seconds / MONTH_SECONDS
    return count.reshape(len(thresholds), -1).sum(axis=1) / months


def reference_of(scores):
    """Each stream a recording, which is a group."""
    numbers = np.repeat(np.arange(len(scores)), scores.shape[1])
    return Reference.of(scores.ravel(), numbers, numbers)


@pytest.mark.parametrize(
    ("memory", "session", "overlapping"),
    [
        pytest.param(0.0, 0.0, 1, marks=pytest.mark.slow),
        pytest.param(0.9, 0.0, 1, marks=pytest.mark.slow),
        (0.97, 0.0, 1),
        (0.9, 0.7, 1),
        (0.9, 0.0, 2),
        pytest.param(0.9, 0.7, 4, marks=pytest.mark.slow),
    ],
)
def test_promises_hold_for_streams_that_resemble_themselves(memory, session, overlapping):
    """The true rate at each threshold by 300 other streams; 120 references of 15 recordings.

    The bound may fail in 5 % of references: 12 of 120 have a probability of 1 %. The mean may be
    above what is promised by three standard errors.
    """
    rng = np.random.default_rng(0)
    cadence = Cadence(10, 10 / overlapping)
    # Windows of half a hop are as much alike as their overlap, and more.
    each = memory ** (1 / overlapping)
    grid = np.linspace(-1.5, 3.5, 26)
    true = a_month_of(RULE, streams(rng, 300, 400, each, session), grid, cadence.hop_seconds)
    wanted = 1000 * overlapping  # 15 recordings promise no less of overlapping windows
    broken, true_rates, stated = 0, [], []
    for _ in range(120):
        recordings = streams(rng, 15, 150 * overlapping, each, session)
        reference = reference_of(recordings[:, ::overlapping])
        threshold, reason = alarm_threshold(RULE, reference, cadence, wanted)
        assert not reason
        promise = alarm_promise(RULE, threshold, reference, cadence)
        assert promise.block_seconds and promise.n_groups == 15
        assert promise.a_month <= wanted + 1e-6 and promise.bound > promise.a_month
        is_true = np.interp(threshold, grid, true)
        broken += is_true > promise.bound
        true_rates.append(is_true)
        stated.append(promise.a_month)
    assert broken <= 12
    error = np.std(np.array(true_rates) - stated) / np.sqrt(120)
    assert np.mean(true_rates) <= np.mean(stated) + 3 * error


def test_counting_windows_as_if_they_were_alone_would_promise_too_much():
    """What the test above would find, if the windows of a recording were groups of their own."""
    rng = np.random.default_rng(1)
    grid = np.linspace(-4, 8, 31)
    true = a_month_of(RULE, streams(rng, 300, 300, 0.9, 2.0), grid, 10)
    broken = 0
    for _ in range(60):
        recordings = streams(rng, 6, 300, 0.9, 2.0)
        own = np.repeat(np.arange(6), 300)
        reference = Reference.of(recordings.ravel(), None, own)
        threshold, _ = alarm_threshold(RULE, reference, OF_TEN, 500)
        broken += np.interp(threshold, grid, true) > (
            alarm_promise(RULE, threshold, reference, OF_TEN).bound
        )
    assert broken > 8  # of 60, where 3 are to be expected


def test_clips_by_themselves_count_windows():
    """An alarm uses up five windows: a fifth of the rate of windows, by the binomial bound."""
    rule, reference = AlarmRule(need=5, among=8), Reference.of(np.arange(200))
    promise = alarm_promise(rule, 198.0, reference, Cadence(10, 5))
    windows = MONTH_SECONDS / 5
    exact = scipy.stats.binomtest(1, 200, alternative="less").proportion_ci(0.95, "exact")
    assert promise.a_month == pytest.approx(windows * 2 / 201 / 5)
    assert promise.bound == pytest.approx(windows * exact.high / 5)
    assert promise.block_seconds == 0 and promise.n_groups == 200
    assert "one by one" in alarm_text(promise)
    # A month of any scores has no more alarms than that, whatever their order.
    scores = np.random.default_rng(0).random(5000)
    assert len(alarms_of(rule, scores, 0.5)) <= (scores > 0.5).sum() / 5


def test_blocks_are_as_long_as_an_alarm_stays_or_as_recordings_are():
    sequences = np.repeat(np.arange(9), 50)
    reference = Reference.of(np.arange(450.0) % 50, sequences, sequences)
    stays = AlarmRule(need=2, among=3, stays=12)
    assert alarm_promise(stays, 60.0, reference, OF_TEN).block_seconds == 120
    longer = AlarmRule(need=2, among=3, stays=1000)  # of 50 clips the first two lack others
    assert alarm_promise(longer, 60.0, reference, OF_TEN).block_seconds == 480
    short = AlarmRule(need=2, among=60)  # of which recordings of 50 clips say nothing
    assert alarm_promise(short, 60.0, reference, OF_TEN).block_seconds == 0
    assert alarm_promise(stays, 60.0, reference, Cadence(10, 20)).block_seconds == 0
    # Every block of a recording has its largest level of 48: the last but one of 0 to 49.
    rates = [promise_of(48.0, Reference.of([48.0] * 9)).rate, 1.0]
    for threshold, rate in zip((48.0, 47.9), rates, strict=True):
        promise = alarm_promise(longer, threshold, reference, OF_TEN)
        assert promise.a_month == pytest.approx(
            min(MONTH_SECONDS / 480 * rate, MONTH_SECONDS / 10 / 1001)
        )


def test_what_cannot_be_promised_is_said():
    reference = reference_of(np.arange(300.0).reshape(6, 50))
    threshold, reason = alarm_threshold(RULE, reference, OF_TEN, 1.0)
    assert threshold == 291.0
    assert "6 groups of normal clips promise at most 926 false alarms a month, not 1" in reason
    nothing = alarm_threshold(RULE, Reference.of([]), OF_TEN, 1.0)
    assert np.isnan(nothing.value) and "no normal clip" in nothing.fallback
    assert np.isnan(alarm_promise(RULE, 1.0, Reference.of([]), OF_TEN).a_month)
    assert np.isnan(alarm_promise(RULE, np.nan, reference, OF_TEN).bound)
    # More than there can be: any threshold keeps it.
    assert alarm_threshold(RULE, reference, OF_TEN, 1e9).value < 50
    with pytest.raises(UserError, match="above 0"):
        alarm_threshold(RULE, reference, OF_TEN, 0.0)
    with pytest.raises(UserError, match="hop_seconds must be a positive"):
        alarm_promise(RULE, 1.0, reference, Cadence(10, 0))
