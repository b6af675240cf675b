"""Size, memory and multiply-adds of a program, counted by the shapes in it."""

import math
from typing import Any, NamedTuple

import jax
import jax.extend

from asd_jax.deploy.export.choosing import array_shapes
from asd_jax.deploy.export.program import Program
from asd_jax.training.multiplications import multiplications


class Costs(NamedTuple):
    """What one clip takes; machines share a file, and one is computed at a time.

    Attributes:
        file_bytes: size of the file.
        peak_bytes: most bytes of values that are alive at once, without the weights: each
            operation's result is kept until its last use, and none is computed in place. A
            runtime that fuses operations needs less.
        front_end: multiply-adds of matrix products that make features of the waveform.
        multiply_adds: those and the ones of networks and scores: matrix products and convolutions.
    """

    file_bytes: int
    peak_bytes: int
    front_end: int
    multiply_adds: int

    def rows(self, seconds: float) -> list[list[str]]:
        """A table: headings, and a row each."""
        return [
            [f"one clip of {seconds:g} s", ""],
            ["size of the file", f"{self.file_bytes / 2**20:.2f} MiB"],
            ["memory for values, at most", f"{self.peak_bytes / 2**20:.2f} MiB"],
            ["multiply-adds", f"{self.multiply_adds / 1e6:.2f} M"],
            ["of them by the front end", f"{self.front_end / 1e6:.2f} M"],
        ]


def costs_of(program: Program, shape: tuple[int, ...], file_bytes: int) -> Costs:
    """Counts a program's costs for one clip of a shape, by its first machine."""
    one = program.of(program.targets[0])
    (clips,) = array_shapes(one, (1, *shape))
    jaxpr = jax.make_jaxpr(one)(clips).jaxpr
    front_end = 0
    if program.input == "waveform":
        front_end = multiplications(one.features, clips, elementwise=False)
    total = multiplications(one, clips, elementwise=False)
    return Costs(file_bytes, peak_bytes(jaxpr), front_end, total)


def peak_bytes(jaxpr: jax.extend.core.Jaxpr) -> int:
    """Most bytes of a function's inputs and values that are alive at once.

    Examples:
        Of a million values and their squares, the sum needs both at once.

        >>> import jax.numpy as jnp
        >>> function = jax.make_jaxpr(lambda x: jnp.sum(x * x))
        >>> peak_bytes(function(jnp.zeros(10**6)).jaxpr)
        8000000
    """
    last: dict[Any, int] = {}  # place of the last equation that reads a value
    for place, equation in enumerate(jaxpr.eqns):
        last |= {value: place for value in equation.invars if _is_variable(value)}
    last |= {value: len(jaxpr.eqns) for value in jaxpr.outvars if _is_variable(value)}
    # Constants are weights.
    alive = {value: _bytes(value) for value in jaxpr.invars}
    most = sum(alive.values())
    for place, equation in enumerate(jaxpr.eqns):
        inner = max((_inner_peak(value) for value in equation.params.values()), default=0)
        read: set[Any] = {value for value in equation.invars if _is_variable(value)}
        given = sum(alive.get(value, 0) for value in read)
        own = {value: _bytes(value) for value in equation.outvars}
        before = sum(alive.values())
        most = max(most, before + sum(own.values()), before - given + inner)
        alive |= own
        alive = {value: size for value, size in alive.items() if last.get(value, -1) > place}
    return most


def _inner_peak(value: Any) -> int:
    """That of a function in an equation's parameter; 0 of another one."""
    if isinstance(value, jax.extend.core.ClosedJaxpr):
        return peak_bytes(value.jaxpr)
    if isinstance(value, jax.extend.core.Jaxpr):
        return peak_bytes(value)
    if isinstance(value, tuple):
        return max(map(_inner_peak, value), default=0)
    return 0


def _is_variable(value: Any) -> bool:
    return not isinstance(value, jax.extend.core.Literal)


def _bytes(value: Any) -> int:
    shape = getattr(value.aval, "shape", ())
    return math.prod(shape) * value.aval.dtype.itemsize
