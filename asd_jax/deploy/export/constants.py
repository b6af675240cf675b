"""Programs without the operations on constants, which a converter would carry over one by one.

Batch normalisation of fitted weights is a dozen such operations a layer, and the choice of a
machine's weights five an array. jax2onnx compares each operation with all others: an export of
`mobilenet_v2_id` with four machines takes it minutes in place of an hour.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.extend
import jax.numpy as jnp
import numpy as np

# Values to which a constant may grow: a broadcast one would be written out otherwise.
_SMALL = 4096
# Calls whose content is put in their place, by the parameter that has it.
_CALLS = {
    "jit": "jaxpr",
    "custom_jvp_call": "call_jaxpr",
    "custom_vjp_call": "call_jaxpr",
    "closed_call": "call_jaxpr",
}


def folded(
    function: Callable[..., Any], shapes: Sequence[Any], machines: int
) -> Callable[..., list[Any]]:
    """A function whose operations on constants are done, and whose calls are put in place.

    What depends on the machine alone is computed for each machine, and then chosen.

    Args:
        function: of clips and, with several machines, an integer that selects one.
        shapes: of its arguments.
        machines: their number.

    Returns:
        The same, of arguments of these shapes; its results are a flat list.

    Examples:
        >>> scaled = folded(lambda x: x * jnp.sqrt(jnp.array([4.0, 9.0])), [np.ones(2)], 1)
        >>> [equation.primitive.name for equation in jax.make_jaxpr(scaled)(np.ones(2)).eqns]
        ['mul']
    """
    closed = jax.make_jaxpr(function)(*shapes)

    def evaluated(clips: Any, *machine: Any) -> list[Any]:
        places = [_ByMachine([*np.arange(machines, dtype=np.int32)], own[None]) for own in machine]
        found = _evaluated(closed.jaxpr, closed.consts, [clips, *places])
        return [_chosen(value) for value in found]

    return evaluated


class _ByMachine:
    """A value that depends on the machine alone.

    Args:
        values: of each machine.
        place: int32 (1,), of the machine that is selected.
    """

    def __init__(self, values: Sequence[Any], place: jax.Array):
        self.values, self.place = values, place
        self._chosen: Any = None

    def chosen(self) -> Any:
        """That of the machine; one operation, however often it is asked for."""
        if self._chosen is None:
            table = np.stack([np.asarray(value) for value in self.values])
            row = jax.lax.GatherDimensionNumbers(
                offset_dims=tuple(range(table.ndim - 1)),
                collapsed_slice_dims=(0,),
                start_index_map=(0,),
            )
            self._chosen = jax.lax.gather(
                jnp.asarray(table),
                self.place,
                row,
                slice_sizes=(1, *table.shape[1:]),
                mode=jax.lax.GatherScatterMode.PROMISE_IN_BOUNDS,
            )
        return self._chosen


def _evaluated(
    jaxpr: jax.extend.core.Jaxpr, constants: Sequence[Any], arguments: Sequence[Any]
) -> list[Any]:
    """Results of a function: constants, values by machine, or traced ones."""
    known: dict[Any, Any] = dict(zip(jaxpr.constvars, constants, strict=True))
    known |= dict(zip(jaxpr.invars, arguments, strict=True))

    def value(atom: Any) -> Any:
        return atom.val if isinstance(atom, jax.extend.core.Literal) else known[atom]

    for equation in jaxpr.eqns:
        given = [value(atom) for atom in equation.invars]
        inner: Any = equation.params.get(_CALLS.get(equation.primitive.name, ""))
        if inner is not None:
            results = _evaluated(inner.jaxpr, inner.consts, given)
        elif _grows(equation) or any(isinstance(own, jax.core.Tracer) for own in given):
            results = _bound(equation, [_chosen(own) for own in given])
        else:
            results = _computed(equation, given)
        known |= dict(zip(equation.outvars, results, strict=True))
    return [value(atom) for atom in jaxpr.outvars]


def _computed(equation: Any, given: Sequence[Any]) -> list[Any]:
    """Results of an equation of constants and values by machine."""
    with jax.ensure_compile_time_eval():
        tables = [own for own in given if isinstance(own, _ByMachine)]
        if not tables:
            return _bound(equation, given)
        of_machines = [
            _bound(
                equation, [own.values[k] if isinstance(own, _ByMachine) else own for own in given]
            )
            for k in range(len(tables[0].values))
        ]
        return [_ByMachine(values, tables[0].place) for values in zip(*of_machines, strict=True)]


def _bound(equation: Any, given: Sequence[Any]) -> list[Any]:
    results = equation.primitive.bind(*given, **equation.params)
    return list(results) if equation.primitive.multiple_results else [results]


def _chosen(value: Any) -> Any:
    return value.chosen() if isinstance(value, _ByMachine) else value


def _grows(equation: Any) -> bool:
    """Whether results are large, and larger than what they are made of."""
    before, after = (
        sum(math.prod(np.shape(atom.aval)) for atom in atoms)
        for atoms in (equation.invars, equation.outvars)
    )
    return after > max(before, _SMALL)
