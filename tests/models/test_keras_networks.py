"""MobileNetV2 and ResNet-50 against Keras's, with the same values, none an initial one."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from keras_models import assign, call, layers_of, no_initial_values, reference, values_of
from rounding import allowed, assert_close

from asd_jax.models import MobileNetV2, ResNet50
from asd_jax.models.pretrained.imported import from_keras

SIZES = [(64, 128), (128, 64), (224, 224), (320, 320)]
CLASSES = 4


def count(tree):
    return sum(np.prod(leaf.shape, dtype=int) for leaf in jax.tree.leaves(tree))


def shapes(module, channels=3, size=(64, 128)):
    image = jax.ShapeDtypeStruct((1, *size, channels), jnp.float32)
    return jax.eval_shape(module.init, jax.random.key(0), image)


def keras_network(keras, width, size, classes=CLASSES):
    """MobileNetV2 of a width, ResNet-50 where that is None."""
    settings = {"weights": None, "classes": classes, "classifier_activation": None}
    with no_initial_values(keras):
        if width is None:
            return keras.applications.ResNet50(input_shape=(*size, 3), **settings)
        return keras.applications.MobileNetV2((*size, 3), alpha=width, **settings)


def shorter(keras, width, size):
    """A Keras network that ends after its first blocks, with last layers as Keras has them."""
    layers = keras.layers
    if width is None:
        resnet = pytest.importorskip("keras.src.applications.resnet")

        def blocks(x):
            x = resnet.stack_residual_blocks_v1(x, 64, 2, stride1=1, name="conv2")
            return resnet.stack_residual_blocks_v1(x, 128, 1, name="conv3")

        settings = {"weights": None, "classes": CLASSES, "classifier_activation": None}
        return resnet.ResNet(blocks, False, True, input_shape=(*size, 3), **settings)
    model = keras_network(keras, width, size)
    x = layers.Conv2D(1280, 1, use_bias=False, name="Conv_1")(model.get_layer("block_2_add").output)
    x = layers.BatchNormalization(epsilon=1e-3, momentum=0.999, name="Conv_1_bn")(x)
    x = layers.GlobalAveragePooling2D()(layers.ReLU(6.0)(x))
    return keras.Model(model.input, layers.Dense(CLASSES, name="predictions")(x))


def our_network(width, classes=CLASSES):
    return ResNet50(classes) if width is None else MobileNetV2(width, classes)


def randomise(model, seed=0):
    """Kernels that keep the scale of what passes them; offsets and statistics of order 1.

    The last normalisation of a block of ResNet-50 scales by less, so that what sixteen blocks
    add up to stays of order 1 too.
    """
    rng = np.random.default_rng(seed)
    for layer in model.layers:
        values = []
        for weight in layer.weights:
            shape = weight.shape
            if len(shape) > 1:
                fan = shape[0] * shape[1] if "depthwise" in layer.name else np.prod(shape[:-1])
                values.append(rng.normal(0, np.sqrt(2 / fan), shape))
            elif weight.name in ("gamma", "moving_variance"):
                scale = 0.3 if weight.name == "gamma" and layer.name.endswith("_3_bn") else 1
                values.append(scale * rng.uniform(0.5, 1.5, shape))
            else:
                values.append(rng.normal(0, 0.3, shape))
        layer.set_weights([value.astype(np.float32) for value in values])


def compare(keras, model, module, size, modes, seed=0):
    """Logits and running statistics, to 1e-4 of values of order 1.

    Float32 sums in another order differ by 1e-6, which fifty layers may make grow; normalising
    by a batch of which the last layers see some ten pixels makes it grow more.
    """
    randomise(model, seed)
    variables = from_keras(module, layers_of(model))
    x = np.random.default_rng(seed + 1).normal(size=(4, *size, 3)).astype(np.float32)
    for train in modes:
        expected, moved = call(model, x, training=train)
        apply = jax.jit(functools.partial(module.apply, train=train, mutable=["batch_stats"]))
        found, updates = apply(variables, x)
        assert np.std(expected) > 0.1
        np.testing.assert_allclose(found, expected, atol=1e-4, rtol=1e-4)
        assign(model.non_trainable_variables, moved)
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


@pytest.mark.parametrize(
    ("module", "expected"),
    [
        (MobileNetV2(0.5), 706_224),
        (MobileNetV2(1.0, classes=2), 2_260_546),
        (ResNet50(4), 23_595_908),
    ],
)
def test_it_has_keras_s_values(module, expected):
    """Counted in Keras's models, running statistics included."""
    assert count(shapes(module)) == expected


