"""Reading the HDF5 files of Keras: arrays and the stored configuration, nothing else.

Such a file has a group for each layer. Attributes name the layers, and each layer's arrays, in
order; an attribute that is too large for HDF5 is in parts (`layer_names0`, `layer_names1`, …).
`Model.save("….h5")` puts the layers into the group `model_weights` and the architecture, as
JSON, into an attribute; a file of weights only has the layers at its root. The format is
written by `keras.src.legacy.saving.legacy_h5_format`, and by Keras 1 and 2.

Nothing of a file is executed: code in it, as of a `Lambda` layer, stays text.
"""

import contextlib
import json
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from asd_jax.errors import UserError
from asd_jax.runtime.extras import needed

if TYPE_CHECKING:
    import h5py

_ROOT = "model_weights"
# Exceptions of h5py and NumPy for a damaged file.
_DAMAGE = (OSError, ValueError, KeyError, TypeError, RuntimeError, MemoryError)


def read_keras_layers(path: os.PathLike | str) -> dict[str, list[np.ndarray]]:
    """Reads the arrays of a Keras HDF5 file, of a whole model or of weights only.

    Args:
        path: the file.

    Returns:
        Layer → its arrays, layers and arrays in the order of the file's attributes; a layer
        without arrays has an empty list.

    Raises:
        UserError: no such file, a damaged one, one that Keras did not write in this format, or
            an array of other things than finite numbers.

    Examples:
        >>> import h5py, os, tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = os.path.join(folder, "weights.h5")
        ...     with h5py.File(path, "w") as file:
        ...         file.attrs["layer_names"] = ["dense"]
        ...         layer = file.create_group("dense")
        ...         layer.attrs["weight_names"] = ["kernel"]
        ...         layer["kernel"] = np.zeros((3, 2))
        ...     layers = read_keras_layers(path)
        >>> {name: [array.shape for array in arrays] for name, arrays in layers.items()}
        {'dense': [(3, 2)]}
    """
    with _open(path) as file:
        place = file.get(_ROOT, file)
        names = _names(place, "layer_names")
        if names is None:
            raise UserError(
                f"{path} has no layer_names, so it is no model saved by Keras as .h5; save it "
                'with model.save("….h5")'
            )
        layers = {}
        for name in names:
            arrays = _names(place[name], "weight_names")
            if arrays is None or name in layers:
                raise ValueError(f"layer {name} is there twice, or lacks weight_names")
            layers[name] = [_array(place[name], array) for array in arrays]
        return layers


def read_keras_config(path: os.PathLike | str) -> dict[str, Any] | None:
    """Reads the architecture in a Keras HDF5 file; None for a file of weights only.

    Args:
        path: the file.

    Raises:
        UserError: no such file, a damaged one, or text that is no JSON object.
    """
    with _open(path) as file:
        if "model_config" not in file.attrs:
            return None
        config = json.loads(_text(file.attrs["model_config"]))
        if not isinstance(config, dict):
            raise ValueError("its model_config is no JSON object")
        return config


@contextlib.contextmanager
def _open(path: os.PathLike | str) -> Iterator["h5py.File"]:
    """Opens the file; raises UserError for damage, also while the file is read."""
    h5py = needed("h5py", f"reading {path}")
    try:
        with h5py.File(path, "r") as file:
            yield file
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; give a model saved by Keras as .h5") from None
    except _DAMAGE as error:
        raise UserError(
            f"{path} cannot be read as a Keras HDF5 file ({error}); download or copy it again, "
            'or save the model with model.save("….h5")'
        ) from error


def _names(group: "h5py.Group", attribute: str) -> list[str] | None:
    """The names in an attribute, in one or several parts; None if there is no such attribute."""
    if attribute in group.attrs:
        return [_text(name) for name in group.attrs[attribute]]
    if f"{attribute}0" not in group.attrs:
        return None
    parts: list[list[str]] = []
    while (part := f"{attribute}{len(parts)}") in group.attrs:
        parts.append([_text(name) for name in group.attrs[part]])
    return [name for names in parts for name in names]


def _text(value: Any) -> str:
    if not isinstance(value, bytes | str):
        raise ValueError(f"an attribute that should be text is a {type(value).__name__}")
    return value.decode() if isinstance(value, bytes) else str(value)


def _array(layer: "h5py.Group", name: str) -> np.ndarray:
    import h5py  # which has opened the file

    dataset = layer[name]
    if not isinstance(dataset, h5py.Dataset) or dataset.dtype.kind not in "fiu":
        raise ValueError(f"{layer.name}/{name} is no array of numbers")
    array = dataset[()]
    if not np.isfinite(array).all():
        raise ValueError(f"{layer.name}/{name} has values that are not finite")
    return np.asarray(array)
