"""Features of many clips: computed once on the device, kept on disk, read on demand.

The cache has one entry for each thousand clips of a year, machine, subset and split, which change
together: an edited recording costs the computation of its own entry alone, while an entry still
has many clips in a few large files. Several processes of a run compute a share of the entries
each, into one cache, and read all of them. An entry is named after a digest of what it depends
on: every recording's content, how recordings are perturbed, the channel and every setting of the
front end. A changed recording or setting therefore makes another entry, and none is stale; a
touched or moved recording makes none.
"""

import hashlib
import os
from collections.abc import Callable, Sequence

import numpy as np

from asd_jax.data.clips import Clip, ClipTable
from asd_jax.data.identity import UNREADABLE
from asd_jax.data.levels import Level
from asd_jax.errors import UserError
from asd_jax.features.cache import place_of
from asd_jax.features.entries import Options, Piece, find, find_or_compute
from asd_jax.features.request import ClipFrontEnd, FeatureSettings
from asd_jax.features.table import FeatureSet
from asd_jax.runtime import distributed
from asd_jax.runtime.cores import usable_cores
from asd_jax.runtime.memory import needed_for

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
            of `asd_jax.features.cache.default_cache_dir`.
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
    place = place_of(cache_dir)
    threads = max(2, usable_cores()) if threads is None else threads
    options = Options(place, on_bad_clip, threads, verify, meanwhile or _nothing)
    rows = _pieces(clips)
    progress = progress or (lambda done: None)
    with needed_for("features", "allow more, or use fewer cores at once (--cores)"):
        if distributed.several():
            # Each process computes its own pieces; after the barrier the cache has all of them.
            own = (clips[rows[i]] for i in range(len(rows)) if distributed.is_own(i))
            find_or_compute(own, settings, options, _silent, progress)
            distributed.barrier("features")
            pieces = [_find_shared(clips[some], settings, options, report) for some in rows]
        else:
            each = (clips[some] for some in rows)
            pieces = find_or_compute(each, settings, options, report, progress)
    progress(len(clips))
    return _joined(clips, front_end, rows, pieces)


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


def _find_shared(
    clips: ClipTable, settings: FeatureSettings, options: Options, report: Callable[[str], None]
) -> Piece:
    """Finds a piece that one of several processes has computed."""
    _, piece = find(clips, settings, options._replace(verify=False), report)
    if piece is None:
        raise UserError(
            f"what another process computed is not in {options.cache_dir}; the processes of a run "
            "need one --cache_dir that they share",
            exit_status=1,
        )
    return piece


def _joined(
    clips: ClipTable,
    front_end: ClipFrontEnd,
    rows_of: Sequence[np.ndarray],
    pieces: Sequence[Piece],
) -> FeatureSet:
    """Joins all pieces; clips without features are left out."""
    n_frames = np.zeros(len(clips), np.int32)
    rows = np.zeros(len(clips), np.int64)  # first row of each clip in its entry
    entry_of_clip = np.zeros(len(clips), np.int32)
    digests = np.zeros(len(clips), f"V{len(UNREADABLE)}")
    levels = np.zeros((len(clips), len(Level._fields)), np.float32)
    for place, (positions, piece) in enumerate(zip(rows_of, pieces, strict=True)):
        n_frames[positions] = piece.n_frames
        rows[positions] = np.cumsum(piece.n_frames, dtype=np.int64) - piece.n_frames
        entry_of_clip[positions] = place
        digests[positions] = piece.digests
        levels[positions] = piece.levels
    kept = np.flatnonzero(n_frames)
    if not len(kept):
        raise UserError(f"none of the {len(clips)} clips has features")
    key = hashlib.sha256("".join(piece.entry.digest for piece in pieces).encode()).hexdigest()[:32]
    return FeatureSet(
        clips=clips[kept],
        n_frames=n_frames[kept],
        width=front_end.width,
        dtype=np.dtype(front_end.dtype),
        key=key,
        digests=digests[kept],
        levels=levels[kept],
        _entries=tuple(piece.entry for piece in pieces),
        _entry=entry_of_clip[kept],
        _rows=rows[kept],
    )
