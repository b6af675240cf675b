"""Common parts of the models in plain PyTorch.

They use PyTorch's own layers and nothing else, as its users write them.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import nn


def tensor(value: Any) -> torch.Tensor:
    """A tensor from an array of JAX, with memory of its own."""
    return torch.from_numpy(np.array(value))


@torch.no_grad()
def load_linear(layer: nn.Module, values: Mapping[str, Any]) -> None:
    """Copies a dense layer's kernel and bias."""
    layer.weight.copy_(tensor(values["kernel"]).T)
    layer.bias.copy_(tensor(values["bias"]))


@torch.no_grad()
def load_convolution(layer: nn.Module, kernel: Any) -> None:
    """Copies a kernel (height, width, inputs, outputs)."""
    layer.weight.copy_(tensor(kernel).permute(3, 2, 0, 1))


@torch.no_grad()
def load_norm(layer: nn.Module, values: Mapping[str, Any]) -> None:
    """Copies the scale and bias of a normalisation that starts with default statistics."""
    layer.weight.copy_(tensor(values["scale"]))
    layer.bias.copy_(tensor(values["bias"]))


class Model(nn.Module):
    """A model with one loss, the result of a call, and Adam with Keras's epsilon.

    Args:
        learning_rate: of the optimiser.
    """

    def __init__(self, learning_rate: float):
        super().__init__()
        self.learning_rate = learning_rate

    def load(self, variables: Mapping[str, Any]) -> None:
        """Copies our values, from `asd_jax.training.variables`."""
        raise NotImplementedError

    def forward(self, batch: torch.Tensor) -> torch.Tensor:
        """Mean loss of (batch, frames, mels) views in dB."""
        raise NotImplementedError

    def evaluate(self, batch: torch.Tensor) -> torch.Tensor:
        """The loss of `forward`, with running statistics and without dropout."""
        self.eval()
        with torch.no_grad():
            loss = self(batch)
        self.train()
        return loss

    def compile_all(self) -> None:
        """Compiles the parts of a step."""
        self.compile()

    def optimizers(self) -> list[Any]:
        """The optimisers for `train_step`."""
        return [torch.optim.Adam(self.parameters(), self.learning_rate, eps=1e-7)]

    def train_step(self, batch, optimizers) -> torch.Tensor:
        """A step of the optimiser; the loss before it."""
        (optimizer,) = optimizers
        optimizer.zero_grad()
        loss = self(batch)
        loss.backward()
        optimizer.step()
        return loss.detach()

    def count(self) -> int:
        """Number of values, running statistics included."""
        values = self.state_dict()
        return sum(v.numel() for name, v in values.items() if "num_batches" not in name)
