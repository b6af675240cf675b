"""Batches of clips of any lengths, and how a table is read for them."""

import jax
import numpy as np
import pytest

from asd_jax.audio import ViewSpec
from asd_jax.features import batches
from asd_jax.features.batches import ClipFrames, clip_batches, read_blocks, table_clips
from asd_jax.features.table import ArrayFeatures

LENGTHS = (2, 1, 4, 7, 1, 1, 12)


class Counting(ArrayFeatures):
    """Counts the frames of each read."""

    def __init__(self, arrays):
        super().__init__((), arrays)
        self.reads = []

    def read_clips(self, indices):
        self.reads.append(int(self.n_frames[indices].sum()))
        return super().read_clips(indices)

    def read_frames(self, index, start, stop):
        self.reads.append(stop - start)
        return super().read_frames(index, start, stop)


@pytest.mark.parametrize(
    ("together", "reads"),
    [(1, 28 * [1]), (5, [5, 5, 2, 3, 4, 5, 2, 2]), (1000, [28])],
)
def test_a_table_is_read_by_so_many_frames(monkeypatch, together, reads):
    """Short clips together, long ones in parts: never more frames than may be in memory."""
    monkeypatch.setattr(batches, "_READ_FRAMES", together)
    clips = [np.full((n, 2), i, np.float32) for i, n in enumerate(LENGTHS)]
    table, order = Counting(clips), np.array([6, 0, 1, 2, 3, 4, 5])
    found = []
    for position, blocks in read_blocks(table, order):
        frames = np.concatenate([*blocks])
        np.testing.assert_array_equal(frames, clips[order[position]])
        found.append(position)
    assert found == [*range(7)]
    assert table.reads == reads


def test_pieces_know_their_clip():
    """Labels and embeddings go with each piece of a clip, of which a batch may have the rest."""
    table = ArrayFeatures((), [np.full((n, 1), n, np.float32) for n in (200, 5, 70)])
    table.embeddings = np.arange(6.0).reshape(3, 2)
    labels = np.array([4, 5, 6], np.int32)
    found = [*clip_batches(table_clips(table, [0, 1, 2], labels), ViewSpec(5), 2 * 64)]
    positions = [[clip.position for clip in clips] for clips, _ in found]
    assert positions == [[0, 0], [0, 0], [1, 2], [2]]
    for clips, batch in found:
        assert batch.features.shape == (2, 68, 1)
        for row, clip in enumerate(clips):
            assert batch.label[row] == labels[clip.position] == clip.label
            np.testing.assert_array_equal(batch.embedding[row], table.embeddings[clip.position])
            assert (batch.features[row, : batch.n_frames[row]] == (200, 5, 70)[clip.position]).all()
    assert found[-1][1].n_frames.tolist() == [6, 0]


def test_clips_without_embeddings_and_labels():
    clips = [ClipFrames(0, [np.zeros((6, 3), np.float32)])]
    ((_, batch),) = clip_batches(clips, ViewSpec(5), 8192)
    assert batch.embedding is None and batch.label.tolist() == [0]
    assert batch.features.shape == (1, 68, 3)  # one piece, not a whole batch


@pytest.mark.parametrize("n_frames", [3, 8, 9, 13, 16, 40])
def test_views_of_a_crop_reach_the_end_of_every_clip(n_frames):
    """A short clip is repeated; behind the end of a longer one, its beginning follows."""
    spec = ViewSpec(length=8, hop=3, fewest_frames=1, crop=True)
    frames = np.arange(n_frames, dtype=np.float32)[:, None]
    blocks = [frames[:5], frames[5:12], frames[12:]]
    clip = ClipFrames(0, [block for block in blocks if len(block)])
    heard = []
    for owners, batch in clip_batches([clip], spec, views_at_once=1):
        views, mask = jax.vmap(lambda piece: piece.views(spec))(batch)
        for row in range(len(owners)):
            heard += np.asarray(views[row, ..., 0])[np.asarray(mask[row])].tolist()
    for number, view in enumerate(heard):
        assert view == [(3 * number + i) % n_frames for i in range(8)]
    assert {int(frame) for view in heard for frame in view} == {*range(n_frames)}
