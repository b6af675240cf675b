"""Cores, memory and devices of a process."""

import json
import os
import subprocess
import sys

import pytest

from asd_jax.errors import UserError
from asd_jax.runtime import cores
from asd_jax.runtime.cores import Devices, Fleet, choose

# Prints the devices that a command has after it said what it is going to train.
PROGRAM = """
import json, os, sys
from asd_jax.runtime.cores import Fleet, claim, set_up, usable_cores
given = json.loads(sys.argv[1])
if given["command"]:
    claim(given.get("cores"))
set_up([Fleet("dense", 6)])
import jax
print(json.dumps([jax.device_count(), os.environ.get("NPROC"), usable_cores()]))
"""


def started(**given):
    environment = {k: v for k, v in os.environ.items() if k not in ("NPROC", "XLA_FLAGS")}
    environment |= given.pop("environment", {})
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, json.dumps({"command": True} | given)],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(done.stdout)


def test_a_command_has_a_device_of_one_thread_for_each_core():
    there = cores._all_cores()
    count, threads, usable = started()
    assert (count, threads) == (min(6, there), "1" if there <= 6 else str(there))
    assert usable == there


def test_quotas_are_read_once(monkeypatch):
    """A service asks for its cores at each request."""
    read = []
    monkeypatch.setattr(cores, "files", lambda *names: read.append(names) or [])
    cores._all_cores.cache_clear()
    assert cores.usable_cores() == cores.usable_cores() and len(read) == 1
    cores._all_cores.cache_clear()


def test_fewer_cores_make_fewer_devices():
    assert started(cores=1) == [1, "1", 1]


def test_a_library_leaves_its_users_devices_alone():
    assert started(command=False)[:2] == [1, None]


@pytest.mark.parametrize(
    ("environment", "count"),
    [({"NPROC": "1"}, 1), ({"XLA_FLAGS": "--xla_force_host_platform_device_count=3"}, 3)],
)
def test_a_users_own_choice_is_kept(environment, count):
    assert started(environment=environment)[:2] == [count, environment.get("NPROC")]


def test_more_cores_than_there_are_is_one_line():
    with pytest.raises(UserError, match="--cores=10000: this process may use 1 to"):
        cores.claim(10_000)
    with pytest.raises(UserError, match="--cores=0"):
        cores.claim(0)


@pytest.mark.parametrize(
    ("fleets", "n_cores", "devices"),
    [
        ([], 4, Devices(1, 4)),
        ([Fleet("dense", 1)], 4, Devices(1, 4)),
        ([Fleet("dense", 3)], 4, Devices(3, 4)),
        ([Fleet("dense", 23)], 4, Devices(4, 1)),
        ([Fleet("recurrent", 23)], 1, Devices(1, 1)),
        ([Fleet("dense", 23), Fleet("convolution", 23)], 4, Devices(1, 4)),
        # Devices that exchange results: as many threads wait as there are devices.
        ([Fleet("dense", 1, data_devices=2)], 4, Devices(4, 8)),
        ([Fleet("dense", 1, data_devices=4)], 2, Devices(4, 8)),
    ],
)
def test_devices_by_models_and_cores(fleets, n_cores, devices):
    assert choose(fleets, n_cores) == devices
