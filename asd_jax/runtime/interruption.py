"""Signals that ask a command to stop, deferred so that training can stop at a checkpoint."""

import contextlib
import os
import signal
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any, NoReturn

# A terminal that is closed, a batch system before the time is up, a limit of seconds of a core.
# SIGKILL and SIGSTOP reach no program, SIGPIPE and SIGXFSZ are errors where they occur.
_NAMES = ("SIGTERM", "SIGINT", "SIGHUP", "SIGUSR1", "SIGUSR2", "SIGXCPU", "SIGALRM", "SIGQUIT")


def stopping() -> list[signal.Signals]:
    """Signals that ask this process to stop; none that it was started to ignore, as by nohup."""
    known = [getattr(signal, name) for name in _NAMES if hasattr(signal, name)]
    return [each for each in known if signal.getsignal(each) is not signal.SIG_IGN]


Handler = Callable[[int, FrameType | None], Any]


@contextlib.contextmanager
def handled_by(handler: Handler) -> Iterator[None]:
    """Has each signal that asks to stop call `handler`, and restores what was there."""
    before = {each: signal.signal(each, handler) for each in stopping()}
    try:
        yield
    finally:
        for each, own in before.items():
            signal.signal(each, own)


def stopped_line(number: int) -> str:
    """What a command says that a signal stopped."""
    name = signal.Signals(number).name
    return f"asd-jax: stopped by {name}; the same command continues from there"


def end_at_once(number: int, frame: FrameType | None) -> NoReturn:
    """Handles a signal while there is nothing to save: says so, and ends this process."""
    with contextlib.suppress(OSError):
        os.write(2, f"{stopped_line(number)}\n".encode())
    os._exit(128 + number)


def is_importing(frame: FrameType | None) -> bool:
    """Whether a module is being imported, which may swallow an exception, or be left half made."""
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            return True
        frame = frame.f_back
    return False


@contextlib.contextmanager
def stop_signals() -> Iterator[list[signal.Signals]]:
    """Collects signals that ask to stop instead of exiting; a second signal exits as usual.

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
        for each in stopping():
            before[each] = signal.signal(each, receive)
    except ValueError:  # only the main thread may handle signals; elsewhere the caller does
        pass
    try:
        yield received
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)
