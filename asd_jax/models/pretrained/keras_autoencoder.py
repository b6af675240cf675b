"""Weights of Keras's dense autoencoders for `DenseAutoencoder`.

The challenge's baselines and the reference model of MLPerf Tiny's anomaly detection are such
files: Dense → BatchNormalization → ReLU layers and a linear Dense layer at the end.
"""

import itertools
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from asd_jax.errors import UserError
from asd_jax.models.dense_autoencoder import DenseAutoencoder
from asd_jax.models.pretrained.keras_file import read_keras_config, read_keras_layers

_BLOCK = ("Dense", "BatchNormalization", "ReLU")
# Kind of layer and settings under which a Keras layer equals ours, by class name. A missing
# setting is Keras's default, the value here.
_SETTINGS: dict[str, tuple[str, dict[str, Any]]] = {
    "Dense": ("Dense", {"activation": "linear", "use_bias": True}),
    "BatchNormalization": (
        "BatchNormalization",
        {"center": True, "scale": True},
    ),
    "Activation": ("ReLU", {"activation": "relu"}),
    "ReLU": ("ReLU", {"max_value": None, "negative_slope": 0.0, "threshold": 0.0}),
}
_KERAS_EPSILON = 1e-3  # of a batch normalisation that names none
# The arrays of a Dense and of a BatchNormalization layer, in Keras's order.
_DENSE = (("params", "kernel"), ("params", "bias"))
_NORM = (("params", "scale"), ("params", "bias"), ("batch_stats", "mean"), ("batch_stats", "var"))


def load_keras_autoencoder(
    path: os.PathLike | str, module: DenseAutoencoder, n_values: int
) -> dict[str, Any]:
    """Reads the variables of the dense autoencoder from a Keras HDF5 file.

    A file of weights only has no settings of layers; they are assumed to be the network's.

    Args:
        path: the file.
        module: the network that the file must belong to.
        n_values: width of its input.

    Returns:
        {"params": …, "batch_stats": …} for `module.apply`, float32.

    Raises:
        UserError: the file cannot be read, or belongs to another network: other layers, widths,
            activations, or another epsilon of batch normalisation.

    Examples:
        A network without hidden layers, of three inputs and a latent of width 2:

        >>> import h5py, os, tempfile
        >>> shapes = {"a": [(3, 2), (2,)], "b": [(2,)] * 4, "c": [(2, 3), (3,)]}
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = os.path.join(folder, "weights.h5")
        ...     with h5py.File(path, "w") as file:
        ...         file.attrs["layer_names"] = list(shapes)
        ...         for name in shapes:
        ...             layer = file.create_group(name)
        ...             layer.attrs["weight_names"] = [f"w{i}" for i in range(len(shapes[name]))]
        ...             for i, shape in enumerate(shapes[name]):
        ...                 layer[f"w{i}"] = np.zeros(shape)
        ...     variables = load_keras_autoencoder(path, DenseAutoencoder((), 2), n_values=3)
        >>> sorted(variables["params"]), variables["params"]["Dense_1"]["kernel"].shape
        (['BatchNorm_0', 'Dense_0', 'Dense_1'], (2, 3))
    """
    config = read_keras_config(path)
    if config is not None:
        _check_architecture(config, path, module.epsilon)
    layers = {name: arrays for name, arrays in read_keras_layers(path).items() if arrays}
    widths = (n_values, *module.hidden, module.latent, *reversed(module.hidden), n_values)
    expected: list[tuple[str, Sequence[tuple[str, str]], list[tuple[int, ...]]]] = []
    for i, (inputs, outputs) in enumerate(itertools.pairwise(widths)):
        expected.append((f"Dense_{i}", _DENSE, [(inputs, outputs), (outputs,)]))
        expected.append((f"BatchNorm_{i}", _NORM, [(outputs,)] * 4))
    expected.pop()  # the last layer has no normalisation
    variables: dict[str, dict[str, dict[str, np.ndarray]]] = {"params": {}, "batch_stats": {}}
    # Layers of the file beside those of the network; the shorter list is filled up.
    for of_file, of_network in itertools.zip_longest(layers.items(), expected):
        name, arrays = of_file or ("", [])
        layer, places, shapes = of_network or ("", (), [])
        if [array.shape for array in arrays] != shapes:
            ours = _shapes(shapes) if layer else "no more layers"
            theirs = (
                f"layer {name} has {_shapes([array.shape for array in arrays])}"
                if name
                else "there are no more layers"
            )
            raise UserError(
                f"{path}: {theirs} where the configuration has {ours}; set detector.hidden, "
                "detector.latent, and detector.frames and front_end.n_mels as the file needs them"
            )
        for (collection, leaf), array in zip(places, arrays, strict=True):
            variables[collection].setdefault(layer, {})[leaf] = array.astype(np.float32)
    return variables


def _shapes(shapes: Iterable[tuple[int, ...]]) -> str:
    return "arrays of " + ", ".join("×".join(map(str, shape)) or "one value" for shape in shapes)


def _check_architecture(config: Mapping[str, Any], path: os.PathLike | str, epsilon: float) -> None:
    """Raises UserError where the stored layers are not those of the dense autoencoder."""
    try:
        layers = config["config"]
        layers = layers["layers"] if isinstance(layers, dict) else layers  # Keras 1 has a list
        layers = [layer for layer in layers if layer["class_name"] != "InputLayer"]
        kinds = [_kind(layer["class_name"], layer["config"], epsilon) for layer in layers]
        names = [layer["config"]["name"] for layer in layers]
    except (KeyError, TypeError, AttributeError) as error:
        raise UserError(
            f"{path}: its model_config is not one of a Sequential or Functional model of Keras "
            f"({error!r}); save the model again"
        ) from error
    for i, (name, kind) in enumerate(zip(names, kinds, strict=True)):
        if kind != _BLOCK[i % 3]:
            raise UserError(
                f"{path}: layer {name} is {kind}, where {_BLOCK[i % 3]} is needed; only stacks of "
                f"Dense, BatchNormalization with detector.epsilon, {epsilon:g}, and ReLU, and a "
                "linear Dense at the end, can be imported"
            )
    if kinds[-1:] != ["Dense"]:
        raise UserError(f"{path}: its last layer is {(kinds or ['none'])[-1]}, not a linear Dense")


def _kind(class_name: str, settings: Mapping[str, Any], epsilon: float) -> str:
    """The kind of a layer; with the setting that differs if the network has no such layer."""
    kind, needed = _SETTINGS.get(class_name, (class_name, {}))
    if class_name == "BatchNormalization":
        settings = {"epsilon": _KERAS_EPSILON, **settings}
        needed = {**needed, "epsilon": epsilon}
    for key, value in needed.items():
        given = settings.get(key, value)
        close = isinstance(given, float) and isinstance(value, float)
        if not (math.isclose(given, value, rel_tol=1e-6) if close else given == value):
            return f"{class_name} with {key} {given}"
    return kind
