"""Tables of features, in memory and on disk."""

import dataclasses
import functools
from collections.abc import Sequence
from typing import NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from asd_jax.audio.views import ViewSpec, gather_views
from asd_jax.data.clips import Clip, ClipTable
from asd_jax.errors import UserError
from asd_jax.features.cache import Entry


class ClipFacts(NamedTuple):
    """What a score needs to know of a clip beside its features.

    Attributes:
        label: as of `ClipInput`.
        embedding: as of `ClipInput`.
        trained: whether it is one of the model's own training clips. A score that compares with
            the training clips leaves it out, as if it had not been seen.
    """

    label: jax.Array | int = 0
    embedding: jax.Array | None = None
    trained: bool = False


class ClipInput(NamedTuple):
    """One clip, or a piece of one, as the input of a detector; a batch has a leading axis.

    Attributes:
        features: (frames, values); frames past `n_frames` are padding.
        n_frames: () integer, frames of the clip itself.
        label: () integer, place of the clip's section among those of its machine's training
            clips; 0 for a system that does not distinguish them (`Detector.scope`).
        embedding: (values,) by the pretrained network of `Config.embedding`; None without.
    """

    features: jax.Array
    n_frames: jax.Array | int
    label: jax.Array | int = 0
    embedding: jax.Array | None = None

    def starts(self, spec: ViewSpec) -> tuple[jax.Array, jax.Array]:
        """First frames of the clip's views, those with padding included.

        Args:
            spec: length and hop of the views.

        Returns:
            (views,) integers, and (views,) true where a view has no padding.
        """
        starts = jnp.arange(0, self.features.shape[0] - spec.length + 1, spec.hop)
        return starts, starts + spec.length <= self.n_frames

    def views(self, spec: ViewSpec) -> tuple[jax.Array, jax.Array]:
        """The clip's views, those with padding included.

        Args:
            spec: length and hop of the views.

        Returns:
            (views, frames, values), and (views,) true where a view has no padding.

        Examples:
            >>> clip = ClipInput(jnp.zeros((8, 128)), n_frames=6)
            >>> views, mask = clip.views(ViewSpec(length=5))
            >>> views.shape
            (4, 5, 128)
            >>> mask.tolist()
            [True, True, False, False]
        """
        starts, mask = self.starts(spec)
        return gather_views(self.features, starts, spec.length), mask


class Features(Protocol):
    """Features of a table of clips, in memory or on disk.

    The frames of all clips lie end to end, clip after clip. The front end decides what a frame
    is: log-mels, a spectrum, a vector of statistics, an embedding of a window, samples.

    Attributes:
        clips: the clips.
        n_frames: integers (clips,), frames of each clip.
        offsets: int64 (clips,), first frame of each clip.
        width: values of a frame.
        dtype: of the values.
        embeddings: (clips, values) by a pretrained network; None without.
    """

    @property
    def clips(self) -> ClipTable:
        """The clips."""
        ...

    @property
    def n_frames(self) -> np.ndarray:
        """Frames of each clip."""
        ...

    @property
    def offsets(self) -> np.ndarray:
        """First frame of each clip."""
        ...

    @property
    def embeddings(self) -> np.ndarray | None:
        """Embeddings of the clips; None without."""
        ...

    @property
    def width(self) -> int:
        """Values of a frame."""
        ...

    @property
    def dtype(self) -> np.dtype:
        """Type of the values."""
        ...

    def with_clips(self, clips: ClipTable) -> "Features":
        """The same features of clips with other attributes."""
        ...

    def take(self, rows: np.ndarray) -> "Features":
        """The features of some of the clips, int (n,)."""
        ...

    def read_clips(self, indices: Sequence[int] | np.ndarray) -> list[np.ndarray]:
        """(frames, width) of each clip."""
        ...

    def read_frames(self, index: int, start: int, stop: int) -> np.ndarray:
        """(stop - start, width), frames `start` to `stop` of a clip."""
        ...


class ArrayFeatures:
    """Features in memory.

    Args:
        clips: the clips.
        arrays: (frames, width) of each clip; float64 is rounded to float32, other dtypes stay.
        embeddings: (clips, values), for systems that use them.
    """

    def __init__(
        self,
        clips: Sequence[Clip],
        arrays: Sequence[np.ndarray],
        embeddings: np.ndarray | None = None,
    ):
        self._clips = clips
        self.embeddings = embeddings
        self._arrays = [np.asarray(array) for array in arrays]
        self._arrays = [a.astype(np.float32) if a.dtype == np.float64 else a for a in self._arrays]
        self.n_frames = np.array([len(array) for array in self._arrays], np.int64)
        self.offsets = np.cumsum(self.n_frames) - self.n_frames

    @functools.cached_property
    def clips(self) -> ClipTable:
        """The clips, put in columns on demand: most scores need none of them."""
        return ClipTable.of(self._clips)

    def with_clips(self, clips: ClipTable) -> "ArrayFeatures":
        """The same features of clips with other attributes."""
        return ArrayFeatures(clips, self._arrays, self.embeddings)

    def take(self, rows: np.ndarray) -> "ArrayFeatures":
        """The features of some of the clips, int (n,)."""
        embeddings = None if self.embeddings is None else self.embeddings[rows]
        return ArrayFeatures(self.clips[rows], [self._arrays[row] for row in rows], embeddings)

    @property
    def width(self) -> int:
        """Values of a frame; 0 without clips."""
        return self._arrays[0].shape[1] if self._arrays else 0

    @property
    def dtype(self) -> np.dtype:
        """Type of the values; float32 without clips."""
        return self._arrays[0].dtype if self._arrays else np.dtype(np.float32)

    def read_clips(self, indices: Sequence[int] | np.ndarray) -> list[np.ndarray]:
        """(frames, width) of each clip."""
        return [self._arrays[index] for index in indices]

    def read_frames(self, index: int, start: int, stop: int) -> np.ndarray:
        """(stop - start, width), frames `start` to `stop` of a clip."""
        return self._arrays[index][start:stop]


