"""Asymmetric GANomaly in plain PyTorch; values are taken from ours."""

import torch
import torch.nn.functional as F  # noqa: N812
from torch import nn

from benchmarks.peers.torch_base import Model, load_convolution, load_linear, load_norm, tensor


def _norm(width: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(width, eps=1e-5, momentum=0.1)


class Encoder(nn.Module):
    """Peer of `asd_jax.models.ganomaly.Encoder`."""

    def __init__(self, width: int, normalise_last: bool = False):
        super().__init__()
        widths = (1, width, width, 2 * width, 2 * width)
        self.convolutions = nn.ModuleList(
            nn.Conv2d(a, b, 5, stride, padding=2, bias=False)
            for a, b, stride in zip(widths, widths[1:], (2, 1, 2, 2), strict=False)
        )
        kept = widths[1:] if normalise_last else widths[1:-1]
        self.norms = nn.ModuleList(map(_norm, kept))

    def load(self, params) -> None:
        """Copies our network's values."""
        for i, layer in enumerate(self.convolutions):
            load_convolution(layer, params[f"Conv_{i}"]["kernel"])
        for i, layer in enumerate(self.norms):
            load_norm(layer, params[f"BatchNorm_{i}"])

    def forward(self, x):
        for i, layer in enumerate(self.convolutions):
            x = F.leaky_relu(layer(x), 0.01)
            x = self.norms[i](x) if i < len(self.norms) else x
        return x


class Decoder(nn.Module):
    """Peer of `asd_jax.models.ganomaly.Decoder` with a tanh."""

    def __init__(self, width: int):
        super().__init__()
        widths = (2 * width, 4 * width, 4 * width, 1)
        self.convolutions = nn.ModuleList(
            nn.ConvTranspose2d(a, b, 5, 2, padding=2, output_padding=1, bias=False)
            for a, b in zip(widths, widths[1:], strict=False)
        )
        self.norms = nn.ModuleList(map(_norm, widths[1:-1]))

    @torch.no_grad()
    def load(self, params) -> None:
        """Copies our network's values; PyTorch's kernels of such layers are mirrored."""
        for i, layer in enumerate(self.convolutions):
            kernel = tensor(params[f"Doubling_{i}"]["kernel"])
            layer.weight.copy_(kernel.permute(2, 3, 0, 1).flip(2, 3))
        for i, layer in enumerate(self.norms):
            load_norm(layer, params[f"BatchNorm_{i}"])

    def forward(self, x):
        for i, norm in enumerate(self.norms):
            x = F.relu(norm(self.convolutions[i](x)))
        return torch.tanh(self.convolutions[-1](x))


class Discriminator(nn.Module):
    """Peer of `asd_jax.models.GANomalyDiscriminator`."""

    def __init__(self, width: int, frames: int, mels: int):
        super().__init__()
        self.encoder = Encoder(width, normalise_last=True)
        self.convolution = nn.Conv2d(2 * width, 2 * width, 5, 2, padding=2, bias=False)
        self.shape = (-(-frames // 16), -(-mels // 16), 2 * width)
        self.last = nn.Linear(self.shape[0] * self.shape[1] * self.shape[2], 1)

    def load(self, params) -> None:
        """Copies our network's values; its pixels come before its channels."""
        self.encoder.load(params["Encoder_0"])
        load_convolution(self.convolution, params["Conv_0"]["kernel"])
        kernel = tensor(params["Dense_0"]["kernel"]).reshape(*self.shape, 1)
        load_linear(
            self.last,
            {
                "kernel": kernel.permute(2, 0, 1, 3).reshape(-1, 1),
                "bias": params["Dense_0"]["bias"],
            },
        )

    def forward(self, x):
        features = F.leaky_relu(self.convolution(self.encoder(x)), 0.01)
        return self.last(features.flatten(1))[:, 0]


class GANomaly(Model):
    """The networks, and a step of both as in `asd_jax.detectors.ganomaly`."""

    def __init__(self, width: int, frames: int, mels: int, learning_rate: float = 1e-3):
        super().__init__(learning_rate)
        self.generator = nn.ModuleList([Encoder(width), Decoder(width), Encoder(width)])
        self.discriminator = Discriminator(width, frames, mels)
        self.register_buffer("low", torch.zeros(()), persistent=False)
        self.register_buffer("range", torch.ones(()), persistent=False)

    def load(self, variables) -> None:
        """Copies our model's values."""
        params = variables["params"]
        names = ("encoder", "decoder", "second_encoder")
        for network, name in zip(self.generator, names, strict=True):
            network.load(params["generator"][name])
        self.discriminator.load(params["discriminator"])
        self.low.copy_(tensor(variables["input"]["low"]))
        self.range.copy_(tensor(variables["input"]["range"]))

    def optimizers(self) -> list[torch.optim.Optimizer]:
        """One a network."""
        return [
            torch.optim.SGD(network.parameters(), self.learning_rate, momentum=0.9)
            for network in (self.generator, self.discriminator)
        ]

    def _scaled(self, batch):
        return (2 * (batch - self.low) / self.range - 1)[:, None]

    def compile_all(self) -> None:
        """The generator's loss, and the discriminator for its own."""
        self.generator_loss = torch.compile(self.generator_loss)
        self.discriminator.compile()

    def generator_loss(self, x):
        """The generator's loss of scaled views, and their reconstructions."""
        encoder, decoder, second = self.generator
        latent = encoder(x)
        fake = decoder(latent)
        real, false = (torch.sigmoid(self.discriminator(each)) for each in (x, fake))
        loss = F.mse_loss(latent, second(fake)) + 50 * F.l1_loss(fake, x)
        return loss + F.mse_loss(real, false), fake

    def forward(self, batch) -> torch.Tensor:
        """The generator's loss."""
        return self.generator_loss(self._scaled(batch))[0]

    def train_step(self, batch, optimizers) -> torch.Tensor:
        """A step of both networks; the generator's loss before it."""
        x = self._scaled(batch)
        loss, fake = self.generator_loss(x)
        # The generator's loss needs no gradients of the discriminator.
        gradients = torch.autograd.grad(loss, list(self.generator.parameters()))
        fake = fake.detach()
        real_logits, fake_logits = self.discriminator(x), self.discriminator(fake)
        entropy = F.binary_cross_entropy_with_logits
        judged = entropy(real_logits, torch.ones_like(real_logits))
        judged = (judged + entropy(fake_logits, torch.zeros_like(fake_logits))) / 2
        optimizers[1].zero_grad()
        judged.backward()
        for parameter, gradient in zip(self.generator.parameters(), gradients, strict=True):
            parameter.grad = gradient
        for optimizer in optimizers:
            optimizer.step()
        return loss.detach()
