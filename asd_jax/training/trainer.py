"""The training loop: epochs, log, checkpoints, interruption."""

import functools
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from asd_jax.config import TrainConfig
from asd_jax.features.table import Features
from asd_jax.runtime import distributed
from asd_jax.runtime.memory import usable_memory
from asd_jax.runtime.progress import Reporter, Silent
from asd_jax.runtime.side_by_side import in_order
from asd_jax.training import fleet
from asd_jax.training.checkpoints import Checkpoints
from asd_jax.training.epoch_log import EpochLog
from asd_jax.training.models import (
    Examples,
    FleetClips,
    FleetData,
    Views,
    entropy_of,
    lay_out_views,
)
from asd_jax.training.placement import Placement, fleet_mesh
from asd_jax.training.programs import Programs
from asd_jax.training.task import Task
from asd_jax.training.varied import VariantCheckpoints, with_settings
from asd_jax.training.windows import (
    Schedule,
    Window,
    first_rows,
    read_rows,
    schedule,
    training_statistics,
)

# Entry of the log, beside the epoch, of a training that the reporter has ended.
_ENDED = {"event": "ended by the reporter"}
# Default share of a device's memory for the frames.
_TABLE_SHARE = 0.5


class Interrupted(Exception):
    """Training was asked to stop; the checkpoint of `epoch` has its state."""

    def __init__(self, epoch: int):
        super().__init__(f"stopped after epoch {epoch}")
        self.epoch = epoch


def train(
    task: Task,
    clips: FleetClips,
    source: Features,
    config: TrainConfig,
    *,
    checkpoints: Checkpoints | VariantCheckpoints | None = None,
    log: Callable[[Mapping[str, Any]], None] = lambda entry: None,
    should_stop: Callable[[], bool] = lambda: False,
    reporter: Reporter | None = None,
    devices: Sequence[jax.Device] | None = None,
    programs: Programs | None = None,
) -> dict[str, Any]:
    """Trains all models and returns their weights.

    Of several processes, each calls this with the same clips; the first one's checkpoints and
    log are used.

    Args:
        task: the models' task.
        clips: the models, in the order of the leading axis, and their clips.
        source: the features of those clips.
        config: training settings.
        checkpoints: saved to and continued from; None keeps nothing.
        log: called with one entry an epoch; with one of each variant, where models have some.
        should_stop: called after each epoch; true saves a checkpoint and raises.
        reporter: shows progress, and may end the training, see `Reporter.epoch`; silent by default.
        devices: all devices by default.
        programs: of this task and configuration, if they are compiled already.

    Returns:
        The weights, as NumPy arrays, stacked on the first axis: the best ones if the
        configuration keeps them, else the last.

    Raises:
        Interrupted: `should_stop` returned true.
        UserError: the settings do not fit the devices.
    """
    reporter = reporter or Silent()
    models = clips.models
    if programs is None or programs.config != config:
        programs = Programs(task, config, training_mesh(clips, config, task.kind, devices))
    placement = Placement(programs.mesh, len(models))
    first, data, state = _started(programs, clips, source, checkpoints, placement)
    if first:
        reporter.line(f"continuing after epoch {first} of {config.epochs}")
    run_epoch = epoch_log = None
    reporter.start("epoch", config.epochs, first)
    begin, trained = time.monotonic(), 0
    unhealthy: set[int] = set()
    stopped = placement.fetch(state.stopped)
    try:
        for epoch in range(first + 1, config.epochs + 1):
            running = ~stopped
            if not running.any():
                break
            epoch_begin = time.monotonic()
            if run_epoch is None:  # frames are read only if an epoch is left to train
                plan = schedule(clips, _row_bytes(source), table_bytes(config))
                run_epoch = _epochs(programs, clips, source, data, placement, plan, first, reporter)
                epochs_before = placement.fetch(state.epoch)
                epoch_log = EpochLog(clips, plan, config, epochs_before, programs.task.rate)
            assert epoch_log is not None
            state, losses = run_epoch(state)
            losses, stopped = placement.fetch((losses, state.stopped))
            trained += int(running.sum())
            seconds = time.monotonic() - epoch_begin
            ended = np.zeros(len(models), bool)
            for rows, entry in epoch_log.entries(epoch, losses, running, seconds):
                log(entry)
                if distributed.any_of(bool(reporter.epoch(entry))) and not stopped[rows].all():
                    log({k: entry[k] for k in ("epoch", "variant") if k in entry} | _ENDED)
                    ended[rows] = True
            if ended.any():
                stopped = stopped | ended
                state = state._replace(stopped=_put_stopped(placement, stopped))
            for m in np.flatnonzero(running & ~np.isfinite(losses["loss"])).tolist():
                if m not in unhealthy:
                    unhealthy.add(m)
                    reporter.line(
                        f"{models[m].name}: the training loss is not finite from epoch {epoch} "
                        "on; lower --config.train.learning_rate"
                    )
            reporter.advance(
                epoch, _note(losses, int(stopped.sum()), trained / (time.monotonic() - begin))
            )
            last = epoch == config.epochs or stopped.all()
            stop = distributed.any_of(should_stop())
            due = last or stop or epoch % config.checkpoint_every == 0
            if due and (checkpoints is not None or distributed.several()):
                saved = placement.fetch(state)  # by all processes, though only one saves it
                if checkpoints is not None:
                    checkpoints.save(epoch, saved)
            if stop:
                if checkpoints is not None:
                    checkpoints.wait()
                distributed.barrier("saved")  # no process ends before the checkpoint is complete
                raise Interrupted(epoch)
    finally:
        reporter.stop()
    if checkpoints is not None:
        checkpoints.wait()
    return fleet.weights(placement.fetch(state))


