"""Runs the service: the socket, signals, the log, and the end."""

import asyncio
import contextlib
import functools
import ipaddress
import logging
import os
import signal
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import uvicorn

from asd_jax.deploy.serve.app import make_app
from asd_jax.deploy.serve.connections import BoundedProtocol
from asd_jax.deploy.serve.limits import Limits
from asd_jax.deploy.serve.service import Service
from asd_jax.deploy.serve.warm_up import warm_up
from asd_jax.errors import UserError
from asd_jax.fitting.fitted import Fitted
from asd_jax.runtime.interruption import handled_by

TOKEN_VARIABLE = "ASD_JAX_TOKEN"
_LEAST_TOKEN = 16
_SPARE = 64  # connections beside those whose recordings are here, as of health checks
_LAST_SECONDS = 5.0  # for threads to end
_SAY_SECONDS = 10.0  # between lines of progress


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches an address.

    Examples:
        >>> [is_loopback(host) for host in ("127.0.0.1", "::1", "localhost", "0.0.0.0", "")]
        [True, True, True, False, False]
    """
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def read_token(path: os.PathLike | str | None) -> str | None:
    """The token of a file, else of the environment; None where neither has one.

    Raises:
        UserError: the file cannot be read, or the token is too short or none that HTTP can carry.
    """
    source = f"${TOKEN_VARIABLE}"
    token = os.environ.get(TOKEN_VARIABLE)
    if path is not None:
        source = os.fspath(path)
        try:
            token = Path(path).read_text(encoding="ascii")
        except UnicodeDecodeError:
            token = " "  # said below
        except OSError as error:
            raise UserError(f"--token_file={source}: {error.strerror}") from error
    if token is None:
        return None
    token = token.strip()
    if len(token) < _LEAST_TOKEN or not all("!" <= each <= "~" for each in token):
        raise UserError(
            f"{source}: a token has {_LEAST_TOKEN} or more characters of ASCII without spaces, as "
            "`openssl rand -hex 32` prints"
        )
    return token


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens.

    Raises:
        UserError: the address is none of this machine, or the port is taken.
    """
    try:
        family, *_, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        return socket.create_server(address[:2], family=family, backlog=128)
    except OSError as error:
        raise UserError(
            f"--host={host} --port={port}: {error.strerror or error}; choose another, or --port=0 "
            "for any that is free",
            exit_status=1,
        ) from error


def serve(
    fitted: Fitted,
    run: str,
    own: socket.socket,
    limits: Limits,
    *,
    token: str | None = None,
    access_log: bool = True,
) -> bool:
    """Serves until a signal asks to stop, and everything that was received is answered.

    Args:
        fitted: the fitted system of a run.
        run: its name, for answers.
        own: a socket that listens.
        limits: of what is taken.
        token: that requests must have; None for none.
        access_log: whether the log has a line for each request.

    Returns:
        Whether all threads have ended; Python's own end would wait for one that compiles.

    Raises:
        UserError: the run cannot score; or a second signal asked to stop at once.
    """
    with tempfile.TemporaryDirectory(prefix="asd-jax-serve-") as folder:
        service = Service(fitted, run, folder, limits, log_line)
        server = make_server(service, token, access_log)
        failures: list[Exception] = []

        def failed(error: Exception) -> None:
            failures.append(error)
            server.should_exit = True

        host, port = own.getsockname()[:2]
        address = f"http://{f'[{host}]' if ':' in host else host}:{port}"
        say(f"serving {run} on {address}; compiling …")

        def first() -> None:
            begin = said = time.perf_counter()

            def progress(done: int, total: int) -> None:
                nonlocal said
                if time.perf_counter() - said > _SAY_SECONDS:
                    said = time.perf_counter()
                    say(f"compiling {done}/{total}")

            count = warm_up(fitted, progress)
            seconds = time.perf_counter() - begin
            say(f"ready after {seconds:.1f} s, programs of {count} kinds of batches")

        service.start(first, failed)
        ended = False
        try:
            asyncio.run(server.serve(sockets=[own]))
        finally:
            ended = service.close(_LAST_SECONDS)
        if failures:
            raise failures[0]
        if server.force_exit:
            raise UserError(
                f"stopped at once by {server.stopped.name}; not everything is answered",
                exit_status=128 + server.stopped,
            )
        log_line(f"stopped by {server.stopped.name}; everything that was received is answered")
        return ended


class Server(uvicorn.Server):
    """Stops at each signal that asks to, once what was received is answered.

    Attributes:
        stopped: the signal.
    """

    stopped: signal.Signals = signal.SIGTERM
    should_exit: bool
    force_exit: bool
    stop: Callable[[], None]

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Has signals stop the server, and restores what was there."""
        if threading.current_thread() is not threading.main_thread():
            yield  # signals reach the main thread alone, whose matter they are
            return

        def handle(number: int, frame: FrameType | None) -> None:
            self.stopped = signal.Signals(number)
            self.force_exit = self.should_exit  # whoever asks twice means it
            self.should_exit = True
            self.stop()

        with handled_by(handle):
            yield


def make_server(service: Service, token: str | None = None, access_log: bool = True) -> "Server":
    """A server of uvicorn's for the service, with its limits.

    Args:
        service: which scores.
        token: as of `serve`.
        access_log: as of `serve`.
    """
    limits = service.limits
    _plain_errors()

    def refused(client: str, status: int, text: str) -> None:
        service.metrics.request("other", status, 0.0)
        if access_log:
            log_line(f"{client} {status}  {text}")

    protocol: Any = functools.partial(BoundedProtocol, timeout_s=limits.timeout_s, refused=refused)
    server = Server(
        uvicorn.Config(
            make_app(service, token, access_log),
            http=protocol,
            ws="none",
            loop="asyncio",
            lifespan="off",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            limit_concurrency=limits.max_queue + _SPARE,
            # Receiving and scoring have a limit each.
            timeout_graceful_shutdown=int(2 * limits.timeout_s) + 1,
        )
    )
    server.stop = service.stop
    return server


def _plain_errors() -> None:
    """Has errors of uvicorn be lines of the log, without tracebacks."""

    class Lines(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            error = record.exc_info[1] if record.exc_info else None
            cause = f": {type(error).__name__}: {error}" if error else ""
            log_line(f"{record.getMessage().strip()}{cause}")

    logger = logging.getLogger("uvicorn.error")
    logger.handlers, logger.propagate = [Lines(level=logging.ERROR)], False
    logging.getLogger("python_multipart").setLevel(logging.CRITICAL)  # answered by a line


def log_line(text: str) -> None:
    """Writes a line with the time; characters that steer terminals are written out."""
    text = " ".join(text.split())
    text = "".join(each if each.isprintable() else ascii(each)[1:-1] for each in text)
    say(f"{time.strftime('%Y-%m-%dT%H:%M:%SZ', time.gmtime())} {text}")


def say(text: str) -> None:
    """Writes a line on standard error; nobody may be reading, then the service goes on."""
    with contextlib.suppress(OSError, ValueError):
        print(text, file=sys.stderr, flush=True)
