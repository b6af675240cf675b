"""Branches of a sound's spectrum and spectrograms, whose embeddings are put side by side."""

from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from asd_jax.models.layers.batch_norm import BatchNorm
from asd_jax.models.layers.convolution import Convolution, ConvolutionAlong
from asd_jax.models.layers.operations import Padding, widened
from asd_jax.models.layers.pooling import max_pool

# As PyTorch draws the weights of linear layers and convolutions: ±1 / √inputs.
_INIT = nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform")
# Kernel and stride of the spectrum's convolutions.
_ALONG = ((256, 64), (64, 32), (16, 4))
_SQUEEZE = 16  # channels for each of the inner ones of squeeze and excitation
FEWEST = 36  # frames and bins that a spectrogram must have
FEWEST_BINS = 35_008  # that a spectrum must have for the last of its convolutions


class Multibranch(nn.Module):
    """Embeds sounds by their spectrum and by spectrograms of several resolutions.

    Source: Fujimura et al., MultiResNet of ASDKit (github.com/TakuyaFujimura/dcase-asd-toolkit,
    MIT), after Wilkinghoff's networks of two branches. No layer has a bias, and no normalisation is
    scaled or shifted. Differences: running variances have the number of values in their
    denominator, PyTorch's one less.

    At 16 kHz and 10 s, the branch of the spectrum has 1.53 million parameters, those of
    spectrograms of 256, 1024 and 4096 samples 0.77, 0.97 and 1.74 million.

    With `double`, branches are those of Direct-ACT (Wilkinghoff et al., arXiv 2509.10951) instead:
    residual blocks of twice as many convolutions, images padded as TensorFlow's "SAME", a shortcut
    of every second pixel, no squeeze and excitation, and a linear layer fewer behind the spectrum's
    convolutions.

    Attributes:
        width: channels of the spectrum's convolutions, and of the spectrograms' last ones, whose
            others have an eighth, a quarter and half of them.
        values: of a branch's embedding; 0 for as many as `width`.
        double: see above.
        dtype: of the convolutions; weights, statistics and outputs are float32.

    Examples:
        Ten seconds at 16 kHz, as `asd_jax.audio.spectra` has them.

        >>> network = Multibranch()
        >>> spectrum, spectrogram = jnp.zeros((2, 80_001)), jnp.zeros((2, 313, 500))
        >>> embeddings, variables = jax.eval_shape(
        ...     network.init_with_output, jax.random.key(0), spectrum, (spectrogram,)
        ... )
        >>> embeddings.shape, sum(leaf.size for leaf in jax.tree.leaves(variables["params"]))
        ((2, 256), 2495568)
    """

    width: int = 128
    values: int = 0
    double: bool = False
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self,
        spectrum: jax.Array | None,
        spectrograms: Sequence[jax.Array],
        train: bool = False,
        mask: jax.Array | None = None,
    ) -> jax.Array:
        """Embeds waveforms of one length.

        Args:
            spectrum: (batch, bins) magnitudes, at least `FEWEST_BINS`; None for no such branch.
            spectrograms: (batch, frames, bins) of each resolution, at least `FEWEST` of both.
            train: normalise by the batch and update the running statistics.
            mask: (batch,) true where a row counts towards the batch's statistics.

        Returns:
            (batch, branches · values), the spectrum's first.
        """
        embeddings = []
        options = self.width, self.values or self.width, self.double, self.dtype
        if spectrum is not None:
            of_spectrum = _SpectrumBranch(*options, name="spectrum")
            embeddings.append(of_spectrum(spectrum, train, mask))
        for number, each in enumerate(spectrograms):
            branch = _SpectrogramBranch(*options, name=f"spectrogram_{number}")
            embeddings.append(branch(each, train, mask))
        return jnp.concatenate(embeddings, axis=-1)


class _SpectrumBranch(nn.Module):
    """(batch, bins) → (batch, values): convolutions along the frequencies, linear layers."""

    width: int
    values: int
    double: bool
    dtype: Any

    @nn.compact
    def __call__(self, x: jax.Array, train: bool, mask: jax.Array | None) -> jax.Array:
        def linear(x: jax.Array, name: str, values: int = self.width) -> jax.Array:
            return nn.Dense(values, use_bias=False, kernel_init=_INIT, name=name)(x)

        if x.shape[1] < FEWEST_BINS:
            raise ValueError(f"a spectrum of {x.shape[1]} bins; its branch needs {FEWEST_BINS}")
        x = x[..., None]  # (batch, bins, channels)
        for number, (taps, stride) in enumerate(_ALONG):
            layer = ConvolutionAlong(
                *(self.width, taps, stride),
                kernel_init=_INIT,
                dtype=self.dtype,
                name=f"convolution_{number}",
            )
            x = nn.relu(widened(layer(x)))
            if not self.double:
                x = _excited(x, f"excitation_{number}")
        x = x.swapaxes(1, 2).reshape(x.shape[0], -1)  # channel by channel, as PyTorch flattens
        for number in range(4 if self.double else 5):
            x = nn.relu(_normalised(linear(x, f"linear_{number}"), train, mask, f"norm_{number}"))
        return linear(x, "embedding", self.values)


