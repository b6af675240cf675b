"""The LSTM autoencoder against Keras, which the report used."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from keras_models import call, no_initial_values, reference, values_of

from asd_jax.models import LSTMAutoencoder
from asd_jax.models.lstm_autoencoder import LSTM

ENCODER = (128, 128, 128, 8)
LAYERS = 2 * len(ENCODER)
# Small, and of widths that differ, where only the wiring is compared.
SMALL = LSTMAutoencoder((6, 3), dropout=0.5)
WITHOUT = LSTMAutoencoder((6, 3), dropout=0.0)
SHAPE, ROWS = (5, 4), 64


def keras_model(keras, encoder, shape, dropout):
    layers = [keras.Input(shape)]
    for width in encoder:
        last = width is encoder[-1]
        layers += [
            keras.layers.LSTM(width, return_sequences=not last),
            keras.layers.BatchNormalization(),
            keras.layers.Dropout(dropout),
        ]
    layers.append(keras.layers.RepeatVector(shape[0]))
    for width in reversed(encoder):
        layers += [
            keras.layers.LSTM(width, return_sequences=True),
            keras.layers.BatchNormalization(),
        ]
    layers.append(keras.layers.TimeDistributed(keras.layers.Dense(shape[1])))
    with no_initial_values(keras):
        return keras.Sequential(layers)


def as_keras(variables):
    """A tree of values in Keras's form and order, layer by layer; the two biases summed."""
    params, stats = variables["params"], variables["batch_stats"]
    layers = sum(name.startswith("LSTM") for name in params)
    found = []
    for n in range(layers):
        lstm, norm, moved = (
            params[f"LSTM_{n}"],
            params[f"BatchNorm_{n}"],
            stats[f"BatchNorm_{n}"],
        )
        found.append(
            [lstm["kernel"], lstm["recurrent_kernel"], lstm["bias"] + lstm["recurrent_bias"]]
        )
        found.append([norm["scale"], norm["bias"], moved["mean"], moved["var"]])
    found.append([params["Dense_0"]["kernel"], params["Dense_0"]["bias"]])
    return [[np.asarray(values) for values in layer] for layer in found]


def to_keras(variables, model):
    """Gives a Keras model the values of ours."""
    with_values = [layer for layer in model.layers if layer.weights]
    for layer, values in zip(with_values, as_keras(variables), strict=True):
        layer.set_weights(values)


def some_variables(module, shape, seed=0):
    """Kernels that keep the scale of what passes them; the others of order 1, none an initial."""
    empty = jnp.zeros((1, *shape))
    variables = jax.eval_shape(module.init, jax.random.key(seed), empty)
    rng = np.random.default_rng(seed)

    def drawn(path, leaf):
        if leaf.ndim > 1:
            return rng.normal(0, 1 / np.sqrt(leaf.shape[0]), leaf.shape).astype(np.float32)
        low = 0.5 if path[-1].key in ("scale", "var") else -0.5
        return rng.uniform(low, 1.5, leaf.shape).astype(np.float32)

    return jax.tree_util.tree_map_with_path(drawn, variables)


def apply(module, variables, x, train=False, **options):
    """Output and changed collections, compiled: one by one the operations take seconds."""
    return compiled(module, train)(variables, x, **options)


@functools.cache
def compiled(module, train):
    """The output, moved statistics, and in training what each layer gives."""
    options = {"mutable": ["batch_stats"]}
    if train:
        options = {"mutable": ["batch_stats", "intermediates"], "capture_intermediates": True}
    return jax.jit(functools.partial(module.apply, train=train, **options))


def count(tree):
    return sum(leaf.size for leaf in jax.tree.leaves(tree))


