"""Weights of Keras's dense autoencoders for `DenseAutoencoder`.

The challenge's baselines and the reference model of MLPerf Tiny's anomaly detection are such
files: Dense → BatchNormalization → ReLU layers and a linear Dense layer at the end.
"""

import itertools
import math
import os
from collections.abc import Mapping
from typing import Any

import numpy as np

from asd_jax.errors import UserError
from asd_jax.models.dense_autoencoder import DenseAutoencoder
from asd_jax.models.pretrained.keras_file import read_keras_config, read_keras_layers

_BLOCK = ("Dense", "BatchNormalization", "ReLU")
# What layers must be set to for `DenseAutoencoder` to compute the same, each kind of layer under
# the names it goes by; what a file does not say is Keras's default, which is this.
_SETTINGS = {
    "Dense": ("Dense", {"activation": "linear", "use_bias": True}),
    "BatchNormalization": (
        "BatchNormalization",
        {"epsilon": 1e-3, "center": True, "scale": True},
    ),
    "Activation": ("ReLU", {"activation": "relu"}),
    "ReLU": ("ReLU", {"max_value": None, "negative_slope": 0.0, "threshold": 0.0}),
}
# The arrays of a Dense and of a BatchNormalization layer, in Keras's order.
_DENSE = (("params", "kernel"), ("params", "bias"))
_NORM = (("params", "scale"), ("params", "bias"), ("batch_stats", "mean"), ("batch_stats", "var"))


def load_keras_autoencoder(
    path: os.PathLike | str, module: DenseAutoencoder, n_values: int
) -> dict[str, Any]:
    """Variables of the dense autoencoder from a Keras HDF5 file.

    A file of weights only does not tell the layers' settings; they are taken to be the
    network's.

    Args:
        path: the file.
        module: the network that the file must be of.
        n_values: width of its input.

    Returns:
        {"params": …, "batch_stats": …} for `module.apply`, float32.

    Raises:
        UserError: the file cannot be read, or is of another network: other layers, widths,
            activations, or another epsilon of batch normalisation.
    """
    config = read_keras_config(path)
    if config is not None:
        _check_architecture(config, path)
    found = {name: arrays for name, arrays in read_keras_layers(path).items() if arrays}
    widths = (n_values, *module.hidden, module.latent, *reversed(module.hidden), n_values)
    wanted = []
    for i, (inputs, outputs) in enumerate(itertools.pairwise(widths)):
        wanted.append((f"Dense_{i}", _DENSE, [(inputs, outputs), (outputs,)]))
        wanted.append((f"BatchNorm_{i}", _NORM, [(outputs,)] * 4))
    wanted.pop()  # the last layer has no normalisation
    variables = {"params": {}, "batch_stats": {}}
    for (name, arrays), (layer, places, shapes) in itertools.zip_longest(
        found.items(), wanted, fillvalue=("", (), ())
    ):
        if [array.shape for array in arrays] != list(shapes):
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


def _shapes(shapes) -> str:
    return "arrays of " + ", ".join("×".join(map(str, shape)) or "one value" for shape in shapes)


def _check_architecture(config: Mapping[str, Any], path: os.PathLike | str) -> None:
    """Raises UserError where the stored layers are not those of the dense autoencoder."""
    try:
        layers = config["config"]
        layers = layers["layers"] if isinstance(layers, dict) else layers  # a list in Keras 1
        layers = [layer for layer in layers if layer["class_name"] != "InputLayer"]
        kinds = [_kind(layer["class_name"], layer["config"]) for layer in layers]
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
                "Dense, BatchNormalization with epsilon 0.001 and ReLU, and a linear Dense at the "
                "end, can be imported"
            )
    if kinds[-1:] != ["Dense"]:
        raise UserError(f"{path}: its last layer is {(kinds or ['none'])[-1]}, not a linear Dense")


def _kind(class_name: str, settings: Mapping[str, Any]) -> str:
    """What a layer computes; with what sets it apart where the network has no such layer."""
    kind, needed = _SETTINGS.get(class_name, (class_name, {}))
    for key, value in needed.items():
        given = settings.get(key, value)
        close = isinstance(given, float) and isinstance(value, float)
        if not (math.isclose(given, value, rel_tol=1e-6) if close else given == value):
            return f"{class_name} with {key} {given}"
    return kind
