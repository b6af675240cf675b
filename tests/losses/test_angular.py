"""Losses by angles: ASDKit's numbers from a file, hand-derived values, and gradients."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import parity_draws as draws
import pytest

from asd_jax.losses import angular

CLASSES = 5
# As programs: operation by operation each would be compiled by itself.
centre_cosines = jax.jit(angular.centre_cosines)
projection_cosines = jax.jit(angular.projection_cosines)
log_probabilities = jax.jit(angular.sub_centre_log_probabilities)
soft_cross_entropy = jax.jit(angular.soft_cross_entropy)
dynamic_scale = jax.jit(angular.dynamic_scale, static_argnames="without_own")


@pytest.fixture(scope="module")
def theirs():
    with np.load(Path(__file__).parents[1] / "models/multibranch_parity.npz") as file:
        return dict(file)


def test_adaproj_and_its_scale_are_those_of_asdkit(theirs):
    """In float32, which theirs are not: to 1e-5."""
    embeddings = theirs["embeddings"].astype(np.float32)
    labels = draws.labels(len(embeddings), CLASSES)
    cosines = projection_cosines(embeddings, draws.array("subspaces", (CLASSES, 32, 512)))
    first = angular.adacos_scale(CLASSES)
    scale = dynamic_scale(cosines, labels, first, without_own=True)
    assert float(scale) == pytest.approx(float(theirs["projection_scale"]), rel=1e-5)
    log_p = jax.nn.log_softmax(scale * cosines)
    loss = soft_cross_entropy(log_p, labels).mean()
    assert float(loss) == pytest.approx(float(theirs["projection_loss"]), rel=1e-5)


def test_sub_centre_probabilities_are_sums_of_a_softmax():
    """A softmax over all centres by NumPy; of one centre a class, it is the plain one."""
    rng = np.random.default_rng(0)
    cosines = rng.uniform(-1, 1, (6, 4, 3)).astype(np.float32)
    powers = np.exp(7.0 * cosines.astype(np.float64))
    expected = powers.sum(axis=2) / powers.sum(axis=(1, 2))[:, None]
    found = np.exp(log_probabilities(cosines, 7.0))
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    one = log_probabilities(cosines[..., :1], 7.0)
    np.testing.assert_allclose(one, jax.nn.log_softmax(7.0 * cosines[..., 0]), atol=1e-6)


@pytest.mark.parametrize("without_own", [False, True])
def test_the_dynamic_scale_is_that_of_its_formula(without_own):
    """By NumPy in float64, with rows that do not count, and three centres a class."""
    rng = np.random.default_rng(1)
    cosines = rng.uniform(-1, 1, (7, 4, 3))
    labels = np.eye(4)[rng.integers(4, size=7)]
    labels[2] = [0.5, 0.5, 0, 0]
    mask = np.arange(7) < 5
    exponents = 3.0 * cosines
    if without_own:
        exponents = np.where(labels[..., None] < 1, exponents, 0)
    b = np.exp(exponents[mask]).sum(axis=(1, 2)).mean()
    angles = (labels * np.arccos(cosines.max(axis=2))).sum(axis=1)[mask]
    expected = np.log(b) / np.cos(min(np.pi / 4, np.median(angles)))
    found = dynamic_scale(cosines, labels, 3.0, mask=mask, without_own=without_own)
    assert float(found) == pytest.approx(expected, rel=1e-5)


def test_lengths_are_of_no_account_and_zeros_have_a_gradient():
    """Embeddings and centres of any length; a zero embedding gives no NaN."""
    rng = np.random.default_rng(2)
    embeddings = rng.normal(size=(3, 8)).astype(np.float32)
    centres = rng.normal(size=(8, 4, 2)).astype(np.float32)
    spanning = rng.normal(size=(4, 2, 8)).astype(np.float32)
    for cosines, of_classes in (
        (centre_cosines, centres),
        (projection_cosines, spanning),
    ):
        found = cosines(embeddings, of_classes)
        np.testing.assert_allclose(cosines(3 * embeddings, 0.5 * of_classes), found, atol=1e-6)
        assert np.abs(found).max() <= 1 + 1e-6
        embeddings[0] = 0
        slope = jax.jit(jax.grad(lambda x, c, f=cosines: jnp.sum(f(x, c))))
        gradient = slope(embeddings, of_classes)
        assert np.isfinite(gradient).all() and np.abs(gradient[1:]).max() > 0


def test_classes_without_a_share_do_not_count():
    """A probability of zero, whose logarithm is infinite, where the label is zero."""
    log_p = jnp.log(jnp.array([[1.0, 0.0], [0.5, 0.5]]))
    labels = jnp.array([[1.0, 0.0], [0.0, 1.0]])
    found = soft_cross_entropy(log_p, labels)
    np.testing.assert_allclose(found, [0, np.log(2)], rtol=1e-6)
    gradient = jax.jit(jax.grad(lambda x: soft_cross_entropy(x, labels).sum()))(log_p)
    assert np.isfinite(gradient).all()


@pytest.mark.parametrize("init", [angular.init_centres, angular.init_subspaces])
def test_first_centres_are_glorot_s(init):
    """Of 64 inputs, 5 classes and 16 centres, or subspaces of 16 dimensions, as PyTorch counts."""
    drawn = np.asarray(jax.jit(init, static_argnums=(1, 2, 3))(jax.random.key(0), 64, 5, 16))
    fans = 64 + 5 * 16 if init is angular.init_centres else 64 * (5 + 16)
    assert 0.99 * np.sqrt(6 / fans) < np.abs(drawn).max() <= np.sqrt(6 / fans)
    assert abs(drawn.mean()) < 4 * drawn.std() / np.sqrt(drawn.size)
