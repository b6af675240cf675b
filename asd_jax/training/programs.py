"""The programs of a fleet's training, which can be compiled before the frames are there."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, Sharding

from asd_jax.config import TrainConfig
from asd_jax.runtime.side_by_side import in_order
from asd_jax.runtime.traces import Program, Traces
from asd_jax.training import fleet
from asd_jax.training.models import FleetClips, FleetData, Views, entropy_of, model_keys
from asd_jax.training.placement import Placement
from asd_jax.training.steps import FleetState, StepPrograms, begin_epoch, step_programs
from asd_jax.training.task import Task, TrainingStatistics
from asd_jax.training.windows import Schedule


@dataclasses.dataclass(frozen=True, eq=False)
class Programs:
    """What trains a fleet; each program is compiled when it is first called, or by `compile`.

    Attributes:
        task: the models' task.
        config: training settings.
        mesh: devices, as of `fleet.make_epoch`.
        traces: where traces of the programs are kept; None for nowhere.
    """

    task: Task
    config: TrainConfig
    mesh: Mesh | None
    traces: Traces | None = None

    @functools.cached_property
    def init(self) -> Any:
        """(seeds, names) of `entropy_of` and statistics → FleetData without views, FleetState."""

        def init(entropy: Any, statistics: TrainingStatistics) -> tuple[FleetData, FleetState]:
            no_views: Any = None
            data = FleetData(model_keys(*entropy), statistics, no_views, no_views)
            return data, fleet.init_state(self.task, data, self.config)

        def result(*start: Any) -> tuple[FleetData, FleetState]:
            return jax.eval_shape(init, *start)

        return Program("init", init, result, kind="init", traces=self.traces)

    def epoch(self, on_step: Callable[[str], None] | None = None) -> Any:
        """As `fleet.make_epoch`."""
        if self._steps is None:
            return self._epoch
        return fleet.make_epoch(self.task, self.config, self.mesh, on_step, self._steps)

    def windowed(self, on_step: Callable[[str], None] | None = None) -> fleet.Epoch:
        """As `fleet.make_windowed_epoch`."""
        if self._steps is None:
            return self._windowed
        return fleet.make_windowed_epoch(self.task, self.config, self.mesh, on_step, self._steps)

    @functools.cached_property
    def _steps(self) -> StepPrograms | None:
        if fleet.choose_driver(self.config, self.task.kind) != "loop":
            return None
        return step_programs(self.task, self.config, self.traces)

    @functools.cached_property
    def _epoch(self) -> Any:
        return fleet.make_epoch(self.task, self.config, self.mesh, traces=self.traces)

    @functools.cached_property
    def _windowed(self) -> fleet.Epoch:
        return fleet.make_windowed_epoch(self.task, self.config, self.mesh, traces=self.traces)

    def compile(self, clips: FleetClips, plan: Schedule, width: int, dtype: str) -> None:
        """Compiles for frames that are not there yet, the first state and an epoch side by side.

        What is compiled for other shapes than those of the training costs time, and nothing else.

        Args:
            clips: the models and their clips.
            plan: the windows of an epoch.
            width: values of a frame.
            dtype: of these, by NumPy's name.
        """
        placement = Placement(self.mesh, len(clips.models))
        count = len(clips.models) + placement.fill
        data = data_shapes(count, plan, width, self.task.crop)
        entropy = jax.eval_shape(lambda: entropy_of([*clips.models[:1]] * count))
        start = entropy, data.statistics
        data, state = _placed((data, self.init.result(*start)[1]), placement.by_model)
        table = jax.ShapeDtypeStruct((plan.rows, width), np.dtype(dtype), sharding=placement.whole)
        # The epoch takes longest to compile.
        of_epoch = self._lower(table, data, state, plan, placement.by_model)
        programs = [*of_epoch, lambda: self.init.lower(*start)]
        lowered = (lower() for lower in programs)
        for _ in in_order(lambda program: program.compile(), lowered, threads=2):
            pass

    def _lower(
        self, table: Any, data: Any, state: Any, plan: Schedule, sharding: Sharding
    ) -> list[Callable[[], Any]]:
        """Functions that lower each program of an epoch."""
        if self._steps is not None:
            one, own = _of_one(state), _of_one(data)
            progress = _placed(jax.eval_shape(begin_epoch, one), sharding)
            index = np.int32(0)
            steps: Any = self._steps
            views = own.training, own.validation
            lower = [
                lambda: steps.train.lower(table, own.key, one.epoch, views[0], index, progress)
            ]
            if self.config.validation_split:
                lower.append(lambda: steps.validate.lower(table, views[1], index, progress))
            return lower
        if plan.resident:
            return [lambda: self._epoch.lower(table, data, state)]
        progress = _placed(jax.eval_shape(begin_epoch, state), sharding)
        state = state._replace(learner={})
        # A window without views of a kind has one batch of padding.
        of_training = data._replace(validation=_narrowed(data.validation, self.config.batch_size))
        held_out = data._replace(training=_narrowed(data.training, self.config.batch_size))
        train, validate = (getattr(self._windowed, name) for name in ("train", "validate"))
        lower = [lambda: train.lower(table, 0, plan.n_training, of_training, state, progress)]
        if plan.n_validation:
            lower.append(lambda: validate.lower(table, held_out, state, progress))
        return lower


def _placed(tree: Any, sharding: Sharding) -> Any:
    """Shapes of arrays on their devices."""
    return jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding), tree
    )


def data_shapes(count: int, windows: Schedule, width: int, crop: bool) -> FleetData:
    """Shapes of the data of `count` models.

    Args:
        count: of the models.
        windows: of an epoch.
        width: values of a frame.
        crop: whether an epoch has one view of a clip.
    """
    band = _shape(count, width, dtype=jnp.float32)
    training, validation = (
        Views(*(_shape(count, views),) * 2, _shape(count), _shape(count, views) if crop else None)
        for views in (windows.training_width, windows.validation_width)
    )
    return FleetData(
        key=jax.eval_shape(lambda: jax.random.key_data(jax.random.split(jax.random.key(0), count))),
        statistics=TrainingStatistics(band, band, band, band, n_labels=_shape(count)),
        training=training,
        validation=validation,
    )


def _shape(*axes: int, dtype: Any = jnp.int32) -> Any:
    """An array's shape and type; Any, as it stands where arrays do."""
    return jax.ShapeDtypeStruct(axes, dtype)


def _narrowed(views: Views, width: int) -> Any:
    """Shapes of lists of views (models, width)."""
    return jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(
            (*leaf.shape[:1], width)[: len(leaf.shape)], leaf.dtype, sharding=leaf.sharding
        ),
        views,
    )


def _of_one(tree: Any) -> Any:
    """Shapes of one model's arrays, on one device."""
    return jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape[1:], leaf.dtype, sharding=leaf.sharding), tree
    )
