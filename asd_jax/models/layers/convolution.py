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
        use_bias: add a learned bias.
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

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """(batch, height, width, channels) → (batch, height', width', features)."""
        shape = (*self.kernel_size, x.shape[-1], self.features)
        kernel = self.param("kernel", self.kernel_init, shape)
        x, kernel = nn.dtypes.promote_dtype(x, kernel, dtype=self.dtype)
        y = convolve(x, kernel, self.strides, self.padding)
        return _add_bias(self, y) if self.use_bias else y


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


def _add_bias(layer: Convolution | DepthwiseConvolution, y: jax.Array) -> jax.Array:
    return y + layer.param("bias", layer.bias_init, y.shape[-1:]).astype(y.dtype)
