"""Training many models of one shape as one program.

The field trains dozens of small models: one for each machine or section, times several seeds.
Here they are one stacked tree of arrays with a leading axis, the fleet's. Each model has its own
data, key, shuffling, validation clips and early stopping; its result is the same as alone.

Features lie on the device as one table of frames. A model's data is the list of its views' first
frames: only integers are padded to a common length, and a view exists only inside its step. If
the table holds a part of the data at a time, an epoch is driven window by window, see `windows`.
"""

import functools
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, PartitionSpec

from asd_jax.config import TrainConfig
from asd_jax.runtime.traces import Program, Traces
from asd_jax.training.models import FleetData
from asd_jax.training.placement import DATA_AXIS, FLEET_AXIS
from asd_jax.training.steps import (
    EpochProgress,
    FleetState,
    StepPrograms,
    begin_epoch,
    finish_epoch,
    model_epoch,
    step_programs,
    train_window,
    validate_window,
)
from asd_jax.training.task import Task

_SHOWN_EVERY = 5.0  # seconds, of how far an epoch is


def init_state(task: Task, data: FleetData, config: TrainConfig) -> FleetState:
    """Initial state of every model, from its own key and training statistics."""

    def one(start):
        key, statistics = start
        key = jax.random.fold_in(jax.random.wrap_key_data(key), 0)
        learner = task.init(key, statistics)
        keep = {name: learner[name] for name in ("params", "model_state")}
        return FleetState(
            learner=learner,
            best=keep if config.patience else {},
            best_loss=jnp.float32(jnp.inf),
            wait=jnp.int32(0),
            epoch=jnp.int32(0),
            stopped=jnp.bool_(False),
        )

    # One after another, not vmapped, so that a model's draw cannot depend on the others.
    return jax.lax.map(one, (data.key, data.statistics))


def weights(state: FleetState) -> dict[str, Any]:
    """Weights of the trained models: the best ones if they are kept, else the last."""
    kept = state.best or state.learner
    return {"params": kept["params"], **kept["model_state"]}


def choose_driver(config: TrainConfig, kind: str) -> str:
    """The configured way of driving the models of a device, or one by default.

    On accelerators, where none has been timed, many small products are one call ("vmap"), and
    convolutional models, the activations of a whole fleet of which would not fit, one after
    another ("map"). On a CPU products together are slower than one after another ("map"), and
    convolutions inside a compiled loop run many times slower than outside ("loop").
    `python -m benchmarks drivers` measures all three.

    Args:
        config: training settings.
        kind: the task's, see `Task`.

    Returns:
        "vmap": all models of a device in one step; "map": one after another in a compiled loop;
        "loop": step by step from Python.
    """
    if config.driver != "auto":
        return config.driver
    if jax.default_backend() == "cpu":
        return "loop" if kind == "convolution" else "map"
    return "map" if kind == "convolution" else "vmap"


class Epoch(NamedTuple):
    """The functions of an epoch that is driven window by window.

    Attributes:
        train: (table (frames, mels), window, windows of the epoch, FleetData of the window,
            FleetState, EpochProgress) → EpochProgress.
        validate: (table, FleetData of the window, FleetState, EpochProgress) → EpochProgress.
        finish: (FleetState, EpochProgress) → (FleetState, losses). The progress is donated. The
            state's learner is not used, as the epoch's progress has it.
    """

    train: Callable[..., EpochProgress]
    validate: Callable[..., EpochProgress]
    finish: Callable[..., tuple[FleetState, dict[str, jax.Array]]]


def _over_models(one: Callable, driver: str, mesh: Mesh | None) -> Callable:
    """Maps a function of (shared, one model's arguments) over the models stacked on an axis."""

    def every(shared, stacked):
        if driver == "vmap":
            return jax.vmap(one, in_axes=(None, 0))(shared, stacked)
        return jax.lax.map(lambda model: one(shared, model), stacked)

    if mesh is None:
        return every
    # Each device has models of its own, or shares their views with its neighbours on the data
    # axis. That axis is left to XLA, so that the mean over a batch is that over all its devices.
    of_fleet = PartitionSpec(FLEET_AXIS)
    return jax.shard_map(
        every,
        mesh=mesh,
        in_specs=(PartitionSpec(), of_fleet),
        out_specs=of_fleet,
        axis_names={FLEET_AXIS} if mesh.shape[DATA_AXIS] > 1 else set(mesh.axis_names),
        check_vma=False,
    )


