"""What was scored and is not kept yet."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from asd_jax.deploy.watch.alarming import Judged
from asd_jax.deploy.watch.delivery import Deliverer
from asd_jax.deploy.watch.evidence import MOST_WAITING, Heard, of_alarms
from asd_jax.deploy.watch.state import Message
from asd_jax.deploy.watch.windows import Window


class Pending:
    """What was scored since the last transaction."""

    def __init__(self) -> None:
        self.windows, self.sound = 0, 0.0
        self.lines: list[bytes] = []
        self.arrived: list[float] = []
        self.streams: dict[str, None] = {}
        self.done: list[tuple[str, int]] = []
        self.forgotten: list[tuple[str, int]] = []
        self.messages: list[Mapping[str, Any]] = []
        self.heard: list[Heard] = []  # of alarms
        self.delivered: list[Message] = []

    def add(self, windows: Sequence[Window], judged: Judged) -> None:
        """Adds windows, and what was decided about them."""
        self.windows += len(windows)
        self.sound += judged.sound
        self.lines += judged.lines
        self.messages += judged.messages
        room = MOST_WAITING - len(self.heard)  # where no disk takes what is pending
        self.heard += of_alarms(windows, judged.records)[:room]
        for window in windows:
            self.arrived.append(window.arrived)
            self.streams[window.stream] = None
            if window.done is not None:
                self.done.append((window.stream, window.done))


def addressed(message: Mapping[str, Any], targets: Mapping[str, Deliverer]) -> Iterator[Message]:
    """A message to each target."""
    for target in targets:
        yield Message(message["id"], target, message["body"])
