"""The interpolation autoencoder against Keras, which the report used."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from keras_models import call, no_initial_values

from asd_jax.models import InterpolationAutoencoder


@pytest.mark.parametrize(
    ("encoder", "n_mels", "count"),
    [
        ((256, 128, 64, 32), 128, 250_912),
        # 1024·128+128 + 128·64+64 + 64·32+32 + 32·64+64 + 64·128+128 + 128·256+256
        ((128, 64, 32), 256, 184_992),
    ],
)
def test_count_and_output_equal_keras(keras, encoder, n_mels, count):
    """To 1e-5 of outputs of order 1: float32 sums in another order."""
    x = np.random.default_rng(0).normal(size=(20, 4, n_mels)).astype(np.float32)
    module = InterpolationAutoencoder(encoder)
    variables = jax.jit(module.init)(jax.random.key(0), jnp.zeros((1, 4, n_mels)))
    assert sum(leaf.size for leaf in jax.tree.leaves(variables)) == count

    widths = [*encoder, *encoder[-2::-1]]
    with no_initial_values(keras):
        model = keras.Sequential(
            [
                keras.Input((4 * n_mels,)),
                *[keras.layers.Dense(width, activation="relu") for width in widths],
                keras.layers.Dense(n_mels),
            ]
        )
    for i, layer in enumerate(model.layers):
        p = variables["params"][f"Dense_{i}"]
        layer.set_weights([np.asarray(p["kernel"]), np.asarray(p["bias"])])
    assert model.count_params() == count
    expected, _ = call(model, x.reshape(20, -1))
    found = jax.jit(module.apply)(variables, x)
    np.testing.assert_allclose(found, expected, atol=1e-5, rtol=1e-5)