@dataclasses.dataclass(frozen=True)
class FeatureSet:
    """Features of clips, on disk.

    The frames of all clips make one table (total_frames, width), clip after clip.

    Attributes:
        clips: the clips that have features, in the order given.
        n_frames: int32 (clips,), each clip's number of frames.
        offsets: int64 (clips,), each clip's first row in the table.
        width: columns of the table.
        key: digest of the recordings and settings that the features are computed from.
        dtype: of the values.
        embeddings: (clips, values) by a pretrained network; None without.
        digests: (clips,) of the recordings' contents, 16 bytes each.
        levels: float32 (clips, 4), the fields of `data.levels.Level` of each recording.
    """

    clips: ClipTable
    n_frames: np.ndarray
    offsets: np.ndarray = dataclasses.field(init=False)
    width: int
    key: str
    dtype: np.dtype = dataclasses.field(default=np.dtype(np.float32), kw_only=True)
    embeddings: np.ndarray | None = dataclasses.field(default=None, kw_only=True)
    digests: np.ndarray = dataclasses.field(kw_only=True)
    levels: np.ndarray = dataclasses.field(kw_only=True)
    _entries: tuple[Entry, ...] = dataclasses.field(repr=False)
    _entry: np.ndarray = dataclasses.field(repr=False)  # (clips,), place in `_entries`
    _rows: np.ndarray = dataclasses.field(repr=False)  # (clips,), first row in its entry

    def __post_init__(self) -> None:
        ends = np.cumsum(self.n_frames, dtype=np.int64)
        object.__setattr__(self, "offsets", ends - self.n_frames)

    def with_clips(self, clips: ClipTable) -> "FeatureSet":
        """The same features of clips with other attributes."""
        return dataclasses.replace(self, clips=clips)

    def take(self, rows: np.ndarray) -> "FeatureSet":
        """The features of some of the clips.

        Args:
            rows: int (n,) of these.
        """
        return dataclasses.replace(
            self,
            clips=self.clips[rows],
            n_frames=self.n_frames[rows],
            embeddings=None if self.embeddings is None else self.embeddings[rows],
            digests=self.digests[rows],
            levels=self.levels[rows],
            _entry=self._entry[rows],
            _rows=self._rows[rows],
        )

    @property
    def total_frames(self) -> int:
        """Rows of the table."""
        return int(self.n_frames.sum(dtype=np.int64))

    def read(self, start: int, stop: int) -> np.ndarray:
        """Rows `start` to `stop` of the table, read from disk: (stop - start, width).

        Raises:
            UserError: the rows are not in the table, or the cache is damaged.
        """
        if not 0 <= start <= stop <= self.total_frames:
            raise UserError(f"no frames {start} to {stop} in a table of {self.total_frames}")
        rows = np.empty((stop - start, self.width), self.dtype)
        at = start
        while at < stop:
            i = int(np.searchsorted(self.offsets, at, side="right")) - 1
            entry, first = self._entry[i], int(self._rows[i]) + at - int(self.offsets[i])
            # Adjacent clips of one entry are read together.
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

    def read_clips(self, indices: Sequence[int] | np.ndarray) -> list[np.ndarray]:
        """Features of clips, (n_frames, width) each; neighbours are read together."""
        arrays: list[np.ndarray] = []
        while len(arrays) < len(indices):
            first = len(arrays)
            last = first
            while last + 1 < len(indices) and indices[last + 1] == indices[last] + 1:
                last += 1
            begin = int(self.offsets[indices[first]])
            end = int(self.offsets[indices[last]]) + int(self.n_frames[indices[last]])
            cuts = self.offsets[list(indices[first + 1 : last + 1])] - begin
            arrays += np.split(self.read(begin, end), cuts)
        return arrays

    def read_frames(self, index: int, start: int, stop: int) -> np.ndarray:
        """(stop - start, width), frames `start` to `stop` of a clip."""
        first = int(self.offsets[index])
        return self.read(first + start, first + stop)
