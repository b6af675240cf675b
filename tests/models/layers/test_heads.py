"""Classification heads against direct computations in float64."""

import jax
import numpy as np
import pytest

from asd_jax.models.layers import heads

# As programs: operation by operation, each is compiled by itself.
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
