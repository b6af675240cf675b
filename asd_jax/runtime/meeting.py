"""Processes of a run meet and compare what they are about to do, before JAX connects them.

The first process listens at the coordinator's address, where JAX's service will be afterwards. The
others connect, say what they are about to do, and keep the connection open: so a process that is
lost is noticed at once, and a difference is known before any work, whatever devices there are.

    another process                      the first one
    connect                        →
                                   ←     greeting
    {"process", "count", "states"} →     … until all are here
                                   ←     {"problem"} or {"devices"}
"""

import contextlib
import ipaddress
import json
import re
import socket
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from asd_jax.errors import UserError
from asd_jax.runtime.agreement import difference

_GREETING = b"asd_jax processes of a run meet here\n"
_LONGEST = 2**24  # bytes of what a process says
# Seconds between attempts; with an answer that is no greeting; for those who come after a problem.
_AGAIN, _PATIENCE, _AFTER = 0.2, 10.0, 3.0
PROBLEM = "problem"  # the state of a process that cannot start
LOST = (
    "another process of this run ended while starting, see its output; start all of them again "
    "with the same commands"
)


class Address(NamedTuple):
    """Where the first process listens.

    Attributes:
        host: name or number.
        port: of TCP.
    """

    host: str
    port: int


def address_of(text: str) -> Address:
    """Reads HOST:PORT, or [IPV6]:PORT.

    Raises:
        UserError: it cannot be the address of a process.

    Examples:
        >>> address_of("10.0.0.1:1234"), address_of("[::1]:80").host
        (Address(host='10.0.0.1', port=1234), '::1')
    """
    found = re.fullmatch(r"(?:\[([0-9a-fA-F:.%\w]+)\]|([^\s:/@\[\]?#]+)):([0-9]{1,5})", text, re.A)
    problem = "it must be HOST:PORT"
    if found:
        host, port = found[1] or found[2], int(found[3])
        problem = _problem(host, port, bracketed=found[1] is not None)
        if not problem:
            return Address(host, port)
    raise UserError(f"--coordinator is {text!r}; {problem}")


def _problem(host: str, port: int, bracketed: bool) -> str:
    """Why an address cannot be; "" if it can."""
    if not 1 <= port <= 65535:
        return f"port {port} must be from 1 to 65535"
    if bracketed or re.fullmatch(r"[0-9.]+|0x[0-9a-fA-F]+", host):
        try:
            number = ipaddress.ip_address(host)
        except ValueError:
            return f"{host} is no address"
        if not number.is_loopback and (
            number.is_unspecified or number.is_multicast or number.is_reserved
        ):
            return f"{host} is no address of a machine"
        return ""
    labels = host.removesuffix(".").split(".")
    if len(host) > 253 or not all(re.fullmatch(r"(?!-)[\w-]{1,63}(?<!-)", each) for each in labels):
        return f"{host} is no name of a machine"
    return ""


def meet(
    address: Address,
    processes: int,
    index: int,
    states: Mapping[str, str],
    devices: int,
    wait: float,
    say: Callable[[str], None],
) -> int:
    """Waits for all processes of the run, and compares what they state.

    Args:
        address: of the first process.
        processes: number of processes.
        index: number of this one, from 0.
        states: key → text of what all must have alike.
        devices: that this process has.
        wait: seconds until which all must be here.
        say: called with a line when there is something to wait for.

    Returns:
        The smallest number of devices of a process.

    Raises:
        UserError: processes differ, some do not come, or one is lost.
    """
    own = {"process": index, "count": processes, "states": dict(states), "devices": devices}
    until = time.monotonic() + wait
    if processes == 1:
        return devices
    if index:
        answer = _join(address, own, until, wait, say)
    else:
        answer = _host(address, own, until, wait, say)
    if answer.get("problem"):
        raise UserError(answer["problem"], exit_status=int(answer.get("status", 2)))
    return int(answer["devices"])


def _host(
    address: Address, own: dict, until: float, wait: float, say: Callable[[str], None]
) -> dict[str, Any]:
    """The first process: collects what the others say, and answers all of them."""
    try:
        listener = _listener(address.port)
    except OSError as error:
        raise UserError(
            f"--coordinator: port {address.port} of this machine cannot be listened on "
            f"({(error.strerror or str(error)).lower()}); choose another one",
            exit_status=1,
        ) from error
    with contextlib.ExitStack() as stack:
        stack.enter_context(listener)
        connections: list[socket.socket] = []
        accepted = _accepted(listener, stack, connections)
        answer = _answer_of(accepted, connections, own, until, wait, say)
        for connection in connections:
            with contextlib.suppress(OSError):
                connection.settimeout(5.0)
                connection.sendall(json.dumps(answer).encode() + b"\n")
    return answer


def _accepted(
    listener: socket.socket, stack: contextlib.ExitStack, connections: list[socket.socket]
) -> Iterator[dict[str, Any] | None]:
    """What each process says that comes; None when a moment has passed without one."""
    while True:
        told = None
        with contextlib.suppress(TimeoutError):
            connection = stack.enter_context(_probed(listener.accept()[0]))
            if (told := _heard(connection)) is not None:
                connections.append(connection)
        yield told