def make_epoch(
    task: Task,
    config: TrainConfig,
    mesh: Mesh | None = None,
    on_step: Callable[[str], None] | None = None,
    programs: StepPrograms | None = None,
    traces: Traces | None = None,
) -> Callable[..., tuple[FleetState, dict[str, jax.Array]]]:
    """Builds the function that trains all models for one epoch on one table.

    Args:
        task: the models' task.
        config: training settings.
        mesh: devices, from `placement.fleet_mesh`; the number of models must be a multiple of the
            size of its first axis.
        on_step: called now and then with a text on how far an epoch is, if driven step by step.
        programs: of the steps, if they are compiled already.
        traces: where traces of the programs are kept.

    Returns:
        (table (frames, mels), FleetData, FleetState) → (FleetState, losses): "loss" and
        "validation_loss", both (models,), NaN for a frozen model and without validation clips. The
        state is donated.
    """
    driver = choose_driver(config, task.kind)
    if driver == "loop":
        windows = _looped_epoch(task, config, on_step, programs)

        def looped(table, data, state):
            progress, state = begin_epoch(state), state._replace(learner={})
            progress = windows.train(table, 0, 1, data, state, progress)
            progress = windows.validate(table, data, state, progress)
            return windows.finish(state, progress)

        return looped
    epoch = _over_models(functools.partial(model_epoch, task, config), driver, mesh)
    return Program(
        "epoch",
        lambda table, data, state: epoch((table,), (data, state)),
        lambda table, data, state: (state, dict.fromkeys(("loss", "validation_loss"), 0)),
        kind=task.kind,
        donate=2,
        traces=traces,
    )


def make_windowed_epoch(
    task: Task,
    config: TrainConfig,
    mesh: Mesh | None = None,
    on_step: Callable[[str], None] | None = None,
    programs: StepPrograms | None = None,
    traces: Traces | None = None,
) -> Epoch:
    """Builds the functions that train all models for an epoch of several tables.

    Arguments as in `make_epoch`.
    """
    driver = choose_driver(config, task.kind)
    if driver == "loop":
        return _looped_epoch(task, config, on_step, programs)
    size = config.batch_size
    train = _over_models(functools.partial(train_window, task, size), driver, mesh)
    validate = _over_models(functools.partial(validate_window, task, size), driver, mesh)
    finish = _over_models(lambda _, model: finish_epoch(config.patience, *model), driver, mesh)

    @functools.partial(jax.jit, donate_argnums=0)
    def finish_learner(learner, state, progress):
        return finish((), (state, progress._replace(learner=learner)))

    def finish_progress(state, progress):
        return finish_learner(progress.learner, state, progress._replace(learner={}))

    program = functools.partial(Program, kind=task.kind, traces=traces)
    return Epoch(
        program(
            "train_window",
            lambda table, window, n_windows, data, state, progress: train(
                (table, window, n_windows), (data, state, progress)
            ),
            lambda *arguments: arguments[5],
            donate=5,
        ),
        program(
            "validate_window",
            lambda table, data, state, progress: validate((table,), (data, state, progress)),
            lambda *arguments: arguments[3],
            donate=3,
        ),
        finish_progress,
    )


# Programs for a whole tree: an operation on each leaf would compile one for each shape.
@jax.jit
def _one_of(stacked: Any, model: Any) -> Any:
    """The arrays of one model."""
    # Traced in a fraction of the time of `leaf[model]`.
    return jax.tree.map(
        lambda leaf: jax.lax.dynamic_index_in_dim(leaf, model, keepdims=False), stacked
    )


@jax.jit
def _together(*models: Any) -> Any:
    """The arrays of several models, stacked."""
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *models)


def _looped_epoch(
    task: Task,
    config: TrainConfig,
    on_step: Callable[[str], None] | None = None,
    programs: StepPrograms | None = None,
) -> Epoch:
    """Drives the same pieces from Python, one step of one model at a time, on one device."""
    size = config.batch_size
    in_order, step, validation_step, finish_one = programs or step_programs(task, config)
    under_way: dict[str, Any] = {"shown": time.monotonic(), "model": ""}

    def each(function, state, *stacked):
        """Calls a function for every model and stacks the results."""
        results = []
        for m, stopped in enumerate(np.asarray(state.stopped)):
            under_way["model"] = f"model {m + 1}/{len(state.stopped)}"
            results.append(function(stopped, *_one_of((state, *stacked), m)))
        return _together(*results)

    def train(table, window, n_windows, data, state, progress):
        def one(stopped, state, data, progress):
            if stopped:
                return progress
            views = in_order(data, state.epoch * n_windows + window)
            steps = -(-int(views.count) // size)
            for index in range(steps):
                progress = step(table, data.key, state.epoch, views, np.int32(index), progress)
                if on_step and time.monotonic() - under_way["shown"] > _SHOWN_EVERY:
                    # Steps are launched ahead of their results.
                    jax.block_until_ready(progress.loss)
                    on_step(f"step {index + 1}/{steps} of {under_way['model']}")
                    under_way["shown"] = time.monotonic()
            return progress

        return each(one, state, data, progress)

    def validate(table, data, state, progress):
        def one(stopped, state, data, progress):
            held = data.validation
            for index in range(0 if stopped else -(-int(held.count) // size)):
                progress = validation_step(table, held, np.int32(index), progress)
            return progress

        return each(one, state, data, progress)

    def finish(state, progress):
        return each(lambda _, *model: finish_one(*model), state, progress)

    return Epoch(train, validate, finish)
