"""One run by several processes: who does what, and what they tell one another.

Every process runs the same program on the same configuration, as JAX's multi-controller model
wants it: arrays of a fleet lie over the devices of all, recordings are read by one process each,
and the first process alone writes. With one process everything here is the identity.
"""

import io
from collections.abc import Callable

import jax
import numpy as np
from jax.experimental import multihost_utils


def several() -> bool:
    """Whether the run has more than one process."""
    return jax.process_count() > 1


def is_primary() -> bool:
    """Whether this process is the one that writes."""
    return jax.process_index() == 0


def share_of(count: int) -> range:
    """This process's share of so many equal parts: consecutive ones."""
    processes, own = jax.process_count(), jax.process_index()
    return range(count * own // processes, count * (own + 1) // processes)


def is_own(index: int) -> bool:
    """Whether a piece of work, by its number, is this process's."""
    return index % jax.process_count() == jax.process_index()


def gather(values: np.ndarray) -> list[np.ndarray]:
    """Every process's array, in the order of the processes; any shapes, exact in every type."""
    if not several():
        return [values]
    return [load_arrays(data)["values"] for data in gather_bytes(save_arrays(values=values))]


def gather_bytes(data: bytes) -> list[bytes]:
    """Every process's bytes, in the order of the processes."""
    if not several():
        return [data]
    lengths = multihost_utils.process_allgather(np.int32(len(data)))
    padded = np.zeros(max(1, int(lengths.max())), np.uint8)
    padded[: len(data)] = np.frombuffer(data, np.uint8)
    rows = multihost_utils.process_allgather(padded)
    return [row[:length].tobytes() for row, length in zip(rows, lengths, strict=True)]


def from_primary(make: Callable[[], bytes]) -> bytes:
    """What the first process makes; the others do not call `make`."""
    if not several():
        return make()
    return gather_bytes(make() if is_primary() else b"")[0]


def any_of(flag: bool) -> bool:
    """Whether it is true in any process."""
    return flag if not several() else any(data == b"1" for data in gather_bytes(b"01"[flag:][:1]))


def barrier(name: str) -> None:
    """Waits until every process is here."""
    if several():
        multihost_utils.sync_global_devices(name)


def save_arrays(**arrays: np.ndarray) -> bytes:
    """Named arrays as bytes."""
    file = io.BytesIO()
    np.savez(file, **arrays)
    return file.getvalue()


def load_arrays(data: bytes) -> dict[str, np.ndarray]:
    """What `save_arrays` wrote."""
    with np.load(io.BytesIO(data), allow_pickle=False) as file:
        return {name: file[name] for name in file.files}
