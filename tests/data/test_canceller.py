"""Taking a far channel off a near one: against librosa's transforms, in blocks, at the ends."""

import numpy as np
import pytest
from recordings import RATE, noise

from asd_jax.data import audio_files, recordings
from asd_jax.data.audio_files import read
from asd_jax.data.canceller import HOP, N_FFT, cancelled, cancelled_blocks
from asd_jax.data.recordings import read_recordings
from asd_jax.errors import UserError


def near_and_far(n_samples, seed=0, level=0.1):
    """A source that both hear, by different paths, and one that the near one hears alone."""
    rng = np.random.default_rng(seed)
    own, far = level * rng.normal(size=(2, n_samples))
    heard = np.convolve(far, [0.5, 0.0, 0.3, -0.2])[:n_samples]
    return np.stack([0.3 * own + heard, far], axis=1).astype(np.float32)


@pytest.mark.slow  # the first use of librosa takes seconds
@pytest.mark.parametrize("n_samples", [513, 700, 1024, 16_000, 48_000, 160_000])
def test_it_is_the_definition_by_librosa_s_transforms(n_samples):
    """To 1e-7 of full scale: the result is rounded to float32, the rest is float64."""
    import librosa

    both = near_and_far(n_samples)
    scale = 0.9 / np.abs(both).max()
    settings = {"n_fft": N_FFT, "hop_length": HOP, "window": "hann", "center": True}
    near, far = (
        librosa.stft(scale * both[:, i].astype(np.float64), pad_mode="reflect", **settings)
        for i in (0, 1)
    )
    response = (near * far.conj()).sum(axis=1) / ((np.abs(far) ** 2).sum(axis=1) + 1e-12)
    rest = near - response[:, None] * far
    expected = librosa.istft(rest, length=n_samples, **settings) / scale
    np.testing.assert_allclose(cancelled(both), expected, atol=1e-7)


def test_what_both_hear_goes_and_the_rest_stays():
    both = near_and_far(160_000)
    own = 0.1 * 0.3 * np.random.default_rng(0).normal(size=(2, 160_000))[0]
    left = cancelled(both) - own
    # One complex number is estimated from some 313 frames, and the paths are much shorter than a
    # frame: some percent of the energy is left, of 0.38 times the far one's.
    assert np.mean(left**2) < 0.05 * np.mean((both[:, 0] - own) ** 2)


def test_it_is_scaled_as_its_input():
    """To 1e-6: the constant of the definition is of scaled channels."""
    both = near_and_far(8000)
    faint = cancelled(1e-4 * both)
    np.testing.assert_allclose(1e4 * faint, cancelled(both), rtol=1e-4, atol=1e-6)


def test_a_silent_far_channel_changes_nothing():
    both = near_and_far(8000)
    both[:, 1] = 0
    np.testing.assert_allclose(cancelled(both), both[:, 0], atol=1e-7)


@pytest.mark.parametrize("n_samples", [1, 2, 300, 512, 1535])
def test_short_and_silent_ones_have_their_length(n_samples):
    both = near_and_far(n_samples)
    assert cancelled(both).shape == (n_samples,)
    assert np.isfinite(cancelled(both)).all()
    np.testing.assert_array_equal(cancelled(0 * both), np.zeros(n_samples))


@pytest.mark.parametrize("rest", range(1, HOP, 30))
def test_the_end_is_never_louder_than_the_rest(rest):
    """Windows are next to zero there, and the inverse transform divides by them."""
    both = near_and_far(4 * HOP + rest, seed=rest)
    assert np.abs(cancelled(both)[-rest:]).max() < 2 * np.abs(both).max()


@pytest.mark.parametrize("size", [1, 777, 4096])
def test_blocks_give_the_same(size):
    n_samples = 10_000 if size > 1 else 3000
    both = near_and_far(n_samples)

    def blocks():
        return (both[i : i + size] for i in range(0, n_samples, size))

    # To the bit but for the order of sums over frames: 1e-7.
    found = np.concatenate([*cancelled_blocks(blocks, n_samples)])
    np.testing.assert_allclose(found, cancelled(both), atol=1e-7)


def test_a_recording_is_read_so(wav):
    samples = np.round(2**15 * near_and_far(5000)).astype(np.int16)
    found = read(wav("a.wav", samples), RATE, "canceller")
    np.testing.assert_array_equal(found, cancelled(samples / np.float32(2**15)))


@pytest.mark.parametrize("rate", [16_000, 22_050, 48_000])
def test_a_long_recording_in_blocks_is_the_same(wav, rate, monkeypatch):
    """To 1e-5 of a full scale: blocks are resampled in a stream."""
    path = wav("a.wav", np.round(2**15 * near_and_far(9000)).astype(np.int16), rate)
    expected = read(path, RATE, "canceller")
    monkeypatch.setattr(recordings, "_LONGEST", 1000)
    monkeypatch.setattr(audio_files, "_BLOCK", 1300)
    said = []
    ((_, waveform),) = read_recordings([path], RATE, "canceller", report=said.append)
    for _ in range(2):  # the blocks may be gone through again
        found = np.concatenate([*waveform.blocks])
        assert len(found) == waveform.n_samples
        np.testing.assert_allclose(found, expected, atol=1e-5)
    assert "recordings of 2 channels are reduced to the first without" in said[-1]


@pytest.mark.parametrize("channels", [1, 3, 8])
def test_a_recording_without_two_channels_is_named(wav, channels):
    path = wav("a.wav", noise(2000, channels))
    with pytest.raises(UserError, match=f"a.wav: {channels} channels? where the canceller needs"):
        read(path, RATE, "canceller")