NETWORKS = pytest.mark.parametrize("width", [0.5, None], ids=["MobileNetV2", "ResNet-50"])


@NETWORKS
def test_first_blocks_and_their_running_statistics_equal_keras(keras, width):
    """Blocks with a stride and without, and those that add to their input, of each network."""
    with no_initial_values(keras):
        model = shorter(keras, width, (64, 128))
    if width is None:
        module = ResNet50(CLASSES, stages=((64, 2, 1), (128, 1, 2)))
    else:
        module = MobileNetV2(width, CLASSES, stages=((16, 1, 1), (24, 2, 2)))
    compare(keras, model, module, (64, 128), (True,))


@NETWORKS
@pytest.mark.parametrize("size", [pytest.param((64, 128), marks=pytest.mark.slow), (75, 90)])
def test_every_layer_has_keras_s_shape(keras, width, size):
    """So of all layers of the whole networks; strides and paddings show in the images' sizes."""
    model, module = keras_network(keras, width, size), our_network(width)
    image = jax.ShapeDtypeStruct((1, *size, 3), jnp.float32)
    variables = jax.eval_shape(module.init, jax.random.key(0), image)
    apply = functools.partial(module.apply, capture_intermediates=True, mutable="intermediates")
    _, seen = jax.eval_shape(apply, variables, image)
    seen = {
        name: layer["__call__"][0].shape[1:]
        for name, layer in seen["intermediates"].items()
        if name != "__call__"
    }
    expected = {layer.name: layer.output.shape[1:] for layer in model.layers if layer.weights}
    assert seen == expected


@pytest.mark.slow
@pytest.mark.parametrize("width", [0.5, 1.0, None])
@pytest.mark.parametrize("size", SIZES)
def test_every_size_and_width_equals_keras(keras, width, size):
    model = keras_network(keras, width, size)
    compare(keras, model, our_network(width), size, (False, True), seed=2)


@pytest.mark.slow
@pytest.mark.parametrize("width", [0.35, 0.75, 1.3, 1.4])
def test_every_width_has_keras_s_shapes(keras, width):
    model = keras_network(keras, width, (96, 96), classes=2)
    made = from_keras(our_network(width, 2), layers_of(model))
    assert count(made) == model.count_params()


@pytest.mark.slow
@pytest.mark.parametrize("width", [0.5, None], ids=["MobileNetV2", "ResNet-50"])
def test_gradients_equal_keras(keras, width):
    """All of a loss in training mode, as one vector, to 2e-2 of its length.

    Rounding the weights anew, by 1e-7, already moves it by 5e-3, in either program.
    """
    model = keras_network(keras, width, (64, 128))
    randomise(model)
    module = our_network(width)
    variables = from_keras(module, layers_of(model))
    x = np.random.default_rng(1).normal(size=(16, 64, 128, 3)).astype(np.float32)
    trainable, fixed = values_of(model)

    def ours(params):
        options = {"train": True, "mutable": ["batch_stats"]}
        return jnp.mean(module.apply({**variables, "params": params}, x, **options)[0] ** 2)

    def keras_s(trainable):
        return jnp.mean(model.stateless_call(trainable, fixed, x, training=True)[0] ** 2)

    found = jax.jit(jax.grad(ours))(variables["params"])
    assign(model.trainable_variables, reference(jax.grad(keras_s))(trainable))
    expected = from_keras(module, layers_of(model))["params"]
    assert jax.tree.structure(found) == jax.tree.structure(expected)
    found, expected = (
        np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(tree)])
        for tree in (found, expected)
    )
    assert np.linalg.norm(found - expected) < 2e-2 * np.linalg.norm(expected)


