"""Watches streams: reads, scores, decides, writes, tells; in memory that does not grow.

    sources → (threads) queue → batches → (threads) scores → alarm rule → records
                                                  → one transaction → lines, messages

What is scored is kept in a transaction twice a second (`state`), then written as lines and
delivered as messages. Where disks are full, results wait in a bounded number, then sources wait.
"""

import collections
import queue
import sqlite3
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np

from asd_jax.deploy.watch.alarming import Alarming
from asd_jax.deploy.watch.delivery import Deliverer
from asd_jax.deploy.watch.evidence import Evidence
from asd_jax.deploy.watch.meters import Meter, tally_table
from asd_jax.deploy.watch.output import Lines
from asd_jax.deploy.watch.pending import Pending, addressed
from asd_jax.deploy.watch.reading import Reading
from asd_jax.deploy.watch.reading import Source as Source
from asd_jax.deploy.watch.scorer import Heard, Scored, WindowScorer
from asd_jax.deploy.watch.set_ups import SetUps
from asd_jax.deploy.watch.state import Changes, Message, WatchState
from asd_jax.deploy.watch.states import WindowStates
from asd_jax.deploy.watch.windows import Window
from asd_jax.errors import UserError
from asd_jax.runtime.side_by_side import dispatchers

_BATCH = 64  # windows that are scored together
_QUEUED = 4 * _BATCH
_IDLE = 0.05  # seconds to wait for something new
_COMMIT_SECONDS = 0.5
_MOST_PENDING = 20_000  # windows in memory that no disk takes
_MOST_UNWRITTEN = 2**28  # bytes of lines in the state whose own file cannot be written
_RETRY_SECONDS = 5.0


