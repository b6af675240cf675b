"""Fleets: each model's training is the one it would have had alone."""

import contextlib
import dataclasses
import functools
import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from asd_jax.config import TrainConfig
from asd_jax.runtime.compilation import compiler_options
from asd_jax.training import (
    Batch,
    FleetModel,
    TrainingStatistics,
    fleet_clips,
    gradient_task,
    train,
)
from asd_jax.training.batches import shuffled
from asd_jax.training.models import FleetData, Views, entropy_of, model_keys, split_clips

LENGTH, MELS = 2, 3
CONFIG = TrainConfig(epochs=4, batch_size=8, learning_rate=0.05, validation_split=0.3)
# A learning rate far too large: the validation loss rises after a few epochs.
STOPPING = dataclasses.replace(CONFIG, epochs=8, learning_rate=0.3, patience=2, driver="map")


def linear_task(learning_rate=0.05):
    """A linear map of a view onto itself; small, and keys, labels and statistics matter."""

    def init(key, statistics):
        size = LENGTH * MELS
        w = 0.1 * jax.random.normal(key, (size, size)) + 0.1 * statistics.mean.sum()
        return {"params": {"w": w}}

    def loss(variables, batch, key, train):
        x = batch.views.reshape(len(batch.views), -1)
        noise = 0.1 * jax.random.normal(key, x.shape) if train else 0.0
        errors = jnp.mean(((x + noise) @ variables["params"]["w"] - x) ** 2, axis=-1)
        return batch.mean(errors * (1 + batch.labels)), {}

    return gradient_task(init, loss, optax.adam(learning_rate), view_length=LENGTH)


def counting_task():
    """A loss of the epoch, −1 in validation; its one weight is the sum of the updates."""

    def loss(variables, batch, key, train):
        epoch = -1.0 if batch.epoch is None else batch.epoch
        w = variables["params"]["w"]
        return epoch + w - jax.lax.stop_gradient(w), {}

    def init(key, statistics):
        return {"params": {"w": jnp.zeros(())}}

    factors = jnp.array([1.0, 0.5, 0.25, 0.0])
    return gradient_task(
        *(init, loss, optax.sgd(1.0)), view_length=LENGTH, schedule=lambda epoch: factors[epoch]
    )


def make_clips(n_clips=12, seed=0):
    rng = np.random.default_rng(seed)
    n_frames = rng.integers(5, 12, n_clips)
    offsets = np.concatenate([[0], np.cumsum(n_frames)[:-1]])
    return rng.normal(size=(n_frames.sum(), MELS)).astype(np.float32), offsets, n_frames


# Unequal data: 3, 9 and 5 clips, of unequal lengths.
MODELS = [FleetModel("fan", "", 0), FleetModel("fan", "", 1), FleetModel("pump", "00", 0)]
CLIPS = [np.arange(3), np.arange(3, 12), np.arange(2, 7)]
EXAMPLES = [(clips, (clips % 2).astype(np.int32)) for clips in CLIPS]


class Frames:
    """Features of a few clips in memory."""

    width, dtype = MELS, np.dtype(np.float32)

    def __init__(self, table, offsets, n_frames):
        self.n_frames = n_frames
        self._clips = [table[o : o + n] for o, n in zip(offsets, n_frames, strict=True)]

    def read_clips(self, indices):
        return [self._clips[i] for i in indices]


def run(which, config=CONFIG, task=None, **options):
    """Weights and the loss curves of the chosen models trained as one fleet."""
    table, offsets, n_frames = make_clips()
    models = [MODELS[i] for i in which]
    clips = fleet_clips(
        models,
        [EXAMPLES[i] for i in which],
        n_frames,
        view_length=LENGTH,
        view_hop=1,
        config=config,
    )
    log, source = [], Frames(table, offsets, n_frames)
    task = task or linear_task(config.learning_rate)
    weights = train(task, clips, source, config, log=log.append, **options)
    curves = [
        {
            name: [entry[name].get(model.name) for entry in log]
            for name in ("loss", "validation_loss")
        }
        for model in models
    ]
    return np.asarray(weights["params"]["w"]), curves


@contextlib.contextmanager
def compiled():
    """Names of the programs compiled inside, in their order; none is there before."""
    names = []

    def listener(event, duration, fun_name="", **kwargs):
        if event == "/jax/core/compile/backend_compile_duration":
            names.append(fun_name)

    for kind in ("init", "dense", "convolution"):
        compiler_options(kind)  # compiles a program once a process
    jax.clear_caches()
    jax.monitoring.register_event_duration_secs_listener(listener)
    yield names
    jax.monitoring.unregister_event_duration_listener(listener)


@functools.cache
def stopping(driver, *which):
    """Weights and curves with early stopping, and the names of the programs."""
    with compiled() as names:
        return *run(which, dataclasses.replace(STOPPING, driver=driver)), names


