"""Group MADE as a system: clip scores, training, and input far off."""

import dataclasses
import functools
import itertools

import jax
import numpy as np
import pytest
from tasks import batch_of, drawn, standard

from asd_jax.config import load_config
from asd_jax.detectors import make_detector
from asd_jax.errors import UserError
from asd_jax.features.table import ClipInput
from asd_jax.training import TrainingStatistics, variables

REPORT = (0, 1, 3, 4, 2)

N_MELS = 4
SMALL = {
    "front_end.n_mels": str(N_MELS),
    "detector.hidden": "8,4,8",
    "detector.components": "3",
}


def make(**detector):
    return make_detector(
        load_config("group_made", SMALL | {f"detector.{k}": v for k, v in detector.items()})
    )


def decibels(rng, *shape):
    """Values of one tilted spectrum."""
    return (np.array([-20.0, -35, -50, -65]) + rng.normal(0, 6, (*shape, N_MELS))).astype(
        np.float32
    )


MEAN, STD = (-21, -33, -50, -60), (6, 5, 0, 7)  # the third band never changed in training


def random_weights(detector):
    """No weight as it starts, and MEAN and STD as the input's statistics."""
    bands = [np.array(values, np.float32) for values in (MEAN, STD, MEAN, MEAN)]
    learner = drawn(detector.task(), TrainingStatistics(*bands))
    rng = np.random.default_rng(0)

    def draw(leaf):
        return rng.normal(0, 0.5, leaf.shape).astype(np.float32)

    return variables({**learner, "params": jax.tree.map(draw, learner["params"])})


def direct(params, view, order):
    """(frames,) log densities of one view in float64, connection by connection."""
    frames, components = len(order), 3
    bands = range(N_MELS)
    x = [[(float(frame[m]) - MEAN[m]) / (STD[m] or 1) for m in bands] for frame in view]
    # Values, then units, each with the last position of the order that it has seen.
    below = [(x[f][m], order.index(f)) for f in range(frames) for m in bands]
    for layer, width in enumerate((8, 4, 8)):
        p = params[f"MaskedDense_{layer}"]
        above = []
        for unit in range(width):
            degree = unit % (frames - 1)
            terms = [
                p["kernel"][i, unit] * v for i, (v, seen) in enumerate(below) if seen <= degree
            ]
            above.append((max(p["bias"][unit] + sum(terms), 0), degree))
        below = above
    p = params["MaskedDense_3"]
    found = np.zeros(frames)
    for f, m in itertools.product(range(frames), bands):
        outputs = []
        for o in range(3 * components):
            index = (f * N_MELS + m) * 3 * components + o
            terms = [
                p["kernel"][i, index] * v
                for i, (v, seen) in enumerate(below)
                if seen < order.index(f)
            ]
            outputs.append(p["bias"][index] + sum(terms))
        odds, means, free = np.exp(outputs[:3]), outputs[3:6], outputs[6:]
        density = 0
        for c in range(components):
            variance = np.exp(7 * np.tanh(free[c] / 7))
            normal = np.exp(-((x[f][m] - means[c]) ** 2) / (2 * variance))
            density += odds[c] / odds.sum() * normal / np.sqrt(2 * np.pi * variance)
        found[f] += np.log(density)
    return found


@pytest.mark.parametrize("order", [REPORT, (2, 0, 1)])
def test_a_clip_s_score_equals_a_direct_computation(order):
    """To 1e-5 relative: float32 against float64; the padding has values that would show."""
    frames, text = len(order), ",".join(map(str, order))
    detectors = {score: make(order=text, score=score) for score in ("all", "last")}
    weights = random_weights(detectors["all"])
    params = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), weights["params"])
    clip = decibels(np.random.default_rng(2), 30)
    clip[24:] = 1e3
    views = [direct(params, clip[i : i + frames], order) for i in range(24 - frames + 1)]

    @jax.jit
    def scores(weights, clip):
        return {name: detector.score(weights, {}, clip) for name, detector in detectors.items()}

    found = jax.device_get(scores(weights, ClipInput(clip, 24)))
    np.testing.assert_allclose(found["all"], -np.mean(np.sum(views, axis=1)), rtol=1e-5)
    np.testing.assert_allclose(found["last"], -np.mean(views, axis=0)[order[-1]], rtol=1e-5)
    assert abs(found["all"] - found["last"]) > 1


