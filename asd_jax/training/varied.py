"""Models of one fleet that differ in settings: each has its own, as arrays of the compiled step.

What a setting is to the step of one model, a constant, is here a value beside its weights. So the
variants of a run are one more axis of the fleet, and one program trains them all. A model draws the
numbers that it would draw in a run of its variant alone, see `FleetModel.of_variant`.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from asd_jax.training.checkpoints import Checkpoints
from asd_jax.training.models import FleetModel
from asd_jax.training.steps import FleetState
from asd_jax.training.task import Batch, Learner, Task, abstract_learner

# The learner's entry that has a model's settings.
_SETTINGS = "settings"


def varied_task(task: Task, make: Callable[[Mapping[str, Any]], Task]) -> Task:
    """The task of models with settings of their own.

    Args:
        task: of any of the variants; all start alike.
        make: settings by their dotted keys, () float32 → the task with these.

    Examples:
        >>> import jax.numpy as jnp, optax
        >>> from asd_jax.training import TrainingStatistics, gradient_task
        >>> def loss(variables, batch, key, train):
        ...     return batch.mean((batch.views - variables["params"]["w"]).mean((1, 2)) ** 2), {}
        >>> def make(settings):
        ...     start = lambda key, statistics: {"params": {"w": jnp.zeros(())}}
        ...     return gradient_task(start, loss, optax.sgd(settings["rate"]), view_length=1)
        >>> task = varied_task(make({"rate": 0.5}), make)
        >>> zeros = np.zeros(1)
        >>> learner = task.init(jax.random.key(0), TrainingStatistics(zeros, zeros, zeros, zeros))
        >>> batch = Batch(np.full((1, 1, 1), 3.0), np.zeros(1), np.ones(1, bool))
        >>> for rate in (0.5, 0.25):
        ...     after, _ = task.step({**learner, "settings": {"rate": rate}}, batch, None)
        ...     print(after["params"]["w"])
        3.0
        1.5
    """

    def step(learner: Learner, batch: Batch, key: jax.Array) -> tuple[Learner, jax.Array]:
        settings, own = _apart(learner)
        after, value = make(settings).step(own, batch, key)
        return {**after, _SETTINGS: settings}, value

    def loss(learner: Learner, batch: Batch) -> jax.Array:
        settings, own = _apart(learner)
        return make(settings).loss(own, batch)

    return task._replace(step=step, loss=loss)


def can_vary(task: Task, keys: Sequence[str], batch: Batch, key: Any) -> bool:
    """Whether the step of a task from `varied_task` takes settings as arrays; compiles nothing.

    A system may decide by a setting in Python, as whether a loss has a term. That cannot be traced.

    Args:
        task: the task.
        keys: of the settings.
        batch: of shapes, as of `jax.ShapeDtypeStruct`; likewise below.
        key: of a step.
    """
    settings = {each: jax.ShapeDtypeStruct((), np.float32) for each in keys}
    learner = {**abstract_learner(task, batch.views.shape[-1]), _SETTINGS: settings}
    try:
        jax.eval_shape(task.step, learner, batch, key)
        jax.eval_shape(task.loss, learner, batch)
    except Exception:  # whatever a system makes of an array where it expects a number
        return False
    return True


def with_settings(state: FleetState, models: Sequence[FleetModel]) -> FleetState:
    """The state of a fleet with its models' settings, (models,) each; as it is without any."""
    if not models[0].settings:
        return state
    values = [dict(model.settings) for model in models]
    settings = {key: np.array([own[key] for own in values], np.float32) for key in values[0]}
    return state._replace(learner={**state.learner, _SETTINGS: settings})


def _apart(learner: Learner) -> tuple[dict[str, Any], Learner]:
    """Settings, and the learner that a variant alone has."""
    own = dict(learner)
    return own.pop(_SETTINGS), own


class VariantCheckpoints:
    """The checkpoints of a fleet of variants, in the folder that each would have alone.

    So each variant can be continued alone, and those of several runs together.

    Args:
        folders: of each variant, the checkpoints of the runs that it is saved for, one or more.
    """

    def __init__(self, folders: Sequence[Sequence[Checkpoints]]):
        self._folders = folders

    @property
    def latest(self) -> int | None:
        """Epoch of the newest complete checkpoint of all variants, or None."""
        return newest_of_all([each.epochs for own in self._folders for each in own])

    def save(self, epoch: int, state: FleetState) -> None:
        """Begins to write a checkpoint of each variant; arguments as of `Checkpoints.save`.

        A variant that has one of a later epoch, as after a kill between two, keeps it.
        """
        for own, part in zip(self._folders, self._parts(state), strict=True):
            for each in own:
                if epoch > (each.latest or 0):
                    each.save(epoch, part)

    def restore(self, epoch: int, like: FleetState) -> FleetState:
        """Reads the state of a checkpoint; arguments as of `Checkpoints.restore`."""
        parts = [
            own[0].restore(epoch, part)
            for own, part in zip(self._folders, self._parts(like), strict=True)
        ]
        state = jax.tree.map(lambda *leaves: np.concatenate(leaves), *parts)
        settings, _ = _apart(like.learner)
        return state._replace(learner={**state.learner, _SETTINGS: settings})

    def wait(self) -> None:
        """Returns when everything saved is on the disk."""
        for own in self._folders:
            for each in own:
                each.wait()

    def _parts(self, state: FleetState) -> list[FleetState]:
        """The state of each variant, as it is alone."""
        _, own = _apart(state.learner)
        alone = state._replace(learner=own)
        count = len(state.stopped) // len(self._folders)
        return [
            jax.tree.map(lambda leaf, i=i: leaf[i * count : (i + 1) * count], alone)
            for i in range(len(self._folders))
        ]


def newest_of_all(epochs: Sequence[Sequence[int]]) -> int | None:
    """The largest number that all lists have, or None.

    Examples:
        >>> newest_of_all([[10, 20], [0, 10]]), newest_of_all([[10], []])
        (10, None)
    """
    return max(set.intersection(*map(set, epochs)), default=None) if epochs else None
