"""Losses with a margin against direct computations in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from asd_jax.losses import arcface_logits, margin_cross_entropies, noisy_arcmix

# As programs: operation by operation, each is compiled by itself.
arcface = jax.jit(arcface_logits)
arcmix = jax.jit(noisy_arcmix)
cross_entropies = jax.jit(margin_cross_entropies)
MARGIN, SCALE = 0.7, 30.0


def case():
    """Angles (7, 5), and labels (7,)."""
    rng = np.random.default_rng(0)
    return rng.uniform(0.1, 3.1, (7, 5)), rng.integers(0, 5, 7)


def expected_logits(theta, labels, margin):
    """Scaled cosines with the margin on the angle to the label, in float64."""
    cosines, rows = np.cos(theta), np.arange(len(theta))
    own = theta[rows, labels]
    cosines[rows, labels] = np.where(
        own + margin < np.pi, np.cos(own + margin), np.cos(own) - margin * np.sin(margin)
    )
    return SCALE * cosines


def entropies(logits):
    """(batch, classes) −log softmax."""
    return np.log(np.exp(logits - logits.max()).sum(axis=1, keepdims=True)) + logits.max() - logits


@pytest.mark.parametrize("margin", [0.0, 0.5, 1.2])
def test_arcface_adds_its_margin_to_the_label_s_angle(margin):
    """To 2e-4 of values up to 30: the sine of a small angle loses float32's last digits."""
    theta, labels = case()
    found = arcface(np.float32(np.cos(theta)), labels, margin=margin, scale=SCALE)
    np.testing.assert_allclose(found, expected_logits(theta, labels, margin), atol=2e-4)


def test_arcface_past_half_a_turn_goes_on_downwards():
    """At an angle of π, where cos(π + 0.5) would be higher than cos(π)."""
    cosines, labels = np.array([[-1.0, 0.0]], np.float32), np.array([0])
    found = np.asarray(arcface(cosines, labels, margin=0.5, scale=1.0))
    np.testing.assert_allclose(found[0, 0], -1 - 0.5 * np.sin(0.5), atol=1e-5)


def test_gradients_are_finite_where_an_angle_is_0_or_half_a_turn():
    def total(cosines):
        labels, settings = np.array([0, 0]), {"margin": 0.5, "scale": SCALE}
        entropies = margin_cross_entropies(cosines, **settings)
        return jnp.sum(noisy_arcmix(cosines, labels, labels[::-1], 0.3, **settings) + entropies.T)

    found = jax.jit(jax.grad(total))(np.array([[1.0, 0.2], [-1.0, 0.1]], np.float32))
    assert np.isfinite(found).all()


def test_noisy_arcmix_has_its_margin_on_the_first_class_only():
    """The other class's logit is without one, and is the first's where both are the same."""
    theta, labels = case()
    others, rows = np.roll(labels, 1), np.arange(7)
    each = entropies(expected_logits(theta, labels, MARGIN))
    expected = 0.3 * each[rows, labels] + 0.7 * each[rows, others]
    cosines = np.float32(np.cos(theta))
    found = arcmix(cosines, labels, others, 0.3, margin=MARGIN, scale=SCALE)
    np.testing.assert_allclose(found, expected, atol=2e-4)
    shares = np.float32([1, 0.3, 1, 1, 1, 1, 1])
    found = arcmix(cosines, labels, others, shares, margin=MARGIN, scale=SCALE)
    own = np.where(shares == 1, each[rows, labels], expected)
    np.testing.assert_allclose(found, own, atol=2e-4)


def test_cross_entropies_are_those_of_each_class_as_the_label():
    theta, _ = case()
    rows = np.arange(7)
    expected = [
        entropies(expected_logits(theta, np.full(7, label), MARGIN))[rows, label]
        for label in range(5)
    ]
    found = cross_entropies(np.float32(np.cos(theta)), margin=MARGIN, scale=SCALE)
    np.testing.assert_allclose(found, np.transpose(expected), atol=2e-4)


def test_small_cross_entropies_have_all_digits():
    """exp(−57) of a sound at its centre, with the other class on the other side; 1 − p is 0."""
    found = cross_entropies(np.float32([[0.9, -1.0], [1.0, -0.9]]), margin=0.0, scale=SCALE)
    np.testing.assert_allclose(np.log(found[:, 0]), [-57, -57], rtol=1e-5)
