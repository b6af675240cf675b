"""Entries of the feature cache: found there, or computed into it in one stream over all of them.

Recordings of an entry are read while the last batches of the one before it are computed, so that
nothing waits where one ends and the next begins. A recording that ends the run does so when all
entries before its own are finished.
"""

import collections
import contextlib
import dataclasses
import math
import re
from collections.abc import Callable, Generator, Iterable, Sequence
from typing import NamedTuple

import numpy as np

from asd_jax.audio.perturbation import perturb
from asd_jax.data.audio_files import Recording
from asd_jax.data.clips import Clip, ClipTable
from asd_jax.data.identity import UNREADABLE, Status
from asd_jax.data.recordings import Waveform, read_recordings
from asd_jax.errors import UserError
from asd_jax.features.cache import Entry, Index, Writer, mark
from asd_jax.features.frames import usable_frames
from asd_jax.features.notes import Content, Notes
from asd_jax.features.request import FeatureSettings, Request


class Options(NamedTuple):
    """Options of the computation that do not change the features.

    Attributes:
        cache_dir: the cache's folder or URL.
        on_bad_clip: as of `compute_features`, as all further attributes.
    """

    cache_dir: str
    on_bad_clip: str
    threads: int
    verify: bool
    meanwhile: Callable[[], None]


class Piece(NamedTuple):
    """A finished entry of the cache, with what is known of its recordings.

    Attributes:
        entry: the entry.
        n_frames: int32 (clips,).
        digests: (clips,) of the contents, 16 bytes each.
        levels: float32 (clips, 4), the fields of `Level`.
    """

    entry: Entry
    n_frames: np.ndarray
    digests: np.ndarray
    levels: np.ndarray

    @classmethod
    def of(cls, entry: Entry, index: Index, contents: Sequence[Content]) -> "Piece":
        """Of an entry with its index and the contents of its recordings."""
        return cls(
            entry,
            np.array(index.n_frames, np.int32),
            np.array([content.digest for content in contents], f"V{len(UNREADABLE)}"),
            np.array([content.level for content in contents], np.float32),
        )


def find(
    clips: ClipTable, settings: FeatureSettings, options: Options, report: Callable[[str], None]
) -> tuple[Request, Piece | None]:
    """Finds a piece where the cache has one that can be used."""
    request = Request.of(clips, settings)
    contents = Notes(options.cache_dir, request.paths).contents(options.verify)
    if contents is None:
        return request, None
    digest = request.digest([content.digest for content in contents])
    front_end = settings.front_end
    entry = Entry(options.cache_dir, "", front_end.width, front_end.dtype, digest)
    found = entry.load(len(clips), report)
    if found is None or (options.on_bad_clip == "stop" and 0 in found[1].n_frames):
        return request, None  # none, or it left out a clip at which this run must stop
    for line in found[1].lines:
        report(_unmarked(line, request.paths))
    return request, Piece.of(*found, contents)


def find_or_compute(
    pieces: Iterable[ClipTable],
    settings: FeatureSettings,
    options: Options,
    report: Callable[[str], None],
    progress: Callable[[int], None],
) -> list[Piece]:
    """Finds pieces in the cache, and computes the others into the cache.

    Args:
        pieces: the clips of each.
        settings: what their features depend on.
        options: of the computation.
        report: called with each line for the user.
        progress: called with the number of clips done.

    Raises:
        UserError: as `compute_features`, when the pieces before are in the cache.
    """
    return _Computation(settings, options, report, progress).of(pieces)


