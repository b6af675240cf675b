"""Files of weights in the form of the published ones, with random values."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict

h5py = pytest.importorskip("h5py")


def random_layers(network, seed=0):
    """Arrays in Keras's order a layer, in the order of the network, of kept scale."""
    rng = np.random.default_rng(seed)
    picture = jax.ShapeDtypeStruct((1, 64, 64, 1), jnp.float32)
    shapes = {
        path[1:]: leaf.shape
        for path, leaf in flatten_dict(
            jax.eval_shape(network.init, jax.random.key(0), picture)
        ).items()
    }
    layers = []
    last = len(network.channels)
    for i in range(last + 1):
        if i:
            name = "audio_embedding_layer" if i == last else f"conv2d_{i}"
            shape = shapes[name, "kernel"]
            kernel = rng.normal(0, np.sqrt(2 / np.prod(shape[:3])), shape)
            layers.append((name, [kernel, rng.normal(0, 0.3, shape[3:])]))
        name = f"batch_normalization_{i + 1}"
        if (name, "scale") in shapes:
            shape = shapes[name, "scale"]
            between, around = rng.uniform(0.5, 1.5, (2, *shape)), rng.normal(0, 0.3, (2, *shape))
            layers.append((name, [between[0], around[0], around[1], between[1]]))
    return {name: [array.astype(np.float32) for array in arrays] for name, arrays in layers}


def write_keras_file(path, layers, filters=None, first=1):
    """An h5 file of weights as Keras 2 wrote them, with kapre's arrays where filters are given.

    Args:
        path: the file.
        layers: as `random_layers` gives them.
        filters: (bins, mels); the transform's own arrays are there in small.
        first: what Keras counts the layers from, after it built other models.
    """
    found = {"input_1": []}
    if filters is not None:
        found["melspectrogram_1"] = [np.ones((8, 1, 1, 5)), np.ones((8, 1, 1, 5)), filters]
    for name, arrays in layers.items():
        stem, _, number = name.rpartition("_")
        found[f"{stem}_{int(number) + first - 1}" if number.isdigit() else name] = arrays
        found[f"activation_of_{name}"] = []
    with h5py.File(path, "w") as file:
        file.attrs["layer_names"] = [name.encode() for name in found]
        for name, arrays in found.items():
            group = file.create_group(name)
            names = [f"{name}/array_{i}:0" for i in range(len(arrays))]
            group.attrs["weight_names"] = np.array([n.encode() for n in names], "S")
            for place, array in zip(names, arrays, strict=True):
                group[place] = np.asarray(array, np.float32)
    return path