def together(driver):
    return stopping(driver, 0, 1, 2)[:2]


def epochs_of(curve):
    return sum(loss is not None for loss in curve["loss"])


def test_a_step_knows_its_epoch_and_the_schedule_s_rate():
    """Two steps in each of four epochs; a gradient of 1."""
    config = dataclasses.replace(CONFIG, batch_size=32, driver="map")
    weights, curves = run([1], config, counting_task())
    assert curves[0] == {"loss": [0, 1, 2, 3], "validation_loss": [-1] * 4}
    steps = 2
    assert weights.tolist() == [-steps * 1.75]


def test_a_model_of_a_fleet_is_what_it_would_be_alone():
    weights, curves = together("map")
    alone, (curve,), _ = stopping("map", 0)
    # The same sums in another order: a few float32 roundings.
    np.testing.assert_allclose(weights[0], alone[0], rtol=1e-5, atol=1e-6)
    n = epochs_of(curve)
    assert curves[0]["loss"][n:] == [None] * (len(curves[0]["loss"]) - n)
    for name in ("loss", "validation_loss"):
        np.testing.assert_allclose(curves[0][name][:n], curve[name][:n], rtol=1e-5)


@pytest.mark.parametrize("driver", ["vmap", "loop"])
def test_the_ways_of_driving_agree(driver):
    """So what holds of one, as the test above, holds of all."""
    (expected, expected_curves), (found, curves) = together("map"), together(driver)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    for own, others in zip(curves, expected_curves, strict=True):
        for name in ("loss", "validation_loss"):
            # None, where a model has stopped, is NaN.
            np.testing.assert_allclose(
                np.array(own[name], float), np.array(others[name], float), rtol=1e-5
            )


def key_of(model):
    seed, name = model.entropy
    return jax.random.fold_in(jax.random.key(seed), name)


