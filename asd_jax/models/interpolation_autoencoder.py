"""The interpolation autoencoder: a frame from its neighbours."""

import flax.linen as nn
import jax


class InterpolationAutoencoder(nn.Module):
    """Dense layers with ReLU around a narrow one, then a linear layer of one frame's width.

    With four neighbours of 128 bands and the defaults it has 250,912 values.

    Attributes:
        encoder: widths of the encoder's layers, the narrow one last; the decoder has all but
            that one in reverse order.
    """

    encoder: tuple[int, ...] = (256, 128, 64, 32)

    @nn.compact
    def __call__(self, neighbours: jax.Array) -> jax.Array:
        """Predicts the frame in the middle.

        Args:
            neighbours: (batch, frames, mels), without the middle frame.

        Returns:
            (batch, mels).
        """
        kernel_init = nn.initializers.glorot_uniform()
        x = neighbours.reshape(len(neighbours), -1)
        for i, width in enumerate((*self.encoder, *reversed(self.encoder[:-1])), 1):
            x = nn.relu(nn.Dense(width, kernel_init=kernel_init)(x))
            if i == len(self.encoder):
                self.sow("intermediates", "latent", x)
        return nn.Dense(neighbours.shape[-1], kernel_init=kernel_init)(x)
