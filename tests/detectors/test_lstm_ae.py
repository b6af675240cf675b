"""The LSTM autoencoder as a system: scaling, optimiser, loss and score."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from tasks import batch_of, start

from asd_jax.config import load_config
from asd_jax.detectors import make_detector
from asd_jax.detectors.lstm_ae import decaying_rmsprop
from asd_jax.errors import UserError
from asd_jax.features.table import ClipInput
from asd_jax.training import TrainingStatistics, variables
from asd_jax.training.task import count_values

SMALL = {"front_end.n_mels": "6", "detector.frames": "4", "detector.encoder": "5,3"}
STATISTICS = TrainingStatistics(
    mean=np.linspace(-20, -60, 6, dtype=np.float32),
    std=np.array([5, 4, 3, 2, 1, 0], np.float32),  # the last band never changes
    minimum=np.full(6, -80, np.float32),
    maximum=np.full(6, 0, np.float32),
)


def small(**settings):
    changed = {f"detector.{key}": text for key, text in settings.items()}
    return make_detector(load_config("lstm_ae", SMALL | changed))


def decibels(*shape, seed=0):
    noise = np.random.default_rng(seed).normal(size=(*shape, 6))
    return (STATISTICS.mean + STATISTICS.std * noise).astype(np.float32)


def test_it_has_the_report_s_755776_values():
    """What scales the input is kept beside them and not counted."""
    assert count_values(make_detector(load_config("lstm_ae")).task(), 128) == 755_776


def test_the_optimiser_equals_keras(keras):
    """Against Keras with its schedule for the same decay, over gradients of 1 to 3.

    From zero, so that the moves of 1e-4 are seen to float32's 1e-6 and a few of its roundings;
    epsilon, which sits elsewhere in today's Keras, is below that.
    """
    rng = np.random.default_rng(0)
    gradients = rng.choice([-1, 1], (50, 7)) * rng.uniform(1, 3, (50, 7))
    gradients = gradients.astype(np.float32)
    rate = keras.optimizers.schedules.InverseTimeDecay(1e-4, 1, 0.01)
    theirs, keras_s = keras.Variable(np.zeros(7, np.float32)), keras.optimizers.RMSprop(rate)
    optimizer, ours = decaying_rmsprop(1e-4, 0.01), jnp.zeros(7)
    state = optimizer.init(ours)
    for gradient in gradients:
        keras_s.apply([gradient], [theirs])
        updates, state = optimizer.update(gradient, state)
        ours = optax.apply_updates(ours, updates)
        np.testing.assert_allclose(ours, theirs.value, rtol=1e-5, atol=1e-9)
    assert keras_s.rho == 0.9
    assert keras_s.epsilon == 1e-7


def test_epsilon_is_beside_the_root():
    """First step, by hand; to float32. Under the root it would be 30 times shorter."""
    optimizer = decaying_rmsprop(1e-4, 0.01)
    updates, _ = optimizer.update(jnp.float32(1e-6), optimizer.init(jnp.float32(0)))
    np.testing.assert_allclose(updates, -1e-4 * 1e-6 / (np.sqrt(0.1) * 1e-6 + 1e-7), rtol=1e-5)


@pytest.mark.parametrize("scaling", ["standard", "none"])
def test_the_loss_is_of_the_scaled_input(scaling):
    """By hand from the module's output; to 1e-5, the same float32 sums."""
    detector = small(scaling=scaling)
    learner = jax.jit(detector.task().init)(jax.random.key(0), STATISTICS)
    views = decibels(3, 4)
    x = views
    if scaling == "standard":
        x = (views - STATISTICS.mean) / [5, 4, 3, 2, 1, 1]
        assert 0.5 < np.std(x[..., :5]) < 1.5
    output = jax.jit(detector.module.apply)(variables(learner), x)
    expected = np.mean([np.mean((o - y) ** 2) for o, y in zip(output, x, strict=True)])
    found = jax.jit(detector.task().loss)(learner, batch_of(views))
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_a_step_drops_values_moves_statistics_and_keeps_the_scaling():
    detector = small()
    task = detector.task()
    learner, batch = jax.jit(task.init)(jax.random.key(0), STATISTICS), batch_of(decibels(8, 4))
    step = jax.jit(task.step)
    one, loss = step(learner, batch, jax.random.key(1))
    same, again = step(learner, batch, jax.random.key(1))
    other, differs = step(learner, batch, jax.random.key(2))
    assert loss == again != differs
    evaluated = jax.jit(task.loss)
    assert evaluated(one, batch) == evaluated(same, batch) != evaluated(learner, batch)
    before, after = learner["model_state"], one["model_state"]
    jax.tree.map(np.testing.assert_array_equal, before["input"], after["input"])
    moved = jax.tree.map(
        lambda a, b: bool((a != b).any()), *(s["batch_stats"] for s in (before, after))
    )
    assert all(jax.tree.leaves(moved))


