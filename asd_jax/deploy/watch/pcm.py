"""Raw PCM from standard input or named pipes, as arecord, sox and ffmpeg write it."""

import contextlib
import os
import select
import stat
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np

from asd_jax.deploy.watch.windows import Cutter, Place, Window
from asd_jax.errors import UserError, nearest

STANDARD_INPUT = "-"
# NumPy's type by ffmpeg's name; those of 24 bits have none, see `decode`.
FORMATS = {
    "u8": "u1",
    "s8": "i1",
    "s16le": "<i2",
    "s16be": ">i2",
    "s24le": "",
    "s24be": "",
    "s32le": "<i4",
    "s32be": ">i4",
    "f32le": "<f4",
    "f32be": ">f4",
}
_READ = 2**16  # bytes at a time, as much as a pipe holds
_MOST_READ = 2**22  # bytes in one turn of a stream


class PcmFormat(NamedTuple):
    """How samples are written.

    Attributes:
        name: one of `FORMATS`.
        sample_rate: in Hz.
        channels: of a frame, one after another.
    """

    name: str
    sample_rate: int
    channels: int

    @property
    def frame_bytes(self) -> int:
        """Bytes of one sample of all channels."""
        return self.channels * int("".join(filter(str.isdigit, self.name))) // 8


def format_name(text: str) -> str:
    """The name of a format as ffmpeg, sox or arecord write it.

    Raises:
        UserError: there is no such format.

    Examples:
        >>> format_name("S16_LE"), format_name("f32le")
        ('s16le', 'f32le')
    """
    name = text.lower().replace("_", "").replace("float", "f32")
    name = "s24le" if name == "s243le" else name  # arecord's, of three bytes a sample
    if name not in FORMATS:
        raise UserError(
            f"--pcm={text}: no such format{nearest(name, [*FORMATS])}; there are "
            + ", ".join(FORMATS)
        )
    return name


