"""Asymmetric GANomaly as a system: losses, scaling, steps, pieces of a clip."""

import functools

import jax
import numpy as np
import optax
import pytest
from fits import trained_before
from tasks import batch_of, start

import asd_jax
from asd_jax.config import load_config
from asd_jax.detectors import make_detector
from asd_jax.errors import UserError
from asd_jax.features.table import ClipInput
from asd_jax.training import variables

SMALL = {"front_end.n_mels": "8", "detector.frames": "16", "detector.width": "2"}
VIEWS = np.random.default_rng(0).uniform(-4, 4, (3, 16, 8)).astype(np.float32)


def detector(**settings):
    overrides = {f"detector.{key}": str(value) for key, value in settings.items()}
    return make_detector(load_config("ganomaly", {**SMALL, **overrides}))


@functools.cache
def first():
    """A learner before its first step, which is that of all settings."""
    return start(detector().task(), n_mels=8)


@functools.cache
def compiled_step():
    return jax.jit(detector().task().step)


def networks(found, weights, x, train=False):
    """(reconstruction, latents), (logits, features of x), (logits, features of the former)."""

    @jax.jit
    def every(weights, x):
        def apply(name, x):
            own = {kind: weights[kind][name] for kind in ("params", "batch_stats")}
            return getattr(found, name).apply(own, x, train=train, mutable=["batch_stats"])[0]

        made = apply("generator", x)
        return made, apply("discriminator", x), apply("discriminator", made[0])

    return every(weights, x)


@pytest.mark.parametrize(
    ("activation", "adversarial"), [("tanh", "probability"), ("relu", "features")]
)
def test_the_loss_is_the_weighted_sum_of_the_three(activation, adversarial):
    """Float32 sums in another order: 1e-5."""
    found = detector(activation=activation, adversarial=adversarial)
    task, learner = found.task(), first()
    # The statistics say that training frames lie between −4 and 4.
    x = VIEWS[..., None] / 4 if activation == "tanh" else (VIEWS[..., None] + 4) / 8
    made = networks(found, variables(learner), x)
    (fake, latent, again), (logits, features), (fake_logits, fake_features) = (
        tuple(map(np.asarray, each)) for each in made
    )
    if adversarial == "probability":
        difference = 1 / (1 + np.exp(-logits)) - 1 / (1 + np.exp(-fake_logits))
    else:
        difference = features - fake_features
    expected = np.mean((latent - again) ** 2) + 50 * np.mean(abs(x - fake)) + np.mean(difference**2)
    found = jax.jit(task.loss)(learner, batch_of(VIEWS))
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_a_step_is_one_of_each_network_from_the_same_weights():
    """The discriminator's against its own gradient by hand; float32 rounding: 1e-5."""
    found, learner = detector(), first()
    weights = variables(learner)
    x = VIEWS[..., None] / 4
    fake = networks(found, weights, x, train=True)[0][0]

    def cross_entropy(params):
        own = {"params": params, "batch_stats": weights["batch_stats"]["discriminator"]}
        logits = [
            found.discriminator.apply(own, each, train=True, mutable=["batch_stats"])[0][0]
            for each in (x, fake)
        ]
        return (
            optax.sigmoid_binary_cross_entropy(logits[0], np.ones(3)).mean()
            + optax.sigmoid_binary_cross_entropy(logits[1], np.zeros(3)).mean()
        ) / 2

    params = weights["params"]["discriminator"]
    rate = found.config.train.learning_rate
    expected = jax.tree.map(
        lambda p, g: p - rate * g, params, jax.jit(jax.grad(cross_entropy))(params)
    )
    stepped, _ = compiled_step()(learner, batch_of(VIEWS), jax.random.key(0))
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7),
        stepped["params"]["discriminator"],
        expected,
    )
    before, after = learner["params"]["generator"], stepped["params"]["generator"]
    assert all(jax.tree.leaves(jax.tree.map(lambda a, b: (a != b).any(), before, after)))


def test_steps_lower_the_reconstruction_loss():
    learner, step, losses = first(), compiled_step(), []
    for i in range(60):
        learner, loss = step(learner, batch_of(VIEWS), jax.random.key(i))
        losses.append(float(loss))
    assert np.isfinite(losses).all() and losses[-1] < 0.8 * losses[0]


def test_rows_that_fill_a_batch_have_no_effect():
    learner, step = first(), compiled_step()
    filled = batch_of(np.concatenate([VIEWS, 100 * VIEWS]))
    filled = filled._replace(mask=np.arange(6) < 3)
    alone = step(learner, batch_of(VIEWS), jax.random.key(0))
    padded = step(learner, filled, jax.random.key(0))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6), alone, padded)


def test_a_clip_is_the_mean_of_its_whole_pieces():
    found, weights = detector(), variables(first())
    clip = np.random.default_rng(1).uniform(-4, 4, (64, 8)).astype(np.float32)
    pieces = [
        np.mean((np.asarray(made[1]) - np.asarray(made[2])) ** 2)
        for i in range(2)
        for made in [networks(found, weights, clip[None, 16 * i : 16 * i + 16, :, None] / 4)[0]]
    ]
    shortened = ClipInput(clip, np.int32(40))  # the third piece is cut short
    score = jax.jit(found.score)(weights, {}, shortened)
    np.testing.assert_allclose(score, np.mean(pieces), rtol=1e-5)


@pytest.mark.parametrize(
    ("key", "text"),
    [
        ("detector.frames", "20"),
        ("detector.width", "0"),
        ("detector.momentum", "1"),
        ("detector.latent_weight", "-1"),
        ("detector.activation", "sigmoid"),
    ],
)
def test_settings_that_make_no_sense(key, text):
    with pytest.raises(UserError, match="detector"):
        load_config("ganomaly", {key: text})


def test_bands_must_be_a_multiple_of_8():
    with pytest.raises(UserError, match="multiple of 8"):
        make_detector(load_config("ganomaly", {"front_end.n_mels": "100"}))


def test_clips_of_other_lengths_can_be_used():
    """A clip shorter than a view counts as what it is when repeated to fill one."""
    config = load_config(
        "ganomaly",
        {**SMALL, "train.epochs": "1", "train.batch_size": "2", "seeds": "0,"},
    )
    rng = np.random.default_rng(0)
    clips = [rng.normal(size=(n, 8)).astype(np.float32) for n in (4, 9, 16, 20, 12)]
    with trained_before(jax.tree.map(lambda leaf: leaf[None], variables(first()))):
        fitted = asd_jax.fit(config, clips)
    filled = [np.resize(clip, (max(len(clip), 16), 8)) for clip in clips]
    np.testing.assert_array_equal(fitted.score_features(clips), fitted.score_features(filled))
    with pytest.raises(UserError, match="has 3 frames; this system needs 4 or more"):
        fitted.score_features([clips[0][:3]])
