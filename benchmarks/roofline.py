"""Measured limits of the machine, and the share of them that a computation reaches."""

import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from asd_jax.training import Batch, TrainingStatistics
from asd_jax.training.multiplications import multiplications
from asd_jax.training.task import Task

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


def training_work(task: Task, mels: int, batch: int, steps: int, n_labels: int = 1) -> Work:
    """The least work of training steps of one model.

    Args:
        task: of the model.
        mels: bands of its views.
        batch: views of a step.
        steps: their number, of all models together.
        n_labels: classes.
    """
    zeros = jnp.zeros(mels)
    statistics = TrainingStatistics(zeros, zeros, zeros, zeros, n_labels)
    learner = jax.eval_shape(task.init, jax.random.key(0), statistics)
    count = sum(leaf.size for leaf in jax.tree.leaves(learner["params"]))
    views = jax.ShapeDtypeStruct((batch, task.view_length, mels), jnp.float32)
    labels = jax.ShapeDtypeStruct((batch,), jnp.int32)
    mask = jax.ShapeDtypeStruct((batch,), jnp.bool_)
    forward = product_flops(task.loss, learner, Batch(views, labels, mask))
    return Work(
        4 * steps * (8 * count + views.size),
        steps * 3 * forward,
        "8 float32 passes over the values a step (gradients, Adam) and one over the views, "
        "activations not counted; matrix products, a backward pass as two forward ones",
    )


def total(*works: Work) -> Work:
    """The least work of several computations one after another."""
    return Work(
        sum(work.bytes for work in works),
        sum(work.flops for work in works),
        "; ".join(dict.fromkeys(work.formula for work in works)),
    )


def product_flops(function: Callable, *arguments: Any) -> float:
    """Additions and multiplications in a function's matrix products and convolutions.

    Counted by shapes, see `multiplications`; nothing is computed.

    Args:
        function: traceable.
        arguments: arrays, or their shapes.
    """
    return 2.0 * multiplications(function, *arguments, elementwise=False)
