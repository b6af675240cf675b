"""One run by several processes: shares of the work, and exchanges between the processes.

Every process runs the same program on the same configuration, by JAX's multi-controller model:
arrays of a fleet lie over the devices of all, each recording is read by one process, and only the
first process writes. With one process every function here is the identity.
"""

import collections
import contextlib
import io
import json
import os
import re
import signal
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.experimental import multihost_utils

from asd_jax.errors import UserError
from asd_jax.runtime import meeting
from asd_jax.runtime.agreement import difference
from asd_jax.runtime.launching import MOST_PROCESSES

# Seconds without a heartbeat after which a process counts as lost; those that processes which have
# met take to connect; and those that they wait for one another at the end, while the first one
# writes the results.
_HEARTBEAT, _CONNECTING, _PATIENCE = 30, 30, 7 * 86_400
_TELLING = 10.0  # seconds in which others are told why this process cannot start
_DEVICES_FLAG = "xla_force_host_platform_device_count"
# Messages for processes that did not find one another, and for the loss of one.
UNMET = (
    "the processes of the run did not meet; start all of them at about the same time, with the "
    "same --coordinator, that the first one can listen on and all can reach, and --num_processes"
)
LOST = (
    "another process of this run ended or cannot be reached, see its output; start all of them "
    "again with the same commands, the run continues from its last checkpoint"
)


def several() -> bool:
    """True if the run has more than one process."""
    return joined() and jax.process_count() > 1  # without others, JAX need not have started


def is_primary() -> bool:
    """True in the process that writes, the first one."""
    return not joined() or jax.process_index() == 0