def test_training_equals_a_plain_loop():
    """One model against optax called step by step on batches made by hand."""
    table, offsets, n_frames = make_clips()
    config = dataclasses.replace(CONFIG, epochs=2)
    found, curves = run([1], config)
    model, task = MODELS[1], linear_task()
    training, held = split_clips(model, CLIPS[1], config.validation_split)

    def views(clips):
        return np.concatenate([offsets[c] + np.arange(n_frames[c] - LENGTH + 1) for c in clips])

    def labels(clips):
        return np.repeat(clips % 2, n_frames[clips] - LENGTH + 1)

    starts, held_starts = views(training), views(held)
    key = key_of(model)
    frames = np.concatenate([table[offsets[c] : offsets[c] + n_frames[c]] for c in training])
    statistics = TrainingStatistics(frames.mean(0), frames.std(0), frames.min(0), frames.max(0))
    step, loss_of = jax.jit(task.step), jax.jit(task.loss)
    learner = task.init(jax.random.fold_in(key, 0), statistics)
    for epoch in range(config.epochs):
        bits = jax.random.bits(
            jax.random.fold_in(jax.random.fold_in(key, 1), epoch), (len(starts),)
        )
        order = np.argsort(np.asarray(bits) >> 1, kind="stable")
        step_key = jax.random.fold_in(jax.random.fold_in(key, 2), epoch)
        losses = []
        for i in range(0, len(order), config.batch_size):
            chosen = starts[order[i : i + config.batch_size]]
            batch = table[chosen[:, None] + np.arange(LENGTH)]
            # The noise has the shape of the batch, so a short batch is filled up here too.
            mask = np.arange(config.batch_size) < len(chosen)
            batch = np.concatenate([batch, np.zeros((int((~mask).sum()), LENGTH, MELS))])
            own = np.zeros(config.batch_size, np.int32)
            own[: len(chosen)] = labels(training)[order[i : i + config.batch_size]]
            learner, loss = step(
                learner,
                Batch(jnp.asarray(batch, jnp.float32), jnp.asarray(own), jnp.asarray(mask)),
                jax.random.fold_in(step_key, i // config.batch_size),
            )
            losses.append(float(loss) * mask.sum())
        held_views = jnp.asarray(table[held_starts[:, None] + np.arange(LENGTH)])
        held_batch = Batch(held_views, jnp.asarray(labels(held)), jnp.ones(len(held_views), bool))
        held_loss = loss_of(learner, held_batch)
        np.testing.assert_allclose(curves[0]["loss"][epoch], sum(losses) / len(starts), rtol=1e-5)
        np.testing.assert_allclose(curves[0]["validation_loss"][epoch], held_loss, rtol=1e-5)
    np.testing.assert_allclose(found[0], learner["params"]["w"], rtol=1e-5, atol=1e-6)


def test_early_stopping_keeps_the_best_weights_and_freezes():
    weights, curves = together("map")
    for i in range(3):
        seen = [loss for loss in curves[i]["validation_loss"] if loss is not None]
        best = int(np.argmin(seen))
        assert len(seen) == min(best + 1 + STOPPING.patience, STOPPING.epochs)
        if i == 0:
            config = dataclasses.replace(STOPPING, patience=0, epochs=best + 1)
            until_best, _ = run([i], config)
            np.testing.assert_allclose(weights[i], until_best[0], rtol=1e-4, atol=1e-5)
    assert len({*map(epochs_of, curves)}) > 1, "models should stop at different epochs here"


def test_keys_of_all_models_are_those_of_each():
    models = [FleetModel("fan", "", 0), FleetModel("fan", "01", 2**31 - 1, 1), *MODELS]
    models.append(FleetModel("fan", "", 2**32 + 5))  # of which JAX takes the low half
    found = model_keys(*entropy_of(models))
    assert found.tolist() == [jax.random.key_data(key_of(model)).tolist() for model in models]


def test_every_view_is_used_once_an_epoch_whatever_the_padding():
    (key,) = model_keys(*entropy_of(MODELS[:1]))
    shuffle = jax.jit(shuffled)

    def order(width, epoch):
        starts = np.where(np.arange(width) < 50, np.arange(width), 999)
        views = Views(starts, starts + 1, np.int32(50))
        views = shuffle(FleetData(key, None, views, None), epoch)
        np.testing.assert_array_equal(views.labels, views.starts + 1)
        return np.asarray(views.starts)[:50]

    assert sorted(order(64, 0)) == list(range(50))
    np.testing.assert_array_equal(order(64, 0), order(1024, 0))
    assert (order(64, 0) != order(64, 1)).any()


def test_validation_clips_are_whole_clips_and_differ_by_seed():
    clips = np.arange(100, 140)
    training, held = split_clips(FleetModel("fan", "", 0), clips, 0.1)
    assert len(held) == 4
    assert sorted([*training, *held]) == list(clips)
    assert list(held) != list(split_clips(FleetModel("fan", "", 1), clips, 0.1)[1])
    assert [len(part) for part in split_clips(FleetModel("fan", "", 0), clips[:1], 0.1)] == [1, 0]
    assert [len(part) for part in split_clips(FleetModel("fan", "", 0), clips[:2], 0.1)] == [1, 1]
    assert [len(part) for part in split_clips(FleetModel("fan", "", 0), clips, 0)] == [40, 0]


def test_without_validation_clips_the_training_loss_is_watched():
    config = dataclasses.replace(CONFIG, validation_split=0.0)
    _, curves = run([0], config)
    assert curves[0]["validation_loss"] == [None] * config.epochs


def test_all_models_are_one_program():
    (_, (alone,), of_one), (_, curves, of_three) = stopping("map", 0), stopping("map", 0, 1, 2)
    assert epochs_of(alone) < max(map(epochs_of, curves))
    assert 0 < len(of_one) == len(of_three), "compilations grow with models or epochs"


def test_steps_from_python_are_one_program():
    """Also the first of an epoch, whose sums have no step's type of their own."""
    steps = [name for name in stopping("loop", 0, 1, 2)[2] if "_step" in name]
    assert sorted(steps) == ["jit(train_step)", "jit(validation_step)"]


DEVICES = """
import sys; sys.path.insert(0, "tests/training")
import jax; jax.config.update("jax_num_cpu_devices", 4)
import dataclasses, numpy as np
from test_fleet import STOPPING, run
one = np.load(sys.argv[1])
for driver, *together in [case.split(":") for case in sys.argv[2:]]:
    config = dataclasses.replace(STOPPING, driver=driver)
    for count in map(int, together):
        many, _ = run([0, 1, 2], dataclasses.replace(config, data_devices=count))
        np.testing.assert_allclose(many, one, rtol=1e-5, atol=1e-6)
print(len(jax.devices()))
"""


@pytest.mark.parametrize(
    "cases",
    [
        ("map:2", "vmap:4"),  # driver, and how many devices share the views of a model
        pytest.param(("map:0:1:4", "vmap:0:1:2"), marks=pytest.mark.slow),
    ],
)
def test_several_devices_give_what_one_gives(pytestconfig, tmp_path, cases):
    np.save(tmp_path / "one.npy", together("map")[0])
    done = subprocess.run(
        [sys.executable, "-c", DEVICES, str(tmp_path / "one.npy"), *cases],
        capture_output=True,
        text=True,
        cwd=pytestconfig.rootpath,
        # XLA's threads, of which each device needs one where devices exchange.
        env={**os.environ, "NPROC": "8"},
    )
    assert done.stdout.strip() == "4", done.stderr
