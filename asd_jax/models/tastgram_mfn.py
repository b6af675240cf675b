"""TASTgram-MFN: MobileFaceNet on three pictures of a sound, by its waveform and its log-mels."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from asd_jax.models.layers.batch_norm import BatchNorm
from asd_jax.models.layers.convolution import Convolution, ConvolutionAlong, DepthwiseConvolution
from asd_jax.models.layers.operations import Padding, widened

# Samples of a Tgram's frame, and from one frame to the next.
WINDOW, HOP = 1024, 512
# Expansion and number of the blocks of each stage, whose first block has a stride of 2.
_STAGES = ((2, 2), (4, 2), (4, 2))
# As PyTorch draws the weights of convolutions (±1 / √inputs), and as MobileFaceNet's authors.
_UNIFORM = nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform")
_NORMAL = nn.initializers.variance_scaling(2.0, "fan_out", "normal")


class TASTgramMFN(nn.Module):
    """Embeds sounds by their Tgram, their log-mels, and their TAgram, side by side as channels.

    Source: Choi and Choi 2024, TASTgram-MFN (github.com/soonhyeon/Noisy-ArcMix, MIT), after Liu et
    al. 2022, STgram-MFN.

    Attributes:
        width: values of an embedding, and channels of MobileFaceNet's blocks.
        stages: of MobileFaceNet's sequences of blocks, how many are used, from its input on.
        dtype: of the convolutions; weights, statistics and outputs are float32.

    Examples:
        Ten seconds at 16 kHz.

        >>> network = TASTgramMFN()
        >>> waveforms, log_mels = jnp.zeros((2, 160_000)), jnp.zeros((2, 313, 128))
        >>> embeddings, variables = jax.eval_shape(
        ...     network.init_with_output, jax.random.key(0), waveforms, log_mels
        ... )
        >>> embeddings.shape, sum(leaf.size for leaf in jax.tree.leaves(variables["params"]))
        ((2, 128), 1151318)
    """

    width: int = 128
    stages: int = len(_STAGES)
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self,
        waveforms: jax.Array,
        log_mels: jax.Array,
        train: bool = False,
        mask: jax.Array | None = None,
    ) -> jax.Array:
        """Embeds waveforms of one length.

        Args:
            waveforms: (batch, samples).
            log_mels: (batch, frames, mels), in dB, of frames `HOP` samples apart, the first one
                centred on the first sample.
            train: normalise by the batch and update the running statistics.
            mask: (batch,) true where a row counts towards the batch's statistics.

        Returns:
            (batch, width).
        """
        of_waveforms = Tgram(log_mels.shape[-1], self.dtype, name="tgram")(waveforms)
        channels = [of_waveforms, log_mels, tagram(log_mels)]
        network = MobileFaceNet(self.width, self.stages, self.dtype, name="network")
        return network(jnp.stack(channels, axis=-1), train, mask)


def tagram(log_mels: jax.Array) -> jax.Array:
    """Log-mels in which frames count by their level (temporally attended): TAgram.

    Args:
        log_mels: (..., mels) in dB.

    Returns:
        As `log_mels`, each frame times the sigmoid of its largest plus its mean value.

    Examples:
        The level of the second frame is 2 + 1 = 3, whose sigmoid is 0.953.

        >>> found = tagram(jnp.array([[-9.0, -9.0], [0.0, 2.0]]))
        >>> [[round(float(value), 3) + 0.0 for value in frame] for frame in found]
        [[0.0, 0.0], [0.0, 1.905]]
    """
    level = log_mels.max(axis=-1, keepdims=True) + log_mels.mean(axis=-1, keepdims=True)
    return nn.sigmoid(level) * log_mels


class Tgram(nn.Module):
    """A picture of a waveform by learned filters, of the form of a spectrogram.

    Its layers normalise each channel over time, with a scale and a shift for each frame, so that it
    serves waveforms of one length.

    Attributes:
        channels: of a frame.
        dtype: of the convolutions; weights and outputs are float32.

    Examples:
        >>> x, variables = jax.eval_shape(
        ...     Tgram().init_with_output, jax.random.key(0), jnp.zeros((2, 160_000))
        ... )
        >>> x.shape, sum(leaf.size for leaf in jax.tree.leaves(variables))
        ((2, 313, 128), 280406)
    """

    channels: int = 128
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, waveforms: jax.Array) -> jax.Array:
        """(batch, samples) → (batch, frames, channels), samples / `HOP` + 1 frames."""

        def convolution(x: jax.Array, taps: int, stride: int, padding: int, name: str) -> jax.Array:
            options = {"kernel_init": _UNIFORM, "dtype": self.dtype, "name": name}
            return widened(ConvolutionAlong(self.channels, taps, stride, padding, **options)(x))

        x = convolution(waveforms[..., None], WINDOW, HOP, WINDOW // 2, "filters")
        for number in range(3):
            over_time = nn.LayerNorm(
                epsilon=1e-5,
                reduction_axes=1,
                feature_axes=1,
                use_fast_variance=False,
                name=f"norm_{number}",
            )
            x = convolution(nn.leaky_relu(over_time(x), 0.2), 3, 1, 1, f"convolution_{number}")
        return x


class MobileFaceNet(nn.Module):
    """MobileFaceNet, as STgram-MFN and TASTgram-MFN have it, for images of any size.

    Source: Chen et al. 2018, MobileFaceNets. The last depthwise convolution is as large as what it
    is given, 20 frames and 8 bands of 10 s at 16 kHz. Difference: running variances have the number
    of values in their denominator, PyTorch's one less.

    Attributes:
        width: values of an embedding, and channels of the blocks; a half and four times as many
            before and behind them.
        stages: of the sequences of blocks, how many are used, from the input on.
        dtype: of the convolutions; weights, statistics and outputs are float32.

    Examples:
        >>> images = jnp.zeros((2, 313, 128, 3))
        >>> x, variables = jax.eval_shape(
        ...     MobileFaceNet().init_with_output, jax.random.key(0), images
        ... )
        >>> x.shape, sum(leaf.size for leaf in jax.tree.leaves(variables["params"]))
        ((2, 128), 870912)
    """

    width: int = 128
    stages: int = len(_STAGES)
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self, x: jax.Array, train: bool = False, mask: jax.Array | None = None
    ) -> jax.Array:
        """Embeds images.

        Args:
            x: (batch, frames, mels, channels).
            train: normalise by the batch and update the running statistics.
            mask: (batch,) true where a row counts towards the batch's statistics.

        Returns:
            (batch, width).
        """

        def normalised(x: jax.Array, name: str) -> jax.Array:
            return BatchNorm(momentum=0.9, epsilon=1e-5, name=f"{name}_norm")(x, train, mask)

        def activated(x: jax.Array, name: str) -> jax.Array:
            return _PReLU(name=f"{name}_activation")(normalised(x, name))

        def dense(
            x: jax.Array, features: int, taps: int, stride: int, padding: Padding, name: str
        ) -> jax.Array:
            geometry = (features, (taps, taps), stride, padding, False, _NORMAL)
            return Convolution(*geometry, dtype=self.dtype, name=name)(x)

        def depthwise(x: jax.Array, stride: int, name: str) -> jax.Array:
            geometry = ((3, 3), stride, 1, False, _NORMAL)
            return DepthwiseConvolution(*geometry, dtype=self.dtype, name=name)(x)

        def block(x: jax.Array, stride: int, expansion: int, name: str) -> jax.Array:
            """Widens by a 1×1 convolution, filters each channel, narrows by another 1×1."""
            inner, wide = x.shape[-1] * expansion, f"{name}_expand"
            y = activated(dense(x, inner, 1, 1, 0, wide), wide)
            y = activated(depthwise(y, stride, f"{name}_depthwise"), f"{name}_depthwise")
            y = normalised(dense(y, self.width, 1, 1, 0, f"{name}_project"), f"{name}_project")
            return x + y if stride == 1 and x.shape[-1] == self.width else y

        x = activated(dense(x, self.width // 2, 3, 2, 1, "first"), "first")
        x = activated(depthwise(x, 1, "first_depthwise"), "first_depthwise")
        for stage, (expansion, blocks) in enumerate(_STAGES[: self.stages]):
            for n in range(blocks):
                x = block(x, 1 if n else 2, expansion, f"stage_{stage}_block_{n}")
        x = activated(dense(x, 4 * self.width, 1, 1, 0, "last"), "last")
        # A depthwise convolution with a kernel as large as the image is a weighted sum.
        kernel = self.param("sum", _NORMAL, (*x.shape[1:3], 1, x.shape[3]))
        x = widened(x) * kernel[:, :, 0]
        x = normalised(x.sum(axis=(1, 2), keepdims=True), "sum")  # (batch, 1, 1, channels)
        x = normalised(widened(dense(x, self.width, 1, 1, 0, "embedding")), "embedding")
        return x[:, 0, 0]


class _PReLU(nn.Module):
    """The identity above 0, a learned factor for each channel below."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        factor = self.param("factor", nn.initializers.constant(0.25), x.shape[-1:])
        return jnp.where(x > 0, x, factor.astype(x.dtype) * x)
