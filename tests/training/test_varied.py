"""A step with settings as arrays is the step with these settings."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from asd_jax.config import load_config
from asd_jax.config.variants import value_of
from asd_jax.detectors import make_detector
from asd_jax.runs import together
from asd_jax.training import Batch, TrainingStatistics

# Other than any default, and than one another.
VALUES = [0.3, 0.02]
SMALL = {"front_end.n_mels": "16"}
SYSTEMS = {
    "dense_ae": SMALL | {"detector.hidden": "8,"},
    "interpolation_ae": SMALL,
    "lstm_ae": SMALL | {"detector.encoder": "4,2"},
    "outlier_exposure_ae": SMALL | {"detector.hidden": "8,"},
    "group_made": SMALL,
    "ganomaly": SMALL | {"detector.width": "2", "detector.frames": "16"},
    "mobilenet_v2_id": {},
    "multibranch": {"detector.seconds": "1"},
    "tastgram_mfn": {"detector.seconds": "1"},
    "iaeo3": {},
}
QUICK = ("dense_ae", "outlier_exposure_ae")


def stepped(task, batch, settings=None):
    """Loss and weights after two steps."""
    mels = batch.views.shape[-1]
    band = jnp.linspace(-1, 1, mels)
    statistics = TrainingStatistics(band, 1 + band**2, band - 3, band + 3)
    learner = task.init(jax.random.key(1), statistics)
    if settings:
        learner = {**learner, "settings": {k: jnp.float32(v) for k, v in settings.items()}}
    step = jax.jit(task.step)
    for number in range(2):
        learner, loss = step(learner, batch, jax.random.key(number))
    return jax.device_get((loss, learner["params"]))


@pytest.mark.parametrize(
    "name",
    [pytest.param(n, marks=[] if n in QUICK else pytest.mark.slow) for n in SYSTEMS],
)
def test_all_numbers_that_vary(name):
    """Rounding may differ where XLA folds a constant: a few units of the last place of float32."""
    config = load_config(name, SYSTEMS[name])
    detector = make_detector(config)
    length, width = detector.views.length, detector.front_end.width
    views = np.random.default_rng(0).normal(size=(6, length, width)).astype(np.float32)
    labels = np.array([0, 1, 0, 1, 0, 1], np.int32)
    batch = Batch(views, labels, np.ones(6, bool), np.int32(1))
    varied = together.task_of_variants(detector, 2)
    keys = together.varied_keys(config)
    assert "train.learning_rate" in keys
    plain = {key: float(value_of(config, key)) for key in keys}
    found = []
    for value in VALUES:
        settings = dict.fromkeys(keys, value)
        other = config
        for key in keys:
            group, _, field = key.partition(".")
            inner = dataclasses.replace(getattr(other, group), **{field: value})
            other = dataclasses.replace(other, **{group: inner})
        expected = stepped(make_detector(other).task(2), batch)
        found.append(stepped(varied, batch, settings))
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6),
            found[-1],
            expected,
        )
    leaves = [np.concatenate([np.ravel(x) for x in jax.tree.leaves(p)]) for _, p in found]
    assert not np.allclose(*leaves), "settings have an effect"
    assert set(plain) == set(keys)


def test_what_decides_in_python_cannot_vary():
    config = load_config("dense_ae", SYSTEMS["dense_ae"])
    detector = make_detector(config)

    class Deciding(type(detector)):
        def task(self, n_labels=1):
            if self.config.train.learning_rate > 1:
                raise ValueError("too large")
            return super().task(n_labels)

    shape = jax.ShapeDtypeStruct
    views = (64, detector.views.length, detector.front_end.width)
    batch = Batch(shape(views, np.float32), shape((64,), np.int32), shape((64,), bool))
    key = jax.eval_shape(lambda: jax.random.key(0))
    for system, possible in ((detector, True), (Deciding(config), False)):
        task = together.task_of_variants(system, 1)
        assert together.can_vary(task, together.varied_keys(config), batch, key) == possible
