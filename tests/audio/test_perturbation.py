"""Perturbed waveforms against exact sums of tones, librosa, and audiomentations itself."""

import inspect
import random
from fractions import Fraction

import jax
import jax.numpy as jnp
import librosa
import numpy as np
import pytest
import scipy.signal

from asd_jax.audio import perturbation
from asd_jax.audio.perturbation import perturb, pitch_and_stretch, resample_waveform
from asd_jax.errors import UserError

audiomentations = pytest.importorskip("audiomentations")
RATE = 16000
SEMITONE = 2 ** (1 / 12)  # no short fraction


def away_from_edges(error, factor):
    """Leaves out what the silence outside of a waveform reaches: the filter's half length."""
    reach = int(70 * max(1, 1 / factor)) + 2
    assert len(error) > 3 * reach
    return error[reach:-reach]


def tones(at, highest, n=60):
    """A sum of tones up to `highest`, in cycles a sample, at any times in samples; rms 1."""
    rng = np.random.default_rng(3)
    frequencies, phases = rng.uniform(0, highest, n), rng.uniform(0, 2 * np.pi, n)
    phase = 2 * np.pi * frequencies * np.asarray(at, np.float64)[:, None] + phases
    return np.sqrt(2 / n) * np.sin(phase).sum(axis=1)


@pytest.mark.parametrize("factor", [0.25, 0.5, 0.9, 1.1, SEMITONE, 2.0, 4.0])
def test_tones_are_played_faster(factor):
    """To 1e-4 of the rms (-80 dB): the filter is 100 dB down, times up to 60 tones."""
    kept = 0.9 * 0.5 / max(1, factor)
    waveform = tones(np.arange(4001), kept).astype(np.float32)
    found = resample_waveform(waveform, factor)
    assert found.shape == (round(4001 / factor),) and found.dtype == jnp.float32
    # What three decimals cannot say is taken as the nearest fraction.
    exact = float(Fraction(factor).limit_denominator(1000))
    assert abs(exact - factor) < 5e-4
    error = found - tones(exact * np.arange(len(found)), kept)
    assert np.abs(away_from_edges(error, factor)).max() < 1e-4


@pytest.mark.parametrize("factor", [1.25, 2.0])
def test_what_has_no_place_is_silent(factor):
    """Above the new Nyquist frequency: -80 dB, as above; nothing folds back."""
    t = np.arange(4001)
    highest = 0.5 / factor
    for frequency in (1.001 * highest, 0.5 * (highest + 0.5), 0.49):
        found = resample_waveform(np.sin(2 * np.pi * frequency * t).astype(np.float32), factor)
        assert np.abs(away_from_edges(found, factor)).max() < 1e-4


def signals():
    n = 4001
    spectrum = np.fft.rfft(np.random.default_rng(0).standard_normal(n))
    spectrum[int(0.6 * len(spectrum)) :] = 0
    return {
        "tone": np.sin(2 * np.pi * 437.123 / RATE * np.arange(n)),
        "filtered noise": np.fft.irfft(spectrum, n),
        "chirp": scipy.signal.chirp(np.arange(n), 0.0, n, 0.3),
    }


@pytest.mark.parametrize("factor, up, down", [(0.8, 5, 4), (1.1, 10, 11), (1.25, 4, 5)])
def test_librosa_on_band_limited_signals(factor, up, down):
    """To 1e-3: soxr's passband is flat to 0.01 dB, which is 1e-3 of an amplitude of 1."""
    for name, waveform in signals().items():
        waveform = waveform.astype(np.float32)
        expected = librosa.resample(waveform, orig_sr=down, target_sr=up, res_type="soxr_hq")
        found = resample_waveform(waveform, factor)
        n = min(len(found), len(expected))
        assert n >= len(expected) - 1  # librosa rounds a length up
        error = away_from_edges((found[:n] - expected[:n]), factor)
        assert np.abs(error).max() < 1e-3, name


