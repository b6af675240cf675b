"""OpenL3's network against Keras's, and weights from files of Keras."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from keras_models import call, no_initial_values
from openl3_files import random_layers, write_keras_file

from asd_jax.audio.openl3_frontend import OpenL3FrontEnd
from asd_jax.errors import UserError
from asd_jax.models.openl3 import OpenL3, openl3_from_keras
from asd_jax.models.pretrained.keras_file import read_keras_layers

SMALL = OpenL3((2, 3, 4, 5), normalise_last=True, pool=(4, 4))
EDGE = OpenL3((32, 32, 64, 64, 128, 128, 64, 64), normalise_last=True, pool=(8, 6))
FILTERS = np.ones((5, 3), np.float32)


def keras_model(keras, size, channels, normalise_last, pools):
    """The network by Keras's layers, named as Keras does; one output for each last pool."""
    layers = keras.layers
    x = picture = keras.Input((*size, 1))
    x = layers.BatchNormalization()(x)
    for i, features in enumerate(channels, 1):
        last = i == len(channels)
        name = "audio_embedding_layer" if last else None
        x = layers.Conv2D(features, 3, padding="same", name=name)(x)
        if not last or normalise_last:
            x = layers.ReLU()(layers.BatchNormalization()(x))
        if i % 2 == 0 and not last:
            x = layers.MaxPooling2D(2)(x)
    outputs = [layers.Flatten()(layers.MaxPooling2D(pool, padding="same")(x)) for pool in pools]
    return keras.Model(picture, outputs)


def set_random(model, network):
    layers = [layer for layer in model.layers if layer.weights]
    for layer, arrays in zip(layers, random_layers(network).values(), strict=True):
        layer.set_weights(arrays)


def predict(model, pictures):
    """What Keras's functions give, as one program: (pictures, values) of each pool."""
    found, _ = call(model, pictures)
    return [np.asarray(array) for array in (found if isinstance(found, list) else [found])]


def apply(network, variables, pictures):
    return np.asarray(jax.jit(network.apply)(variables, pictures))


def close(found, expected):
    """To 1e-4 of the largest value: float32 sums in another order, through nine layers."""
    assert np.std(expected) > 0.01 * np.abs(expected).max() > 0
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4 * np.abs(expected).max())


def test_openl3_has_its_values():
    """Counted by hand: normalisations 4 a channel, convolutions 9 · inputs · outputs + outputs."""
    picture = jax.ShapeDtypeStruct((1, 128, 199, 1), jnp.float32)
    variables = jax.eval_shape(OpenL3().init, jax.random.key(0), picture)
    leaves = jax.tree.leaves(variables)
    assert sum(np.prod(leaf.shape, dtype=int) for leaf in leaves) == 4_689_860


@pytest.mark.parametrize(
    ("mels", "pools"),
    [
        (128, {512: (16, 24), 6144: (4, 8)}),
        pytest.param(256, {512: (32, 24), 6144: (8, 8)}, marks=pytest.mark.slow),
    ],
)
def test_openl3_equals_keras_by_a_file_of_keras(keras, tmp_path, mels, pools):
    """Saved by Keras, read by the order of its layers, whose numbers are not ours."""
    with no_initial_values(keras):
        model = keras_model(keras, (mels, 199), OpenL3.channels, False, pools.values())
    set_random(model, OpenL3())
    model.save(tmp_path / "openl3.h5")
    read = read_keras_layers(tmp_path / "openl3.h5")
    assert [name for name in read if read[name]] != [*random_layers(OpenL3())]
    pictures = np.random.default_rng(0).uniform(-80, 0, (1, mels, 199, 1)).astype(np.float32)
    filters = OpenL3FrontEnd(n_mels=mels).filters
    for (size, pool), expected in zip(pools.items(), predict(model, pictures), strict=True):
        network = OpenL3(pool=pool)
        variables = openl3_from_keras(network, read, filters)
        found = apply(network, variables, pictures)
        assert found.shape == (1, size)
        close(found, expected)


