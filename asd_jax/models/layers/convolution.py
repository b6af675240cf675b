"""Convolution layers with the parameters of `flax.linen.Conv`, fast on CPUs too, in loops too.

`asd_jax.models.layers.operations` has the computation, and describes images and padding.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

from asd_jax.models.layers.operations import Padding, convolve, convolve_depthwise


class Convolution(nn.Module):
    """Dense convolution: `kernel` (height, width, inputs, features) and `bias` (features,).

    Attributes:
        features: channels of the output.
        kernel_size: height and width of the kernel.
        strides: of both directions, or of each.
        padding: as described in `operations`.
        use_bias: add a bias.
        learn_bias: train the bias. Before a batch normalisation, which takes it off again, its
            gradient is rounding alone, of which Adam makes steps of full size.
        kernel_init: initial kernel; Keras's by default.
        bias_init: initial bias.
        dtype: of the computation and its output; weights are float32.

    Examples:
        >>> layer = Convolution(features=8, kernel_size=(3, 3), strides=2)
        >>> images = jnp.zeros((1, 32, 64, 3))
        >>> y, variables = jax.eval_shape(layer.init_with_output, jax.random.key(0), images)
        >>> y.shape, variables["params"]["kernel"].shape
        ((1, 16, 32, 8), (3, 3, 3, 8))
    """

    features: int
    kernel_size: tuple[int, int]
    strides: int | tuple[int, int] = 1
    padding: Padding = "SAME"
    use_bias: bool = True
    kernel_init: nn.initializers.Initializer = nn.initializers.glorot_uniform()
    bias_init: nn.initializers.Initializer = nn.initializers.zeros
    dtype: jnp.dtype = jnp.float32
    learn_bias: bool = True

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """(batch, height, width, channels) → (batch, height', width', features)."""
        shape = (*self.kernel_size, x.shape[-1], self.features)
        kernel = self.param("kernel", self.kernel_init, shape)
        x, kernel = nn.dtypes.promote_dtype(x, kernel, dtype=self.dtype)
        y = convolve(x, kernel, self.strides, self.padding)
        return _add_bias(self, y, self.learn_bias) if self.use_bias else y


class DepthwiseConvolution(nn.Module):
    """Depthwise convolution: a kernel for each channel, (height, width, 1, channels), and `bias`.

    Attributes:
        kernel_size: height and width of the kernel.
        strides: of both directions, or of each.
        padding: as described in `operations`.
        use_bias: add a learned bias.
        kernel_init: initial kernel; Keras's by default: the sum of fans, which sets its range, is
            the same although Keras's depthwise kernels are (height, width, channels, 1).
        bias_init: initial bias.
        dtype: of the computation and its output; weights are float32.

    Examples:
        >>> layer = DepthwiseConvolution()
        >>> images = jnp.zeros((1, 32, 64, 8))
        >>> y, variables = jax.eval_shape(layer.init_with_output, jax.random.key(0), images)
        >>> y.shape, variables["params"]["kernel"].shape
        ((1, 32, 64, 8), (3, 3, 1, 8))
    """

    kernel_size: tuple[int, int] = (3, 3)
    strides: int | tuple[int, int] = 1
    padding: Padding = "SAME"
    use_bias: bool = True
    kernel_init: nn.initializers.Initializer = nn.initializers.glorot_uniform()
    bias_init: nn.initializers.Initializer = nn.initializers.zeros
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """(batch, height, width, channels) → (batch, height', width', channels)."""
        channels = x.shape[-1]
        kernel = self.param("kernel", self.kernel_init, (*self.kernel_size, 1, channels))
        x, kernel = nn.dtypes.promote_dtype(x, kernel, dtype=self.dtype)
        y = convolve_depthwise(x, kernel, self.strides, self.padding)
        return _add_bias(self, y) if self.use_bias else y


class ConvolutionAlong(nn.Module):
    """Convolution along the only axis of a sequence, as one matrix product; without a bias.

    Its parameter `kernel` is (taps · inputs, features).

    Attributes:
        features: channels of the output.
        taps: length of the kernel.
        stride: from one output's first input to the next one's; it divides `taps`.
        padding: zeros on either side.
        kernel_init: initial kernel.
        dtype: of the computation and its output; weights are float32.

    Examples:
        >>> layer = ConvolutionAlong(features=8, taps=1024, stride=512, padding=512)
        >>> waveforms = jnp.zeros((1, 16_000, 1))
        >>> y, variables = jax.eval_shape(layer.init_with_output, jax.random.key(0), waveforms)
        >>> y.shape, variables["params"]["kernel"].shape
        ((1, 32, 8), (1024, 8))
    """

    features: int
    taps: int
    stride: int = 1
    padding: int = 0
    kernel_init: nn.initializers.Initializer = nn.initializers.glorot_uniform()
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """(batch, n, channels) → (batch, n', features)."""
        kernel = self.param("kernel", self.kernel_init, (self.taps * x.shape[-1], self.features))
        x, kernel = nn.dtypes.promote_dtype(x, kernel, dtype=self.dtype)
        x = jnp.pad(x, ((0, 0), (self.padding, self.padding), (0, 0)))
        count = (x.shape[1] - self.taps) // self.stride + 1
        # Slices of blocks side by side, as the stride divides the taps: a gather would be slower.
        overlap = self.taps // self.stride
        n_blocks = count + overlap - 1
        blocks = x[:, : n_blocks * self.stride].reshape(x.shape[0], n_blocks, -1)
        seen = jnp.concatenate([blocks[:, i : i + count] for i in range(overlap)], axis=-1)
        return seen @ kernel


def _add_bias(
    layer: Convolution | DepthwiseConvolution, y: jax.Array, learn: bool = True
) -> jax.Array:
    bias = layer.param("bias", layer.bias_init, y.shape[-1:]).astype(y.dtype)
    return y + (bias if learn else jax.lax.stop_gradient(bias))
