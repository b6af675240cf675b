"""Signals cut into pieces: every view of every signal is in one piece, and in no other."""

import numpy as np
import pytest

from asd_jax.audio.views import ViewSpec, view_starts
from asd_jax.features.pieces import Piece, batches, cut, piece_length, views_in_piece


def in_blocks(signal, rng):
    """The signal in blocks of random lengths, some of them empty."""
    cuts = np.sort(rng.integers(0, len(signal) + 1, 5))
    return np.split(signal, cuts)


@pytest.mark.parametrize(
    "spec", [ViewSpec(5), ViewSpec(3, hop=2), ViewSpec(4, hop=4), ViewSpec(2, 7)]
)
@pytest.mark.parametrize("views", [1, 3, 8])
def test_each_view_is_in_one_piece(spec, views):
    """For signals of all lengths up to 60, also where the hop is longer than a view."""
    rng = np.random.default_rng(0)
    for n in range(60):
        signal = np.arange(1.0, n + 1)
        found = []
        for piece in cut(7, in_blocks(signal, rng), spec, views):
            assert piece.owner == 7
            assert len(piece.values) == piece_length(spec, views)
            assert not piece.values[piece.n_values :].any()
            starts = view_starts(piece.n_values, spec.length, spec.hop)
            assert 1 <= len(starts) <= views
            found += [piece.values[start : start + spec.length].tolist() for start in starts]
        starts = view_starts(n, spec.length, spec.hop)
        assert found == [signal[start : start + spec.length].tolist() for start in starts]


def test_only_the_last_piece_has_padding():
    frames = np.ones((1000, 2), np.int16)
    pieces = [*cut(0, [frames], ViewSpec(5), 64)]
    assert [piece.n_values for piece in pieces[:-1]] == [68] * 15
    assert pieces[-1].n_values == 1000 - 15 * 64
    assert {piece.values.dtype for piece in pieces} == {np.dtype(np.int16)}


@pytest.mark.parametrize(
    ("count", "rows"), [(0, []), (1, [1]), (3, [4]), (8, [8]), (9, [8, 8]), (17, [8, 8, 8])]
)
def test_batches_have_few_sizes(count, rows):
    """A power of two for what is less than a batch; else whole batches, the last one padded."""
    pieces = [
        piece for i in range(count) for piece in cut(i, [np.full((4, 1), i + 1.0)], ViewSpec(4), 1)
    ]
    found = [*batches(pieces, 8)]
    assert [len(batch.values) for batch in found] == rows
    assert [owner for batch in found for owner in batch.owners] == [*range(count)]
    for batch in found:
        own = len(batch.owners)
        np.testing.assert_array_equal(batch.values[:own, 0, 0], batch.owners + 1)
        assert not batch.values[own:].any() and not batch.n_values[own:].any()


@pytest.mark.parametrize(
    ("spec", "views"), [(ViewSpec(5), 64), (ViewSpec(64, hop=8), 8), (ViewSpec(79, hop=79), 1)]
)
def test_a_piece_advances_by_about_64_frames(spec, views):
    assert views_in_piece(spec) == views


def test_a_batch_that_is_all_there_is_has_one_of_few_sizes():
    """Enough rows, no more than asked for; above a half at most an eighth of them is padding."""
    for size in (1, 2, 3, 5, 8, 13, 16, 19, 32, 100, 128):
        rows = [
            next(batches([Piece(0, np.zeros((1, 1)), 1)] * count, size)).values.shape[0]
            for count in range(1, size + 1)
        ]
        for count, own in enumerate(rows, 1):
            assert count <= own <= min(size, 2 * count)
            if 2 * count > size:
                assert own - count < max(1, size / 8)
        assert len(set(rows)) <= size.bit_length() + 8
