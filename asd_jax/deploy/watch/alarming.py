"""Decisions and alarms of streams: the record of each window, and the message of each alarm."""

import functools
import json
import math
import uuid
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

import numpy as np

from asd_jax.deploy.watch.meters import Tally
from asd_jax.deploy.watch.scorer import Scored
from asd_jax.deploy.watch.state import StreamState
from asd_jax.deploy.watch.streams import Stream
from asd_jax.deploy.watch.windows import Window
from asd_jax.evaluation.promises import rounded
from asd_jax.fitting.fitted import Fitted
from asd_jax.fitting.judging import ANOMALOUS, NORMAL
from asd_jax.fitting.layout import Group
from asd_jax.scoring.alarm_promises import Cadence
from asd_jax.scoring.alarms import AlarmRule, AlarmState, start, step
from asd_jax.scoring.conformal import Reference, p_values


class Judged(NamedTuple):
    """What was decided about some windows.

    Attributes:
        records: of each window.
        lines: the records, as lines of JSON.
        messages: "id" and "body" of alarms that were raised or ended.
        sound: seconds that the streams went on by.
    """

    records: list[Mapping[str, Any]]
    lines: list[bytes]
    messages: list[Mapping[str, Any]]
    sound: float


class Alarming:
    """Judges the windows of streams, in the order of their time.

    Args:
        fitted: of the run.
        streams: the streams.
        rule: when windows make an alarm.
        known: state of the streams that were watched before, by name.
        false_alarms: rate of single windows, as of `Fitted.threshold`; the run's thresholds by
            default.
        clear_false_alarms: rate of the lower threshold at or below which windows end an alarm;
            that of the alarm itself by default.
        alarms_a_month: false alarms of a machine in 30 days, as of `Fitted.alarm_threshold`, in
            place of `false_alarms`.
        cadence: of the windows, for `alarms_a_month`.

    Raises:
        UserError: a rate, or so few false alarms, cannot be promised.
    """

    def __init__(
        self,
        fitted: Fitted,
        streams: Sequence[Stream],
        rule: AlarmRule,
        known: Mapping[str, StreamState],
        *,
        false_alarms: float | None = None,
        clear_false_alarms: float | None = None,
        alarms_a_month: float | None = None,
        cadence: Cadence | None = None,
    ):
        self._rule = rule
        self._streams = {stream.name: stream for stream in streams}
        self._place = {stream.name: i for i, stream in enumerate(streams)}
        groups = dict.fromkeys(stream.group for stream in streams)
        self._references: dict[Group, Reference] = {
            group: fitted.group_reference(group, None) for group in groups
        }

        def of_streams(threshold: Callable[..., float]) -> np.ndarray:
            own = {
                (machine, section): threshold(machine=machine, section=section or None)
                for machine, section in groups
            }
            return np.array([own[stream.group] for stream in streams], np.float64)

        single = functools.partial(fitted.threshold, false_alarms=false_alarms)
        if alarms_a_month is not None:
            assert cadence is not None
            single = functools.partial(fitted.alarm_threshold, rule, cadence, alarms_a_month)
        self.thresholds = self._clear = of_streams(single)
        if clear_false_alarms is not None:
            lower = functools.partial(fitted.threshold, false_alarms=clear_false_alarms)
            self._clear = of_streams(lower)
        self._windows = [known.get(name, StreamState()).windows for name in self._streams]
        self._positions = [known.get(name, StreamState()).position for name in self._streams]
        self._alarm_ids = [known.get(name, StreamState()).alarm_id for name in self._streams]
        self._ends = [math.nan] * len(streams)  # of the last windows, in seconds of the stream
        self._state = _started(rule, [known.get(name, StreamState()) for name in self._streams])
        for i in np.flatnonzero(~self._state.active).tolist():
            self._alarm_ids[i] = ""  # of another rule
        self._tallies = [Tally()] * len(streams)

    @property
    def n_active(self) -> int:
        """Alarms that are on."""
        return int(self._state.active.sum())

    @property
    def of_groups(self) -> dict[Group, float]:
        """The threshold of each machine and section."""
        groups = [stream.group for stream in self._streams.values()]
        return dict(zip(groups, self.thresholds.tolist(), strict=True))

    @property
    def tallies(self) -> dict[str, Tally]:
        """Counts of each stream."""
        return dict(zip(self._streams, self._tallies, strict=True))

    def stream(self, name: str) -> Stream:
        """The stream of a name."""
        return self._streams[name]

    def kept(self, name: str) -> StreamState:
        """What is to be kept of a stream."""
        i = self._place[name]
        alarm = {field: leaf[i].tolist() for field, leaf in self._state._asdict().items()}
        return StreamState(self._positions[i], self._windows[i], alarm, self._alarm_ids[i])

    def judge(self, windows: Sequence[Window], scored: Scored) -> Judged:
        """Judges windows; those of one stream are in the order of their time.

        Args:
            windows: of any streams.
            scored: their scores.
        """
        p = self._p_values(windows, scored.scores)
        states = scored.states or [""] * len(windows)
        unscored = scored.unscored or [""] * len(windows)
        records: list[Mapping[str, Any]] = [{}] * len(windows)
        messages: list[Mapping[str, Any]] = []
        sound = 0.0
        for own in _turns(windows):  # at most one window of each stream
            places = [self._place[windows[i].stream] for i in own]
            # Those that are off, transient or unseen have no score, so that they do not count.
            raised, ended = self._step(places, scored.scores[own])
            for i, place in zip(own, places, strict=True):
                sound += self._advance(place, windows[i])
                event = "raised" if raised[place] else "cleared" if ended[place] else ""
                if raised[place]:
                    self._alarm_ids[place] = uuid.uuid4().hex
                score = float(scored.scores[i])
                record = self._record(place, windows[i], score, float(p[i]), scored.problems[i])
                record["set_up"] = (scored.set_ups[i] if scored.set_ups else "") or None
                record["state"] = states[i] or None
                record["verdict"] = unscored[i] or _verdict(record)
                record["alarm"] = event or ("on" if self._state.active[place] else "off")
                record["alarm_id"] = self._alarm_ids[place] or None
                if event:
                    messages.append(_message(event, record))
                if ended[place]:
                    self._alarm_ids[place] = ""
                self._count(place, record, event)
                records[i] = record
        lines = [json.dumps(record, allow_nan=False).encode() + b"\n" for record in records]
        return Judged(records, lines, messages, sound)

    def _p_values(self, windows: Sequence[Window], scores: np.ndarray) -> np.ndarray:
        p = np.full(len(windows), np.nan)
        by_group: dict[Group, list[int]] = {}
        for i, window in enumerate(windows):
            by_group.setdefault(self._streams[window.stream].group, []).append(i)
        for group, own in by_group.items():
            p[own] = p_values(rounded(scores[own]), self._references[group])
        return p

    def _step(self, places: Sequence[int], scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        of_streams = np.full(len(self._streams), np.nan)
        counted = np.zeros(len(self._streams), bool)
        of_streams[places], counted[places] = scores, True
        self._state, raised, ended = step(
            self._rule, self._state, of_streams, self.thresholds, self._clear, counted
        )
        return raised, ended

    def _advance(self, place: int, window: Window) -> float:
        """Notes where a stream is; returns by how many seconds it went on."""
        self._windows[place] += 1
        self._positions[place] = window.position
        before, end = self._ends[place], window.begin + window.seconds
        self._ends[place] = end
        return end - (window.begin if math.isnan(before) else min(before, end))

    def _record(
        self, place: int, window: Window, score: float, p: float, problem: str
    ) -> dict[str, Any]:
        """What is said of a window; the place for further keys."""
        stream, threshold = self._streams[window.stream], float(self.thresholds[place])
        decided = not (math.isnan(score) or math.isnan(threshold))
        return {
            "stream": stream.name,
            "machine": stream.group[0],
            "section": stream.group[1] or None,
            "window": self._windows[place],
            "begin_s": round(window.begin, 6),
            "end_s": round(window.begin + window.seconds, 6),
            "begin": _clock(window.wall_end - window.seconds),
            "end": _clock(window.wall_end),
            "file": _text(window.file) or None,
            "file_begin_s": round(window.file_begin, 6) if window.file else None,
            "score": None if math.isnan(score) else score,
            "threshold": None if math.isnan(threshold) else threshold,
            "decision": int(score > threshold) if decided else None,
            "p_value": None if math.isnan(p) else p,
            "exceeds": bool(decided and score > threshold),
            "problem": problem or None,
        }

    def _count(self, place: int, record: Mapping[str, Any], event: str) -> None:
        before = self._tallies[place]
        self._tallies[place] = Tally(
            before.windows + 1,
            before.exceeding + record["exceeds"],
            before.alarms + (event == "raised"),
            before.unscored + (record["score"] is None),
        )


def _verdict(record: Mapping[str, Any]) -> str | None:
    """The answer about a window that is scored; None without a decision."""
    if record["decision"] is None:
        return None
    return ANOMALOUS if record["decision"] else NORMAL


def _turns(windows: Sequence[Window]) -> list[list[int]]:
    """Numbers of windows: the first of each stream, then the second ones, and so on."""
    turns: list[list[int]] = []
    counts: dict[str, int] = {}
    for i, window in enumerate(windows):
        turn = counts.get(window.stream, 0)
        counts[window.stream] = turn + 1
        if turn == len(turns):
            turns.append([])
        turns[turn].append(i)
    return turns


def _started(rule: AlarmRule, known: Sequence[StreamState]) -> AlarmState:
    """The rule's state of streams: as it was kept, or new where it was another rule's."""
    state = AlarmState(*(leaf.copy() for leaf in start(rule, len(known))))
    for i, own in enumerate(known):
        kept = own.alarm or {}
        if set(kept) == set(AlarmState._fields) and len(kept["exceeded"]) == rule.among:
            for field, leaf in state._asdict().items():
                leaf[i] = kept[field]
    return state


def _message(event: str, record: Mapping[str, Any]) -> dict[str, Any]:
    """A message of an alarm; its id is the alarm's and the event's."""
    number = f"{record['alarm_id']}-{event}"
    body = json.dumps({"id": number, "event": event, **record}, allow_nan=False)
    return {"id": number, "body": body}


def _clock(seconds: float) -> str:
    """A time as ISO 8601 has it, in UTC."""
    try:
        return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")
    except (ValueError, OverflowError, OSError):  # of a file with an impossible time
        return datetime.fromtimestamp(0, UTC).isoformat(timespec="milliseconds")


def _text(name: str) -> str:
    """A file's name, whose bytes may be no text, as text."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
