"""Drivers of an epoch: models together, one after another, or step by step from Python.

Epochs of a fleet of dense autoencoders and of one of small convolutional networks by every value
of `train.driver`. "ours" is what `asd_jax.training.fleet.choose_driver` takes by default; it
should be the fastest.
"""

import dataclasses
import functools
from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

from asd_jax.config import TrainConfig, load_config
from asd_jax.data.clips import Clip
from asd_jax.detectors import make_detector
from asd_jax.features.table import ArrayFeatures
from asd_jax.training import (
    FleetClips,
    FleetData,
    FleetModel,
    Task,
    fleet,
    fleet_clips,
    gradient_task,
)
from asd_jax.training.models import entropy_of, lay_out_views, model_keys
from asd_jax.training.windows import training_statistics
from benchmarks.harness import Comparison, Difference, Prepared, Way, largest
from benchmarks.roofline import training_work

DRIVERS = ("vmap", "map", "loop")
MELS = 128


class ConvolutionalNetwork(nn.Module):
    """Three strided convolutions and a linear layer, a very small model."""

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


def resident_data(clips: FleetClips, arrays: Sequence[np.ndarray]) -> FleetData:
    """Data of a fleet whose frames are all on the device, (frames, mels) a clip."""
    features = ArrayFeatures([Clip("", "", "train", "", "")] * len(arrays), arrays)
    return FleetData(
        model_keys(*entropy_of(clips.models)),
        training_statistics(features, clips),
        lay_out_views(clips, clips.training, features.offsets),
        lay_out_views(clips, clips.validation, features.offsets),
    )


def epoch_way(task: Task, config: TrainConfig, table, data) -> Way:
    """An epoch of a fleet from its first state; its result is the models' losses."""
    start = jax.jit(lambda data: fleet.init_state(task, data, config))(data)
    epoch = fleet.make_epoch(task, config)
    table, held = jnp.asarray(table), {}

    def before():  # the state is donated to the epoch
        held["state"] = jax.block_until_ready(jax.tree.map(jnp.copy, start))

    def run():
        _, losses = jax.block_until_ready(epoch(table, data, held.pop("state")))
        return np.asarray(losses["loss"])

    return Way(run, before)


def setup(make, quick: bool, peers: Sequence[str]) -> Prepared:
    """Frames are on the device beforehand; the models differ only by their shuffling."""
    task, batch_size = make()
    n_models, steps, batch_size = (2, 2, batch_size // 4) if quick else (4, 10, batch_size)
    models = [FleetModel("fan", "", seed) for seed in range(n_models)]
    n_frames = steps * batch_size + task.view_length - 1
    table = np.random.default_rng(0).normal(size=(n_frames, MELS)).astype(np.float32)
    config = TrainConfig(batch_size=batch_size, validation_split=0.0)
    clips = fleet_clips(
        models,
        [(np.array([0]), np.array([0], np.int32))] * n_models,
        np.array([len(table)]),
        view_length=task.view_length,
        view_hop=1,
        config=config,
    )
    data = resident_data(clips, [table])

    def way(driver):
        return epoch_way(task, dataclasses.replace(config, driver=driver), table, data)

    chosen = fleet.choose_driver(config, task.kind)

    def check(peer, ours, theirs):
        exact = jax.default_backend() == "cpu"
        limit, why = (1e-3, "rounding, magnified by updates") if exact else (2e-2, "TF32 products")
        yield Difference("mean loss of the epoch", largest(ours, theirs), limit, why)

    return Prepared(
        f"an epoch of {n_models} models, {steps} steps of {batch_size}; float32; ours is "
        f"{chosen}, the default",
        {"ours": way(chosen)} | {peer: way(peer) for peer in peers},
        check,
        lambda _: training_work(task, MELS, batch_size, n_models * steps),
        notes=[f"{chosen} is listed twice: its ratio shows the scatter of the figures"],
    )


COMPARISONS = [
    Comparison(
        f"drivers.{kind}",
        {driver: lambda: "" for driver in DRIVERS},
        functools.partial(setup, make),
    )
    for kind, make in (("dense", dense_task), ("convolution", convolutional_task))
]
