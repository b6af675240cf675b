"""Models of Keras as references: made without initial values, run as one program."""

import contextlib
import functools
from collections.abc import Iterator
from unittest import mock

import jax
import numpy as np


@contextlib.contextmanager
def no_initial_values(keras) -> Iterator[None]:
    """Models made inside start at zero: for values that a test sets all the same.

    To draw them, Keras would compile a program for each shape, a hundred for a large network.
    """

    def zeros(self, shape, dtype=None):
        return np.zeros(shape, np.float32)

    with contextlib.ExitStack() as stack:
        for name in ("VarianceScaling", "Orthogonal", "Zeros", "Ones"):
            kind = getattr(keras.initializers, name)
            stack.enter_context(mock.patch.object(kind, "__call__", zeros))
        yield


def values_of(model) -> list[list[jax.Array]]:
    """The trainable values and the others, as `stateless_call` takes them."""
    kinds = (model.trainable_variables, model.non_trainable_variables)
    return [[variable.value for variable in kind] for kind in kinds]


# A reference may be slow to run, if only it is compiled fast.
reference = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": "0"})


def call(model, x, training=False):
    """Outputs, and the values that training moves, computed as one program."""
    run = reference(functools.partial(model.stateless_call, training=training))
    return run(*values_of(model), x)


def assign(variables, values) -> None:
    """Gives variables of Keras these values."""
    for variable, value in zip(variables, values, strict=True):
        variable.assign(value)


def layers_of(model) -> dict[str, list[np.ndarray]]:
    """Each layer's arrays by its name."""
    return {layer.name: layer.get_weights() for layer in model.layers}
