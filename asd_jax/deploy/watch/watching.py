"""Puts a watch together: streams, sources, state, alarms, and where results go."""

import contextlib
import dataclasses
import functools
import json
import math
import os
from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from pathlib import Path

from asd_jax.deploy.watch.alarming import Alarming
from asd_jax.deploy.watch.delivery import COMMAND, URL, Deliverer, to_command, to_url
from asd_jax.deploy.watch.engine import Source, Watch
from asd_jax.deploy.watch.evidence import Evidence
from asd_jax.deploy.watch.folders import FolderSource
from asd_jax.deploy.watch.output import LineFile, Lines, LineStream
from asd_jax.deploy.watch.pcm import PcmSource
from asd_jax.deploy.watch.promising import promise_lines
from asd_jax.deploy.watch.scorer import WindowScorer
from asd_jax.deploy.watch.state import StreamState, WatchState
from asd_jax.deploy.watch.states import WindowStates
from asd_jax.deploy.watch.streams import Stream, check_names
from asd_jax.errors import UserError
from asd_jax.fitting.detector import FittedDetector
from asd_jax.fitting.ensemble import FittedMembers
from asd_jax.fitting.fitted import Fitted
from asd_jax.fitting.lengths import FRAMES
from asd_jax.runs.directory import RunDirectory
from asd_jax.scoring.alarm_promises import Cadence
from asd_jax.scoring.alarms import AlarmRule


@dataclasses.dataclass(frozen=True)
class WatchSettings:
    """Settings of a watch.

    Attributes:
        window: seconds of a window.
        hop: seconds from one window's begin to the next one's; half a window by default. With more
            than a window, the sound in between is not heard.
        rule: when windows make an alarm.
        false_alarms: rate of false alarms of single windows, as of `Fitted.threshold`; the run's
            thresholds by default.
        clear_false_alarms: rate of the lower threshold that ends alarms; as `false_alarms` by
            default.
        alarms_a_month: false alarms of a machine in 30 days that thresholds let through at most, as
            of `Fitted.alarm_threshold`, in place of `false_alarms`.
        settle: seconds for which a recording must not have changed.
        give_up: seconds after which one that is still incomplete is left out.
        once: whether to end when all recordings that are there are done, and pipes with their
            first writers.
        on_alarm: command of the shell that gets alarms on its standard input; "" for none.
        alarm_url: URL to which alarms are posted; "" for none.
        alarm_timeout: seconds that the command, or an answer of the URL, may take.
        report_every: seconds between lines on the speed.

    Raises:
        UserError: a number is out of its range.
    """

    window: float
    hop: float | None = None
    rule: AlarmRule = AlarmRule()
    false_alarms: float | None = None
    clear_false_alarms: float | None = None
    alarms_a_month: float | None = None
    settle: float = 2.0
    give_up: float = 60.0
    once: bool = False
    on_alarm: str = ""
    alarm_url: str = ""
    alarm_timeout: float = 30.0
    report_every: float = 60.0

    def __post_init__(self) -> None:
        if not 0 < self.window <= 3600:
            raise UserError(f"a window of {self.window} s; it must last up to 3600 s")
        if self.hop is not None and not 0 < self.hop <= 86400:
            raise UserError(f"a window every {self.hop} s; give 0 to 86400 s")
        if self.alarms_a_month is not None and self.false_alarms is not None:
            raise UserError(
                "alarms_a_month and false_alarms both choose the thresholds; give one of them"
            )

    @property
    def cadence(self) -> Cadence:
        """How windows follow one another."""
        return Cadence(self.window, self.hop_seconds)

    @property
    def hop_seconds(self) -> float:
        """Seconds from one window's begin to the next one's."""
        return self.window / 2 if self.hop is None else self.hop


def usual_seconds(run_dir: os.PathLike | str, fitted: Fitted) -> float | None:
    """How long the training clips of a run usually are, in seconds; None where nothing says it.

    Args:
        run_dir: of the run, or its model's file.
        fitted: its system.
    """
    with contextlib.suppress(OSError, ValueError, TypeError, KeyError):
        known = json.loads(RunDirectory(run_dir).data.read_text(encoding="utf-8"))
        if known["clip_seconds"]:
            return float(known["clip_seconds"])
    if isinstance(fitted, FittedDetector) and FRAMES in fitted.calibration:
        front_end = fitted.config.front_end
        # The number of frames of a clip with centred ones is that of its hops, and one more.
        n_frames = float(fitted.calibration[FRAMES].mean()) - front_end.center
        return n_frames * front_end.hop_length / front_end.sample_rate
    return None


def sharing_hop(fitted: Fitted, window: float, hop: float) -> float:
    """The longest time up to `hop` after which windows share frames, in seconds.

    They do where one begins whole hops of the front end after the other, of all front ends where
    the run has several.

    Args:
        fitted: of the run.
        window: seconds of a window.
        hop: seconds from one window's begin to the next one's.

    Returns:
        `hop` itself where nothing is to be shared, as windows do not overlap or networks hear
        waveforms; and where it would be less than three quarters of it.
    """
    steps = _frame_steps(fitted)
    if not steps or hop >= window:
        return hop
    step = functools.reduce(_common, steps)
    shared = float(math.floor(Fraction(str(hop)) / step) * step)
    return shared if shared >= 0.75 * hop else hop


