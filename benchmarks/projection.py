"""What a training far larger than this machine would take, from rates measured on it.

    python -m benchmarks.projection [--clips=10000000] [--models=100] [--devices=1,8,256] …

Measures here, in about a minute: clips a second of the log-mel front end, seconds of a training
step, host memory and host time of a clip. The rest is arithmetic, printed with its terms: nothing
of it is a measurement of such a machine. `--speed` says how many times this device's rates one of
the devices in question has; `python -m benchmarks` there and here tells it.
"""

import argparse
import math
import sys
import time
import tracemalloc
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from asd_jax.config import load_config
from asd_jax.data.clips import Clip
from asd_jax.detectors import make_detector
from asd_jax.training import Batch, Member, fleet_clips
from asd_jax.training.cost import plan
from asd_jax.training.members import Views, lay_out_views
from asd_jax.training.placement import devices_together
from asd_jax.training.task import abstract_learner
from asd_jax.training.windows import first_rows, schedule

_HOST_DEVICES = 8  # accelerators of a host
_SAMPLE = 2000  # clips on which costs of the host are measured


class Rates(NamedTuple):
    """What was measured on this machine.

    Attributes:
        front_end: clips a second.
        step: seconds of an optimiser step of one model.
        flops: of that step, by XLA's account.
        host_bytes: of host memory a clip, for its row of the table of clips.
        host_seconds: of host time a clip and member, to lay its views out for an epoch.
    """

    front_end: float
    step: float
    flops: float
    host_bytes: float
    host_seconds: float


def _clips(count: int) -> list[Clip]:
    return [
        Clip("fan", "00", "train", f"normal_id_00_{i:08}.wav", f"/data/fan/train/{i:08}.wav", 2020)
        for i in range(count)
    ]


def measure(config, seconds: float) -> Rates:
    """Measures this machine's rates.

    Args:
        config: of the system.
        seconds: length of a clip.
    """
    front_end = jax.jit(config.front_end)
    n_samples = int(seconds * config.front_end.sample_rate)
    waveforms = np.random.default_rng(0).normal(0, 0.1, (32, n_samples)).astype(np.float32)
    taken = []
    for _ in range(6):
        begin = time.perf_counter()
        jax.block_until_ready(front_end(waveforms))
        taken.append(time.perf_counter() - begin)

    tracemalloc.start()
    clips = _clips(_SAMPLE)
    host_bytes = tracemalloc.get_traced_memory()[0] / _SAMPLE
    tracemalloc.stop()

    n_frames = np.full(_SAMPLE, config.front_end.frames(n_samples))
    found = plan(config, clips, n_frames, timed=True)
    step = found.seconds / (found.steps * found.epochs)

    fleet = _fleet(config, n_frames)
    windows = schedule(fleet, config.front_end.n_mels, 2**62)
    (window,) = windows.windows(0)
    begin = time.perf_counter()
    _views(fleet, window)
    host_seconds = (time.perf_counter() - begin) / _SAMPLE
    return Rates(32 / float(np.median(taken[1:])), step, _flops(config), host_bytes, host_seconds)


def _fleet(config, n_frames):
    detector = make_detector(config)
    every = np.arange(len(n_frames)), np.zeros(len(n_frames), np.int32)
    return fleet_clips(
        [Member("fan", "", 0)],
        [every],
        n_frames,
        view_length=detector.views.length,
        view_hop=detector.views.hop,
        config=config.train,
    )


def _views(fleet, window) -> Views:
    return lay_out_views(fleet, fleet.training, first_rows(window, fleet.n_frames))


def _flops(config) -> float:
    """Of a training step, by XLA's account."""
    task, n_mels = make_detector(config).task(4), config.front_end.n_mels
    size = config.train.batch_size
    batch = Batch(
        jax.ShapeDtypeStruct((size, task.view_length, n_mels), jnp.float32),
        jax.ShapeDtypeStruct((size,), jnp.int32),
        jax.ShapeDtypeStruct((size,), jnp.bool_),
    )
    key = jax.eval_shape(lambda: jax.random.key(0))
    lowered = jax.jit(task.step).lower(abstract_learner(task, n_mels), batch, key)
    return float(lowered.compile().cost_analysis()["flops"])


