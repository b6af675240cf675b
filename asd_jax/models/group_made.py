"""Group MADE: the density of frames, each conditioned on those earlier in an order."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

# Bound of log variances, ±: deviations from 0.03 to 33 of an input standardised to 1.
LOG_VARIANCE_BOUND = 7.0


class MaskedDense(nn.Module):
    """A dense layer with some of its connections cut.

    Attributes:
        gain: initial variance of a unit's weights, times the number of its connections.
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

        def kernel_init(key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
            variance = self.gain / np.maximum(mask.sum(axis=0), 1)
            return jax.random.normal(key, shape) * np.sqrt(variance).astype(np.float32)

        # Weights of cut connections exist, without effect; their gradient is zero.
        kernel = self.param("kernel", kernel_init, mask.shape)
        bias = self.param("bias", self.bias_init, mask.shape[1:])
        x, kernel, bias = nn.dtypes.promote_dtype(x, kernel * mask, bias, dtype=self.dtype)
        return x @ kernel + bias


class GroupMADE(nn.Module):
    """Dense layers with ReLU whose connections keep the frames' order, then a linear layer.

    A hidden unit's degree is the last position of the order that it may depend on; a layer's
    units take the degrees 0 to frames − 2 in turn, as nothing depends on the last frame. A unit
    is connected to units of its own and higher degrees, and to the outputs of frames at positions
    above its degree; the outputs of the order's first frame are biases alone.

    With five frames of 128 bands and the defaults it has 19,200 outputs and 2,666,272 values,
    cut connections included.

    Attributes:
        hidden: widths of the layers, each at least frames − 1: with fewer units, some degree and
            so some frame would have none.
        components: Gaussians in the mixture of every value.
        order: the frame at each position; a frame is conditioned on those at earlier positions.
        dtype: of the computation; weights, running statistics and outputs are float32.

    Examples:
        >>> network, frames = GroupMADE(), jnp.zeros((2, 5, 128))
        >>> (logits, means, log_variances), variables = jax.eval_shape(
        ...     network.init_with_output, jax.random.key(0), frames
        ... )
        >>> means.shape, sum(leaf.size for leaf in jax.tree.leaves(variables))
        ((2, 5, 128, 10), 2666272)
    """

    hidden: tuple[int, ...] = (128, 128, 128, 128, 32, 128, 128, 128, 128)
    components: int = 10
    order: tuple[int, ...] = (0, 1, 3, 4, 2)
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        """Predicts the mixture of every value, given the frames before its own in the order.

        Args:
            x: (batch, frames, mels), as many frames as the order has.

        Returns:
            Logits, means and log variances, each (batch, frames, mels, components).
        """
        batch, frames, mels = x.shape
        position = np.argsort(self.order)  # of each frame in the order
        degrees = np.repeat(position, mels)  # of the inputs, (frames · mels,)
        h = x.reshape(batch, -1)
        for width in self.hidden:
            previous, degrees = degrees, np.arange(width) % (frames - 1)
            h = nn.relu(MaskedDense(2, dtype=self.dtype)(h, previous[:, None] <= degrees))
        # Outputs need strictly lower degrees, so that no value depends on its own frame.
        outputs = np.repeat(position, mels * 3 * self.components)
        h = MaskedDense(0.01, self._initial_biases, self.dtype)(h, degrees[:, None] < outputs)
        logits, means, log_variances = jnp.moveaxis(
            h.astype(jnp.float32).reshape(batch, frames, mels, 3, self.components), 3, 0
        )
        bounded = LOG_VARIANCE_BOUND * jnp.tanh(log_variances / LOG_VARIANCE_BOUND)
        return logits, means, bounded

    def _initial_biases(self, key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
        """Means at evenly spaced quantiles of a standard normal distribution, the rest 0.

        The biases of equal Gaussians would have equal gradients, so that they never differed.
        """
        quantiles = (np.arange(self.components) + 0.5) / self.components
        means = jax.scipy.special.ndtri(jnp.asarray(quantiles, jnp.float32))
        # (values, logits / means / log variances, components)
        biases = jnp.zeros((shape[0] // (3 * self.components), 3, self.components), jnp.float32)
        return biases.at[:, 1].set(means).reshape(shape)


def log_density(
    x: jax.Array, logits: jax.Array, means: jax.Array, log_variances: jax.Array
) -> jax.Array:
    """Log density of frames, with a mixture of Gaussians for each value.

    Args:
        x: (batch, frames, mels).
        logits: (batch, frames, mels, components), of the components' weights.
        means: as `logits`.
        log_variances: as `logits`.

    Returns:
        (batch, frames), in nats, summed over a frame's values.

    Examples:
        The standard normal density at 0, of one value: -log √(2π).

        >>> zeros = np.zeros((1, 1, 1, 2))  # two equal components
        >>> round(log_density(np.zeros((1, 1, 1)), zeros, zeros, zeros).item(), 4)
        -0.9189
    """
    return log_densities(x, logits, means, log_variances).sum(axis=-1)


def log_densities(
    x: jax.Array, logits: jax.Array, means: jax.Array, log_variances: jax.Array
) -> jax.Array:
    """Log density of each value (batch, frames, mels), in nats; arguments as of `log_density`.

    Examples:
        >>> zeros = np.zeros((1, 1, 2, 1))
        >>> found = log_densities(np.array([[[0.0, 1.0]]]), zeros, zeros, zeros)
        >>> [round(value, 4) for value in found.ravel().tolist()]
        [-0.9189, -1.4189]
    """
    # Of each component: (batch, frames, mels, components).
    z2 = (x[..., None] - means) ** 2 * jnp.exp(-log_variances)
    log_normal = -0.5 * (z2 + log_variances + np.log(2 * np.pi))
    log_weights = jax.nn.log_softmax(logits, axis=-1)
    return jax.scipy.special.logsumexp(log_weights + log_normal, axis=-1)
