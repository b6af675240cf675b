"""Weights of other programs: made-up ones, and the real ones where they are at hand."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from asd_jax.errors import UserError
from asd_jax.models import MobileNetV2, ResNet50
from asd_jax.models.pretrained import imported
from asd_jax.models.pretrained.imported import (
    IMAGENET_CLASSES,
    from_keras,
    from_slim,
    load_imagenet_mobilenet,
)

# Two sequences of blocks: an unnumbered and numbered ones, with and without expansion.
SMALL = functools.partial(MobileNetV2, stages=MobileNetV2.stages[:2])


def slim_arrays(module, classes=None):
    """Arrays of a network under TF-Slim's names, each name written out from the layer's part.

    Values say which array they are of, so that no two can be exchanged.
    """
    image = jax.ShapeDtypeStruct((1, 32, 32, 3), jnp.float32)
    params = jax.eval_shape(module.init, jax.random.key(0), image)["params"]
    widths = [params[f"{name}_project"]["kernel"].shape for name in block_names(module)]
    arrays = {}

    def add(name, kernel_shape, suffix="weights"):
        channels = kernel_shape[-2] if "depthwise" in suffix else kernel_shape[-1]
        arrays[f"{name}_{suffix}"] = np.zeros(kernel_shape)
        for statistic in ("gamma", "beta", "moving_mean", "moving_variance"):
            arrays[f"{name}_BatchNorm_{statistic}"] = np.zeros(channels)

    stem = params["Conv1"]["kernel"].shape
    add("Conv", stem)
    inputs = stem[-1]
    for n, (_, _, inner, outputs) in enumerate(widths):
        block = f"expanded_conv_{n}" if n else "expanded_conv"
        if n:
            add(f"{block}_expand", (1, 1, inputs, inner))
        add(f"{block}_depthwise", (3, 3, inner, 1), "depthwise_weights")
        add(f"{block}_project", (1, 1, inner, outputs))
        inputs = outputs
    add("Conv_1", (1, 1, inputs, 1280))
    for number, (name, array) in enumerate(arrays.items()):
        ramp = np.linspace(0, 0.5, array.size).reshape(array.shape)
        arrays[name] = (number + ramp).astype(np.float32)
    if classes:
        rng = np.random.default_rng(0)
        arrays["Logits_weights_int8"] = rng.integers(-127, 128, (classes, 1280), np.int8)
        arrays["Logits_weights_scale"] = rng.uniform(1e-3, 2e-3, classes).astype(np.float32)
        arrays["Logits_Conv2d_1c_1x1_biases"] = rng.normal(size=classes).astype(np.float32)
    return arrays


def block_names(module):
    blocks = sum(n for _, n, _ in module.stages)
    return ["expanded_conv", *(f"block_{n}" for n in range(1, blocks))]


def test_slim_s_names():
    """Each array in its place, checked by hand for one layer of each kind; all of them used."""
    arrays = slim_arrays(SMALL())
    made = from_slim(SMALL(), arrays)
    params, stats = made["params"], made["batch_stats"]
    places = {
        "Conv_weights": params["Conv1"]["kernel"],
        "Conv_BatchNorm_gamma": params["bn_Conv1"]["scale"],
        "expanded_conv_project_weights": params["expanded_conv_project"]["kernel"],
        "expanded_conv_depthwise_BatchNorm_moving_mean": stats["expanded_conv_depthwise_BN"][
            "mean"
        ],
        "expanded_conv_2_expand_weights": params["block_2_expand"]["kernel"],
        "expanded_conv_2_expand_BatchNorm_moving_variance": stats["block_2_expand_BN"]["var"],
        "Conv_1_weights": params["Conv_1"]["kernel"],
        "Conv_1_BatchNorm_beta": params["Conv_1_bn"]["bias"],
    }
    for name, found in places.items():
        np.testing.assert_array_equal(found, arrays[name])
    depthwise = arrays["expanded_conv_1_depthwise_depthwise_weights"]
    np.testing.assert_array_equal(params["block_1_depthwise"]["kernel"][:, :, 0], depthwise[..., 0])
    values = {float(np.min(leaf)) for leaf in jax.tree.leaves(made)}
    assert values == set(map(float, range(len(arrays))))


def test_slim_s_last_layer_is_integers_times_a_scale():
    """To 1e-6 of the product in float64."""
    arrays = slim_arrays(SMALL(), classes=5)
    head = from_slim(SMALL(classes=5), arrays)["params"]["predictions"]
    expected = np.float64(arrays["Logits_weights_int8"]) * arrays["Logits_weights_scale"][:, None]
    np.testing.assert_allclose(head["kernel"], expected.T, rtol=1e-6)
    np.testing.assert_array_equal(head["bias"], arrays["Logits_Conv2d_1c_1x1_biases"])
    assert "predictions" not in from_slim(SMALL(), arrays)["params"]


@pytest.fixture
def small_network(monkeypatch):
    """Files are of a network of two sequences of blocks, whose shapes take less time."""
    monkeypatch.setattr(imported, "MobileNetV2", SMALL)


def test_a_file_is_read(tmp_path, small_network):
    arrays = slim_arrays(SMALL(), IMAGENET_CLASSES)
    path = tmp_path / "weights.npz"
    np.savez(path, **arrays)
    expected = from_slim(SMALL(classes=IMAGENET_CLASSES), arrays)
    found = load_imagenet_mobilenet(path, head=True)
    jax.tree.map(np.testing.assert_array_equal, found, expected)
    del expected["params"]["predictions"]
    jax.tree.map(np.testing.assert_array_equal, load_imagenet_mobilenet(path), expected)


def changed(arrays, name, value):
    return {**arrays, name: value}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda a: {k: v for k, v in a.items() if k != "Conv_1_weights"},
            "weights.npz: no Conv_1_weights; give",
        ),
        (
            lambda a: {k: v for k, v in a.items() if "_1_project" not in k},
            "no (expanded_conv_1_project_[a-zA-Z_]+, ){2}[a-zA-Z_1]+ and 2 more; give",
        ),
        (
            lambda a: changed(a, "Conv_BatchNorm_gamma", np.ones(31, np.float32)),
            r"Conv_BatchNorm_gamma has the shape \(31,\), in the network \(32,\); give",
        ),
        (
            lambda a: changed(a, "Conv_BatchNorm_beta", np.full(32, np.nan, np.float32)),
            "Conv_BatchNorm_beta has values that are not finite numbers; get",
        ),
        (
            lambda a: changed(a, "expanded_conv_17_expand_weights", np.ones(1)),
            "no place for expanded_conv_17_expand_weights; give",
        ),
        (
            lambda a: changed(a, "Conv_BatchNorm_beta", np.array(["a"] * 32)),
            "Conv_BatchNorm_beta has values that are not finite numbers; get",
        ),
    ],
)
def test_a_wrong_file_is_one_line(tmp_path, small_network, change, message):
    path = tmp_path / "weights.npz"
    np.savez(path, **change(slim_arrays(SMALL())))
    with pytest.raises(UserError, match=message) as error:
        load_imagenet_mobilenet(path)
    assert "\n" not in str(error.value)


def write_truncated(path):
    np.savez(path, **slim_arrays(SMALL()))
    path.write_bytes(path.read_bytes()[:-200])


def write_flipped(path):
    np.savez(path, **slim_arrays(SMALL()))
    content = bytearray(path.read_bytes())
    content[1000] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (lambda path: None, "weights.npz: no such file; give"),
        (lambda path: path.mkdir(), "cannot be read as an .npz file"),
        (lambda path: path.write_bytes(b""), "cannot be read as an .npz file"),
        (lambda path: path.write_text("not an archive"), "cannot be read as an .npz file"),
        (write_truncated, "cannot be read as an .npz file"),
        (write_flipped, "cannot be read as an .npz file"),
        (lambda path: np.save(path.open("wb"), np.ones(3)), "one array, not an archive"),
        (lambda path: np.savez(path, Conv_weights=np.array([{}])), "cannot be read as an .npz"),
        (lambda path: np.savez(path, other=np.ones(3)), "no place for other; give"),
    ],
)
def test_a_damaged_file_is_one_line(tmp_path, small_network, write, message):
    path = tmp_path / "weights.npz"
    write(path)
    with pytest.raises(UserError, match=message) as error:
        load_imagenet_mobilenet(path)
    assert "\n" not in str(error.value) and str(path) in str(error.value)


def test_weights_for_colours_are_not_guessed_for_one_channel():
    with pytest.raises(UserError, match="for images of 3 channels, not of 1; give"):
        from_slim(SMALL(), slim_arrays(SMALL()), channels=1)


def test_a_head_without_its_scale_is_named():
    arrays = slim_arrays(SMALL(), classes=5)
    for scale in (None, np.ones(4)):
        arrays["Logits_weights_scale"] = scale
        with pytest.raises(UserError, match="Logits_weights_scale is missing or not a number"):
            from_slim(SMALL(classes=5), arrays)


def keras_layers(module):
    """Arrays in Keras's order and form, each with values of its own."""
    image = jax.ShapeDtypeStruct((1, 32, 32, 3), jnp.float32)
    variables = jax.eval_shape(module.init, jax.random.key(0), image)
    layers = {}
    for name, leaves in variables["params"].items():
        leaves = {**leaves, **variables["batch_stats"].get(name, {})}
        order = ("scale", "bias", "mean", "var") if "scale" in leaves else ("kernel", "bias")
        shapes = [leaves[key].shape for key in order if key in leaves]
        if name.endswith("depthwise"):
            shapes = [(*shapes[0][:2], shapes[0][3], 1)]
        layers[name] = [
            np.full(shape, len(layers) + n / 4, np.float32) for n, shape in enumerate(shapes)
        ]
    return layers


