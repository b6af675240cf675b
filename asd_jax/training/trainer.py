"""The training loop: epochs, log, checkpoints, interruption."""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from asd_jax.config import TrainConfig
from asd_jax.progress import Reporter, Silent
from asd_jax.training import fleet
from asd_jax.training.checkpoints import Checkpoints
from asd_jax.training.members import FleetData, Member
from asd_jax.training.task import Task


class Interrupted(Exception):
    """Training was asked to stop; what it had done is in the checkpoint of `epoch`."""

    def __init__(self, epoch: int):
        super().__init__(f"stopped after epoch {epoch}")
        self.epoch = epoch


def train(
    task: Task,
    members: Sequence[Member],
    table: np.ndarray,
    data: FleetData,
    config: TrainConfig,
    *,
    checkpoints: Checkpoints | None = None,
    log: Callable[[Mapping[str, Any]], None] = lambda entry: None,
    should_stop: Callable[[], bool] = lambda: False,
    reporter: Reporter | None = None,
    devices: Sequence[jax.Device] | None = None,
) -> dict[str, Any]:
    """Trains all members and returns their weights.

    Args:
        task: the models' task.
        members: the models, in the order of the leading axis.
        table: (frames, mels) features of all clips, end to end.
        data: as `members.fleet_data` gives it.
        config: training settings.
        checkpoints: where to save and to continue from; None keeps nothing.
        log: called with one entry an epoch.
        should_stop: asked after each epoch; true saves a checkpoint and raises.
        reporter: tells people; says nothing by default.
        devices: all local devices by default.

    Returns:
        The weights, stacked on the first axis: the best where the configuration keeps
        them, else the last.

    Raises:
        Interrupted: `should_stop` said so.
    """
    reporter = reporter or Silent()
    mesh = fleet.fleet_mesh(devices)
    if fleet.choose_driver(config, task.kind) == "loop":
        mesh = None
    state = jax.jit(lambda data: fleet.init_state(task, data, config))(data)
    first = 0
    if checkpoints is not None and checkpoints.latest is not None:
        first = checkpoints.latest
        state = checkpoints.restore(first, state)
        reporter.line(f"continuing after epoch {first} of {config.epochs}")

    # Members that only fill up the devices are stopped from the start.
    fill = 0 if mesh is None else -len(members) % mesh.size
    data, padded = jax.tree.map(lambda leaf: _repeat_last(leaf, fill), (data, state))
    padded = padded._replace(stopped=padded.stopped.at[len(members) :].set(True))
    table, data, padded = fleet.place(mesh, table, data, padded)

    def current():
        # A copy: the next epoch consumes the arrays, perhaps before they are on the disk. On the
        # host, for a part of an array that lies on several devices is a program of its own with
        # exchanges between them, one for each array.
        return jax.tree.map(lambda leaf: np.array(leaf)[: len(members)], padded)

    epoch_function = fleet.make_epoch(task, config, mesh)
    reporter.start("epoch", config.epochs, first)
    begin, trained, unhealthy = time.monotonic(), 0, set()
    try:
        for epoch in range(first + 1, config.epochs + 1):
            running = ~np.asarray(padded.stopped)
            if not running.any():
                break
            padded, losses = epoch_function(table, data, padded)
            losses = {name: np.asarray(loss)[: len(members)] for name, loss in losses.items()}
            stopped = int(np.asarray(padded.stopped)[: len(members)].sum())
            trained += int(running.sum())
            log(_entry(epoch, members, losses))
            for m in np.flatnonzero(running[: len(members)] & ~np.isfinite(losses["loss"])):
                if m not in unhealthy:
                    unhealthy.add(m)
                    reporter.line(
                        f"{members[m].name}: the training loss is not finite from epoch {epoch} "
                        "on; lower --config.train.learning_rate"
                    )
            reporter.advance(epoch, _note(losses, stopped, trained / (time.monotonic() - begin)))
            last = epoch == config.epochs or stopped == len(members)
            stop = should_stop()
            if checkpoints is not None and (last or stop or epoch % config.checkpoint_every == 0):
                checkpoints.save(epoch, current())
            if stop:
                if checkpoints is not None:
                    checkpoints.wait()
                raise Interrupted(epoch)
    finally:
        reporter.stop()
    if checkpoints is not None:
        checkpoints.wait()
    return fleet.weights(current())


def _repeat_last(leaf: jax.Array, times: int) -> jax.Array:
    return leaf if not times else jnp.concatenate([leaf, *[leaf[-1:]] * times])


def _entry(epoch: int, members: Sequence[Member], losses: Mapping[str, np.ndarray]) -> dict:
    def by_name(values):
        return {
            member.name: float(value)
            for member, value in zip(members, values, strict=True)
            if np.isfinite(value)
        }

    return {"event": "epoch", "epoch": epoch} | {k: by_name(v) for k, v in losses.items()}


def _note(losses: Mapping[str, np.ndarray], stopped: int, rate: float) -> str:
    def mean(values):
        finite = values[np.isfinite(values)]
        return f"{finite.mean():.4g}" if finite.size else "–"

    # A model a second is one model trained for one epoch in a second.
    parts = [
        f"loss {mean(losses['loss'])}",
        f"val {mean(losses['validation_loss'])}",
        f"{rate:.2f} models/s",
    ]
    return "  ".join(parts + ([f"{stopped} stopped"] if stopped else []))
