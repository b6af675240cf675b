"""Changes of a recording's waveform before its spectrogram is computed.

Sources: Giri et al. 2020 (DCASE), section 2.2, task 2: resampled time signals, which a classifier
distinguishes from the recording; the report does not give the factors. Kazakova et al. 2022
(DCASE), section 2.1: a pitch shift, then a time stretch, by the library audiomentations, cut off
at the recording's duration; the report does not give the ranges, so the library's defaults are
used here.

A text names the perturbation of a clip, and `perturb` applies it:

    ""                       none
    "resample 1.1"           played 1.1 times faster
    "pitch_and_stretch 17"   pitch shift and time stretch drawn by the seed 17

A resampled recording becomes shorter or longer, as features may have any number of frames. A
stretched one keeps its length, since its pictures must have the size of the recording's.
"""

import contextlib
import fractions
import functools
import math

import jax
import jax.numpy as jnp
import numpy as np

from asd_jax.errors import UserError
from asd_jax.runtime.extras import needed

# The defaults of audiomentations.
SEMITONES = (-4.0, 4.0)
RATES = (0.8, 1.25)

_FACTORS = (0.25, 4.0)
_LARGEST_DENOMINATOR = 1000
# The filter: a sinc that has fallen to a half at this share of the lower Nyquist frequency, cut
# off after this many zero crossings by a Kaiser window. It passes frequencies up to 0.9 of that
# Nyquist frequency and is 100 dB down from 1 upwards.
_CUTOFF = 0.95
_ZERO_CROSSINGS = 61
_KAISER_BETA = 10.06


def resample_waveform(waveforms: jax.Array | np.ndarray, factor: float) -> jax.Array:
    """Plays waveforms faster or slower, pitch and tempo together, on the device.

    Sample m of the result is the band-limited waveform at sample m * factor; outside the waveform
    there is silence. Frequencies that would lie above the Nyquist frequency are filtered out: in a
    recording played faster, those above 1 / factor of it. Up to nine tenths of that limit,
    frequencies keep their level.

    Args:
        waveforms: floating point (..., samples).
        factor: times faster, 0.25 to 4, a Python number; each value compiles a program. Three
            decimals are exact, other values become the nearest fraction with a denominator up to
            1000. 1 changes nothing.

    Returns:
        (..., round(samples / factor)), float32, or float64 for float64 waveforms.

    Raises:
        UserError: the factor is out of range, or the waveforms are not floating point.

    Examples:
        Twice as fast: half as long, and a tone of 1 kHz becomes one of 2 kHz.

        >>> import numpy as np
        >>> tone = np.cos(2 * np.pi * 1000 * np.arange(8000) / 16000).astype(np.float32)
        >>> faster = resample_waveform(tone, 2.0)
        >>> faster.shape
        (4000,)
        >>> int(np.abs(np.fft.rfft(faster)).argmax() * 16000 / 4000)
        2000
    """
    low, high = _FACTORS
    if not low <= factor <= high:
        raise UserError(f"a factor of {factor} cannot be resampled by; give {low:g} to {high:g}")
    waveforms = jnp.asarray(waveforms)
    if waveforms.ndim == 0 or not jnp.issubdtype(waveforms.dtype, jnp.floating):
        raise UserError(
            f"waveforms are {waveforms.dtype} of shape {waveforms.shape}; they must be floating "
            "point (..., samples)"
        )
    fraction = fractions.Fraction(float(factor)).limit_denominator(_LARGEST_DENOMINATOR)
    return _resample(waveforms.astype(jnp.promote_types(waveforms.dtype, jnp.float32)), fraction)


def pitch_and_stretch(waveform: np.ndarray, sample_rate: int, seed: int) -> np.ndarray:
    """Shifts the pitch, then stretches the time, both drawn by a seed; on the host.

    The shift is drawn evenly from -4 to 4 semitones, the stretch from 0.8 to 1.25 times the tempo.
    No other random state is read or changed.

    Args:
        waveform: float32 (samples,), full scale at 1.
        sample_rate: in Hz.
        seed: whole number from 0.

    Returns:
        float32 (samples,): a longer result is cut off; a shorter one is repeated, as a machine
        goes on.

    Examples:
        >>> import numpy as np
        >>> noise = np.random.default_rng(0).uniform(-1, 1, 16000).astype(np.float32)
        >>> pitch_and_stretch(noise, 16000, seed=17).shape
        (16000,)
    """
    audiomentations = needed("audiomentations", "changing pitch and length of recordings")
    rng = np.random.default_rng(seed)
    semitones, rate = rng.uniform(*SEMITONES), rng.uniform(*RATES)
    shift = audiomentations.PitchShift(semitones, semitones, p=1.0)
    stretch = audiomentations.TimeStretch(rate, rate, leave_length_unchanged=False, p=1.0)
    shift.parameters = {"should_apply": True, "num_semitones": semitones}
    stretch.parameters = {"should_apply": True, "rate": rate}
    perturbed = waveform
    for transform in (shift, stretch):
        # Without this, the call would draw its parameters from Python's global random state.
        transform.freeze_parameters()
        perturbed = transform(perturbed, sample_rate)
    return np.resize(perturbed, waveform.shape)


