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


def group(root, version, **settings):
    """A fake control group of a process, with its files."""
    line = {1: "4:{kind}:/jobs/mine", 2: "0::/jobs/mine"}[version]
    names = {"cpu.max": (2, ""), "memory.max": (2, "")}
    lines = []
    for name, text in settings.items():
        name = name.replace("__", ".")
        kind = name.partition(".")[0]
        place = root / "sys/fs/cgroup" / ("" if name in names else kind) / "jobs/mine"
        place.mkdir(parents=True, exist_ok=True)
        (place / name).write_text(text)
        lines.append(line.format(kind=kind))
    (root / "proc/self").mkdir(parents=True)
    (root / "proc/self/cgroup").write_text("\n".join(dict.fromkeys(lines)) + "\n")


def limits(root):
    quotas = [cores._quota(p) for p in cores._group_files("cpu.max", "cpu.cfs_quota_us", root)]
    bytes_ = [
        cores._number(p) for p in cores._group_files("memory.max", "memory.limit_in_bytes", root)
    ]
    return quotas, bytes_


def test_control_groups_of_version_2(tmp_path):
    group(tmp_path, 2, cpu__max="150000 100000\n", memory__max="1073741824\n")
    assert limits(tmp_path) == ([1.5], [2**30])


def test_control_groups_of_version_1(tmp_path):
    group(
        tmp_path,
        1,
        cpu__cfs_quota_us="400000\n",
        cpu__cfs_period_us="100000\n",
        memory__limit_in_bytes="2147483648\n",
    )
    assert limits(tmp_path) == ([4.0], [2**31])


def test_a_group_above_limits_as_well(tmp_path):
    group(tmp_path, 2, cpu__max="max 100000\n")
    (tmp_path / "sys/fs/cgroup/jobs/cpu.max").write_text("200000 100000\n")
    assert limits(tmp_path)[0] == [None, 2.0]


def test_without_limits(tmp_path):
    group(tmp_path, 2, cpu__max="max 100000\n", memory__max="max\n")
    assert limits(tmp_path) == ([None], [None])
    assert limits(tmp_path / "nothing") == ([], [])
