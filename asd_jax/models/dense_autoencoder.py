"""The dense autoencoder of the challenge's baselines since 2020."""

import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

# Keras's batch normalisation, which the challenge's programs use.
_BATCH_NORM: dict[str, Any] = {"momentum": 0.99, "epsilon": 1e-3, "use_fast_variance": False}


class _DenseBeforeNorm(nn.Dense):
    """A dense layer whose bias stays as it is, as the normalisation behind takes it off again.

    The bias's gradient is zero but for rounding, of which Adam makes steps of full size. Running
    means lag behind these, so that scores of a training would depend more on the order of its sums.
    """

    def param(self, name: str, *arguments: Any, **options: Any) -> Any:
        """A parameter of the layer, the bias without a gradient."""
        value = super().param(name, *arguments, **options)
        return jax.lax.stop_gradient(value) if name == "bias" else value


class DenseAutoencoder(nn.Module):
    """Dense → batch normalisation → ReLU layers around a narrow one, then a linear layer.

    With 640 inputs and the defaults it has 269,992 values, running statistics included.

    Attributes:
        hidden: widths of the encoder's layers; the decoder has them in reverse order.
        latent: width of the narrow layer, which also has normalisation and ReLU.
        dtype: of the computation; weights, running statistics and outputs are float32.

    Examples:
        >>> network, vectors = DenseAutoencoder(), jnp.zeros((2, 640))
        >>> reconstruction, variables = jax.eval_shape(
        ...     network.init_with_output, jax.random.key(0), vectors
        ... )
        >>> sizes = [leaf.size for name in ("params", "batch_stats")
        ...          for leaf in jax.tree.leaves(variables[name])]
        >>> reconstruction.shape, sum(sizes)
        ((2, 640), 269992)
    """

    hidden: tuple[int, ...] = (128, 128, 128, 128)
    latent: int = 8
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(
        self, x: jax.Array, train: bool = False, mask: jax.Array | None = None
    ) -> jax.Array:
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
        initial = nn.initializers.glorot_uniform()
        settings: dict[str, Any] = {"dtype": self.dtype, "kernel_init": initial}
        normalise = functools.partial(
            nn.BatchNorm, dtype=self.dtype, use_running_average=not train, **_BATCH_NORM
        )
        for i, width in enumerate(widths):
            dense = _DenseBeforeNorm(width, name=f"Dense_{i}", **settings)
            x = nn.relu(normalise()(dense(x), mask=mask))
            if i == len(self.hidden):
                self.sow("intermediates", "latent", x.astype(jnp.float32))
        last = nn.Dense(values, name=f"Dense_{len(widths)}", **settings)
        return last(x).astype(jnp.float32)
