"""OpenL3's front end against independent references, real filter matrices, and by hand."""

import functools

import jax
import librosa
import numpy as np
import pytest

from asd_jax.audio.openl3_frontend import OpenL3FrontEnd, count_windows, pad_to_windows
from asd_jax.errors import UserError

EDGE = OpenL3FrontEnd(8000, 1024, 160, 64)


def reference(window, front_end):
    """As kapre 0.1 computes it: TensorFlow's padding, amplitudes, 10·log10, each by its own."""
    rate, n_fft, hop = front_end.sample_rate, front_end.n_fft, front_end.hop_length
    frames = int(np.ceil(len(window) / hop))
    missing = (frames - 1) * hop + n_fft - len(window)
    padded = np.pad(window.astype(np.float64), (missing // 2, missing - missing // 2))
    hann = 0.5 * (1 - np.cos(2 * np.pi * np.arange(n_fft) / n_fft))
    spectra = [np.fft.rfft(hann * padded[i * hop : i * hop + n_fft]) for i in range(frames)]
    options = {"fmin": 0, "fmax": rate / 2, "htk": True, "norm": "slaney"}
    filters = librosa.filters.mel(sr=rate, n_fft=n_fft, n_mels=front_end.n_mels, **options)
    amplitude = np.sqrt(filters @ np.abs(np.array(spectra).T) ** 2)
    decibels = 10 * np.log10(np.maximum(amplitude, 1e-10))
    return np.maximum(decibels - decibels.max(), -80)


@pytest.mark.filterwarnings("ignore:Empty filters")  # as the real matrix of 256 bands has
@pytest.mark.parametrize(
    "front_end", [OpenL3FrontEnd(), OpenL3FrontEnd(n_mels=256), EDGE], ids=lambda f: f.n_mels
)
def test_pictures_equal_a_reference_in_numpy(front_end):
    """To 1e-4 dB; both transforms are float64, and what follows is float32 here.

    A click on a floor of rounding has bands at the lower end of the range.
    """
    rng = np.random.default_rng(0)
    windows = rng.normal(0, 0.1, (3, front_end.window)).astype(np.float32)
    windows[1, 1000:] = 0
    windows[2] = 0
    windows[2, 5000] = 0.5
    found = np.asarray(front_end(windows))
    assert found.shape == (3, front_end.n_mels, front_end.frames)
    for picture, window in zip(found, windows, strict=True):
        np.testing.assert_allclose(picture, reference(window, front_end), atol=1e-4)
    assert found[1:].min() == -80 and (found.max((1, 2)) == 0).all()


def test_frames_of_a_window():
    assert (OpenL3FrontEnd().frames, EDGE.frames) == (199, 50)
    with pytest.raises(UserError, match="a window has 8000 samples, not 7999"):
        EDGE(np.zeros((1, 7999), np.float32))


def test_silence_is_its_own_loudest_point():
    assert (np.asarray(EDGE(np.zeros((2, 8000), np.float32))) == 0).all()


def test_a_louder_window_has_the_same_picture():
    """By a power of two, which rounds nothing, to rounding of logarithms."""
    window = np.random.default_rng(1).normal(0, 0.1, 8000).astype(np.float32)
    np.testing.assert_allclose(EDGE(4 * window), EDGE(window), atol=2e-5)


def test_the_real_filter_matrices(shared):
    for n_mels in (128, 256):
        theirs = np.load(shared / f"weights/openl3/mel{n_mels}_weights.npy")
        np.testing.assert_allclose(OpenL3FrontEnd(n_mels=n_mels).filters, theirs, atol=1e-8)


@pytest.mark.parametrize("n_mels", [128, 256])
def test_the_parity_file_of_openl3(shared, n_mels):
    """To 1e-4 dB; measured 8e-6."""
    file = np.load(shared / "weights/openl3/openl3_mel_parity.npz")
    found = OpenL3FrontEnd(n_mels=n_mels)(file["audio48k"])
    np.testing.assert_allclose(found, file[f"mel{n_mels}_db"], atol=1e-4)


def test_the_parity_file_of_edgel3(shared):
    """Noise to 1e-4 dB. A chirp leaves bands at −58, where rounding of a float32 transform shows.

    The reference shows it: SciPy's and PyTorch's float32 transforms are 0.03 dB away from it,
    NumPy's float64 transform, and so ours, 0.014.
    """
    file = np.load(shared / "weights/edgel3_sea/edgel3_sea64_parity.npz")
    chirp, noise = np.asarray(EDGE(file["audio8k"]))
    np.testing.assert_allclose(noise, file["mel_db"][1], atol=1e-4)
    np.testing.assert_allclose(chirp, file["mel_db"][0], atol=0.02)
    loud = file["mel_db"][0] > -35
    assert loud.mean() > 0.1
    np.testing.assert_allclose(chirp[loud], file["mel_db"][0][loud], atol=1e-3)


@pytest.mark.parametrize(
    ("n_samples", "hop", "center", "count"),
    [
        (1, 4800, True, 1),
        (24000, 4800, True, 1),
        (24001, 4800, True, 2),
        (48000, 4800, False, 1),
        (48001, 4800, False, 2),
        (96000, 24000, False, 3),
        (480000, 4800, True, 96),
    ],
)
def test_windows_of_a_clip_by_hand(n_samples, hop, center, count):
    assert count_windows(n_samples, 48000, hop, center) == count


def test_windows_are_as_many_as_upstream_has(shared):
    """The embeddings of the openl3 project's own tests, of 2 s at 44.1 kHz."""
    folder = shared / "weights/openl3/fixtures"
    n_samples = 2 * 48000
    for name, hop, center in (("chirp_44k", 4800, True), ("chirp_44k_linear", 24000, False)):
        theirs = np.load(folder / f"{name}.npz")["embedding"]
        assert count_windows(n_samples, 48000, hop, center) == len(theirs)


@functools.partial(jax.jit, static_argnums=(1, 2))
def padded_to_tens(waveform, hop, center):
    return pad_to_windows(waveform, 10, hop, center)


def padded_to_windows(waveform, hop, center):
    padded, count = padded_to_tens(waveform, hop, center)
    return np.asarray(padded), int(count)


@pytest.mark.parametrize("center", [True, False])
@pytest.mark.parametrize("n_samples", [1, 10, 11, 33])
@pytest.mark.parametrize("hop", [3, 13])
def test_every_sample_is_in_the_windows(center, n_samples, hop):
    """Sample by sample, in windows of 10; zeros behind a waveform change none of its own."""
    waveform = np.arange(1, n_samples + 1, dtype=np.float32)
    padded, count = padded_to_windows(waveform, hop, center)
    assert len(padded) == (count - 1) * hop + 10
    front = 5 if center else 0
    for at, value in enumerate(padded):
        inside = front <= at < front + n_samples
        assert value == (at - front + 1 if inside else 0)
    assert len(padded) - front - n_samples < max(hop, 10)
    longer, more = padded_to_windows(np.append(waveform, np.zeros(20, np.float32)), hop, center)
    assert more >= count
    np.testing.assert_array_equal(longer[: len(padded)], padded)


def test_no_samples_have_no_window():
    with pytest.raises(UserError, match="at least 1 sample"):
        count_windows(0, 10, 1)
