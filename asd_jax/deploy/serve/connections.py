"""Connections of the service: whoever dawdles over the head of a request is let go."""

import asyncio
import contextlib
import json
from collections.abc import Callable
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

_PHRASES = {400: b"Bad Request", 408: b"Request Timeout"}


class BoundedProtocol(H11Protocol):
    """HTTP/1.1 with a limit on the time between requests, which uvicorn has for idle ones alone.

    The limit holds from a connection's begin, or the answer before, to the next request's head: for
    one that comes byte by byte, and for the rest of a body that was refused.

    Args:
        *arguments: of uvicorn.
        timeout_s: the limit, in seconds.
        refused: called with the client, the status and the reason of a request that never became
            one.
        **settings: of uvicorn.
    """

    def __init__(
        self,
        *arguments: Any,
        timeout_s: float,
        refused: Callable[[str, int, str], None],
        **settings: Any,
    ):
        super().__init__(*arguments, **settings)
        self._timeout_s, self._refused = timeout_s, refused
        self._timer: asyncio.TimerHandle | None = None
        self._begun = False  # whether the request that is awaited has a byte

    def connection_made(self, transport: Any) -> None:
        """Waits for the first request."""
        super().connection_made(transport)
        self._wait()

    def connection_lost(self, exc: Exception | None) -> None:
        """Waits for nothing any more."""
        self._stop_waiting()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Notes that a request has begun."""
        self._begun = True
        super().data_received(data)

    def handle_events(self) -> None:
        """Has the application's own limits hold when the head of a request is there."""
        super().handle_events()
        if self.cycle is not None and not self.cycle.response_complete:
            self._stop_waiting()

    def on_response_complete(self) -> None:
        """Waits for the next request."""
        self._wait()
        super().on_response_complete()

    def send_400_response(self, msg: str) -> None:
        """Answers what is not HTTP, in the form of other errors."""
        self._refuse(400, f"not a request: {msg.rstrip('.')}")

    def _wait(self) -> None:
        self._stop_waiting()
        self._begun = False
        if not self.transport.is_closing():
            self._timer = self.loop.call_later(self._timeout_s, self._too_late)

    def _stop_waiting(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _too_late(self) -> None:
        if self._begun and self.conn.our_state is h11.IDLE:
            self._refuse(408, f"the request did not arrive within {self._timeout_s:g} s")
        self.transport.close()

    def _refuse(self, status: int, text: str) -> None:
        body = json.dumps({"error": text}).encode()
        headers = [
            (b"content-type", b"application/json"),
            (b"content-length", str(len(body)).encode()),
            (b"connection", b"close"),
        ]
        head = h11.Response(status_code=status, headers=headers, reason=_PHRASES[status])
        with contextlib.suppress(h11.LocalProtocolError):  # an answer is under way already
            for event in (head, h11.Data(data=body), h11.EndOfMessage()):
                self.transport.write(self.conn.send(event) or b"")
            self._refused((self.client or ("-",))[0], status, text)
        self.transport.close()
