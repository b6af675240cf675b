"""A folder that fills with recordings: those that are complete, in their order, each once.

A recording is complete when its size and time have not changed for a while, and when all of what
its header announces is there. It is known by its path, size and time, so that a name that is used
again is another recording. A folder that vanishes, as a disk that is unplugged, is waited for.
"""

import contextlib
import hashlib
import os
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np

from asd_jax.data.audio_files import blocks_of, read_recording
from asd_jax.data.folders import has_sound_suffix
from asd_jax.deploy.watch.windows import Cutter, Place, Window, window_begins
from asd_jax.errors import UserError

_SCAN_SECONDS = 1.0  # from one look into a folder to the next
_SCAN_SHARE = 0.1  # of a core, at most, that looking takes
_MOST_WAITED = 10.0  # seconds after a look for which its disk is left alone as long as it took
# Numbers of done recordings that are remembered though these are not in the folder, which may be
# unplugged.
_REMEMBERED = 4096


class _Seen(NamedTuple):
    """A recording that is not done: its size and time, and since when they are so."""

    size: int
    mtime: int  # in ns
    since: float  # by the monotonic clock


class FolderSource:
    """Windows of the recordings in a folder and those below it.

    Args:
        name: of the stream.
        path: of the folder.
        window: seconds of a window.
        hop: seconds from one window's begin to the next one's, within a recording.
        position: where the stream goes on, from `Window.position`; None at its begin.
        done: numbers of recordings that are done.
        settle: seconds for which a recording must not have changed.
        give_up: seconds after which one that is still incomplete is left out.
        once: whether to end when all that is there is done.
        n_folders: that are watched, which share the time for looking.
        report: called with lines on the folder and its recordings.
    """

    def __init__(
        self,
        name: str,
        path: str,
        window: float,
        hop: float,
        position: dict | None = None,
        done: list[int] | None = None,
        *,
        settle: float = 2.0,
        give_up: float = 60.0,
        once: bool = False,
        n_folders: int = 1,
        report: Callable[[str], None] = print,
    ):
        self.name, self.ended, self.mount = name, False, _mount_of(path)
        self._path, self._window, self._hop = path, window, hop
        self._settle, self._give_up, self._once = settle, give_up, once
        self._n_folders, self._report = n_folders, report
        position = position or {}
        self._seconds = float(position.get("seconds", 0.0))  # of recordings that are done
        # The recording that is under way, and its windows that are made already.
        self._under_way = (position.get("number"), int(position.get("windows", 0)))
        self._done: dict[int, None] = dict.fromkeys(done or ())  # in the order of time
        self._forgotten: list[int] = []
        self._seen: dict[str, _Seen] = {}
        self._ready: list[str] = []
        self._reading: Iterator[Window] | None = None
        self._next_scan = 0.0
        self._gone = False

    def poll(self, room: int) -> Iterator[Window]:
        """Windows of recordings that are complete.

        Args:
            room: most windows.
        """
        for _ in range(room):
            window = self._next()
            if window is None:
                return
            yield window

    def close(self) -> None:
        """Closes the recording that is under way."""
        self._reading = None

    def take_forgotten(self) -> list[int]:
        """Numbers of done recordings that need not be remembered any more, once each."""
        forgotten, self._forgotten = self._forgotten, []
        return forgotten

    def _next(self) -> Window | None:
        while True:
            if self._reading is None:
                path = self._next_ready()
                if path is None:
                    return None
                self._reading = self._windows_of(path)
            window = next(self._reading, None)
            if window is not None:
                return window
            self._reading = None

    def _next_ready(self) -> str | None:
        """A recording that does not change any more, the oldest first; None without one."""
        now = time.monotonic()
        if not self._ready and now >= self._next_scan:
            worked = time.thread_time()
            whole = self._scan(now)
            # A disk that did not answer for an hour is not left alone for as long.
            waited = min(time.monotonic() - now, _MOST_WAITED)
            worked = time.thread_time() - worked
            pause = max(_SCAN_SECONDS, waited, worked * self._n_folders / _SCAN_SHARE)
            self._next_scan = now + pause
            self.ended = self._once and whole and not self._seen
        return self._ready.pop(0) if self._ready else None

    def _scan(self, now: float) -> bool:
        """Looks into the folder; returns whether it could be read."""
        try:
            found = {path: status for path, status in _recordings(self._path)}
        except OSError as error:
            if not self._gone:
                self._gone = True
                self._report(f"{self.name}: {self._path}: {error.strerror}; waiting for it")
            return False
        if self._gone:
            self._gone = False
            self._report(f"{self.name}: {self._path} is back")
        seen: dict[str, _Seen] = {}
        present: set[int] = set()
        for path, (size, mtime) in found.items():
            number = number_of(path, size, mtime)
            if number in self._done:
                present.add(number)
                continue
            before = self._seen.get(path)
            changed = before is None or before[:2] != (size, mtime)
            seen[path] = _Seen(size, mtime, now) if changed or before is None else before
        self._seen = seen
        settled = [path for path, each in seen.items() if now - each.since >= self._settle]
        self._ready = sorted(settled, key=lambda path: (self._begun(path), seen[path].mtime, path))
        self._forget(present)
        return True

    def _begun(self, path: str) -> int:
        """0 of the recording that is under way, which goes on first; else 1."""
        each = self._seen[path]
        return int(number_of(path, each.size, each.mtime) != self._under_way[0])

    def _forget(self, present: set[int]) -> None:
        surplus = len(self._done) - len(present) - _REMEMBERED
        if surplus <= _REMEMBERED:
            return
        for number in [number for number in self._done if number not in present][:surplus]:
            del self._done[number]
            self._forgotten.append(number)

    def _windows_of(self, path: str) -> Iterator[Window]:
        """Windows of a recording, if it is complete."""
        each = self._seen.get(path)
        if each is None:
            return
        number = number_of(path, each.size, each.mtime)
        place = os.path.join(self._path, path)
        recording = read_recording(place)
        info = recording.info
        problem = info.problem
        if problem is None:
            made = 0
            try:
                for window in self._cut(place, path, number, each):
                    made += 1
                    yield window
                return
            except (UserError, OSError) as error:  # it vanished or changed while it was read
                problem = str(error).removeprefix(f"{place}: ")
        if not os.path.exists(place):
            self._seen.pop(path, None)
            return
        if time.monotonic() - each.since < self._give_up and not _is_final(problem):
            return  # another look later
        self._report(f"{self.name}: left out: {place}: {problem}")
        yield self._left_out(path, number, each, problem)

    def _cut(self, place: str, path: str, number: int, each: _Seen) -> Iterator[Window]:
        with contextlib.closing(blocks_of(place)) as blocks:
            info = next(blocks)
            rate = info.sample_rate
            window, hop = max(1, round(self._window * rate)), max(1, round(self._hop * rate))
            begins = window_begins(info.n_samples, window, hop)
            skip = self._under_way[1] if self._under_way[0] == number else 0
            cutter = Cutter(window, hop, min(skip, len(begins) - 1))
            made = min(skip, len(begins) - 1)
            arrived = each.since + self._settle
            for cut in _cut_all(cutter, blocks):
                begin, samples = cut
                made += 1
                last = made == len(begins)
                seconds, end = info.n_samples / rate, (begin + len(samples)) / rate
                before = self._seconds
                if last:
                    self._finish(path, number, seconds)
                else:
                    self._under_way = (number, made)
                yield Window(
                    self.name,
                    samples,
                    rate,
                    before + begin / rate,
                    len(samples) / rate,
                    file=path,
                    file_begin=begin / rate,
                    wall_end=each.mtime / 1e9 - (seconds - end),
                    arrived=arrived,
                    usual=len(samples) == window,
                    position=self._position(),
                    done=number if last else None,
                    place=Place(self.name, number, begin),
                )

    def _left_out(self, path: str, number: int, each: _Seen, problem: str) -> Window:
        self._finish(path, number, 0.0)
        return Window(
            self.name,
            None,
            0,
            self._seconds,
            0.0,
            file=path,
            wall_end=each.mtime / 1e9,
            arrived=each.since + self._give_up,
            problem=problem,
            position=self._position(),
            done=number,
        )

    def _finish(self, path: str, number: int, seconds: float) -> None:
        self._seconds += seconds
        self._under_way = (None, 0)
        self._done[number] = None
        self._seen.pop(path, None)

    def _position(self) -> dict:
        number, windows = self._under_way
        return {"seconds": self._seconds, "number": number, "windows": windows}