def test_masked_rows_have_no_effect():
    """On the loss and on all that a step leaves: equal to float32 rounding."""
    task = small().task()
    learner = jax.jit(task.init)(jax.random.key(0), STATISTICS)
    views = decibels(8, 4)
    batch = batch_of(views)._replace(mask=jnp.arange(8) < 5)
    garbage = batch._replace(views=batch.views.at[5:].add(100))
    step, loss = jax.jit(task.step), jax.jit(task.loss)
    np.testing.assert_allclose(
        loss(learner, garbage), loss(learner, batch_of(views[:5])), rtol=1e-5
    )
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7),
        step(learner, garbage, jax.random.key(1)),
        step(learner, batch, jax.random.key(1)),
    )


def test_it_learns():
    """Loud and soft sequences told apart: the loss falls below that of the bands' means."""
    config = load_config(
        "lstm_ae", SMALL | {"train.learning_rate": "1e-2", "detector.dropout": "0"}
    )
    task = make_detector(config).task()
    learner, step = start(task, n_mels=6), jax.jit(task.step)
    sign = np.where(np.arange(64) % 2, 1, -1)
    views = np.broadcast_to(sign[:, None, None], (64, 4, 6)).astype(np.float32)
    for n in range(300):
        learner, loss = step(learner, batch_of(views), jax.random.key(n))
    assert loss < 0.2  # 1 for the means


def test_a_clip_s_score_equals_a_plain_loop():
    """Over the sequences and their frames, the padding left out; to 1e-5, float32 sums."""
    detector = small()
    weights = variables(jax.jit(detector.task().init)(jax.random.key(0), STATISTICS))
    clip = decibels(12, seed=1)
    clip[10:] = 1e3
    scale = np.array([5, 4, 3, 2, 1, 1], np.float32)
    errors, apply = [], jax.jit(detector.module.apply)
    for first in range(10 - 4 + 1):
        x = (clip[first : first + 4] - STATISTICS.mean) / scale
        output = np.asarray(apply(weights, x[None]))[0]
        errors += [np.mean((output[frame] - x[frame]) ** 2) for frame in range(4)]
    found, mask = jax.jit(detector.sequence_errors)(weights, ClipInput(clip, 10))
    assert mask.tolist() == [True] * 7 + [False] * 2
    np.testing.assert_allclose(found[:7], np.reshape(errors, (7, 4)).mean(axis=1), rtol=1e-5)
    score = jax.jit(detector.score)(weights, {}, ClipInput(clip, 10))
    np.testing.assert_allclose(score, np.mean(errors), rtol=1e-5)


def test_the_configuration_is_the_report_s():
    config = load_config("lstm_ae")
    assert config.threshold == "mean"
    assert (config.train.epochs, config.train.patience) == (100, 20)
    assert (config.train.learning_rate, config.train.validation_split) == (1e-4, 0.1)
    assert make_detector(config).scope == "section"


@pytest.mark.parametrize(
    ("key", "text"),
    [
        ("frames", "0"),
        ("encoder", ""),
        ("encoder", "8,0"),
        ("dropout", "1"),
        ("dropout", "-0.1"),
        ("decay", "-1"),
        ("decay", "nan"),
        ("scaling", "minmax"),
    ],
)
def test_settings_that_make_no_sense(key, text):
    with pytest.raises(UserError, match=f"detector.{key}") as error:
        load_config("lstm_ae", {f"detector.{key}": text})
    assert "\n" not in str(error.value)
