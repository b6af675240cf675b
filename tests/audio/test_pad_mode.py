"""Reflection at the ends of waveforms, as librosa had it before 0.9."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from librosa_reference import librosa_log_mel

from asd_jax.audio import FrontEnd, log_mel, mel_spectrogram, spectrogram
from asd_jax.audio.mel import mel_bands
from asd_jax.errors import UserError

REFLECT = FrontEnd(n_fft=512, hop_length=200, n_mels=32, pad_mode="reflect")
LENGTHS = (1, 2, 100, 256, 257, 258, 511, 3000, 3011)


def noise(*shape):
    return np.random.default_rng(3).standard_normal(shape).astype(np.float32)


def by_hand(waveform, n_fft, hop_length):
    """Magnitudes (frames, n_fft // 2 + 1) in float64: padded, cut, windowed, transformed."""
    half = n_fft // 2
    padded = np.pad(waveform.astype(np.float64), (half, half), mode="reflect")
    window = np.sin(np.pi * np.arange(n_fft) / n_fft) ** 2
    starts = range(0, len(padded) - n_fft + 1, hop_length)
    return np.abs([np.fft.rfft(window * padded[at : at + n_fft]) for at in starts])


@pytest.mark.parametrize("settings", [{}, {"n_fft": 255, "hop_length": 85}, {"power": 1.0}])
@pytest.mark.filterwarnings("ignore:n_fft")
def test_librosa_in_every_frame(settings):
    """To 1e-3 dB, what is asked of the front end; waveforms shorter than half a frame, too."""
    front_end = dataclasses.replace(REFLECT, **settings)
    for n_samples in LENGTHS[2:]:
        waveform = noise(n_samples)
        expected = librosa_log_mel(waveform, front_end)
        found = np.asarray(front_end(waveform))
        assert found.shape == expected.shape == (front_end.frames(n_samples), front_end.n_mels)
        np.testing.assert_allclose(found, expected, atol=1e-3)


def test_the_formula_at_any_length():
    """Float32 roundings of values of about 10; one sample reflects into a constant."""
    for n_samples in LENGTHS:
        waveform = noise(n_samples)
        expected = by_hand(waveform, 512, 200)
        settings = {"n_fft": 512, "hop_length": 200, "pad_mode": "reflect"}
        found = spectrogram(waveform, power=1.0, **settings)
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)
        mel = mel_spectrogram(waveform, REFLECT)
        bands = mel_bands(jnp.asarray(expected**2, jnp.float32), 512, REFLECT.mel)
        np.testing.assert_allclose(mel, bands, rtol=1e-4, atol=1e-7)
        np.testing.assert_array_equal(
            log_mel(waveform, n_fft=512, hop_length=200, n_mels=32, pad_mode="reflect"),
            REFLECT(waveform),
        )


def test_a_cosine_goes_on_at_both_ends():
    """A whole number of half periods mirrors into itself: each frame has n_fft / 4 in its bin."""
    cosine = np.cos(2 * np.pi * 32 / 1024 * np.arange(4097)).astype(np.float32)
    reflected = np.asarray(spectrogram(cosine, power=1.0, pad_mode="reflect"))
    np.testing.assert_allclose(reflected[:, 32], 256, rtol=1e-5)
    zeros = np.asarray(spectrogram(cosine, power=1.0))
    # Half the window, and its middle.
    np.testing.assert_allclose(zeros[[0, -1], 32], 128, rtol=5e-3)
    np.testing.assert_array_equal(zeros[1:-1], reflected[1:-1])


def test_only_the_frames_at_the_ends_differ():
    waveform = noise(16000)
    zeros, reflected = FrontEnd()(waveform), FrontEnd(pad_mode="reflect")(waveform)
    differ = np.abs(np.asarray(zeros - reflected)).max(axis=1) > 1e-3
    assert np.flatnonzero(differ).tolist() == [0, 31]


@pytest.mark.parametrize("n_samples", [100, 1500])
def test_jit_vmap_and_gradient(n_samples):
    """The spectrogram's sum of squares: its slope is that of the padded waveform, folded back."""
    waveforms = noise(2, n_samples)
    together = np.asarray(REFLECT(waveforms))
    for other in (
        np.stack([REFLECT(each) for each in waveforms]),
        jax.vmap(REFLECT)(waveforms),
        jax.jit(jax.vmap(REFLECT))(waveforms),
    ):
        np.testing.assert_allclose(together, other, atol=5e-5)  # sums in another order

    def total(x):
        return spectrogram(x, n_fft=512, hop_length=200, pad_mode="reflect").sum()

    # Half the transform's bins: Σ|X|² over all is n_fft · Σ(w x)², and both ends count once.
    step, direction = 1e-3, noise(n_samples)
    there, back = (
        (by_hand(waveforms[0] + sign * step * direction, 512, 200) ** 2).sum() for sign in (1, -1)
    )
    gradient = np.asarray(jax.jit(jax.grad(total))(waveforms[0]), np.float64)
    # Differences of a square are exact; gradients are float32, of sums of 1e3 values.
    np.testing.assert_allclose(gradient @ direction, (there - back) / (2 * step), rtol=1e-4)
    _, forward = jax.jvp(total, (waveforms[0],), (direction,))
    np.testing.assert_allclose(gradient @ direction, forward, rtol=1e-4)


def test_what_is_padded_already_is_not_reflected():
    waveform = noise(2000)
    padded = np.pad(waveform, REFLECT.padding(2000), mode="reflect")
    assert REFLECT.padding(2000) == (256, 256)
    np.testing.assert_allclose(REFLECT.of_padded(padded), REFLECT(waveform), atol=5e-5)


def test_no_effect_without_centring():
    message = "front end: pad_mode is 'reflect', which has no effect: center is False.*'constant'"
    with pytest.raises(UserError, match=message):
        FrontEnd(center=False, pad_mode="reflect")
    with pytest.raises(UserError, match=message):
        spectrogram(np.zeros(2000, np.float32), center=False, pad_mode="reflect")
    with pytest.raises(UserError, match="pad_mode 'edge' must be one of 'constant', 'reflect'"):
        FrontEnd(pad_mode="edge")
