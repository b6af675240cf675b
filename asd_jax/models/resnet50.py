"""ResNet-50: residual blocks of three convolutions, the first of a stage with stride."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from asd_jax.models.layers.batch_norm import BatchNorm
from asd_jax.models.layers.convolution import Convolution
from asd_jax.models.layers.operations import Padding

# Channels of the inner convolutions, blocks, stride of the first block.
_STAGES = ((64, 3, 1), (128, 4, 2), (256, 6, 2), (512, 3, 2))
_OUTER = 4


class ResNet50(nn.Module):
    """ResNet-50 (version 1) as in Keras, with Keras's names of layers.

    Its convolutions have biases, and the first 1×1 convolution of a stage has the stride. With
    three channels of input and four classes it has 23,595,908 values, running statistics included.

    He et al., Deep Residual Learning for Image Recognition, CVPR 2016.

    Attributes:
        classes: outputs of the linear layer at the end; None for no such layer.
        momentum: of the batch normalisation's running statistics; Keras's by default.
        stages: channels of the inner convolutions, blocks and stride of the first block of
            each sequence of blocks; fewer than all make a smaller network.
        dtype: of the computation; weights, running statistics and outputs are float32.

    Examples:
        >>> network = ResNet50(classes=4)
        >>> images = jnp.zeros((2, 64, 128, 3))
        >>> logits, variables = jax.eval_shape(
        ...     network.init_with_output, jax.random.key(0), images
        ... )
        >>> logits.shape, sum(leaf.size for leaf in jax.tree.leaves(variables))
        ((2, 4), 23595908)
    """

    classes: int | None = None
    momentum: float = 0.99
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
            (batch, classes) logits; without classes (batch, 2048), the last layer's mean over
            the image.
        """

        def convolve(
            x: jax.Array,
            features: int,
            kernel_size: tuple[int, int],
            stride: int,
            name: str,
            padding: Padding = "SAME",
        ) -> jax.Array:
            """A convolution and its normalisation."""
            layer = Convolution(
                *(features, kernel_size, stride, padding),
                dtype=self.dtype,
                learn_bias=False,
                name=f"{name}_conv",
            )
            x = layer(x)
            return BatchNorm(self.momentum, 1.001e-5, name=f"{name}_bn")(x, train, mask)

        def block(x: jax.Array, features: int, stride: int, first: bool, name: str) -> jax.Array:
            """Three convolutions beside a shortcut, which the first block of a stage projects."""
            y = nn.relu(convolve(x, features, (1, 1), stride, f"{name}_1"))
            y = nn.relu(convolve(y, features, (3, 3), 1, f"{name}_2"))
            y = convolve(y, _OUTER * features, (1, 1), 1, f"{name}_3")
            if first:
                x = convolve(x, _OUTER * features, (1, 1), stride, f"{name}_0")
            return nn.relu(x + y)

        x = nn.relu(convolve(x, 64, (7, 7), 2, "conv1", padding=3))
        # Keras pads with zeros; after the ReLU they have the same effect as −∞ here.
        x = nn.max_pool(x, (3, 3), (2, 2), ((1, 1), (1, 1)))
        for stage, (features, blocks, stride) in enumerate(self.stages, 2):
            for n in range(blocks):
                name = f"conv{stage}_block{n + 1}"
                x = block(x, features, stride if n == 0 else 1, n == 0, name)
        x = x.astype(jnp.float32).mean(axis=(1, 2))  # (batch, features)
        if self.classes is None:
            return x
        initial = nn.initializers.glorot_uniform()
        return nn.Dense(self.classes, kernel_init=initial, name="predictions")(x)
