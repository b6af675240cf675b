import jax
import numpy as np
import pytest

from asd_jax.audio import count_views, gather_views, view_starts
from asd_jax.errors import UserError


def test_baseline_has_309_vectors():
    starts = view_starts(313, 5)
    assert starts.dtype == np.int32
    np.testing.assert_array_equal(starts, np.arange(309))


@pytest.mark.parametrize(
    "n_frames, length, hop, expected",
    [
        (313, 64, 8, range(0, 250, 8)),
        (10, 4, 3, [0, 3, 6]),
        (11, 4, 3, [0, 3, 6]),
        (5, 5, 1, [0]),
        (4, 5, 1, []),
        (0, 1, 1, []),
    ],
)
def test_view_starts_by_hand(n_frames, length, hop, expected):
    assert view_starts(n_frames, length, hop).tolist() == list(expected)


@pytest.mark.parametrize(("length", "hop"), [(1, 1), (5, 1), (5, 3), (64, 8)])
def test_views_are_counted_as_they_start(length, hop):
    n_frames = np.arange(0, 200, dtype=np.int32)
    expected = [len(view_starts(n, length, hop)) for n in n_frames]
    np.testing.assert_array_equal(count_views(n_frames, length, hop), expected)


@pytest.mark.parametrize("length, hop", [(0, 1), (5, 0)])
def test_length_and_hop_are_positive(length, hop):
    with pytest.raises(UserError, match="must be positive"):
        view_starts(10, length, hop)


def test_vectors_are_stacked_frame_by_frame():
    rng = np.random.default_rng(0)
    clips = [rng.standard_normal((n, 8)).astype(np.float32) for n in (13, 4, 9)]
    expected = [
        np.concatenate([clip[first + frame] for frame in range(5)])
        for clip in clips
        for first in range(len(clip) - 4)
    ]
    offsets = np.cumsum([0] + [len(clip) for clip in clips])
    starts = np.concatenate(
        [offset + view_starts(len(clip), 5) for offset, clip in zip(offsets, clips, strict=False)]
    )
    table = np.concatenate(clips)
    views = jax.jit(gather_views, static_argnums=2)(table, starts, 5)
    np.testing.assert_array_equal(views.reshape(-1, 40), expected)


def test_any_leading_axes():
    table = np.arange(20.0, dtype=np.float32)[:, None]
    gather = jax.jit(gather_views, static_argnums=2)
    views = np.asarray(gather(table, np.array([[0, 3, 6], [1, 2, 16]]), 4))
    assert views.shape == (2, 3, 4, 1)
    np.testing.assert_array_equal(views[1, 2, :, 0], [16, 17, 18, 19])
    assert np.ravel(gather(table, np.int32(7), 2)).tolist() == [7, 8]
