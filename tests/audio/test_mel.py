"""Mel filters against librosa's."""

import dataclasses
import warnings

import librosa
import numpy as np
import pytest

from asd_jax.audio.mel import MelScale, mel_filters


@pytest.mark.parametrize("n_fft", [512, 1000, 4096])
@pytest.mark.parametrize("sample_rate", [4000, 16000, 48000])
@pytest.mark.parametrize(("scale", "norm"), [("slaney", "slaney"), ("htk", None)])
@pytest.mark.parametrize(("n_mels", "fmin", "fmax"), [(128, 0.0, None), (40, 50.0, 1800.0)])
def test_filters_equal_librosa(n_fft, sample_rate, scale, norm, n_mels, fmin, fmax):
    """To two float32 roundings of the largest weight; both are computed in float64."""
    ours = mel_filters(n_fft, MelScale(sample_rate, n_mels, scale, norm, fmin, fmax))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # bands narrower than a bin are empty, in both
        expected = librosa.filters.mel(
            sr=sample_rate,
            n_fft=n_fft,
            n_mels=n_mels,
            fmin=fmin,
            fmax=fmax,
            htk=scale == "htk",
            norm=norm,
        ).T
    assert ours.shape == expected.shape and ours.dtype == np.float32
    np.testing.assert_allclose(ours, expected, rtol=0, atol=2.4e-7 * expected.max())


def test_linear_bands_are_triangles_evenly_spaced_in_hz():
    """By hand: 4 bands up to 1000 Hz have corners every 200 Hz; to 1e-6, float32."""
    mel = MelScale(2000, 4, "linear", None, 0.0, None)
    bins = np.arange(0, 1001, 100)  # n_fft 20
    expected = np.maximum(0, 1 - np.abs(bins[:, None] - np.array([200, 400, 600, 800])) / 200)
    np.testing.assert_allclose(mel_filters(20, mel), expected, atol=1e-6)
    areas = mel_filters(20, dataclasses.replace(mel, norm="slaney")) * 200
    np.testing.assert_allclose(areas, expected, atol=1e-6)
