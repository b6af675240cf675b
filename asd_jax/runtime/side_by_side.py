"""Work side by side: calls in threads with their results in order, and rows over devices.

CPU devices share one memory: there a call takes one device, and calls from several threads run side
by side, on as many cores as there are threads. Accelerators divide the rows of a call.
"""

import collections
import functools
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

import jax
import numpy as np
from jax.sharding import Mesh, PartitionSpec

from asd_jax.runtime.cores import usable_cores

T = TypeVar("T")
R = TypeVar("R")

_ROWS = "rows"


def in_order(
    function: Callable[[T], R], items: Iterable[T], threads: int
) -> Generator[R, None, None]:
    """Results of a function, in the order of its arguments, from calls in several threads.

    Arguments are made by the caller's thread while those before them are computed; so many more
    than there are threads are under way that none of them waits. Close the iterator
    (`contextlib.closing`) where it may not be gone through to its end.

    Args:
        function: of one argument. JAX's settings for a thread, as `jax.enable_x64`, are its own.
        items: the arguments.
        threads: calls at a time.

    Examples:
        >>> list(in_order(lambda number: 10 * number, range(4), threads=2))
        [0, 10, 20, 30]
    """
    pool = ThreadPoolExecutor(threads, thread_name_prefix="in_order")
    under_way: collections.deque[Future] = collections.deque()
    try:
        for item in items:
            under_way.append(pool.submit(function, item))
            if len(under_way) > threads:
                yield under_way.popleft().result()
        while under_way:
            yield under_way.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def dispatchers() -> int:
    """Threads that should call a compiled program with the batches of a stream.

    On a CPU, as many as it has cores; on an accelerator one batch is computed while another is
    moved.
    """
    return max(2, usable_cores()) if jax.default_backend() == "cpu" else 2


def over_devices(
    function: Callable[[Any, Any], Any], *, divide: bool | None = None, **options: Any
) -> Callable[[Any, Any], Any]:
    """Compiles a function of rows, which are divided among this process's accelerators.

    Args:
        function: (shared arrays, arrays (rows, …)) → arrays (rows, …), each row's by itself.
        divide: whether the devices divide the rows; by default where they are no CPU.
        **options: of `jax.jit`.

    Returns:
        The same, compiled. Its results are of NumPy where rows are divided.

    Examples:
        >>> scaled = over_devices(lambda factor, rows: factor * rows)
        >>> np.asarray(scaled(np.float32(2), np.ones((3, 2), np.float32))).tolist()
        [[2.0, 2.0], [2.0, 2.0], [2.0, 2.0]]
    """
    devices = jax.local_devices()
    divide = jax.default_backend() != "cpu" if divide is None else divide
    if len(devices) == 1 or not divide:
        whole = jax.jit(function, **options)
        return lambda shared, rows: whole(jax.tree.map(_on_one, shared), rows)
    by_rows = PartitionSpec(_ROWS)
    program = jax.jit(
        jax.shard_map(
            function,
            mesh=Mesh(np.array(devices), (_ROWS,)),
            in_specs=(PartitionSpec(), by_rows),
            out_specs=by_rows,
            check_vma=False,
        ),
        **options,
    )

    def divided(shared: Any, rows: Any) -> Any:
        count = len(jax.tree.leaves(rows)[0])
        padded = jax.tree.map(functools.partial(_filled, -count % len(devices)), rows)
        return jax.tree.map(lambda leaf: np.asarray(leaf)[:count], program(shared, padded))

    return divided


def _on_one(leaf: Any) -> Any:
    """An array that is on several devices as one of NumPy; others as they are."""
    several = isinstance(leaf, jax.Array) and len(leaf.devices()) > 1
    return np.asarray(leaf) if several else leaf


def _filled(missing: int, rows: np.ndarray) -> np.ndarray:
    """Rows, and the last one again so many times."""
    return np.concatenate([rows, np.repeat(rows[-1:], missing, axis=0)]) if missing else rows
