"""Fixtures of the benchmarks' tests: the modules, the command, and a clock."""

import importlib
import os
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent


@pytest.fixture(scope="module", autouse=True)
def importable():
    """The benchmarks are no part of the installed package."""
    before, environment = list(sys.path), dict(os.environ)
    sys.path.insert(0, str(ROOT))
    yield
    sys.path[:] = before
    os.environ.clear()
    os.environ.update(environment)


@pytest.fixture
def harness():
    return importlib.import_module("benchmarks.harness")


@pytest.fixture
def roofline():
    return importlib.import_module("benchmarks.roofline")


@pytest.fixture
def main(monkeypatch, roofline):
    """The command, on a machine of 1 GB/s and 2 GFLOP/s."""
    module = importlib.import_module("benchmarks.__main__")
    machine = roofline.Machine("cpu", 1e9, 2e9)
    monkeypatch.setattr(module, "measure_machine", lambda quick: machine)
    return module.main


class Clock:
    """Time that passes only in runs."""

    def __init__(self):
        self.now = 0.0

    def perf_counter(self):
        return self.now

    def sleep(self, seconds):
        pass

    def strftime(self, form):
        return time.strftime(form)


@pytest.fixture
def clock(monkeypatch, harness):
    """In place of the harness's clock."""
    clock = Clock()
    monkeypatch.setattr(harness, "time", clock)
    return clock
