"""Batches of clips' features for the programs of a detector, whatever the clips' lengths."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from asd_jax.audio.views import ViewSpec, fill_view
from asd_jax.features.pieces import Piece, batches, cut, views_in_piece
from asd_jax.features.table import ClipInput, Features

# Frames that are read together: 8 MiB of 128 bands.
_READ_FRAMES = 2**14


class ClipFrames(NamedTuple):
    """One clip to be scored, whose features are read when they are needed.

    Attributes:
        position: its place among the clips that are scored.
        blocks: (frames, width) of its features, one after another.
        label: as of `ClipInput`.
        embedding: as of `ClipInput`.
        state: of the machine, as in `Clip`; "" where it is not known.
    """

    position: int
    blocks: Iterable[np.ndarray]
    label: int = 0
    embedding: np.ndarray | None = None
    state: str = ""


def read_blocks(
    features: Features, indices: Sequence[int] | np.ndarray
) -> Iterator[tuple[int, Iterator[np.ndarray]]]:
    """Reads clips of a table, a few thousand frames at a time.

    Args:
        features: a table of clips.
        indices: of the clips.

    Yields:
        Position of a clip in `indices`, and its (frames, width) in blocks.
    """
    ends = np.cumsum(np.asarray(features.n_frames)[indices], dtype=np.int64)
    first = 0
    while first < len(indices):
        before = int(ends[first - 1]) if first else 0
        last = max(first + 1, int(np.searchsorted(ends, before + _READ_FRAMES, side="right")))
        if ends[first] - before > _READ_FRAMES:
            yield first, _long_clip(features, int(indices[first]))
        else:  # short clips are read together
            for i, clip in enumerate(features.read_clips(indices[first:last])):
                yield first + i, iter([clip])
        first = last


def _long_clip(features: Features, index: int) -> Iterator[np.ndarray]:
    n_frames = int(features.n_frames[index])
    for start in range(0, n_frames, _READ_FRAMES):
        yield features.read_frames(index, start, min(start + _READ_FRAMES, n_frames))


def table_clips(
    features: Features,
    indices: Sequence[int] | np.ndarray,
    labels: np.ndarray | None = None,
    states: Sequence[str] | None = None,
) -> Iterator[ClipFrames]:
    """Clips of a table, to be scored.

    Args:
        features: a table of clips.
        indices: of the clips.
        labels: int32 (clips,), `ClipInput.label` of each; 0 by default.
        states: (clips,), `ClipFrames.state` of each; not known by default.
    """
    for position, blocks in read_blocks(features, indices):
        label = 0 if labels is None else int(labels[position])
        embedding = None
        if features.embeddings is not None:
            embedding = np.asarray(features.embeddings[indices[position]], np.float32)
        state = "" if states is None else states[position]
        yield ClipFrames(position, blocks, label, embedding, state)


def _filled(blocks: Iterable[np.ndarray], spec: ViewSpec) -> Iterator[np.ndarray]:
    """The blocks of a clip, and its beginning again, until its views reach its end."""
    waiting: list[np.ndarray] = []  # the first blocks, until they have a view's frames
    first: np.ndarray | None = None  # so many frames
    n_frames = 0
    for block in blocks:
        n_frames += len(block)
        if first is not None:
            yield block
            continue
        waiting.append(block)
        if n_frames >= spec.length:
            first = np.concatenate(waiting)
            yield first
    if first is not None:
        if rest := -(n_frames - spec.length) % spec.hop:
            yield first[:rest]
    elif waiting:
        yield fill_view(np.concatenate(waiting), spec.length)


def pieces_of_batch(spec: ViewSpec, views_at_once: int) -> int:
    """Pieces of a batch of `clip_batches`, a power of two; arguments as there.

    Examples:
        >>> pieces_of_batch(ViewSpec(5), 2000)
        16
    """
    return 1 << (max(1, views_at_once // views_in_piece(spec)).bit_length() - 1)


def clip_batches(
    clips: Iterable[ClipFrames], spec: ViewSpec, views_at_once: int
) -> Iterator[tuple[list[ClipFrames], ClipInput]]:
    """Clips cut into pieces of one size, in batches of one size.

    Args:
        clips: in the order of their positions.
        spec: length and hop of a clip's views.
        views_at_once: views of a batch, about.

    Yields:
        The clip of each piece, and the pieces; rows past these are padding.
    """
    views, size = views_in_piece(spec), pieces_of_batch(spec, views_at_once)
    under_way: dict[int, ClipFrames] = {}

    def pieces() -> Iterator[Piece]:
        for clip in clips:
            under_way[clip.position] = clip
            blocks = _filled(clip.blocks, spec) if spec.crop else clip.blocks
            yield from cut(clip.position, blocks, spec, views)

    for owners, values, n_frames in batches(pieces(), size):
        own = [under_way[owner] for owner in owners.tolist()]
        labels = np.zeros(len(values), np.int32)
        labels[: len(own)] = [clip.label for clip in own]
        embeddings = None
        if own[0].embedding is not None:
            embeddings = np.zeros((len(values), len(own[0].embedding)), np.float32)
            embeddings[: len(own)] = [clip.embedding for clip in own]
        under_way = {owner: clip for owner, clip in under_way.items() if owner >= owners[-1]}
        # NumPy arrays: a jitted function moves them to the device itself.
        arrays: tuple[Any, ...] = (values, n_frames, labels, embeddings)
        yield own, ClipInput(*arrays)
