"""The dense autoencoder of the challenge's baselines since 2020."""

from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp

from asd_jax.models.layers.batch_norm import BatchNorm

Framework = Literal["keras", "pytorch"]


class _DenseBeforeNorm(nn.Dense):
    """A dense layer whose bias stays as it starts, as the normalisation behind takes it off again.

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
        framework: "keras" draws weights by Glorot's uniform distribution and starts biases at 0;
            "pytorch" draws both between ±1/√inputs, and its running variances have n − 1 in their
            denominator.
        momentum: weight of the running statistics in their update by a batch; 1 less PyTorch's.
        epsilon: added to variances.

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
    framework: Framework = "keras"
    momentum: float = 0.99
    epsilon: float = 1e-3

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
        for i, width in enumerate(widths):
            dense = _DenseBeforeNorm(width, name=f"Dense_{i}", **self._dense(x.shape[-1]))
            x = nn.relu(self._normalised(dense(x), i, train, mask))
            if i == len(self.hidden):
                self.sow("intermediates", "latent", x.astype(jnp.float32))
        last = nn.Dense(values, name=f"Dense_{len(widths)}", **self._dense(x.shape[-1]))
        return last(x).astype(jnp.float32)

    def _dense(self, inputs: int) -> dict[str, Any]:
        """Settings of a dense layer of so many inputs."""
        if self.framework == "keras":
            return {"dtype": self.dtype, "kernel_init": nn.initializers.glorot_uniform()}
        drawn = _uniform(inputs**-0.5)
        return {"dtype": self.dtype, "kernel_init": drawn, "bias_init": drawn}

    def _normalised(
        self, x: jax.Array, number: int, train: bool, mask: jax.Array | None
    ) -> jax.Array:
        """`x` (batch, values) after batch normalisation; the layer is called as in Flax."""
        settings: dict[str, Any] = {"momentum": self.momentum, "epsilon": self.epsilon}
        settings["name"] = f"BatchNorm_{number}"
        if self.framework == "pytorch":
            layer = BatchNorm(**settings, unbiased=True)
            return layer(x[:, None, None], train, mask)[:, 0, 0]  # as images of one pixel
        keras = nn.BatchNorm(
            **settings, dtype=self.dtype, use_running_average=not train, use_fast_variance=False
        )
        return keras(x, mask=None if mask is None else mask[:, None])


def _uniform(bound: float) -> nn.initializers.Initializer:
    """Draws uniformly between ±`bound`."""

    def draw(key: jax.Array, shape: Any, dtype: Any = jnp.float32) -> jax.Array:
        return jax.random.uniform(key, shape, dtype, -bound, bound)

    return draw
