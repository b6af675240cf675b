"""The interpolation autoencoder as a system: what its errors are of."""

import jax
import numpy as np
import pytest
from tasks import start

from asd_jax.config import load_config
from asd_jax.detectors import make_detector
from asd_jax.errors import UserError
from asd_jax.features.table import ClipInput
from asd_jax.training import variables


@pytest.fixture(scope="module")
def detector():
    return make_detector(load_config("interpolation_ae", {"front_end.n_mels": "6"}))


@pytest.fixture(scope="module")
def weights(detector):
    return variables(start(detector.task(), n_mels=6))


def test_an_error_is_of_the_middle_frame_given_the_others(detector, weights):
    """Against a plain loop over the frames; to 1e-6 relative, the sums being the same."""
    clip = np.random.default_rng(0).normal(size=(12, 6)).astype(np.float32)
    errors, mask = jax.jit(detector.frame_errors)(weights, ClipInput(clip, 10))
    apply = jax.jit(detector.module.apply)
    assert mask.tolist() == [True] * 6 + [False] * 2
    for i in range(6):
        neighbours = clip[[i, i + 1, i + 3, i + 4]][None]
        predicted = np.asarray(apply(weights, neighbours))[0]
        np.testing.assert_allclose(errors[i], np.mean((predicted - clip[i + 2]) ** 2), rtol=1e-5)


def test_the_target_does_not_reach_the_prediction(detector, weights):
    views = np.random.default_rng(1).normal(size=(1, 5, 6)).astype(np.float32)
    gradient = jax.jit(jax.grad(lambda v: detector._errors(weights, v)[0]))(views)[0, 2]
    predicted = jax.jit(detector.module.apply)(weights, np.delete(views, 2, axis=1))[0]
    np.testing.assert_allclose(gradient, 2 * (views[0, 2] - predicted) / 6, rtol=1e-5)


def test_pooling_and_features(weights):
    clip = np.random.default_rng(2).normal(size=(12, 6)).astype(np.float32)
    whole = ClipInput(clip, 12)
    made = {
        pooling: make_detector(
            load_config("interpolation_ae", {"front_end.n_mels": "6", "detector.pooling": pooling})
        )
        for pooling in ("mean", "max")
    }
    errors, mask = jax.jit(made["mean"].frame_errors)(weights, whole)
    assert mask.all()
    scores = {how: jax.jit(each.score)(weights, {}, whole) for how, each in made.items()}
    np.testing.assert_allclose(scores["mean"], errors.mean(), rtol=1e-6)
    np.testing.assert_allclose(scores["max"], errors.max(), rtol=1e-6)
    features = np.asarray(jax.jit(made["mean"].error_statistics)(weights, whole))
    np.testing.assert_allclose(features[[0, 3]], [errors.mean(), errors.max()], rtol=1e-6)


@pytest.mark.parametrize(("key", "text"), [("frames", "4"), ("frames", "1"), ("encoder", "")])
def test_settings_that_make_no_sense(key, text):
    with pytest.raises(UserError, match=f"detector.{key}"):
        load_config("interpolation_ae", {f"detector.{key}": text})
