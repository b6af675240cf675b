"""The joint network of several branches in plain PyTorch, layers under the same names as ours."""

import math

import torch
import torch.nn.functional as F  # noqa: N812
from torch import nn

from benchmarks.peers.torch_base import Model, load_convolution, tensor

_ALONG = ((256, 64), (64, 32), (16, 4))


def _norm(features: int, kind: type[nn.Module] = nn.BatchNorm2d) -> nn.Module:
    return kind(features, affine=False)


class Excitation(nn.Module):
    """Squeeze and excitation of the channels on axis 1."""

    def __init__(self, channels: int):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(channels, channels // 16, bias=False),
            nn.ReLU(),
            nn.Linear(channels // 16, channels, bias=False),
            nn.Sigmoid(),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(batch, channels, …) → the same shape."""
        factors = self.layers(x.flatten(2).mean(2))
        return x * factors.reshape(*factors.shape, *[1] * (x.ndim - 2))


class Block(nn.Module):
    """A residual block."""

    def __init__(self, inputs: int, features: int, stride: int):
        super().__init__()
        self.norm = _norm(inputs)
        self.first = nn.Conv2d(inputs, features, 3, stride, 1, bias=False)
        self.second = nn.Conv2d(features, features, 3, 1, 1, bias=False)
        self.between, self.excitation = _norm(features), Excitation(features)
        self.shortcut = nn.Conv2d(inputs, features, 1, bias=False) if stride > 1 else None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(batch, inputs, frames, bins) → (batch, features, frames', bins')."""
        x = self.norm(x)
        y = F.relu(self.between(self.first(F.relu(x))))
        y = self.excitation(self.second(y))
        if self.shortcut is not None:
            x = self.shortcut(F.max_pool2d(x, 3, 2, 1))
        return x + y


class SpectrogramBranch(nn.Module):
    """(batch, frames, bins) → (batch, width)."""

    def __init__(self, bins: int, width: int):
        super().__init__()
        self.bins = _norm(bins, nn.BatchNorm1d)
        self.first, self.first_norm = nn.Conv2d(1, width // 8, 7, 2, bias=False), _norm(width // 8)
        blocks, inputs = [], width // 8
        for stage in range(4):
            features = width * 2**stage // 8
            for number in range(2):
                blocks.append(Block(inputs, features, 2 if stage and not number else 1))
                inputs = features
        self.blocks = nn.Sequential(*blocks)
        left = ((bins - 7) // 2 + 1 - 3) // 2 + 1
        for _ in range(3):
            left = (left + 1) // 2
        self.flat_norm = _norm(width * left, nn.BatchNorm1d)
        self.embedding = nn.Linear(width * left, width, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Embeds spectrograms."""
        x = self.bins(x.transpose(1, 2)).transpose(1, 2)[:, None]
        x = F.max_pool2d(F.relu(self.first_norm(self.first(x))), 3, 2)
        return self.embedding(self.flat_norm(self.blocks(x).amax(2).flatten(1)))


class SpectrumBranch(nn.Module):
    """(batch, bins) → (batch, width)."""

    def __init__(self, bins: int, width: int):
        super().__init__()
        layers, inputs = [], 1
        for taps, stride in _ALONG:
            layers += [nn.Conv1d(inputs, width, taps, stride, bias=False), nn.ReLU()]
            layers.append(Excitation(width))
            bins, inputs = (bins - taps) // stride + 1, width
        self.convolutions = nn.Sequential(*layers)
        sizes = [width * bins] + [width] * 5
        self.linear = nn.Sequential()
        for inputs in sizes[:-1]:
            self.linear.append(nn.Linear(inputs, width, bias=False))
            self.linear.append(_norm(width, nn.BatchNorm1d))
            self.linear.append(nn.ReLU())
        self.embedding = nn.Linear(width, width, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Embeds spectra."""
        return self.embedding(self.linear(self.convolutions(x[:, None]).flatten(1)))


class Multibranch(Model):
    """Peer of the system `multibranch`, without mixing, as its users would write it.

    Args:
        settings: of the system.
        samples: of a waveform.
        labels: (batch,) the classes.
        channels_last: layout of images in memory.
        learning_rate: of AdamW.
    """

    def __init__(self, settings, samples: int, labels: torch.Tensor, channels_last: bool, rate):
        super().__init__(rate)
        self.settings, self.channels_last = settings, channels_last
        classes = int(labels.max()) + 1
        self.spectrum = SpectrumBranch(samples // 2 + 1, settings.width)
        self.spectrograms = nn.ModuleList(
            SpectrogramBranch(n // 2 + 1 - self._first(n), settings.width) for n in settings.n_ffts
        )
        if channels_last:
            self.spectrograms.to(memory_format=torch.channels_last)
        inputs = settings.width * (1 + len(settings.n_ffts))
        self.centres = nn.Parameter(torch.zeros(inputs, classes, settings.sub_centres))
        self.scale = math.sqrt(2) * math.log(classes * settings.sub_centres - 1)
        self.register_buffer("labels", labels)
        for n in settings.n_ffts:
            self.register_buffer(f"window_{n}", torch.hann_window(n), persistent=False)

    @staticmethod
    def _first(n_fft: int) -> int:
        """First frequency from 200 Hz on, at 16 kHz."""
        return math.ceil(200 * n_fft / 16_000)

    def _spectrogram(self, sounds: torch.Tensor, n_fft: int) -> torch.Tensor:
        window = getattr(self, f"window_{n_fft}")
        options = {"center": True, "pad_mode": "constant", "return_complex": True}
        spectrum = torch.stft(sounds, n_fft, n_fft // 2, window=window, **options)
        magnitudes = spectrum.abs()[:, self._first(n_fft) :] / window.square().sum().sqrt()
        return magnitudes.transpose(1, 2)

    def forward(self, batch: torch.Tensor) -> torch.Tensor:
        """Mean loss of waveforms (batch, samples)."""
        parts = [self.spectrum(torch.fft.rfft(batch).abs())]
        for branch, n_fft in zip(self.spectrograms, self.settings.n_ffts, strict=True):
            parts.append(branch(self._spectrogram(batch, n_fft)))
        embeddings = F.normalize(torch.cat(parts, 1))
        logits = self.scale * (embeddings @ F.normalize(self.centres, dim=0).flatten(1))
        logits = logits.reshape(len(batch), *self.centres.shape[1:])
        log_p = logits.logsumexp(2) - logits.logsumexp((1, 2))[:, None]
        return F.nll_loss(log_p, self.labels)

    def optimizers(self):
        """AdamW with PyTorch's defaults."""
        return [torch.optim.AdamW(self.parameters(), self.learning_rate)]

    @torch.no_grad()
    def load(self, variables) -> None:
        """Copies our values; running statistics are those of the start."""
        params = variables["params"]
        self.centres.copy_(tensor(params["centres"]))
        own = params["network"]["spectrum"]
        for number, (taps, _) in enumerate(_ALONG):
            kernel = tensor(own[f"convolution_{number}"]["kernel"])
            kernel = kernel.reshape(taps, -1, kernel.shape[1]).permute(2, 1, 0)
            self.spectrum.convolutions[3 * number].weight.copy_(kernel)
            _load_excitation(
                self.spectrum.convolutions[3 * number + 2], own, f"excitation_{number}"
            )
        for number in range(5):
            _load_dense(self.spectrum.linear[3 * number], own[f"linear_{number}"])
        _load_dense(self.spectrum.embedding, own["embedding"])
        for number, branch in enumerate(self.spectrograms):
            own = params["network"][f"spectrogram_{number}"]
            load_convolution(branch.first, own["first"]["kernel"])
            _load_dense(branch.embedding, own["embedding"])
            for place, block in enumerate(branch.blocks):
                name = f"stage_{place // 2}_block_{place % 2}"
                load_convolution(block.first, own[f"{name}_convolution_0"]["kernel"])
                load_convolution(block.second, own[f"{name}_convolution_1"]["kernel"])
                _load_excitation(block.excitation, own, f"{name}_excitation")
                if block.shortcut is not None:
                    load_convolution(block.shortcut, own[f"{name}_shortcut"]["kernel"])


def _load_dense(layer: nn.Module, values) -> None:
    layer.weight.copy_(tensor(values["kernel"]).T)


def _load_excitation(layer: Excitation, values, name: str) -> None:
    for part in (0, 1):
        _load_dense(layer.layers[2 * part], values[f"{name}_{part}"])