@pytest.mark.parametrize("factor", [0.3, 1.1, 3.7])
@pytest.mark.parametrize("n_samples", [0, 1, 50, 333])
def test_short_waveforms_are_as_if_among_silence(factor, n_samples):
    """The filters as sums over samples, sample by sample; to a few float32 roundings."""
    waveform = np.random.default_rng(n_samples).standard_normal(n_samples).astype(np.float32)
    found = resample_waveform(waveform, factor)
    fraction = Fraction(factor).limit_denominator(1000)
    assert len(found) == round(n_samples / fraction)
    # Silence on both sides, of a whole number of the result's samples, changes nothing.
    denominator, numerator = fraction.denominator, fraction.numerator
    blocks = -(-300 // numerator)
    silence = np.zeros(blocks * numerator, np.float32)
    rest = np.zeros(333 - n_samples, np.float32)  # of one length, so that they share a program
    among = np.asarray(
        resample_waveform(np.concatenate([silence, waveform, rest, silence]), factor)
    )
    first = blocks * denominator
    np.testing.assert_allclose(found, among[first : first + len(found)], atol=1e-5)


def test_constants_stay():
    """To float32 roundings of a sum of 120 products: each filter's weights add up to 1."""
    for factor in (0.9, 1.1, SEMITONE):
        found = np.asarray(resample_waveform(np.full(4001, -0.37, np.float32), factor))
        np.testing.assert_allclose(away_from_edges(found, factor), -0.37, rtol=3e-6)


def test_a_factor_of_one_changes_nothing():
    waveform = np.random.default_rng(0).standard_normal(100).astype(np.float32)
    for factor in (1, 1.0, np.float32(1), 1 + 1e-9):
        np.testing.assert_array_equal(resample_waveform(waveform, factor), waveform)


def test_leading_axes_jit_vmap_and_grad():
    waveforms = np.random.default_rng(0).standard_normal((2, 3, 500)).astype(np.float32)
    together = resample_waveform(waveforms, 1.1)
    assert together.shape == (2, 3, 455)
    for found in (
        jax.vmap(jax.vmap(lambda x: resample_waveform(x, 1.1)))(waveforms),
        jax.jit(lambda x: resample_waveform(x, 1.1))(waveforms),
        np.stack([[resample_waveform(x, 1.1) for x in row] for row in waveforms]),
    ):
        np.testing.assert_allclose(found, together, atol=1e-5)  # the order of sums
    with jax.disable_jit():
        np.testing.assert_allclose(resample_waveform(waveforms, 1.1), together, atol=1e-5)
    # Linear: the gradient of <w, R x> along x is <w, R x> itself.
    weights = np.random.default_rng(1).standard_normal((2, 3, 455)).astype(np.float32)
    value, gradient = jax.jit(
        jax.value_and_grad(lambda x: jnp.vdot(weights, resample_waveform(x, 1.1)))
    )(waveforms)
    np.testing.assert_allclose(np.vdot(gradient, waveforms), value, rtol=1e-4, atol=1e-3)


def test_precision_of_the_result():
    assert resample_waveform(jnp.zeros(50, jnp.bfloat16), 1.1).dtype == jnp.float32
    with jax.enable_x64(True):
        assert resample_waveform(np.zeros(50), 1.1).dtype == np.float64


@pytest.mark.parametrize("factor", [0.0, -1.1, 0.24, 4.1, float("nan"), float("inf")])
def test_a_factor_out_of_range_is_named(factor):
    with pytest.raises(UserError, match=f"factor of {factor} .* 0.25 to 4"):
        resample_waveform(np.zeros(100, np.float32), factor)


def test_waveforms_that_cannot_be_resampled_are_named():
    with pytest.raises(UserError, match="int16"):
        resample_waveform(np.zeros(100, np.int16), 1.1)
    with pytest.raises(UserError, match=r"shape \(\)"):
        resample_waveform(jnp.float32(0), 1.1)


def tone(frequency=440.0, seconds=1.0):
    t = np.arange(int(seconds * RATE)) / RATE
    return (0.3 * np.sin(2 * np.pi * frequency * t)).astype(np.float32)


def drawn(seed):
    rng = np.random.default_rng(seed)
    return rng.uniform(-4, 4), rng.uniform(0.8, 1.25)


def test_ranges_are_the_librarys_defaults():
    of_shift = inspect.signature(audiomentations.PitchShift).parameters
    of_stretch = inspect.signature(audiomentations.TimeStretch).parameters
    assert (
        tuple(of_shift[name].default for name in ("min_semitones", "max_semitones"))
        == perturbation.SEMITONES
    )
    assert (
        tuple(of_stretch[name].default for name in ("min_rate", "max_rate")) == perturbation.RATES
    )


@pytest.mark.parametrize("seed", range(6))
def test_pitch_and_length_are_as_drawn(seed):
    """To 1 %, a sixth of a semitone: of a second of a tone, a spectrum has bins of about 1 Hz."""
    semitones, rate = drawn(seed)
    waveform = tone(seconds=2.0)
    found = pitch_and_stretch(waveform, RATE, seed)
    assert found.dtype == np.float32
    assert found.shape == waveform.shape
    shorter = round(len(waveform) / rate)
    if shorter < len(waveform):  # it begins again, at this sample or one beside it
        again = [
            np.array_equal(found[n:], found[: len(found) - n])
            for n in (shorter - 1, shorter, shorter + 1)
        ]
        assert sum(again) == 1
    middle = found[len(found) // 4 : -len(found) // 4]
    strength = np.abs(np.fft.rfft(middle * np.hanning(len(middle)), 1 << 18))
    peak = strength.argmax() * RATE / (1 << 18)
    np.testing.assert_allclose(peak, 440 * 2 ** (semitones / 12), rtol=0.01)


def test_seeds_above_reach_both_lengths():
    rates = [drawn(seed)[1] for seed in range(6)]
    assert min(rates) < 0.95 and max(rates) > 1.05


def test_same_seed_same_sound_whatever_the_global_state():
    waveform = tone(seconds=0.3)
    random.seed(1)
    np.random.seed(1)
    before = random.getstate(), np.random.get_state()[1].tolist()
    one = pitch_and_stretch(waveform, RATE, 5)
    assert (random.getstate(), np.random.get_state()[1].tolist()) == before
    random.seed(2)
    np.random.seed(2)
    np.testing.assert_array_equal(pitch_and_stretch(waveform, RATE, 5), one)
    other = pitch_and_stretch(waveform, RATE, 6)
    assert not np.allclose(other, one, atol=1e-2)
    np.testing.assert_array_equal(waveform, tone(seconds=0.3))


@pytest.mark.parametrize("n_samples", [0, 1, 100])
def test_pitch_of_almost_nothing(n_samples):
    found = pitch_and_stretch(np.zeros(n_samples, np.float32), RATE, 3)
    assert len(found) == n_samples
    np.testing.assert_array_equal(found, 0)


def test_a_text_names_a_perturbation(monkeypatch):
    waveform = tone(seconds=0.1)
    assert perturb(waveform, RATE, "") is waveform
    faster = perturb(waveform, RATE, "resample 1.1")
    assert isinstance(faster, np.ndarray) and faster.dtype == np.float32
    np.testing.assert_array_equal(faster, resample_waveform(waveform, 1.1))
    called = []
    monkeypatch.setattr(perturbation, "pitch_and_stretch", lambda *args: called.append(args))
    perturb(waveform, 8000, "pitch_and_stretch 17")
    assert called == [(waveform, 8000, 17)]


@pytest.mark.parametrize(
    "text",
    [
        "none",
        " ",
        "resample",
        "resample ",
        "resample fast",
        "resample 1.1 1.2",
        "Resample 1.1",
        "pitch_and_stretch",
        "pitch_and_stretch -1",
        "pitch_and_stretch 1.5",
        "pitch_and_stretch 1_000",
        "pitch_and_stretch 1 2",
    ],
)
def test_a_text_that_names_none_is_quoted(text):
    with pytest.raises(UserError, match=f"no perturbation '{text}'.*resample FACTOR"):
        perturb(tone(seconds=0.1), RATE, text)


@pytest.mark.parametrize("text", ["resample 9", "resample nan", "resample -1"])
def test_a_text_with_a_factor_out_of_range_is_named(text):
    with pytest.raises(UserError, match="cannot be resampled by"):
        perturb(tone(seconds=0.1), RATE, text)
