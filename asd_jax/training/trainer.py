"""The training loop: epochs, log, checkpoints, interruption."""

import functools
import os
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from asd_jax.config import TrainConfig
from asd_jax.runtime import distributed
from asd_jax.runtime.progress import Reporter, Silent
from asd_jax.training import fleet
from asd_jax.training.checkpoints import Checkpoints
from asd_jax.training.members import FleetClips, FleetData, Member, lay_out_views, member_key
from asd_jax.training.placement import Placement, fleet_mesh
from asd_jax.training.task import Task
from asd_jax.training.windows import (
    Source,
    first_rows,
    one_ahead,
    read_rows,
    schedule,
    training_statistics,
)

# Of the memory that a device has, for the frames, where the settings leave it open.
_TABLE_SHARE = 0.5


class Interrupted(Exception):
    """Training was asked to stop; what it had done is in the checkpoint of `epoch`."""

    def __init__(self, epoch: int):
        super().__init__(f"stopped after epoch {epoch}")
        self.epoch = epoch


def train(
    task: Task,
    clips: FleetClips,
    source: Source,
    config: TrainConfig,
    *,
    checkpoints: Checkpoints | None = None,
    log: Callable[[Mapping[str, Any]], None] = lambda entry: None,
    should_stop: Callable[[], bool] = lambda: False,
    reporter: Reporter | None = None,
    devices: Sequence[jax.Device] | None = None,
) -> dict[str, Any]:
    """Trains all members and returns their weights.

    Several processes call this alike, with the same clips; the first one's checkpoints and log
    are used.

    Args:
        task: the models' task.
        clips: the members, in the order of the leading axis, and what each learns from.
        source: the features of those clips.
        config: training settings.
        checkpoints: where to save and to continue from; None keeps nothing.
        log: called with one entry an epoch.
        should_stop: asked after each epoch; true saves a checkpoint and raises.
        reporter: tells people; says nothing by default.
        devices: all devices by default.

    Returns:
        The weights, as NumPy arrays, stacked on the first axis: the best where the configuration
        keeps them, else the last.

    Raises:
        Interrupted: `should_stop` said so.
        UserError: the settings do not fit the devices.
    """
    reporter = reporter or Silent()
    members = clips.members
    looped = fleet.choose_driver(config, task.kind) == "loop"
    mesh = None if looped else fleet_mesh(len(members), config, devices)
    placement = Placement(mesh, len(members))
    data = FleetData(
        jnp.stack([member_key(member) for member in members]),
        training_statistics(source, clips),
        None,
        None,
    )
    state = jax.device_get(jax.jit(lambda data: fleet.init_state(task, data, config))(data))
    first, state = _restored(checkpoints, state)
    if first:
        reporter.line(f"continuing after epoch {first} of {config.epochs}")

    # Members that only fill up the devices are stopped from the start.
    data, state = jax.tree.map(lambda leaf: _repeat_last(leaf, placement.fill), (data, state))
    state = state._replace(stopped=state.stopped | (np.arange(len(state.stopped)) >= len(members)))
    data, state = placement.put_members((data, state))
    run_epoch = None
    reporter.start("epoch", config.epochs, first)
    begin, trained, unhealthy = time.monotonic(), 0, set()
    stopped = placement.fetch(state.stopped)
    try:
        for epoch in range(first + 1, config.epochs + 1):
            running = ~stopped
            if not running.any():
                break
            if run_epoch is None:  # frames are read where there is something left to do
                run_epoch = _epochs(task, clips, source, config, data, placement, first, reporter)
            state, losses = run_epoch(state)
            losses, stopped = placement.fetch((losses, state.stopped))
            trained += int(running.sum())
            log(_entry(epoch, members, losses))
            for m in np.flatnonzero(running & ~np.isfinite(losses["loss"])):
                if m not in unhealthy:
                    unhealthy.add(m)
                    reporter.line(
                        f"{members[m].name}: the training loss is not finite from epoch {epoch} "
                        "on; lower --config.train.learning_rate"
                    )
            reporter.advance(
                epoch, _note(losses, int(stopped.sum()), trained / (time.monotonic() - begin))
            )
            last = epoch == config.epochs or stopped.all()
            stop = distributed.any_of(should_stop())
            due = last or stop or epoch % config.checkpoint_every == 0
            if due and (checkpoints is not None or distributed.several()):
                saved = placement.fetch(state)  # by all processes, though one saves it
                if checkpoints is not None:
                    checkpoints.save(epoch, saved)
            if stop:
                if checkpoints is not None:
                    checkpoints.wait()
                distributed.barrier("saved")  # the others stay until it is
                raise Interrupted(epoch)
    finally:
        reporter.stop()
    if checkpoints is not None:
        checkpoints.wait()
    return fleet.weights(placement.fetch(state))


