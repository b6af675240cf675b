"""A child process that works, and a parent that says in one line what ended it.

Where memory cannot be had, or another process of a run is lost, native code ends its process with
a trace of its own stack, which nothing in that process can prevent.
"""

import collections
import os
import signal
import sys
import threading
import warnings
from collections.abc import Callable
from typing import NoReturn

from asd_jax.runtime.interruption import stopping
from asd_jax.runtime.streams import end

# Given the signal that ended the child, and the last lines of native code: the line to print, or
# None for those lines as they are.
Explain = Callable[[signal.Signals, bytes], str | None]


def supervise(explain: Explain) -> None:
    """Continues in a child process, where the call returns, while this process waits for it.

    The parent ends with the child's status.

    Args:
        explain: what the parent prints, with status 1, when a signal has ended the child.
    """
    read, write = os.pipe()
    life_read, life_write = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # nothing of JAX runs yet
        child = os.fork()
    if child:
        os.close(write)
        os.close(life_read)
        _wait_for(child, read, explain)
    os.setsid()  # Ctrl+C reaches the parent alone, which passes it on
    os.close(read)
    os.close(life_write)

    def end_with_parent() -> None:
        os.read(life_read, 1)  # returns when the parent has ended, for any reason
        os._exit(1)

    threading.Thread(target=end_with_parent, daemon=True).start()
    # Python's output stays where it is; native code's, by file descriptor, goes to the parent.
    sys.stdout.flush()
    sys.stdout, sys.stderr = (
        os.fdopen(os.dup(place), "w", buffering=1, errors="backslashreplace") for place in (1, 2)
    )
    os.dup2(write, 1)
    os.dup2(write, 2)
    os.close(write)


def _wait_for(child: int, log: int, explain: Explain) -> NoReturn:
    """Passes signals on to the child, waits for its end, and reports it."""
    for each in stopping():
        signal.signal(each, lambda number, frame: os.kill(child, number))
    with os.fdopen(log, "rb") as file:
        output = b"".join(collections.deque(file, maxlen=1000))  # the last lines
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        number = signal.Signals(os.WTERMSIG(status))
        if line := explain(number, output):
            end(f"asd-jax: {line}", 1)
        sys.stderr.write(output.decode(errors="replace"))
        end(f"asd-jax: stopped by {number.name}", 128 + number)
    os._exit(os.waitstatus_to_exitcode(status))