def test_the_loss_is_the_mean_score_of_the_views_that_count():
    """To 1e-5 relative, the sums being grouped otherwise."""
    detector = make()
    weights, score = random_weights(detector), jax.jit(detector.score)
    views = decibels(np.random.default_rng(3), 6, 5)
    scores = [score(weights, {}, ClipInput(view, 5)) for view in views]
    state = {k: v for k, v in weights.items() if k != "params"}
    learner = {"params": weights["params"], "model_state": state}
    batch = batch_of(views)._replace(mask=np.arange(6) < 4)
    loss = jax.jit(detector.task().loss)(learner, batch)
    np.testing.assert_allclose(loss, np.mean(scores[:4]), rtol=1e-5)


@functools.cache
def compiled_step():
    """A step, with its gradients and the loss after it."""
    task = make().task()

    def everything(learner, batch):
        gradients = jax.grad(lambda p: task.loss({**learner, "params": p}, batch))(
            learner["params"]
        )
        learner, loss = task.step(learner, batch, jax.random.key(1))
        return learner, loss, gradients, task.loss(learner, batch)

    return jax.jit(everything)


def test_training_learns_the_density():
    """Ten steps on the same views lower their loss; the input statistics stay."""
    learner = drawn(make().task(), standard(N_MELS))
    batch = batch_of(np.random.default_rng(4).normal(3, 0.3, (8, 5, N_MELS)).astype(np.float32))
    losses, trained = [], learner
    for _ in range(10):
        trained, loss, *_ = compiled_step()(trained, batch)
        losses.append(float(loss))
    assert losses[-1] < losses[0] - 0.1
    jax.tree.map(np.testing.assert_array_equal, trained["model_state"], learner["model_state"])


def test_input_far_off_or_constant_gives_finite_numbers():
    """Weights ten times as large as usual, so that log variances reach their bound."""
    task = make().task()
    ones = np.ones(N_MELS, np.float32)
    learner = drawn(task, standard(N_MELS))
    learner["params"] = jax.tree.map(lambda leaf: 10 * leaf, learner["params"])
    signs = np.where(np.arange(8 * 5 * N_MELS) % 2, 1, -1).reshape(8, 5, N_MELS)
    state = jax.jit(lambda statistics: task.init(jax.random.key(0), statistics)["model_state"])
    for std in (0, 1e-6, 1):
        statistics = TrainingStatistics(0 * ones, std * ones, -4 * ones, 4 * ones)
        learner["model_state"] = state(statistics)
        for views in (1e4 + 0 * signs, -1e4 + 0 * signs, 1e4 * signs, 0 * signs):
            found = compiled_step()(learner, batch_of(views.astype(np.float32)))
            leaves = map(np.asarray, jax.tree.leaves(found))
            assert all(np.isfinite(leaf).all() for leaf in leaves), (std, views)


@pytest.mark.parametrize(
    ("key", "text", "message"),
    [
        ("order", "0,1,2,2,4", "name each frame of a view once"),
        ("order", "1,2,3", "counted from 0"),
        ("order", "0,", "2 frames or more"),
        ("order", "", "2 frames or more"),
        ("hidden", "", "widths of 4 or more"),
        ("hidden", "128,3,128", "widths of 4 or more"),
        ("components", "0", "1 or more"),
        ("score", "first", "all, last"),
    ],
)
def test_settings_that_make_no_sense(key, text, message):
    with pytest.raises(UserError, match=f"detector.{key}.*{message}") as error:
        load_config("group_made", {f"detector.{key}": text})
    assert "\n" not in str(error.value)


def test_a_view_is_as_long_as_the_order():
    config = load_config("group_made")
    assert make_detector(config).views.length == 5
    settings = dataclasses.replace(config.detector, order=(1, 0))
    assert make_detector(dataclasses.replace(config, detector=settings)).views.length == 2
