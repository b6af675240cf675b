"""Weights of other programs for the networks here, from arrays in memory or a file.

The layers of `MobileNetV2` and `ResNet50` have Keras's names. The form differs: Keras lists a
layer's arrays in a fixed order, and TensorFlow's depthwise kernels are (height, width, channels,
1). TF-Slim's names of MobileNetV2 follow one rule: the convolution of a layer is LAYER_weights
(LAYER_depthwise_weights for a depthwise one), its normalisation LAYER_BatchNorm_….
"""

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from asd_jax.errors import UserError
from asd_jax.models.mobilenet_v2 import MobileNetV2
from asd_jax.runtime.files import DAMAGE, read_arrays

IMAGENET_CLASSES = 1001  # in TF-Slim, where the first one is the background

_HEAD = "predictions"
_FIRST = ("Conv1", "conv1_conv")
_KERAS_ORDER = ("kernel", "scale", "bias", "mean", "var")
_SLIM_STATISTICS = {
    "scale": "gamma",
    "bias": "beta",
    "mean": "moving_mean",
    "var": "moving_variance",
}
_SLIM_HEAD = {"kernel": "Logits_weights_int8", "bias": "Logits_Conv2d_1c_1x1_biases"}
_SLIM_SCALE = "Logits_weights_scale"

# By layer and array: the collection and shape in the network, and the values from elsewhere.
_Places = Mapping[tuple[str, str], tuple[str, tuple[int, ...]]]
_Values = Mapping[tuple[str, str], np.ndarray]


def from_keras(
    module: nn.Module,
    layers: Mapping[str, Sequence[np.ndarray]],
    *,
    channels: int = 3,
    source: str = "the Keras model",
) -> dict:
    """Variables of a network from those of Keras's network of the same kind.

    Args:
        module: a `MobileNetV2` or `ResNet50`; without classes, Keras's last layer is left out.
        layers: layer name → arrays, as in `{l.name: l.get_weights() for l in model.layers}`;
            layers without arrays are ignored.
        channels: of the network's images.
        source: origin of the arrays, for messages.

    Returns:
        {"params": …, "batch_stats": …} for `module.apply`.

    Raises:
        UserError: an array is missing, has another shape than the network's, is of a layer that
            the network does not have, or has values that are not finite.

    Examples:
        The first layer of a ResNet-50, as a network without further stages:

        >>> layers = {
        ...     "conv1_conv": [np.zeros((7, 7, 3, 64)), np.zeros(64)],
        ...     "conv1_bn": [np.ones(64), np.zeros(64), np.zeros(64), np.ones(64)],
        ... }
        >>> from asd_jax.models import ResNet50
        >>> variables = from_keras(ResNet50(stages=()), layers)
        >>> sorted(variables["params"]), sorted(variables["batch_stats"])
        (['conv1_bn', 'conv1_conv'], ['conv1_bn'])
    """
    places = _places(module, channels)
    values = {}
    for layer, arrays in layers.items():
        if not arrays or (layer == _HEAD and module.classes is None):
            continue
        names = [name for name in _KERAS_ORDER if (layer, name) in places]
        if len(arrays) != len(names):
            raise UserError(
                f"{source}: arrays of layer {layer}: {len(arrays)}, of the network's: "
                f"{len(names)}; give the weights of Keras's network of the same kind"
            )
        values.update({(layer, name): array for name, array in zip(names, arrays, strict=True)})
    return _variables(places, values, source, lambda layer, name: f"{name} of layer {layer}")


def from_slim(
    module: MobileNetV2,
    arrays: Mapping[str, np.ndarray],
    *,
    channels: int = 3,
    source: str = "the TF-Slim arrays",
) -> dict:
    """Variables of MobileNetV2 from arrays with TF-Slim's names.

    Args:
        module: without classes, the arrays of the last layer are left out.
        arrays: name → array: float32, but the last layer's weights as int8 (classes, 1280) and
            their scale of each class.
        channels: of the network's images.
        source: origin of the arrays, for messages.

    Returns:
        {"params": …, "batch_stats": …} for `module.apply`.

    Raises:
        UserError: as `from_keras`.

    Examples:
        The first and the last layer, as a network without stages between them:

        >>> arrays = {"Conv_weights": np.zeros((3, 3, 3, 32))}
        >>> arrays["Conv_1_weights"] = np.zeros((1, 1, 32, 1280))
        >>> for layer, channels in (("Conv", 32), ("Conv_1", 1280)):
        ...     for name in ("gamma", "beta", "moving_mean", "moving_variance"):
        ...         arrays[f"{layer}_BatchNorm_{name}"] = np.ones(channels)
        >>> sorted(from_slim(MobileNetV2(stages=()), arrays)["params"])
        ['Conv1', 'Conv_1', 'Conv_1_bn', 'bn_Conv1']
    """
    places = _places(module, channels)
    names = {place: _slim_name(*place) for place in places}
    values = {place: arrays[name] for place, name in names.items() if name in arrays}
    others = [
        name for name in arrays if name not in names.values() and not name.startswith("Logits_")
    ]
    if others:
        raise UserError(
            f"{source}: the network has no place for {_listed(others)}; give the weights of "
            "MobileNetV2"
        )
    if (_HEAD, "kernel") in values:
        weights, scale = values[_HEAD, "kernel"], arrays.get(_SLIM_SCALE)
        if scale is None or np.ndim(weights) != 2 or np.shape(scale) != np.shape(weights)[:1]:
            raise UserError(
                f"{source}: {_SLIM_SCALE} is missing or not a number for each row of "
                f"{_SLIM_HEAD['kernel']}; get the file again, or leave the last layer out"
            )
        values[_HEAD, "kernel"] = (weights * np.asarray(scale, np.float32)[:, None]).T
    return _variables(places, values, source, _slim_name)


