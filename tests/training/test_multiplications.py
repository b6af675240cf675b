"""Multiplications of a program, by hand and beside XLA's cost analysis."""

import jax
import jax.numpy as jnp
import pytest

from asd_jax.training.multiplications import multiplications


def shape(*axes):
    return jax.ShapeDtypeStruct(axes, jnp.float32)


def test_dense_layers_are_as_xla_counts_them():
    """XLA's FLOPs are two a product, and one for each other operation on an element."""

    def network(x, weights):
        for kernel in weights:
            x = jax.nn.relu(x @ kernel)
        return x

    x, weights = shape(309, 640), [shape(640, 128), shape(128, 8), shape(8, 640)]
    counted = multiplications(network, x, weights)
    assert counted == 309 * (640 * 128 + 128 * 8 + 8 * 640)
    flops = jax.jit(network).lower(x, weights).cost_analysis()["flops"]
    relu = 309 * (128 + 8 + 640)
    assert flops == 2 * counted + relu


def test_convolutions_of_groups_and_strides():
    def depthwise(x, kernel):
        return jax.lax.conv_general_dilated(
            x, kernel, (2, 2), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"),
            feature_group_count=4,
        )  # fmt: skip

    # (2, 4, 4, 4) outputs of nine taps each.
    assert multiplications(jax.jit(depthwise), shape(2, 8, 8, 4), shape(3, 3, 1, 4)) == 128 * 9


def test_loops_choices_and_functions_with_gradients_of_their_own():
    square = jax.custom_vjp(lambda x: x * x)
    square.defvjp(lambda x: (x * x, x), lambda x, g: (2 * x * g,))
    looped = multiplications(lambda x: jax.lax.fori_loop(0, 7, lambda _, y: square(y), x), shape(5))
    assert looped == 7 * 5
    assert multiplications(lambda x: jax.lax.map(square, x), shape(6, 5)) == 30
    either = multiplications(
        lambda x: jax.lax.cond(x.sum() > 0, lambda y: y * y * y, lambda y: y * y, x), shape(5)
    )
    assert either == 10


@pytest.mark.parametrize("elementwise", [True, False])
def test_products_of_elements(elementwise):
    counted = multiplications(lambda x: x * x, shape(3, 4), elementwise=elementwise)
    assert counted == 12 * elementwise
