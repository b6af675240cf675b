"""The dense autoencoder against Keras, which the challenge's baseline is written in."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from keras_models import assign, call, no_initial_values
from tasks import batch_of, start

from asd_jax.config import load_config
from asd_jax.detectors import make_detector
from asd_jax.models import DenseAutoencoder
from asd_jax.training.task import count_values

WIDTHS = (128, 128, 128, 128, 8, 128, 128, 128, 128)


def keras_model(keras, widths=WIDTHS):
    layers = [keras.Input((640,))]
    for width in widths:
        layers += [
            keras.layers.Dense(width),
            keras.layers.BatchNormalization(),
            keras.layers.Activation("relu"),
        ]
    with no_initial_values(keras):
        return keras.Sequential([*layers, keras.layers.Dense(640)])


def to_keras(variables, model):
    """Gives a Keras model the values of ours."""
    params, stats = variables["params"], variables["batch_stats"]
    dense = batch_norm = 0
    for layer in model.layers:
        if layer.name.startswith("dense"):
            p = params[f"Dense_{dense}"]
            layer.set_weights([np.asarray(p["kernel"]), np.asarray(p["bias"])])
            dense += 1
        elif layer.name.startswith("batch_norm"):
            p, s = params[f"BatchNorm_{batch_norm}"], stats[f"BatchNorm_{batch_norm}"]
            layer.set_weights([np.asarray(v) for v in (p["scale"], p["bias"], s["mean"], s["var"])])
            batch_norm += 1


def some_variables(module, inputs=640):
    """Kernels that keep the scale of what passes them; the others of order 1, none an initial."""
    variables = jax.eval_shape(module.init, jax.random.key(0), jnp.zeros((1, inputs)))
    rng = np.random.default_rng(0)

    def drawn(leaf):
        if leaf.ndim > 1:
            return rng.normal(0, np.sqrt(2 / leaf.shape[0]), leaf.shape).astype(np.float32)
        return rng.uniform(0.5, 1.5, leaf.shape).astype(np.float32)

    return jax.tree.map(drawn, variables)


def apply(module, variables, x, train, **options):
    """Output and running statistics."""
    options = {"train": train, "mutable": ["batch_stats"], **options}
    return jax.jit(functools.partial(module.apply, **options))(variables, x)


def test_it_has_the_baseline_s_269992_values():
    variables = jax.eval_shape(DenseAutoencoder().init, jax.random.key(0), jnp.zeros((1, 640)))
    assert sum(leaf.size for leaf in jax.tree.leaves(variables)) == 269_992
    assert count_values(make_detector(load_config("dense_ae")).task(), 128) == 269_992
    widths = [variables["params"][f"Dense_{i}"]["kernel"].shape[1] for i in range(10)]
    assert widths == [*WIDTHS, 640]


def test_outputs_equal_keras(keras):
    """In evaluation and in training; to 1e-4 of values of order 1, float32 in another order."""
    variables, model = some_variables(DenseAutoencoder()), keras_model(keras)
    to_keras(variables, model)
    assert model.count_params() == 269_992
    x = np.random.default_rng(1).normal(size=(64, 640)).astype(np.float32)
    for train in (False, True):
        expected, moved = call(model, x, training=train)
        ours, updates = apply(DenseAutoencoder(), variables, x, train=train)
        np.testing.assert_allclose(ours, expected, atol=1e-4, rtol=1e-4)
    assign(model.non_trainable_variables, moved)
    means = [layer.get_weights()[2:] for layer in model.layers if "batch_norm" in layer.name]
    for i, (mean, variance) in enumerate(means):
        stats = updates["batch_stats"][f"BatchNorm_{i}"]
        np.testing.assert_allclose(stats["mean"], mean, atol=1e-5)
        np.testing.assert_allclose(stats["var"], variance, atol=1e-5, rtol=1e-5)


def test_training_steps_equal_keras(keras):
    """Ten of our steps, of three layers, against `train_on_batch`: losses to 1e-3 of their values.

    Losses only: the gradient of a bias before batch normalisation is zero up to rounding, and
    Adam makes full steps of its sign, which differ without any effect on the loss.
    """
    small = {"detector.hidden": "32,", "detector.latent": "8"}
    task = make_detector(load_config("dense_ae", small)).task()
    learner = start(task, seed=3)
    model = keras_model(keras, (32, 8, 32))
    to_keras({"params": learner["params"], **learner["model_state"]}, model)
    model.compile(optimizer=keras.optimizers.Adam(1e-3), loss="mse")
    rng = np.random.default_rng(2)
    data = rng.normal(-30, 10, (10, 32, 5, 128)).astype(np.float32)
    step = jax.jit(task.step)
    for views in data:
        learner, loss = step(learner, batch_of(views), jax.random.key(0))
        flat = views.reshape(32, 640)
        expected = model.train_on_batch(flat, flat)
        np.testing.assert_allclose(loss, expected, rtol=1e-3)


def test_biases_before_a_normalisation_stay_as_they_are():
    """Their gradients would be rounding, which other sums give another sign."""
    task = make_detector(load_config("dense_ae", {"detector.hidden": "8,"})).task()
    before = start(task, seed=3)
    views = np.random.default_rng(0).normal(-30, 10, (32, 5, 128)).astype(np.float32)
    after, _ = jax.jit(task.step)(before, batch_of(views), jax.random.key(0))
    changed = jax.tree.map(lambda a, b: bool((a != b).all()), before["params"], after["params"])
    biases = [changed[f"Dense_{i}"]["bias"] for i in range(4)]
    assert biases == [False, False, False, True]
    assert all(changed[f"Dense_{i}"]["kernel"] for i in (0, 3))


def test_masked_rows_have_no_effect():
    """Whatever they hold, the others and what is learned stay the same."""
    module = DenseAutoencoder((12,), 4)
    variables = some_variables(module, 20)
    x = np.random.default_rng(3).normal(size=(16, 20)).astype(np.float32)
    mask = np.arange(16) < 10
    run = jax.jit(functools.partial(module.apply, train=True, mask=mask, mutable=["batch_stats"]))
    one, other = (run(variables, np.where(mask[:, None], x, k * x)) for k in (1, 1e3))
    np.testing.assert_array_equal(one[0][:10], other[0][:10])
    jax.tree.map(np.testing.assert_array_equal, one[1], other[1])
