"""The LSTM autoencoder as a system: scaling, optimiser, loss and score."""

import functools

import jax
import numpy as np
import optax
import pytest
from tasks import batch_of, drawn

from asd_jax.config import load_config
from asd_jax.detectors import make_detector
from asd_jax.detectors.lstm_ae import decaying_rmsprop
from asd_jax.errors import UserError
from asd_jax.features.table import ClipInput
from asd_jax.training import TrainingStatistics, variables
from asd_jax.training.task import count_values

SMALL = {
    "front_end.n_mels": "6",
    "detector.frames": "4",
    "detector.encoder": "4",
    "train.learning_rate": "1e-2",
}
STATISTICS = TrainingStatistics(
    mean=np.linspace(-20, -60, 6, dtype=np.float32),
    std=np.array([5, 4, 3, 2, 1, 0], np.float32),  # the last band never changes
    minimum=np.full(6, -80, np.float32),
    maximum=np.full(6, 0, np.float32),
)


def small(**settings):
    changed = {f"detector.{key}": text for key, text in settings.items()}
    return make_detector(load_config("lstm_ae", SMALL | changed))


@functools.cache
def compiled(**settings):
    """The step and the loss, and the network by itself."""
    detector = small(**settings)
    task = detector.task()
    return jax.jit(task.step), jax.jit(task.loss), jax.jit(detector.module.apply)


@functools.cache
def learner_of(**settings):
    return drawn(small(**settings).task(), STATISTICS)


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
    optimizer, ours = decaying_rmsprop(1e-4, 0.01), np.zeros(7, np.float32)
    state = optimizer.init(ours)

    @jax.jit
    def step(values, state, gradient):
        updates, state = optimizer.update(gradient, state)
        return optax.apply_updates(values, updates), state

    for gradient in gradients:
        keras_s.apply([gradient], [theirs])
        ours, state = step(ours, state, gradient)
        np.testing.assert_allclose(ours, theirs.value, rtol=1e-5, atol=1e-9)
    assert keras_s.rho == 0.9
    assert keras_s.epsilon == 1e-7


def test_epsilon_is_beside_the_root():
    """First step, by hand; to float32. Under the root it would be 30 times shorter."""
    optimizer = decaying_rmsprop(1e-4, 0.01)
    gradient = np.float32(1e-6)
    updates, _ = jax.jit(optimizer.update)(gradient, optimizer.init(gradient))
    np.testing.assert_allclose(updates, -1e-4 * 1e-6 / (np.sqrt(0.1) * 1e-6 + 1e-7), rtol=1e-5)


@pytest.mark.parametrize("scaling", ["standard", "none"])
def test_the_loss_is_of_the_scaled_input(scaling):
    """By hand from the module's output; to 1e-5, the same float32 sums."""
    learner, views = learner_of(scaling=scaling), decibels(8, 4)
    _, loss, apply = compiled(scaling=scaling)
    x = views
    if scaling == "standard":
        x = (views - STATISTICS.mean) / [5, 4, 3, 2, 1, 1]
        assert 0.5 < np.std(x[..., :5]) < 1.5
    output = np.asarray(apply(variables(learner), x))
    expected = np.mean([np.mean((o - y) ** 2) for o, y in zip(output, x, strict=True)])
    np.testing.assert_allclose(loss(learner, batch_of(views)), expected, rtol=1e-5)


def test_a_step_drops_values_moves_statistics_and_keeps_the_scaling():
    learner, batch = learner_of(), batch_of(decibels(8, 4))
    step, evaluated, _ = compiled()
    one, loss = step(learner, batch, jax.random.key(1))
    same, again = step(learner, batch, jax.random.key(1))
    other, differs = step(learner, batch, jax.random.key(2))
    assert float(loss) == float(again) != float(differs)
    losses = [float(evaluated(each, batch)) for each in (one, same, learner)]
    assert losses[0] == losses[1] != losses[2]
    before, after = learner["model_state"], jax.device_get(one["model_state"])
    jax.tree.map(np.testing.assert_array_equal, before["input"], after["input"])
    moved = jax.tree.map(lambda a, b: (a != b).any(), *(s["batch_stats"] for s in (before, after)))
    assert all(jax.tree.leaves(moved))


def test_masked_rows_have_no_effect():
    """On the loss and on all that a step leaves: equal to float32 rounding."""
    learner, views = learner_of(), decibels(8, 4)
    step, loss, _ = compiled()
    batch = batch_of(views)._replace(mask=np.arange(8) < 4)
    garbage = batch._replace(views=np.where(batch.mask[:, None, None], views, views + 100))
    # The mean of the rows that count is that of each of them twice.
    twice = batch_of(np.concatenate([views[:4], views[:4]]))
    np.testing.assert_allclose(loss(learner, garbage), loss(learner, twice), rtol=1e-5)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7),
        step(learner, garbage, jax.random.key(1)),
        step(learner, batch, jax.random.key(1)),
    )


def test_it_learns():
    """Loud and soft sequences told apart: the loss falls below that of the bands' means."""
    step, loss, _ = compiled()
    sign = np.where(np.arange(8) % 2, 1, -1)[:, None, None]
    batch = batch_of((STATISTICS.mean + STATISTICS.std * np.ones((8, 4, 6)) * sign).astype("f4"))
    learner = learner_of()
    for n in range(300):
        learner, _ = step(learner, batch, jax.random.key(n))
    assert loss(learner, batch) < 0.2  # 5 / 6 for the means


def test_a_clip_s_score_equals_a_plain_loop():
    """Over the sequences and their frames, the padding left out; to 1e-5, float32 sums."""
    detector, weights = small(), variables(learner_of())
    clip = decibels(12, seed=1)
    clip[10:] = 1e3
    scale = np.array([5, 4, 3, 2, 1, 1], np.float32)
    errors = []
    for first in range(10 - 4 + 1):
        x = (clip[first : first + 4] - STATISTICS.mean) / scale
        output = np.asarray(compiled()[2](weights, np.stack([x] * 8)))[0]
        errors += [np.mean((output[frame] - x[frame]) ** 2) for frame in range(4)]

    @jax.jit
    def compute(weights, clip):
        return detector.sequence_errors(weights, clip), detector.score(weights, {}, clip)

    (found, mask), score = compute(weights, ClipInput(clip, 10))
    assert mask.tolist() == [True] * 7 + [False] * 2
    np.testing.assert_allclose(found[:7], np.reshape(errors, (7, 4)).mean(axis=1), rtol=1e-5)
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