def project(options: argparse.Namespace, rates: Rates, devices: int) -> list[tuple[str, str]]:
    """Rows of the table for so many devices: (what, how much)."""
    config = load_config(options.config)
    detector, front_end = make_detector(config), config.front_end
    size, n_mels = config.train.batch_size, front_end.n_mels
    n_samples = int(options.seconds * front_end.sample_rate)
    frames = front_end.frames(n_samples)
    views = (frames - detector.views.length) // detector.views.hop + 1
    hosts = math.ceil(devices / _HOST_DEVICES)
    together = devices_together(devices, options.models, size)
    rows = devices // together
    rounds = math.ceil(options.models / rows)  # of models, one after another on a device

    wav_bytes = 2 * n_samples * options.clips
    frame_bytes = 4 * n_mels * frames * options.clips
    steps = math.ceil(options.clips / options.models * views / size)  # of a model, an epoch
    values = plan(config, _clips(8), np.full(8, frames)).values
    exchanged = 0 if together == 1 else 2 * 4 * values * (together - 1) / together
    step = rates.step / options.speed / together + exchanged / options.link
    shared = 0 if devices == 1 else frame_bytes * (devices - 1) / devices
    hours = {
        "reading recordings": wav_bytes / (options.disk * hosts),
        "log-mels": options.clips / (rates.front_end * options.speed * devices),
        "reading frames, an epoch": frame_bytes / (options.disk * hosts),
        "passing frames on, an epoch": shared / options.link,
        "steps, an epoch": rounds * steps * step,
        "laying views out, an epoch": options.clips * rates.host_seconds,
    }
    once = max(hours["reading recordings"], hours["log-mels"])
    epoch = max(
        hours["reading frames, an epoch"],
        hours["passing frames on, an epoch"] + hours["steps, an epoch"],
        hours["laying views out, an epoch"],
    )
    total = once + options.epochs * epoch
    slowest = max(list(hours)[2:], key=hours.get)
    return [
        ("hosts", f"{hosts}"),
        ("devices that share a step", f"{together}"),
        ("models on a device, one after another", f"{rounds}"),
        ("recordings", _bytes(wav_bytes)),
        ("frames", _bytes(frame_bytes)),
        ("flops of an epoch", f"{options.models * steps * rates.flops:.2g}"),
        ("exchanged a step, a device", _bytes(exchanged)),
        ("host memory for the table of clips", _bytes(options.clips * rates.host_bytes)),
        *((what, _hours(seconds)) for what, seconds in hours.items()),
        (f"in all, {options.epochs} epochs", _hours(total)),
        ("device hours", f"{total / 3600 * devices:,.0f}"),
        ("an epoch waits for", slowest.removesuffix(", an epoch")),
    ]


def _bytes(n: float) -> str:
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if n < 1000 or unit == "TB":
            return f"{n:.3g} {unit}"
        n /= 1000
    raise AssertionError


def _hours(seconds: float) -> str:
    return f"{seconds / 3600:.3g} h" if seconds >= 60 else f"{seconds:.2g} s"


def main(arguments: Sequence[str] | None = None) -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(
        "python -m benchmarks.projection",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--config", default="dense_ae")
    parser.add_argument("--clips", type=int, default=10_000_000)
    parser.add_argument("--seconds", type=float, default=10.0, help="of a clip")
    parser.add_argument("--models", type=int, default=100, help="of equal shares of the clips")
    parser.add_argument("--epochs", type=int, default=100)
    parser.add_argument("--devices", default="1,8,256")
    parser.add_argument("--speed", type=float, default=1.0, help="of a device, times this one")
    parser.add_argument("--disk", type=float, default=2e9, help="bytes a second a host reads")
    parser.add_argument("--link", type=float, default=50e9, help="bytes a second between devices")
    options = parser.parse_args(arguments)
    device = jax.devices()[0]
    print(f"measuring on {device.device_kind}", file=sys.stderr)
    rates = measure(load_config(options.config), options.seconds)
    print(
        f"`{options.config}`, {options.clips:,} clips of {options.seconds:g} s, {options.models} "
        f"models. Measured on {device.device_kind} ({device.platform}): log-mels of "
        f"{rates.front_end:.0f} clips/s, a step {1e3 * rates.step:.3g} ms and {rates.flops:.3g} "
        f"flops, {rates.host_bytes:.0f} bytes and {1e6 * rates.host_seconds:.2g} µs of the host a "
        f"clip. Assumed: devices {options.speed:g} times as fast, {_HOST_DEVICES} a host, "
        f"{options.disk / 1e9:g} GB/s from storage a host, {options.link / 1e9:g} GB/s between "
        "devices.\n"
    )
    counts = [int(count) for count in options.devices.split(",")]
    columns = [project(options, rates, count) for count in counts]
    print("| devices | " + " | ".join(map(str, counts)) + " |")
    print("|---" * (len(counts) + 1) + "|")
    for cells in zip(*columns, strict=True):
        print(f"| {cells[0][0]} | " + " | ".join(value for _, value in cells) + " |")


if __name__ == "__main__":
    main()
