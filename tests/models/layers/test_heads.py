"""Classification heads against direct computations in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from asd_jax.models.layers import heads

# As programs: operation by operation, each is compiled by itself.
arcface_logits = jax.jit(heads.arcface_logits)
init_head = jax.jit(heads.init_head, static_argnums=(1, 2))


@pytest.fixture
def case():
    rng = np.random.default_rng(0)
    head = heads.Head(
        rng.normal(size=(6, 5)).astype(np.float32), rng.normal(size=5).astype(np.float32)
    )
    return head, rng.normal(size=(7, 6)).astype(np.float32), rng.integers(0, 3, 7)


def angles(head, embeddings):
    centres = np.asarray(head.kernel, np.float64)
    x = np.asarray(embeddings, np.float64)
    norms = np.linalg.norm(x, axis=1)[:, None] * np.linalg.norm(centres, axis=0)
    return np.arccos(x @ centres / norms)


def test_logits_are_a_linear_layer_s_and_spare_columns_are_out_of_the_race(case):
    """To 1e-5 of values of order 1: float32."""
    head, x, _ = case
    found = np.asarray(jax.jit(heads.logits)(head, x, 3))
    expected = x.astype(np.float64) @ head.kernel + head.bias
    np.testing.assert_allclose(found[:, :3], expected[:, :3], atol=1e-5)
    assert np.isneginf(found[:, 3:]).all()


def test_cosines(case):
    """To 1e-6: float32 of values up to 1."""
    head, x, _ = case
    np.testing.assert_allclose(jax.jit(heads.cosines)(head, x), np.cos(angles(head, x)), atol=1e-6)


@pytest.mark.parametrize("margin", [0.0, 0.5, 1.2])
def test_arcface_adds_its_margin_to_the_label_s_angle(case, margin):
    """To 2e-4 of values up to 30: the sine of a small angle loses float32's last digits."""
    head, x, labels = case
    theta = angles(head, x)
    rows = np.arange(7)
    expected = np.cos(theta)
    own = theta[rows, labels]
    expected[rows, labels] = np.where(
        own + margin < np.pi, np.cos(own + margin), np.cos(own) - margin * np.sin(margin)
    )
    found = arcface_logits(np.float32(np.cos(theta)), labels, 3, margin=margin, scale=30.0)
    found = np.asarray(found)
    np.testing.assert_allclose(found[:, :3], 30 * expected[:, :3], atol=2e-4)
    assert np.isneginf(found[:, 3:]).all()


def test_arcface_past_half_a_turn_goes_on_downwards():
    """At an angle of π, where cos(π + 0.5) would be higher than cos(π)."""
    cosines, labels = np.array([[-1.0, 0.0]], np.float32), np.array([0])
    found = np.asarray(arcface_logits(cosines, labels, 2, margin=0.5, scale=1.0))
    np.testing.assert_allclose(found[0, 0], -1 - 0.5 * np.sin(0.5), atol=1e-5)


def test_gradients_are_finite_where_an_angle_is_0_or_half_a_turn():
    def total(cosines):
        return jnp.sum(heads.arcface_logits(cosines, np.array([0, 0]), 2, margin=0.5, scale=30.0))

    found = jax.jit(jax.grad(total))(np.array([[1.0, 0.2], [-1.0, 0.1]], np.float32))
    assert np.isfinite(found).all()


def test_a_model_s_columns_are_the_same_in_any_fleet():
    """Uniform to √(6 / (inputs + classes)), as Keras's dense layer starts."""
    small, large = (
        jax.tree.map(np.asarray, init_head(jax.random.key(1), 1000, columns, 3))
        for columns in (3, 7)
    )
    np.testing.assert_array_equal(small.kernel, large.kernel[:, :3])
    limit = np.sqrt(6 / 1003)
    assert np.abs(small.kernel).max() <= limit
    np.testing.assert_allclose(small.kernel.std(axis=0), limit / np.sqrt(3), rtol=0.05)
    assert not small.bias.any()
    assert len(np.unique(small.kernel)) > 2900
