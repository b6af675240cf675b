"""Autoencoders in Keras, on JAX, and their training steps; values are taken from ours."""

from typing import Any

import keras
import numpy as np

from benchmarks.harness import Way


def dense_autoencoder(values: int) -> keras.Model:
    """Peer of `asd_jax.models.DenseAutoencoder` and the challenge's baseline."""
    layers: list[Any] = [keras.Input((values,))]
    for width in (128, 128, 128, 128, 8, 128, 128, 128, 128):
        layers += [
            keras.layers.Dense(width),
            keras.layers.BatchNormalization(),
            keras.layers.ReLU(),
        ]
    return keras.Sequential([*layers, keras.layers.Dense(values)])


def interpolation_autoencoder(values: int, mels: int) -> keras.Model:
    """Peer of `asd_jax.models.InterpolationAutoencoder`, of neighbours end to end."""
    layers: list[Any] = [keras.Input((values,))]
    for width in (256, 128, 64, 32, 64, 128, 256):
        layers.append(keras.layers.Dense(width, activation="relu"))
    return keras.Sequential([*layers, keras.layers.Dense(mels)])


def load(model: keras.Model, params: Any) -> None:
    """Copies our network's values; the running statistics are those of the start."""
    numbers = {"Dense": 0, "BatchNorm": 0}
    for layer in model.layers:
        kind = {"Dense": "Dense", "BatchNormalization": "BatchNorm"}.get(type(layer).__name__)
        if kind is None:
            continue
        values = params[f"{kind}_{numbers[kind]}"]
        numbers[kind] += 1
        if kind == "Dense":
            layer.set_weights([values["kernel"], values["bias"]])
        else:
            layer.set_weights([values["scale"], values["bias"], *layer.get_weights()[2:]])


def steps_way(model: keras.Model, inputs: np.ndarray, targets: np.ndarray) -> Way:
    """A step for each batch of (steps, batch, values), by Adam from the model's values."""
    model.compile(keras.optimizers.Adam(1e-3, epsilon=1e-7), "mean_squared_error")
    model.optimizer.build(model.trainable_variables)
    evaluation = float(model.test_on_batch(inputs[0], targets[0]))
    changed = [*model.variables, *model.optimizer.variables]
    start = [np.array(variable) for variable in changed]

    def before():
        for variable, value in zip(changed, start, strict=True):
            variable.assign(value)

    def run():
        losses = []
        for x, y in zip(inputs, targets, strict=True):
            model.reset_metrics()  # or the loss would be the mean of all steps
            losses.append(float(model.train_on_batch(x, y)))
        return {"evaluation": evaluation, "losses": np.array(losses)}

    return Way(run, before)
