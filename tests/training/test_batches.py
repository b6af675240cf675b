"""Batches of crops: one view of each clip, that begins anywhere in it."""

import jax
import numpy as np

from asd_jax.training.batches import gather_batch
from asd_jax.training.models import Views
from asd_jax.training.task import Task

LENGTH = 6
# Three clips, one after another: shorter than a view, as long, and longer.
N_FRAMES = np.array([4, 6, 9])
FIRST = np.array([0, 4, 10])
TABLE = np.arange(19, dtype=np.int16)[:, None]
TASK = Task(None, None, None, LENGTH, crop=True)
VIEWS = Views(
    np.append(FIRST, 0), np.append([5, 6, 7], 0), np.int32(3), np.append(N_FRAMES, 0)
)  # and a row of padding


def batch(key):
    take = jax.jit(lambda key: gather_batch(TABLE, VIEWS, np.int32(0), TASK, 4, key))
    return jax.tree.map(np.asarray, take(key))


def test_every_view_is_of_its_clip_in_order_and_begins_anywhere():
    starts = [set(), set(), set()]
    take = jax.jit(
        jax.vmap(lambda key: gather_batch(TABLE, VIEWS, np.int32(0), TASK, 4, key).views)
    )
    for views in np.asarray(take(jax.random.split(jax.random.key(0), 100)))[..., 0]:
        for clip in range(3):
            within = views[clip] - FIRST[clip]
            start = int(within[0])
            expected = (start + np.arange(LENGTH)) % N_FRAMES[clip]
            np.testing.assert_array_equal(within, expected)
            starts[clip].add(start)
    # A repeated clip begins anywhere; of a longer one, the view ends before its end.
    assert starts == [{0, 1, 2, 3}, {0}, {0, 1, 2, 3}]


def test_the_crop_depends_on_the_key_alone_and_validation_begins_at_the_start():
    one, same, other = (batch(jax.random.key(seed)) for seed in (1, 1, 2))
    np.testing.assert_array_equal(one.views, same.views)
    assert (one.views != other.views).any()
    assert one.labels.tolist()[:3] == [5, 6, 7] and one.mask.tolist() == [True, True, True, False]
    first = gather_batch(TABLE, VIEWS, np.int32(0), TASK, 4)
    np.testing.assert_array_equal(first.views[:3, 0, 0], FIRST)
