"""MobileNetV2 against Keras's, with the same values, none of which is an initial one."""

import functools
import os

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from asd_jax.models import MobileNetV2
from asd_jax.models.pretrained.imported import from_keras

SIZES = [(64, 128), (128, 64), (224, 224), (320, 320)]


@pytest.fixture(scope="module")
def keras():
    os.environ["KERAS_BACKEND"] = "jax"
    return pytest.importorskip("keras")


def count(tree):
    return sum(np.prod(leaf.shape, dtype=int) for leaf in jax.tree.leaves(tree))


def shapes(module, channels=3, size=(64, 128)):
    image = jax.ShapeDtypeStruct((1, *size, channels), jnp.float32)
    return jax.eval_shape(module.init, jax.random.key(0), image)


def randomise(model, seed=0):
    """Kernels that keep the scale of what passes them; offsets and statistics of order 1."""
    rng = np.random.default_rng(seed)
    for layer in model.layers:
        values = []
        for weight in layer.weights:
            shape = weight.shape
            if len(shape) > 1:
                fan = shape[0] * shape[1] if "depthwise" in layer.name else np.prod(shape[:-1])
                values.append(rng.normal(0, np.sqrt(2 / fan), shape))
            elif weight.name in ("gamma", "moving_variance"):
                values.append(rng.uniform(0.5, 1.5, shape))
            else:
                values.append(rng.normal(0, 0.3, shape))
        layer.set_weights(values)


def layers_of(model):
    return {layer.name: layer.get_weights() for layer in model.layers}


def compare(keras, width, size, modes, classes=4, seed=0):
    """Logits and running statistics, to 1e-4 of values of order 1.

    Float32 sums in another order differ by 1e-6, which fifty layers may make grow; normalising
    by a batch of which the last layers see some ten pixels makes it grow more.
    """
    model = keras.applications.MobileNetV2(
        (*size, 3), alpha=width, weights=None, classes=classes, classifier_activation=None
    )
    randomise(model, seed)
    module = MobileNetV2(width, classes)
    variables = from_keras(module, layers_of(model))
    x = np.random.default_rng(seed + 1).normal(size=(4, *size, 3)).astype(np.float32)
    kinds = (model.trainable_variables, model.non_trainable_variables)
    values = [[variable.value for variable in kind] for kind in kinds]
    for train in modes:
        call = jax.jit(functools.partial(model.stateless_call, training=train))
        expected, moved = call(*values, x)
        apply = jax.jit(functools.partial(module.apply, train=train, mutable=["batch_stats"]))
        found, updates = apply(variables, x)
        assert np.std(expected) > 0.1
        np.testing.assert_allclose(found, expected, atol=1e-4, rtol=1e-4)
        for variable, value in zip(model.non_trainable_variables, moved, strict=True):
            variable.assign(value)
        moved = from_keras(module, layers_of(model))
        changed = jax.tree.map(
            lambda a, b: float(np.abs(a - b).max()),
            moved["batch_stats"],
            variables["batch_stats"],
        )
        assert (min(jax.tree.leaves(changed)) > 0) == train
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, atol=1e-4, rtol=1e-4),
            updates["batch_stats"],
            moved["batch_stats"],
        )


def test_it_has_keras_s_values():
    """Counted in Keras's models, running statistics included."""
    assert count(shapes(MobileNetV2(0.5))) == 706_224
    assert count(shapes(MobileNetV2(0.5, classes=4))) == 711_348
    assert count(shapes(MobileNetV2(1.0, classes=2))) == 2_260_546


def test_output_and_running_statistics_equal_keras(keras):
    compare(keras, 0.5, (64, 128), (True,))


@pytest.mark.slow
@pytest.mark.parametrize("width", [0.5, 1.0])
@pytest.mark.parametrize("size", SIZES)
def test_every_size_and_width_equals_keras(keras, width, size):
    compare(keras, width, size, (False, True), seed=2)


@pytest.mark.slow
@pytest.mark.parametrize("width", [0.35, 0.75, 1.3, 1.4])
def test_every_width_has_keras_s_shapes(keras, width):
    model = keras.applications.MobileNetV2((96, 96, 3), alpha=width, weights=None, classes=2)
    made = from_keras(MobileNetV2(width, 2), layers_of(model))
    assert count(made) == model.count_params()


