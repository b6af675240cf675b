"""Cores that this process may use, and JAX's devices on CPUs by them.

Small products and transforms do not fill two cores, far less sixteen; models and clips do. So on
a CPU a command makes one device a core, of one thread each, where its models can be trained side
by side. As a library, this package uses the devices that its user's JAX has.
"""

import ctypes
import functools
import importlib.metadata
import math
import os
import sys
from collections.abc import Sequence
from typing import NamedTuple

import jax

from asd_jax.errors import UserError
from asd_jax.runtime.control_groups import files, quota

# How the user may have said so already; then nothing is changed.
_USERS = ("NPROC", "JAX_NUM_CPU_DEVICES")
_DEVICES_FLAG = "xla_force_host_platform_device_count"
# Of glibc's mallopt: the parameters' numbers, and bytes.
_KEPT_MEMORY = {-1: 2**28, -2: 2**24, -3: 2**25}


class Fleet(NamedTuple):
    """What a command is going to train.

    Attributes:
        kind: of its programs, see `Task.kind`.
        models: that are trained together.
        data_devices: that are to share each step, see `TrainConfig`; 0 where nobody says.
    """

    kind: str
    models: int
    data_devices: int = 0


class Devices(NamedTuple):
    """JAX's devices on a CPU.

    Attributes:
        n_devices: how many.
        n_threads: that share a device's operations, or wait for other devices' results.
    """

    n_devices: int
    n_threads: int


class _Claimed:
    """Whether this process is a command's, which decides JAX's devices, and its `--cores`."""

    cores: int | None = None
    by_command = False


def claim(cores: int | None = None, *, alone: bool = True) -> None:
    """Lets `set_up` decide JAX's devices: for commands, before anything is computed.

    Args:
        cores: that the process is to use; all that it may use by default.
        alone: whether the run has no other processes; else it has one device of all cores here.

    Raises:
        UserError: fewer than one, or more than it may use.
    """
    if cores is not None and not 1 <= cores <= _all_cores():
        raise UserError(
            f"--cores={cores}: this process may use 1 to {_all_cores()}; leave it out for all"
        )
    _Claimed.cores, _Claimed.by_command = cores, alone
    if cores is not None and not alone:
        os.environ["NPROC"] = str(cores)
    _keep_memory()


def usable_cores() -> int:
    """Cores that this process is to use: those that it may, or fewer by `--cores`."""
    return _Claimed.cores or _all_cores()


def set_up(fleets: Sequence[Fleet]) -> None:
    """Makes JAX's devices on a CPU, once, by what a command is going to train.

    Has no effect in a library, after JAX has started, where the user's environment says how many
    devices or threads there are, and where JAX may have an accelerator.
    """
    if not _Claimed.by_command or _is_chosen():
        return
    devices = choose(fleets, usable_cores())
    try:
        jax.config.update("jax_num_cpu_devices", devices.n_devices)
    except RuntimeError:  # JAX has started
        return
    os.environ["NPROC"] = str(devices.n_threads)  # read when JAX starts


def choose(fleets: Sequence[Fleet], cores: int) -> Devices:
    """Chooses the number of devices, so that as many models as possible are trained side by side.

    Networks of convolutions fill the cores one after another, and side by side they compete for
    the memory's bandwidth: they have one device, and so has what is trained beside them. Devices
    that exchange results wait for one another, and need a thread each that waits and one that
    computes.

    Args:
        fleets: what is going to be trained.
        cores: to be used.

    Examples:
        >>> choose([Fleet("dense", 6)], cores=2)
        Devices(n_devices=2, n_threads=1)
        >>> choose([Fleet("dense", 3)], cores=16), choose([Fleet("convolution", 23)], cores=16)
        (Devices(n_devices=3, n_threads=16), Devices(n_devices=1, n_threads=16))
        >>> choose([Fleet("dense", 1, data_devices=2)], cores=5)
        Devices(n_devices=4, n_threads=8)
    """
    together = max((fleet.data_devices for fleet in fleets), default=0)
    if together > 1:
        count = max(together, cores - cores % together)
        return Devices(count, 2 * count)
    models = max((fleet.models for fleet in fleets), default=1)
    if any(fleet.kind == "convolution" for fleet in fleets):
        models = 1
    count = max(1, min(cores, models))
    return Devices(count, 1 if count == cores else cores)


@functools.cache  # a service asks at each request, and the quotas are in files
def _all_cores() -> int:
    """Cores that this process may use: by its affinity, and by its control group's quota."""
    if hasattr(os, "sched_getaffinity"):
        count = len(os.sched_getaffinity(0))
    else:
        count = os.cpu_count() or 1
    quotas = [quota(path) for path in files("cpu.max", "cpu.cfs_quota_us")]
    return max(1, min([count, *(math.floor(cores) for cores in quotas if cores)]))


def _is_chosen() -> bool:
    """Whether JAX's devices are chosen already, or may be an accelerator's."""
    settings = jax.config.values
    return (
        any(os.environ.get(name) for name in _USERS)
        or _DEVICES_FLAG in os.environ.get("XLA_FLAGS", "")
        or settings["jax_num_cpu_devices"] > 0
        or (settings["jax_platforms"] != "cpu" and _has_accelerator())
    )


@functools.cache
def _has_accelerator() -> bool:
    """Whether a plugin of JAX for an accelerator is installed."""
    names = {each.metadata["Name"].lower() for each in importlib.metadata.distributions()}
    return any(name.startswith(("jax-cuda", "jax-rocm", "jax-metal", "libtpu")) for name in names)


def _keep_memory() -> None:
    """Keeps freed memory, up to 256 MiB, for the next array.

    By default glibc gives it back and asks for it again, and the system clears it each time: of an
    array of some hundred kilobytes that takes longer than to compute it.
    """
    if not sys.platform.startswith("linux"):
        return
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):  # another C library
        return
    for parameter, size in _KEPT_MEMORY.items():
        mallopt(ctypes.c_int(parameter), ctypes.c_int(size))
