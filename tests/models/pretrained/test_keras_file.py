"""Files that Keras wrote, files like Keras's of other years, and files that are none."""

import json

import numpy as np
import pytest

from asd_jax.errors import UserError
from asd_jax.models.pretrained.keras_file import read_keras_config, read_keras_layers

h5py = pytest.importorskip("h5py")


@pytest.fixture(scope="module")
def model(keras):
    """A network with layers that have arrays, none, and running statistics; not alphabetical."""
    layers = [
        keras.Input((6,), name="picture"),
        keras.layers.Dense(5, name="zeta"),
        keras.layers.BatchNormalization(name="norm"),
        keras.layers.ReLU(name="clip"),
        keras.layers.Dense(3, name="alpha"),
    ]
    model = keras.Sequential(layers)
    rng = np.random.default_rng(0)
    model.set_weights([rng.random(array.shape) for array in model.get_weights()])
    return model


def assert_layers(found, model):
    """The same arrays in the same order, exactly: reading changes no bit."""
    expected = {layer.name: layer.get_weights() for layer in model.layers}
    assert [name for name in found if found[name]] == [n for n in expected if expected[n]]
    for name, arrays in expected.items():
        assert len(found[name]) == len(arrays)
        for ours, theirs in zip(found[name], arrays, strict=True):
            assert ours.dtype == theirs.dtype
            np.testing.assert_array_equal(ours, theirs)


def test_a_model_saved_by_keras(model, tmp_path):
    path = tmp_path / "model.h5"
    model.save(path)
    assert_layers(read_keras_layers(path), model)
    assert read_keras_layers(path)["clip"] == []
    names = [layer["config"]["name"] for layer in read_keras_config(path)["config"]["layers"]]
    assert names == ["picture", "zeta", "norm", "clip", "alpha"]


def test_weights_alone_saved_by_keras(model, tmp_path):
    legacy = pytest.importorskip("keras.src.legacy.saving.legacy_h5_format")
    path = tmp_path / "weights.h5"
    with h5py.File(path, "w") as file:
        legacy.save_weights_to_hdf5_group(file, model)
    assert_layers(read_keras_layers(path), model)
    assert read_keras_config(path) is None


def test_names_that_keras_splits(keras, tmp_path):
    """More names than one attribute of HDF5 holds (64 kB), which only Keras 2 and 3 split."""
    layers = [keras.layers.ReLU(name=f"{i}_{'long' * 300}") for i in range(70)]
    model = keras.Sequential([keras.Input((2,)), *layers, keras.layers.Dense(1, name="last")])
    path = tmp_path / "long.h5"
    model.save(path)
    with h5py.File(path) as file:
        parts = {n for n in file["model_weights"].attrs if n.startswith("layer_names")}
    assert len(parts) > 1 and "layer_names" not in parts
    assert_layers(read_keras_layers(path), model)
    assert [name for name in read_keras_layers(path) if "long" in name] == [
        layer.name for layer in layers
    ]


@pytest.fixture
def file(tmp_path):
    """An open file of two layers, as older Kerases write it; closing it is the test's."""
    with h5py.File(tmp_path / "hand.h5", "w") as file:
        root = file.create_group("model_weights")
        root.attrs["layer_names"] = np.array([b"b", b"a"])
        for name, arrays in (("b", ["kernel:0", "bias:0"]), ("a", [])):
            layer = root.create_group(name)
            layer.attrs["weight_names"] = [f"{name}/{array}".encode() for array in arrays]
            for i, array in enumerate(arrays):
                layer[f"{name}/{array}"] = np.full((2,), i, np.float32)
        yield file


def test_names_in_bytes_and_in_text(file):
    """As Keras wrote them under h5py 2 and with other writers."""
    expected = {"b": [[0, 0], [1, 1]], "a": []}
    for names in (np.array([b"b", b"a"]), ["b", "a"]):
        file["model_weights"].attrs["layer_names"] = names
        file.flush()
        found = read_keras_layers(file.filename)
        assert list(found) == ["b", "a"]
        assert {k: [a.tolist() for a in v] for k, v in found.items()} == expected


