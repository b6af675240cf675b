"""The interpolation autoencoder: predicts a frame from its neighbours."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp


class InterpolationAutoencoder(nn.Module):
    """Dense layers with ReLU around a narrow one, then a linear layer of one frame's width.

    With four neighbours of 128 bands and the defaults it has 250,912 values.

    Attributes:
        encoder: widths of the encoder's layers, the narrow one last; the decoder has all but
            that one in reverse order.
        dtype: of the computation; weights, running statistics and outputs are float32.

    Examples:
        >>> network, neighbours = InterpolationAutoencoder(), jnp.zeros((2, 4, 128))
        >>> frame, variables = jax.eval_shape(
        ...     network.init_with_output, jax.random.key(0), neighbours
        ... )
        >>> frame.shape, sum(leaf.size for leaf in jax.tree.leaves(variables["params"]))
        ((2, 128), 250912)
    """

    encoder: tuple[int, ...] = (256, 128, 64, 32)
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, neighbours: jax.Array) -> jax.Array:
        """Predicts the frame in the middle.

        Args:
            neighbours: (batch, frames, mels), without the middle frame.

        Returns:
            (batch, mels).
        """
        dense = functools.partial(
            nn.Dense, dtype=self.dtype, kernel_init=nn.initializers.glorot_uniform()
        )
        x = neighbours.reshape(neighbours.shape[0], -1)
        for i, width in enumerate((*self.encoder, *reversed(self.encoder[:-1])), 1):
            x = nn.relu(dense(width)(x))
            if i == len(self.encoder):
                self.sow("intermediates", "latent", x.astype(jnp.float32))
        return dense(neighbours.shape[-1])(x).astype(jnp.float32)