def test_it_has_the_report_s_755776_values():
    """Each part by hand, and their sum."""
    variables = jax.eval_shape(LSTMAutoencoder().init, jax.random.key(0), jnp.zeros((1, 15, 128)))
    params = variables["params"]
    widths = [*ENCODER, *reversed(ENCODER)]
    inputs = [128, *widths[:-1]]
    for n, (width, before) in enumerate(zip(widths, inputs, strict=True)):
        lstm = params[f"LSTM_{n}"]
        assert lstm["kernel"].shape == (before, 4 * width)
        assert lstm["recurrent_kernel"].shape == (width, 4 * width)
        assert lstm["bias"].shape == lstm["recurrent_bias"].shape == (4 * width,)
    lstms = [params[f"LSTM_{n}"] for n in range(LAYERS)]
    second_biases = count([lstm["recurrent_bias"] for lstm in lstms])
    norms = [
        (params[f"BatchNorm_{n}"], variables["batch_stats"][f"BatchNorm_{n}"])
        for n in range(LAYERS)
    ]
    assert second_biases == 4 * (6 * 128 + 2 * 8) == 3_136
    assert count(norms) == 4 * (6 * 128 + 2 * 8) == 3_136
    assert count(params["Dense_0"]) == 128 * 128 + 128
    assert count(lstms) - second_biases + count(params["Dense_0"]) == 749_504
    assert count(variables) == 749_504 + 3_136 + 3_136 == 755_776
    assert len(params) == 2 * LAYERS + 1


def test_initial_values_are_keras_s(keras):
    """Bounds and laws of each kind; the biases exactly."""
    params = jax.jit(LSTM(32).init)(jax.random.key(0), jnp.zeros((1, 1, 50)))["params"]
    layer = keras.layers.LSTM(32)
    layer.build((1, 1, 50))
    kernel, recurrent, bias = layer.get_weights()
    np.testing.assert_array_equal(params["bias"] + params["recurrent_bias"], bias)
    np.testing.assert_array_equal(params["bias"], 0)
    for values in (params["recurrent_kernel"], recurrent):
        np.testing.assert_allclose(values @ values.T, np.eye(32), atol=1e-5)
    bound = np.sqrt(6 / (50 + 128))
    for values in (params["kernel"], kernel):  # uniform: √3 deviations reach to the bound
        np.testing.assert_allclose([values.max(), -values.min()], bound, rtol=0.01)
        np.testing.assert_allclose(np.std(values), bound / np.sqrt(3), rtol=0.03)


def test_output_equals_keras(keras):
    """To 1e-5 of outputs of order 1, float32 sums in another order; the whole one in its size."""
    whole = keras_model(keras, ENCODER, (15, 128), 0.2)
    assert whole.count_params() == 749_504 + 3_136
    encoder, shape = (24, 8), (15, 16)
    module = LSTMAutoencoder(encoder)
    variables = some_variables(module, shape)
    model = keras_model(keras, encoder, shape, 0.2)
    to_keras(variables, model)
    x = np.random.default_rng(1).normal(size=(6, *shape)).astype(np.float32)
    found, _ = apply(module, variables, x)
    assert np.std(found) > 0.3
    expected, _ = call(model, x)
    np.testing.assert_allclose(found, expected, atol=1e-5, rtol=1e-5)


