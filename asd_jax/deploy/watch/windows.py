"""Windows of a signal that goes on: overlapping, cut from blocks as they come, in fixed memory."""

from collections.abc import Hashable, Iterator
from typing import Any, NamedTuple

import numpy as np


class Place(NamedTuple):
    """Where a window lies; windows of one signal have the same samples where they overlap.

    Attributes:
        stream: name of the stream.
        signal: what it is cut from: a recording, or what one writer has written.
        first: number of its first sample there.
    """

    stream: str
    signal: Hashable
    first: int


class Window(NamedTuple):
    """A window of a stream, or a recording of it that is left out.

    Attributes:
        stream: name of the stream.
        samples: float32 (samples, channels), full scale at 1; None of a recording that is left out.
        sample_rate: in Hz.
        begin: in seconds of the stream: of sound that it has had so far, whatever clocks say.
        seconds: its length.
        file: the recording that it is from, from the stream's folder on; "" of raw PCM.
        file_begin: in seconds of the recording.
        wall_end: when its last sample was recorded, as seconds of POSIX time.
        arrived: when its last sample was here, by the monotonic clock.
        usual: whether it is as long as windows are set to be.
        problem: why it cannot be scored; "" where it can.
        position: where the stream goes on after it, of JSON's types.
        done: number of the recording that ends with it, see `folders.number_of`; None of others.
        state: of the machine, as in `Clip`; "" where it is not known.
        place: where it lies; None where that is not known, and it shares nothing with others.
    """

    stream: str
    samples: np.ndarray | None
    sample_rate: int
    begin: float
    seconds: float
    file: str = ""
    file_begin: float = 0.0
    wall_end: float = 0.0
    arrived: float = 0.0
    usual: bool = True
    problem: str = ""
    position: Any = None
    done: int | None = None
    state: str = ""
    place: Place | None = None


def window_begins(n_samples: int, window: int, hop: int) -> list[int]:
    """First samples of a recording's windows; the last one ends where the recording does.

    Args:
        n_samples: of the recording, at least one.
        window: samples of a window.
        hop: samples from one window's begin to the next one's.

    Returns:
        Ascending; [0] of a recording that is shorter than a window, which it then is as a whole.

    Examples:
        >>> window_begins(10, window=4, hop=2), window_begins(11, window=4, hop=2)
        ([0, 2, 4, 6], [0, 2, 4, 6, 7])
        >>> window_begins(3, window=4, hop=2)
        [0]
    """
    begins = [*range(0, n_samples - window + 1, hop)] or [0]
    if begins[-1] + window < n_samples:
        begins.append(n_samples - window)
    return begins


class Cutter:
    """Cuts blocks of samples into windows as soon as these are complete.

    Args:
        window: samples of a window.
        hop: samples from one window's begin to the next one's.
        skip: first windows that are passed over.

    Attributes:
        n_samples: samples so far.

    Examples:
        >>> cutter = Cutter(window=4, hop=2)
        >>> blocks = np.arange(7.0, dtype=np.float32)[:, None]
        >>> [(begin, cut.ravel().tolist()) for begin, cut in cutter.add(blocks)]
        [(0, [0.0, 1.0, 2.0, 3.0]), (2, [2.0, 3.0, 4.0, 5.0])]
        >>> [(begin, cut.ravel().tolist()) for begin, cut in cutter.finish()]
        [(3, [3.0, 4.0, 5.0, 6.0])]
    """

    def __init__(self, window: int, hop: int, skip: int = 0):
        self._window, self._hop = window, hop
        self._next = skip * hop  # begin of the next window
        self._covered = (skip - 1) * hop + window if skip else 0
        self._kept: list[np.ndarray] = []  # blocks that windows to come may need
        self._first = 0  # sample with which they begin
        self.n_samples = 0

    @property
    def waiting(self) -> int:
        """Samples that are still missing for the next window."""
        return self._next + self._window - self.n_samples

    def add(self, block: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
        """Adds samples (samples, channels); yields begin and samples of each complete window."""
        self._kept.append(block)
        self.n_samples += len(block)
        if self._next + self._window > self.n_samples:
            self._forget()
            return
        samples = np.concatenate(self._kept)
        self._kept = [samples]
        while self._next + self._window <= self.n_samples:
            begin = self._next
            self._next += self._hop
            self._covered = begin + self._window
            yield begin, samples[begin - self._first : self._covered - self._first]
        self._forget()

    def finish(self) -> Iterator[tuple[int, np.ndarray]]:
        """At the signal's end, yields the window up to it, if no window has it all."""
        if self.n_samples > self._covered:
            begin = max(0, self.n_samples - self._window)
            self._covered = self.n_samples
            yield begin, np.concatenate(self._kept)[begin - self._first :]

    def _forget(self) -> None:
        """Drops blocks that neither the next window nor the last one can need."""
        needed = min(self._next, self.n_samples - self._window)
        while self._kept and self._first + len(self._kept[0]) <= needed:
            self._first += len(self._kept.pop(0))
        if len(self._kept) == 1 and needed > self._first:
            self._kept[0] = self._kept[0][needed - self._first :].copy()
            self._first = needed
