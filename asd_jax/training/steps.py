"""One model's epoch, in pieces that all ways of driving a fleet share."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from asd_jax.config import TrainConfig
from asd_jax.runtime.traces import Program, Traces
from asd_jax.training.batches import gather_batch, shuffled
from asd_jax.training.models import Views
from asd_jax.training.task import Learner, Task


class FleetState(NamedTuple):
    """State of training, stacked on the first axis; the content of a checkpoint.

    Attributes:
        learner: the task's learners.
        best: "params" and "model_state" of the lowest monitored loss; empty without
            early stopping.
        best_loss: (models,) that loss.
        wait: (models,) epochs since then.
        epoch: (models,) epochs trained.
        stopped: (models,) true once frozen.
    """

    learner: Any
    best: Any
    best_loss: jax.Array
    wait: jax.Array
    epoch: jax.Array
    stopped: jax.Array


class EpochProgress(NamedTuple):
    """Progress within an epoch, of one model or stacked on the first axis.

    Attributes:
        learner: the learner so far.
        steps: () optimiser steps done.
        loss: () sum over the training views.
        views: () number of training views done, as float32, which has no overflow.
        validation_loss: () sum over the validation views.
        validation_views: () number of validation views done.
    """

    learner: Learner
    steps: jax.Array
    loss: jax.Array
    views: jax.Array
    validation_loss: jax.Array
    validation_views: jax.Array


def begin_epoch(state: FleetState) -> EpochProgress:
    """Progress before an epoch's first view, of one model or of all."""
    # Separate arrays, since each is donated; made from the state's to share their sharding; not
    # weakly typed, as they are not after a step, so that it compiles once.
    zeros = (state.epoch * np.float32(0) for _ in range(4))
    return EpochProgress(state.learner, state.epoch * 0, *zeros)


def train_step(
    task: Task,
    batch_size: int,
    table: jax.Array,
    key: jax.Array,
    epoch: jax.Array,
    views: Views,
    index: Any,
    progress: EpochProgress,
) -> EpochProgress:
    """One optimiser step of one model, on its batch number `index`; its key as in `FleetData`."""
    of_model = jax.random.wrap_key_data(key)

    def drawn(purpose: int) -> jax.Array:
        of_epoch = jax.random.fold_in(jax.random.fold_in(of_model, purpose), epoch)
        return jax.random.fold_in(of_epoch, progress.steps)

    batch = gather_batch(table, views, index, task, batch_size, drawn(3))._replace(epoch=epoch)
    learner, loss = task.step(progress.learner, batch, drawn(2))
    count = jnp.sum(batch.mask)
    return progress._replace(
        learner=learner,
        steps=progress.steps + 1,
        loss=progress.loss + loss * count,
        views=progress.views + count,
    )


def validation_step(
    task: Task, batch_size: int, table: jax.Array, views: Views, index: Any, progress: EpochProgress
) -> EpochProgress:
    """The loss of one model on its validation batch number `index`."""
    batch = gather_batch(table, views, index, task, batch_size)
    count = jnp.sum(batch.mask)
    return progress._replace(
        validation_loss=progress.validation_loss + task.loss(progress.learner, batch) * count,
        validation_views=progress.validation_views + count,
    )


def finish_epoch(
    patience: int, state: FleetState, progress: EpochProgress
) -> tuple[FleetState, dict[str, jax.Array]]:
    """Early stopping; a stopped model stays as it is. The state's learner is not used."""
    learner = progress.learner
    loss = progress.loss / progress.views
    validation_loss = progress.validation_loss / progress.validation_views
    trained = ~state.stopped
    # Without validation views the quotient is NaN, and the training loss is monitored.
    monitored = jnp.where(jnp.isnan(validation_loss), loss, validation_loss)
    improved = trained & (monitored < state.best_loss)
    wait = jnp.where(trained, jnp.where(improved, 0, state.wait + 1), state.wait)
    best = state.best
    if patience:
        best = jax.tree.map(
            functools.partial(jnp.where, improved), {k: learner[k] for k in best}, best
        )
    state = FleetState(
        learner=learner,
        best=best,
        best_loss=jnp.where(improved, monitored, state.best_loss),
        wait=wait,
        epoch=state.epoch + trained,
        stopped=state.stopped | (wait >= patience if patience else False),
    )
    nan = jnp.float32(jnp.nan)
    return state, {
        "loss": jnp.where(trained, loss, nan),
        "validation_loss": jnp.where(trained, validation_loss, nan),
    }


def train_window(task: Task, batch_size: int, shared: Any, model: Any) -> EpochProgress:
    """One model's steps on the views of one table; no array has the fleet's axis."""
    (table, window, n_windows), (data, state, progress) = shared, model
    views = shuffled(data, state.epoch * n_windows + window)

    def train(index: jax.Array, progress: EpochProgress) -> EpochProgress:
        return train_step(task, batch_size, table, data.key, state.epoch, views, index, progress)

    # The loop of a stopped model has no iterations.
    steps = jnp.where(state.stopped, 0, -(-views.count // batch_size))
    return jax.lax.fori_loop(0, steps, train, progress)


def validate_window(task: Task, batch_size: int, shared: Any, model: Any) -> EpochProgress:
    """One model's validation losses on the views of one table."""
    (table,), (data, state, progress) = shared, model
    held = data.validation

    def validate(index: jax.Array, progress: EpochProgress) -> EpochProgress:
        return validation_step(task, batch_size, table, held, index, progress)

    steps = jnp.where(state.stopped, 0, -(-held.count // batch_size))
    return jax.lax.fori_loop(0, steps, validate, progress)


def model_epoch(
    task: Task, config: TrainConfig, shared: Any, model: Any
) -> tuple[FleetState, dict[str, jax.Array]]:
    """One model's epoch if all its views are in one table."""
    (table,), (data, state) = shared, model
    size, progress = config.batch_size, begin_epoch(state)
    progress = train_window(task, size, (table, 0, 1), (data, state, progress))
    progress = validate_window(task, size, (table,), (data, state, progress))
    return finish_epoch(config.patience, state, progress)


class StepPrograms(NamedTuple):
    """Compiled pieces of one model's epoch that is driven from Python, step by step.

    Attributes:
        in_order: (FleetData, turn) → the training views in the order of that turn.
        train: as `train_step`, from its `table` on; the progress is donated.
        validate: as `validation_step`, from its `table` on; the progress is donated.
        finish: (FleetState, EpochProgress) → (FleetState, losses).
    """

    in_order: Callable[..., Any]
    train: Callable[..., EpochProgress]
    validate: Callable[..., EpochProgress]
    finish: Callable[..., Any]


def step_programs(task: Task, config: TrainConfig, traces: Traces | None = None) -> StepPrograms:
    """The programs of one model; compiled when they are called, or lowered, for the first time."""

    def program(function: Callable[..., EpochProgress], progress: int) -> Program:
        of_task = functools.partial(function, task, config.batch_size)
        return Program(
            function.__name__,
            of_task,
            lambda *arguments: arguments[progress],
            kind=task.kind,
            donate=progress,
            traces=traces,
        )

    return StepPrograms(
        jax.jit(shuffled),
        program(train_step, 5),
        program(validation_step, 3),
        jax.jit(functools.partial(finish_epoch, config.patience)),
    )
