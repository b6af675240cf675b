"""The networks of asymmetric GANomaly: an autoencoder, a second encoder, a discriminator."""

from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp

from asd_jax.models.layers.batch_norm import BatchNorm
from asd_jax.models.layers.convolution import Convolution
from asd_jax.models.layers.operations import convolve

_KERNEL = (5, 5)
_kernel_init = nn.initializers.normal(0.02)


def _scale_init(key: jax.Array, shape: Sequence[int]) -> jax.Array:
    return 1 + 0.02 * jax.random.normal(key, shape, jnp.float32)


def _convolution(width: int, stride: int, dtype: jnp.dtype, name: str) -> Convolution:
    return Convolution(
        width, _KERNEL, stride, 2, use_bias=False, kernel_init=_kernel_init, dtype=dtype, name=name
    )


def _normalise(x: jax.Array, train: bool, mask: jax.Array | None) -> jax.Array:
    """Batch normalisation with PyTorch's momentum and epsilon; for calls inside a module."""
    return BatchNorm(0.9, 1e-5, _scale_init)(x, train, mask)


class Encoder(nn.Module):
    """Four 5×5 convolutions, the first, third and fourth of stride 2.

    Convolution → leaky ReLU → batch normalisation, the last without normalisation unless
    `normalise_last`.

    Attributes:
        width: channels of the first two convolutions; the others have twice as many.
        normalise_last: normalise the last convolution too, as in the discriminator.
        dtype: of the computation and its output; weights and statistics are float32.
    """

    width: int = 128
    normalise_last: bool = False
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(
        self, x: jax.Array, train: bool = False, mask: jax.Array | None = None
    ) -> jax.Array:
        """(batch, frames, mels, 1) → (batch, frames / 8, mels / 8, 2 · width)."""
        layers = ((1, 2), (1, 1), (2, 2), (2, 2))
        for i, (factor, stride) in enumerate(layers):
            x = nn.leaky_relu(
                _convolution(factor * self.width, stride, self.dtype, f"Conv_{i}")(x), 0.01
            )
            if i < len(layers) - 1 or self.normalise_last:
                x = _normalise(x, train, mask)
        return x


class Doubling(nn.Module):
    """Transposed 5×5 convolution of stride 2 that exactly doubles both lengths, without bias.

    PyTorch computes the same with padding 2 and output padding 1, from the mirrored kernel.

    Attributes:
        features: channels of the output.
        dtype: as in `Encoder`.
    """

    features: int
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """(batch, height, width, channels) → (batch, 2 · height, 2 · width, features)."""
        batch, height, width, channels = x.shape
        kernel = self.param("kernel", _kernel_init, (*_KERNEL, channels, self.features))
        # Along each axis an output at an even place reads three inputs, by the kernel's taps 0, 2
        # and 4; one at an odd place reads two of the same three, by taps 1 and 3. So the four kinds
        # of outputs are the channels of one 3×3 convolution, whose gradient takes XLA on CPUs a
        # twentieth of the time of a dilated convolution's.
        x, kernel = nn.dtypes.promote_dtype(x, kernel, dtype=self.dtype)
        taps = jnp.pad(kernel, ((1, 0), (1, 0), (0, 0), (0, 0)))  # six taps along each axis
        taps = taps.reshape(3, 2, 3, 2, channels, -1)[:, ::-1, :, ::-1]
        taps = taps.transpose(0, 2, 4, 1, 3, 5).reshape(3, 3, channels, -1)
        y = convolve(x, taps)  # (batch, height, width, 2 · 2 · features)
        y = y.reshape(batch, height, width, 2, 2, -1).transpose(0, 1, 3, 2, 4, 5)
        return y.reshape(batch, 2 * height, 2 * width, -1)


