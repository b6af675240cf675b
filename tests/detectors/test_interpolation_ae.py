"""The interpolation autoencoder as a system: what its errors are of."""

import jax
import numpy as np
import pytest
from tasks import drawn, standard

from asd_jax.config import load_config
from asd_jax.detectors import make_detector
from asd_jax.errors import UserError
from asd_jax.features.table import ClipInput
from asd_jax.training import variables

SMALL = {"front_end.n_mels": "6", "detector.encoder": "8,4"}


@pytest.fixture(scope="module")
def detector():
    return make_detector(load_config("interpolation_ae", SMALL))


@pytest.fixture(scope="module")
def weights(detector):
    return variables(drawn(detector.task(), standard(6)))


def test_an_error_is_of_the_middle_frame_given_the_others(detector, weights):
    """Against a plain loop over the frames; to 1e-6 relative, the sums being the same."""
    clip = np.random.default_rng(0).normal(size=(12, 6)).astype(np.float32)
    errors, mask = jax.jit(detector.frame_errors)(weights, ClipInput(clip, np.int32(10)))
    apply = jax.jit(detector.module.apply)
    assert mask.tolist() == [True] * 6 + [False] * 2
    for i in range(6):
        neighbours = clip[[i, i + 1, i + 3, i + 4]][None]
        predicted = np.asarray(apply(weights, neighbours))[0]
        np.testing.assert_allclose(errors[i], np.mean((predicted - clip[i + 2]) ** 2), rtol=1e-5)


def test_the_target_does_not_reach_the_prediction(detector, weights):
    views = np.random.default_rng(1).normal(size=(1, 5, 6)).astype(np.float32)
    gradient = jax.jit(jax.grad(lambda v: detector._errors(weights, v)[0]))(views)
    gradient = np.asarray(gradient)[0, 2]
    predicted = jax.jit(detector.module.apply)(weights, np.delete(views, 2, axis=1))
    predicted = np.asarray(predicted)[0]
    np.testing.assert_allclose(gradient, 2 * (views[0, 2] - predicted) / 6, rtol=1e-5)


def test_pooling_and_features(weights):
    clip = np.random.default_rng(2).normal(size=(12, 6)).astype(np.float32)
    whole = ClipInput(clip, 12)
    made = {
        pooling: make_detector(
            load_config("interpolation_ae", {**SMALL, "detector.pooling": pooling})
        )
        for pooling in ("mean", "max")
    }

    @jax.jit
    def compute(weights, clip):
        scores = {how: each.score(weights, {}, clip) for how, each in made.items()}
        found = made["mean"]
        return scores, found.frame_errors(weights, clip)

    scores, (errors, mask) = jax.device_get(compute(weights, whole))
    assert mask.all()
    np.testing.assert_allclose(scores["mean"], errors.mean(), rtol=1e-6)
    np.testing.assert_allclose(scores["max"], errors.max(), rtol=1e-6)


@pytest.mark.parametrize(("key", "text"), [("frames", "4"), ("frames", "1"), ("encoder", "")])
def test_settings_that_make_no_sense(key, text):
    with pytest.raises(UserError, match=f"detector.{key}"):
        load_config("interpolation_ae", {f"detector.{key}": text})
