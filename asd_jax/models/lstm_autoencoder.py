"""The LSTM autoencoder: a sequence of frames encoded into one vector and decoded from it."""

import flax.linen as nn
import jax
import jax.numpy as jnp

# Keras's batch normalisation, with its defaults.
_BATCH_NORM = {"momentum": 0.99, "epsilon": 1e-3, "use_fast_variance": False}


def _unit_forget_bias(key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """Zeros, but ones for the forget gate."""
    del key
    return jnp.zeros(shape, jnp.float32).reshape(4, -1).at[1].set(1).reshape(shape)


class LSTM(nn.Module):
    """A layer of long short-term memory, as in cuDNN and Keras: gates in the order i, f, c, o.

    Each gate has two biases, as in cuDNN. Only their sum matters; as both are learned, it moves
    twice as far in a step. Initial values are those of Keras's layer over cuDNN: the ones for the
    forget gate are in the recurrent bias.

    Attributes:
        units: width of the state.
        dtype: of the computation; weights are float32.

    Examples:
        >>> layer, sequence = LSTM(units=8), jnp.zeros((5, 2, 3))  # five steps of two rows
        >>> outputs, variables = jax.eval_shape(
        ...     layer.init_with_output, jax.random.key(0), sequence
        ... )
        >>> outputs.shape, variables["params"]["recurrent_kernel"].shape
        ((5, 2, 8), (8, 32))
    """

    units: int
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Computes the outputs of all steps, from a state of zeros.

        Args:
            x: (steps, batch, values); steps first, so that each is contiguous in memory.

        Returns:
            (steps, batch, units).
        """
        width = 4 * self.units
        kernel = self.param("kernel", nn.initializers.glorot_uniform(), (x.shape[-1], width))
        recurrent = self.param(
            "recurrent_kernel", nn.initializers.orthogonal(), (self.units, width)
        )
        bias = self.param("bias", nn.initializers.zeros, (width,))
        recurrent_bias = self.param("recurrent_bias", _unit_forget_bias, (width,))
        x, kernel, recurrent, bias = nn.dtypes.promote_dtype(
            x, kernel, recurrent, bias + recurrent_bias, dtype=self.dtype
        )
        # One product for all steps; only the recurrent product has to wait for the step before.
        return _outputs(x @ kernel + bias, recurrent)


def _gates(pre_activation: jax.Array) -> tuple[jax.Array, ...]:
    i, f, c, o = jnp.split(pre_activation, 4, axis=-1)
    return nn.sigmoid(i), nn.sigmoid(f), jnp.tanh(c), nn.sigmoid(o)


@jax.custom_vjp
def _outputs(projected: jax.Array, recurrent: jax.Array) -> jax.Array:
    """Outputs (steps, batch, units) of inputs (steps, batch, 4 units) times their kernel.

    The automatic derivative of the loop adds to the gradient of `recurrent` at every step: a small
    product and a pass over the whole gradient. The derivative here computes that gradient as one
    product over all steps.
    """
    return _outputs_forward(projected, recurrent)[0]


def _outputs_forward(projected, recurrent):
    """Runs the layer forwards; keeps the outputs, cells and gates of all steps for the gradient."""

    def step(carry, projected):
        output, cell = carry
        i, f, c, o = gates = _gates(projected + output @ recurrent)
        cell = f * cell + i * c
        output = o * jnp.tanh(cell)
        return (output, cell), (output, cell, gates)

    zeros = jnp.zeros((projected.shape[1], len(recurrent)), projected.dtype)
    _, (outputs, cells, gates) = jax.lax.scan(step, (zeros, zeros), projected)
    return outputs, (outputs, cells, gates, recurrent)


def _outputs_backward(saved, gradient):
    """Gradients of `projected` and `recurrent`, by backpropagation through the steps.

    `d_output`, `d_cell` and `d_gates` are gradients with respect to a step's output, its cell and
    the pre-activations of its gates.
    """
    outputs, cells, gates, recurrent = saved

    def step(carry, now):
        # From the later steps, through the recurrent product and the cell.
        d_output, d_cell = carry
        gradient, cell, before, (i, f, c, o) = now
        d_output += gradient
        # output = o · tanh(cell)
        squashed = jnp.tanh(cell)
        d_cell += d_output * o * (1 - squashed**2)
        # cell = f · before + i · c; the slope of a sigmoid s is s (1 − s), of tanh 1 − tanh².
        d_gates = jnp.concatenate(  # (batch, 4 units)
            [
                d_cell * c * i * (1 - i),
                d_cell * before * f * (1 - f),
                d_cell * i * (1 - c**2),
                d_output * squashed * o * (1 - o),
            ],
            axis=-1,
        )
        return (d_gates @ recurrent.T, d_cell * f), d_gates

    zeros = jnp.zeros_like(outputs[0])
    steps = (gradient, cells, _delayed(cells), gates)
    _, d_gates = jax.lax.scan(step, (zeros, zeros), steps, reverse=True)
    return d_gates, jnp.einsum("tbu,tbg->ug", _delayed(outputs), d_gates)


def _delayed(x: jax.Array) -> jax.Array:
    """Values (steps, …) of the step before; zeros at the first one."""
    return jnp.concatenate([jnp.zeros_like(x[:1]), x[:-1]])


_outputs.defvjp(_outputs_forward, _outputs_backward)


class LSTMAutoencoder(nn.Module):
    """LSTM layers that end in one vector; from it at every step, LSTM layers and a linear one.

    Batch normalisation follows every LSTM layer, and dropout those of the encoder. With 128
    bands and the defaults it has 755,776 values, running statistics included.

    Attributes:
        encoder: widths of the encoder's layers; the decoder has them in reverse order.
        dropout: share of the encoder's values dropped in training.
        dtype: of the computation; weights, running statistics and outputs are float32.

    Examples:
        >>> network, frames = LSTMAutoencoder(), jnp.zeros((2, 10, 128))
        >>> reconstruction, variables = jax.eval_shape(
        ...     network.init_with_output, jax.random.key(0), frames
        ... )
        >>> sizes = [leaf.size for name in ("params", "batch_stats")
        ...          for leaf in jax.tree.leaves(variables[name])]
        >>> reconstruction.shape, sum(sizes)
        ((2, 10, 128), 755776)
    """

    encoder: tuple[int, ...] = (128, 128, 128, 8)
    dropout: float = 0.2
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(
        self, x: jax.Array, train: bool = False, mask: jax.Array | None = None
    ) -> jax.Array:
        """Reconstructs `x`.

        Args:
            x: (batch, frames, values).
            train: normalise by the batch, update the running statistics and drop values by the
                rng "dropout".
            mask: (batch,) true where a row counts towards the batch's statistics.

        Returns:
            (batch, frames, values).
        """
        frames, values = x.shape[1:]
        mask = None if mask is None else mask[:, None]

        def normalise(x):
            layer = nn.BatchNorm(dtype=self.dtype, use_running_average=not train, **_BATCH_NORM)
            return layer(x, mask=mask)

        x = x.swapaxes(0, 1)  # (frames, batch, values)
        for n, width in enumerate(self.encoder, 1):
            x = LSTM(width, self.dtype)(x)
            # The last layer's last step is the encoding, (batch, width).
            x = normalise(x[-1] if n == len(self.encoder) else x)
            x = nn.Dropout(self.dropout, deterministic=not train)(x)
        self.sow("intermediates", "latent", x.astype(jnp.float32))
        x = jnp.broadcast_to(x, (frames, *x.shape))
        for width in reversed(self.encoder):
            x = normalise(LSTM(width, self.dtype)(x))
        initial = nn.initializers.glorot_uniform()
        x = nn.Dense(values, dtype=self.dtype, kernel_init=initial)(x)
        return x.swapaxes(0, 1).astype(jnp.float32)
