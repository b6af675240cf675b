"""Counting a model's values without computing any."""

import math
from collections.abc import Callable

import jax


def count_values(init: Callable[[jax.Array], dict]) -> int:
    """Weights and running statistics of a model, as Keras counts its parameters.

    Args:
        init: key → a dictionary with "params" and, where there are any, "model_state".
    """
    made = jax.eval_shape(init, jax.random.key(0))
    kept = [made["params"], made.get("model_state", {})]
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(kept))
