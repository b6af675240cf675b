"""Batches of one model's views, gathered from the table of frames inside a compiled step."""

import jax
import jax.numpy as jnp

from asd_jax.audio.views import gather_crops, gather_views
from asd_jax.training.models import FleetData, Views
from asd_jax.training.placement import over_data_axis
from asd_jax.training.task import Batch, Task


def shuffled(data: FleetData, turn: jax.Array) -> Views:
    """A model's training views in the random order of one pass over them, the padding last.

    Random bits are drawn by counter, so that the first n of them, and with them the order, do
    not depend on the length of the padding.
    """
    views = data.training
    width = views.starts.shape[-1]
    key = jax.random.fold_in(jax.random.wrap_key_data(data.key), 1)
    key = jax.random.fold_in(key, turn)
    # Views are sorted by 31 random bits; padding has a larger number.
    bits = jax.random.bits(key, (width,)) >> 1
    bits = jnp.where(jnp.arange(width) < views.count, bits, jnp.uint32(1) << 31)
    order = jnp.argsort(bits)
    n_frames = None if views.n_frames is None else views.n_frames[order]
    return Views(views.starts[order], views.labels[order], views.count, n_frames)


def gather_batch(
    table: jax.Array,
    views: Views,
    index: jax.Array,
    task: Task,
    batch_size: int,
    key: jax.Array | None = None,
) -> Batch:
    """Batch number `index` of a model's views.

    Args:
        table: (frames, mels).
        views: of one model.
        index: () number of the batch.
        task: the model's task.
        batch_size: views in a batch.
        key: of where in its clip a view begins, if the task has one view a clip; None for the
            clip's beginning.
    """
    first = index * batch_size

    def rows(column: jax.Array) -> jax.Array:
        return over_data_axis(jax.lax.dynamic_slice(column, (first,), (batch_size,)))

    starts, labels = rows(views.starts), rows(views.labels)
    mask = over_data_axis(first + jnp.arange(batch_size) < views.count)
    if not task.crop:
        return Batch(gather_views(table, starts, task.view_length), labels, mask)
    assert views.n_frames is not None  # as `lay_out_views` gives them
    n_frames = jnp.maximum(rows(views.n_frames), 1)  # padding has 0
    offsets = jnp.zeros_like(starts)
    if key is not None:
        # A repeated clip begins anywhere; of a longer one, the view ends before its end.
        spare = n_frames - task.view_length + 1
        places = jnp.where(spare > 0, spare, n_frames)
        offsets = over_data_axis(jax.random.randint(key, starts.shape, 0, places))
    return Batch(gather_crops(table, starts, n_frames, offsets, task.view_length), labels, mask)
