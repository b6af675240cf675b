"""Group MADE: the density of some frames, each given those before it in an order."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

# Log variances lie within ± this: deviations from 0.03 to 33 of an input standardised to 1.
LOG_VARIANCE_BOUND = 7.0


class MaskedDense(nn.Module):
    """A dense layer of which some connections are cut.

    Attributes:
        gain: variance of a unit's weights, times the number of its connections, at the start.
        bias_init: initialiser of the biases.
        dtype: of the computation; weights are float32.
    """

    gain: float
    bias_init: nn.initializers.Initializer = nn.initializers.zeros
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, mask: np.ndarray) -> jax.Array:
        """Applies the layer.

        Args:
            x: (batch, inputs).
            mask: (inputs, units), true where an input is connected to a unit.

        Returns:
            (batch, units).
        """

        def kernel_init(key, shape):
            variance = self.gain / np.maximum(mask.sum(axis=0), 1)
            return jax.random.normal(key, shape) * np.sqrt(variance).astype(np.float32)

        # Weights of cut connections are there, but without effect, and never change.
        kernel = self.param("kernel", kernel_init, mask.shape)
        bias = self.param("bias", self.bias_init, mask.shape[1:])
        x, kernel, bias = nn.dtypes.promote_dtype(x, kernel * mask, bias, dtype=self.dtype)
        return x @ kernel + bias


class GroupMADE(nn.Module):
    """Dense layers with ReLU whose connections keep the frames' order, then a linear layer.

    A hidden unit's degree is the last position of the order that it may see; a layer's units
    take the degrees 0 to frames − 2 in turn, the last frame being seen by none. A unit is
    connected to those of its own and higher degrees, and a frame's outputs to the units of
    degrees below its position; those of the order's first frame are biases alone.

    With five frames of 128 bands and the defaults it has 19,200 outputs and 2,666,272 values,
    cut connections included.

    Attributes:
        hidden: widths of the layers, each frames − 1 or more, or a frame would not be seen.
        components: Gaussians in the mixture of every value.
        order: the frame at each position; a frame is conditioned on those at earlier ones.
        dtype: of the computation; weights, running statistics and outputs are float32.
    """

    hidden: tuple[int, ...] = (128, 128, 128, 128, 32, 128, 128, 128, 128)
    components: int = 10
    order: tuple[int, ...] = (0, 1, 3, 4, 2)
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        """Gives the mixture of every value given the frames before its own.

        Args:
            x: (batch, frames, mels), as many frames as the order has.

        Returns:
            Logits, means and log variances, each (batch, frames, mels, components).
        """
        batch, frames, mels = x.shape
        position = np.argsort(self.order)
        degrees = np.repeat(position, mels)
        h = x.reshape(batch, -1)
        for width in self.hidden:
            seen, degrees = degrees, np.arange(width) % (frames - 1)
            h = nn.relu(MaskedDense(2, dtype=self.dtype)(h, seen[:, None] <= degrees))
        outputs = np.repeat(position, mels * 3 * self.components)
        h = MaskedDense(0.01, self._initial_biases, self.dtype)(h, degrees[:, None] < outputs)
        logits, means, log_variances = jnp.moveaxis(
            h.astype(jnp.float32).reshape(batch, frames, mels, 3, self.components), 3, 0
        )
        bounded = LOG_VARIANCE_BOUND * jnp.tanh(log_variances / LOG_VARIANCE_BOUND)
        return logits, means, bounded

    def _initial_biases(self, key, shape, dtype=jnp.float32):
        """Means at evenly spaced quantiles of a standard normal distribution, the rest 0.

        Gaussians that start alike would have the same gradients in their biases.
        """
        quantiles = (np.arange(self.components) + 0.5) / self.components
        means = jax.scipy.special.ndtri(jnp.asarray(quantiles, dtype))
        biases = jnp.zeros((shape[0] // (3 * self.components), 3, self.components), dtype)
        return biases.at[:, 1].set(means).reshape(shape)


def log_density(
    x: jax.Array, logits: jax.Array, means: jax.Array, log_variances: jax.Array
) -> jax.Array:
    """Log density of frames under mixtures of Gaussians, one mixture a value.

    Args:
        x: (batch, frames, mels).
        logits: (batch, frames, mels, components), of the components' weights.
        means: as `logits`.
        log_variances: as `logits`.

    Returns:
        (batch, frames), in nats, summed over a frame's values.
    """
    z2 = (x[..., None] - means) ** 2 * jnp.exp(-log_variances)
    log_normal = -0.5 * (z2 + log_variances + np.log(2 * np.pi))
    log_weights = jax.nn.log_softmax(logits, axis=-1)
    return jax.scipy.special.logsumexp(log_weights + log_normal, axis=-1).sum(axis=-1)
