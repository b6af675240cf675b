"""Output that nobody reads any more, and the last words of a process."""

import contextlib
import os
import sys
from typing import IO, NoReturn


def discard(stream: IO) -> None:
    """Sends what is written to a stream, and waits to be, nowhere.

    Without it, Python would fail at its end, when it writes what waits.
    """
    with contextlib.suppress(OSError, ValueError):  # streams of tests have no file
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)


def end(message: str, exit_status: int) -> NoReturn:
    """Ends this process at once: the usual exit would wait for other threads and processes."""
    with contextlib.suppress(OSError):  # of a pipe that nobody reads any more
        sys.stdout.flush()
    with contextlib.suppress(OSError):
        if message:
            print(message, file=sys.stderr)
        sys.stderr.flush()
    os._exit(exit_status)
