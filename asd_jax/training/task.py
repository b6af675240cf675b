"""What the trainer needs to know of a system: how one model starts, steps and is judged."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

Learner = dict[str, Any]


class Batch(NamedTuple):
    """Views of a step.

    Attributes:
        views: (batch, frames, mels).
        labels: (batch,) int32, what the detector's `examples` said of the views' clips.
        mask: (batch,) false where a row only fills the batch up: it must have no effect.
    """

    views: jax.Array
    labels: jax.Array
    mask: jax.Array

    def mean(self, values: jax.Array) -> jax.Array:
        """Mean of (batch,) values over the rows that count."""
        return jnp.sum(jnp.where(self.mask, values, 0)) / jnp.sum(self.mask)


class TrainingStatistics(NamedTuple):
    """What a model may know of its training views before it starts.

    Attributes:
        mean: (mels,) float32, arithmetic mean of the training frames.
        std: likewise, standard deviation, with the number of frames as its denominator.
        minimum: likewise, smallest value.
        maximum: likewise, largest value.
        n_labels: () int32, labels of its views: they are below this number.
    """

    mean: jax.Array
    std: jax.Array
    minimum: jax.Array
    maximum: jax.Array
    n_labels: jax.Array | int = 1


class Task(NamedTuple):
    """One model's training as pure functions, ready for `vmap` over many models.

    A learner is a dictionary of arrays that has at least "params" and "model_state" (the
    other variable collections of a linen module, possibly empty); these two are what is
    kept of a trained model.

    Attributes:
        init: (key, TrainingStatistics) → learner.
        step: (learner, Batch, key) → (learner, mean loss).
        loss: (learner, Batch) → mean loss, as in evaluation.
        view_length: frames in a view.
        kind: "dense", "recurrent" or "convolution", by what a step spends its time on.
    """

    init: Callable[[jax.Array, TrainingStatistics], Learner]
    step: Callable[[Learner, Batch, jax.Array], tuple[Learner, jax.Array]]
    loss: Callable[[Learner, Batch], jax.Array]
    view_length: int
    kind: str = "dense"


def variables(learner: Learner) -> dict[str, Any]:
    """A learner's weights as a linen module's `apply` takes them."""
    return {"params": learner["params"], **learner["model_state"]}


def gradient_task(
    init: Callable[[jax.Array, TrainingStatistics], dict[str, Any]],
    loss: Callable[..., tuple[jax.Array, dict[str, Any]]],
    optimizer: optax.GradientTransformation,
    *,
    view_length: int,
    kind: str = "dense",
) -> Task:
    """The task of a model that has one loss and one optimiser.

    Args:
        init: (key, TrainingStatistics) → variables, as a linen module's `init` gives them.
        loss: (variables, Batch, key, train) → (mean loss, those variable collections that
            the step changed, other than "params").
        optimizer: an optax transformation.
        view_length: frames in a view.
        kind: "dense", "recurrent" or "convolution".
    """

    def start(key, statistics):
        model_state = dict(init(key, statistics))
        params = model_state.pop("params")
        return {
            "params": params,
            "model_state": model_state,
            "opt_state": optimizer.init(params),
        }

    def step(learner, batch, key):
        def objective(params):
            return loss({"params": params, **learner["model_state"]}, batch, key, True)

        (value, changed), gradients = jax.value_and_grad(objective, has_aux=True)(learner["params"])
        updates, opt_state = optimizer.update(gradients, learner["opt_state"], learner["params"])
        return {
            "params": optax.apply_updates(learner["params"], updates),
            "model_state": {**learner["model_state"], **changed},
            "opt_state": opt_state,
        }, value

    def evaluate(learner, batch):
        return loss(variables(learner), batch, None, False)[0]

    return Task(start, step, evaluate, view_length, kind)


def abstract_learner(task: Task, n_mels: int) -> Learner:
    """Shapes of a task's learner; nothing is computed."""
    band = jax.ShapeDtypeStruct((n_mels,), jnp.float32)
    return jax.eval_shape(task.init, jax.random.key(0), TrainingStatistics(*[band] * 4))


def count_values(task: Task, n_mels: int) -> int:
    """Weights and running statistics of a model, as Keras counts its parameters.

    Args:
        task: the model's.
        n_mels: bands of its input.
    """
    learner = abstract_learner(task, n_mels)
    kept = [learner["params"], learner["model_state"].get("batch_stats", {})]
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(kept))