@pytest.mark.parametrize(
    ("module", "size", "channels", "features"),
    [
        (MobileNetV2(0.5), (63, 129), 1, 1280),
        (MobileNetV2(0.5), (1, 5), 3, 1280),
        (ResNet50(), (63, 129), 1, 2048),
        (ResNet50(), (7, 9), 2, 2048),
    ],
)
def test_images_of_any_size_and_number_of_channels(module, size, channels, features):
    image = jax.ShapeDtypeStruct((2, *size, channels), jnp.float32)
    output, _ = jax.eval_shape(module.init_with_output, jax.random.key(0), image)
    assert output.shape == (2, features)


def drawn(module, x):
    """Variables of a network: kernels that keep the scale of what passes them."""
    rng = np.random.default_rng(1)

    def draw(leaf):
        if leaf.ndim > 1:
            return rng.normal(0, np.prod(leaf.shape[:-1]) ** -0.5, leaf.shape).astype(np.float32)
        return rng.uniform(0.5, 1.5, leaf.shape).astype(np.float32)

    return jax.tree.map(draw, jax.eval_shape(module.init, jax.random.key(0), x))


def test_features_are_the_mean_of_the_last_layer():
    """Logits are linear in what the network gives without classes; to 1e-5."""
    x = np.random.default_rng(0).normal(size=(2, 32, 48, 1)).astype(np.float32)
    stages = MobileNetV2.stages[:1]
    options = {"train": True, "mutable": ["batch_stats"]}
    with_classes, without = MobileNetV2(0.5, 3, stages=stages), MobileNetV2(0.5, stages=stages)
    variables = drawn(with_classes, x)
    head = variables["params"]["predictions"]
    network = {name: v for name, v in variables["params"].items() if name != "predictions"}

    @jax.jit
    def both(variables, network):
        logits, _ = with_classes.apply(variables, x, **options)
        features, _ = without.apply({**variables, "params": network}, x, **options)
        return features, logits

    features, logits = both(variables, network)
    features = np.asarray(features)
    assert features.shape == (2, 1280) and features.std() > 0.01
    np.testing.assert_allclose(features @ head["kernel"] + head["bias"], logits, atol=1e-5)


SMALL = {
    "MobileNetV2": MobileNetV2(0.5, 3, stages=MobileNetV2.stages[:1]),
    "ResNet-50": ResNet50(3, stages=((8, 1, 2),)),
}


@pytest.mark.parametrize("name", SMALL)
def test_masked_rows_have_no_effect(name):
    """Whatever they hold, the others and the running statistics stay the same."""
    module = SMALL[name]
    x = np.random.default_rng(3).normal(size=(6, 32, 32, 3)).astype(np.float32)
    variables, mask = drawn(module, x), np.arange(6) < 4
    run = jax.jit(functools.partial(module.apply, train=True, mask=mask, mutable=["batch_stats"]))
    one, other = (run(variables, np.where(mask[:, None, None, None], x, k * x)) for k in (1, 1e3))
    np.testing.assert_array_equal(one[0][:4], other[0][:4])
    jax.tree.map(np.testing.assert_array_equal, one[1], other[1])


@pytest.mark.slow
@pytest.mark.parametrize(
    "module",
    [MobileNetV2(0.5, 2, stages=MobileNetV2.stages[:2]), ResNet50(2, stages=((8, 2, 1),))],
    ids=SMALL,
)
def test_gradients_do_not_depend_on_the_backend_s_means(module, monkeypatch):
    """All of a loss in training mode, to what rounding makes of them."""
    x = np.random.default_rng(4).normal(size=(4, 32, 48, 3)).astype(np.float32)
    variables = jax.jit(module.init)(jax.random.key(0), x)

    def loss(params, x):
        options = {"train": True, "mutable": ["batch_stats"]}
        logits, _ = module.apply({**variables, "params": params}, x, **options)
        return -jnp.mean(jax.nn.log_softmax(logits)[jnp.arange(4), jnp.arange(4) % 2])

    ours = jax.jit(jax.grad(loss))
    expected = ours(variables["params"], x)
    tolerances = allowed(ours, variables["params"], x)
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    jax.clear_caches()  # or the program of before would serve
    assert_close(jax.jit(jax.grad(loss))(variables["params"], x), expected, tolerances)
