"""Signals in pieces of one size, whatever their lengths.

A signal is a recording's samples, or its frames of features. It is cut into pieces of so many
views; neighbours overlap by what a view reaches into the next, so that each view is whole in one
piece:

    signal   ─────────────────────────────     views of 3 frames, 4 views a piece
    pieces   ──────
                 ──────
                     ──────

Pieces of all signals, one after another, make batches of one size. So one compiled program serves
signals of any length, an hour needs no more memory than a minute, and little is padded: the last
piece of each signal, and the last batch.
"""

import itertools
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np

from asd_jax.audio.views import ViewSpec

# Frames from one piece's start to the next one's, about.
_STEP = 64


class Piece(NamedTuple):
    """A piece of a signal.

    Attributes:
        owner: which signal it is of.
        values: (values, ...) of `piece_length` values, zeros at its end where the signal ends.
        n_values: how many are the signal's own.
    """

    owner: int
    values: np.ndarray
    n_values: int


class PieceBatch(NamedTuple):
    """Pieces for one call of a program.

    Attributes:
        owners: (pieces,) which signal each is of, in ascending order; without padding.
        values: (rows, values, ...); rows past the pieces are zeros.
        n_values: int32 (rows,), how many values of each piece are its signal's own.
    """

    owners: np.ndarray
    values: np.ndarray
    n_values: np.ndarray


def views_in_piece(spec: ViewSpec) -> int:
    """Views of a piece.

    Examples:
        >>> views_in_piece(ViewSpec(5)), views_in_piece(ViewSpec(64, hop=8))
        (64, 8)
    """
    return max(1, _STEP // spec.hop)


def piece_length(spec: ViewSpec, views: int) -> int:
    """Values of a piece of so many views.

    Examples:
        >>> piece_length(ViewSpec(64, hop=8), 8)
        120
    """
    return spec.length + spec.hop * (views - 1)


def cut(owner: int, blocks: Iterable[np.ndarray], spec: ViewSpec, views: int) -> Iterator[Piece]:
    """Cuts a signal into pieces.

    Args:
        owner: which signal it is.
        blocks: (values, ...) of the signal, one after another, of any lengths.
        spec: length and hop of the views.
        views: of a piece.

    Yields:
        The pieces; none of a signal that is shorter than a view.

    Examples:
        >>> frames = np.arange(7.0)[:, None]
        >>> for piece in cut(0, [frames[:2], frames[2:]], ViewSpec(3), views=2):
        ...     print(piece.values.ravel(), piece.n_values)
        [0. 1. 2. 3.] 4
        [2. 3. 4. 5.] 4
        [4. 5. 6. 0.] 3
    """
    length, step = piece_length(spec, views), spec.hop * views
    waiting: list[np.ndarray] = []  # blocks whose values are not in all their pieces yet
    n_waiting = passed = 0  # their values; values to pass over before the next piece
    for block in blocks:
        if passed:
            passed, block = max(0, passed - len(block)), block[passed:]
        waiting.append(block)
        n_waiting += len(block)
        if n_waiting < length:
            continue
        values = np.concatenate(waiting) if len(waiting) > 1 else block
        start = 0
        while n_waiting - start >= length:
            yield Piece(owner, values[start : start + length], length)
            start += step
        passed = max(0, start - n_waiting)
        waiting = [values[start:]]
        n_waiting = len(waiting[0])
    if n_waiting >= spec.length:
        values = np.concatenate(waiting)
        padded = np.zeros((length, *values.shape[1:]), values.dtype)
        padded[:n_waiting] = values
        yield Piece(owner, padded, n_waiting)


def batches(pieces: Iterable[Piece], size: int) -> Iterator[PieceBatch]:
    """Puts pieces together for calls of one program.

    Args:
        pieces: of signals in ascending order, all of one shape.
        size: pieces of a batch. Where there are fewer in all, see `_few_rows`.

    Examples:
        >>> pieces = [Piece(0, np.ones((4, 1)), 4), Piece(1, np.ones((4, 1)), 2)] * 2
        >>> [batch.values.shape for batch in batches(pieces[:3], size=8)]
        [(4, 4, 1)]
        >>> [(batch.values.shape, len(batch.owners)) for batch in batches(pieces[:3], size=2)]
        [((2, 4, 1), 2), ((2, 4, 1), 1)]
    """
    pieces, rows = iter(pieces), 0
    while chosen := [*itertools.islice(pieces, size)]:
        rows = size if rows else _few_rows(len(chosen), size)
        first = chosen[0].values
        values = np.empty((rows, *first.shape), first.dtype)
        values[len(chosen) :] = 0
        n_values = np.zeros(rows, np.int32)
        for row, piece in enumerate(chosen):
            values[row], n_values[row] = piece.values, piece.n_values
        yield PieceBatch(np.array([piece.owner for piece in chosen]), values, n_values)


def row_counts(size: int) -> list[int]:
    """Rows that batches of so many pieces have, ascending: what a program is compiled for.

    Examples:
        >>> row_counts(16)
        [1, 2, 4, 8, 10, 12, 14, 16]
    """
    return sorted({_few_rows(count, size) for count in range(1, size + 1)})


def _few_rows(count: int, size: int) -> int:
    """Rows of a batch that is all there is: a short signal costs little, and few programs are made.

    The next power of two, or the next eighth of `size` above its half, where padding costs most.

    Examples:
        >>> [_few_rows(count, 16) for count in (1, 3, 8, 9, 11, 14, 15, 16)]
        [1, 4, 8, 10, 12, 14, 16, 16]
    """
    if 2 * count <= size:
        return 1 << (count - 1).bit_length()
    eighth = max(1, size // 8)
    return min(size, -(-count // eighth) * eighth)
