"""Features of many clips: computed once on the device, kept on disk, read as they are needed.

The cache has one entry for each thousand clips of a year, machine, subset and split, because
that is what changes together: a recording that is edited costs its own entry's computation and no
other's, while an entry is still many clips in a few large files. Several processes of a run
compute a share of the entries each, into one cache, and read those of all. An entry is named
after a digest of what it depends on: every file's path, size and modification time, how
recordings are perturbed, the channel and every setting of the front end. So a changed file or
setting is another entry, never a stale one.
"""

import contextlib
import dataclasses
import hashlib
import json
import math
import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol

import numpy as np

from asd_jax.audio.perturbation import perturb
from asd_jax.audio.views import fill_view
from asd_jax.data.audio_files import read_batches
from asd_jax.data.clips import Clip, ClipTable
from asd_jax.errors import UserError
from asd_jax.features.cache import Entry, Index, Writer, child, default_cache_dir
from asd_jax.features.table import FeatureSet
from asd_jax.runtime import distributed

_FORMAT = 2
_BATCH_SECONDS = 320
_ENTRY_CLIPS = 1024


class ClipFrontEnd(Protocol):
    """What makes features of waveforms: an `asd_jax.audio.FrontEnd`, or what acts like one.

    It is a frozen dataclass, whose fields are all that the features depend on, in forms that
    JSON has. Frames see zeros past a waveform's end, so that zeros behind it change none of its
    own.
    """

    @property
    def sample_rate(self) -> int:
        """Of the waveforms, in Hz."""

    @property
    def n_fft(self) -> int:
        """Samples that waveforms are filled up to where they have fewer."""

    @property
    def n_mels(self) -> int:
        """Values of a frame."""

    def frames(self, n_samples: int) -> int:
        """Frames of a waveform; UserError for one that has none."""

    def __call__(self, waveforms: np.ndarray) -> Any:
        """(rows, samples) → (rows, frames, n_mels), an array of the device."""


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
    batch_size: int = 32,
    threads: int = 4,
) -> FeatureSet:
    """Features of clips, from the cache or computed into it.

    A few batches of waveforms are in memory at a time, whatever the number of clips.

    Args:
        clips: the recordings.
        front_end: what to compute, on JAX's default device.
        channel: of recordings with several, from 0; None or "mean" for the mean of all.
        cache_dir: folder, or URL that TensorStore knows (gs://..., s3://...); by default that
            of `default_cache_dir`.
        on_bad_clip: "stop" raises on a clip that has no features: not readable, shorter than
            `min_frames`, or with values that are not finite; "skip" reports it and leaves it out.
        report: called with each line that the user should see; those about a group's
            recordings come again when its features are found in the cache.
        progress: called with the number of clips done.
        min_frames: frames that a clip must have, such as the length of a view.
        fill_frames: frames up to which a clip is repeated where it has fewer.
        batch_size: clips a batch.
        threads: files read at once.

    Returns:
        The features of the clips that have some.

    Raises:
        UserError: no clip is left, a clip is bad and `on_bad_clip` is "stop", a recording
            changed while it was read, or the cache cannot be written.
    """
    if on_bad_clip not in ("stop", "skip"):
        raise UserError(f"on_bad_clip {on_bad_clip!r} is neither 'stop' nor 'skip'")
    cache_dir = cache_dir or default_cache_dir()
    clips = ClipTable.of(clips)
    pieces = [
        positions[first : first + _ENTRY_CLIPS]
        for positions in clips.groups("year", "subset", "machine", "split").values()
        for first in range(0, len(positions), _ENTRY_CLIPS)
    ]
    n_frames = np.zeros(len(clips), np.int32)
    rows = np.zeros(len(clips), np.int64)
    entries: list[Entry] = []
    entry_of_clip = np.zeros(len(clips), np.int32)  # place in `entries`
    digests = []

    def entry_of(positions: np.ndarray, done: int, fill: bool, report) -> tuple[Entry, Index]:
        """The entry of some clips: found, or computed where it may be."""
        chosen = [*clips[positions]]
        paths = [os.path.abspath(clip.path) for clip in chosen]
        perturbations = [clip.perturbation for clip in chosen]
        request = _Request(paths, perturbations, front_end, channel, min_frames, fill_frames)
        digest = request.digest()
        entry = Entry(child(cache_dir, digest), front_end.n_mels)
        index = entry.load_index(len(paths), report)
        if index is not None and not (on_bad_clip == "stop" and 0 in index.n_frames):
            for line in index.lines:
                report(line)
        elif not fill:
            raise UserError(
                f"what another process computed is not in {cache_dir}; the processes of a run "
                "need one --cache_dir that they share",
                exit_status=1,
            )
        else:

            def advance(i: int):
                if progress:
                    progress(done + i)

            index = _fill(entry, request, on_bad_clip, report, advance, batch_size, threads)
            if request.digest() != digest:
                raise UserError(
                    f"recordings of {chosen[0].machine} {chosen[0].split} changed while they "
                    "were read; run the same command again",
                    exit_status=1,
                )
            entry.commit(index)
        digests.append(digest)
        return entry, index

    if distributed.several():
        done = 0
        for i, positions in enumerate(pieces):
            if distributed.is_own(i):
                entry_of(positions, done, True, lambda line: None)
                done += len(positions)
        distributed.barrier("features")
        digests.clear()

    done = 0
    for positions in pieces:
        entry, index = entry_of(positions, done, not distributed.several(), report)
        counts = np.array(index.n_frames)
        n_frames[positions] = counts
        rows[positions] = np.cumsum(counts) - counts
        entry_of_clip[positions] = len(entries)
        entries.append(entry)
        done += len(positions)
        if progress:
            progress(done)

    kept = np.flatnonzero(n_frames)
    if not len(kept):
        raise UserError(f"none of the {len(clips)} clips has features")
    return FeatureSet(
        clips=clips[kept],
        n_frames=n_frames[kept],
        width=front_end.n_mels,
        key=hashlib.sha256("".join(digests).encode()).hexdigest()[:32],
        _entries=tuple(entries),
        _entry=entry_of_clip[kept],
        _rows=rows[kept],
    )


