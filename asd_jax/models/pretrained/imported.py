"""Weights of other programs for the networks here, from arrays in memory or a file.

The layers of `MobileNetV2` and `ResNet50` have Keras's names. What differs is the form: Keras
lists a layer's arrays in a fixed order, and TensorFlow's depthwise kernels are (height, width,
channels, 1). TF-Slim's names of MobileNetV2 follow one rule: the convolution of a layer is
LAYER_weights (LAYER_depthwise_weights for a depthwise one), its normalisation LAYER_BatchNorm_….
"""

import os
from collections.abc import Mapping, Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from asd_jax.errors import UserError
from asd_jax.models.mobilenet_v2 import MobileNetV2
from asd_jax.runtime.files import DAMAGE, read_arrays

IMAGENET_CLASSES = 1001  # of TF-Slim, of which the first is the background

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

# Layer and array of it → collection and shape; and → values.
_Wanted = Mapping[tuple[str, str], tuple[str, tuple[int, ...]]]
_Found = Mapping[tuple[str, str], np.ndarray]


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
            layers without arrays do not matter.
        channels: of the images the network is meant for.
        source: where the arrays are from, for messages.

    Returns:
        {"params": …, "batch_stats": …} for `module.apply`.

    Raises:
        UserError: an array is missing, has another shape than the network's, is of a layer that
            the network does not have, or has values that are not finite.
    """
    wanted = _wanted(module, channels)
    found = {}
    for layer, arrays in layers.items():
        if not arrays or (layer == _HEAD and module.classes is None):
            continue
        names = [name for name in _KERAS_ORDER if (layer, name) in wanted]
        if len(arrays) != len(names):
            raise UserError(
                f"{source}: arrays of layer {layer}: {len(arrays)}, of the network's: "
                f"{len(names)}; give the weights of Keras's network of the same kind"
            )
        found.update({(layer, name): array for name, array in zip(names, arrays, strict=True)})
    return _variables(wanted, found, source, lambda layer, name: f"{name} of layer {layer}")


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
        channels: of the images the network is meant for.
        source: where the arrays are from, for messages.

    Returns:
        {"params": …, "batch_stats": …} for `module.apply`.

    Raises:
        UserError: as `from_keras`.
    """
    wanted = _wanted(module, channels)
    names = {place: _slim_name(*place) for place in wanted}
    found = {place: arrays[name] for place, name in names.items() if name in arrays}
    others = [
        name for name in arrays if name not in names.values() and not name.startswith("Logits_")
    ]
    if others:
        raise UserError(
            f"{source}: the network has no place for {_listed(others)}; give the weights of "
            "MobileNetV2"
        )
    if (_HEAD, "kernel") in found:
        weights, scale = found[_HEAD, "kernel"], arrays.get(_SLIM_SCALE)
        if scale is None or np.ndim(weights) != 2 or np.shape(scale) != np.shape(weights)[:1]:
            raise UserError(
                f"{source}: {_SLIM_SCALE} is missing or not a number for each row of "
                f"{_SLIM_HEAD['kernel']}; get the file again, or leave the last layer out"
            )
        found[_HEAD, "kernel"] = (weights * np.float32(scale)[:, None]).T
    return _variables(wanted, found, source, _slim_name)


def load_imagenet_mobilenet(
    path: os.PathLike | str, *, head: bool = False, channels: int = 3
) -> dict:
    """MobileNetV2's weights for ImageNet from an .npz file with TF-Slim's names.

    The network they are for takes pictures from −1 (black) to 1 (white).

    Args:
        path: the file.
        head: with the last layer's, for `MobileNetV2(classes=IMAGENET_CLASSES)`; without it
            they are for `MobileNetV2()`.
        channels: of the images the network is meant for; the weights are for 3.

    Returns:
        {"params": …, "batch_stats": …} for the network's `apply`.

    Raises:
        UserError: there is no such file, it is damaged, or it holds something else.
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
    return from_slim(module, arrays, channels=channels, source=str(path))


def _wanted(module: nn.Module, channels: int) -> _Wanted:
    """What the network consists of, for images of so many channels."""
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


def _variables(wanted: _Wanted, found: _Found, source: str, label) -> dict:
    """The found arrays in the form of the network, every one of them there and of its shape."""
    missing = [label(*place) for place in wanted if place not in found]
    if missing:
        raise UserError(f"{source}: no {_listed(missing)}; give all the weights of such a network")
    variables = {}
    for place, (collection, shape) in wanted.items():
        layer, name = place
        array = np.asarray(found[place])
        if layer.endswith("depthwise") and array.ndim == 4:
            array = array.swapaxes(2, 3)
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
                f"{source}: {label(*place)} has values that are no finite numbers; get the "
                "weights again"
            )
        variables[collection, layer, name] = jnp.asarray(array, jnp.float32)
    return unflatten_dict(variables)


def _listed(names: Sequence[str]) -> str:
    """The first few of many names."""
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(names[:3]) + more
