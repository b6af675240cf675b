"""The autoencoders in plain PyTorch, and their losses; their values are taken from ours."""

import math
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from torch import nn

from benchmarks.peers.torch_base import Model, load_linear, load_norm, tensor


class DenseAutoencoder(Model):
    """Peer of `asd_jax.models.DenseAutoencoder`, five frames end to end."""

    def __init__(self, values: int, learning_rate: float = 1e-3):
        super().__init__(learning_rate)
        layers, inputs = [], values
        for width in (128, 128, 128, 128, 8, 128, 128, 128, 128):
            norm = nn.BatchNorm1d(width, eps=1e-3, momentum=0.01)
            layers += [nn.Linear(inputs, width), norm, nn.ReLU()]
            inputs = width
        self.layers = nn.Sequential(*layers, nn.Linear(inputs, values))

    def load(self, variables) -> None:
        """Copies our model's values."""
        params = variables["params"]
        linears = [layer for layer in self.layers if isinstance(layer, nn.Linear)]
        norms = [layer for layer in self.layers if isinstance(layer, nn.BatchNorm1d)]
        for i, layer in enumerate(linears):
            load_linear(layer, params[f"Dense_{i}"])
        for i, layer in enumerate(norms):
            load_norm(layer, params[f"BatchNorm_{i}"])

    def forward(self, batch: torch.Tensor) -> torch.Tensor:
        """Mean squared error."""
        x = batch.flatten(1)
        return F.mse_loss(self.layers(x), x)


class InterpolationAutoencoder(Model):
    """Peer of `asd_jax.models.InterpolationAutoencoder`."""

    def __init__(self, frames: int, mels: int, learning_rate: float = 1e-3):
        super().__init__(learning_rate)
        self.middle = frames // 2
        layers, inputs = [], (frames - 1) * mels
        for width in (256, 128, 64, 32, 64, 128, 256):
            layers += [nn.Linear(inputs, width), nn.ReLU()]
            inputs = width
        self.layers = nn.Sequential(*layers, nn.Linear(inputs, mels))

    def load(self, variables) -> None:
        """Copies our model's values."""
        linears = [layer for layer in self.layers if isinstance(layer, nn.Linear)]
        for i, layer in enumerate(linears):
            load_linear(layer, variables["params"][f"Dense_{i}"])

    def forward(self, batch: torch.Tensor) -> torch.Tensor:
        """Mean squared error of the middle frame."""
        neighbours = torch.cat([batch[:, : self.middle], batch[:, self.middle + 1 :]], dim=1)
        return F.mse_loss(self.layers(neighbours.flatten(1)), batch[:, self.middle])


class GroupMADE(Model):
    """Peer of `asd_jax.models.GroupMADE` with its defaults."""

    hidden, components, order = (128, 128, 128, 128, 32, 128, 128, 128, 128), 10, (0, 1, 3, 4, 2)

    def __init__(self, mels: int, learning_rate: float = 1e-3):
        super().__init__(learning_rate)
        frames = len(self.order)
        position = np.argsort(self.order)
        degrees = np.repeat(position, mels)
        self.layers = nn.ModuleList()
        inputs = frames * mels
        for i, width in enumerate(self.hidden):
            seen, degrees = degrees, np.arange(width) % (frames - 1)
            self.layers.append(nn.Linear(inputs, width))
            self._mask(i, seen[:, None] <= degrees)
            inputs = width
        outputs = np.repeat(position, mels * 3 * self.components)
        self.layers.append(nn.Linear(inputs, len(outputs)))
        self._mask(len(self.hidden), degrees[:, None] < outputs)
        self.register_buffer("mean", torch.zeros(mels), persistent=False)
        self.register_buffer("scale", torch.ones(mels), persistent=False)

    def _mask(self, layer: int, mask: np.ndarray) -> None:
        mask = torch.from_numpy(np.ascontiguousarray(mask.T, np.float32))
        self.register_buffer(f"mask{layer}", mask, persistent=False)

    def load(self, variables) -> None:
        """Copies our model's values."""
        for i, layer in enumerate(self.layers):
            load_linear(layer, variables["params"][f"MaskedDense_{i}"])
        self.mean.copy_(tensor(variables["input"]["mean"]))
        self.scale.copy_(tensor(variables["input"]["scale"]))

    def forward(self, batch: torch.Tensor) -> torch.Tensor:
        """Negative log likelihood."""
        x = (batch - self.mean) / self.scale
        h = x.flatten(1)
        for i, layer in enumerate(self.layers):
            h = F.linear(h, layer.weight * getattr(self, f"mask{i}"), layer.bias)
            h = F.relu(h) if i < len(self.hidden) else h
        logits, means, log_variances = h.reshape(*x.shape, 3, self.components).unbind(3)
        log_variances = 7 * torch.tanh(log_variances / 7)
        z2 = (x[..., None] - means) ** 2 * torch.exp(-log_variances)
        log_normal = -0.5 * (z2 + log_variances + math.log(2 * math.pi))
        densities = torch.logsumexp(F.log_softmax(logits, dim=-1) + log_normal, dim=-1)
        return -densities.sum((1, 2)).mean()


