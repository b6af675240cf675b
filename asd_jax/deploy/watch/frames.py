"""Frames of windows, each as of a recording; those that overlapping windows share are made once.

    window         ├────────────────────┤
    its frames    e======================e      e: reach into its padding, and are its own alone
    the next one            ├────────────────────┤
    its frames             e==============######e     =: known of the one before, #: to be computed

What is to be computed for a batch of windows lies one behind the other on a tape, each piece from a
place where a frame begins; the frames that reach from one piece into the next are of no use. The
tape goes through the front end in lengths that are always the same, so that one compiled program
serves windows of any length and number.
"""

import functools
import threading
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from asd_jax.deploy.watch.windows import Place
from asd_jax.features.request import ClipFrontEnd

# The tape's parts on a CPU, of the frames that a front end computes at once: a watch of sound as it
# comes has few windows at a time. A GPU or TPU is given more, as it has more memory.
_SHARE_OF_CPU, _OF_ACCELERATOR = 4, 8


class _Known(NamedTuple):
    """Frames of a stream that the next window may share.

    Attributes:
        place: of the window that they are of.
        begin: first sample of the first of them, in the signal.
        frames: (frames, width).
    """

    place: Place
    begin: int
    frames: np.ndarray

    def shared(self, place: Place, begin: int, count: int, hop: int) -> slice:
        """Those of them with which `count` frames of another window, from a sample on, begin."""
        first, rest = divmod(begin - self.begin, hop)
        if place.signal != self.place.signal or rest or first < 0:
            return slice(0, 0)
        return slice(first, max(first, min(first + count, len(self.frames))))


class _Whole(NamedTuple):
    """The frames of a window that lie within its samples.

    Attributes:
        before: samples of padding before the window.
        first: the first of these frames.
        end: the first one behind them.
    """

    before: int
    first: int
    end: int