def test_a_training_step_equals_keras(keras):
    """Loss, gradients and running statistics in training mode, without dropout.

    The gradient of either of our two biases is that of Keras's one. To 1e-5: gradients of
    order 0.1 to 4, float32 sums in another order.
    """
    module, shape = LSTMAutoencoder((3,), dropout=0.0), (5, 4)
    variables = some_variables(module, shape)
    model = keras_model(keras, (3,), shape, 0.0)
    to_keras(variables, model)
    trainable, fixed = values_of(model)
    x = np.random.default_rng(2).normal(size=(16, *shape)).astype(np.float32)

    def ours(params):
        output, updates = module.apply(
            {**variables, "params": params}, x, train=True, mutable=["batch_stats"]
        )
        return jnp.mean((output - x) ** 2), updates

    def keras_s(trainable):
        output, moved = model.stateless_call(trainable, fixed, x, training=True)
        return jnp.mean((output - x) ** 2), moved

    (loss, updates), gradients = jax.jit(jax.value_and_grad(ours, has_aux=True))(
        variables["params"]
    )
    (keras_loss, moved), expected = reference(jax.value_and_grad(keras_s, has_aux=True))(trainable)
    np.testing.assert_allclose(loss, keras_loss, rtol=1e-5)

    # `as_keras` on gradients sums both biases' into twice the one of Keras.
    halves = jax.tree.map(lambda leaf: leaf, gradients)
    for name in halves:
        if name.startswith("LSTM"):
            np.testing.assert_array_equal(halves[name]["bias"], halves[name]["recurrent_bias"])
            halves[name]["recurrent_bias"] = 0 * halves[name]["bias"]
    layers = as_keras({"params": halves, "batch_stats": updates["batch_stats"]})
    found = [values for layer in layers for values in (layer[:2] if len(layer) == 4 else layer)]
    assert len(found) == len(expected)
    for ours_, theirs in zip(found, expected, strict=True):
        np.testing.assert_allclose(ours_, theirs, atol=1e-5)
    statistics = [values for layer in layers if len(layer) == 4 for values in layer[2:]]
    moved = [values for values in moved if values.dtype == np.float32]
    for ours_, theirs in zip(statistics, moved, strict=True):
        np.testing.assert_allclose(ours_, theirs, atol=1e-5)


def test_dropout_is_on_in_training_only():
    """By its key and its share, which in evaluation have no effect."""
    variables = some_variables(SMALL, SHAPE)
    x = np.random.default_rng(3).normal(size=(ROWS, *SHAPE)).astype(np.float32)

    def output(module, seed, **options):
        rngs = {"dropout": jax.random.key(seed)}
        return np.asarray(apply(module, variables, x, rngs=rngs, **options)[0])

    np.testing.assert_array_equal(output(SMALL, 0), output(SMALL, 1))
    first, again, other = (output(SMALL, seed, train=True) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    # Rows whose last layer is dropped whole are equal.
    assert (first != other).mean() > 0.9
    assert (first != output(WITHOUT, 0, train=True)).mean() > 0.9


def test_dropout_follows_each_layer_of_the_encoder_only():
    variables, x = some_variables(SMALL, SHAPE), np.ones((ROWS, *SHAPE), np.float32)
    rngs = {"dropout": jax.random.key(0)}
    seen = apply(SMALL, variables, x, train=True, rngs=rngs)[1]["intermediates"]
    dropouts = [name for name in seen if name.startswith("Dropout")]
    assert sorted(dropouts) == ["Dropout_0", "Dropout_1"]
    for name, shape in zip(sorted(dropouts), [(5, ROWS, 6), (ROWS, 3)], strict=True):
        (dropped,) = seen[name]["__call__"]
        assert dropped.shape == shape
        # Four deviations of a share of 0.5 among 192 values or more.
        assert abs(np.mean(np.asarray(dropped) == 0) - 0.5) < 0.15


def test_masked_rows_have_no_effect():
    """A short batch, filled up, equals the short batch alone to float32 rounding."""
    variables = some_variables(WITHOUT, SHAPE)
    x = np.random.default_rng(4).normal(size=(ROWS + 6, *SHAPE)).astype(np.float32)
    mask = np.arange(len(x)) < ROWS
    garbage = np.where(mask[:, None, None], x, 1e3 * x)
    rngs = {"dropout": jax.random.key(0)}
    alone = apply(WITHOUT, variables, x[:ROWS], train=True, rngs=rngs)
    padded = apply(WITHOUT, variables, garbage, train=True, rngs=rngs, mask=mask)
    np.testing.assert_allclose(padded[0][:ROWS], alone[0], atol=1e-5, rtol=1e-5)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5, rtol=1e-5),
        padded[1]["batch_stats"],
        alone[1]["batch_stats"],
    )