def test_features_are_the_mean_of_the_last_layer():
    """Logits are linear in what the network gives without classes; to 1e-5."""
    x = jax.random.normal(jax.random.key(0), (2, 32, 48, 1))
    stages = MobileNetV2.stages[:1]
    options = {"train": True, "mutable": ["batch_stats"]}
    with_classes = MobileNetV2(0.5, 3, stages=stages)
    variables = jax.jit(with_classes.init)(jax.random.key(1), x)
    head = variables["params"]["predictions"]
    network = {name: v for name, v in variables["params"].items() if name != "predictions"}
    logits, _ = jax.jit(functools.partial(with_classes.apply, **options))(variables, x)
    without = jax.jit(functools.partial(MobileNetV2(0.5, stages=stages).apply, **options))
    features, _ = without({**variables, "params": network}, x)
    assert features.shape == (2, 1280) and features.std() > 0.01
    np.testing.assert_allclose(features @ head["kernel"] + head["bias"], logits, atol=1e-5)


@pytest.mark.parametrize(("size", "channels"), [((63, 129), 1), ((32, 32), 2), ((1, 5), 3)])
def test_images_of_any_size_and_number_of_channels(size, channels):
    module = MobileNetV2(0.5)
    variables = shapes(module, channels, size)
    image = jax.ShapeDtypeStruct((2, *size, channels), jnp.float32)
    assert jax.eval_shape(module.apply, variables, image).shape == (2, 1280)


@pytest.mark.slow
def test_gradients_equal_keras(keras):
    """All of a loss in training mode, as one vector, to 2e-2 of its length.

    Rounding the weights anew, by 1e-7, already moves it by 5e-3, in either program.
    """
    model = keras.applications.MobileNetV2(
        input_shape=(64, 128, 3), weights=None, classes=4, classifier_activation=None, alpha=0.5
    )
    randomise(model)
    module = MobileNetV2(0.5, 4)
    variables = from_keras(module, layers_of(model))
    x = np.random.default_rng(1).normal(size=(16, 64, 128, 3)).astype(np.float32)
    trainable, fixed = (
        [variable.value for variable in kind]
        for kind in (model.trainable_variables, model.non_trainable_variables)
    )

    def ours(params):
        options = {"train": True, "mutable": ["batch_stats"]}
        return jnp.mean(module.apply({**variables, "params": params}, x, **options)[0] ** 2)

    def keras_s(trainable):
        return jnp.mean(model.stateless_call(trainable, fixed, x, training=True)[0] ** 2)

    found = jax.jit(jax.grad(ours))(variables["params"])
    expected = jax.jit(jax.grad(keras_s))(trainable)
    for variable, value in zip(model.trainable_variables, expected, strict=True):
        variable.assign(value)
    expected = from_keras(module, layers_of(model))["params"]
    assert jax.tree.structure(found) == jax.tree.structure(expected)
    found, expected = (
        np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(tree)])
        for tree in (found, expected)
    )
    assert np.linalg.norm(found - expected) < 2e-2 * np.linalg.norm(expected)


def test_masked_rows_have_no_effect():
    """A short batch, filled up, equals the short batch alone; to 1e-4 as above."""
    module = MobileNetV2(0.5, 3, stages=MobileNetV2.stages[:1])
    x = np.random.default_rng(3).normal(size=(6, 32, 32, 3)).astype(np.float32)
    variables = jax.jit(module.init)(jax.random.key(0), x)
    apply = jax.jit(functools.partial(module.apply, train=True, mutable=["batch_stats"]))
    garbage = np.concatenate([x[:4], 1e3 * x[4:]])
    alone = apply(variables, x[:4])
    padded = apply(variables, garbage, mask=jnp.arange(6) < 4)
    np.testing.assert_allclose(padded[0][:4], alone[0], atol=1e-4, rtol=1e-4)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, atol=1e-4, rtol=1e-4), padded[1], alone[1]
    )


def test_gradients_do_not_depend_on_the_backend_s_means(monkeypatch):
    """All of a loss in training mode, to 1e-4 of the largest of each array."""
    module = MobileNetV2(0.5, 2, stages=MobileNetV2.stages[:2])
    x = np.random.default_rng(4).normal(size=(4, 32, 48, 3)).astype(np.float32)
    variables = jax.jit(module.init)(jax.random.key(0), x)

    def gradients():
        def loss(params):
            options = {"train": True, "mutable": ["batch_stats"]}
            logits, _ = module.apply({**variables, "params": params}, x, **options)
            return -jnp.mean(jax.nn.log_softmax(logits)[jnp.arange(4), jnp.arange(4) % 2])

        return jax.jit(jax.grad(loss))(variables["params"])

    ours = gradients()
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, atol=1e-4 * np.abs(b).max() + 1e-7),
        ours,
        gradients(),
    )
