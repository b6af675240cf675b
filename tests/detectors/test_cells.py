"""Cells: levels and sensitivities of features and of waveforms, against values by hand."""

import jax.numpy as jnp
import numpy as np
import pytest

from asd_jax.audio import FrontEnd
from asd_jax.audio.waveform_blocks import WaveformBlocks, samples_of
from asd_jax.detectors.cells import band_hz, frame_seconds, levels, sensitivity
from asd_jax.features.table import ClipInput

BLOCKS = WaveformBlocks(16_000)


def clip_of(sound):
    blocks = BLOCKS.of_padded(sound[None].astype(np.float32))[0]
    return ClipInput(blocks, len(blocks))


def band_of(hz):
    limits = band_hz(BLOCKS)
    return int(np.abs(limits.mean(axis=1) - hz).argmin())


def test_a_burst_in_a_waveform_is_at_its_time_and_frequency():
    sound = np.random.default_rng(0).normal(0, 1e-3, 16_000)
    seconds = np.arange(16_000) / 16_000
    burst = (seconds >= 0.5) & (seconds < 0.6)
    sound += 0.3 * burst * np.sin(2 * np.pi * 2000 * seconds)
    found = np.asarray(levels(BLOCKS, clip_of(sound)))
    assert found.shape == (32, 128)
    frame, band = np.unravel_index(found.argmax(), found.shape)
    begin, end = frame_seconds(BLOCKS, 32)[frame]
    assert 0.5 <= begin < end <= 0.6 and abs(band - band_of(2000)) <= 1


def test_a_score_that_is_the_energy_is_sensitive_where_the_energy_is():
    """The derivative of Σ y² by dB is (ln 10 / 10) of the energy there; all of it is in the burst.

    Bands overlap and windows reach into their neighbours, so to 20 %.
    """
    seconds = np.arange(16_000) / 16_000
    sound = 0.3 * ((seconds >= 0.5) & (seconds < 0.6)) * np.sin(2 * np.pi * 2000 * seconds)
    clip = clip_of(sound)
    slopes = np.sqrt(
        sensitivity(BLOCKS, lambda piece: jnp.sum(samples_of(piece.features) ** 2), clip)
    )
    inside = slopes[14:21, band_of(2000) - 2 : band_of(2000) + 3]
    assert inside.sum() / slopes.sum() > 0.8
    energy = float((np.asarray(samples_of(clip.features)) ** 2).sum())
    assert slopes.sum() == pytest.approx(np.log(10) / 10 * energy, rel=0.2)


def test_of_features_it_is_the_squared_gradient():
    features = np.arange(12.0).reshape(4, 3)
    clip = ClipInput(jnp.asarray(features), 4)
    weights = np.array([1.0, -2.0, 0.0])
    found = sensitivity(FrontEnd(n_mels=3), lambda piece: jnp.sum(piece.features * weights), clip)
    np.testing.assert_allclose(found, np.broadcast_to([1.0, 4.0, 0.0], (4, 3)))
    broken = sensitivity(FrontEnd(n_mels=3), lambda piece: jnp.nan * piece.features.sum(), clip)
    assert (np.asarray(broken) == 0).all()


def test_frames_without_centring_begin_with_their_samples():
    """A frame of 1024 samples from 0 on has its middle at 512, and half a hop around it."""
    times = frame_seconds(FrontEnd(center=False), 2)
    np.testing.assert_allclose(times * 16_000, [[256, 768], [768, 1280]])