def check_fit(clips: FleetClips, config: TrainConfig, row_bytes: int, kind: str) -> None:
    """Raises the errors of `train` for settings that do not fit the devices or the memory.

    Args:
        clips: the models and their clips.
        config: training settings.
        row_bytes: bytes of a frame.
        kind: the task's.

    Raises:
        UserError: the settings do not fit.
    """
    training_mesh(clips, config, kind)
    schedule(clips, row_bytes, table_bytes(config))


def training_mesh(
    clips: FleetClips,
    config: TrainConfig,
    kind: str,
    devices: Sequence[jax.Device] | None = None,
) -> Mesh | None:
    """The devices that models are trained on; None for one, and where Python drives each step."""
    if fleet.choose_driver(config, kind) == "loop":
        return None
    return fleet_mesh(len(clips.models), config, devices)


def _started(
    programs: Programs,
    clips: FleetClips,
    source: Features,
    checkpoints: Checkpoints | VariantCheckpoints | None,
    placement: Placement,
) -> tuple[int, FleetData, fleet.FleetState]:
    """Epochs trained so far, and the models' data and state, on the devices.

    The data have no views yet: these are rows of a table, which is read when an epoch begins.
    """
    count = len(clips.models)
    # All on the host: whatever is done to an array on a device compiles a program.
    start = entropy_of(clips.models), training_statistics(source, clips)
    start = jax.tree.map(lambda leaf: _repeat_last(leaf, placement.fill), start)
    data, state = jax.device_get(programs.init(*start))
    state = with_settings(jax.tree.map(lambda leaf: leaf[:count], state), clips.models)
    first, state = _restored(checkpoints, state)
    # Padding models, so that all devices have equally many, are stopped from the start.
    state = jax.tree.map(lambda leaf: _repeat_last(leaf, placement.fill), state)
    state = state._replace(stopped=state.stopped | (np.arange(len(state.stopped)) >= count))
    data, state = placement.put_models((data, state))
    return first, data, state


def _restored(
    checkpoints: Checkpoints | VariantCheckpoints | None, state: fleet.FleetState
) -> tuple[int, fleet.FleetState]:
    """The epoch of the newest checkpoint and its state; without one, 0 and the given state.

    The first of several processes reads the checkpoint and sends it to the others.
    """
    epoch = 0 if checkpoints is None else checkpoints.latest or 0
    epoch = int(distributed.gather(np.asarray(epoch, np.int32))[0])
    if not epoch:
        return 0, state
    leaves, structure = jax.tree.flatten(state)

    def restore() -> fleet.FleetState:
        assert checkpoints is not None  # as it has an epoch
        return checkpoints.restore(epoch, state)

    def read() -> bytes:
        restored = jax.tree.leaves(restore())
        return distributed.save_arrays(
            **{str(i): np.asarray(leaf) for i, leaf in enumerate(restored)}
        )

    if not distributed.several():
        return epoch, restore()
    arrays = distributed.load_arrays(distributed.from_primary(read))
    return epoch, jax.tree.unflatten(structure, [arrays[str(i)] for i in range(len(leaves))])


