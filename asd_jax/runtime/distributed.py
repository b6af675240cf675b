"""One run by several processes: who does what, and what they tell one another.

Every process runs the same program on the same configuration, as JAX's multi-controller model
wants it: arrays of a fleet lie over the devices of all, recordings are read by one process each,
and the first process alone writes. With one process everything here is the identity.
"""

import collections
import io
import os
import re
import signal
import sys
import threading
import warnings
from collections.abc import Callable
from typing import NamedTuple, NoReturn

import jax
import numpy as np
from jax.experimental import multihost_utils

from asd_jax.errors import UserError

# Seconds without a sign of life after which a process is given up, and for all to end together:
# the first one writes the results while the others wait.
_HEARTBEAT, _PATIENCE = 30, 7 * 86_400
# What is said where the processes did not find one another, and where one is lost.
UNMET = (
    "the processes of the run did not meet; start all of them at about the same time, with the "
    "same --coordinator, that the first one can listen on and all can reach, and --num_processes"
)
LOST = (
    "another process of this run ended or cannot be reached, see what it said; start all of them "
    "again with the same commands, the run goes on from its last checkpoint"
)


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
    return b"1" in gather_bytes(b"1" if flag else b"0")


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


class Place(NamedTuple):
    """A process's place in a run, as `jax.distributed.initialize` takes it; None: to be found.

    Attributes:
        coordinator: HOST:PORT of the first process.
        processes: how many there are.
        index: which one this is, from 0.
    """

    coordinator: str | None = None
    processes: int | None = None
    index: int | None = None


def place_of(
    coordinator: str | None, processes: int | None, index: int | None, found: bool
) -> Place | None:
    """This process's place by its flags, or by JAX's variables of the environment.

    Args:
        coordinator: HOST:PORT; by default JAX_COORDINATOR_ADDRESS.
        processes: by default JAX_NUM_PROCESSES.
        index: by default JAX_PROCESS_ID.
        found: whether what is not told is to be found out from the cluster's own environment.

    Returns:
        None where the run has one process.

    Raises:
        UserError: the three are not told together, or make no sense.
    """
    told = [
        ("--coordinator", "JAX_COORDINATOR_ADDRESS", coordinator),
        ("--num_processes", "JAX_NUM_PROCESSES", processes),
        ("--process_id", "JAX_PROCESS_ID", index),
    ]
    values = {flag: os.environ.get(name) if value is None else value for flag, name, value in told}
    missing = [f"{flag} or {name}" for flag, name, _ in told if values[flag] in (None, "")]
    if len(missing) == 3 and not found:
        return None
    if missing and not found:
        raise UserError(f"a run by several processes also needs {missing[0]}")
    for flag, _, _ in told[1:]:
        try:
            values[flag] = None if values[flag] in (None, "") else int(values[flag])
        except ValueError:
            raise UserError(f"{flag} is {values[flag]!r}; it must be a whole number") from None
    place = Place(*values.values())
    if place.coordinator and not re.fullmatch(r".+:\d+", place.coordinator):
        raise UserError(f"--coordinator is {place.coordinator!r}; it must be HOST:PORT")
    if not missing and not 0 <= place.index < place.processes:
        raise UserError(
            f"--process_id is {place.index}; with --num_processes={place.processes} it must be "
            f"from 0 to {place.processes - 1}"
        )
    return place


def join(place: Place) -> None:
    """Makes this process one of a run; before JAX is used.

    Raises:
        UserError: the others are not reached.
    """
    try:
        jax.distributed.initialize(
            place.coordinator,
            place.processes,
            place.index,
            heartbeat_timeout_seconds=_HEARTBEAT,
            shutdown_timeout_seconds=_PATIENCE,
        )
    except (ValueError, RuntimeError) as error:
        raise UserError(f"{UNMET} ({str(error).splitlines()[0][:200]})", exit_status=1) from error


def joined() -> bool:
    """Whether `join` was called."""
    return jax.distributed.is_initialized()


def leave() -> None:
    """Waits for the others, then ends what `join` began."""
    jax.distributed.shutdown()


def is_loss(error: BaseException) -> bool:
    """Whether an error comes of an exchange with a process that is not there any more."""
    return joined() and bool(re.search("Gloo|NCCL|coordination|UNAVAILABLE", str(error)))


def end(message: str, exit_status: int) -> NoReturn:
    """Ends this process at once, without the wait for the others that a usual end has."""
    if message:
        print(message, file=sys.stderr)
    sys.stderr.flush()
    sys.stdout.flush()
    os._exit(exit_status)


def supervise() -> None:
    """Goes on in a child, and lets this process wait for it: the call returns in the child.

    Where another process is lost, JAX's runtime aborts this one with a trace of its own stack.
    The parent says in its place what happened, and ends with the child's status.
    """
    read, write = os.pipe()
    life_read, life_write = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # nothing of JAX runs yet
        child = os.fork()
    if child:
        os.close(write)
        os.close(life_read)
        _wait_for(child, read)
    os.close(read)
    os.close(life_write)

    def end_with_parent():
        os.read(life_read, 1)  # returns when the parent is gone, however it went
        os._exit(1)

    threading.Thread(target=end_with_parent, daemon=True).start()
    # What Python prints goes where it went; what the runtime logs goes to the parent.
    sys.stdout.flush()
    sys.stdout, sys.stderr = (os.fdopen(os.dup(place), "w", buffering=1) for place in (1, 2))
    os.dup2(write, 1)
    os.dup2(write, 2)
    os.close(write)


def _wait_for(child: int, log: int) -> NoReturn:
    for each in (signal.SIGTERM, signal.SIGINT):
        signal.signal(each, lambda number, frame: os.kill(child, number))
    with os.fdopen(log, "rb") as file:
        said = b"".join(collections.deque(file, maxlen=1000))
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        if os.WTERMSIG(status) == signal.SIGABRT and b"JAX distributed service" in said:
            end(f"asd-jax: {UNMET if b'RegisterTask' in said else LOST}", 1)
        sys.stderr.write(said.decode(errors="replace"))
        number = signal.Signals(os.WTERMSIG(status))
        end(f"asd-jax: stopped by {number.name}", 128 + number)
    os._exit(os.waitstatus_to_exitcode(status))
