"""How an epoch is best driven here: members together, one after another, or step by step.

    python benchmarks/epoch_drivers.py [--members=4] [--steps=10] [--rounds=3]

Times an epoch of a fleet of dense autoencoders and of one of small convolutional networks by
every value of `train.members`, the three in turn, round by round, after a first round that
compiles. What `asd_jax.training.fleet.choose_driver` takes by default should be the fastest.
"""

import dataclasses
import time

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from absl import app, flags

from asd_jax.config import TrainConfig, load_config
from asd_jax.detectors import make_detector
from asd_jax.training import Member, Task, fleet, fleet_data, gradient_task

_MEMBERS = flags.DEFINE_integer("members", 4, "models in the fleet")
_STEPS = flags.DEFINE_integer("steps", 10, "optimiser steps an epoch")
_ROUNDS = flags.DEFINE_integer("rounds", 3, "epochs timed of each way")

DRIVERS = ("vmap", "map", "loop")
MELS = 128


class ConvolutionalNetwork(nn.Module):
    """Three strided convolutions and a linear layer, about as small as such models get."""

    @nn.compact
    def __call__(self, x):
        for width in (16, 32, 64):
            x = nn.relu(nn.Conv(width, (3, 3), strides=2)(x))
        return nn.Dense(4)(x.mean(axis=(1, 2)))


def dense_task() -> tuple[Task, int]:
    return make_detector(load_config("dense_ae")).task(), 512


def convolutional_task() -> tuple[Task, int]:
    module = ConvolutionalNetwork()

    def loss(variables, batch, key, train):
        logits = module.apply(variables, batch.views[..., None])
        classes = jnp.arange(len(logits)) % 4
        return batch.mean(optax.softmax_cross_entropy_with_integer_labels(logits, classes)), {}

    def init(key, statistics):
        return module.init(key, jnp.zeros((1, 64, MELS, 1)))

    task = gradient_task(init, loss, optax.adam(1e-3), view_length=64, kind="convolution")
    return task, 32


def prepare(task: Task, batch_size: int, driver: str):
    """An epoch's function and its arguments."""
    config = TrainConfig(batch_size=batch_size, members=driver)
    members = [Member("fan", "", seed) for seed in range(_MEMBERS.value)]
    n_frames = np.array([_STEPS.value * batch_size + task.view_length - 1] * 2)
    table = np.random.default_rng(0).normal(size=(n_frames.sum(), MELS)).astype(np.float32)
    data = fleet_data(
        members,
        [(np.array([0]), np.array([0], np.int32))] * len(members),
        table,
        np.array([0, n_frames[0]]),
        n_frames,
        view_length=task.view_length,
        view_hop=1,
        config=dataclasses.replace(config, validation_split=0.0),
    )
    state = jax.jit(lambda data: fleet.init_state(task, data, config))(data)
    return fleet.make_epoch(task, config), jnp.asarray(table), data, state


def measure(task: Task, batch_size: int) -> dict[str, np.ndarray]:
    """Seconds of each timed epoch by driver."""
    prepared = {driver: prepare(task, batch_size, driver) for driver in DRIVERS}
    seconds = {driver: [] for driver in DRIVERS}
    for turn in range(_ROUNDS.value + 1):
        for driver, (epoch, table, data, state) in prepared.items():
            begin = time.perf_counter()
            state, _ = jax.block_until_ready(epoch(table, data, state))
            prepared[driver] = (epoch, table, data, state)
            if turn:
                seconds[driver].append(time.perf_counter() - begin)
    return {driver: np.array(values) for driver, values in seconds.items()}


def main(_):
    device = jax.devices()[0].device_kind
    print(f"jax {jax.__version__} on {jax.default_backend()} ({device}), float32")
    print(f"{_MEMBERS.value} members, {_STEPS.value} steps, median of {_ROUNDS.value} rounds")
    for kind, make in (("dense", dense_task), ("convolution", convolutional_task)):
        task, batch_size = make()
        seconds = measure(task, batch_size)
        chosen = fleet.choose_driver(TrainConfig(), kind)
        for driver, values in seconds.items():
            ratio = values / seconds[chosen]
            print(
                f"{kind:<12} {driver:<5} {np.median(ratio):6.2f} times the default's "
                f"(rounds {ratio.min():.2f} to {ratio.max():.2f})"
                + ("  default" if driver == chosen else "")
            )


if __name__ == "__main__":
    app.run(main)
