"""Training many models of one shape as one program.

The field trains dozens of small models: one a machine or section, times several seeds.
Here they are one stacked tree of arrays with a leading axis, the fleet's. Each member has
its own data, key, shuffling, validation clips and early stopping, and takes no notice of
the others: its result is the one it would have had alone.

All features of a run lie on the device as one table of frames. A member's data is the list
of frames at which its views start, so what is padded to a common length is a list of
integers, and a view exists only inside the step that uses it.
"""

import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from asd_jax.audio.views import gather_views
from asd_jax.config import TrainConfig
from asd_jax.training.members import FleetData, Views
from asd_jax.training.task import Batch, Task

FLEET_AXIS = "fleet"


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


# One member's epoch, in the pieces that the three ways of driving it share.


def _shuffled(data: FleetData, epoch: jax.Array) -> Views:
    """A member's training views in this epoch's order, the padding last.

    Keys are drawn by counter, so the first n of them, and with them the order, are the
    same however long the padding is.
    """
    views = data.training
    width = views.starts.shape[-1]
    key = jax.random.fold_in(jax.random.fold_in(data.key, 1), epoch)
    bits = jax.random.bits(key, (width,)) >> 1
    bits = jnp.where(jnp.arange(width) < views.count, bits, jnp.uint32(1) << 31)
    order = jnp.argsort(bits)
    return Views(views.starts[order], views.labels[order], views.count)


def _batch(table, views: Views, index, task: Task, batch_size: int) -> Batch:
    first = index * batch_size
    starts, labels = (
        jax.lax.dynamic_slice(column, (first,), (batch_size,))
        for column in (views.starts, views.labels)
    )
    mask = first + jnp.arange(batch_size) < views.count
    return Batch(gather_views(table, starts, task.view_length), labels, mask)


def _train_step(task, batch_size, table, key, epoch, views, index, learner):
    batch = _batch(table, views, index, task, batch_size)
    key = jax.random.fold_in(jax.random.fold_in(jax.random.fold_in(key, 2), epoch), index)
    learner, loss = task.step(learner, batch, key)
    return learner, loss * jnp.sum(batch.mask)


def _validation_step(task, batch_size, table, views, index, learner):
    batch = _batch(table, views, index, task, batch_size)
    return task.loss(learner, batch) * jnp.sum(batch.mask)


def _finish_epoch(
    patience: int, state: FleetState, learner, loss, validation_loss
) -> tuple[FleetState, dict[str, jax.Array]]:
    """Early stopping; a stopped member stays as it is."""
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


def _member_epoch(task: Task, config: TrainConfig, table, data: FleetData, state: FleetState):
    """An epoch of one member; nothing in it has the fleet's axis."""
    size = config.batch_size
    views, held = _shuffled(data, state.epoch), data.validation

    def train(index, carry):
        learner, total = carry
        learner, loss = _train_step(task, size, table, data.key, state.epoch, views, index, learner)
        return learner, total + loss

    def validate(index, total):
        return total + _validation_step(task, size, table, held, index, learner)

    # A stopped member takes no steps: its loops have no turns.
    steps = jnp.where(state.stopped, 0, -(-views.count // size))
    validation_steps = jnp.where(state.stopped, 0, -(-held.count // size))
    learner, total = jax.lax.fori_loop(0, steps, train, (state.learner, jnp.float32(0)))
    validation_total = jax.lax.fori_loop(0, validation_steps, validate, jnp.float32(0))
    return _finish_epoch(
        config.patience, state, learner, total / views.count, validation_total / held.count
    )


def choose_driver(config: TrainConfig, kind: str, backend: str | None = None) -> str:
    """How members share a device, where the configuration leaves it open.

    On accelerators many small products in one call fill the device ("vmap"), while a
    convolutional model fills it alone, and its activations times the fleet would not fit
    ("map"). On a CPU products together are slower than one after another ("map"), and
    convolutions inside a compiled loop run many times slower than outside ("loop").
    `python -m benchmarks drivers` measures all three.
    """
    if config.members != "auto":
        return config.members
    if (backend or jax.default_backend()) == "cpu":
        return "loop" if kind == "convolution" else "map"
    return "map" if kind == "convolution" else "vmap"


def make_epoch(task: Task, config: TrainConfig, mesh: Mesh | None = None):
    """Builds the function that trains all members for one epoch.

    Args:
        task: the models' task.
        config: training settings.
        mesh: devices, with the one axis `FLEET_AXIS`; the number of members must be a
            multiple of its size.

    Returns:
        (table (frames, mels), FleetData, FleetState) → (FleetState, losses), where losses
        has "loss" and "validation_loss", both (members,), NaN where a member is frozen or
        has no validation clips. The state given is consumed.
    """
    driver = choose_driver(config, task.kind)
    if driver == "loop":
        return _looped_epoch(task, config)
    one = functools.partial(_member_epoch, task, config)

    def epoch(table, data, state):
        if driver == "vmap":
            return jax.vmap(one, in_axes=(None, 0, 0))(table, data, state)
        return jax.lax.map(lambda member: one(table, *member), (data, state))

    if mesh is not None:
        members = PartitionSpec(FLEET_AXIS)
        # Each device trains its own members: no value crosses from one to another.
        epoch = jax.shard_map(
            epoch,
            mesh=mesh,
            in_specs=(PartitionSpec(), members, members),
            out_specs=(members, members),
            check_vma=False,
        )
    return jax.jit(epoch, donate_argnums=2)


def _looped_epoch(task: Task, config: TrainConfig):
    """Drives the same pieces from Python, on one device."""
    size = config.batch_size
    shuffled = jax.jit(_shuffled)
    step = jax.jit(functools.partial(_train_step, task, size), donate_argnums=5)
    validation_step = jax.jit(functools.partial(_validation_step, task, size))
    finish = jax.jit(functools.partial(_finish_epoch, config.patience))

    def epoch(table, data, state):
        done = []
        for m, stopped in enumerate(np.asarray(state.stopped)):
            member_data, member = jax.tree.map(lambda leaf, m=m: leaf[m], (data, state))
            learner, total, validation_total = member.learner, jnp.float32(0), jnp.float32(0)
            if not stopped:
                views = shuffled(member_data, member.epoch)
                for index in range(-(-int(views.count) // size)):
                    learner, loss = step(
                        table, member_data.key, member.epoch, views, np.int32(index), learner
                    )
                    total += loss
                for index in range(-(-int(member_data.validation.count) // size)):
                    validation_total += validation_step(
                        table, member_data.validation, np.int32(index), learner
                    )
            done.append(
                finish(
                    member._replace(learner={}),  # consumed by the first step
                    learner,
                    total / member_data.training.count,
                    validation_total / member_data.validation.count,
                )
            )
        return jax.tree.map(lambda *leaves: jnp.stack(leaves), *done)

    return epoch


def fleet_mesh(devices: Sequence[jax.Device] | None = None) -> Mesh | None:
    """A mesh over the devices, or None where there is only one."""
    devices = list(devices or jax.local_devices())
    if len(devices) == 1:
        return None
    return Mesh(np.array(devices), (FLEET_AXIS,))


def place(mesh: Mesh | None, table, data: FleetData, state: FleetState):
    """Puts the frames on every device and each member on its own."""
    if mesh is None:
        return jax.device_put((table, data, state))
    members = NamedSharding(mesh, PartitionSpec(FLEET_AXIS))
    return (
        jax.device_put(table, NamedSharding(mesh, PartitionSpec())),
        jax.device_put(data, members),
        jax.device_put(state, members),
    )