@pytest.mark.parametrize(("normalise_last", "size"), [(False, (16, 12)), (True, (9, 21))])
def test_small_networks_equal_keras(keras, normalise_last, size):
    """Pools that do not come out even too."""
    network = OpenL3((2, 3, 4, 5), normalise_last, pool=(3, 2))
    with no_initial_values(keras):
        model = keras_model(keras, size, network.channels, normalise_last, [network.pool])
    set_random(model, network)
    arrays = {layer.name: layer.get_weights() for layer in model.layers}
    pictures = np.random.default_rng(1).normal(size=(3, *size, 1)).astype(np.float32)
    (expected,) = predict(model, pictures)
    close(apply(network, openl3_from_keras(network, arrays, FILTERS), pictures), expected)


def test_edgel3_gives_its_embeddings(shared):
    """From the reference's own pictures, real weights, an independent program: to 1e-5."""
    folder = shared / "weights/edgel3_sea"
    parity = np.load(folder / "edgel3_sea64_parity.npz")
    layers = read_keras_layers(folder / "edgel3_sea_ust_audio_emb_64.h5")
    variables = openl3_from_keras(EDGE, layers, OpenL3FrontEnd(8000, 1024, 160, 64).filters)
    found = apply(EDGE, variables, parity["mel_db"][..., None])
    np.testing.assert_allclose(found, parity["embedding"], rtol=1e-5, atol=2e-5)


@pytest.mark.parametrize("first", [1, 10])
@pytest.mark.parametrize("filters", [None, FILTERS])
def test_layers_count_by_their_order(tmp_path, first, filters):
    """Numbers from 10 on sort otherwise than they count; the spectrogram's layer may be away."""
    layers = random_layers(SMALL)
    path = write_keras_file(tmp_path / "file.h5", layers, filters, first)
    variables = openl3_from_keras(SMALL, read_keras_layers(path), FILTERS)
    for name, arrays in layers.items():
        order = {2: ("kernel", "bias"), 4: ("scale", "bias", "mean", "var")}[len(arrays)]
        for key, array in zip(order, arrays, strict=True):
            kind = "batch_stats" if key in ("mean", "var") else "params"
            np.testing.assert_array_equal(variables[kind][name][key], array)


def without(layers, name):
    return {key: arrays for key, arrays in layers.items() if key != name}


PROBLEMS = {
    "a layer less": (
        "8 layers with weights beside the spectrogram's, the network 9",
        lambda layers: without(layers, "conv2d_2"),
    ),
    "an array less": (
        "arrays of layer conv2d_1: 1, of the network's: 2",
        lambda layers: layers | {"conv2d_1": layers["conv2d_1"][:1]},
    ),
    "another order": (
        "arrays of layer batch_normalization_1: 2",
        lambda layers: {"conv2d_1": layers["conv2d_1"], **layers},
    ),
    "another width": (
        "of layer conv2d_2 has the shape",
        lambda layers: layers | {"conv2d_2": [np.ones((3, 3, 2, 4)), np.ones(4)]},
    ),
    "other mels": (
        r"ends in an array of shape \(5, 4\), the mel filters here are \(5, 3\)",
        lambda layers: {"melspectrogram_3": [np.ones((5, 4))], **layers},
    ),
    "another scale": (
        "has other mel filters",
        lambda layers: {"melspectrogram_3": [FILTERS + 1e-3], **layers},
    ),
}


@pytest.mark.parametrize("problem", PROBLEMS)
def test_a_file_that_does_not_fit_is_one_line(problem):
    message, change = PROBLEMS[problem]
    with pytest.raises(UserError, match=message) as error:
        openl3_from_keras(SMALL, change(random_layers(SMALL)), FILTERS, source="some.h5")
    assert "some.h5" in str(error.value) and "\n" not in str(error.value)