@pytest.mark.parametrize(
    "module", [SMALL(0.5, 3), ResNet50(3, stages=((8, 1, 1),))], ids=["mobilenet", "resnet"]
)
def test_keras_s_order(module):
    layers = keras_layers(module)
    made = from_keras(module, {**layers, "an_activation": []})
    for name, arrays in layers.items():
        order = {1: ["kernel"], 2: ["kernel", "bias"], 4: ["scale", "bias", "mean", "var"]}
        for key, array in zip(order[len(arrays)], arrays, strict=True):
            kind = "batch_stats" if key in ("mean", "var") else "params"
            assert (np.asarray(made[kind][name][key]) == array.flat[0]).all()


def test_keras_s_head_is_left_out_of_a_network_without():
    layers = keras_layers(SMALL(0.5, 3))
    assert "predictions" not in from_keras(SMALL(0.5), layers)["params"]


def test_other_networks_of_keras_are_refused():
    module = ResNet50(stages=((8, 1, 1),))
    layers = keras_layers(module)
    deeper = keras_layers(ResNet50(stages=((8, 2, 1),)))
    with pytest.raises(
        UserError, match="arrays of layer conv2_block2_1_bn: 4, of the network's: 0; give"
    ):
        from_keras(module, deeper)
    with pytest.raises(UserError, match="no mean of layer conv2_block2_1_bn, var of layer"):
        from_keras(ResNet50(stages=((8, 2, 1),)), layers)
    with pytest.raises(UserError, match="arrays of layer conv1_conv: 1, of the network's: 2; give"):
        from_keras(module, {**layers, "conv1_conv": layers["conv1_conv"][:1]})
    with pytest.raises(UserError, match=r"layer conv2_block1_0_bn has the shape \(32,\), in the"):
        from_keras(ResNet50(stages=((16, 1, 1),)), layers)
    with pytest.raises(UserError, match="my model: the weights are for images of 3 channels"):
        from_keras(module, layers, channels=1, source="my model")


