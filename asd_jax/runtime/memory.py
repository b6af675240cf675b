"""Memory: what there is, and what to say where it runs out."""

import contextlib
import errno
import os
import re
import resource
import signal
from collections.abc import Iterator
from pathlib import Path

from asd_jax.errors import UserError
from asd_jax.runtime import control_groups
from asd_jax.runtime.supervision import supervise

# Address space that libraries need to load, measured 0.5 GiB; and a small run, of which JAX needs
# most, measured on one core and on two, at most 2.1 GiB. Each thread reserves some.
_TO_LOAD, _TO_START, _EACH_CORE = 640 << 20, 2 << 30, 128 << 20
_LIMITS = {"ulimit -v": resource.RLIMIT_AS, "ulimit -d": resource.RLIMIT_DATA}
# What says in an error that memory, or a thread for lack of it, could not be had.
_SIGNS = (
    "resource_exhausted",
    "can't start new thread",
    "cannot allocate memory",
)
# Signals that end a process which gets no memory: native code's own, and the kernel's.
_DEADLY = (signal.SIGABRT, signal.SIGSEGV, signal.SIGBUS, signal.SIGKILL)


def usable_memory() -> int:
    """Bytes of memory that this process may use: the machine's, or fewer by its control group."""
    try:
        machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError):
        machine = 2**33
    files = control_groups.files("memory.max", "memory.limit_in_bytes")
    limits = [control_groups.number(path) for path in files]
    return int(min([machine, *(limit for limit in limits if limit)]))


def size(n: float) -> str:
    """Formats a number of bytes."""
    return f"{n / 2**30:.2f} GiB" if n >= 2**29 else f"{n / 2**20:.1f} MiB"


def is_exhausted(error: BaseException) -> bool:
    """Whether an error is that memory could not be had."""
    if isinstance(error, MemoryError) or getattr(error, "errno", None) == errno.ENOMEM:
        return True
    text = str(error).lower()
    # TensorStore uses the first sign for full disks as well.
    return any(sign in text for sign in _SIGNS) and "no space left" not in text


def exhausted(error: BaseException, work: str, remedy: str) -> UserError:
    """The line for an error that `is_exhausted`.

    Args:
        error: whose text says what was asked for.
        work: what the memory was for, as in "out of memory in WORK".
        remedy: what to do.
    """
    asked = str(error).strip().split("\n")[0].removeprefix("RESOURCE_EXHAUSTED: ").rstrip(". ")
    details = "; ".join(filter(None, [asked[:200], _there_is()]))
    return UserError(f"out of memory in {work} ({details}); {remedy}", exit_status=1)


@contextlib.contextmanager
def needed_for(work: str, remedy: str) -> Iterator[None]:
    """Turns errors of lacking memory into one line; arguments as of `exhausted`.

    Examples:
        >>> with needed_for("training", "train fewer machines"):
        ...     raise MemoryError("Unable to allocate 8.0 TiB")
        Traceback (most recent call last):
            ...
        asd_jax.errors.UserError: out of memory in training (Unable to allocate 8.0 TiB; ...
    """
    try:
        yield
    except Exception as error:
        if not is_exhausted(error):
            raise
        raise exhausted(error, work, remedy) from error


def supervised() -> None:
    """Continues in a child process where this one has a limit of memory, for commands.

    Native code that gets no memory ends its process with a trace of its stack. This one says in a
    line why it ended.

    Raises:
        UserError: a limit leaves less than what libraries take to load.
    """
    _check(_TO_LOAD, "the libraries")
    if _limits():
        supervise(_why_ended)


def check_limits(cores: int) -> None:
    """Looks at this process's limits of memory, for commands, before JAX has started.

    Args:
        cores: that are to be used.

    Raises:
        UserError: a limit leaves less than what JAX takes to start.
    """
    _check(_TO_START + cores * _EACH_CORE, f"JAX on {cores} cores")


def _check(least: int, what: str) -> None:
    for command, limit in _limits().items():
        if limit < least:
            raise UserError(
                f"{command} {limit // 1024}: {size(limit)} of memory are too little for {what}; "
                f"allow {least // 1024} or more, or limit the memory by a control group, as "
                "containers do",
                exit_status=1,
            )


def _why_ended(number: signal.Signals, output: bytes) -> str | None:
    """What to say of a signal that ended the work under a limit of memory."""
    if number not in _DEADLY:
        return None
    return (
        f"ended by {number.name}, most likely as memory could not be had ({_there_is()}); allow "
        "more and run the same command again, it continues where it stopped"
    )


def _there_is() -> str:
    """The memory that there is, and its limits."""
    limits = [f"{command} {limit // 1024}" for command, limit in _limits().items()]
    found = re.search(r"MemAvailable: +(\d+) kB", control_groups.text(Path("/proc/meminfo")))
    free = f", {size(1024 * int(found[1]))} of the machine's free" if found else ""
    return ", ".join([f"this process may use {size(usable_memory())}{free}", *limits])


def _limits() -> dict[str, int]:
    """This process's limits of memory in bytes, by the shell's command that sets them."""
    soft = {command: resource.getrlimit(kind)[0] for command, kind in _LIMITS.items()}
    return {command: limit for command, limit in soft.items() if limit != resource.RLIM_INFINITY}
