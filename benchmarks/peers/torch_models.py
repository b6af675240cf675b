"""MobileNetV2 and ResNet-50 in plain PyTorch, layers under the same names as ours."""

import torch
import torch.nn.functional as F  # noqa: N812
from torch import nn

from asd_jax.models import mobilenet_v2
from benchmarks.peers.torch_base import Model, load_convolution, load_linear, load_norm, tensor


def pad_as_tensorflow(x: torch.Tensor) -> torch.Tensor:
    """Pads with zeros for a 3×3 kernel of stride 2: at even sizes only at the end."""
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
        """Copies our network's values; its running statistics are those of the start."""
        for name, values in variables["params"].items():
            layer = self.layers[name]
            if "scale" in values:
                load_norm(layer, values)
            elif values["kernel"].ndim == 2:
                load_linear(layer, values)
            else:
                load_convolution(layer, values["kernel"])
                if "bias" in values:
                    with torch.no_grad():
                        layer.bias.copy_(tensor(values["bias"]))


class MobileNetV2(Network):
    """Peer of `asd_jax.models.MobileNetV2`; arguments are its attributes."""

    def __init__(self, width: float, classes: int, stages, momentum: float, channels: int = 3):
        super().__init__(1e-3, 1 - momentum)
        features = mobilenet_v2.round_channels(32 * width)
        self.add("Conv1", "bn_Conv1", channels, features, 3, stride=2, bias=False)
        self.blocks = []
        for outputs, blocks, first_stride in stages:
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
    """Peer of `asd_jax.models.ResNet50`; arguments are its attributes."""

    def __init__(self, classes: int, stages, momentum: float, channels: int = 3):
        super().__init__(1.001e-5, 1 - momentum)
        self.add("conv1_conv", "conv1_bn", channels, 64, 7, stride=2, padding=3)
        self.blocks = []
        inputs = 64
        for stage, (features, blocks, first_stride) in enumerate(stages, 2):
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


class Classifier(Model):
    """A network trained as in `asd_jax.detectors.id_classifier`, without augmentation.

    Args:
        network: of images of three channels, its last layer named "predictions".
        labels: (batch,) of every batch.
        channels_last: lay images out with their channels last.
    """

    def __init__(self, network: Network, labels: torch.Tensor, mels: int, channels_last=False):
        super().__init__(1e-3)
        self.form = torch.channels_last if channels_last else torch.contiguous_format
        self.network = network.to(memory_format=self.form)
        self.register_buffer("labels", labels, persistent=False)
        self.register_buffer("mean", torch.zeros(mels), persistent=False)
        self.register_buffer("std", torch.ones(mels), persistent=False)

    def load(self, variables) -> None:
        """Copies our model's values."""
        params = variables["params"]
        self.network.load({"params": {**params["network"], "predictions": params["head"]}})
        self.mean.copy_(tensor(variables["input"]["mean"]))
        self.std.copy_(tensor(variables["input"]["std"]))

    def forward(self, batch):
        """Cross-entropy."""
        x = ((batch - self.mean) / self.std)[:, None].repeat(1, 3, 1, 1)
        return F.cross_entropy(self.network(x.contiguous(memory_format=self.form)), self.labels)