class _Computation:
    """The stream of recordings, and the entries that it fills; for the arguments see above."""

    def __init__(
        self,
        settings: FeatureSettings,
        options: Options,
        report: Callable[[str], None],
        progress: Callable[[int], None],
    ):
        self._settings, self._options = settings, options
        self._report, self._progress = report, progress
        self._found: list[Piece | None] = []
        self._open: collections.deque[_Filling] = collections.deque()  # in the stream's order
        self._started = False
        # Place of the first piece that cannot be finished, and the problem, which ends the run.
        self._failure: tuple[int, UserError] | None = None

    def of(self, pieces: Iterable[ClipTable]) -> list[Piece]:
        """Finds or computes the pieces."""
        try:
            with contextlib.closing(self._waveforms(pieces)) as waveforms:
                frames = usable_frames(
                    waveforms,
                    self._settings.front_end,
                    min_frames=self._settings.min_frames,
                    fill_frames=self._settings.fill_frames,
                    leave_out=self._leave_out,
                )
                for number, blocks in frames:
                    if not self._finish(number):
                        break
                    for block in blocks:
                        self._open[0].append(number, block)
                    self._progress(number + 1)
            self._finish()
        except UserError as error:
            raise (self._failure[1] if self._failure else error) from None
        finally:
            for filling in self._open:
                filling.close()
        if self._failure:
            raise self._failure[1]
        return [piece for piece in self._found if piece is not None]

    def _waveforms(
        self, pieces: Iterable[ClipTable]
    ) -> Generator[tuple[int, Waveform], None, None]:
        """Number and waveform of each recording to compute, until one of them ends the run."""
        first, filling = 0, None
        try:
            for clips in pieces:
                filling = None
                request, piece = find(clips, self._settings, self._options, self._report)
                self._found.append(piece)
                if piece is None:
                    if not self._started:
                        self._started = True
                        self._options.meanwhile()
                    filling = self._filling(first, clips[0], request)
                    with contextlib.closing(filling.waveforms()) as waveforms:
                        for waveform in waveforms:
                            yield waveform
                            if self._failure:
                                return
                elif not self._open:
                    self._progress(first + len(clips))
                first += len(clips)
        except UserError as error:
            self._fail(error, filling)

    def _fail(self, error: UserError, filling: "_Filling | None") -> None:
        """Takes a problem that ends the run; that of an earlier entry may be found later."""
        place = len(self._found) if filling is None else filling.place
        if self._failure is None or place < self._failure[0]:
            self._failure = place, error

    def _filling(self, first: int, clip: Clip, request: Request) -> "_Filling":
        """Begins the entry of the last piece."""
        of, place = f"{clip.machine} {clip.split}", len(self._found) - 1
        filling = _Filling(place, first, of, request, self._options, self._report)
        self._open.append(filling)
        return filling

    def _leave_out(self, number: int, problem: str) -> None:
        filling = next(own for own in self._open if number in own.numbers)
        line = f"{filling.path(number)}: {problem}"
        if self._options.on_bad_clip == "stop":
            self._fail(UserError(line), filling)
        else:
            filling.report(f"left out: {line}")

    def _finish(self, before: float = math.inf) -> bool:
        """Finishes the entries of recordings before a number; false at one that cannot be."""
        while self._open and self._open[0].numbers.stop <= before:
            if self._failure and self._open[0].place >= self._failure[0]:
                return False
            filling = self._open.popleft()
            with contextlib.closing(filling):
                self._found[filling.place] = filling.finished()
        return True


class _Filling:
    """An entry that is being computed.

    Args:
        place: among all pieces.
        first: number of its first recording.
        of: machine and split of its recordings.
        request: what its values depend on.
        options: of the computation.
        report: called with each line for the user.

    Attributes:
        numbers: of its recordings.
    """

    def __init__(
        self,
        place: int,
        first: int,
        of: str,
        request: Request,
        options: Options,
        report: Callable[[str], None],
    ):
        self.place = place
        self.numbers = range(first, first + len(request.paths))
        self._of, self._request, self._options = of, request, options
        self._report_line = report
        front_end = request.settings.front_end
        self._entry = Entry(options.cache_dir, request.table(), front_end.width, front_end.dtype)
        self._index = Index(self._entry.table, [0] * len(request.paths), [])
        self._recordings: dict[int, Recording] = {}
        self._writer = Writer(self._entry)

    def path(self, number: int) -> str:
        """Of a recording."""
        return self._request.paths[number - self.numbers.start]

    def report(self, line: str) -> None:
        """Reports a line, and keeps it for when the entry is read from the cache."""
        self._index.lines.append(_marked(line, self._request.paths))
        self._report_line(line)

    def waveforms(self) -> Generator[tuple[int, Waveform], None, None]:
        """Number and waveform of each recording, changed where that is asked for."""
        settings = self._request.settings
        rate = settings.front_end.sample_rate
        files = read_recordings(
            self._request.paths,
            rate,
            settings.channel,
            self._options.threads,
            self._options.on_bad_clip,
            self.report,
            self._recordings.__setitem__,
        )
        with contextlib.closing(files):
            for i, waveform in files:
                if perturbation := self._request.perturbations[i]:
                    whole = np.concatenate([*waveform.blocks])
                    waveform = Waveform.of(perturb(whole, rate, perturbation))
                yield self.numbers[i], waveform

    def append(self, number: int, frames: np.ndarray) -> None:
        """Adds frames (n, width) of a recording."""
        self._writer.append(frames)
        self._index.n_frames[number - self.numbers.start] += len(frames)

    def finished(self) -> Piece:
        """The entry in the cache, after its last frame was added."""
        self._writer.flush()
        paths = self._request.paths
        for i, recording in self._recordings.items():
            if Status.of(paths[i]) != recording.status:
                raise UserError(
                    f"recordings of {self._of} changed while they were read ({paths[i]}); run the "
                    "same command again",
                    exit_status=1,
                )
        contents = Notes(self._options.cache_dir, paths).take(self._recordings)
        digest = self._request.digest([content.digest for content in contents])
        entry = dataclasses.replace(self._entry, digest=digest)
        entry.commit(self._index)
        return Piece.of(entry, self._index, contents)

    def close(self) -> None:
        """Waits for what is being written."""
        self._writer.close()


def _marked(line: str, paths: Sequence[str]) -> str:
    """A line with `mark(i)` for the path that it names."""
    named = max((path for path in paths if path in line), key=len, default="")
    return line.replace(named, mark(paths.index(named))) if named else line


def _unmarked(line: str, paths: Sequence[str]) -> str:
    return re.sub("\0([0-9]+)\0", lambda match: paths[int(match[1])], line)
