"""Processes that meet before JAX connects them, here as threads."""

import json
import os
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from asd_jax.data.synthetic.synthesis import synthesize
from asd_jax.errors import UserError
from asd_jax.runtime import agreement, meeting

STATES = {"seeds": "[0]", "train.epochs": "5"}


@pytest.fixture
def port():
    with socket.socket() as place:
        place.bind(("127.0.0.1", 0))
        return place.getsockname()[1]


def attempt(port, index, *, count=2, states=STATES, devices=1, wait=10.0, said=None):
    """What a process learns: the number of devices, or the error."""
    address, say = meeting.Address("127.0.0.1", port), ([] if said is None else said).append
    try:
        return meeting.meet(address, count, index, states, devices, wait, say)
    except UserError as error:
        return str(error), error.exit_status


def outcomes(port, *processes):
    with ThreadPoolExecutor(len(processes)) as pool:
        return [*pool.map(lambda own: attempt(port, **own), processes)]


def test_all_learn_the_smallest_number_of_devices(port):
    several = [{"index": i, "count": 3, "devices": own} for i, own in enumerate((4, 2, 3))]
    assert outcomes(port, *several) == [2, 2, 2]


def test_one_process_waits_for_none(port):
    assert attempt(port, 0, count=1, devices=3) == 3


@pytest.mark.parametrize("other", [0, 1, 2])
def test_a_difference_is_one_line_for_all(port, other):
    several = [{"index": i, "count": 3} for i in range(3)]
    several[other]["states"] = {**STATES, "seeds": "[1]"}
    (line, status), *others = outcomes(port, *several)
    own, its, which = ("[1]", "[0]", 1) if other == 0 else ("[0]", "[1]", other)
    assert f"differ: seeds is {own} in process 0 and {its} in process {which};" in line
    assert status == 2 and others == [(line, 2)] * 2


@pytest.mark.parametrize("other", [0, 1])
def test_one_that_cannot_start_tells_all(port, other):
    several = [{"index": i} for i in range(2)]
    several[other]["states"] = {meeting.PROBLEM: "no such key"}
    line = f"process {other} of this run cannot start: no such key"
    assert outcomes(port, *several) == [(line, 2)] * 2


def test_places_that_contradict_one_another(port):
    several = [{"index": 0, "count": 3}, {"index": 1, "count": 2}, {"index": 2, "count": 3}]
    line = "--num_processes is 3 in process 0 and 2 in process 1; start all of them with the same "
    assert outcomes(port, *several) == [(line + "one", 2)] * 3


def test_a_place_that_is_taken_twice(port):
    several = [{"index": 0, "count": 3}, {"index": 1, "count": 3}, {"index": 1, "count": 3}]
    line = "two processes have --process_id=1; give each its own"
    assert outcomes(port, *several) == [(line, 2)] * 3


def test_those_that_do_not_come_are_named(port):
    several = [{"index": i, "count": 4, "wait": 1.0} for i in range(2)]
    (line, status), other = outcomes(port, *several)
    assert line.startswith("processes 2, 3 of this run did not come within 1 s; ")
    assert status == 1 and other == (line, 1)


def test_nobody_at_the_address(port):
    said = []
    line, status = attempt(port, 1, wait=2.5, said=said)
    assert status == 1
    assert line.startswith(f"process 0 of this run was not met at --coordinator=127.0.0.1:{port}")
    assert said == [f"waiting for process 0 at 127.0.0.1:{port} (connection refused), 2 s at most"]


@pytest.mark.parametrize("answer", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"", None])
def test_something_else_at_the_address(port, answer):
    """It answers otherwise, closes the connection, or says nothing."""
    with socket.create_server(("127.0.0.1", port)) as server:
        server.settimeout(0.1)
        ended = threading.Event()

        def serve():
            held = []
            while not ended.is_set():
                try:
                    held.append(server.accept()[0])
                except TimeoutError:
                    continue
                if answer is not None:
                    held[-1].sendall(answer)
                    held.pop().close()
            for connection in held:
                connection.close()

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            line, status = attempt(port, 1, wait=1.5)
        finally:
            ended.set()
            thread.join()
    assert status == 1 and "was not met" in line
    assert ("no first process" in line) == (answer is not None)


def test_strangers_do_not_disturb(port):
    """A scan of ports, and one that speaks another language."""
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(attempt, port, 0)
        for text in (b"", b"GET / HTTP/1.1\r\n\r\n", b"[1, 2]\n", b'{"process": "a"}\n'):
            while True:
                try:
                    with socket.create_connection(("127.0.0.1", port)) as stranger:
                        stranger.sendall(text)
                    break
                except ConnectionRefusedError:
                    time.sleep(0.05)
        assert attempt(port, 1) == 1
        assert first.result() == 1


