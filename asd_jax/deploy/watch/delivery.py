"""Delivers messages of alarms to a command or a URL, again until they have arrived.

Each target has a thread of its own, so that scoring never waits. A message is delivered at least
once: where the process ends between the delivery and the note of it, once more, under its id.
"""

import collections
import contextlib
import heapq
import os
import signal
import subprocess
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable

from asd_jax.deploy.watch.state import Message
from asd_jax.errors import UserError

COMMAND, URL = "command", "url"
_FIRST_PAUSE, _LONGEST_PAUSE = 1.0, 300.0  # seconds
_SAID_AGAIN = 600.0  # seconds after which a target that still fails is named again


class NotDeliveredError(Exception):
    """A message did not arrive; why."""


class Deliverer:
    """Delivers messages to one target, in a thread.

    Args:
        target: `Message.target` of its messages.
        send: delivers one, or raises `NotDeliveredError`.
        report: called with a line when the target fails, and when it works again.
    """

    def __init__(self, target: str, send: Callable[[Message], None], report: Callable[[str], None]):
        self.target, self._send, self._report = target, send, report
        self._due: list[tuple[float, int, int, Message]] = []  # when, order, tries
        self._changed = threading.Condition()
        self._count = 0
        self._ended = False
        self._delivered: collections.deque[Message] = collections.deque()
        self._failing_since = self._said = 0.0
        self._thread = threading.Thread(target=self._run, name=f"alarm_{target}", daemon=True)
        self._thread.start()

    @property
    def waiting(self) -> int:
        """Messages that are not delivered."""
        with self._changed:
            return len(self._due)

    def add(self, message: Message) -> None:
        """Adds a message; returns at once."""
        with self._changed:
            self._push(time.monotonic(), 0, message)
            self._changed.notify()

    def take_delivered(self) -> list[Message]:
        """Messages that were delivered since the last call."""
        return [self._delivered.popleft() for _ in range(len(self._delivered))]

    def close(self, seconds: float) -> None:
        """Ends, after what waits was tried once more, or after some seconds."""
        end = time.monotonic() + seconds
        with self._changed:
            while self._due and self._failing_since == 0 and time.monotonic() < end:
                self._changed.wait(0.1)
            self._ended = True
            self._changed.notify()
        self._thread.join(max(0.0, min(1.0, end - time.monotonic())))

    def _push(self, when: float, tries: int, message: Message) -> None:
        self._count += 1
        heapq.heappush(self._due, (when, self._count, tries, message))

    def _run(self) -> None:
        while True:
            with self._changed:
                while not self._ended and (not self._due or self._due[0][0] > time.monotonic()):
                    pause = self._due[0][0] - time.monotonic() if self._due else None
                    self._changed.wait(pause)
                if self._ended:
                    return
                when, number, tries, message = self._due[0]
            try:
                self._send(message)
                problem = ""
            except NotDeliveredError as error:
                problem = str(error)
            with self._changed:
                self._due.remove((when, number, tries, message))
                heapq.heapify(self._due)
                if problem:
                    pause = min(_LONGEST_PAUSE, _FIRST_PAUSE * 2 ** min(tries, 16))
                    self._push(time.monotonic() + pause, tries + 1, message)
                else:
                    self._delivered.append(message)
                self._say(problem)
                self._changed.notify()

    def _say(self, problem: str) -> None:
        now = time.monotonic()
        if not problem:
            if self._failing_since:
                self._report(f"the alarm's {self.target} works again")
            self._failing_since = 0.0
            return
        if not self._failing_since or now - self._said > _SAID_AGAIN:
            self._said = now
            self._report(
                f"the alarm's {self.target} failed: {problem}; it is tried again, and "
                f"{len(self._due)} messages wait"
            )
        self._failing_since = self._failing_since or now


def to_command(command: str, timeout: float) -> Callable[[Message], None]:
    """Runs a command of the shell with a message on its standard input; status 0 is arrival."""

    def send(message: Message) -> None:
        process = subprocess.Popen(
            command,
            shell=True,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,  # ours is the lines of results
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        try:
            _, said = process.communicate(f"{message.body}\n".encode(), timeout)
        except subprocess.TimeoutExpired:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
            raise NotDeliveredError(f"it took longer than {timeout:g} s") from None
        if process.returncode:
            last = said.decode(errors="replace").strip().rsplit("\n", 1)[-1][:200]
            raise NotDeliveredError(f"status {process.returncode}{': ' * bool(last)}{last}")

    return send


def to_url(url: str, timeout: float) -> Callable[[Message], None]:
    """Posts a message as JSON; a status of 200 to 299 is arrival.

    Raises:
        UserError: it is no http:// or https:// URL.
    """
    parts = urllib.parse.urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise UserError(f"--alarm_url={url} is no URL; it must begin with http:// or https://")

    def send(message: Message) -> None:
        headers = {"Content-Type": "application/json", "Idempotency-Key": message.id}
        request = urllib.request.Request(url, message.body.encode(), headers, method="POST")
        try:
            with urllib.request.urlopen(request, timeout=timeout) as answer:
                answer.read(1024)
        except urllib.error.HTTPError as error:
            error.close()
            raise NotDeliveredError(f"HTTP status {error.code}") from None
        except (OSError, ValueError, EOFError) as error:
            reason = getattr(error, "reason", None) or error
            raise NotDeliveredError(" ".join(str(reason).split()) or type(error).__name__) from None
        except Exception as error:  # http.client's own
            raise NotDeliveredError(f"{type(error).__name__}: {error}") from None

    return send
