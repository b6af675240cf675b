"""Training many models of one shape as one program.

The field trains dozens of small models: one a machine or section, times several seeds.
Here they are one stacked tree of arrays with a leading axis, the fleet's. Each member has
its own data, key, shuffling, validation clips and early stopping, and takes no notice of
the others: its result is the one it would have had alone.

Features lie on the device as one table of frames. A member's data is the list of frames at
which its views start, so what is padded to a common length is a list of integers, and a view
exists only inside the step that uses it. Where the table holds a part of the data at a time, an
epoch is driven window by window, see `windows`.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, PartitionSpec

from asd_jax.audio.views import gather_views
from asd_jax.config import TrainConfig
from asd_jax.runtime.compilation import compiler_options
from asd_jax.training.members import FleetData, Views
from asd_jax.training.placement import DATA_AXIS, FLEET_AXIS, over_data_axis
from asd_jax.training.task import Batch, Learner, Task


class FleetState(NamedTuple):
    """What training changes, stacked on the first axis, and all that a checkpoint holds.

    Attributes:
        learner: the task's learners.
        best: "params" and "model_state" of the lowest monitored loss; empty without
            early stopping.
        best_loss: (members,) that loss.
        wait: (members,) epochs since then.
        epoch: (members,) epochs trained.
        stopped: (members,) true once frozen.
    """

    learner: Any
    best: Any
    best_loss: jax.Array
    wait: jax.Array
    epoch: jax.Array
    stopped: jax.Array


def init_state(task: Task, data: FleetData, config: TrainConfig) -> FleetState:
    """Every member's first state, from its own key and training frames."""

    def one(start):
        key, statistics = start
        learner = task.init(jax.random.fold_in(key, 0), statistics)
        keep = {name: learner[name] for name in ("params", "model_state")}
        return FleetState(
            learner=learner,
            best=keep if config.patience else {},
            best_loss=jnp.float32(jnp.inf),
            wait=jnp.int32(0),
            epoch=jnp.int32(0),
            stopped=jnp.bool_(False),
        )

    # One after another, not vmapped, so that a member's draw cannot depend on the others.
    return jax.lax.map(one, (data.key, data.statistics))


def weights(state: FleetState) -> dict[str, Any]:
    """The weights that training leaves: the best where they are kept, else the last."""
    kept = state.best or state.learner
    return {"params": kept["params"], **kept["model_state"]}


# One member's epoch, in the pieces that all ways of driving it share.


class Passage(NamedTuple):
    """How far an epoch is; of one member, or stacked on the first axis.

    Attributes:
        learner: as the epoch has changed it.
        steps: () optimiser steps done.
        loss: () sum over the training views.
        views: () training views done, as float32, of which there may be any number.
        validation_loss: () sum over the validation views.
        validation_views: () of them.
    """

    learner: Learner
    steps: jax.Array
    loss: jax.Array
    views: jax.Array
    validation_loss: jax.Array
    validation_views: jax.Array


def begin_epoch(state: FleetState) -> Passage:
    """The passage before an epoch's first view, of one member or of all."""
    # Arrays of their own, for each is given away, and where the state's are.
    return Passage(state.learner, state.epoch * 0, *(state.epoch * 0.0 for _ in range(4)))


def _shuffled(data: FleetData, turn: jax.Array) -> Views:
    """A member's training views in the order of a turn, the padding last.

    Keys are drawn by counter, so the first n of them, and with them the order, are the
    same however long the padding is.
    """
    views = data.training
    width = views.starts.shape[-1]
    key = jax.random.fold_in(jax.random.fold_in(data.key, 1), turn)
    bits = jax.random.bits(key, (width,)) >> 1
    bits = jnp.where(jnp.arange(width) < views.count, bits, jnp.uint32(1) << 31)
    order = jnp.argsort(bits)
    return Views(views.starts[order], views.labels[order], views.count)


def _batch(table, views: Views, index, task: Task, batch_size: int) -> Batch:
    first = index * batch_size
    starts, labels = (
        over_data_axis(jax.lax.dynamic_slice(column, (first,), (batch_size,)))
        for column in (views.starts, views.labels)
    )
    mask = over_data_axis(first + jnp.arange(batch_size) < views.count)
    return Batch(gather_views(table, starts, task.view_length), labels, mask)


