"""The Dockerfile, without Docker: its instructions in a fresh folder with a fresh environment."""

import http.client
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import pytest

import asd_jax
from asd_jax.fitting.recordings import score_files

ROOT = Path(__file__).resolve().parent.parent
TOKEN = "0123456789abcdef"


class Instruction(NamedTuple):
    name: str
    text: str


def instructions():
    """In order, with continued lines in one."""
    text = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    joined = "\n".join(lines).replace("\\\n", " ")
    found = [line.split(None, 1) for line in joined.splitlines() if line.strip()]
    return [Instruction(name, text) for name, text in found]


def only(name):
    (found,) = [each.text for each in instructions() if each.name == name]
    return found


def test_instructions_are_those_that_the_test_below_runs():
    names = {each.name for each in instructions()}
    assert names == {
        *("FROM", "WORKDIR", "COPY", "RUN", "ENV", "USER", "EXPOSE", "HEALTHCHECK"),
        *("ENTRYPOINT", "CMD"),
    }
    assert only("USER").isdigit() and only("USER") != "0"
    kept = set((ROOT / ".dockerignore").read_text().splitlines())
    for copied in [each.text for each in instructions() if each.name == "COPY"]:
        for source in copied.split()[:-1]:
            assert (ROOT / source).exists() and f"!{source}" in kept
    for python in re.findall(r"python:(\d+)\.(\d+)", only("FROM")):
        assert (3, 11) <= tuple(map(int, python)) < (3, 14)


class Image:
    """Runs instructions, with /srv in a folder.

    Args:
        folder: takes the place of /.
    """

    def __init__(self, folder):
        self.folder, self.workdir = folder, folder
        self.env = {name: os.environ[name] for name in ("HOME", "PATH") if name in os.environ}
        # Where packages come from, and what stands in for the image's Python.
        self.env |= {name: text for name, text in os.environ.items() if "PIP" in name}
        (folder / "bin").mkdir()
        (folder / "bin/python").symlink_to(Path(sys.base_prefix) / "bin/python3")
        self.env["PATH"] = f"{folder / 'bin'}:{self.env['PATH']}"

    def inside(self, text):
        return text.replace("/srv/", f"{self.folder}/srv/")

    def build(self):
        for name, text in instructions():
            text = self.inside(text)
            if name == "WORKDIR":
                self.workdir = Path(text)
                self.workdir.mkdir(parents=True, exist_ok=True)
            elif name == "ENV":
                for each in shlex.split(text):
                    key, value = each.split("=", 1)
                    self.env[key] = value.replace("$PATH", self.env["PATH"])
            elif name == "COPY":
                *sources, target = text.split()
                for source in sources:
                    self.copy(ROOT / source, self.workdir / target)
            elif name == "RUN":
                subprocess.run(text, shell=True, check=True, cwd=self.workdir, env=self.env)

    def copy(self, source, target):
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, target)

    def start(self, *more):
        command = [*json.loads(self.inside(only("ENTRYPOINT"))), *json.loads(only("CMD")), *more]
        found = shutil.which(command[0], path=self.env["PATH"])
        return subprocess.Popen(
            [found, *command[1:]], cwd=self.workdir, env=self.env, stderr=subprocess.PIPE, text=True
        )

    def is_healthy(self, port):
        check = json.loads(only("HEALTHCHECK").split("CMD", 1)[1].replace("8000", str(port)))
        done = subprocess.run(check, cwd=self.workdir, env=self.env, capture_output=True)
        return done.returncode == 0


@pytest.mark.slow
def test_its_commands_serve_a_run(finished, data, tmp_path):
    """Installed from nothing, it refuses to start without a token, and scores with one."""
    image = Image(tmp_path)
    image.build()
    shutil.copytree(finished, tmp_path / "srv/run")
    with image.start() as process:
        assert process.wait(120) == 2
        assert "other machines may reach it; give --token_file" in process.stderr.read()
    image.env["ASD_JAX_TOKEN"] = TOKEN
    path = sorted(data.rglob("fan/test/*.wav"))[0]
    with image.start("--port=0") as process:
        try:
            port = int(re.search(r":(\d+); compiling", process.stderr.readline())[1])
            end = time.monotonic() + 240
            while not image.is_healthy(port):
                assert process.poll() is None and time.monotonic() < end
                time.sleep(0.5)
            with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=60)) as connection:
                headers = {"Authorization": f"Bearer {TOKEN}"}
                target = "/v1/score?machine=fan"
                connection.request("POST", target, path.read_bytes(), headers)
                answer = connection.getresponse()
                found = json.loads(answer.read())
            process.send_signal(signal.SIGTERM)
            rest = process.stderr.read()
        finally:
            process.kill()
    assert process.returncode == 0, rest
    (row,) = score_files(asd_jax.load(finished), [path])
    assert found["recordings"][0]["score"] == pytest.approx(row.score, rel=1e-5)