def _answer_of(
    accepted: Iterator[dict[str, Any] | None],
    connections: Sequence[socket.socket],
    own: dict,
    until: float,
    wait: float,
    say: Callable[[str], None],
) -> dict[str, Any]:
    """The answer for all, once all are here, or one has a problem, is lost or does not come."""
    here: dict[int, dict] = {0: own}
    answer: dict[str, Any] = _told(own)
    found, said = 0.0, False
    while len(here) < own["count"]:
        if (told := next(accepted)) is not None:
            answer = answer or _told(told) or _unfit(told, here)
            here.setdefault(told["process"], told)
        if answer:  # also for those who come a little later
            found = found or time.monotonic()
            if time.monotonic() - found > _AFTER:
                break
            continue
        missing = [str(i) for i in range(own["count"]) if i not in here]
        left = until - time.monotonic()
        if any(map(_is_closed, connections)):
            answer = {"problem": LOST, "status": 1}
        elif missing and left < 0:
            answer = {"problem": _absent(missing, wait), "status": 1}
        elif missing and not said and left < wait - 2:
            say(f"waiting for {_named(missing)}, {wait:.0f} s at most")
            said = True
    everything = [told for _, told in sorted(here.items())]
    return answer or {
        "problem": difference([each["states"] for each in everything]),
        "devices": min(each["devices"] for each in everything),
    }


def _told(of: dict) -> dict[str, Any]:
    """The problem that a process tells, as an answer for all; empty if it has none."""
    if problem := of["states"].get(PROBLEM):
        return {"problem": f"process {of['process']} of this run cannot start: {problem}"}
    return {}


def _unfit(told: dict, here: Mapping[int, dict]) -> dict[str, Any]:
    """Why a process cannot be one of this run, as an answer for all; empty if it can."""
    count, process = here[0]["count"], told["process"]
    if told["count"] != count:
        return {
            "problem": f"--num_processes is {count} in process 0 and {told['count']} in process "
            f"{process}; start all of them with the same one"
        }
    if process in here:
        return {"problem": f"two processes have --process_id={process}; give each its own"}
    return {}


def _named(missing: Sequence[str]) -> str:
    return f"process{'es' * (len(missing) > 1)} {', '.join(missing[:20])}"


def _absent(missing: Sequence[str], wait: float) -> str:
    return (
        f"{_named(missing)} of this run did not come within {wait:.0f} s; start all at about the "
        "same time, with the same --coordinator and --num_processes, or set --wait to more seconds"
    )


def _join(
    address: Address, own: dict, until: float, wait: float, say: Callable[[str], None]
) -> dict[str, Any]:
    """Another process: tells the first one, and waits for its answer."""
    begun, said, strange = time.monotonic(), False, 0.0
    reason = "nothing answers there"
    while (now := time.monotonic()) < until:
        try:
            with (
                socket.create_connection(address, timeout=min(5.0, until - now)) as connection,
                _probed(connection).makefile("rb") as lines,
            ):
                if lines.readline(len(_GREETING)) == _GREETING:
                    connection.sendall(json.dumps(own).encode() + b"\n")
                    connection.settimeout(None)
                    return _answer(lines.readline(_LONGEST))
            reason = "what answers there is no first process of a run"
            strange = strange or now
        except socket.gaierror as error:
            reason, strange = f"its name is not known: {error.strerror}", strange or now
        except OSError as error:
            reason = (error.strerror or str(error) or "nothing answers there").lower()
        if strange and now - strange > _PATIENCE:
            break
        if not said and now - begun > 2:
            say(
                f"waiting for process 0 at {address.host}:{address.port} ({reason}), "
                f"{wait:.0f} s at most"
            )
            said = True
        time.sleep(_AGAIN)
    raise UserError(
        f"process 0 of this run was not met at --coordinator={address.host}:{address.port} within "
        f"{time.monotonic() - begun:.0f} s ({reason}); start all at about the same time, with the "
        "same --coordinator and --num_processes, or set --wait to more seconds",
        exit_status=1,
    )


def _listener(port: int) -> socket.socket:
    """Listens at all addresses of this machine, as JAX's service does."""
    if socket.has_dualstack_ipv6():
        listener = socket.create_server(
            ("", port), family=socket.AF_INET6, dualstack_ipv6=True, backlog=1024
        )
    else:
        listener = socket.create_server(("", port), backlog=1024)
    listener.settimeout(_AGAIN)
    return listener


def _probed(connection: socket.socket) -> socket.socket:
    """The connection, which ends when the other machine is silent."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in (("TCP_KEEPIDLE", 10), ("TCP_KEEPINTVL", 5), ("TCP_KEEPCNT", 2)):
        if hasattr(socket, name):  # seconds, seconds, and how often
            connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
    return connection


def _heard(connection: socket.socket) -> dict[str, Any] | None:
    """What a process says of itself; None of a stranger."""
    connection.settimeout(5.0)
    try:
        connection.sendall(_GREETING)
        with connection.makefile("rb") as lines:
            told = json.loads(lines.readline(_LONGEST))
        connection.setblocking(False)  # from here on it is only looked at
        fits = {"process", "count", "states", "devices"} <= set(told) and told["process"] > 0
        return told if fits else None
    except (OSError, ValueError, TypeError):
        return None


def _is_closed(connection: socket.socket) -> bool:
    try:
        return connection.recv(1, socket.MSG_PEEK) == b""
    except BlockingIOError:
        return False
    except OSError:
        return True


def _answer(line: bytes) -> dict[str, Any]:
    try:
        answer = json.loads(line)
    except ValueError:  # nothing, where the first process has ended
        answer = None
    return answer if isinstance(answer, dict) else {"problem": LOST, "status": 1}
