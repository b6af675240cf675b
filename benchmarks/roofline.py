"""Measured limits of the machine, and the share of them that a computation reaches."""

import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from asd_jax.training.multiplications import multiplications

_ATTEMPTS = 5


class Work(NamedTuple):
    """The least work of a computation.

    Attributes:
        bytes: read and written in main memory, each value once.
        flops: additions and multiplications.
        formula: of these counts.
    """

    bytes: float
    flops: float
    formula: str


class Machine(NamedTuple):
    """Measured limits of the machine.

    Attributes:
        backend: of JAX: "cpu", "gpu", …
        bandwidth: bytes a second, read and written, of a pass over memory.
        rate: additions and multiplications a second of a float32 matrix product in the default
            precision.
    """

    backend: str
    bandwidth: float
    rate: float

    def limit(self, work: Work, seconds: float) -> dict[str, Any]:
        """Compares seconds with the least that this machine could take."""
        by_memory, by_products = work.bytes / self.bandwidth, work.flops / self.rate
        least = max(by_memory, by_products)
        return {
            **work._asdict(),
            "bound": "copy bandwidth" if by_memory >= by_products else "matrix rate",
            "least_s": least,
            "share": least / seconds,
        }


def measure_machine(quick: bool = False) -> Machine:
    """Copies and multiplies large arrays; the best of several attempts counts.

    Args:
        quick: use smaller arrays, which may fit partly into the processor's cache.
    """
    backend = jax.default_backend()
    large = backend != "cpu"
    values = (1 << 28 if large else 1 << 26) // (4 if quick else 1)
    side = (16384 if large else 2048) // (2 if quick else 1)
    x = jnp.ones((side, side), jnp.float32)
    multiply = jax.jit(jnp.matmul)
    multiplied = _best(lambda: multiply(x, x))
    # In place, as the system would take time to provide new memory.
    passed = jax.jit(lambda x: x + 1, donate_argnums=0)
    buffer = [jnp.ones(values, jnp.float32)]

    def copy():
        buffer[0] = passed(buffer[0])
        return buffer[0]

    copied = _best(copy)
    return Machine(backend, 2 * 4 * values / copied, 2 * side**3 / multiplied)


def _best(run: Callable) -> float:
    """Seconds of the fastest of several calls, after one that compiles."""
    seconds = []
    for _ in range(_ATTEMPTS + 1):
        begin = time.perf_counter()
        jax.block_until_ready(run())
        seconds.append(time.perf_counter() - begin)
    return min(seconds[1:])


def product_flops(function: Callable, *arguments: Any) -> float:
    """Additions and multiplications in a function's matrix products and convolutions.

    Counted by shapes, see `multiplications`; nothing is computed.

    Args:
        function: traceable.
        arguments: arrays, or their shapes.
    """
    return 2.0 * multiplications(function, *arguments, elementwise=False)
