"""The LSTM autoencoder: a sequence of frames squeezed into one vector and told again from it."""

import flax.linen as nn
import jax
import jax.numpy as jnp

# Keras's batch normalisation, with its defaults.
_BATCH_NORM = {"momentum": 0.99, "epsilon": 1e-3, "use_fast_variance": False}


def _unit_forget_bias(key: jax.Array, shape: tuple[int, ...], dtype=jnp.float32) -> jax.Array:
    """Zeros, but ones for the forget gate."""
    del key
    return jnp.zeros(shape, dtype).reshape(4, -1).at[1].set(1).reshape(shape)


class LSTM(nn.Module):
    """A layer of long short-term memory, as cuDNN's and Keras's: gates in the order i, f, c, o.

    It has two biases a gate, of which only the sum matters, as cuDNN's; both are learned, so
    that the sum moves twice as far in a step. Initial values are those of Keras's layer over
    cuDNN: the ones for the forget gate are in the recurrent bias.

    Attributes:
        units: width of the state.
        dtype: of the computation; weights are float32.
    """

    units: int
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Outputs of all steps, from a state of zeros.

        Args:
            x: (steps, batch, values); steps first, so that each lies in one piece.

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
        # One product for all steps; the scan is left with what has to wait for the last step.
        return _outputs(x @ kernel + bias, recurrent)


def _gates(pre_activation: jax.Array) -> tuple[jax.Array, ...]:
    i, f, c, o = jnp.split(pre_activation, 4, axis=-1)
    return nn.sigmoid(i), nn.sigmoid(f), jnp.tanh(c), nn.sigmoid(o)


@jax.custom_vjp
def _outputs(projected: jax.Array, recurrent: jax.Array) -> jax.Array:
    """Outputs (steps, batch, units) of inputs (steps, batch, 4 units) times their kernel.

    By the derivative of the loop as it stands, every step would add its share to the gradient of
    `recurrent`: a small product and a pass over the whole of it. That gradient is one product,
    of all steps, of what the gates were given.
    """
    return _outputs_forward(projected, recurrent)[0]


def _outputs_forward(projected, recurrent):
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
    outputs, cells, gates, recurrent = saved

    def step(carry, now):
        # What the later steps ask of this one's output and cell.
        of_output, of_cell = carry
        gradient, cell, before, (i, f, c, o) = now
        of_output += gradient
        squashed = jnp.tanh(cell)
        of_cell += of_output * o * (1 - squashed**2)
        of_gates = jnp.concatenate(
            [
                of_cell * c * i * (1 - i),
                of_cell * before * f * (1 - f),
                of_cell * i * (1 - c**2),
                of_output * squashed * o * (1 - o),
            ],
            axis=-1,
        )
        return (of_gates @ recurrent.T, of_cell * f), of_gates

    zeros = jnp.zeros_like(outputs[0])
    steps = (gradient, cells, _delayed(cells), gates)
    _, of_gates = jax.lax.scan(step, (zeros, zeros), steps, reverse=True)
    return of_gates, jnp.einsum("tbu,tbg->ug", _delayed(outputs), of_gates)


def _delayed(x: jax.Array) -> jax.Array:
    """What there was a step before; zeros at first."""
    return jnp.concatenate([jnp.zeros_like(x[:1]), x[:-1]])


_outputs.defvjp(_outputs_forward, _outputs_backward)


class LSTMAutoencoder(nn.Module):
    """LSTM layers to one vector, that vector at every step, LSTM layers back, a linear layer.

    Batch normalisation follows every LSTM layer, and dropout those of the encoder. With 128
    bands and the defaults it has 755,776 values, running statistics included.

    Attributes:
        encoder: widths of the encoder's layers; the decoder has them in reverse order.
        dropout: share of the encoder's values dropped in training.
        dtype: of the computation; weights, running statistics and outputs are float32.
    """

    encoder: tuple[int, ...] = (128, 128, 128, 8)
    dropout: float = 0.2
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False, mask: jax.Array | None = None):
        """Reconstructs `x`.

        Args:
            x: (batch, frames, values).
            train: normalise by the batch, update the running statistics and drop values,
                for which the rng "dropout" is needed.
            mask: (batch,) true where a row counts towards the batch's statistics.

        Returns:
            (batch, frames, values).
        """
        frames, values = x.shape[1:]
        mask = None if mask is None else mask[:, None]

        def normalise(x):
            layer = nn.BatchNorm(dtype=self.dtype, use_running_average=not train, **_BATCH_NORM)
            return layer(x, mask=mask)

        x = x.swapaxes(0, 1)
        for n, width in enumerate(self.encoder, 1):
            x = LSTM(width, self.dtype)(x)
            x = normalise(x[-1] if n == len(self.encoder) else x)
            x = nn.Dropout(self.dropout, deterministic=not train)(x)
        self.sow("intermediates", "latent", x.astype(jnp.float32))
        x = jnp.broadcast_to(x, (frames, *x.shape))
        for width in reversed(self.encoder):
            x = normalise(LSTM(width, self.dtype)(x))
        initial = nn.initializers.glorot_uniform()
        x = nn.Dense(values, dtype=self.dtype, kernel_init=initial)(x)
        return x.swapaxes(0, 1).astype(jnp.float32)