@pytest.fixture(scope="module")
def imagenet(shared):
    folder = shared / "weights" / "mobilenet_v2"
    return folder / "mobilenet_v2_1.0_224_imagenet.npz", np.load(folder / "mobilenet_v2_parity.npz")


@pytest.mark.parametrize("size", [224, pytest.param(320, marks=pytest.mark.slow)])
def test_real_weights_give_the_stored_features_and_logits(imagenet, size):
    """To 1e-4 of features of order 1 and logits of order 10: float32 sums in another order."""
    path, stored = imagenet
    pictures = [f"{name}_{size}" for name in ("chelsea", "coffee")]
    x = np.stack([stored[f"{picture}_uint8"] for picture in pictures]) / np.float32(127.5) - 1
    network, classifier = MobileNetV2(), MobileNetV2(classes=IMAGENET_CLASSES)

    @jax.jit
    def both(variables, x):  # as one program, which computes the layers once
        params = {name: v for name, v in variables["params"].items() if name != "predictions"}
        features = network.apply({**variables, "params": params}, x)
        return features, classifier.apply(variables, x)

    features, logits = both(load_imagenet_mobilenet(path, head=True), x)
    for found, kind in ((features, "avgpool1280"), (logits, "logits1001")):
        expected = np.stack([stored[f"{picture}_{kind}"] for picture in pictures])
        assert expected.std() > 0.1
        np.testing.assert_allclose(found, expected, atol=1e-4, rtol=1e-4)


@pytest.mark.slow
def test_real_weights_in_keras_are_the_same(imagenet, keras):
    """Given to Keras by its layers' names, and back from there: the same arrays."""
    path, _ = imagenet
    made = load_imagenet_mobilenet(path)
    model = keras.applications.MobileNetV2((96, 96, 3), weights=None, include_top=False)
    with np.load(path) as file:
        for layer in model.layers:
            if not layer.weights:
                continue
            name = layer.name.removesuffix("_BN").removesuffix("_bn").removeprefix("bn_")
            name = "Conv" if name == "Conv1" else name.replace("block_", "expanded_conv_")
            kernel = "depthwise_weights" if "depthwise" in name else "weights"
            statistics = ("gamma", "beta", "moving_mean", "moving_variance")
            keys = [kernel] if len(layer.weights) == 1 else [f"BatchNorm_{s}" for s in statistics]
            layer.set_weights([file[f"{name}_{key}"] for key in keys])
    layers = {layer.name: layer.get_weights() for layer in model.layers}
    jax.tree.map(np.testing.assert_array_equal, made, from_keras(MobileNetV2(), layers))
    x = np.random.default_rng(0).uniform(-1, 1, (2, 96, 96, 3)).astype(np.float32)
    expected = np.mean(model(x, training=False), axis=(1, 2))
    np.testing.assert_allclose(
        jax.jit(MobileNetV2().apply)(made, x), expected, atol=1e-4, rtol=1e-4
    )