def decode(data: bytes, settings: PcmFormat) -> np.ndarray:
    """Turns bytes into samples.

    Args:
        data: whole frames.
        settings: how they are written.

    Returns:
        float32 (samples, channels), full scale at 1, as soundfile reads them from a file.

    Examples:
        >>> decode(bytes([0, 64, 0, 192]), PcmFormat("s16le", 16000, 2)).tolist()
        [[0.5, -0.5]]
    """
    values = np.frombuffer(data, FORMATS[settings.name] or np.uint8)
    if not FORMATS[settings.name]:  # into the upper three bytes of four
        wide = np.zeros((len(data) // 3, 4), np.uint8)
        wide[:, 1:] = values.reshape(-1, 3)[:, :: 1 if settings.name == "s24le" else -1]
        values = wide.view("<i4")[:, 0]
    samples: np.ndarray = values.astype(np.float32)
    if settings.name == "u8":
        samples = (samples - 128) / 128
    elif values.dtype.kind == "i":
        samples *= np.float32(2.0 ** (1 - 8 * values.dtype.itemsize))
    return samples.reshape(-1, settings.channels)


class PcmSource:
    """Windows of a stream of raw PCM.

    What is read counts as the stream's time. A named pipe whose writer ends is read on when there
    is another one; no window has sound of both. Standard input ends once.

    Args:
        name: of the stream.
        path: of a named pipe; "-" for standard input.
        settings: how samples are written.
        window: seconds of a window.
        hop: seconds from one window's begin to the next one's.
        position: where the stream goes on, from `Window.position`; None at its begin.
        once: whether a pipe ends with its first writer, too.
        report: called with a line when the writer has ended, and when there is another one.
    """

    def __init__(
        self,
        name: str,
        path: str,
        settings: PcmFormat,
        window: float,
        hop: float,
        position: dict | None = None,
        *,
        once: bool = False,
        report: Callable[[str], None] = print,
    ):
        self.name, self.ended = name, False
        self._path, self._settings, self._report = path, settings, report
        rate = settings.sample_rate
        self._window, self._hop = max(1, round(window * rate)), max(1, round(hop * rate))
        self._ends = once or path == STANDARD_INPUT
        self._base = int((position or {}).get("samples", 0))  # before this writer's
        self._cutter = Cutter(self._window, self._hop)
        self._rest = b""  # of a frame that is not whole
        self._file: int | None = None
        self._connected = self._said = False

    def poll(self, room: int) -> Iterator[Window]:
        """Windows that are complete, as far as there is something to read without waiting.

        Args:
            room: windows after which no more is read.
        """
        read = count = 0
        while count < room and read < _MOST_READ:
            data = self._read()
            if data is None:  # nothing now
                return
            if not data:
                yield from self._finish()
                return
            read += len(data)
            for window in self._add(data):
                count += 1
                yield window

    def close(self) -> None:
        """Closes the pipe."""
        if self._file is not None and self._path != STANDARD_INPUT:
            os.close(self._file)
        self._file = None

    def take_forgotten(self) -> list[int]:
        """Numbers of recordings to be forgotten: none of raw PCM."""
        return []

    def _read(self) -> bytes | None:
        """Some bytes; none at the writer's end; None where there is nothing to read now."""
        if self._path == STANDARD_INPUT:
            if self.ended or not select.select([0], [], [], 0)[0]:
                return None
            return os.read(0, _READ)
        try:
            if self._file is None:
                self._file = _open_pipe(self._path)
            data = os.read(self._file, _READ)
        except BlockingIOError:
            return None
        except OSError as error:
            if not self._said:
                self._said = True
                self._report(f"{self.name}: {self._path}: {error.strerror}; waiting for it")
            self.close()
            return b"" if self._connected else None
        if data and not self._connected:
            if self._said:
                self._report(f"{self.name}: {self._path} is written to again")
            self._connected, self._said = True, False
        if not data and not self._connected:  # nobody has written yet
            if _is_another(self._file, self._path):
                self.close()
            return None
        return data

    def _add(self, data: bytes) -> Iterator[Window]:
        now, wall = time.monotonic(), time.time()
        data = self._rest + data
        whole = len(data) - len(data) % self._settings.frame_bytes
        self._rest = data[whole:]
        for begin, samples in self._cutter.add(decode(data[:whole], self._settings)):
            yield self._made(begin, samples, now, wall)

    def _finish(self) -> Iterator[Window]:
        """The last window of a writer that has ended."""
        for begin, samples in self._cutter.finish():
            yield self._made(begin, samples, time.monotonic(), time.time())
        self._base += self._cutter.n_samples
        self._cutter, self._rest = Cutter(self._window, self._hop), b""
        self._connected = False
        if self._ends:
            self.ended = True
        elif not self._said:
            self._said = True
            self._report(f"{self.name}: the writer of {self._path} has ended; waiting for another")

    def _made(self, begin: int, samples: np.ndarray, now: float, wall: float) -> Window:
        rate, end = self._settings.sample_rate, begin + len(samples)
        behind = self._cutter.n_samples - end
        return Window(
            self.name,
            samples,
            rate,
            (self._base + begin) / rate,
            len(samples) / rate,
            wall_end=wall - behind / rate,
            arrived=now,
            usual=len(samples) == self._window,
            position={"samples": self._base + end},
            place=Place(self.name, self._base, begin),
        )


def is_pipe(path: str) -> bool:
    """Whether a path is a named pipe."""
    with contextlib.suppress(OSError):
        return stat.S_ISFIFO(os.stat(path).st_mode)
    return False


def _open_pipe(path: str) -> int:
    """Opens a named pipe without waiting for a writer."""
    file = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    if not stat.S_ISFIFO(os.fstat(file).st_mode):
        os.close(file)
        raise OSError(0, "it is no named pipe any more")
    return file


def _is_another(file: int, path: str) -> bool:
    """Whether a path leads to another pipe than the open one."""
    with contextlib.suppress(OSError):
        return not os.path.samestat(os.fstat(file), os.stat(path))
    return True