def _frame_steps(fitted: Fitted) -> set[Fraction]:
    """Seconds from one frame to the next one, of each front end that computes spectra."""
    if isinstance(fitted, FittedMembers):
        return {step for member in fitted.members.values() for step in _frame_steps(member)}
    if not isinstance(fitted, FittedDetector) or fitted.config.detector.hears_waveforms:
        return set()
    front_end = fitted.config.front_end
    return {Fraction(front_end.hop_length, front_end.sample_rate)}


def _common(a: Fraction, b: Fraction) -> Fraction:
    """The least common multiple."""
    top = math.lcm(a.numerator * b.denominator, b.numerator * a.denominator)
    return Fraction(top, a.denominator * b.denominator)


@contextlib.contextmanager
def watching(
    fitted: Fitted,
    streams: Sequence[Stream],
    settings: WatchSettings,
    state_dir: os.PathLike | str,
    *,
    out: os.PathLike | str | None = None,
    sources: Callable[[Stream, StreamState | None], Source] | None = None,
    report: Callable[[str], None] = print,
) -> Iterator[Watch]:
    """A watch that is ready to run.

    Args:
        fitted: of a run.
        streams: with different names.
        settings: of the watch.
        state_dir: where the state is kept; a folder with one goes on from there.
        out: file to which lines are added; standard output by default.
        sources: makes the source of a stream, given its state; by default what its path says.
        report: called with lines for people.

    Raises:
        UserError: two streams of one name; a state that is in use, damaged or of other windows; a
            file that cannot be written; a rate of false alarms that cannot be promised.

    Examples:
        >>> from asd_jax import load
        >>> from asd_jax.deploy.watch.streams import Stream
        >>> streams = [Stream("fan_00", "FOLDER", ("fan", "00"))]
        >>> with watching(  # doctest: +SKIP
        ...     load("RUN"), streams, WatchSettings(window=10.0), "STATE", out="lines.jsonl"
        ... ) as watch:
        ...     watch.run(lambda: False)
    """
    check_names(streams)
    state = WatchState(state_dir)
    deliverers: list[Deliverer] = []
    try:
        windows = f"{settings.window:g} s every {settings.hop_seconds:g} s"
        state.check("windows", windows, "its windows are others")
        known = {stream.name: state.stream(stream.name) for stream in streams}
        alarming = Alarming(
            fitted,
            streams,
            settings.rule,
            {name: own for name, own in known.items() if own is not None},
            false_alarms=settings.false_alarms,
            clear_false_alarms=settings.clear_false_alarms,
            alarms_a_month=settings.alarms_a_month,
            cadence=settings.cadence,
        )
        for line in promise_lines(fitted, settings.rule, settings.cadence, alarming.of_groups):
            report(line)
        lines: Lines = LineStream()
        if out is not None:
            lines = LineFile(out, state.setting("lines") or "")
        made = [
            sources(stream, known[stream.name])
            if sources is not None
            else _source(stream, known[stream.name], settings, state, len(streams), report)
            for stream in streams
        ]
        timeout = settings.alarm_timeout
        if settings.on_alarm:
            send = to_command(settings.on_alarm, timeout)
            deliverers.append(Deliverer(COMMAND, send, report))
        if settings.alarm_url:
            deliverers.append(Deliverer(URL, to_url(settings.alarm_url, timeout), report))
        states = WindowStates(fitted, streams, report)
        scorer = WindowScorer(fitted, [stream.group for stream in streams])
        yield Watch(
            scorer,
            alarming,
            made,
            state,
            lines,
            deliverers=deliverers,
            evidence=Evidence(state_dir, report),
            states=states,
            report=report,
            report_every=settings.report_every,
        )
    finally:
        for each in deliverers:
            each.close(0.0)
        state.close()


def _source(
    stream: Stream,
    known: StreamState | None,
    settings: WatchSettings,
    state: WatchState,
    n_streams: int,
    report: Callable[[str], None],
) -> Source:
    position = None if known is None else known.position
    window, hop = settings.window, settings.hop_seconds
    if stream.pcm is not None:
        return PcmSource(
            stream.name,
            stream.path,
            stream.pcm,
            window,
            hop,
            position,
            once=settings.once,
            report=report,
        )
    if known is None and not Path(stream.path).is_dir():
        raise UserError(f"stream {stream.name}: no folder {stream.path}")
    return FolderSource(
        stream.name,
        stream.path,
        window,
        hop,
        position,
        state.done(stream.name),
        settle=settings.settle,
        give_up=settings.give_up,
        once=settings.once,
        n_folders=n_streams,
        report=report,
    )