class WindowFrames:
    """Computes frames of windows, and remembers those that the next window of a stream may share.

    Args:
        front_end: computes them.

    Examples:
        >>> from asd_jax.audio import FrontEnd
        >>> frames = WindowFrames(FrontEnd(n_mels=64))
        >>> [own.shape for own in frames.of([np.zeros(16000, np.float32)], [None])]
        [(32, 64)]
    """

    def __init__(self, front_end: ClipFrontEnd):
        self._front_end = front_end
        self._known: dict[str, _Known] = {}  # by stream
        self._lock = threading.Lock()

    def of(
        self, waveforms: Sequence[np.ndarray], places: Sequence[Place | None]
    ) -> list[np.ndarray]:
        """Frames of windows, those of one stream in the order of their time.

        Args:
            waveforms: float32 (samples,) each, of the front end's rate; none without a frame.
            places: where each lies; None where it shares nothing with others.

        Returns:
            (frames, width) of each, as of the window saved as a recording.
        """
        with self._lock:
            known = dict(self._known)
        made, hop = [], self._front_end.hop_length
        tape = _Tape(self._front_end)
        taken: list[tuple[np.ndarray, np.ndarray]] = []  # where shared frames go, and are
        for waveform, place in zip(waveforms, places, strict=True):
            n_frames = self._front_end.frames(len(waveform))
            frames = np.empty((n_frames, self._front_end.width), self._front_end.dtype)
            made.append(frames)
            padded, whole = self._padded(waveform), self._whole(len(waveform), n_frames)
            count = 0  # of frames that are known, from the first whole one on
            if place is not None and whole.first < whole.end:
                before = known.get(place.stream)
                begin = place.first + whole.first * hop - whole.before
                if before is not None:
                    shared = before.shared(place, begin, whole.end - whole.first, hop)
                    count = shared.stop - shared.start
                    goal = frames[whole.first : whole.first + count]
                    taken.append((goal, before.frames[shared]))
                known[place.stream] = self._to_know(before, place, begin, frames, whole)
            if count:
                tape.lay(padded, 0, frames[: whole.first])
                tape.lay(padded, whole.first + count, frames[whole.first + count :])
            else:
                tape.lay(padded, 0, frames)
        tape.compute()
        for into, of in taken:  # in the order of time: a window may share what the last one shared
            into[:] = of
        self._remember(known)
        return made

    def _whole(self, n_samples: int, n_frames: int) -> _Whole:
        front_end = self._front_end
        before, _ = front_end.padding(n_samples)
        first = -(-before // front_end.hop_length)
        end = (n_samples + before - front_end.n_fft) // front_end.hop_length + 1
        return _Whole(before, first, min(end, n_frames))

    def _padded(self, waveform: np.ndarray) -> list[np.ndarray]:
        """A window with its padding, in parts that lie one behind the other."""
        before, behind = self._front_end.padding(len(waveform))
        mode: Any = getattr(self._front_end, "pad_mode", "constant")
        if len(waveform) <= max(before, behind):  # reflected more than once
            return [np.pad(waveform, (before, behind), mode=mode)]
        head, tail = waveform[: before + 1], waveform[len(waveform) - behind - 1 :]
        return [
            np.pad(head, (before, 0), mode=mode)[:before],
            waveform,
            np.pad(tail, (0, behind), mode=mode)[behind + 1 :],
        ]

    def _to_know(
        self, before: _Known | None, place: Place, begin: int, frames: np.ndarray, whole: _Whole
    ) -> _Known:
        """What to remember of a window: what the next one shares, if it follows as this one did."""
        hop, ahead = self._front_end.hop_length, 0
        if before is not None and before.place.signal == place.signal:
            ahead, rest = divmod(max(0, place.first - before.place.first), hop)
            if rest:
                ahead = whole.end  # windows whose frames begin between those of others
        first = min(whole.first + ahead, whole.end)
        return _Known(place, begin + (first - whole.first) * hop, frames[first : whole.end])

    def _remember(self, known: dict[str, _Known]) -> None:
        with self._lock:
            for stream, own in known.items():
                last = self._known.get(stream)
                if last is own:
                    continue
                is_late = (  # another thread was faster with a later window
                    last is not None
                    and last.place.signal == own.place.signal
                    and last.place.first > own.place.first
                )
                if not is_late:
                    # A part would keep all frames of the window in memory.
                    self._known[stream] = own._replace(frames=own.frames.copy())


class _Tape:
    """Samples that are to become frames, one piece behind the other.

    Args:
        front_end: computes the frames.
    """

    def __init__(self, front_end: ClipFrontEnd):
        self._front_end = front_end
        on_cpu = jax.default_backend() == "cpu"
        at_once = front_end.frames_at_once
        self._slots = max(1, at_once // _SHARE_OF_CPU if on_cpu else at_once * _OF_ACCELERATOR)
        self._parts: list[np.ndarray] = []
        self._goals: list[list[tuple[int, np.ndarray]]] = []  # of each part, by its first frame
        self._next = self._slots  # frame of the last part with which the next piece begins

    def lay(self, padded: Sequence[np.ndarray], first: int, frames: np.ndarray) -> None:
        """Lays what some frames of a window are made of.

        Args:
            padded: samples of the window with its padding, in parts.
            first: of the window's frames, the first that is wanted.
            frames: (frames, width) array in which they are wanted.
        """
        n_fft, hop = self._front_end.n_fft, self._front_end.hop_length
        done = 0
        while done < len(frames):
            if self._next >= self._slots:
                self._parts.append(np.zeros((self._slots - 1) * hop + max(n_fft, hop), np.float32))
                self._goals.append([])
                self._next = 0
            count = min(len(frames) - done, self._slots - self._next)
            n_samples = (count - 1) * hop + n_fft
            own = self._parts[-1][self._next * hop :][:n_samples]
            _copy(padded, (first + done) * hop, own)
            self._goals[-1].append((self._next, frames[done : done + count]))
            self._next += -(-n_samples // hop)
            done += count

    def compute(self) -> None:
        """Computes all frames."""
        program = _program(self._front_end)  # type: ignore[arg-type]  # a frozen dataclass
        found = [program(part[None]) for part in self._parts]
        for of_part, goals in zip(found, self._goals, strict=True):
            values = np.asarray(of_part)[0]
            for first, frames in goals:
                frames[:] = values[first : first + len(frames)]


@functools.lru_cache(maxsize=8)
def _program(front_end: ClipFrontEnd) -> Callable[[np.ndarray], jax.Array]:
    """Compiles (1, samples) → (1, frames, width)."""
    return jax.jit(front_end.of_padded)


def _copy(parts: Sequence[np.ndarray], start: int, into: np.ndarray) -> None:
    """Copies samples from one on, of parts that lie one behind the other."""
    at = -start  # where a part begins in what is copied to
    for part in parts:
        first, end = max(at, 0), min(at + len(part), len(into))
        if first < end:
            into[first:end] = part[first - at : end - at]
        at += len(part)
