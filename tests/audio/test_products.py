"""Fourier transforms as products of matrices, beside NumPy's in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from asd_jax.audio import FrontEnd
from asd_jax.audio.products import LARGEST_FACTOR, factors_of, squared_spectrum
from asd_jax.audio.spectra import magnitude_spectrum
from asd_jax.audio.waveform_blocks import WaveformBlocks, samples_of
from asd_jax.errors import UserError
from asd_jax.runtime.portable import portable


@pytest.mark.parametrize("n", [1, 2, 3, 97, 100, 255, 1000, 1024, 4096, 160_000])
def test_magnitudes_are_those_of_the_transform_in_float64(n):
    """Within 4e-7 of the largest one: a few roundings of float32, 6e-8 each; JAX's own: 2e-7."""
    frames = np.random.default_rng(n).normal(size=(2, n)).astype(np.float32)
    expected = np.abs(np.fft.rfft(frames.astype(np.float64)))
    found = np.sqrt(np.asarray(jax.jit(squared_spectrum)(frames)))
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, atol=4e-7 * expected.max(), rtol=0)


@pytest.mark.parametrize("n", [1, 2, 1023, 1024, 160_000, 176_400, 2**20])
def test_factors_multiply_to_the_length(n):
    assert np.prod(factors_of(n)) == n


def test_a_length_with_a_large_prime_factor_is_refused():
    with pytest.raises(UserError, match="has the prime factor 1451, above 1448"):
        factors_of(2 * 1451)
    assert LARGEST_FACTOR == 1448


@pytest.mark.parametrize(
    "front_end",
    [
        FrontEnd(precision="float32"),
        FrontEnd(precision="float32", pad_mode="reflect", db="add", n_mels=32),
        FrontEnd(precision="float32", n_fft=1000, hop_length=300, power=1.0, center=False),
    ],
)
def test_portable_log_mels_are_those_of_the_front_end(front_end):
    """Noise is within 40 dB in all bands, where both transforms round by less than 1e-4 dB."""
    noise = np.random.default_rng(0).normal(0, 0.1, (2, 5000)).astype(np.float32)
    expected = np.asarray(front_end(noise))
    with portable(convolutions=False):
        found = np.asarray(jax.jit(lambda x: front_end(x))(noise))
    np.testing.assert_allclose(found, expected, atol=2e-4, rtol=0)


def test_a_portable_program_has_no_transform():
    front_end = FrontEnd()
    with portable(convolutions=True):
        text = str(jax.make_jaxpr(lambda x: front_end(x))(jnp.zeros(2048)))
    assert "fft" not in text and "dot_general" in text
    assert "fft" in str(jax.make_jaxpr(lambda x: front_end(x))(jnp.zeros(2048)))


def test_portable_spectra_of_whole_waveforms():
    noise = np.random.default_rng(1).normal(0, 0.1, (2, 6000)).astype(np.float32)
    expected = np.abs(np.fft.rfft(noise.astype(np.float64)))
    with portable(convolutions=True):
        found = np.asarray(magnitude_spectrum(jnp.asarray(noise)))
    np.testing.assert_allclose(found, expected, atol=4e-7 * expected.max(), rtol=0)


@pytest.mark.parametrize("peak", [2.0**-15, 0.1, 0.25, 1 - 2.0**-15, 1.0])
def test_portable_blocks_keep_recordings_of_16_bits(peak):
    """Exactly: of 16 bits, and powers of two from a table."""
    rng = np.random.default_rng(0)
    samples = np.round(rng.uniform(-peak, peak, (2, 1500)) * 2**15).astype(np.float32) / 2**15
    samples[:, 700] = -np.round(peak * 2**15) / 2**15
    front_end = WaveformBlocks()
    with portable(convolutions=False):
        found = np.asarray(samples_of(front_end.of_padded(samples)))
    np.testing.assert_array_equal(found, samples)


def test_portable_blocks_round_floating_point_as_the_others_do():
    """But in a block whose largest value is near a power of two: one step of a larger exponent."""
    samples = np.random.default_rng(0).normal(0, 1e-4, (2, 1500)).astype(np.float32)
    front_end = WaveformBlocks()
    expected = np.asarray(samples_of(front_end.of_padded(samples)))
    with portable(convolutions=False):
        found = np.asarray(samples_of(front_end.of_padded(samples)))
    np.testing.assert_allclose(found, expected, atol=2.0**-11 * 2.0**-15, rtol=0)
    assert (found == expected).mean() > 0.99
