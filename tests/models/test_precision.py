"""Networks that compute in bfloat16, beside the same weights in float32."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.extend.core import jaxprs_in_params

from asd_jax.models import (
    DenseAutoencoder,
    GANomalyDiscriminator,
    GANomalyGenerator,
    GroupMADE,
    InterpolationAutoencoder,
    LSTMAutoencoder,
    MobileNetV2,
    ResNet50,
)

# A network (without classes, whose layer is float32), the shape of its input, and how it is
# called to train.
TRAIN = {"train": True, "mask": np.arange(8) < 7}
NETWORKS = {
    "dense autoencoder": (DenseAutoencoder((32,), 8), (8, 40), TRAIN),
    "interpolation autoencoder": (InterpolationAutoencoder((32,)), (8, 4, 16), {}),
    "Group MADE": (GroupMADE((32,), 3), (8, 5, 16), {}),
    "LSTM autoencoder": (LSTMAutoencoder((16, 8), dropout=0.0), (8, 6, 16), TRAIN),
    "MobileNetV2": (MobileNetV2(0.5, stages=MobileNetV2.stages[:2]), (8, 16, 16, 3), TRAIN),
    "ResNet-50": (ResNet50(stages=((8, 1, 1), (16, 1, 2))), (8, 16, 16, 3), TRAIN),
    "GANomaly's generator": (GANomalyGenerator(4), (8, 16, 16, 1), TRAIN),
    "GANomaly's discriminator": (GANomalyDiscriminator(4), (8, 16, 16, 1), TRAIN),
}


def flat(tree):
    return np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(tree)])


def products(jaxpr):
    """The types that matrix products and convolutions take, those of inner programs as well."""
    found = set()
    for equation in jaxpr.eqns:
        if equation.primitive.name in ("dot_general", "conv_general_dilated"):
            found |= {str(operand.aval.dtype) for operand in equation.invars}
        for inner in jaxprs_in_params(equation.params):
            found |= products(inner)
    return found


CASES = [(name, "cpu") for name in NETWORKS] + [("MobileNetV2", "gpu"), ("ResNet-50", "gpu")]
QUICK = ("dense autoencoder", "interpolation autoencoder", "Group MADE")


@pytest.mark.parametrize(
    "name, backend",
    [pytest.param(*case, marks=[pytest.mark.slow] * (case[0] not in QUICK)) for case in CASES],
)
def test_computes_in_bfloat16_and_gives_float32(name, backend, monkeypatch):
    """Outputs within 5 % of their norm of float32's, as up to ten layers of 2⁻⁸ each; gradients
    of a random direction within 30°. The other backends' convolutions are run here."""
    network, shape, how = NETWORKS[name]
    monkeypatch.setattr(jax, "default_backend", lambda: backend)
    x = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    variables = jax.jit(network.init)(jax.random.key(0), x)
    state = {key: value for key, value in variables.items() if key != "params"}

    def run(network, params):
        outputs, updates = network.apply({"params": params, **state}, x, mutable=[*state], **how)
        rng = np.random.default_rng(1)
        total = sum(
            jnp.sum(rng.normal(size=leaf.shape).astype(np.float32) * leaf)
            for leaf in jax.tree.leaves(outputs)
        )
        return total, (outputs, updates)

    found = []
    for dtype in (jnp.float32, jnp.bfloat16):
        of_network = jax.value_and_grad(
            functools.partial(run, network.clone(dtype=dtype)), has_aux=True
        )
        assert products(jax.make_jaxpr(of_network)(variables["params"]).jaxpr) == {
            jnp.dtype(dtype).name
        }
        found.append(jax.jit(of_network)(variables["params"]))
    assert {leaf.dtype for leaf in jax.tree.leaves(found)} == {jnp.dtype("float32")}
    ((_, expected), gradients), ((_, ours), of_ours) = found
    for exact, rounded in zip(expected, ours, strict=True):
        if not jax.tree.leaves(exact):
            continue
        exact, rounded = flat(exact), flat(rounded)
        assert (exact != rounded).any()
        assert np.linalg.norm(exact - rounded) < 0.05 * np.linalg.norm(exact)
    gradients, of_ours = flat(gradients), flat(of_ours)
    cosine = gradients @ of_ours / np.linalg.norm(gradients) / np.linalg.norm(of_ours)
    assert cosine > np.cos(np.pi / 6)
