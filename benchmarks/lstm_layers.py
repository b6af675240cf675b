"""A stack of LSTM layers: the module's scan against Flax's, PyTorch's, and cuDNN's.

Gradient steps over sequences of 15 frames of 128 values. All ways start with the same values.
cuDNN's, as JAX has it, cannot be vmapped over the models of a fleet.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import rnn

from asd_jax.models.lstm_autoencoder import LSTM
from benchmarks.harness import (
    Comparison,
    Difference,
    Prepared,
    Way,
    installed,
    largest,
    on_gpu,
)
from benchmarks.roofline import Work

FRAMES, UNITS, LAYERS, RATE = 15, 128, 4, 1e-4


def layers_values() -> list[Any]:
    """Values of each layer, under our module's names."""
    keys = jax.random.split(jax.random.key(0), LAYERS)
    return [LSTM(UNITS).init(key, jnp.zeros((1, 1, UNITS)))["params"] for key in keys]


def _scan(values):
    def apply(values, x):
        x = x.swapaxes(0, 1)
        for layer in values:
            x = LSTM(UNITS).apply({"params": layer}, x)
        return x.swapaxes(0, 1)

    return apply, values


def _flax(values):
    def cell(layer):
        parts = [jnp.split(layer[name], 4, axis=-1) for name in ("kernel", "recurrent_kernel")]
        biases = jnp.split(layer["bias"] + layer["recurrent_bias"], 4)
        of_input = {f"i{gate}": {"kernel": k} for gate, k in zip("ifgo", parts[0], strict=True)}
        of_state = {
            f"h{gate}": {"kernel": k, "bias": b}
            for gate, k, b in zip("ifgo", parts[1], biases, strict=True)
        }
        return {"cell": {**of_input, **of_state}}

    def apply(values, x):
        for layer in values:
            x = nn.RNN(nn.OptimizedLSTMCell(UNITS)).apply({"params": layer}, x)
        return x

    return apply, [cell(layer) for layer in values]


def _cudnn(values):
    matrices = [layer[name].T for layer in values for name in ("kernel", "recurrent_kernel")]
    biases = [layer[name] for layer in values for name in ("bias", "recurrent_bias")]
    packed = jnp.concatenate([part.ravel() for part in (*matrices, *biases)])

    def apply(packed, x):
        zeros = jnp.zeros((LAYERS, len(x), UNITS))
        lengths = jnp.full(len(x), FRAMES, jnp.int32)
        return rnn.lstm(x, zeros, zeros, packed, lengths, UNITS, UNITS, LAYERS, 0.0, False)[0]

    return apply, packed


def _jax_way(make: Callable, values: list[Any], x: jax.Array, steps: int) -> Way:
    apply, start = make(values)

    def loss(values):
        output = apply(values, x)
        return jnp.mean((output - x) ** 2), output

    @jax.jit
    def step(values):
        gradients, output = jax.grad(loss, has_aux=True)(values)
        return jax.tree.map(lambda v, g: v - RATE * g, values, gradients), output

    def run():
        current = start
        for _ in range(steps):
            current, output = step(current)
        return np.asarray(jax.block_until_ready((current, output))[1])

    return Way(run)


def _torch_way(values: list[Any], x: jax.Array, steps: int) -> Way:
    import torch

    device = "cuda" if torch.cuda.is_available() else "cpu"
    lstm = torch.nn.LSTM(UNITS, UNITS, LAYERS, batch_first=True)
    names = {
        "weight_ih": "kernel",
        "weight_hh": "recurrent_kernel",
        "bias_ih": "bias",
        "bias_hh": "recurrent_bias",
    }
    start = {
        f"{theirs}_l{i}": torch.from_numpy(np.array(layer[ours]).T.copy())
        for i, layer in enumerate(values)
        for theirs, ours in names.items()
    }
    lstm.to(device)
    x = torch.from_numpy(np.array(x)).to(device)

    def run():
        optimizer = torch.optim.SGD(lstm.parameters(), RATE)
        for _ in range(steps):
            optimizer.zero_grad()
            output = lstm(x)[0]
            torch.nn.functional.mse_loss(output, x).backward()
            optimizer.step()
        return output.detach().cpu().numpy()

    return Way(run, lambda: lstm.load_state_dict(start))


_WAYS = {
    "torch": _torch_way,
    "flax": functools.partial(_jax_way, _flax),
    "cudnn": functools.partial(_jax_way, _cudnn),
}


def setup(batch: int, quick: bool, peers: Sequence[str]) -> Prepared:
    """Sequences are on the device beforehand."""
    steps = 2 if quick else 8
    values = layers_values()
    x = jax.random.normal(jax.random.key(1), (batch, FRAMES, UNITS))

    def check(peer, ours, theirs):
        if jax.default_backend() == "cpu":
            limit, why = 1e-5, "float32 sums in another order"
        else:
            limit, why = 2e-2, "TF32 products"
        yield Difference("output before the last step", largest(ours, theirs), limit, why)

    def work(_):
        # Per frame, four gates by input and by state.
        products = 2 * batch * FRAMES * LAYERS * 4 * UNITS * 2 * UNITS
        weights = LAYERS * (8 * UNITS * UNITS + 8 * UNITS)
        return Work(
            steps * 4 * (4 * weights + batch * FRAMES * UNITS),
            steps * 3 * products,
            "values read and written, gradients too, and the sequences; eight products a frame "
            "and layer, a backward pass as two forward ones",
        )

    return Prepared(
        f"{steps} gradient steps of {LAYERS} LSTM layers of {UNITS} units, batch of {batch} "
        f"sequences of {FRAMES}; float32",
        {"ours": _jax_way(_scan, values, x, steps)}
        | {peer: _WAYS[peer](values, x, steps) for peer in peers},
        check,
        work,
    )


COMPARISONS = [
    Comparison(
        f"lstm_layers.batch_{batch}",
        {"torch": installed("torch"), "flax": lambda: "", "cudnn": on_gpu},
        functools.partial(setup, batch),
    )
    for batch in (32, 512)
]
