"""Progress of a run: a bar on a terminal, plain lines elsewhere."""

import math
import sys
import time
from collections.abc import Mapping
from typing import IO, Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from asd_jax.errors import UserError
from asd_jax.runtime.streams import discard

# What is called of a reporter.
_METHODS = ("line", "start", "advance", "within", "epoch", "stop")


def is_terminal(stream: IO) -> bool:
    """True if the stream is a terminal."""
    return hasattr(stream, "isatty") and stream.isatty()


class Reporter:
    """Shows the progress of a run, and hears of each epoch: the callback of this package.

    `asd_jax.run` and `asd_jax.fit` take one as `reporter=`. Override what you need; any object with
    these six methods will do. A stage is `start`, any number of `advance` and `within`, `stop`;
    stages follow one another. An exception from a method ends the call that it came from; what was
    saved is kept, and the same call continues from there.

    Args:
        stream: standard error by default, so that tables on standard output can be piped.
        every: seconds between plain lines; three times as many within a part.

    Examples:
        >>> import io
        >>> stream = io.StringIO()
        >>> reporter = Reporter(stream)
        >>> reporter.start("epoch", total=2)
        >>> reporter.advance(2, "loss 0.5")
        >>> reporter.stop()
        >>> stream.getvalue()
        'epoch 2/2  loss 0.5  0:00 left\\n'
    """

    def __init__(self, stream: IO | None = None, every: float = 10.0):
        self._stream = stream or sys.stderr
        self._every = every
        self._bar: Progress | None = None
        self._shown = -math.inf
        self._label, self._total, self._begin, self._first, self._last = "", 0, 0.0, 0, 0
        self._done = 0
        self._closed = False

    def line(self, text: str) -> None:
        """Writes one line; a bar in progress stays below it."""
        if self._bar is not None:
            self._bar.console.print(text, markup=False, highlight=False)
        elif not self._closed:
            try:
                print(text, file=self._stream, flush=True)
            except OSError:  # whoever read a pipe has ended; the work goes on
                self._closed = True
                discard(self._stream)

    def start(self, label: str, total: int, done: int = 0) -> None:
        """Begins a stage of `total` equal parts, with `done` parts done already."""
        self._label, self._total, self._first, self._last = label, total, done, -1
        self._done = done
        self._begin, self._shown = time.monotonic(), -math.inf
        if is_terminal(self._stream):
            self._bar = Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn("{task.fields[note]}"),
                TimeRemainingColumn(),
                console=Console(file=self._stream),
            )
            self._task = self._bar.add_task(label, total=total, completed=done, note="")
            self._bar.start()

    def advance(self, done: int, note: str = "") -> None:
        """Shows that `done` parts are done, beside a note."""
        self._done = done
        if self._bar is not None:
            self._bar.update(self._task, completed=done, note=note)
            return
        now = time.monotonic()
        if now - self._shown >= self._every or done == self._total != self._last:
            self._shown, self._last = now, done
            fresh = done - self._first
            left = (now - self._begin) / fresh * (self._total - done) if fresh > 0 else math.inf
            remaining = f"{_clock(left)} left" if math.isfinite(left) else ""
            parts = [f"{self._label} {done}/{self._total}", note, remaining]
            self.line("  ".join(part for part in parts if part))

    def within(self, text: str) -> None:
        """Shows how far a part is that takes long."""
        if self._bar is not None:
            self._bar.update(self._task, note=text)
            return
        now = time.monotonic()
        if now - max(self._shown, self._begin) >= 3 * self._every:
            self._shown = now
            self.line(f"{self._label} {self._done + 1}/{self._total}: {text}")

    def epoch(self, entry: Mapping[str, Any]) -> bool | None:
        """Hears of an epoch that is over; by default does nothing.

        Args:
            entry: what `log.jsonl` has of the epoch: "epoch" from 1, "time", "seconds", "steps",
                "steps_per_second", "views_per_second", "learning_rate", and "loss" and
                "validation_loss" by the models' names. Where variants of a run are one fleet there
                is an entry for each, with its name as "variant".

        Returns:
            True to end the training of all models of the entry. They keep their weights, with
            `train.patience` the best ones, and are calibrated, given thresholds and scored as after
            their last epoch. A run stays so when its command is given again.
        """
        return None

    def stop(self) -> None:
        """Ends the stage."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None


class Silent(Reporter):
    """Shows nothing, for use as a library."""

    def line(self, text: str) -> None:
        """Nothing."""

    def start(self, label: str, total: int, done: int = 0) -> None:
        """Nothing."""

    def advance(self, done: int, note: str = "") -> None:
        """Nothing."""

    def within(self, text: str) -> None:
        """Nothing."""


def check_reporter(reporter: Any) -> None:
    """Raises UserError where an object is no reporter, nor None.

    Examples:
        >>> check_reporter(print)
        Traceback (most recent call last):
        asd_jax.errors.UserError: reporter is a builtin_function_or_method without line, start, \
advance, within, epoch, stop; give an asd_jax.Reporter, or an object with its methods
    """
    if reporter is None:
        return
    kind = "the class" if isinstance(reporter, type) else f"a {type(reporter).__name__}"
    lacking = [name for name in _METHODS if not callable(getattr(reporter, name, None))]
    if lacking or isinstance(reporter, type):
        what = f" without {', '.join(lacking)}" if lacking else f" {reporter.__name__}, not one"
        raise UserError(
            f"reporter is {kind}{what}; give an asd_jax.Reporter, or an object with its methods"
        )


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"
