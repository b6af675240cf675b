"""The interface between a system and the trainer: how one model starts, steps and is evaluated."""

import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

Learner = dict[str, Any]


class Batch(NamedTuple):
    """Views of a step.

    Attributes:
        views: (batch, frames, mels).
        labels: (batch,) int32, labels of the views' clips from the detector's `examples`.
        mask: (batch,) false for padding rows, which must have no effect.
        epoch: () int32, epochs trained before this step's, by which settings may change; None where
            no epochs are counted, as in validation: such settings have their full value then.

    Examples:
        >>> import numpy as np
        >>> batch = Batch(np.zeros((3, 5, 64)), np.zeros(3), np.array([True, True, False]))
        >>> float(batch.mean(np.array([1.0, 3.0, np.nan])))
        2.0
    """

    views: jax.Array
    labels: jax.Array
    mask: jax.Array
    epoch: jax.Array | None = None

    def mean(self, values: jax.Array) -> jax.Array:
        """Mean of (batch,) values over the rows that count."""
        return jnp.sum(jnp.where(self.mask, values, 0)) / jnp.sum(self.mask)


class TrainingStatistics(NamedTuple):
    """Statistics of a model's training frames, which its initial values may depend on.

    Attributes:
        mean: (mels,) float32, arithmetic mean of the training frames.
        std: likewise, standard deviation, with the number of frames as its denominator.
        minimum: likewise, smallest value.
        maximum: likewise, largest value.
        n_labels: () int32, number of labels; its views' labels are 0 to n_labels - 1.
    """

    mean: jax.Array
    std: jax.Array
    minimum: jax.Array
    maximum: jax.Array
    n_labels: jax.Array | int = 1


class Task(NamedTuple):
    """One model's training as pure functions, ready for `vmap` over many models.

    A learner is a dictionary of arrays with at least "params" and "model_state" (the other
    variable collections of a linen module, possibly empty); only these two are kept of a trained
    model.

    Attributes:
        init: (key, TrainingStatistics) → learner.
        step: (learner, Batch, key) → (learner, mean loss).
        loss: (learner, Batch) → mean loss, in evaluation mode.
        view_length: frames in a view.
        kind: "dense", "recurrent" or "convolution": the layers that take most of a step's time.
        crop: whether an epoch has one view of a clip, see `ViewSpec`. Initial values then do not
            depend on the training frames: of their statistics only `n_labels` is given.
        rate: epochs trained before → () factor of the learning rate, for the log; None where it
            stays.
    """

    init: Callable[[jax.Array, TrainingStatistics], Learner]
    step: Callable[[Learner, Batch, jax.Array], tuple[Learner, jax.Array]]
    loss: Callable[[Learner, Batch], jax.Array]
    view_length: int
    kind: str = "dense"
    crop: bool = False
    rate: Callable[[Any], Any] | None = None


def variables(learner: Learner) -> dict[str, Any]:
    """A learner's weights in the form of a linen module's `apply`."""
    return {"params": learner["params"], **learner["model_state"]}


def gradient_task(
    init: Callable[[jax.Array, TrainingStatistics], Mapping[str, Any]],
    loss: Callable[..., tuple[jax.Array, Mapping[str, Any]]],
    optimizer: optax.GradientTransformation,
    *,
    view_length: int,
    kind: str = "dense",
    crop: bool = False,
    schedule: Callable[[jax.Array], jax.Array] | None = None,
) -> Task:
    """Builds the task of a model with one loss and one optimiser.

    Args:
        init: (key, TrainingStatistics) → variables, in the form of a linen module's `init`.
        loss: (variables, Batch, key, train) → (mean loss, the variable collections changed by
            the step, without "params").
        optimizer: an optax transformation.
        view_length: frames in a view.
        kind: "dense", "recurrent" or "convolution", as in `Task`.
        crop: as in `Task`.
        schedule: epochs trained before → () factor of the learning rate; None keeps it.

    Examples:
        A model that learns one value, the mean of its views:

        >>> def loss(variables, batch, key, train):
        ...     errors = (batch.views - variables["params"]["value"]) ** 2
        ...     return batch.mean(errors.mean((1, 2))), {}
        >>> task = gradient_task(
        ...     lambda key, statistics: {"params": {"value": jnp.zeros(())}},
        ...     loss,
        ...     optax.sgd(0.5),
        ...     view_length=1,
        ... )
        >>> import numpy as np
        >>> key, mels = jax.random.key(0), np.zeros(2)
        >>> learner = task.init(key, TrainingStatistics(mels, mels, mels, mels))
        >>> batch = Batch(np.full((4, 1, 2), 3.0), np.zeros(4, int), np.ones(4, bool))
        >>> learner, value = jax.jit(task.step)(learner, batch, key)
        >>> float(value), float(learner["params"]["value"]), float(task.loss(learner, batch))
        (9.0, 3.0, 0.0)
    """

    def start(key: jax.Array, statistics: TrainingStatistics) -> Learner:
        model_state = dict(init(key, statistics))
        params = model_state.pop("params")
        return {
            "params": params,
            "model_state": model_state,
            "opt_state": optimizer.init(params),
        }

    def step(learner: Learner, batch: Batch, key: jax.Array) -> tuple[Learner, jax.Array]:
        def objective(params: Any) -> tuple[jax.Array, Mapping[str, Any]]:
            return loss({"params": params, **learner["model_state"]}, batch, key, True)

        (value, changed), gradients = jax.value_and_grad(objective, has_aux=True)(learner["params"])
        updates, opt_state = optimizer.update(gradients, learner["opt_state"], learner["params"])
        if schedule is not None and batch.epoch is not None:
            factor = schedule(batch.epoch)
            updates = jax.tree.map(lambda update: factor * update, updates)
        return {
            "params": optax.apply_updates(learner["params"], updates),
            "model_state": {**learner["model_state"], **changed},
            "opt_state": opt_state,
        }, value

    def evaluate(learner: Learner, batch: Batch) -> jax.Array:
        return loss(variables(learner), batch, None, False)[0]

    return Task(start, step, evaluate, view_length, kind, crop, schedule)


def abstract_learner(task: Task, n_mels: int) -> Learner:
    """Shapes of a task's learner; nothing is computed."""
    band: Any = jax.ShapeDtypeStruct((n_mels,), jnp.float32)
    statistics = TrainingStatistics(band, band, band, band)
    return jax.eval_shape(task.init, jax.random.key(0), statistics)


def count_values(task: Task, n_mels: int) -> int:
    """Counts the weights and running statistics of a model, like Keras its parameters.

    Args:
        task: the model's task.
        n_mels: bands of its input.
    """
    learner = abstract_learner(task, n_mels)
    kept = [learner["params"], learner["model_state"].get("batch_stats", {})]
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(kept))