@dataclasses.dataclass(frozen=True)
class _Request:
    """What an entry's values depend on."""

    paths: list[str]
    perturbations: list[str]
    front_end: ClipFrontEnd
    channel: int | str | None
    min_frames: int
    fill_frames: int

    def digest(self) -> str:
        files = []
        for path in self.paths:
            try:
                status = os.stat(path)
                files.append([path, status.st_size, status.st_mtime_ns])
            except OSError:
                files.append([path, None, None])
        settings = dataclasses.asdict(self.front_end)
        channel = "mean" if self.channel is None else self.channel
        depends_on = [_FORMAT, settings, channel, self.min_frames, files]
        if any(self.perturbations):
            depends_on.append(self.perturbations)
        if self.fill_frames > self.min_frames:
            depends_on.append(self.fill_frames)
        text = json.dumps(depends_on, sort_keys=True)
        return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:32]


def _fill(
    entry: Entry,
    request: _Request,
    on_bad_clip: str,
    report: Callable[[str], None],
    advance: Callable[[int], None],
    batch_size: int,
    threads: int,
) -> Index:
    """Computes an entry's table; its index is for the caller to commit."""
    n_frames = [0] * len(request.paths)
    lines: list[str] = []

    def say(line: str):
        lines.append(line)
        report(line)

    with contextlib.closing(Writer(entry)) as writer:
        for i, features in _features(request, on_bad_clip, say, batch_size, threads):
            writer.append(features)
            n_frames[i] = len(features)
            advance(i + 1)
        writer.flush()
    return Index(n_frames, lines)


def _features(
    request: _Request,
    on_bad_clip: str,
    report: Callable[[str], None],
    batch_size: int,
    threads: int,
) -> Iterator[tuple[int, np.ndarray]]:
    """Index and features (frames, n_mels) of each clip that has some, in order."""
    front_end = request.front_end

    def is_bad(i: int, problem: str):
        line = f"{request.paths[i]}: {problem}"
        if on_bad_clip == "stop":
            raise UserError(line)
        report(f"left out: {line}")

    def launch(indices: list[int], waveforms: list[np.ndarray]) -> list[tuple]:
        """Starts the device on a batch: its shapes are few, so few programs are compiled."""
        usable: dict[int, list[tuple[int, np.ndarray]]] = {}
        for i, waveform in zip(indices, waveforms, strict=True):
            waveform = perturb(waveform, front_end.sample_rate, request.perturbations[i])
            try:
                n = front_end.frames(len(waveform))
            except UserError as error:
                is_bad(i, str(error))
                continue
            if n < request.min_frames:
                is_bad(i, f"{n} frames where at least {request.min_frames} are needed")
                continue
            seconds = math.ceil(len(waveform) / front_end.sample_rate)
            length = max(seconds * front_end.sample_rate, front_end.n_fft)
            usable.setdefault(length, []).append((i, waveform))
        launched = []
        for length, members in usable.items():
            rows = max(1, min(batch_size, _BATCH_SECONDS * front_end.sample_rate // length))
            rows = min(rows, 1 << (len(request.paths) - 1).bit_length())
            for first in range(0, len(members), rows):
                part = members[first : first + rows]
                # Frames of a clip see zeros past its end, padded or not, so padding changes
                # none of the clip's own frames and only appends others.
                padded = np.zeros((rows, length), np.float32)
                for row, (_, waveform) in enumerate(part):
                    padded[row, : len(waveform)] = waveform
                counts = [(i, front_end.frames(len(waveform))) for i, waveform in part]
                launched.append((counts, front_end(padded)))
        return launched

    def collect(launched: list[tuple]) -> Iterator[tuple[int, np.ndarray]]:
        features = {}
        for counts, batch in launched:
            values = np.asarray(batch)
            features |= {
                i: fill_view(values[row, :n], request.fill_frames)
                for row, (i, n) in enumerate(counts)
            }
        for i in sorted(features):
            if np.isfinite(features[i]).all():
                yield i, features[i]
            else:
                is_bad(i, "its features are not finite numbers; restore the file or remove it")

    # The device works on one batch while the next one is read.
    launched: list[tuple] = []
    batches = read_batches(
        request.paths,
        front_end.sample_rate,
        request.channel,
        batch_size,
        threads,
        on_bad_clip,
        report,
    )
    for indices, waveforms in batches:
        ahead = launch(indices, waveforms)
        yield from collect(launched)
        launched = ahead
    yield from collect(launched)