def _train_step(task, batch_size, table, key, epoch, views, index, passage: Passage) -> Passage:
    batch = _batch(table, views, index, task, batch_size)
    key = jax.random.fold_in(jax.random.fold_in(jax.random.fold_in(key, 2), epoch), passage.steps)
    learner, loss = task.step(passage.learner, batch, key)
    count = jnp.sum(batch.mask)
    return passage._replace(
        learner=learner,
        steps=passage.steps + 1,
        loss=passage.loss + loss * count,
        views=passage.views + count,
    )


def _validation_step(task, batch_size, table, views, index, passage: Passage) -> Passage:
    batch = _batch(table, views, index, task, batch_size)
    count = jnp.sum(batch.mask)
    return passage._replace(
        validation_loss=passage.validation_loss + task.loss(passage.learner, batch) * count,
        validation_views=passage.validation_views + count,
    )


def _finish_epoch(
    patience: int, state: FleetState, passage: Passage
) -> tuple[FleetState, dict[str, jax.Array]]:
    """Early stopping; a stopped member stays as it is. The state's learner is not looked at."""
    learner = passage.learner
    loss = passage.loss / passage.views
    validation_loss = passage.validation_loss / passage.validation_views
    trained = ~state.stopped
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


def _train_window(task, batch_size, shared, member) -> Passage:
    """A member's steps on the views of one table; nothing in it has the fleet's axis."""
    (table, window, n_windows), (data, state, passage) = shared, member
    views = _shuffled(data, state.epoch * n_windows + window)

    def train(index, passage):
        return _train_step(task, batch_size, table, data.key, state.epoch, views, index, passage)

    # A stopped member takes no steps: its loops have no turns.
    steps = jnp.where(state.stopped, 0, -(-views.count // batch_size))
    return jax.lax.fori_loop(0, steps, train, passage)


def _validate_window(task, batch_size, shared, member) -> Passage:
    """Likewise, of the validation views."""
    (table,), (data, state, passage) = shared, member
    held = data.validation

    def validate(index, passage):
        return _validation_step(task, batch_size, table, held, index, passage)

    steps = jnp.where(state.stopped, 0, -(-held.count // batch_size))
    return jax.lax.fori_loop(0, steps, validate, passage)


def _member_epoch(task, config: TrainConfig, shared, member):
    """A member's epoch where all its views are in one table."""
    (table,), (data, state) = shared, member
    size, passage = config.batch_size, begin_epoch(state)
    passage = _train_window(task, size, (table, 0, 1), (data, state, passage))
    passage = _validate_window(task, size, (table,), (data, state, passage))
    return _finish_epoch(config.patience, state, passage)


def choose_driver(config: TrainConfig, kind: str, backend: str | None = None) -> str:
    """How members share a device, where the configuration leaves it open.

    On accelerators many small products in one call fill the device ("vmap"), while a
    convolutional model fills it alone, and its activations times the fleet would not fit
    ("map"). On a CPU products together are slower than one after another ("map"), and
    convolutions inside a compiled loop run many times slower than outside ("loop").
    `python -m benchmarks drivers` measures all three.
    """
    if config.driver != "auto":
        return config.driver
    if (backend or jax.default_backend()) == "cpu":
        return "loop" if kind == "convolution" else "map"
    return "map" if kind == "convolution" else "vmap"


class Epoch(NamedTuple):
    """The functions of an epoch that is driven window by window.

    Attributes:
        train: (table (frames, mels), window, windows of the epoch, FleetData of the window,
            FleetState, Passage) → Passage.
        validate: (table, FleetData of the window, FleetState, Passage) → Passage.
        finish: (FleetState, Passage) → (FleetState, losses). Passages are consumed, and the
            state's learner is not looked at, as it was given to the first passage.
    """

    train: Callable[..., Passage]
    validate: Callable[..., Passage]
    finish: Callable[..., tuple[FleetState, dict[str, jax.Array]]]


def _over_members(one: Callable, driver: str, mesh: Mesh | None) -> Callable:
    """(shared, stacked) → stacked, from a function of the shared arguments and one member's."""

    def every(shared, stacked):
        if driver == "vmap":
            return jax.vmap(one, in_axes=(None, 0))(shared, stacked)
        return jax.lax.map(lambda member: one(shared, member), stacked)

    if mesh is None:
        return every
    # Each device has members of its own, or shares the views of some with its neighbours on the
    # data axis, which is left to XLA: the mean over a batch then is the mean over them all.
    of_fleet = PartitionSpec(FLEET_AXIS)
    return jax.shard_map(
        every,
        mesh=mesh,
        in_specs=(PartitionSpec(), of_fleet),
        out_specs=of_fleet,
        axis_names={FLEET_AXIS} if mesh.shape[DATA_AXIS] > 1 else set(mesh.axis_names),
        check_vma=False,
    )


def make_epoch(task: Task, config: TrainConfig, mesh: Mesh | None = None):
    """Builds the function that trains all members for one epoch on one table.

    Args:
        task: the models' task.
        config: training settings.
        mesh: devices, as `placement.fleet_mesh` gives them; the number of members must be a
            multiple of the size of their first axis.

    Returns:
        (table (frames, mels), FleetData, FleetState) → (FleetState, losses), where losses
        has "loss" and "validation_loss", both (members,), NaN where a member is frozen or
        has no validation clips. The state given is consumed.
    """
    driver = choose_driver(config, task.kind)
    if driver == "loop":
        windows = _looped_epoch(task, config)

        def looped(table, data, state):
            passage, state = begin_epoch(state), state._replace(learner={})
            passage = windows.train(table, 0, 1, data, state, passage)
            passage = windows.validate(table, data, state, passage)
            return windows.finish(state, passage)

        return looped
    epoch = _over_members(functools.partial(_member_epoch, task, config), driver, mesh)
    return jax.jit(
        lambda table, data, state: epoch((table,), (data, state)),
        donate_argnums=2,
        compiler_options=compiler_options(task.kind),
    )


def make_windowed_epoch(task: Task, config: TrainConfig, mesh: Mesh | None = None) -> Epoch:
    """Builds the functions that train all members for an epoch of several tables.

    Args: as those of `make_epoch`.
    """
    driver = choose_driver(config, task.kind)
    if driver == "loop":
        return _looped_epoch(task, config)
    size = config.batch_size
    train = _over_members(functools.partial(_train_window, task, size), driver, mesh)
    validate = _over_members(functools.partial(_validate_window, task, size), driver, mesh)
    finish = _over_members(lambda _, member: _finish_epoch(config.patience, *member), driver, mesh)

    @functools.partial(jax.jit, donate_argnums=0)
    def finish_learner(learner, state, passage):
        return finish((), (state, passage._replace(learner=learner)))

    def finish_passage(state, passage):
        return finish_learner(passage.learner, state, passage._replace(learner={}))

    jit = functools.partial(jax.jit, compiler_options=compiler_options(task.kind))
    return Epoch(
        jit(
            lambda table, window, n_windows, data, state, passage: train(
                (table, window, n_windows), (data, state, passage)
            ),
            donate_argnums=5,
        ),
        jit(
            lambda table, data, state, passage: validate((table,), (data, state, passage)),
            donate_argnums=3,
        ),
        finish_passage,
    )


def _looped_epoch(task: Task, config: TrainConfig) -> Epoch:
    """Drives the same pieces from Python, one step of one member at a time, on one device."""
    size = config.batch_size
    shuffled = jax.jit(_shuffled)
    jit = functools.partial(jax.jit, compiler_options=compiler_options(task.kind))
    step = jit(functools.partial(_train_step, task, size), donate_argnums=5)
    validation_step = jit(functools.partial(_validation_step, task, size), donate_argnums=3)
    finish_one = jax.jit(functools.partial(_finish_epoch, config.patience))

    def each(function, state, *stacked):
        """Stacks what a function gives of every member."""
        found = [
            function(stopped, *jax.tree.map(lambda leaf, m=m: leaf[m], (state, *stacked)))
            for m, stopped in enumerate(np.asarray(state.stopped))
        ]
        return jax.tree.map(lambda *leaves: jnp.stack(leaves), *found)

    def train(table, window, n_windows, data, state, passage):
        def one(stopped, state, data, passage):
            if stopped:
                return passage
            views = shuffled(data, state.epoch * n_windows + window)
            for index in range(-(-int(views.count) // size)):
                index = np.int32(index)
                passage = step(table, data.key, state.epoch, views, index, passage)
            return passage

        return each(one, state, data, passage)

    def validate(table, data, state, passage):
        def one(stopped, state, data, passage):
            held = data.validation
            for index in range(0 if stopped else -(-int(held.count) // size)):
                passage = validation_step(table, held, np.int32(index), passage)
            return passage

        return each(one, state, data, passage)

    def finish(state, passage):
        return each(lambda _, *member: finish_one(*member), state, passage)

    return Epoch(train, validate, finish)
