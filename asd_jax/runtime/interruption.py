"""Signals that ask a long work to stop, for it to end where it can go on from."""

import contextlib
import signal
from collections.abc import Iterator


@contextlib.contextmanager
def stop_signals() -> Iterator[list[signal.Signals]]:
    """Collects SIGTERM and SIGINT instead of dying of them; a second one kills as ever."""
    received: list[signal.Signals] = []
    before = {}

    def receive(number, frame):
        received.append(signal.Signals(number))
        for each, handler in before.items():
            signal.signal(each, handler)

    try:
        for each in (signal.SIGTERM, signal.SIGINT):
            before[each] = signal.signal(each, receive)
    except ValueError:  # not in the main thread: signals are the caller's business
        pass
    try:
        yield received
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)
