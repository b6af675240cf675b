"""LSTM layers: the module's scan against Flax's and, on an NVIDIA GPU, cuDNN's.

    python benchmarks/lstm.py [--batch=32 --batch=512] [--layers=4] [--rounds=10]

Times gradient steps of a stack of layers over sequences of 15 frames of 128 values, by each way
in turn, round by round, after a first round that compiles. All ways have the same values; their
outputs are compared first. cuDNN's cannot be vmapped over the models of a fleet.
"""

import time

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from absl import app, flags
from jax.experimental import rnn

from asd_jax.models.lstm_autoencoder import LSTM

_BATCH = flags.DEFINE_multi_integer("batch", [32, 512], "sequences in a step; may be repeated")
_LAYERS = flags.DEFINE_integer("layers", 4, "layers in the stack")
_STEPS = flags.DEFINE_integer("steps", 4, "gradient steps a round")
_ROUNDS = flags.DEFINE_integer("rounds", 10, "rounds timed of each way")

FRAMES, UNITS = 15, 128


def layers_values():
    """Values of each layer, as our module names them."""
    keys = jax.random.split(jax.random.key(0), _LAYERS.value)
    return [LSTM(UNITS).init(key, jnp.zeros((1, 1, UNITS)))["params"] for key in keys]


def scan_way(values):
    def apply(values, x):
        x = x.swapaxes(0, 1)
        for layer in values:
            x = LSTM(UNITS).apply({"params": layer}, x)
        return x.swapaxes(0, 1)

    return apply, values


def flax_way(values):
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


def cudnn_way(values):
    matrices = [layer[name].T for layer in values for name in ("kernel", "recurrent_kernel")]
    biases = [layer[name] for layer in values for name in ("bias", "recurrent_bias")]
    packed = jnp.concatenate([part.ravel() for part in (*matrices, *biases)])

    def apply(packed, x):
        zeros = jnp.zeros((_LAYERS.value, len(x), UNITS))
        lengths = jnp.full(len(x), FRAMES, jnp.int32)
        return rnn.lstm(x, zeros, zeros, packed, lengths, UNITS, UNITS, _LAYERS.value, 0.0, False)[
            0
        ]

    return apply, packed


def measure(batch: int, ways) -> dict[str, np.ndarray]:
    """Seconds of each timed step by way."""
    x = jax.random.normal(jax.random.key(1), (batch, FRAMES, UNITS))
    with jax.default_matmul_precision("highest"):
        outputs = [jax.jit(apply)(values, x) for apply, values in ways.values()]
    for output in outputs[1:]:  # 1e-5: float32 sums in another order
        np.testing.assert_allclose(output, outputs[0], atol=1e-5)

    def step(apply):
        def loss(values, x):
            return jnp.mean((apply(values, x) - x) ** 2)

        def descend(values, x):
            return jax.tree.map(lambda v, g: v - 1e-4 * g, values, jax.grad(loss)(values, x))

        return jax.jit(descend)

    steps = {name: step(apply) for name, (apply, _) in ways.items()}
    current = {name: values for name, (_, values) in ways.items()}
    seconds = {name: [] for name in ways}
    for turn in range(_ROUNDS.value + 1):
        for name in ways:
            begin = time.perf_counter()
            for _ in range(_STEPS.value):
                current[name] = steps[name](current[name], x)
            jax.block_until_ready(current[name])
            if turn:
                seconds[name].append((time.perf_counter() - begin) / _STEPS.value)
    return {name: np.array(found) for name, found in seconds.items()}


def main(_):
    backend, device = jax.default_backend(), jax.devices()[0].device_kind
    print(f"jax {jax.__version__} on {backend} ({device}), float32, default precision")
    print(f"{_LAYERS.value} layers of {UNITS}, {FRAMES} steps, median of {_ROUNDS.value} rounds")
    values = layers_values()
    ways = {"scan": scan_way(values), "flax": flax_way(values)}
    if backend == "gpu":
        ways["cudnn"] = cudnn_way(values)
    for batch in _BATCH.value:
        seconds = measure(batch, ways)
        for name, found in seconds.items():
            ratio = found / seconds["scan"]
            print(
                f"batch {batch:<4} {name:<5} {1e3 * np.median(found):8.2f} ms a step, "
                f"{np.median(ratio):5.2f} times the scan's "
                f"(rounds {ratio.min():.2f} to {ratio.max():.2f})"
            )


if __name__ == "__main__":
    app.run(main)
