"""Waveforms as blocks of 16 bits: nothing is lost of 16-bit recordings, little of others."""

import numpy as np
import pytest

from asd_jax.audio.waveform_blocks import BLOCK, WaveformBlocks, samples_of
from asd_jax.errors import UserError

FRONT_END = WaveformBlocks()


def again(waveforms):
    return np.asarray(samples_of(FRONT_END.of_padded(waveforms)))


def test_samples_of_16_bits_are_kept_exactly():
    integers = np.random.default_rng(0).integers(-(2**15), 2**15, (3, 4 * BLOCK))
    integers[0, :BLOCK] = 0  # silence
    integers[1, BLOCK : 2 * BLOCK] //= 4000  # quiet
    integers[2, 7], integers[2, BLOCK:] = -(2**15), 2**15 - 1  # both ends of the range
    waveforms = (integers / 2**15).astype(np.float32)
    np.testing.assert_array_equal(again(waveforms), waveforms)


@pytest.mark.parametrize("scale", [1e-20, 1e-4, 0.3, 1.0, 9.9])
def test_samples_of_floating_point_are_kept_to_16_bits_of_their_block_s_largest(scale):
    """Rounded to the nearest of 2^15 steps below the power of two above it: by 2^-15 at most."""
    waveforms = np.random.default_rng(1).normal(0, scale, (2, 3 * BLOCK)).astype(np.float32)
    error = np.abs(again(waveforms) - waveforms).reshape(2, 3, BLOCK).max(axis=2)
    largest = np.abs(waveforms).reshape(2, 3, BLOCK).max(axis=2)
    assert (error <= 2.0**-15 * largest).all()
    assert error.max() > 0  # as it would be if nothing were rounded


@pytest.mark.parametrize("value", [1.0, -1.0, 0.5, -0.5, 2.0, 10.0])
def test_powers_of_two_and_full_scale_of_either_sign_are_exact(value):
    waveforms = np.full((1, BLOCK), value, np.float32)
    np.testing.assert_array_equal(again(waveforms), waveforms)


def test_a_rest_is_left_out_and_less_than_a_block_refused():
    assert again(np.ones((1, 2 * BLOCK + 499), np.float32)).shape == (1, 2 * BLOCK)
    assert FRONT_END.frames(2 * BLOCK + 499) == 2
    with pytest.raises(UserError, match="too short: 499 samples where 500 are needed"):
        FRONT_END.frames(499)


def test_whole_seconds_at_usual_rates_have_no_rest():
    assert all(rate % BLOCK == 0 for rate in (8_000, 16_000, 32_000, 48_000))
