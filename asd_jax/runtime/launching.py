"""Processes of a run on this machine, started by one command."""

import contextlib
import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from types import FrameType

from asd_jax.errors import UserError
from asd_jax.runtime.interruption import handled_by

MOST_PROCESSES = 100_000  # of a run


def launch(arguments: Sequence[str], count: int) -> int:
    """Runs a command by several processes of this machine, and waits for them.

    The first one has this process's output; what the others say is shown where one of them was
    lost. Signals are passed on to all.

    Args:
        arguments: of `asd-jax`, without those that place a process in the run.
        count: number of processes.

    Returns:
        Exit status of the first one, or of another that failed.

    Raises:
        UserError: a process cannot be started.
    """
    # As this process was started: without the working directory's modules, unless it has them.
    safe = [] if {"", os.getcwd()} & set(sys.path) else ["-P"]
    command = [sys.executable, *safe, "-m", "asd_jax", *arguments]
    command += [f"--coordinator=127.0.0.1:{_free_port()}", f"--num_processes={count}"]
    with contextlib.ExitStack() as stack:
        said = [stack.enter_context(tempfile.TemporaryFile()) for _ in range(1, count)]
        children: list[subprocess.Popen] = []

        def pass_on(number: int, frame: FrameType | None) -> None:
            for child in children:
                with contextlib.suppress(ProcessLookupError):
                    child.send_signal(number)

        stack.enter_context(handled_by(pass_on))
        try:
            for i in range(count):
                output = said[i - 1] if i else None
                # Ctrl+C reaches this process alone, which passes it on.
                child = subprocess.Popen(
                    [*command, f"--process_id={i}"],
                    start_new_session=True,
                    stdout=output,
                    stderr=output,
                )
                children.append(child)
        except OSError as error:
            for child in children:
                child.terminate()
            raise UserError(
                f"--num_processes={count}: {error.strerror or error}; start fewer", exit_status=1
            ) from error
        statuses = [child.wait() for child in children]
        if statuses[0] in (0, 1):  # else the first one said what all of them say
            for i, status in enumerate(statuses[1:], start=1):
                said[i - 1].seek(0)
                for line in said[i - 1].read().decode(errors="replace").splitlines():
                    if status:
                        print(f"process {i}: {line}", file=sys.stderr)
    failed = [status for status in statuses if status]
    status = statuses[0] or (failed[0] if failed else 0)
    return 128 - status if status < 0 else status


def _free_port() -> int:
    with socket.socket() as place:
        place.bind(("127.0.0.1", 0))
        return place.getsockname()[1]
