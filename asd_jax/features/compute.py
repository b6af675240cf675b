"""Features of many clips: computed once on the device, kept on disk, read on demand.

The cache has one entry for each thousand clips of a year, machine, subset and split, which change
together: an edited recording costs the computation of its own entry alone, while an entry still
has many clips in a few large files. Several processes of a run compute a share of the entries
each, into one cache, and read all of them. An entry is named after a digest of what it depends
on: every recording's content, how recordings are perturbed, the channel and every setting of the
front end. A changed recording or setting therefore makes another entry, and none is stale; a
touched or moved recording makes none.
"""

import contextlib
import dataclasses
import hashlib
import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from asd_jax.audio.perturbation import perturb
from asd_jax.data.audio_files import Recording
from asd_jax.data.clips import Clip, ClipTable
from asd_jax.data.identity import UNREADABLE, Status
from asd_jax.data.levels import Level
from asd_jax.data.recordings import Waveform, read_recordings
from asd_jax.errors import UserError
from asd_jax.features.cache import Entry, Index, Writer, default_cache_dir, mark
from asd_jax.features.frames import usable_frames
from asd_jax.features.notes import Content, Notes
from asd_jax.features.request import ClipFrontEnd, FeatureSettings, Request
from asd_jax.features.table import FeatureSet
from asd_jax.runtime import distributed
from asd_jax.runtime.cores import usable_cores

_ENTRY_CLIPS = 1024


def compute_features(
    clips: Sequence[Clip],
    front_end: ClipFrontEnd,
    *,
    channel: int | str | None = None,
    cache_dir: os.PathLike | str | None = None,
    on_bad_clip: str = "stop",
    report: Callable[[str], None] = print,
    progress: Callable[[int], None] | None = None,
    min_frames: int = 1,
    fill_frames: int = 1,
    threads: int | None = None,
    verify: bool = False,
    meanwhile: Callable[[], None] | None = None,
) -> FeatureSet:
    """Features of clips, from the cache or computed into it.

    A few recordings are in memory at a time, whatever their number, and of a long one a part.

    Args:
        clips: the recordings.
        front_end: computes the features, on JAX's default device.
        channel: of recordings with several, as of `asd_jax.data.read`.
        cache_dir: folder, or URL that TensorStore knows (gs://..., s3://...); by default that
            of `default_cache_dir`.
        on_bad_clip: "stop" raises on a clip that has no features: not readable, shorter than
            `min_frames`, or with values that are not finite; "skip" reports it and leaves it out.
        report: called with each line for the user; lines about an entry's recordings are
            repeated when its features are read from the cache.
        progress: called with the number of clips done.
        min_frames: frames that a clip must have, such as the length of a view.
        fill_frames: frames up to which a shorter clip is repeated.
        threads: files read at once; by default as many as cores, two at least.
        verify: whether to read every recording anew, even one whose size, times and inode are
            those under which it was read before.
        meanwhile: called when recordings are about to be read, to start what can be done beside.

    Returns:
        Features of the clips that have some.

    Raises:
        UserError: no clip is left, a clip is bad and `on_bad_clip` is "stop", a recording
            changed while it was read, or the cache cannot be written.
    """
    if on_bad_clip not in ("stop", "skip"):
        raise UserError(f"on_bad_clip {on_bad_clip!r} is neither 'stop' nor 'skip'")
    if getattr(front_end, "canceller", False) and channel != "canceller":
        raise UserError(
            f'channel is {channel!r}, and the front end has canceller: give "canceller"'
        )
    clips = ClipTable.of(clips)
    settings = FeatureSettings(front_end, channel, min_frames, fill_frames)
    place = str(cache_dir or default_cache_dir())
    threads = max(2, usable_cores()) if threads is None else threads
    options = _Options(place, on_bad_clip, threads, verify, meanwhile or _nothing)
    pieces = _pieces(clips)
    progress = progress or (lambda done: None)
    if distributed.several():
        # Each process computes its own pieces; after the barrier the cache has all of them.
        done = 0
        for i, rows in enumerate(pieces):
            if distributed.is_own(i):
                _find_or_compute(clips[rows], settings, options, _silent, _after(done, progress))
                done += len(rows)
        distributed.barrier("features")
    entries, done = [], 0
    for rows in pieces:
        piece = clips[rows]
        if distributed.several():
            entries.append(_find_shared(piece, settings, options, report))
        else:
            after = _after(done, progress)
            entries.append(_find_or_compute(piece, settings, options, report, after))
        done += len(rows)
        progress(done)
    return _joined(clips, front_end, pieces, entries)


class _Options(NamedTuple):
    """Options of the computation that do not change the features."""

    cache_dir: str
    on_bad_clip: str
    threads: int
    verify: bool
    meanwhile: Callable[[], None]


class _Piece(NamedTuple):
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
    def of(cls, entry: Entry, index: Index, contents: Sequence[Content]) -> "_Piece":
        """Of an entry with its index and the contents of its recordings."""
        return cls(
            entry,
            np.array(index.n_frames, np.int32),
            np.array([content.digest for content in contents], f"V{len(UNREADABLE)}"),
            np.array([content.level for content in contents], np.float32),
        )


def _pieces(clips: ClipTable) -> list[np.ndarray]:
    """Rows of each entry's clips, which change together."""
    return [
        rows[first : first + _ENTRY_CLIPS]
        for rows in clips.groups("year", "subset", "machine", "split").values()
        for first in range(0, len(rows), _ENTRY_CLIPS)
    ]


def _silent(line: str) -> None:
    pass


def _nothing() -> None:
    pass


def _after(done: int, progress: Callable[[int], None]) -> Callable[[int], None]:
    """Progress within a piece, after `done` clips of earlier pieces."""
    return lambda count: progress(done + count)


