"""The dense autoencoder of the challenge's baselines, 2020 to 2022 (and 2023 onwards)."""

import flax.linen as nn
import jax

# Keras's batch normalisation, which the challenge's programs use.
_BATCH_NORM = {"momentum": 0.99, "epsilon": 1e-3, "use_fast_variance": False}


class DenseAutoencoder(nn.Module):
    """Dense → batch normalisation → ReLU layers around a narrow one, then a linear layer.

    With 640 inputs and the defaults it has 269,992 values, running statistics included.

    Attributes:
        hidden: widths of the encoder's layers; the decoder has them in reverse order.
        latent: width of the narrow layer, which also has normalisation and ReLU.
    """

    hidden: tuple[int, ...] = (128, 128, 128, 128)
    latent: int = 8

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False, mask: jax.Array | None = None):
        """Reconstructs `x`.

        Args:
            x: (batch, values).
            train: normalise by the batch and update the running statistics.
            mask: (batch,) true where a row counts towards the batch's statistics.

        Returns:
            (batch, values).
        """
        values = x.shape[-1]
        widths = (*self.hidden, self.latent, *reversed(self.hidden))
        mask = None if mask is None else mask[:, None]
        for i, width in enumerate(widths):
            x = nn.Dense(width, kernel_init=nn.initializers.glorot_uniform())(x)
            x = nn.BatchNorm(use_running_average=not train, **_BATCH_NORM)(x, mask=mask)
            x = nn.relu(x)
            if i == len(self.hidden):
                self.sow("intermediates", "latent", x)
        return nn.Dense(values, kernel_init=nn.initializers.glorot_uniform())(x)
