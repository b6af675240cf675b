"""MobileNetV2 and ResNet-50 in plain PyTorch, layers under the same names as ours.

Of PyTorch's own layers and nothing else, so that what is compared with is what its users write.
"""

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from torch import nn

from asd_jax.models import mobilenet_v2, resnet50


def pad_as_tensorflow(x: torch.Tensor) -> torch.Tensor:
    """Zeros for a 3×3 kernel of stride 2: at even sizes only at the end."""
    height, width = x.shape[2:]
    return F.pad(x, (width % 2, 1, height % 2, 1))


class Network(nn.Module):
    """Layers by name, made in the order of their use.

    Args:
        epsilon: of the normalisations.
        momentum: share of the running statistics that a batch replaces.
    """

    def __init__(self, epsilon: float, momentum: float):
        super().__init__()
        self.layers = nn.ModuleDict()
        self.norm = {"eps": epsilon, "momentum": momentum}

    def add(self, name: str, norm: str, inputs: int, outputs: int, taps: int, **options):
        """A convolution and the normalisation after it."""
        self.layers[name] = nn.Conv2d(inputs, outputs, taps, **options)
        self.layers[norm] = nn.BatchNorm2d(outputs, **self.norm)

    def load(self, variables) -> None:
        """Takes our network's values."""
        for name, values in variables["params"].items():
            layer = self.layers[name]
            values = {key: torch.from_numpy(np.array(value)) for key, value in values.items()}
            with torch.no_grad():
                if "scale" in values:
                    layer.weight.copy_(values["scale"])
                    for key, value in variables["batch_stats"][name].items():
                        getattr(layer, f"running_{key}").copy_(torch.from_numpy(np.array(value)))
                else:
                    axes = (1, 0) if values["kernel"].ndim == 2 else (3, 2, 0, 1)
                    layer.weight.copy_(values["kernel"].permute(axes))
                if "bias" in values:
                    layer.bias.copy_(values["bias"])

    def count(self) -> int:
        """Values, running statistics included."""
        values = self.state_dict()
        return sum(v.numel() for name, v in values.items() if "num_batches" not in name)


class MobileNetV2(Network):
    """As `asd_jax.models.MobileNetV2`."""

    def __init__(self, width: float, classes: int, channels: int = 3):
        super().__init__(1e-3, 1e-3)
        ours = mobilenet_v2.MobileNetV2(width)
        features = mobilenet_v2.round_channels(32 * width)
        self.add("Conv1", "bn_Conv1", channels, features, 3, stride=2, bias=False)
        self.blocks = []
        for outputs, blocks, first_stride in ours.stages:
            outputs = mobilenet_v2.round_channels(int(outputs * width))
            for n in range(blocks):
                number, stride = len(self.blocks), first_stride if n == 0 else 1
                name = f"block_{number}" if number else "expanded_conv"
                inner = 6 * features if number else features
                if number:
                    self.add_named(f"{name}_expand", features, inner, 1)
                padding = 1 if stride == 1 else 0
                self.add_named(
                    f"{name}_depthwise",
                    inner,
                    inner,
                    3,
                    stride=stride,
                    padding=padding,
                    groups=inner,
                )
                self.add_named(f"{name}_project", inner, outputs, 1)
                self.blocks.append((name, stride, stride == 1 and features == outputs))
                features = outputs
        last = mobilenet_v2.round_channels(1280 * max(1.0, width))
        self.add("Conv_1", "Conv_1_bn", features, last, 1, bias=False)
        self.layers["predictions"] = nn.Linear(last, classes)

    def add_named(self, name: str, inputs: int, outputs: int, taps: int, **options):
        self.add(name, f"{name}_BN", inputs, outputs, taps, bias=False, **options)

    def forward(self, x):
        layers = self.layers
        x = F.relu6(layers["bn_Conv1"](layers["Conv1"](pad_as_tensorflow(x))))
        for name, stride, adds in self.blocks:
            y = x
            if f"{name}_expand" in layers:
                y = F.relu6(layers[f"{name}_expand_BN"](layers[f"{name}_expand"](y)))
            if stride == 2:
                y = pad_as_tensorflow(y)
            y = F.relu6(layers[f"{name}_depthwise_BN"](layers[f"{name}_depthwise"](y)))
            y = layers[f"{name}_project_BN"](layers[f"{name}_project"](y))
            x = x + y if adds else y
        x = F.relu6(layers["Conv_1_bn"](layers["Conv_1"](x)))
        return layers["predictions"](x.mean((2, 3)))


class ResNet50(Network):
    """As `asd_jax.models.ResNet50`."""

    def __init__(self, classes: int, channels: int = 3):
        super().__init__(1.001e-5, 0.01)
        self.add("conv1_conv", "conv1_bn", channels, 64, 7, stride=2, padding=3)
        self.blocks = []
        inputs = 64
        for stage, (features, blocks, first_stride) in enumerate(resnet50.ResNet50.stages, 2):
            for n in range(blocks):
                name, stride = f"conv{stage}_block{n + 1}", first_stride if n == 0 else 1
                self.add_named(f"{name}_1", inputs, features, 1, stride=stride)
                self.add_named(f"{name}_2", features, features, 3, padding=1)
                self.add_named(f"{name}_3", features, 4 * features, 1)
                if n == 0:
                    self.add_named(f"{name}_0", inputs, 4 * features, 1, stride=stride)
                self.blocks.append(name)
                inputs = 4 * features
        self.layers["predictions"] = nn.Linear(inputs, classes)

    def add_named(self, name: str, inputs: int, outputs: int, taps: int, **options):
        self.add(f"{name}_conv", f"{name}_bn", inputs, outputs, taps, **options)

    def forward(self, x):
        def convolve(x, name):
            return self.layers[f"{name}_bn"](self.layers[f"{name}_conv"](x))

        x = F.max_pool2d(F.relu(convolve(x, "conv1")), 3, 2, padding=1)
        for name in self.blocks:
            y = F.relu(convolve(x, f"{name}_1"))
            y = convolve(F.relu(convolve(y, f"{name}_2")), f"{name}_3")
            x = F.relu(y + (convolve(x, f"{name}_0") if f"{name}_0_conv" in self.layers else x))
        return self.layers["predictions"](x.mean((2, 3)))