class Watch:
    """Watches streams until they end, or for ever.

    Args:
        scorer: of the run.
        alarming: decisions and alarms of the streams.
        sources: one of each stream.
        state: from which the streams go on.
        lines: where records go.
        deliverers: of alarms.
        evidence: keeps the sound of alarms.
        states: says the operating states of windows; none are known by default.
        report: called with lines for people.
        report_every: seconds between lines on the speed.
    """

    def __init__(
        self,
        scorer: WindowScorer,
        alarming: Alarming,
        sources: Sequence[Source],
        state: WatchState,
        lines: Lines,
        *,
        deliverers: Sequence[Deliverer] = (),
        evidence: Evidence | None = None,
        states: WindowStates | None = None,
        report: Callable[[str], None] = print,
        report_every: float = 60.0,
    ):
        self.meter = Meter()
        self._scorer, self._alarming, self._sources = scorer, alarming, sources
        self._state, self._lines, self._report = state, lines, report
        self._deliverers = {each.target: each for each in deliverers}
        self._report_every, self._evidence, self._states = report_every, evidence, states
        self._set_ups = SetUps(report)
        self._queue: queue.Queue[Window | BaseException] = queue.Queue(_QUEUED)
        self._pending = Pending()
        self._last_commit = self._last_line = time.monotonic()
        self._written = 0  # number of the last lines that are in their file
        self._unwritten = 0  # bytes of lines that are in the state alone
        self._full: dict[str, float] = {}  # what cannot be written, and when it was tried last
        for message in state.messages():
            self._deliver(message)

    def run(self, should_stop: Callable[[], bool] = lambda: False) -> None:
        """Watches until all streams have ended, or `should_stop()`.

        Raises:
            UserError: results could not be written in the end; the next watch scores their windows
                again.
        """
        for number, data in self._state.lines():  # of a process that was killed
            if not self._write(number, data):
                self._unwritten += len(data)
        reading = Reading(self._sources, self._queue, self._report)
        reading.start()
        try:
            self._loop(reading, should_stop)
        finally:
            reading.stop()
        self._end()

    def summary(self, width: int | None = None) -> list[str]:
        """A table of the streams, and a line on the speed, since the watch was started."""
        meter, half = self.meter, self.meter.latencies.percentile(0.5)
        most = self.meter.latencies.percentile(0.99)
        line = f"{meter.windows:,} windows  {meter.rate():,.1f} x real time"
        if meter.windows:
            line += f"  latency {half:.2g} s, 99 % within {most:.2g} s"
        return [*tally_table(self._alarming.tallies, width), line]

    def _loop(self, reading: Reading, should_stop: Callable[[], bool]) -> None:
        threads = dispatchers()
        under_way: collections.deque[tuple[list[Window], Future[Scored]]] = collections.deque()
        with ThreadPoolExecutor(threads, thread_name_prefix="watch_scores") as pool:
            while not should_stop():
                ended = reading.is_done  # before the queue is looked at
                batch = [] if self._is_blocked() else self._collect()
                if batch:
                    batch = [*map(self._in_state, batch)]
                    under_way.append((batch, pool.submit(self._score, batch)))
                while under_way and (len(under_way) > threads or not batch):
                    windows, scores = under_way.popleft()
                    self._take(windows, scores.result())
                self._commit_if_due(idle=not batch)
                self._tell()
                reading.look()
                left = self._pending.windows or self._unwritten
                if ended and not batch and self._queue.empty() and not left:
                    break
            while under_way:
                windows, scores = under_way.popleft()
                self._take(windows, scores.result())

    def _collect(self) -> list[Window]:
        """Windows to be scored together; waits a moment where there is none."""
        batch: list[Window] = []
        try:
            while len(batch) < _BATCH:
                item = self._queue.get(block=not batch, timeout=_IDLE)
                if isinstance(item, BaseException):
                    raise item
                batch.append(item)
        except queue.Empty:
            pass
        return batch

    def _in_state(self, window: Window) -> Window:
        """The window with its state, or with why that is not to be had."""
        if self._states is None or window.samples is None:
            return window
        state, problem = self._states.of(window)
        return window._replace(state=state, problem=window.problem or problem)

    def _score(self, batch: Sequence[Window]) -> Scored:
        wanted = [window.samples is not None and not window.problem for window in batch]
        heard = [
            Heard(
                window.samples,
                window.sample_rate,
                self._alarming.stream(window.stream).group,
                window.usual,
                window.state,
                window.place,
            )
            for window in batch
            if window.samples is not None and not window.problem
        ]
        scored = self._scorer.score(heard)
        scores, problems = np.full(len(batch), np.nan), [window.problem for window in batch]
        states, unscored = [window.state for window in batch], [""] * len(batch)
        set_ups = [""] * len(batch)
        for number, place in enumerate(np.flatnonzero(wanted).tolist()):
            scores[place], problems[place] = scored.scores[number], scored.problems[number]
            if scored.states:
                states[place], unscored[place] = scored.states[number], scored.unscored[number]
            if scored.set_ups:
                set_ups[place] = scored.set_ups[number]
        return Scored(scores, problems, states, unscored, set_ups)

    def _take(self, windows: Sequence[Window], scored: Scored) -> None:
        judged = self._alarming.judge(windows, scored)
        self._pending.add(windows, judged)
        self._set_ups.hear(judged.records)

    def _commit_if_due(self, *, idle: bool) -> None:
        now = time.monotonic()
        due = idle or now - self._last_commit >= _COMMIT_SECONDS
        waits = any(now - tried < _RETRY_SECONDS for tried in self._full.values())
        if due and not waits:
            self._last_commit = now
            self._commit()

    def _commit(self) -> None:
        """Keeps what is pending, and writes its lines; what fails is tried again later."""
        if self._unwritten:
            self._write_backlog()
        pending = self._pending
        delivered = [each for own in self._deliverers.values() for each in own.take_delivered()]
        pending.delivered += delivered
        forgotten = [
            (source.name, number) for source in self._sources for number in source.take_forgotten()
        ]
        pending.forgotten += forgotten
        if not (pending.windows or pending.delivered or pending.forgotten):
            return
        messages = [
            message for each in pending.messages for message in addressed(each, self._deliverers)
        ]
        data = b"".join(pending.lines)
        changes = Changes(
            {name: self._alarming.kept(name) for name in pending.streams},
            pending.done,
            pending.forgotten,
            data,
            messages,
            pending.delivered,
            self._written,
            {"lines": self._lines.place},
        )
        try:
            number = self._state.commit(changes)
        except sqlite3.Error as error:
            self._fails("the state", f"{self._state.path}: {error}")
            return
        self._works("the state")
        self._pending = Pending()
        for message in messages:
            self._deliver(message)
        if self._evidence is not None:
            self._evidence.keep(pending.heard)
        if number is not None and not self._write(number, data):
            self._unwritten += len(data)
        now = time.monotonic()
        self.meter.add(pending.sound, now - np.array(pending.arrived))

    def _write(self, number: int, data: bytes) -> bool:
        """Writes lines, unless others before them wait."""
        if self._unwritten:
            return False
        try:
            self._lines.write(data)
        except BrokenPipeError:  # nobody reads any more
            raise
        except OSError as error:
            self._fails("the lines", str(error.strerror or error))
            return False
        self._works("the lines")
        self._written = number
        return True

    def _write_backlog(self) -> None:
        waiting, self._unwritten = self._unwritten, 0
        for number, data in self._state.lines():
            if number > self._written and not self._write(number, data):
                self._unwritten = waiting
                return

    def _fails(self, what: str, why: str) -> None:
        if what not in self._full:
            self._report(
                f"{what} cannot be written: {why}; results wait, and are written when there is "
                f"space; reading stops when {_MOST_PENDING:,} windows wait"
            )
        self._full[what] = time.monotonic()

    def _works(self, what: str) -> None:
        if self._full.pop(what, None) is not None:
            self._report(f"{what} can be written again; nothing is lost")

    def _is_blocked(self) -> bool:
        """Whether so much waits to be written that sources have to wait as well."""
        blocked = self._pending.windows >= _MOST_PENDING or self._unwritten >= _MOST_UNWRITTEN
        if blocked:
            time.sleep(_IDLE)
        return blocked

    def _deliver(self, message: Message) -> None:
        if message.target in self._deliverers:
            self._deliverers[message.target].add(message)

    def _tell(self) -> None:
        now = time.monotonic()
        if now - self._last_line < self._report_every:
            return
        self._last_line = now
        count, alarms = len(self._sources), self._alarming.n_active
        line = f"{count} stream{'s' * (count != 1)}  {self.meter.line()}  "
        line += f"{alarms} alarm{'s' * (alarms != 1)}"
        waiting = sum(each.waiting for each in self._deliverers.values())
        self._report(line + (f"  {waiting} messages wait" if waiting else ""))

    def _end(self) -> None:
        """Keeps the rest, and lets messages that wait be tried once more."""
        self._commit()
        if not self._pending.windows:
            for each in self._deliverers.values():
                each.close(10.0)
            self._commit()
            self._forget_written()
        if self._pending.windows or self._unwritten:
            raise UserError(
                f"{self._pending.windows} windows could not be kept, and {self._unwritten} bytes "
                "of lines not be written; the same command goes on from there",
                exit_status=1,
            )

    def _forget_written(self) -> None:
        """Notes that lines are written, which the next transaction would."""
        if self._written:
            try:
                settings = {"lines": self._lines.place}
                self._state.commit(Changes(written=self._written, settings=settings))
            except sqlite3.Error:  # the next process sees it by their content
                pass
