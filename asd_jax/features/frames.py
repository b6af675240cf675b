"""Frames of recordings of any lengths, in a fixed amount of memory, by one compiled program."""

import contextlib
import functools
import itertools
from collections.abc import Callable, Iterable, Iterator
from operator import itemgetter
from typing import Any

import jax
import numpy as np

from asd_jax.audio.views import ViewSpec, fill_view
from asd_jax.data.recordings import Waveform
from asd_jax.errors import UserError
from asd_jax.features.checks import checked_waveforms
from asd_jax.features.pieces import Piece, PieceBatch, batches, cut
from asd_jax.features.request import ClipFrontEnd, WithArrays
from asd_jax.runtime.side_by_side import dispatchers, in_order, over_devices

_PIECE_FRAMES = 64
# A GPU or TPU is given more frames at once than a CPU: it has more memory, and needs more work.
_ACCELERATOR = 8
# Frames of a recording up to which they are in memory together: 8 MiB of 128 bands.
_TOGETHER = 2**14
_NOT_FINITE = "its features are not finite numbers; restore the file or remove it"


def frame_blocks(
    waveforms: Iterable[tuple[int, Waveform]], front_end: ClipFrontEnd
) -> Iterator[tuple[int, Iterator[np.ndarray]]]:
    """Computes frames of waveforms.

    Args:
        waveforms: each with a number of its own, ascending; none of them without a frame.
        front_end: computes the features, on JAX's default device.

    Yields:
        The number of a waveform, and its frames (frames, width) in blocks, one after another.
        A waveform's blocks must be used before the next one's.

    Examples:
        >>> from asd_jax.audio import FrontEnd
        >>> waveforms = [(0, Waveform.of(np.zeros(16000, np.float32)))]
        >>> for number, blocks in frame_blocks(waveforms, FrontEnd(n_mels=64)):
        ...     print(number, [block.shape for block in blocks])
        0 [(32, 64)]
    """
    for number, blocks in itertools.groupby(_blocks(waveforms, front_end), key=itemgetter(0)):
        yield number, map(itemgetter(1), blocks)


def usable_frames(
    waveforms: Iterable[tuple[int, Waveform]],
    front_end: ClipFrontEnd,
    *,
    min_frames: int,
    fill_frames: int,
    leave_out: Callable[[int, str], None],
) -> Iterator[tuple[int, Iterable[np.ndarray]]]:
    """Computes frames of the waveforms that have enough.

    Args:
        waveforms: as of `frame_blocks`.
        front_end: as of `frame_blocks`.
        min_frames: frames that a waveform must have.
        fill_frames: frames up to which a shorter one is repeated.
        leave_out: called with the number of a waveform that cannot be used, and why.

    Yields:
        As `frame_blocks`.

    Raises:
        UserError: the features of a long waveform are not finite.
    """
    n_frames: dict[int, int] = {}

    def long_enough() -> Iterator[tuple[int, Waveform]]:
        for number, waveform in waveforms:
            try:
                n = front_end.frames(waveform.n_samples)
            except UserError as error:
                leave_out(number, str(error))
                continue
            if n < min_frames:
                leave_out(
                    number,
                    f"too short: {n} frames where {min_frames} are needed; give a longer one",
                )
                continue
            n_frames[number] = n
            yield number, waveform

    for number, blocks in frame_blocks(long_enough(), front_end):
        if n_frames.pop(number) > _TOGETHER:
            yield number, _finite(blocks, number, leave_out)
            continue
        frames = np.concatenate([*blocks])  # (frames, width)
        if np.isfinite(frames).all():
            yield number, [fill_view(frames, fill_frames)]
        else:
            leave_out(number, _NOT_FINITE)


def _finite(
    blocks: Iterable[np.ndarray], number: int, leave_out: Callable[[int, str], None]
) -> Iterator[np.ndarray]:
    for block in blocks:
        if not np.isfinite(block).all():
            leave_out(number, _NOT_FINITE)
            # Some of its frames are used already.
            raise UserError("a long recording cannot be left out in its middle; remove it")
        yield block


