"""The same training on one device and on two, with models of their own or shared steps.

On a CPU the devices are simulated, one for each core, in processes of their own, because JAX
fixes the number of devices at its start. The result is the median epoch after the first. On GPUs
there must be two.
"""

import functools
import json
import math
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import jax
import numpy as np

from asd_jax.config import TrainConfig, load_config
from asd_jax.data.clips import Clip
from asd_jax.detectors import make_detector
from asd_jax.features.table import ArrayFeatures
from asd_jax.runtime.cores import usable_cores
from asd_jax.training import FleetModel, fleet_clips, train
from benchmarks.harness import Comparison, Difference, Prepared, Way, WrongAnswer, largest
from benchmarks.roofline import training_work

MELS, BATCH, EPOCHS = 128, 512, 4
# Frames of a clip.
_CLIP_FRAMES = 320
_ROOT = Path(__file__).resolve().parent.parent


def train_here(name: str, models: int, clips: int, devices: int, settings: dict) -> dict:
    """Trains models on made-up clips; returns seconds of an epoch and the last one's losses."""
    task = make_detector(load_config(name)).task()
    config = TrainConfig(epochs=EPOCHS, batch_size=BATCH, validation_split=0.0, **settings)
    rng = np.random.default_rng(0)
    arrays = rng.normal(-40, 8, (clips, _CLIP_FRAMES, MELS)).astype(np.float32)
    features = ArrayFeatures([Clip("", "", "train", "", "")] * clips, list(arrays))
    fleet_models = [FleetModel(f"m{m}", "", 0) for m in range(models)]
    every = np.arange(clips), np.zeros(clips, np.int32)
    fleet = fleet_clips(
        fleet_models,
        [every] * models,
        features.n_frames,
        view_length=task.view_length,
        view_hop=1,
        config=config,
    )
    ends, losses = [], []

    def log(entry):
        ends.append(time.perf_counter())
        losses.append([entry["loss"][model.name] for model in fleet_models])

    train(task, fleet, features, config, log=log, devices=jax.devices()[:devices])
    return {"seconds": float(np.median(np.diff(ends))), "losses": losses[-1]}


def _train_there(name: str, models: int, clips: int, devices: int, settings: dict) -> dict:
    """`train_here` in a process with so many devices."""
    environment = dict(os.environ)
    if jax.default_backend() == "cpu":
        flags = f"--xla_force_host_platform_device_count={devices}"
        # One core for a device, and enough threads for exchanges, which wait for one another.
        environment["XLA_FLAGS"] = f"{flags} --xla_cpu_multi_thread_eigen=false"
        environment["NPROC"] = str(max(8, 2 * devices))
    request = json.dumps([name, models, clips, devices, settings])
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.scaling", request],
        cwd=_ROOT,
        env=environment,
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise WrongAnswer(f"{devices} devices: {done.stderr[-300:]}")
    return json.loads(done.stdout.splitlines()[-1])


def _enough() -> str:
    """The reason to skip a comparison of two devices; "" for none."""
    cpu = jax.default_backend() == "cpu"
    count = usable_cores() if cpu else len(jax.devices())
    return "" if count > 1 else f"needs two {'cores' if cpu else 'devices'}"


def setup(name, models, settings, other, what, limit, why, quick, peers: Sequence[str]) -> Prepared:
    """Ours is on two devices, or streams; the peer is on one, with all frames on it."""
    clips = 8 if quick else 64

    def way(devices, settings):
        return Way(lambda: _train_there(name, models, clips, devices, settings))

    def check(peer, ours, theirs):
        yield Difference(
            "losses of the last epoch, relative",
            largest(ours["losses"], theirs["losses"], relative=True),
            limit,
            why,
        )

    task = make_detector(load_config(name)).task()
    steps = math.ceil(clips * (_CLIP_FRAMES - task.view_length + 1) / BATCH)
    devices, peer_devices = other
    return Prepared(
        f"an epoch of {models} models `{name}`, {clips} clips of {_CLIP_FRAMES} frames, steps of "
        f"{BATCH} views; float32; {what}",
        {"ours": way(devices, settings)} | {peer: way(peer_devices, {}) for peer in peers},
        check,
        lambda _: training_work(task, MELS, BATCH, models * steps),
        amount=lambda result: result["seconds"],
    )


_ROUNDING = 0.02, "sums in another order, magnified by updates"
COMPARISONS = [
    Comparison(
        "scaling.models",
        {"one device": _enough},
        functools.partial(
            setup,
            *("interpolation_ae", 8, {}, (2, 1), "ours on two devices, four models each"),
            *_ROUNDING,
        ),
        rounds=3,
    ),
    Comparison(
        "scaling.views",
        {"one device": _enough},
        functools.partial(
            setup,
            *("interpolation_ae", 1, {"data_devices": 2}, (2, 1)),
            *("ours on two devices, half of each step's views each", *_ROUNDING),
        ),
        rounds=3,
    ),
    Comparison(
        "scaling.stream",
        {"all frames on the device": lambda: ""},
        functools.partial(
            setup,
            "interpolation_ae",
            2,
            {"table_mib": 5},
            (1, 1),
            "ours with half of the frames on the device at most, read window by window",
            0.1,
            "other views are neighbours in a step",
        ),
        rounds=3,
    ),
]


if __name__ == "__main__":
    print(json.dumps(train_here(*json.loads(sys.argv[1]))))