def test_eleven_parts_are_joined_in_the_order_of_their_numbers(file):
    """Part 10 comes after part 9, not after part 1."""
    root = file["model_weights"]
    del root.attrs["layer_names"]
    for i in range(11):
        name = f"layer{10 - i}"
        root.create_group(name).attrs["weight_names"] = []
        root.attrs[f"layer_names{i}"] = [name.encode()]
    file.flush()
    assert list(read_keras_layers(file.filename)) == [f"layer{10 - i}" for i in range(11)]


def replace(group, name, value):
    del group[name]
    group[name] = value


def rename(group, attribute, names):
    group.attrs.create(attribute, names)


BIAS = "b/b/bias:0"
DAMAGES = {
    "infinite": ("not finite", lambda root: replace(root, BIAS, np.array([1, np.inf]))),
    "text": ("no array of numbers", lambda root: replace(root, BIAS, ["text", "more"])),
    "complex": ("no array of numbers", lambda root: replace(root, BIAS, np.array([1j, 2]))),
    "references": (
        "no array of numbers",
        lambda root: replace(root, BIAS, np.array([root.ref], h5py.ref_dtype)),
    ),
    "group": ("no array of numbers", lambda root: rename(root["b"], "weight_names", [b"b"])),
    "absent": ("doesn't exist", lambda root: root.__delitem__(BIAS)),
    "unlisted": (
        "lacks weight_names",
        lambda root: root["a"].attrs.__delitem__("weight_names"),
    ),
    "twice": ("is there twice", lambda root: rename(root, "layer_names", [b"b", b"b"])),
    "numbers": ("should be text", lambda root: rename(root, "layer_names", [1.0, 2.0])),
    "nameless": ("has no layer_names", lambda root: root.attrs.__delitem__("layer_names")),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_files_that_hold_something_else(file, damage):
    message, change = DAMAGES[damage]
    change(file["model_weights"])
    file.flush()
    with pytest.raises(UserError, match=message) as error:
        read_keras_layers(file.filename)
    assert "hand.h5" in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize("text", ["[1, 2]", "{", 3.0])
def test_an_architecture_that_is_none(file, text):
    file.attrs["model_config"] = text
    file.flush()
    with pytest.raises(UserError, match="hand.h5 cannot be read"):
        read_keras_config(file.filename)


@pytest.mark.parametrize("read", [read_keras_layers, read_keras_config])
def test_files_that_are_none(model, tmp_path, read):
    with pytest.raises(UserError, match="no such file"):
        read(tmp_path / "missing.h5")
    path = tmp_path / "model.h5"
    model.save(path)
    content = path.read_bytes()
    for wrong in (b"", b"PK\x03\x04 not HDF5", content[: len(content) // 2]):
        path.write_bytes(wrong)
        with pytest.raises(UserError, match="cannot be read as a Keras HDF5 file"):
            read(path)
    with pytest.raises(UserError, match="cannot be read as a Keras HDF5 file"):
        read(tmp_path)


def test_code_in_an_architecture_stays_text(file, tmp_path):
    trap = f"__import__('pathlib').Path({str(tmp_path / 'run')!r}).touch()"
    config = {"class_name": "Lambda", "config": {"function": trap}}
    file.attrs["model_config"] = json.dumps(config)
    file.flush()
    assert read_keras_config(file.filename) == config
    assert not (tmp_path / "run").exists()


def test_the_autoencoder_of_mlperf_tiny(shared):
    layers = read_keras_layers(shared / "weights/mlperf_tiny_ad01/model_ToyCar.hdf5")
    assert len(layers) == 29 and next(iter(layers)) == "input_1"
    assert sum(array.size for arrays in layers.values() for array in arrays) == 269_992
    assert [array.shape for array in layers["dense_9"]] == [(128, 640), (640,)]


def test_the_network_of_edgel3(shared):
    layers = read_keras_layers(shared / "weights/edgel3_sea/edgel3_sea_ust_audio_emb_64.h5")
    assert list(layers)[:4] == [
        "input_1",
        "melspectrogram_1",
        "batch_normalization_1",
        "conv2d_1",
    ]
    assert [a.shape for a in layers["audio_embedding_layer"]] == [(3, 3, 64, 64), (64,)]
    assert [a.shape for a in layers["melspectrogram_1"]][2] == (513, 64)