def frame_batches(front_end: ClipFrontEnd) -> tuple[int, int]:
    """Frames of a piece, and pieces of a batch, on JAX's default device."""
    at_once = front_end.frames_at_once * (1 if jax.default_backend() == "cpu" else _ACCELERATOR)
    in_piece = min(_PIECE_FRAMES, at_once)
    return in_piece, max(1, at_once // in_piece)


def _blocks(
    waveforms: Iterable[tuple[int, Waveform]], front_end: ClipFrontEnd
) -> Iterator[tuple[int, np.ndarray]]:
    """The number of a waveform and some of its frames."""
    frame = ViewSpec(front_end.n_fft, front_end.hop_length)
    in_piece, in_batch = frame_batches(front_end)

    def pieces() -> Iterator[Piece]:
        for number, waveform in waveforms:
            yield from cut(number, _padded(waveform, front_end), frame, in_piece)

    program = _program(front_end)  # type: ignore[arg-type]  # a frozen dataclass

    def computed(batch: PieceBatch) -> tuple[PieceBatch, np.ndarray]:
        return batch, np.asarray(program(batch.values))  # (rows, frames, width)

    # Batches are computed side by side while the next one is read.
    in_turn = in_order(computed, batches(pieces(), in_batch), dispatchers())
    with contextlib.closing(in_turn):
        for batch, values in in_turn:
            yield from _collected(batch, values, frame)


@functools.lru_cache(maxsize=4)
def _program(front_end: ClipFrontEnd) -> Callable[[Any], Any]:
    """Waveforms (rows, samples) → (rows, frames, width)."""
    if jax.local_device_count() == 1 or jax.default_backend() == "cpu":
        return front_end.of_padded  # which is compiled
    if isinstance(front_end, WithArrays):  # as arguments: in the program they would be constants
        program = over_devices(lambda arrays, rows: front_end.with_arrays(arrays).of_padded(rows))
        return functools.partial(program, front_end.arrays)
    return functools.partial(over_devices(lambda _, rows: front_end.of_padded(rows)), ())


def _padded(waveform: Waveform, front_end: ClipFrontEnd) -> Iterator[np.ndarray]:
    before, behind = front_end.padding(waveform.n_samples)
    if getattr(front_end, "pad_mode", "constant") == "reflect":
        yield from _reflected(waveform.blocks, before, behind)
        return
    yield np.zeros(before, np.float32)
    yield from waveform.blocks
    yield np.zeros(behind, np.float32)


def _reflected(blocks: Iterable[np.ndarray], before: int, behind: int) -> Iterator[np.ndarray]:
    """Blocks with their reflection on both sides, as of `numpy.pad` of all of them."""
    blocks = iter(blocks)
    head = np.zeros(0, np.float32)
    while len(head) <= max(before, behind):
        block = next(blocks, None)
        if block is None:  # reflected more than once
            yield np.pad(head, (before, behind), mode="reflect")
            return
        head = np.concatenate([head, block])
    yield head[before:0:-1]
    last = np.zeros(0, np.float32)
    for block in itertools.chain([head], blocks):
        yield block
        # Enough for the end, whose blocks may be shorter than that.
        last = np.concatenate([last, block[-behind - 1 :]])[-behind - 1 :]
    yield last[-2::-1]


def _collected(
    batch: PieceBatch, values: np.ndarray, frame: ViewSpec
) -> Iterator[tuple[int, np.ndarray]]:
    for row, owner in enumerate(batch.owners.tolist()):
        n_frames = 1 + (int(batch.n_values[row]) - frame.length) // frame.hop
        yield owner, values[row, :n_frames]


def frames_in_memory(
    waveforms: np.ndarray,
    sample_rate: int,
    front_end: ClipFrontEnd,
    views: ViewSpec | None = None,
    canceller: bool = False,
) -> list[np.ndarray]:
    """Frames of each waveform in memory.

    Args:
        waveforms: (clips, samples), or (samples,) of one clip.
        sample_rate: Hz; resampled where it is not the front end's.
        front_end: computes the frames.
        views: how they are cut, where they have to have enough frames.
        canceller: as of `checked_waveforms`.

    Returns:
        (frames, width) of each.

    Raises:
        UserError: waveforms of other shapes, with samples that are not finite, or too short.
    """
    checked = checked_waveforms(waveforms, sample_rate, front_end.sample_rate, canceller)
    n_frames = front_end.frames(checked.shape[1])  # UserError where they have none
    if views is not None and n_frames < views.fewest:
        rate, needed = front_end.sample_rate, views.fewest * front_end.hop_length
        raise UserError(
            f"too short: {checked.shape[1] / rate:.4g} s have {n_frames} frames where "
            f"{views.fewest} are needed, about {needed / rate:.4g} s"
        )
    numbered = ((i, Waveform.of(waveform)) for i, waveform in enumerate(checked))
    clips = (np.concatenate([*blocks]) for _, blocks in frame_blocks(numbered, front_end))
    return [clip if views is None else fill_view(clip, views.filled) for clip in clips]
