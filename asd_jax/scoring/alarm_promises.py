"""How many false alarms a month a rule of alarms raises, promised by scores of normal clips.

A rate of false windows says little of alarms: windows of a stream resemble the ones before, so that
false ones come together. Two counts hold whatever the windows have to do with each other.

By blocks, where the reference has recordings of many clips in a row: an alarm stays for `stays`
windows, so that a block of as many has at most one raised in it, and it has none unless the largest
level (`alarms.levels`) of the block is above the threshold. Blocks of the reference are like clips
for conformal prediction, the blocks of a recording a group: the share of a month's blocks that have
an alarm has the mean and the bound of `conformal.promise_of`.

By windows, where clips are by themselves: each alarm uses up `AlarmRule.exceeding` windows above
the threshold, so there are at most that many times fewer alarms than windows above it.

Windows that overlap are several sequences of windows that do not, one beside the other. If `need`
of `among` exceed, then of one of these k sequences at least need/k of among/k; k times its rate
bounds that of all.

Both need normal windows of the future to be like those of the reference, recording by recording,
and no more: no distribution, no independence of windows.
"""

import math
from typing import NamedTuple

import numpy as np

from asd_jax.errors import UserError
from asd_jax.scoring.alarms import AlarmRule, levels
from asd_jax.scoring.conformal import Reference, conformal_threshold, promise_of
from asd_jax.scoring.threshold import Threshold

MONTH_SECONDS = 30 * 86_400
_WHOLE = 0.01  # how far from a whole number the windows in a window may be


class Cadence(NamedTuple):
    """How windows follow one another.

    Attributes:
        window_seconds: length of a window, and about that of a clip of the reference.
        hop_seconds: from one window's beginning to the next one's.

    Examples:
        >>> [Cadence(10, hop).overlapping for hop in (10, 5, 4, 30)]
        [1, 2, None, None]
    """

    window_seconds: float
    hop_seconds: float

    @property
    def overlapping(self) -> int | None:
        """Windows that share a time; None where there are gaps or that is no whole number."""
        shared = self.window_seconds / self.hop_seconds
        whole = round(shared)
        return whole if whole and abs(shared - whole) <= _WHOLE * shared else None


class AlarmPromise(NamedTuple):
    """What a rule and a threshold promise of a machine that stays normal.

    Attributes:
        a_month: most false alarms in 30 days, on average over references.
        bound: most of them given this reference, with 95 % confidence.
        n_groups: groups of the reference that were counted.
        block_seconds: length of the blocks that were counted; 0 where windows were.
    """

    a_month: float
    bound: float
    n_groups: int
    block_seconds: float


class _Counted(NamedTuple):
    """What is counted of a reference, and what a rate of it means.

    Attributes:
        reference: levels of blocks, or scores of clips.
        a_month: alarms in a month, at most, of a rate of 1.
        block_seconds: as of `AlarmPromise`.
    """

    reference: Reference
    a_month: float
    block_seconds: float


def alarm_promise(
    rule: AlarmRule, threshold: float, reference: Reference, cadence: Cadence
) -> AlarmPromise:
    """How many false alarms a month a threshold lets through, however it was chosen by its rank.

    Args:
        rule: of the alarms.
        threshold: of windows' scores.
        reference: scores of normal clips, about as long as windows.
        cadence: of the windows.

    Returns:
        The promise; NaN without a reference or a threshold.

    Raises:
        UserError: the lengths of the cadence are no positive numbers.

    Examples:
        Twenty recordings of 60 clips, none of which is above the threshold; windows of 10 s one
        after another, and an alarm stays five minutes. Of 8,640 blocks a month, 1 in 21.

        >>> sequences = np.repeat(np.arange(20), 60)
        >>> reference = Reference.of(np.zeros(1200), sequences, sequences)
        >>> rule = AlarmRule(need=3, among=5, stays=30)
        >>> promise = alarm_promise(rule, 1.0, reference, Cadence(10, 10))
        >>> round(promise.a_month), promise.n_groups, promise.block_seconds
        (411, 20, 300)
    """
    counted = _counted(rule, reference, cadence)
    promise = promise_of(threshold, counted.reference)
    # One window after another can raise no more than this.
    most = MONTH_SECONDS / cadence.hop_seconds / (max(rule.stays, rule.clear_after) + 1)
    a_month, bound = (
        min(most, counted.a_month * rate) if math.isfinite(rate) else math.nan
        for rate in (promise.rate, promise.bound)
    )
    return AlarmPromise(a_month, bound, promise.n_groups, counted.block_seconds)