def share_of(count: int) -> range:
    """This process's share of `count` equal parts, as consecutive numbers.

    Examples:
        >>> share_of(10)  # a single process has all
        range(0, 10)
    """
    processes, own = jax.process_count(), jax.process_index()
    return range(count * own // processes, count * (own + 1) // processes)


def is_own(index: int) -> bool:
    """True if this process does the piece of work with this number."""
    return index % jax.process_count() == jax.process_index()


def gather(values: np.ndarray) -> list[np.ndarray]:
    """Gathers every process's array, in the order of the processes; any shapes, bit for bit."""
    if not several():
        return [values]
    return [load_arrays(data)["values"] for data in gather_bytes(save_arrays(values=values))]


def gather_bytes(data: bytes) -> list[bytes]:
    """Gathers every process's bytes, in the order of the processes."""
    if not several():
        return [data]
    # An exchange needs equal lengths: pad to the longest, and cut off.
    lengths = multihost_utils.process_allgather(np.int32(len(data)))
    padded = np.zeros(max(1, int(lengths.max())), np.uint8)
    padded[: len(data)] = np.frombuffer(data, np.uint8)
    rows = multihost_utils.process_allgather(padded)
    return [row[:length].tobytes() for row, length in zip(rows, lengths, strict=True)]


def from_primary(make: Callable[[], bytes]) -> bytes:
    """Sends the result of `make` from the first process to all; the others do not call it."""
    if not several():
        return make()
    return gather_bytes(make() if is_primary() else b"")[0]


def any_of(flag: bool) -> bool:
    """True if the flag is true in any process."""
    return b"1" in gather_bytes(b"1" if flag else b"0")


def barrier(name: str) -> None:
    """Waits until every process has called this."""
    if several():
        multihost_utils.sync_global_devices(name)


def save_arrays(**arrays: np.ndarray) -> bytes:
    """Serialises named arrays to bytes.

    Examples:
        >>> load_arrays(save_arrays(scores=np.arange(3)))
        {'scores': array([0, 1, 2])}
    """
    file, named = io.BytesIO(), dict[str, Any](arrays)
    np.savez(file, **named)
    return file.getvalue()


def load_arrays(data: bytes) -> dict[str, np.ndarray]:
    """Reads the bytes of `save_arrays`."""
    with np.load(io.BytesIO(data), allow_pickle=False) as file:
        return {name: file[name] for name in file.files}


class Place(NamedTuple):
    """A process's place in a run, for `jax.distributed.initialize`, which detects what is None.

    Attributes:
        coordinator: HOST:PORT of the first process.
        processes: number of processes.
        index: number of this process, from 0.
    """

    coordinator: str | None = None
    processes: int | None = None
    index: int | None = None  # type: ignore[assignment]  # hides the method of tuples


# Of a process that is to start all processes of the run on this machine.
HERE = Place("here")


def place_of(
    coordinator: str | None, processes: int | None, index: int | None, detect: bool
) -> Place | None:
    """Determines this process's place by its flags, or by JAX's environment variables.

    Args:
        coordinator: HOST:PORT; by default JAX_COORDINATOR_ADDRESS.
        processes: by default JAX_NUM_PROCESSES.
        index: by default JAX_PROCESS_ID.
        detect: let JAX detect missing values in the cluster's own environment.

    Returns:
        The place; None for a run of one process; `HERE` if there is a number of processes alone.

    Raises:
        UserError: some of the three are missing, or contradict one another.

    Examples:
        >>> place_of("10.0.0.1:1234", 4, 0, detect=False)
        Place(coordinator='10.0.0.1:1234', processes=4, index=0)
    """
    options: list[tuple[str, str, Any]] = [
        ("--coordinator", "JAX_COORDINATOR_ADDRESS", coordinator),
        ("--num_processes", "JAX_NUM_PROCESSES", processes),
        ("--process_id", "JAX_PROCESS_ID", index),
    ]
    values = {
        flag: os.environ.get(name) if value is None else value for flag, name, value in options
    }
    missing = [f"{flag} or {name}" for flag, name, _ in options if values[flag] in (None, "")]
    if len(missing) == 3 and not detect:
        return None
    here = len(missing) == 2 and values["--num_processes"] not in (None, "") and not detect
    if missing and not detect and not here:
        raise UserError(f"a run by several processes also needs {missing[0]}")
    numbers: list[int | None] = []
    for flag, _, _ in options[1:]:
        value = values[flag]
        try:
            numbers.append(None if value in (None, "") else int(value))
        except ValueError:
            raise UserError(f"{flag} is {value!r}; it must be a whole number") from None
    address, (processes, index) = values["--coordinator"], numbers
    if address:
        meeting.address_of(address)
    if processes is not None and not 1 <= processes <= MOST_PROCESSES:
        raise UserError(f"--num_processes is {processes}; it must be from 1 to {MOST_PROCESSES}")
    if processes is not None and index is not None and not missing and not 0 <= index < processes:
        raise UserError(
            f"--process_id is {index}; with --num_processes={processes} it must be "
            f"from 0 to {processes - 1}"
        )
    return HERE if here else Place(address, processes, index)


def join(place: Place, states: Mapping[str, str], wait: float, say: Callable[[str], None]) -> None:
    """Joins the other processes of the run; must be called before JAX is used.

    On CPUs, all processes use as many devices as the one that has the fewest.

    Args:
        place: of this process.
        states: key → text of what all processes must have alike.
        wait: seconds until which all must be there.
        say: called with lines about waiting, and about devices that are not used.

    Raises:
        UserError: the others cannot be reached, or are not about to do the same.
    """
    told = None not in place
    if told:
        own = _cpu_devices()
        address = meeting.address_of(str(place.coordinator))
        fewest = meeting.meet(address, *_numbers(place), states, own, wait, say)
        if fewest < own:
            say(f"this process has {own} devices, another one {fewest}; each uses {fewest}")
            _use_cpu_devices(fewest)
    try:
        jax.distributed.initialize(
            place.coordinator,
            place.processes,
            place.index,
            initialization_timeout=_CONNECTING if told else max(1, round(wait)),
            heartbeat_timeout_seconds=_HEARTBEAT,
            shutdown_timeout_seconds=_PATIENCE,
        )
    except (ValueError, RuntimeError) as error:
        raise UserError(f"{UNMET} ({str(error).splitlines()[0][:200]})", exit_status=1) from error
    if not told:
        agree(states)


def tell(place: Place, problem: str, say: Callable[[str], None]) -> None:
    """Tells the other processes why this one cannot start, where they wait for it."""
    if None not in place:
        address = meeting.address_of(str(place.coordinator))
        with contextlib.suppress(UserError):
            meeting.meet(address, *_numbers(place), {meeting.PROBLEM: problem}, 1, _TELLING, say)


def _numbers(place: Place) -> tuple[int, int]:
    processes, index = place[1:]
    assert processes is not None and index is not None
    return processes, index


def _cpu_devices() -> int:
    """Devices of this process, if they are CPUs; JAX need not have started."""
    flag = re.search(rf"{_DEVICES_FLAG}=([0-9]+)", os.environ.get("XLA_FLAGS", ""))
    return max(1, jax.config.values["jax_num_cpu_devices"], int(flag[1]) if flag else 1)


def _use_cpu_devices(count: int) -> None:
    flags = re.sub(rf"--{_DEVICES_FLAG}=[0-9]+", "", os.environ.get("XLA_FLAGS", ""))
    os.environ["XLA_FLAGS"] = flags
    jax.config.update("jax_num_cpu_devices", count)


def agree(states: Mapping[str, str]) -> None:
    """Checks that all processes have the same, at a point that all of them reach.

    Args:
        states: key → text; `meeting.PROBLEM` of a process that cannot go on.

    Raises:
        UserError: they differ, or one cannot go on.
    """
    if not several():
        return
    counts = collections.Counter(device.process_index for device in jax.devices())
    if len(set(counts.values())) > 1:
        each = ", ".join(f"{count} in process {i}" for i, count in sorted(counts.items()))
        raise UserError(f"the processes of this run have unequal numbers of devices: {each}")
    everything = [json.loads(data) for data in gather_bytes(json.dumps(dict(states)).encode())]
    for i, each in enumerate(everything):
        if i != jax.process_index() and (problem := each.get(meeting.PROBLEM)):
            raise UserError(f"process {i} of this run cannot go on: {problem}")
    if meeting.PROBLEM not in states and (problem := difference(everything)):
        raise UserError(problem)


def joined() -> bool:
    """True after `join`."""
    return jax.distributed.is_initialized()


def leave() -> None:
    """Waits for the others, then leaves the run."""
    jax.distributed.shutdown()


def is_loss(error: BaseException) -> bool:
    """True if an error is from an exchange with a process that has ended."""
    return joined() and bool(re.search("Gloo|NCCL|coordination|UNAVAILABLE", str(error)))


def why_ended(number: signal.Signals, output: bytes) -> str | None:
    """What to say where JAX's runtime has aborted a process, as others were lost; else None.

    Args:
        number: signal that ended the process.
        output: last lines of native code.
    """
    if number != signal.SIGABRT or b"JAX distributed service" not in output:
        return None
    return UNMET if b"RegisterTask" in output else LOST
