"""Defers SIGTERM and SIGINT so that training can stop at a checkpoint."""

import contextlib
import signal
from collections.abc import Iterator
from types import FrameType
from typing import Any


@contextlib.contextmanager
def stop_signals() -> Iterator[list[signal.Signals]]:
    """Collects SIGTERM and SIGINT instead of exiting; a second signal exits as usual.

    Yields:
        The signals received so far.

    Examples:
        >>> epochs = 0
        >>> with stop_signals() as received:
        ...     while epochs < 3 and not received:
        ...         epochs += 1
        >>> epochs, received
        (3, [])
    """
    received: list[signal.Signals] = []
    before: dict[signal.Signals, Any] = {}

    def receive(number: int, frame: FrameType | None) -> None:
        received.append(signal.Signals(number))
        for each, handler in before.items():
            signal.signal(each, handler)

    try:
        for each in (signal.SIGTERM, signal.SIGINT):
            before[each] = signal.signal(each, receive)
    except ValueError:  # only the main thread may handle signals; elsewhere the caller does
        pass
    try:
        yield received
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)