class LSTMAutoencoder(Model):
    """Peer of `asd_jax.models.LSTMAutoencoder`, trained by RMSprop with a decaying rate."""

    def __init__(self, mels: int, learning_rate: float = 1e-4, decay: float = 0.01):
        super().__init__(learning_rate)
        self.decay, self.encoder = decay, (128, 128, 128, 8)
        widths = (*self.encoder, *reversed(self.encoder))
        inputs = (mels, *self.encoder, *reversed(self.encoder))
        self.lstms = nn.ModuleList(nn.LSTM(a, b) for a, b in zip(inputs, widths, strict=False))
        self.norms = nn.ModuleList(nn.BatchNorm1d(b, eps=1e-3, momentum=0.01) for b in widths)
        self.dropout = nn.Dropout(0.2)
        self.last = nn.Linear(widths[-1], mels)
        self.register_buffer("mean", torch.zeros(mels), persistent=False)
        self.register_buffer("scale", torch.ones(mels), persistent=False)

    @torch.no_grad()
    def load(self, variables) -> None:
        """Copies our model's values."""
        params = variables["params"]
        for i, layer in enumerate(self.lstms):
            values = params[f"LSTM_{i}"]
            layer.weight_ih_l0.copy_(tensor(values["kernel"]).T)
            layer.weight_hh_l0.copy_(tensor(values["recurrent_kernel"]).T)
            layer.bias_ih_l0.copy_(tensor(values["bias"]))
            layer.bias_hh_l0.copy_(tensor(values["recurrent_bias"]))
        for i, layer in enumerate(self.norms):
            load_norm(layer, params[f"BatchNorm_{i}"])
        load_linear(self.last, params["Dense_0"])
        self.mean.copy_(tensor(variables["input"]["mean"]))
        self.scale.copy_(tensor(variables["input"]["scale"]))

    def optimizers(self) -> list[Any]:
        """RMSprop and its schedule."""
        rmsprop = torch.optim.RMSprop(self.parameters(), self.learning_rate, alpha=0.9, eps=1e-7)
        decayed = torch.optim.lr_scheduler.LambdaLR(rmsprop, lambda n: 1 / (1 + self.decay * n))
        return [rmsprop, decayed]

    def train_step(self, batch, optimizers) -> torch.Tensor:
        """A step of the optimiser and its schedule; the loss before it."""
        loss = super().train_step(batch, optimizers[:1])
        optimizers[1].step()
        return loss

    def forward(self, batch: torch.Tensor) -> torch.Tensor:
        """Mean squared error of scaled values."""
        scaled = ((batch - self.mean) / self.scale).transpose(0, 1)
        x, count = scaled, len(self.encoder)
        for n, (lstm, norm) in enumerate(zip(self.lstms, self.norms, strict=True), 1):
            x = lstm(x)[0]
            if n == count:
                x = self.dropout(norm(x[-1])).expand(len(scaled), -1, -1)
            else:
                x = norm(x.flatten(0, 1)).reshape(x.shape)
                x = self.dropout(x) if n < count else x
        return F.mse_loss(self.last(x), scaled)