def load_imagenet_mobilenet(path: os.PathLike | str, *, head: bool = False) -> dict:
    """Reads MobileNetV2's weights for ImageNet from an .npz file with TF-Slim's names.

    Their network takes pictures of three channels, from −1 (black) to 1 (white).

    Args:
        path: the file.
        head: include the last layer, for `MobileNetV2(classes=IMAGENET_CLASSES)`; without it
            they are for `MobileNetV2()`.

    Returns:
        {"params": …, "batch_stats": …} for the network's `apply`.

    Raises:
        UserError: there is no such file, it is damaged, or it holds something else.

    Examples:
        >>> variables = load_imagenet_mobilenet("mobilenet_v2.npz")  # doctest: +SKIP
        >>> load_imagenet_mobilenet("missing.npz")
        Traceback (most recent call last):
        asd_jax.errors.UserError: missing.npz: no such file; give the .npz file of ... weights
    """
    module = MobileNetV2(classes=IMAGENET_CLASSES if head else None)
    try:
        arrays = read_arrays(path)
    except FileNotFoundError:
        raise UserError(
            f"{path}: no such file; give the .npz file of MobileNetV2's weights"
        ) from None
    except DAMAGE as error:
        raise UserError(
            f"{path} cannot be read as an .npz file ({error}); download or copy it again"
        ) from error
    return from_slim(module, arrays, source=str(path))


def _places(module: nn.Module, channels: int) -> _Places:
    """The arrays of the network, for images of so many channels."""
    image = jax.ShapeDtypeStruct((1, 32, 32, channels), jnp.float32)
    variables = jax.eval_shape(module.init, jax.random.key(0), image)
    return {
        (layer, name): (collection, leaf.shape)
        for (collection, layer, name), leaf in flatten_dict(variables).items()
    }


def _slim_name(layer: str, name: str) -> str:
    """TF-Slim's name of an array of one of MobileNetV2's layers."""
    if layer == _HEAD:
        return _SLIM_HEAD[name]
    layer = layer.removesuffix("_BN").removesuffix("_bn").removeprefix("bn_")
    layer = "Conv" if layer == "Conv1" else layer.replace("block_", "expanded_conv_")
    if name == "kernel":
        return f"{layer}_depthwise_weights" if layer.endswith("depthwise") else f"{layer}_weights"
    return f"{layer}_BatchNorm_{_SLIM_STATISTICS[name]}"


def _variables(
    places: _Places, values: _Values, source: str, label: Callable[[str, str], str]
) -> dict[str, Any]:
    """The values in the form of the network, after checks that all exist and have its shapes."""
    missing = [label(*place) for place in places if place not in values]
    if missing:
        raise UserError(f"{source}: no {_listed(missing)}; give all the weights of such a network")
    variables = {}
    for place, (collection, shape) in places.items():
        layer, name = place
        array = np.asarray(values[place])
        if layer.endswith("depthwise") and array.ndim == 4:
            array = array.swapaxes(2, 3)  # (height, width, 1, channels)
        if array.shape != shape:
            if layer in _FIRST and array.ndim == 4 and array.shape[2] != shape[2]:
                raise UserError(
                    f"{source}: the weights are for images of {array.shape[2]} channels, not of "
                    f"{shape[2]}; give the network such images, for instance its one channel "
                    "repeated"
                )
            raise UserError(
                f"{source}: {label(*place)} has the shape {array.shape}, in the network "
                f"{shape}; give the weights of a network of the same kind, width and classes"
            )
        if array.dtype.kind not in "fiu" or not np.isfinite(array).all():
            raise UserError(
                f"{source}: {label(*place)} has values that are not finite numbers; get the "
                "weights again"
            )
        variables[collection, layer, name] = jnp.asarray(array, jnp.float32)
    return unflatten_dict(variables)


def _listed(names: Sequence[str]) -> str:
    """A list of names, cut off after the first three."""
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(names[:3]) + more
