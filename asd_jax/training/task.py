"""What the trainer needs to know of a system: how one model starts, steps and is judged."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import optax

Learner = dict[str, Any]


class Task(NamedTuple):
    """One model's training as pure functions, ready for `vmap` over many models.

    A learner is a dictionary of arrays that has at least "params" and "model_state" (the
    other variable collections of a linen module, possibly empty); these two are what is
    kept of a trained model.

    Attributes:
        init: key → learner.
        step: (learner, views (batch, frames, mels), mask (batch,), key) → (learner, loss).
            A view whose mask is false must not have any effect.
        loss: (learner, views, mask) → mean loss over the masked views, as in evaluation.
        view_length: frames in a view.
        kind: "dense" or "convolution", by what a step spends its time on.
    """

    init: Callable[[jax.Array], Learner]
    step: Callable[..., tuple[Learner, jax.Array]]
    loss: Callable[..., jax.Array]
    view_length: int
    kind: str = "dense"


def variables(learner: Learner) -> dict[str, Any]:
    """A learner's weights as a linen module's `apply` takes them."""
    return {"params": learner["params"], **learner["model_state"]}


def gradient_task(
    init: Callable[[jax.Array], dict[str, Any]],
    loss: Callable[..., tuple[jax.Array, dict[str, Any]]],
    optimizer: optax.GradientTransformation,
    *,
    view_length: int,
    kind: str = "dense",
) -> Task:
    """The task of a model that has one loss and one optimiser.

    Args:
        init: key → variables, as a linen module's `init`.
        loss: (variables, views, mask, key, train) → (mean loss over the masked views, the
            variable collections other than "params" after the step).
        optimizer: an optax transformation.
        view_length: frames in a view.
        kind: "dense" or "convolution".
    """

    def start(key):
        model_state = dict(init(key))
        params = model_state.pop("params")
        return {
            "params": params,
            "model_state": model_state,
            "opt_state": optimizer.init(params),
        }

    def step(learner, views, mask, key):
        def objective(params):
            return loss({"params": params, **learner["model_state"]}, views, mask, key, True)

        (value, model_state), gradients = jax.value_and_grad(objective, has_aux=True)(
            learner["params"]
        )
        updates, opt_state = optimizer.update(gradients, learner["opt_state"], learner["params"])
        return {
            "params": optax.apply_updates(learner["params"], updates),
            "model_state": model_state,
            "opt_state": opt_state,
        }, value

    def evaluate(learner, views, mask):
        return loss(variables(learner), views, mask, None, False)[0]

    return Task(start, step, evaluate, view_length, kind)
