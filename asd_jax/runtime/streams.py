"""Output that nobody reads any more."""

import contextlib
import os
from typing import IO


def discard(stream: IO) -> None:
    """Sends what is written to a stream, and waits to be, nowhere.

    Without it, Python would fail at its end, when it writes what waits.
    """
    with contextlib.suppress(OSError, ValueError):  # streams of tests have no file
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)
