"""The networks of asymmetric GANomaly against Keras, and their counts part by part."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from keras_models import reference

from asd_jax.models import GANomalyDiscriminator, GANomalyGenerator


def count(tree):
    return sum(np.prod(leaf.shape, dtype=int) for leaf in jax.tree.leaves(tree))


def test_the_networks_have_the_published_program_s_parameters():
    """Products of kernel, input and output widths; scale and bias of each normalised channel."""
    x = jax.ShapeDtypeStruct((1, 312, 128, 1), jnp.float32)
    made = jax.eval_shape(GANomalyGenerator().init, jax.random.key(0), x)["params"]
    encoder = 25 * (1 * 128 + 128 * 128 + 128 * 256 + 256 * 256) + 2 * (128 + 128 + 256)
    decoder = 25 * (256 * 512 + 512 * 512 + 512 * 1) + 2 * (512 + 512)
    assert count(made["encoder"]) == count(made["second_encoder"]) == encoder == 2_871_424
    assert count(made["decoder"]) == decoder == 9_845_248
    assert count(made) == 15_588_096
    made = jax.eval_shape(GANomalyDiscriminator().init, jax.random.key(0), x)["params"]
    assert count(made["Encoder_0"]) == encoder + 2 * 256
    assert count(made["Dense_0"]) == 256 * 20 * 8 + 1
    assert count(made) == 4_551_297


def test_shapes_are_the_published_program_s():
    x = jax.ShapeDtypeStruct((2, 312, 128, 1), jnp.float32)
    made = jax.eval_shape(GANomalyGenerator().init, jax.random.key(0), x)
    shapes = jax.eval_shape(GANomalyGenerator().apply, made, x)
    assert [s.shape for s in shapes] == [(2, 312, 128, 1), (2, 39, 16, 256), (2, 39, 16, 256)]
    made = jax.eval_shape(GANomalyDiscriminator().init, jax.random.key(0), x)
    logits, features = jax.eval_shape(GANomalyDiscriminator().apply, made, x)
    assert (logits.shape, features.shape) == ((2,), (2, 20, 8, 256))


def randomised(variables, seed=0):
    """Every value drawn, running statistics too, so that none is at a default."""
    rng = np.random.default_rng(seed)

    def draw(path, leaf):
        kernel = path[-1].key == "kernel"
        scale = 1 / np.sqrt(np.prod(leaf.shape[:-1])) if kernel else 0.3
        positive = path[-1].key in ("scale", "var")
        return (rng.normal(0, scale, leaf.shape) + positive).clip(0.2 if positive else None)

    return jax.tree_util.tree_map_with_path(
        lambda path, leaf: draw(path, leaf).astype(np.float32), variables
    )


def keras_layers(ops, x, params, stats, transposed=False, final=None, normalise_last=False):
    """Convolutions with explicit padding, activation and normalisation, in Keras."""
    names = sorted(name for name in params if name.startswith(("Conv", "Doubling")))
    for i, name in enumerate(names):
        kernel = params[name]["kernel"]
        last = i == len(names) - 1
        if transposed:
            # Keras's kernel is that of the convolution whose gradient this is: its widths are
            # the other way round, and its positions mirrored.
            whole = ops.conv_transpose(
                x, np.swapaxes(kernel[::-1, ::-1], 2, 3), strides=2, padding="valid"
            )
            x = whole[:, 2 : 2 + 2 * x.shape[1], 2 : 2 + 2 * x.shape[2]]
        else:
            x = keras_convolution(ops, x, kernel, strides=1 if i == 1 else 2)
        if not last or normalise_last:
            p, s = params[f"BatchNorm_{i}"], stats[f"BatchNorm_{i}"]
            x = ops.batch_normalization(
                x, s["mean"], s["var"], -1, offset=p["bias"], scale=p["scale"], epsilon=1e-5
            )
        if transposed:
            x = ops.relu(x) if not last else final(x)
    return x


def keras_convolution(ops, x, kernel, strides):
    padded = ops.pad(x, [(0, 0), (2, 2), (2, 2), (0, 0)])
    convolved = ops.conv(padded, kernel, strides=strides, padding="valid")
    return ops.leaky_relu(convolved, negative_slope=0.01)


@pytest.mark.parametrize("activation", ["tanh", "relu"])
def test_outputs_equal_keras(keras, activation):
    """To 1e-5 of values of order 1: float32 sums in another order."""
    ops = keras.ops
    x = np.random.default_rng(1).normal(size=(3, 40, 16, 1)).astype(np.float32)
    module = GANomalyGenerator(4, activation)
    variables = randomised(jax.eval_shape(module.init, jax.random.key(0), x))
    params, stats = variables["params"], variables["batch_stats"]

    @reference
    def generated(x):
        latent = keras_layers(ops, x, params["encoder"], stats["encoder"])
        final = getattr(ops, activation)
        fake = keras_layers(
            ops, latent, params["decoder"], stats["decoder"], transposed=True, final=final
        )
        again = keras_layers(ops, fake, params["second_encoder"], stats["second_encoder"])
        return fake, latent, again

    for ours, theirs in zip(jax.jit(module.apply)(variables, x), generated(x), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-5, rtol=1e-5)


def test_the_discriminator_equals_keras(keras):
    """To 1e-5, as above."""
    ops = keras.ops
    x = np.random.default_rng(1).normal(size=(3, 40, 16, 1)).astype(np.float32)
    module = GANomalyDiscriminator(4)
    variables = randomised(jax.eval_shape(module.init, jax.random.key(0), x), seed=2)
    params, stats = variables["params"], variables["batch_stats"]

    @reference
    def last_features(x):
        y = keras_layers(ops, x, params["Encoder_0"], stats["Encoder_0"], normalise_last=True)
        return keras_convolution(ops, y, params["Conv_0"]["kernel"], strides=2)

    y = np.asarray(last_features(x))
    logits, features = jax.jit(module.apply)(variables, x)
    np.testing.assert_allclose(features, y, atol=1e-5, rtol=1e-5)
    expected = y.reshape(3, -1) @ params["Dense_0"]["kernel"][:, 0] + params["Dense_0"]["bias"]
    np.testing.assert_allclose(logits, expected, atol=1e-5, rtol=1e-5)


def test_initial_kernels_are_drawn_as_in_the_program():
    """Deviation 0.02 of some hundred thousand draws, to a hundredth of it."""

    @jax.jit
    def start(key):  # what is not returned is not drawn
        x = jnp.zeros((1, 16, 16, 1))
        decoder = GANomalyGenerator(32).init(key, x)["params"]["decoder"]
        return decoder["Doubling_1"]["kernel"], decoder["BatchNorm_0"]["scale"]

    kernel, scale = map(np.asarray, start(jax.random.key(0)))
    assert kernel.std() == pytest.approx(0.02, rel=0.01)
    assert scale.mean() == pytest.approx(1, abs=0.01) and 0.01 < scale.std() < 0.03