def test_a_port_that_is_in_use(port):
    with socket.create_server(("", port)):
        line, status = attempt(port, 0)
    assert status == 1 and line.startswith(f"--coordinator: port {port} of this machine cannot be")


@pytest.mark.parametrize("lost", [0, 1])
def test_a_process_lost_while_waiting_is_noticed_at_once(port, lost):
    """The third one does not come; of the other two one is killed."""
    program = (
        "import sys; from asd_jax.runtime import meeting; port, index = map(int, sys.argv[1:]); "
        "address = meeting.Address('127.0.0.1', port); "
        "meeting.meet(address, 3, index, {}, 1, 60.0, print)"
    )
    command = [sys.executable, "-u", "-c", program, str(port), str(lost)]
    with (
        ThreadPoolExecutor(1) as pool,
        subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as victim,
    ):
        other = pool.submit(attempt, port, 1 - lost, count=3, states={}, wait=60.0)
        if lost:
            time.sleep(4)
        else:
            victim.stdout.readline()  # it waits
        begun = time.monotonic()
        time.sleep(1)
        victim.kill()
        assert other.result(timeout=30) == (meeting.LOST, 1)
        assert time.monotonic() - begun < 10


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("10.0.0.1:1234", ("10.0.0.1", 1234)),
        ("node-1.cluster.local:80", ("node-1.cluster.local", 80)),
        ("node_1:65535", ("node_1", 65535)),
        ("[fe80::1]:7", ("fe80::1", 7)),
        ("localhost.:1", ("localhost.", 1)),
    ],
)
def test_addresses(text, address):
    assert meeting.address_of(text) == address


@pytest.mark.parametrize(
    "text",
    [
        *("127.0.0.1:99999", "127.0.0.1:0", "127.0.0.1:", "127.0.0.1", ":1234", "", "::1:80"),
        *("http://127.0.0.1:1234", " 127.0.0.1:1234", "127.0.0.1:1234 ", "a b:12", "a:1\n"),
        *("[::1:80", "::1]:80", "[::g]:80", "[]:80", "user@host:80", "host:80/path", "host:12ab"),
        *("host:-1", "host:+1", "-host:80", "a..b:80", "1.2.3:80", "999.1.1.1:80", "0x7f:80"),
        *("0.0.0.0:80", "[::]:80", "224.0.0.1:80", "255.255.255.255:80", "127.0.0.1:१२"),
        *("a" * 64 + ":80", "a.".join(["b"] * 200) + ":80", "host:000080"),
    ],
)
def test_addresses_that_cannot_be(text):
    with pytest.raises(UserError, match=r"--coordinator is .*; .* (HOST:PORT|65535|no |machine)"):
        meeting.address_of(text)


def test_what_is_long_is_shown_from_where_it_differs():
    common = "x" * 500
    line = agreement.difference([{"group": common + "a" * 99}, {"group": common + "b" * 99}])
    assert "…xxx" in line and "aaa…" in line and "bbb…" in line and len(line) < 400


def test_many_differences_are_counted():
    ours, theirs = ({f"key{i:03}": str(i + off) for i in range(100)} for off in (0, 1))
    line = agreement.difference([ours, theirs])
    assert "key003 is 3 in process 0 and 4 in process 1; also key004, " in line
    assert "and 76 more;" in line


def test_the_program_is_stated():
    states = agreement.of_program({"numpy": "2", "torch": None})
    assert states["version of numpy"] == "2" and states["version of torch"] == "None"
    assert len(states["code of asd_jax"]) == 12 and json.dumps(states)
    assert states["jax_enable_x64"] == "False"


def test_commands_that_differ_end_with_one_line_and_nothing_written(tmp_path, port):
    synthesize(tmp_path / "data", machines=["fan"], sections=1, clips=4, duration=2.0)
    command = [sys.executable, "-m", "asd_jax", "run", "--config=dense_ae"]
    command += [f"--data_dir={tmp_path / 'data'}", f"--out_dir={tmp_path / 'run'}"]
    command += [f"--cache_dir={tmp_path / 'cache'}", "--num_processes=2", "--wait=60"]
    command += [f"--coordinator=127.0.0.1:{port}"]
    quiet = {name: value for name, value in os.environ.items() if "_proxy" not in name.lower()}
    several = [
        subprocess.Popen([*command, *own], stderr=subprocess.PIPE, text=True, env=quiet)
        for own in (
            ["--process_id=0"],
            ["--process_id=1", "--config.train.learning_rate=0.01", "--on_bad_clip=skip"],
        )
    ]
    said = [process.communicate(timeout=90)[1].splitlines()[-1] for process in several]
    assert [process.returncode for process in several] == [2, 2]
    assert said[0] == said[1]
    assert (
        "--on_bad_clip is stop in process 0 and skip in process 1, train.learning_rate" in said[0]
    )
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data"]
