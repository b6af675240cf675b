"""The command serve: what it refuses, and a service from its start to its end."""

import contextlib
import http.client
import os
import re
import signal
import socket
import subprocess
import sys
import threading

import pytest
from command_line import run_cli

from asd_jax.runtime.extras import EXTRAS

PACKAGES = [package for package, extra in EXTRAS.items() if extra == "serve"]
TOKEN = "0123456789abcdef"


def test_a_missing_package_is_one_line(monkeypatch, capsys, tmp_path):
    monkeypatch.setitem(sys.modules, "starlette", None)
    status, out, err = run_cli(capsys, "serve", tmp_path)
    line = "asd-jax: serve needs starlette: pip install 'asd-jax[serve]'\n"
    assert (status, out, err) == (2, "", line)


@pytest.fixture
def extra():
    """Tests skip without the packages."""
    for package in PACKAGES:
        pytest.importorskip(package)


@pytest.mark.parametrize(
    ("flags", "line"),
    [
        (["--host=0.0.0.0"], "--host=0.0.0.0: other machines may reach it; give --token_file"),
        (["--host=example.test"], "other machines may reach it"),
        (["--token_file=missing"], "--token_file=missing: No such file or directory"),
        (["--token_file=short"], "short: a token has 16 or more characters"),
        (["--token_file=spaces"], "spaces: a token has 16 or more characters"),
        (["--token_file=binary"], "binary: a token has 16 or more characters"),
        (["--token_file=good", "--no_token"], "--no_token and a token contradict each other"),
        (["--port=70000"], "it must be a whole number, 0 or more, at most 65535"),
        (["--max_mib=0"], "it must be a number, 0.001 or more"),
        (["--max_queue=0"], "it must be a whole number, 1 or more"),
        (["OTHER"], "serve takes one run directory, not also 'OTHER'"),
        ([], "no run directory"),
    ],
)
def test_a_wrong_request_is_one_line(extra, flags, line, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("ASD_JAX_TOKEN", raising=False)
    (tmp_path / "short").write_text("secret")
    (tmp_path / "spaces").write_text("one two three four five")
    (tmp_path / "binary").write_bytes(bytes(range(128, 160)))
    (tmp_path / "good").write_text(f"{TOKEN}\n")
    (tmp_path / "RUN").mkdir()
    status, out, err = run_cli(capsys, "serve", "RUN", *flags)
    assert (status, out, err.count("\n")) == (2, "", 1) and line in err


def test_the_token_is_read_from_a_file_or_the_environment(extra, tmp_path, monkeypatch):
    from asd_jax.deploy.serve.server import read_token

    monkeypatch.delenv("ASD_JAX_TOKEN", raising=False)
    assert read_token(None) is None
    monkeypatch.setenv("ASD_JAX_TOKEN", TOKEN)
    assert read_token(None) == TOKEN
    (tmp_path / "token").write_text(f"{TOKEN}-of-the-file\n")
    assert read_token(tmp_path / "token") == f"{TOKEN}-of-the-file"


def test_a_port_that_is_taken_is_one_line(extra, finished, capsys):
    with contextlib.closing(socket.create_server(("127.0.0.1", 0))) as taken:
        port = taken.getsockname()[1]
        status, _, err = run_cli(capsys, "serve", finished, f"--port={port}")
    assert status == 1 and "Address already in use" in err and "--port=0" in err


def test_a_service_from_its_start_to_its_end(extra, finished, data):
    """It says where it is and when it is ready; SIGTERM ends it with a line, and status 0."""
    command = [sys.executable, "-m", "asd_jax", "serve", str(finished), "--port=0"]
    environment = {**os.environ, "ASD_JAX_TOKEN": TOKEN}
    path = sorted(data.rglob("fan/test/*.wav"))[0]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment) as process:
        killer = threading.Timer(120, process.kill)
        killer.start()
        try:
            first = process.stderr.readline()
            port = re.fullmatch(r"serving \S+ on http://127.0.0.1:(\d+); compiling …\n", first)[1]
            while not (line := process.stderr.readline()).startswith("ready after"):
                assert line
            connection = http.client.HTTPConnection("127.0.0.1", int(port), timeout=60)
            with contextlib.closing(connection):
                target = "/v1/score?machine=fan"
                connection.request("POST", target, path.read_bytes())
                assert connection.getresponse().status == 401
            connection = http.client.HTTPConnection("127.0.0.1", int(port), timeout=60)
            with contextlib.closing(connection):
                headers = {"Authorization": f"Bearer {TOKEN}"}
                connection.request("POST", target, path.read_bytes(), headers)
                assert connection.getresponse().status == 200
            process.send_signal(signal.SIGTERM)
            rest = process.stderr.read()
        finally:
            killer.cancel()
            process.kill()
    assert process.returncode == 0, rest
    assert rest.endswith("stopped by SIGTERM; everything that was received is answered\n")
    assert "POST /v1/score 401" in rest and "POST /v1/score 200" in rest and TOKEN not in rest