def _epochs(
    programs: Programs,
    clips: FleetClips,
    source: Features,
    data: FleetData,
    placement: Placement,
    plan: Schedule,
    first: int,
    reporter: Reporter,
) -> Callable[[fleet.FleetState], tuple[fleet.FleetState, dict[str, jax.Array]]]:
    """Builds the function that trains all models for the next epoch.

    Returns:
        FleetState → (FleetState, losses), as in `fleet.make_epoch`.
    """
    epochs = range(first, first + 1 if plan.resident else programs.config.epochs)
    # The next window is read while one is trained on.
    loads = in_order(
        functools.partial(_load, placement, clips, source, plan),
        (window for epoch in epochs for window in plan.windows(epoch)),
        threads=1,
    )

    def fetch_window() -> tuple[Window, jax.Array, FleetData]:
        window, table, training, validation = next(loads)
        training, validation = placement.put_models((training, validation))
        part = data._replace(training=training, validation=validation)
        return window, placement.share_table(table), part

    if plan.resident:
        _, table, whole = fetch_window()
        epoch_function = programs.epoch(reporter.within)
        return lambda state: epoch_function(table, whole, state)

    windows = programs.windowed(reporter.within)
    mebibytes = _row_bytes(source) * plan.rows / 2**20
    reporter.line(
        f"frames are streamed through the device: {plan.n_training} windows of "
        f"{mebibytes:.0f} MiB an epoch, and {plan.n_validation} to validate"
    )

    def epoch(state: fleet.FleetState) -> tuple[fleet.FleetState, dict[str, jax.Array]]:
        progress, state = fleet.begin_epoch(state), state._replace(learner={})
        for _ in range(plan.n_training + plan.n_validation):
            window, table, part = fetch_window()
            if window.training:
                progress = windows.train(
                    table, window.index, plan.n_training, part, state, progress
                )
            else:
                progress = windows.validate(table, part, state, progress)
            # At most two windows at a time: this one is freed before another one is read.
            jax.block_until_ready(progress)
            del table, part
        return windows.finish(state, progress)

    return epoch


def _load(
    placement: Placement, clips: FleetClips, source: Features, plan: Schedule, window: Window
) -> tuple[Window, jax.Array, Views, Views]:
    """Reads a window's table to the device, and lists its views, still on the host."""
    rows = first_rows(window, clips.n_frames)

    def views(examples: Sequence[Examples], included: bool, width: int) -> Views:
        # A window without views of a kind has one batch of padding.
        table_rows = rows if included else np.full_like(rows, -1)
        return lay_out_views(clips, examples, table_rows, width if included else clips.batch_size)

    training = views(clips.training, window.training, plan.training_width)
    validation = views(
        clips.validation, plan.resident or not window.training, plan.validation_width
    )
    table = placement.read_table(
        plan.rows, lambda start, stop: read_rows(source, window, start, stop)
    )
    training, validation = jax.tree.map(
        lambda leaf: _repeat_last(leaf, placement.fill), (training, validation)
    )
    return window, table, training, validation


def table_bytes(config: TrainConfig) -> int:
    """Bytes of frames that may lie on a device at once, by the settings or by its memory.

    The devices of a CPU have a table each, in one memory.
    """
    if config.table_mib:
        return int(config.table_mib * 2**20)
    limits = jax.local_devices()[0].memory_stats() or {}
    memory = limits.get("bytes_limit") or usable_memory() / jax.local_device_count()
    return int(memory * _TABLE_SHARE)


def _repeat_last(leaf: np.ndarray, times: int) -> np.ndarray:
    """Appends copies of the last row."""
    return leaf[np.minimum(np.arange(len(leaf) + times), len(leaf) - 1)] if times else leaf


def _row_bytes(source: Features) -> int:
    """Bytes of a frame."""
    return source.width * source.dtype.itemsize


def _put_stopped(placement: Placement, stopped: np.ndarray) -> jax.Array:
    """Which models (models,) are frozen, on the devices; those of the padding are."""
    return placement.put_models(np.append(stopped, np.ones(placement.fill, bool)))


def _note(losses: Mapping[str, np.ndarray], stopped: int, rate: float) -> str:
    """The progress bar's text: mean losses over the models, and speed."""

    def mean(values: np.ndarray) -> str:
        finite = values[np.isfinite(values)]
        return f"{finite.mean():.4g}" if finite.size else "–"

    # A model a second is one model trained for one epoch in a second.
    parts = [
        f"loss {mean(losses['loss'])}",
        f"val {mean(losses['validation_loss'])}",
        f"{rate:.2f} models/s",
    ]
    return "  ".join(parts + ([f"{stopped} stopped"] if stopped else []))
