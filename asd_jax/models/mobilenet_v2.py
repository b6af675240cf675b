"""MobileNetV2: inverted residual blocks of pointwise and depthwise convolutions."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from asd_jax.models.layers.batch_norm import BatchNorm
from asd_jax.models.layers.convolution import Convolution, DepthwiseConvolution

# Channels, blocks and stride of the first block of each stage; blocks but the first expand six
# times.
_STAGES = ((16, 1, 1), (24, 2, 2), (32, 3, 2), (64, 4, 2), (96, 3, 1), (160, 3, 2), (320, 1, 1))
_EXPANSION = 6
_LAST = 1280


def round_channels(channels: float) -> int:
    """Rounds to a multiple of 8 that is at least 8 and at least nine tenths of `channels`.

    Examples:
        >>> round_channels(11), round_channels(44)
        (16, 48)
    """
    rounded = max(8, int(channels + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * channels else rounded


class MobileNetV2(nn.Module):
    """MobileNetV2 as in Keras, with Keras's names of layers.

    With three channels of input, running statistics included, width 0.5 has 706,224 values
    without classes and 711,348 with four; width 1 with two classes has 2,260,546.

    Sandler et al., MobileNetV2: Inverted Residuals and Linear Bottlenecks, CVPR 2018.

    Attributes:
        width: factor of the channels of all layers; the last layer only grows by it.
        classes: outputs of the linear layer at the end; None for no such layer.
        momentum: of the batch normalisation's running statistics; Keras's by default.
        stages: channels, blocks and stride of the first block of each sequence of blocks;
            fewer than all make a smaller network.
        dtype: of the computation; weights, running statistics and outputs are float32.

    Examples:
        >>> network = MobileNetV2(width=0.5, classes=4)
        >>> images = jnp.zeros((2, 64, 128, 3))
        >>> logits, variables = jax.eval_shape(
        ...     network.init_with_output, jax.random.key(0), images
        ... )
        >>> logits.shape, sum(leaf.size for leaf in jax.tree.leaves(variables))
        ((2, 4), 711348)
    """

    width: float = 1.0
    classes: int | None = None
    momentum: float = 0.999
    stages: tuple[tuple[int, int, int], ...] = _STAGES
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(
        self, x: jax.Array, train: bool = False, mask: jax.Array | None = None
    ) -> jax.Array:
        """Computes features or logits of images.

        Args:
            x: (batch, height, width, channels), of any size.
            train: normalise by the batch and update the running statistics.
            mask: (batch,) true where a row counts towards the batch's statistics.

        Returns:
            (batch, classes) logits; without classes the last layer's mean over the image,
            (batch, 1280) up to width 1.
        """

        def normalise(x: jax.Array, name: str) -> jax.Array:
            return BatchNorm(self.momentum, 1e-3, name=name)(x, train, mask)

        def dense(
            x: jax.Array, features: int, kernel_size: tuple[int, int], stride: int, name: str
        ) -> jax.Array:
            return Convolution(
                features, kernel_size, stride, use_bias=False, dtype=self.dtype, name=name
            )(x)

        def block(x: jax.Array, features: int, stride: int, expansion: int, name: str) -> jax.Array:
            """Widens by a 1×1 convolution, filters each channel, narrows by another 1×1."""
            y = x
            if expansion > 1:
                y = dense(y, expansion * x.shape[-1], (1, 1), 1, f"{name}_expand")
                y = nn.relu6(normalise(y, f"{name}_expand_BN"))
            y = DepthwiseConvolution(
                (3, 3), stride, use_bias=False, dtype=self.dtype, name=f"{name}_depthwise"
            )(y)
            y = nn.relu6(normalise(y, f"{name}_depthwise_BN"))
            y = dense(y, features, (1, 1), 1, f"{name}_project")
            y = normalise(y, f"{name}_project_BN")
            return x + y if stride == 1 and x.shape[-1] == features else y

        x = dense(x, round_channels(32 * self.width), (3, 3), 2, "Conv1")
        x = nn.relu6(normalise(x, "bn_Conv1"))
        number = 0  # of the block; Keras does not number the first one
        for channels, blocks, first_stride in self.stages:
            features = round_channels(int(channels * self.width))
            for n in range(blocks):
                name = f"block_{number}" if number else "expanded_conv"
                stride, expansion = first_stride if n == 0 else 1, _EXPANSION if number else 1
                x = block(x, features, stride, expansion, name)
                number += 1
        last = round_channels(_LAST * max(1.0, self.width))
        x = nn.relu6(normalise(dense(x, last, (1, 1), 1, "Conv_1"), "Conv_1_bn"))
        x = x.astype(jnp.float32).mean(axis=(1, 2))  # (batch, features)
        if self.classes is None:
            return x
        initial = nn.initializers.glorot_uniform()
        return nn.Dense(self.classes, kernel_init=initial, name="predictions")(x)