def _cut_all(cutter: Cutter, blocks: Iterator[np.ndarray]) -> Iterator[tuple[int, np.ndarray]]:
    for block in blocks:
        yield from cutter.add(block)
    yield from cutter.finish()


def number_of(path: str, size: int, mtime: int) -> int:
    """A number, of 63 bits, by which a recording is known.

    Args:
        path: from the stream's folder on.
        size: in bytes.
        mtime: when it was changed last, in ns.
    """
    text = f"{path}\0{size}\0{mtime}".encode("utf-8", "surrogateescape")
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "big") >> 1


def _mount_of(path: str) -> str:
    """What is the same for all paths of a mounted file system; the path where it is not there."""
    try:
        return f"device {os.stat(path).st_dev}"
    except OSError:
        return path


def _is_final(problem: str) -> bool:
    """Whether waiting changes nothing: it is whole, and no sound that can be scored."""
    return problem.startswith(("impossible rate", "not full scale", "not finite"))


def _recordings(folder: str) -> Iterator[tuple[str, tuple[int, int]]]:
    """Paths of recordings from a folder on, with their sizes and times in ns.

    Raises:
        OSError: the folder cannot be read.
    """
    waiting = [""]
    while waiting:
        inner = waiting.pop()
        try:
            entries = list(os.scandir(os.path.join(folder, inner)))
        except OSError:
            if not inner:
                raise
            continue  # a folder below that vanished meanwhile
        for entry in entries:
            if entry.name.startswith("."):
                continue
            path = os.path.join(inner, entry.name)
            with contextlib.suppress(OSError):  # it vanished meanwhile
                if entry.is_dir():
                    if not entry.is_symlink():  # which may lead to a folder above itself
                        waiting.append(path)
                elif entry.is_file() and has_sound_suffix(entry.name):
                    status = entry.stat()
                    yield path, (status.st_size, status.st_mtime_ns)