def check_fit(clips: FleetClips, config: TrainConfig, n_mels: int, kind: str) -> None:
    """Raises what `train` would raise of settings that do not fit the devices or the memory.

    Args:
        clips: the members and what each learns from.
        config: training settings.
        n_mels: bands of a frame.
        kind: the task's.
    """
    if fleet.choose_driver(config, kind) != "loop":
        fleet_mesh(len(clips.members), config)
    schedule(clips, n_mels, table_bytes(config))


def _restored(checkpoints: Checkpoints | None, state: fleet.FleetState):
    """The epoch to go on after, and the state then; 0 and the state given without one.

    Of several processes the first reads the checkpoint, and tells the others.
    """
    epoch = 0 if checkpoints is None else checkpoints.latest or 0
    epoch = int(distributed.gather(np.int32(epoch))[0])
    if not epoch:
        return 0, state
    leaves, structure = jax.tree.flatten(state)

    def read():
        restored = jax.tree.leaves(checkpoints.restore(epoch, state))
        return distributed.save_arrays(
            **{str(i): np.asarray(leaf) for i, leaf in enumerate(restored)}
        )

    if not distributed.several():
        return epoch, checkpoints.restore(epoch, state)
    found = distributed.load_arrays(distributed.from_primary(read))
    return epoch, structure.unflatten([found[str(i)] for i in range(len(leaves))])


def _epochs(task, clips, source, config, data, placement, first, reporter):
    """The function that trains all members for the next epoch: FleetState → FleetState, losses."""
    n_mels = data.statistics.mean.shape[-1]
    plan = schedule(clips, n_mels, table_bytes(config))
    epochs = range(first, first + 1 if plan.resident else config.epochs)
    loads = one_ahead(
        functools.partial(_load, placement, clips, source, plan, window, n_mels)
        for epoch in epochs
        for window in plan.windows(epoch)
    )

    def fetch_window():
        window, table, training, validation = next(loads)
        views = placement.put_members((training, validation))
        views = dict(zip(("training", "validation"), views, strict=True))
        return window, placement.share_table(table), data._replace(**views)

    if plan.resident:
        _, table, whole = fetch_window()
        epoch_function = fleet.make_epoch(task, config, placement.mesh)
        return lambda state: epoch_function(table, whole, state)

    windows = fleet.make_windowed_epoch(task, config, placement.mesh)
    reporter.line(
        f"frames do not lie on the device all at once: {plan.n_training} windows of "
        f"{4 * n_mels * plan.rows / 2**20:.0f} MiB an epoch, and {plan.n_validation} to validate"
    )

    def epoch(state):
        passage, state = fleet.begin_epoch(state), state._replace(learner={})
        for _ in range(plan.n_training + plan.n_validation):
            window, table, part = fetch_window()
            if window.training:
                passage = windows.train(table, window.index, plan.n_training, part, state, passage)
            else:
                passage = windows.validate(table, part, state, passage)
            # No more than two windows at a time: this one goes before another one is read.
            jax.block_until_ready(passage)
            del table, part
        return windows.finish(state, passage)

    return epoch


def _load(placement, clips, source, plan, window, n_mels):
    """A window's table and views; the views still on the host."""
    rows = first_rows(window, clips.n_frames)

    def views(examples, wanted, width):
        # Views of the other kind are not there: none, in one batch.
        there = rows if wanted else np.full_like(rows, -1)
        return lay_out_views(clips, examples, there, width if wanted else clips.batch_size)

    training = views(clips.training, window.training, plan.training_width)
    validation = views(
        clips.validation, plan.resident or not window.training, plan.validation_width
    )
    table = placement.read_table(
        plan.rows, lambda start, stop: read_rows(source, window, start, stop, n_mels)
    )
    padded = (
        jax.tree.map(lambda leaf: _repeat_last(leaf, placement.fill), part)
        for part in (training, validation)
    )
    return window, table, *padded


def table_bytes(config: TrainConfig) -> int:
    """Bytes of frames that may lie on a device at once, by the settings or by what it has."""
    if config.table_mib:
        return int(config.table_mib * 2**20)
    limits = jax.local_devices()[0].memory_stats() or {}
    has = limits.get("bytes_limit") or os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return int(has * _TABLE_SHARE)


def _repeat_last(leaf: jax.Array, times: int) -> jax.Array:
    return leaf[np.minimum(np.arange(len(leaf) + times), len(leaf) - 1)] if times else leaf


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