class _SpectrogramBranch(nn.Module):
    """(batch, frames, bins) → (batch, values): residual blocks, and the maximum over time."""

    width: int
    values: int
    double: bool
    dtype: Any

    @nn.compact
    def __call__(self, x: jax.Array, train: bool, mask: jax.Array | None) -> jax.Array:
        if min(x.shape[1:]) < FEWEST:
            raise ValueError(
                f"a spectrogram of {x.shape[1]} frames and {x.shape[2]} bins; its branch needs "
                f"{FEWEST} of both"
            )

        def convolution(
            x: jax.Array, features: int, taps: int, stride: int, padding: Padding, name: str
        ) -> jax.Array:
            layer = Convolution(
                *(features, (taps, taps), stride, padding),
                use_bias=False,
                kernel_init=_INIT,
                dtype=self.dtype,
                name=name,
            )
            return widened(layer(x))

        def normalised(x: jax.Array, name: str) -> jax.Array:
            return _normalised(x, train, mask, name)

        def block(x: jax.Array, features: int, stride: int, name: str) -> jax.Array:
            x = normalised(x, f"{name}_norm_0")
            y = convolution(nn.relu(x), features, 3, stride, 1, f"{name}_convolution_0")
            y = nn.relu(normalised(y, f"{name}_norm_1"))
            y = convolution(y, features, 3, 1, 1, f"{name}_convolution_1")
            y = _excited(y, f"{name}_excitation")
            if stride > 1:
                x = convolution(max_pool(x, 3, stride, 1), features, 1, 1, 0, f"{name}_shortcut")
            return x + y

        def double_block(x: jax.Array, features: int, stride: int, name: str) -> jax.Array:
            if stride > 1:
                x = normalised(x, f"{name}_norm_0")
            y = convolution(nn.relu(x), features, 3, stride, "SAME", f"{name}_convolution_0")
            y = nn.relu(normalised(y, f"{name}_norm_1"))
            y = convolution(y, features, 3, 1, "SAME", f"{name}_convolution_1")
            if stride > 1:
                x = convolution(x[:, ::2, ::2], features, 1, 1, 0, f"{name}_shortcut")
            x = normalised(x + y, f"{name}_norm_2")
            y = convolution(nn.relu(x), features, 3, 1, "SAME", f"{name}_convolution_2")
            y = nn.relu(normalised(y, f"{name}_norm_3"))
            return x + convolution(y, features, 3, 1, "SAME", f"{name}_convolution_3")

        x = normalised(x[:, :, None], "bins")[:, :, 0, :, None]  # each bin by itself
        x = convolution(x, self.width // 8, 7, 2, "SAME" if self.double else 0, "first")
        x = max_pool(nn.relu(normalised(x, "first_norm")), 3, 2)
        for stage in range(4):
            features, first = self.width * 2**stage // 8, 2 if stage else 1
            if self.double:
                x = double_block(x, features, first, f"stage_{stage}")
                continue
            for number, stride in enumerate((first, 1)):
                x = block(x, features, stride, f"stage_{stage}_block_{number}")
        x = x.max(axis=1).swapaxes(1, 2).reshape(x.shape[0], -1)  # (batch, channels · bins)
        x = normalised(x, "flat_norm")
        return nn.Dense(self.values, use_bias=False, kernel_init=_INIT, name="embedding")(x)


def _excited(x: jax.Array, name: str) -> jax.Array:
    """Squeeze and excitation: each channel times a factor that all channels' means decide on."""
    channels, between = x.shape[-1], tuple(range(1, x.ndim - 1))

    def linear(x: jax.Array, features: int, number: int) -> jax.Array:
        layer = nn.Dense(features, use_bias=False, kernel_init=_INIT, name=f"{name}_{number}")
        return layer(x)

    inner = nn.relu(linear(x.mean(axis=between), max(1, channels // _SQUEEZE), 0))
    return x * jnp.expand_dims(nn.sigmoid(linear(inner, channels, 1)), between)


def _normalised(x: jax.Array, train: bool, mask: jax.Array | None, name: str) -> jax.Array:
    """Images, or rows (batch, values), normalised by the last axis."""
    images = x if x.ndim == 4 else x[:, None, None]
    y = BatchNorm(momentum=0.9, epsilon=1e-5, affine=False, name=name)(images, train, mask)
    return y.reshape(x.shape)