def perturb(waveform: np.ndarray, sample_rate: int, perturbation: str) -> np.ndarray:
    """Applies the perturbation that a text names.

    Args:
        waveform: float32 (samples,), full scale at 1.
        sample_rate: in Hz.
        perturbation: "" for none, "resample FACTOR" or "pitch_and_stretch SEED".

    Returns:
        float32 (samples of the result,).

    Raises:
        UserError: the text names no perturbation, or it cannot be applied.

    Examples:
        >>> import numpy as np
        >>> perturb(np.zeros(1000, np.float32), 16000, "resample 1.25").shape
        (800,)
    """
    if not perturbation:
        return waveform
    kind, _, argument = perturbation.partition(" ")
    # A sign, a space and an underscore are no digits, though int would take them.
    if kind == "pitch_and_stretch" and argument.isdecimal():
        return pitch_and_stretch(waveform, sample_rate, int(argument))
    factor = None
    if kind == "resample":
        with contextlib.suppress(ValueError):
            factor = float(argument)
    if factor is None:
        raise UserError(
            f"no perturbation {perturbation!r}: write 'resample FACTOR', for example "
            "'resample 1.1', or 'pitch_and_stretch SEED', for example 'pitch_and_stretch 17'"
        )
    return np.asarray(resample_waveform(waveform, factor))


@functools.partial(jax.jit, static_argnums=1)
def _resample(waveforms: jax.Array, factor: fractions.Fraction) -> jax.Array:
    """`resample_waveform` as one matrix product: overlapping rows of samples by the filters."""
    n_samples = waveforms.shape[-1]
    n_resampled = round(n_samples / factor)
    if factor == 1 or n_resampled == 0:
        return waveforms[..., :n_resampled]
    hop, n_out, before, matrix = _filters(factor)
    # A row of the product is n_out samples of the result. It reads the samples from `before`
    # ahead of its hop on: `overlap` whole hops, side by side, so a reshape and no gather.
    n_rows = math.ceil(n_resampled / n_out)
    overlap = matrix.shape[0] // hop
    after = (n_rows + overlap - 1) * hop - before - n_samples
    # Samples beyond the last row's are cut off, by padding of a negative width.
    widths = [(0, 0, 0)] * (waveforms.ndim - 1) + [(before, after, 0)]
    padded = jax.lax.pad(waveforms, jnp.zeros((), waveforms.dtype), widths)
    hops = padded.reshape(waveforms.shape[:-1] + (-1, hop))  # (..., hops, hop)
    rows = jnp.concatenate([hops[..., i : i + n_rows, :] for i in range(overlap)], axis=-1)
    # Now (..., n_rows, overlap * hop), for a matrix (overlap * hop, n_out).
    # TF32, the default of GPUs for float32 products, keeps 11 bits of a sample.
    resampled = jnp.matmul(rows, matrix.astype(rows.dtype), precision=jax.lax.Precision.HIGHEST)
    return resampled.reshape(waveforms.shape[:-1] + (-1,))[..., :n_resampled]


def _filters(factor: fractions.Fraction) -> tuple[int, int, int, np.ndarray]:
    """Filters of one factor, as a matrix.

    Returns:
        hop: samples from one row of the product to the next.
        n_out: samples of the result in a row.
        before: samples that a row reads ahead of its hop.
        matrix: float64 (a multiple of hop, n_out).
    """
    # From one zero of the sinc to the next, in samples of the waveform.
    spacing = max(1.0, float(factor)) / _CUTOFF
    half = _ZERO_CROSSINGS * spacing
    before = math.ceil(half)
    # A hop about as long as the filter: few copies of the waveform, few zeros in the matrix.
    repeats = math.ceil(2 * half / factor.numerator)
    hop, n_out = repeats * factor.numerator, repeats * factor.denominator
    length = math.ceil((hop + 2 * before) / hop) * hop
    places = np.arange(n_out) * float(factor)  # (n_out,), of the results in the waveform
    distance = np.arange(length)[:, None] - before - places  # (length, n_out)
    window = np.i0(_KAISER_BETA * np.sqrt(np.maximum(0, 1 - (distance / half) ** 2)))
    matrix = np.where(np.abs(distance) < half, np.sinc(distance / spacing) * window, 0)
    # Filters sum to 1, so that a constant stays as it is.
    return hop, n_out, before, matrix / matrix.sum(axis=0)