def alarm_threshold(
    rule: AlarmRule, reference: Reference, cadence: Cadence, a_month: float
) -> Threshold:
    """The lowest threshold that lets at most so many false alarms a month through, on average.

    Args:
        rule: of the alarms.
        reference: as of `alarm_promise`.
        cadence: of the windows.
        a_month: false alarms in 30 days, above 0.

    Returns:
        The threshold. Where so few groups cannot promise as little, the largest level of all, with
        the reason; NaN, with the reason, without a reference.

    Raises:
        UserError: `a_month` is not above 0, or as `alarm_promise`.

    Examples:
        >>> reference = Reference.of(np.arange(1000.0))
        >>> rule = AlarmRule(need=5, among=6)
        >>> alarm_threshold(rule, reference, Cadence(10, 10), 1000)
        Threshold(value=981.0, fallback='')
        >>> alarm_threshold(rule, reference, Cadence(10, 10), 1).fallback
        '1000 normal clips promise at most 51.8 false alarms a month, not 1'
    """
    if not (a_month > 0 and math.isfinite(a_month)):
        raise UserError(f"false alarms a month must be a number above 0, not {a_month}")
    counted = _counted(rule, reference, cadence)
    rate = min(a_month / counted.a_month, 1 - 1e-9)  # more than all there can be: any threshold
    threshold = conformal_threshold(counted.reference, rate)
    if not threshold.fallback or "promise at most" not in threshold.fallback:
        return threshold
    n = counted.reference.n_groups
    clips = n == np.sum(~np.isnan(reference.scores))
    what = "normal clips" if clips else "groups of normal clips"
    return threshold._replace(
        fallback=f"{n} {what} promise at most {_number(counted.a_month / (n + 1))} false alarms a "
        f"month, not {_number(a_month)}"
    )


def _number(count: float) -> str:
    return f"{count:,.0f}" if count >= 100 else f"{count:.3g}"


def alarm_text(promise: AlarmPromise) -> str:
    """A promise in words.

    Examples:
        >>> alarm_text(AlarmPromise(7.2, 21.3, 100, 3600))
        'at most 7.2 false alarms a month on average (21.3 given these clips, with 95 % \
confidence), by 100 groups of normal clips in blocks of 60 min'
    """
    how = "one by one"
    if promise.block_seconds:
        seconds = promise.block_seconds
        how = "in blocks of " + (f"{seconds:.3g} s" if seconds < 120 else f"{seconds / 60:.3g} min")
    return (
        f"at most {_number(promise.a_month)} false alarms a month on average "
        f"({_number(promise.bound)} given these clips, with 95 % confidence), by "
        f"{promise.n_groups} groups of normal clips {how}"
    )


def _counted(rule: AlarmRule, reference: Reference, cadence: Cadence) -> _Counted:
    for name, seconds in cadence._asdict().items():
        if not (seconds > 0 and math.isfinite(seconds)):
            raise UserError(f"{name} must be a positive number of seconds, not {seconds}")
    windows = MONTH_SECONDS / cadence.hop_seconds
    together = cadence.overlapping
    if reference.sequences is not None and together is not None:
        blocks, length = _blocks(_of_sequence(rule, together), reference, together, rule.stays)
        # Of recordings that are shorter than an alarm's windows nothing is known: most must count.
        if 2 * blocks.n_groups > reference.n_groups:
            # The latest window of a sequence is up to `together` − 1 windows old.
            steps = together * (length - 1) + 1
            seconds = steps * cadence.hop_seconds
            return _Counted(blocks, together * windows / steps, seconds)
    return _Counted(reference, windows / rule.exceeding, 0.0)


def _of_sequence(rule: AlarmRule, together: int) -> AlarmRule:
    """What one of the sequences of windows without overlap must do for the rule to be met."""
    if together == 1:
        return rule
    return AlarmRule(need=-(-rule.need // together), among=-(-rule.among // together))


def _blocks(
    rule: AlarmRule, reference: Reference, together: int, stays: int
) -> tuple[Reference, int]:
    """The largest level of each block of a reference.

    Args:
        rule: of clips one after another.
        reference: of clips, with sequences.
        together: windows that share a time.
        stays: windows of all sequences that an alarm stays.

    Returns:
        The levels with the groups of their clips, and the clips in a block: no more than an alarm
        stays, nor than half of the recordings have.
    """
    assert reference.sequences is not None
    counts = ~np.isnan(reference.scores)
    scores, groups = reference.scores[counts], reference.groups[counts]
    _, numbers = np.unique(reference.sequences[counts], return_inverse=True)
    order = np.argsort(numbers, kind="stable")
    places = np.split(order, np.cumsum(np.bincount(numbers))[:-1]) if len(order) else []
    # The first windows lack those before them: an alarm's windows begin in the recording.
    usable = [own for own in places if len(own) >= rule.windows]
    if not usable:
        return Reference.of([]), 1
    longest = int(np.median([len(own) - rule.windows + 1 for own in usable]))
    length = max(1, min((stays + together - 1) // together, longest))
    found: list[float] = []
    of_groups: list[int] = []
    for own in usable:
        level = levels(rule, scores[own])[rule.windows - 1 :]
        whole = len(level) // length
        found += level[: whole * length].reshape(whole, length).max(axis=1).tolist()
        of_groups += [int(groups[own[0]])] * whole
    return Reference.of(found, of_groups), length
