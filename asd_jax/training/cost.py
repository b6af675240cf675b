"""Estimates of the cost of training before it starts: models, values, steps, bytes, time."""

import functools
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from asd_jax.config import TrainConfig
from asd_jax.runtime.compilation import compiler_options
from asd_jax.training import Batch, fleet
from asd_jax.training.models import FleetClips
from asd_jax.training.programs import data_shapes
from asd_jax.training.task import Learner, Task, count_values
from asd_jax.training.trainer import table_bytes
from asd_jax.training.windows import schedule


class Cost(NamedTuple):
    """Cost of training on JAX's default device.

    Attributes:
        models: models in the fleet.
        clips: clips in the table of clips.
        values: weights and running statistics of a model.
        steps: optimiser steps of all models in an epoch.
        epochs: largest number of epochs.
        driver: how the models share the device, see `TrainConfig.driver`.
        windows: training windows of an epoch, streamed through the device; 1 if all frames are
            resident.
        frames_bytes: frames resident on the device.
        views_bytes: starts and labels of their views.
        state_bytes: weights, best weights and optimiser state of all models.
        step_bytes: intermediate values of a step, as reported by XLA, of all models that are
            computed together.
        device_bytes: memory of the device; None if it does not report it.
        seconds: of training on one device, if requested; see `estimate_cost`.
    """

    models: int
    clips: int
    values: int
    steps: int
    epochs: int
    driver: str
    windows: int
    frames_bytes: int
    views_bytes: int
    state_bytes: int
    step_bytes: int
    device_bytes: int | None
    seconds: float | None = None

    @property
    def total_bytes(self) -> int:
        """Frames, views, state and step together."""
        return self.frames_bytes + self.views_bytes + self.state_bytes + self.step_bytes


def estimate_cost(
    task: Task,
    fleet_clips: FleetClips,
    settings: TrainConfig,
    n_mels: int,
    *,
    dtype: str = "float32",
    timed: bool = False,
) -> Cost:
    """Estimates the cost of training; reads and trains nothing, compiles one step.

    Args:
        task: the models' task.
        fleet_clips: the models and their clips.
        settings: training settings.
        n_mels: bands of a frame.
        dtype: of its values.
        timed: estimate the seconds of training too, from a few steps on made-up weights and
            views, times all steps and epochs: the steps of the largest model if models are
            computed together, else those of all models. Shuffling, gathering views, features,
            scoring and early stopping are left out.
    """
    n_views = fleet_clips.n_views()
    parts = [
        [int(n_views[part.clips].sum()) for part in both]
        for both in zip(fleet_clips.training, fleet_clips.validation, strict=True)
    ]
    size = settings.batch_size
    row_bytes = np.dtype(dtype).itemsize * n_mels
    windows = schedule(fleet_clips, row_bytes, table_bytes(settings))
    at_once = 1 if windows.resident else 2  # the next window is read while one is trained on
    count = len(fleet_clips.models)
    data = data_shapes(count, windows, n_mels, task.crop)
    state = jax.eval_shape(lambda data: fleet.init_state(task, data, settings), data)
    learner = jax.tree.map(lambda leaf: _shape(*leaf.shape[1:], dtype=leaf.dtype), state.learner)
    batch = Batch(
        _shape(size, task.view_length, n_mels, dtype=np.dtype(dtype)),
        _shape(size),
        _shape(size, dtype=jnp.bool_),
    )
    key = jax.eval_shape(lambda: jax.random.key(0))
    jit = functools.partial(jax.jit, compiler_options=compiler_options(task.kind))
    compiled = jit(task.step, donate_argnums=0).lower(learner, batch, key).compile()
    memory: Any = compiled.memory_analysis()
    driver = fleet.choose_driver(settings, task.kind)
    step_bytes = memory.temp_size_in_bytes + _bytes(batch)
    limits = jax.devices()[0].memory_stats() or {}
    # Steps of each model, in training and in validation.
    steps = [[-(-views // size) for views in column] for column in zip(*parts, strict=True)]
    cost = Cost(
        models=count,
        clips=len(fleet_clips.n_frames),
        values=count_values(task, n_mels),
        steps=sum(steps[0]),
        epochs=settings.epochs,
        driver=driver,
        windows=windows.n_training,
        frames_bytes=at_once * windows.rows * row_bytes,
        views_bytes=at_once * _bytes((data.training, data.validation)),
        state_bytes=_bytes(state),
        step_bytes=step_bytes * (count if driver == "vmap" else 1),
        device_bytes=limits.get("bytes_limit"),
    )
    if not timed:
        return cost
    step: Callable[..., Any] = compiled
    loss, turns = jit(task.loss), [sum(column) for column in steps]
    if driver == "vmap":
        step = jit(jax.vmap(task.step), donate_argnums=0)
        loss, turns = jit(jax.vmap(task.loss)), [max(column) for column in steps]
        learner, batch, key = state.learner, _stacked(batch, count), _stacked(key, count)
    seconds = _seconds_of_steps(step, loss, learner, batch, key)
    return cost._replace(seconds=settings.epochs * float(np.dot(turns, seconds)))


def _shape(*axes: int, dtype: Any = jnp.int32) -> Any:
    """An array's shape and type; Any, as it stands where arrays do."""
    return jax.ShapeDtypeStruct(axes, dtype)


def _stacked(tree: Any, count: int) -> Any:
    """Shapes with an added leading axis."""
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct((count, *x.shape), x.dtype), tree)


def _seconds_of_steps(
    step: Callable[..., Any],
    loss: Callable[..., Any],
    learner: Learner,
    batch: Batch,
    key: jax.Array,
) -> tuple[float, float]:
    """Median seconds of a training and of a validation step on trees of shapes."""

    def made_up(tree: Any) -> Any:
        # Small numbers other than 0, as some hardware multiplies zeros faster.
        return jax.tree.map(lambda leaf: jnp.full(leaf.shape, 0.01).astype(leaf.dtype), tree)

    learner, batch = made_up(learner), made_up(batch)
    batch = batch._replace(mask=jnp.ones_like(batch.mask))
    keys = jax.random.split(jax.random.key(0), key.shape)
    medians = []
    for training in (True, False):
        taken: list[float] = []
        # One call to compile and warm up, then for half a second, at least three.
        while len(taken) < 4 or (sum(taken[1:]) < 0.5 and len(taken) < 100):
            begin = time.perf_counter()
            if training:
                learner, _ = jax.block_until_ready(step(learner, batch, keys))
            else:
                jax.block_until_ready(loss(learner, batch))
            taken.append(time.perf_counter() - begin)
        medians.append(float(np.median(taken[1:])))
    return medians[0], medians[1]


def _bytes(tree: Any) -> int:
    return sum(
        int(np.prod(leaf.shape, dtype=np.int64)) * leaf.dtype.itemsize
        for leaf in jax.tree.leaves(tree)
    )
