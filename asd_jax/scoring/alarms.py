"""Alarms: windows of many streams, one after another, become few events that someone looks at.

One window above a threshold is no alarm: of two hundred machines with a window every five seconds,
one false one in ten thousand would still be 345 a day. An alarm needs several (`need` of the last
`among` windows), for some time (`lasting`), and ends by quiet windows below a second, lower
threshold (`clear_after`, hysteresis), not before it has stayed for a while (`stays`). When it ends,
what was before is forgotten, so that no window counts for two alarms.
"""

import dataclasses
from typing import Annotated, Any, NamedTuple

import numpy as np

from asd_jax.errors import UserError
from asd_jax.runtime.bounds import Between, check_numbers

_MOST = 10**6  # windows: two months of one every five seconds


@dataclasses.dataclass(frozen=True)
class AlarmRule:
    """When windows make an alarm, and when it ends.

    A window exceeds if its score is larger than the threshold.

    Attributes:
        need: windows that exceed, of the last `among`.
        among: windows that are looked at together.
        lasting: windows in succession at which `need` of `among` exceed, before an alarm is raised.
        clear_after: windows in succession at or below the lower threshold that end an alarm.
        stays: windows that an alarm stays at least, so that two are never raised closer together.

    Examples:
        Three of five windows exceed; the alarm is raised once, and stays.

        >>> rule = AlarmRule(need=3, among=5, clear_after=2)
        >>> alarms_of(rule, [9, 1, 9, 9, 9, 1, 9, 1, 1, 1], threshold=5)
        [(3, 8)]
    """

    need: Annotated[int, Between(1, _MOST)] = 1
    among: Annotated[int, Between(1, _MOST)] = 1
    lasting: Annotated[int, Between(1, _MOST)] = 1
    clear_after: Annotated[int, Between(1, _MOST)] = 1
    stays: Annotated[int, Between(1, _MOST)] = 1

    def __post_init__(self) -> None:
        """Checks the numbers."""
        check_numbers("alarm", self)
        if self.need > self.among:
            raise UserError(
                f"alarm.need is {self.need}, of alarm.among={self.among} windows; need at most all "
                "of them"
            )

    @property
    def windows(self) -> int:
        """Windows that decide whether an alarm is raised at the last one of them."""
        return self.among + self.lasting - 1

    @property
    def exceeding(self) -> int:
        """Fewest windows that exceed for one alarm, and for no other.

        `need` of each `among` that lie end to end in `windows`. In what is left over, as many as
        must be there for it to be filled up to `among` by its neighbours.

        Examples:
            >>> AlarmRule(3, 5).exceeding, AlarmRule(3, 5, lasting=3).exceeding
            (3, 3)
            >>> AlarmRule(3, 5, lasting=4).exceeding, AlarmRule(1, 1, lasting=6).exceeding
            (4, 6)
        """
        whole, rest = divmod(self.windows, self.among)
        return self.need * whole + max(0, self.need - (self.among - rest))


class AlarmState(NamedTuple):
    """What a rule remembers of streams: plain arrays, of a size that time does not change.

    Attributes:
        exceeded: bool (streams, among), whether the last windows exceeded, the newest last.
        held: int (streams,) windows in succession at which enough had exceeded.
        active: bool (streams,), whether an alarm is on.
        age: int (streams,) windows since the alarm was raised; 0 without one.
        quiet: int (streams,) windows in succession at or below the lower threshold during it.
    """

    exceeded: np.ndarray
    held: np.ndarray
    active: np.ndarray
    age: np.ndarray
    quiet: np.ndarray


def start(rule: AlarmRule, n_streams: int) -> AlarmState:
    """The state before the first window."""
    zeros = np.zeros(n_streams, np.int64)
    return AlarmState(
        np.zeros((n_streams, rule.among), bool), zeros, np.zeros(n_streams, bool), zeros, zeros
    )


