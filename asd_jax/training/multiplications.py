"""Counts the multiplications of a computation, by the shapes in its program."""

import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.extend


def multiplications(function: Callable, *arguments: Any, elementwise: bool = True) -> int:
    """Multiplications of a function, each with an addition in products and convolutions.

    Counted by shapes; nothing is computed. A loop of known length counts its body as often, which
    XLA's cost analysis counts once; one that ends by a condition counts it once here, too. Of a
    choice the largest branch counts; of a convolution each output's whole kernel, also where it
    lies on padding.

    Args:
        function: traceable.
        arguments: arrays, or their shapes.
        elementwise: whether products of elements count beside matrix products and convolutions.
            A depthwise convolution is a sum of such products on CPUs.

    Examples:
        Three products of (4, 5) by (5, 5), and three of (4, 5) by a number.

        >>> import jax.numpy as jnp
        >>> def scanned(x, k):
        ...     return jax.lax.scan(lambda x, _: (2 * (x @ k), None), x, None, length=3)[0]
        >>> multiplications(scanned, jnp.ones((4, 5)), jnp.ones((5, 5)))
        360
        >>> multiplications(scanned, jnp.ones((4, 5)), jnp.ones((5, 5)), elementwise=False)
        300
    """
    return _count(jax.make_jaxpr(function)(*arguments).jaxpr, elementwise)


def _count(jaxpr: jax.extend.core.Jaxpr, elementwise: bool) -> int:
    """The count of one function, and of the functions inside it."""
    total = 0
    equation: Any  # of arrays, whose shapes the types of its values do not tell
    for equation in jaxpr.eqns:
        name = equation.primitive.name
        size = equation.outvars[0].aval.size if equation.outvars else 0
        if name == "dot_general":
            ((contracted, _), _) = equation.params["dimension_numbers"]
            shape = equation.invars[0].aval.shape
            total += size * math.prod(shape[i] for i in contracted)
        elif name == "conv_general_dilated":
            kernel = equation.invars[1].aval
            outputs = kernel.shape[equation.params["dimension_numbers"].rhs_spec[0]]
            total += size * kernel.size // outputs
        elif name == "mul":
            total += size * elementwise
        elif name == "cond":
            branches = equation.params["branches"]
            total += max(_count(branch.jaxpr, elementwise) for branch in branches)
        else:
            times = equation.params.get("length", 1) if name == "scan" else 1
            inner = (_inner(value) for value in equation.params.values())
            total += times * sum(_count(each, elementwise) for parts in inner for each in parts)
    return total


@functools.singledispatch
def _inner(value: Any) -> list[jax.extend.core.Jaxpr]:
    """The functions in an equation's parameter."""
    return []


@_inner.register
def _(value: jax.extend.core.ClosedJaxpr) -> list[jax.extend.core.Jaxpr]:
    return [value.jaxpr]


@_inner.register
def _(value: jax.extend.core.Jaxpr) -> list[jax.extend.core.Jaxpr]:
    return [value]