class Decoder(nn.Module):
    """Three transposed 5×5 convolutions of stride 2.

    Attributes:
        width: of the encoder; the two inner layers have four times as many channels.
        activation: of the output, "tanh" or "relu".
        dtype: as in `Encoder`.
    """

    width: int = 128
    activation: str = "tanh"
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(
        self, z: jax.Array, train: bool = False, mask: jax.Array | None = None
    ) -> jax.Array:
        """(batch, t, f, channels) → (batch, 8 · t, 8 · f, 1)."""

        for _ in range(2):
            z = nn.relu(_normalise(Doubling(4 * self.width, self.dtype)(z), train, mask))
        return {"tanh": jnp.tanh, "relu": nn.relu}[self.activation](Doubling(1, self.dtype)(z))


class GANomalyGenerator(nn.Module):
    """Encoder, decoder, and a second encoder of the reconstruction.

    With the default width it has 15,588,096 parameters.

    Attributes:
        width: as in `Encoder`.
        activation: as in `Decoder`.
        dtype: of the computation; weights, running statistics and outputs are float32.

    Examples:
        >>> network, pictures = GANomalyGenerator(), jnp.zeros((2, 312, 128, 1))
        >>> (reconstruction, latent, _), variables = jax.eval_shape(
        ...     network.init_with_output, jax.random.key(0), pictures
        ... )
        >>> reconstruction.shape, latent.shape
        ((2, 312, 128, 1), (2, 39, 16, 256))
        >>> sum(leaf.size for leaf in jax.tree.leaves(variables["params"]))
        15588096
    """

    width: int = 128
    activation: str = "tanh"
    dtype: jnp.dtype = jnp.float32

    def setup(self) -> None:
        """Names the three networks as the report does."""
        self.encoder = Encoder(self.width, dtype=self.dtype)
        self.decoder = Decoder(self.width, self.activation, self.dtype)
        self.second_encoder = Encoder(self.width, dtype=self.dtype)

    def __call__(
        self, x: jax.Array, train: bool = False, mask: jax.Array | None = None
    ) -> Sequence[jax.Array]:
        """Reconstructs spectrograms.

        Args:
            x: (batch, frames, mels, 1), both lengths multiples of 8.
            train: normalise by the batch and update the running statistics.
            mask: (batch,) true where a row counts towards the batch's statistics.

        Returns:
            (batch, frames, mels, 1) reconstruction, and the latents of the input and of the
            reconstruction, each (batch, frames / 8, mels / 8, 2 · width).
        """
        latent = self.encoder(x, train, mask)
        reconstruction = self.decoder(latent, train, mask)
        latent_of_fake = self.second_encoder(reconstruction, train, mask)
        return tuple(y.astype(jnp.float32) for y in (reconstruction, latent, latent_of_fake))


class GANomalyDiscriminator(nn.Module):
    """The encoder with a fifth convolution and a linear layer.

    For 312 × 128 input and the default width it has 4,551,297 parameters.

    Attributes:
        width: as in `Encoder`.
        dtype: of the computation; weights, running statistics and outputs are float32.

    Examples:
        >>> network, pictures = GANomalyDiscriminator(), jnp.zeros((2, 312, 128, 1))
        >>> (logits, _), variables = jax.eval_shape(
        ...     network.init_with_output, jax.random.key(0), pictures
        ... )
        >>> logits.shape, sum(leaf.size for leaf in jax.tree.leaves(variables["params"]))
        ((2,), 4551297)
    """

    width: int = 128
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(
        self, x: jax.Array, train: bool = False, mask: jax.Array | None = None
    ) -> tuple[jax.Array, jax.Array]:
        """Classifies spectrograms as real or reconstructed.

        Args:
            x: (batch, frames, mels, 1).
            train: as in `GANomalyGenerator`.
            mask: as in `GANomalyGenerator`.

        Returns:
            (batch,) logits for "real", and the (batch, …) features below the linear layer.
        """
        x = Encoder(self.width, True, self.dtype)(x, train, mask)
        features = nn.leaky_relu(_convolution(2 * self.width, 2, self.dtype, "Conv_0")(x), 0.01)
        logits = nn.Dense(1, dtype=self.dtype)(features.reshape(features.shape[0], -1))
        return logits[:, 0].astype(jnp.float32), features.astype(jnp.float32)
