"""Features of many clips as scoring needs them: in memory or on disk, in even batches."""

import dataclasses
import functools
from collections.abc import Iterator, Sequence
from typing import Protocol

import numpy as np

from asd_jax.data.clips import Clip, ClipTable
from asd_jax.errors import UserError
from asd_jax.features.cache import Entry
from asd_jax.runtime import distributed

# Clips in a batch, and the number of frames to a multiple of which they are padded, so that
# clips of many lengths make few programs.
BATCH_CLIPS, BATCH_FRAMES = 32, 64


class Features(Protocol):
    """Features of a table of clips, whether they lie in memory or on disk.

    Attributes:
        clips: the clips.
        n_frames: (clips,) frames of each.
        offsets: (clips,) first frame of each in the table of frames.
        embeddings: (clips, values) where the clips have some.
    """

    clips: ClipTable
    n_frames: np.ndarray
    offsets: np.ndarray
    embeddings: np.ndarray | None

    def read_clips(self, indices: Sequence[int]) -> list[np.ndarray]:
        """(frames, mels) of each clip."""


class ArrayFeatures:
    """Features in memory.

    Args:
        clips: the clips.
        arrays: (frames, mels) a clip.
        embeddings: (clips, values), for systems that have a use for them.
    """

    def __init__(
        self,
        clips: Sequence[Clip],
        arrays: Sequence[np.ndarray],
        embeddings: np.ndarray | None = None,
    ):
        self._clips = clips
        self.embeddings = embeddings
        self._arrays = [np.asarray(array, np.float32) for array in arrays]
        self.n_frames = np.array([len(array) for array in self._arrays], np.int64)
        self.offsets = np.concatenate([[0], np.cumsum(self.n_frames)[:-1]]).astype(np.int64)

    @functools.cached_property
    def clips(self) -> ClipTable:
        """The clips, in columns as soon as they are asked for: most scores need none of them."""
        return ClipTable.of(self._clips)

    def read_clips(self, indices: Sequence[int]) -> list[np.ndarray]:
        """(frames, mels) of each clip."""
        return [self._arrays[index] for index in indices]


def embedding_batch(features: Features, indices: Sequence[int]) -> np.ndarray | None:
    """(BATCH_CLIPS, values) embeddings of at most so many clips; None where there are none."""
    if features.embeddings is None:
        return None
    batch = np.zeros((BATCH_CLIPS, features.embeddings.shape[1]), np.float32)
    batch[: len(indices)] = features.embeddings[np.asarray(indices)]
    return batch


def clip_batches(
    features: Features, indices: Sequence[int], view_length: int, *, share: bool = False
) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
    """Clips in batches of one size, padded to few lengths.

    Args:
        features: a table of clips.
        indices: of the clips.
        view_length: what clips that only fill up a batch are said to have of frames, so
            that their scores, which nobody reads, are finite.
        share: whether several processes take some of the batches each.

    Yields:
        Position of the first clip in `indices`, (BATCH_CLIPS, frames, mels), (BATCH_CLIPS,) frames.
    """
    for first in range(0, len(indices), BATCH_CLIPS):
        if share and not distributed.is_own(first // BATCH_CLIPS):
            continue
        clips = features.read_clips(indices[first : first + BATCH_CLIPS])
        n_frames = np.full(BATCH_CLIPS, view_length, np.int32)
        n_frames[: len(clips)] = [len(clip) for clip in clips]
        longest = -(-int(n_frames.max()) // BATCH_FRAMES) * BATCH_FRAMES
        batch = np.zeros((BATCH_CLIPS, longest, clips[0].shape[1]), np.float32)
        for row, clip in zip(batch, clips, strict=False):
            row[: len(clip)] = clip
        yield first, batch, n_frames


@dataclasses.dataclass(frozen=True)
class FeatureSet:
    """Features of clips, on disk.

    The frames of all clips make one table (total_frames, n_mels), float32, clip after clip.

    Attributes:
        clips: the clips that have features, in the order given.
        n_frames: int32 (clips,), each clip's number of frames.
        offsets: int64 (clips,), each clip's first row in the table.
        n_mels: columns of the table.
        key: digest of the recordings and settings that the features are made of.
        embeddings: (clips, values) that a pretrained network gave of the clips, if one did.
    """

    clips: ClipTable
    n_frames: np.ndarray
    offsets: np.ndarray = dataclasses.field(init=False)
    n_mels: int
    key: str
    embeddings: np.ndarray | None = dataclasses.field(default=None, kw_only=True)
    _entries: tuple[Entry, ...] = dataclasses.field(repr=False)
    _entry: np.ndarray = dataclasses.field(repr=False)  # (clips,), place in `_entries`
    _rows: np.ndarray = dataclasses.field(repr=False)  # (clips,), first row in its entry

    def __post_init__(self):
        ends = np.cumsum(self.n_frames, dtype=np.int64)
        object.__setattr__(self, "offsets", ends - self.n_frames)

    @property
    def total_frames(self) -> int:
        """Rows of the table."""
        return int(self.n_frames.sum(dtype=np.int64))

    def read(self, start: int, stop: int) -> np.ndarray:
        """Rows `start` to `stop` of the table, read from disk: (stop - start, n_mels).

        Raises:
            UserError: the rows are not in the table, or the cache is damaged.
        """
        if not 0 <= start <= stop <= self.total_frames:
            raise UserError(f"no frames {start} to {stop} in a table of {self.total_frames}")
        rows = np.empty((stop - start, self.n_mels), np.float32)
        at = start
        while at < stop:
            i = int(np.searchsorted(self.offsets, at, side="right")) - 1
            entry, first = self._entry[i], int(self._rows[i]) + at - int(self.offsets[i])
            # Clips that lie end to end in one entry are one read.
            end = first + int(self.offsets[i]) + int(self.n_frames[i]) - at
            while i + 1 < len(self.clips) and at + end - first < stop:
                i += 1
                if self._entry[i] != entry or self._rows[i] != end:
                    break
                end += int(self.n_frames[i])
            n = min(end - first, stop - at)
            rows[at - start : at - start + n] = self._entries[entry].read(first, first + n)
            at += n
        return rows

    def read_clips(self, indices: Sequence[int]) -> list[np.ndarray]:
        """Features of clips, (n_frames, n_mels) each; neighbours are read together."""
        found: list[np.ndarray] = []
        while len(found) < len(indices):
            first = len(found)
            last = first
            while last + 1 < len(indices) and indices[last + 1] == indices[last] + 1:
                last += 1
            begin = int(self.offsets[indices[first]])
            end = int(self.offsets[indices[last]]) + int(self.n_frames[indices[last]])
            cuts = self.offsets[list(indices[first + 1 : last + 1])] - begin
            found += np.split(self.read(begin, end), cuts)
        return found