def _find(
    clips: ClipTable, settings: FeatureSettings, options: _Options, report: Callable[[str], None]
) -> tuple[Request, _Piece | None]:
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
    return request, _Piece.of(*found, contents)


def _find_shared(
    clips: ClipTable, settings: FeatureSettings, options: _Options, report: Callable[[str], None]
) -> _Piece:
    """Finds a piece that one of several processes has computed."""
    _, piece = _find(clips, settings, options._replace(verify=False), report)
    if piece is None:
        raise UserError(
            f"what another process computed is not in {options.cache_dir}; the processes of a run "
            "need one --cache_dir that they share",
            exit_status=1,
        )
    return piece


def _find_or_compute(
    clips: ClipTable,
    settings: FeatureSettings,
    options: _Options,
    report: Callable[[str], None],
    progress: Callable[[int], None],
) -> _Piece:
    """Finds a piece in the cache, or computes it into the cache."""
    request, piece = _find(clips, settings, options, report)
    if piece is not None:
        return piece
    options.meanwhile()
    front_end = settings.front_end
    entry = Entry(options.cache_dir, request.table(), front_end.width, front_end.dtype)
    index, recordings = _fill(entry, request, options, report, progress)
    for i, recording in recordings.items():
        if Status.of(request.paths[i]) != recording.status:
            raise UserError(
                f"recordings of {clips[0].machine} {clips[0].split} changed while they were read "
                f"({request.paths[i]}); run the same command again",
                exit_status=1,
            )
    contents = Notes(options.cache_dir, request.paths).take(recordings)
    digest = request.digest([content.digest for content in contents])
    entry = dataclasses.replace(entry, digest=digest)
    entry.commit(index)
    return _Piece.of(entry, index, contents)


def _marked(line: str, paths: Sequence[str]) -> str:
    """A line with `mark(i)` for the path that it names."""
    named = max((path for path in paths if path in line), key=len, default="")
    return line.replace(named, mark(paths.index(named))) if named else line


def _unmarked(line: str, paths: Sequence[str]) -> str:
    return re.sub("\0([0-9]+)\0", lambda match: paths[int(match[1])], line)


def _joined(
    clips: ClipTable,
    front_end: ClipFrontEnd,
    pieces: Sequence[np.ndarray],
    found: Sequence[_Piece],
) -> FeatureSet:
    """Joins all pieces; clips without features are left out."""
    n_frames = np.zeros(len(clips), np.int32)
    rows = np.zeros(len(clips), np.int64)  # first row of each clip in its entry
    entry_of_clip = np.zeros(len(clips), np.int32)
    digests = np.zeros(len(clips), f"V{len(UNREADABLE)}")
    levels = np.zeros((len(clips), len(Level._fields)), np.float32)
    for place, (positions, piece) in enumerate(zip(pieces, found, strict=True)):
        n_frames[positions] = piece.n_frames
        rows[positions] = np.cumsum(piece.n_frames, dtype=np.int64) - piece.n_frames
        entry_of_clip[positions] = place
        digests[positions] = piece.digests
        levels[positions] = piece.levels
    kept = np.flatnonzero(n_frames)
    if not len(kept):
        raise UserError(f"none of the {len(clips)} clips has features")
    key = hashlib.sha256("".join(piece.entry.digest for piece in found).encode()).hexdigest()[:32]
    return FeatureSet(
        clips=clips[kept],
        n_frames=n_frames[kept],
        width=front_end.width,
        dtype=np.dtype(front_end.dtype),
        key=key,
        digests=digests[kept],
        levels=levels[kept],
        _entries=tuple(piece.entry for piece in found),
        _entry=entry_of_clip[kept],
        _rows=rows[kept],
    )


def _fill(
    entry: Entry,
    request: Request,
    options: _Options,
    report: Callable[[str], None],
    progress: Callable[[int], None],
) -> tuple[Index, dict[int, Recording]]:
    """Computes an entry's table.

    Returns:
        The index, which the caller commits, and facts of each recording that was read.
    """
    n_frames = [0] * len(request.paths)
    lines: list[str] = []
    recordings: dict[int, Recording] = {}

    def report_and_keep(line: str) -> None:
        lines.append(_marked(line, request.paths))
        report(line)

    def leave_out(i: int, problem: str) -> None:
        line = f"{request.paths[i]}: {problem}"
        if options.on_bad_clip == "stop":
            raise UserError(line)
        report_and_keep(f"left out: {line}")

    settings = request.settings
    files = read_recordings(
        request.paths,
        settings.front_end.sample_rate,
        settings.channel,
        options.threads,
        options.on_bad_clip,
        report_and_keep,
        recordings.__setitem__,
    )
    with contextlib.closing(files), contextlib.closing(Writer(entry)) as writer:
        for i, blocks in usable_frames(
            _perturbed(files, request),
            settings.front_end,
            min_frames=settings.min_frames,
            fill_frames=settings.fill_frames,
            leave_out=leave_out,
        ):
            for block in blocks:
                writer.append(block)
                n_frames[i] += len(block)
            progress(i + 1)
        writer.flush()
    return Index(entry.table, n_frames, lines), recordings


def _perturbed(
    waveforms: Iterable[tuple[int, Waveform]], request: Request
) -> Iterator[tuple[int, Waveform]]:
    """Index and waveform of each clip, changed where that is asked for."""
    for i, waveform in waveforms:
        if perturbation := request.perturbations[i]:
            whole = np.concatenate([*waveform.blocks])
            rate = request.settings.front_end.sample_rate
            waveform = Waveform.of(perturb(whole, rate, perturbation))
        yield i, waveform
