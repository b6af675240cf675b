"""Asymmetric GANomaly as a system: losses, scaling, steps, pieces of a clip."""

import functools

import jax
import numpy as np
import pytest
from fits import trained_before
from tasks import batch_of, drawn, standard

import asd_jax
from asd_jax.config import load_config
from asd_jax.detectors import make_detector
from asd_jax.errors import UserError
from asd_jax.features.table import ClipInput
from asd_jax.training import variables

SMALL = {"front_end.n_mels": "8", "detector.frames": "16", "detector.width": "2"}
VIEWS = np.random.default_rng(0).uniform(-4, 4, (3, 16, 8)).astype(np.float32)
# The same means and statistics as VIEWS alone, in as many rows as what is filled up.
TWICE = batch_of(np.concatenate([VIEWS, VIEWS]))


def detector(**settings):
    overrides = {f"detector.{key}": str(value) for key, value in settings.items()}
    return make_detector(load_config("ganomaly", {**SMALL, **overrides}))


@functools.cache
def first():
    """A learner before a step, which is that of all settings."""
    return drawn(detector().task(), standard(8))


@functools.cache
def compiled_step():
    """A step; and beside it, as one program is compiled sooner than two, what it judges.

    Returns:
        A function as a task's step, which also gives the discriminator's logits and features
        in training, of the views and of their reconstructions before the step.
    """
    found = detector()
    step = found.task().step

    def both(learner, batch, key):
        weights = variables(learner)

        def train(name, x):
            own = {kind: weights[kind][name] for kind in ("params", "batch_stats")}
            network = getattr(found, name)
            return network.apply(own, x, train=True, mask=batch.mask, mutable=["batch_stats"])[0]

        x = batch.views[..., None] / 4
        judged = [train("discriminator", each) for each in (x, train("generator", x)[0])]
        return *step(learner, batch, key), judged

    compiled = jax.jit(both)
    return lambda *arguments: jax.device_get(compiled(*arguments))


@functools.cache
def losses_and_outputs(**settings):
    """A compiled function of a learner, a batch and its scaled views.

    Returns:
        The loss; (reconstruction, latents), (logits, features of x), (those of the former).
    """
    found = detector(**settings)
    loss = found.task().loss

    def both(learner, batch, x):
        weights = variables(learner)

        def apply(name, x):
            own = {kind: weights[kind][name] for kind in ("params", "batch_stats")}
            return getattr(found, name).apply(own, x)

        made = apply("generator", x)
        outputs = made, apply("discriminator", x), apply("discriminator", made[0])
        return loss(learner, batch), outputs

    compiled = jax.jit(both)
    return lambda *arguments: jax.device_get(compiled(*arguments))


@pytest.mark.parametrize(
    ("activation", "adversarial"), [("tanh", "probability"), ("relu", "features")]
)
def test_the_loss_is_the_weighted_sum_of_the_three(activation, adversarial):
    """Float32 sums in another order: 1e-5."""
    # The statistics say that training frames lie between −4 and 4.
    x = TWICE.views[..., None] / 4 if activation == "tanh" else (TWICE.views[..., None] + 4) / 8
    both = losses_and_outputs(activation=activation, adversarial=adversarial)
    loss, made = both(first(), TWICE, x)
    (fake, latent, again), (logits, features), (fake_logits, fake_features) = made
    if adversarial == "probability":
        difference = 1 / (1 + np.exp(-logits)) - 1 / (1 + np.exp(-fake_logits))
    else:
        difference = features - fake_features
    expected = np.mean((latent - again) ** 2) + 50 * np.mean(abs(x - fake)) + np.mean(difference**2)
    np.testing.assert_allclose(loss, expected, rtol=1e-5)


def test_a_step_is_one_of_each_network_from_the_same_weights():
    """Of the discriminator's last layer the gradient by hand; float32 rounding: 1e-5."""
    learner = first()
    stepped, _, judged = compiled_step()(learner, TWICE, jax.random.key(0))
    gradient = 0
    for (logits, features), label in zip(judged, (1, 0), strict=True):
        # Of the mean cross-entropy with respect to the logits.
        residuals = (1 / (1 + np.exp(-logits)) - label) / len(logits)
        gradient += residuals @ features.reshape(len(features), -1) / 2
    rate = detector().config.train.learning_rate
    before, after = (each["params"]["discriminator"]["Dense_0"] for each in (learner, stepped))
    np.testing.assert_allclose(
        after["kernel"][:, 0], before["kernel"][:, 0] - rate * gradient, rtol=1e-5, atol=1e-7
    )
    moved = jax.tree.map(lambda a, b: (a != b).any(), learner["params"], stepped["params"])
    assert all(jax.tree.leaves(moved))


def test_steps_lower_the_reconstruction_loss():
    learner, step, losses = first(), compiled_step(), []
    for i in range(60):
        learner, loss, _ = step(learner, TWICE, jax.random.key(i))
        losses.append(float(loss))
    assert np.isfinite(losses).all() and losses[-1] < 0.8 * losses[0]


def test_rows_that_fill_a_batch_have_no_effect():
    learner, step = first(), compiled_step()
    filled = batch_of(np.concatenate([VIEWS, 100 * VIEWS]))
    filled = filled._replace(mask=np.arange(6) < 3)
    alone = step(learner, TWICE, jax.random.key(0))[:2]
    padded = step(learner, filled, jax.random.key(0))[:2]
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6), alone, padded)


def test_a_clip_is_the_mean_of_its_whole_pieces():
    clip = np.random.default_rng(1).uniform(-4, 4, (64, 8)).astype(np.float32)
    pieces = np.resize(clip[:32].reshape(2, 16, 8), TWICE.views.shape)
    _, made = losses_and_outputs(activation="tanh", adversarial="probability")(
        first(), TWICE, pieces[..., None] / 4
    )
    _, latent, again = made[0]
    shortened = ClipInput(clip, np.int32(40))  # the third piece is cut short
    score = jax.jit(detector().score)(variables(first()), {}, shortened)
    np.testing.assert_allclose(score, np.mean((latent - again)[:2] ** 2), rtol=1e-5)


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
    clips = [rng.normal(size=(n, 8)).astype(np.float32) for n in (4, 9, 20)]
    with trained_before(jax.tree.map(lambda leaf: leaf[None], variables(first()))):
        fitted = asd_jax.fit(config, clips)
    filled = [np.resize(clip, (max(len(clip), 16), 8)) for clip in clips]
    np.testing.assert_array_equal(fitted.score_features(clips), fitted.score_features(filled))
    with pytest.raises(UserError, match="has 3 frames; this system needs 4 or more"):
        fitted.score_features([clips[0][:3]])