def step(
    rule: AlarmRule,
    state: AlarmState,
    scores: Any,
    thresholds: Any,
    clear_thresholds: Any = None,
    counted: Any = True,
) -> tuple[AlarmState, np.ndarray, np.ndarray]:
    """Takes one window of each stream.

    Args:
        rule: the rule.
        state: from `start`, or the last step.
        scores: (streams,) of the windows; one that is NaN does not count.
        thresholds: (streams,) above which a window exceeds; none does where it is NaN.
        clear_thresholds: (streams,) at or below which a window is quiet; those of `thresholds` by
            default. One that is above them is taken as equal.
        counted: bool (streams,), false for a stream without a window now, whose state stays.

    Returns:
        The state; bool (streams,), whose alarm was raised by this window; and whose ended.
    """
    scores = np.asarray(scores, np.float64)
    counts = np.asarray(counted, bool) & ~np.isnan(scores)
    lower = thresholds if clear_thresholds is None else np.fmin(thresholds, clear_thresholds)
    newest = (scores > thresholds)[:, None]
    exceeded = np.concatenate([state.exceeded[:, 1:], newest], axis=1)  # (streams, among)
    held = np.where(exceeded.sum(axis=1) >= rule.need, state.held + 1, 0)
    raised = counts & ~state.active & (held >= rule.lasting)
    quiet = np.where(state.active & ~(scores > lower), state.quiet + 1, 0)
    age = np.where(state.active, state.age + 1, 0)
    ended = counts & state.active & (quiet >= rule.clear_after) & (age >= rule.stays)
    after = AlarmState(
        exceeded & ~ended[:, None],
        np.where(ended, 0, held),
        (state.active | raised) & ~ended,
        np.where(ended, 0, age),
        np.where(ended, 0, quiet),
    )
    kept = (
        np.where(counts.reshape(-1, *[1] * (new.ndim - 1)), new, old)
        for new, old in zip(after, state, strict=True)
    )
    return AlarmState(*kept), raised, ended


def alarms_of(
    rule: AlarmRule, scores: Any, threshold: float, clear_threshold: float | None = None
) -> list[tuple[int, int | None]]:
    """The alarms of one stream.

    Args:
        rule: the rule.
        scores: (windows,) in their order.
        threshold: above which a window exceeds.
        clear_threshold: at or below which a window is quiet; `threshold` by default.

    Returns:
        The window that raised each alarm, and the one that ended it; None where none did.
    """
    state = start(rule, 1)
    found: list[tuple[int, int | None]] = []
    lower = None if clear_threshold is None else np.array([clear_threshold])
    for place, score in enumerate(np.asarray(scores, np.float64)):
        state, raised, ended = step(rule, state, score[None], np.array([threshold]), lower)
        if raised[0]:
            found.append((place, None))
        if ended[0]:
            found[-1] = (found[-1][0], place)
    return found


def levels(rule: AlarmRule, scores: Any) -> np.ndarray:
    """The thresholds below which a stream's windows would raise an alarm, if none were on.

    Args:
        rule: the rule.
        scores: (windows,) in their order; none is NaN.

    Returns:
        (windows,): an alarm is raised at a window if its level is larger than the threshold;
        −inf where fewer windows came before than an alarm needs.

    Examples:
        The second largest of the last three.

        >>> levels(AlarmRule(need=2, among=3), [4.0, 1.0, 3.0, 2.0]).tolist()
        [-inf, 1.0, 3.0, 2.0]
    """
    from scipy.ndimage import minimum_filter1d, rank_filter

    scores = np.asarray(scores, np.float64)
    if not len(scores):
        return scores
    found = _trailing(rank_filter, scores, rule.among, rank=-rule.need)
    return _trailing(minimum_filter1d, found, rule.lasting)


def _trailing(function: Any, values: np.ndarray, size: int, **options: Any) -> np.ndarray:
    """A filter of SciPy's over the last `size` values up to each, −inf before the first."""
    padded = np.concatenate([np.full(size, -np.inf), values])
    shift = (size - 1) // 2  # SciPy's are centred
    return function(padded, size=size, origin=shift, mode="nearest", **options)[size:]
