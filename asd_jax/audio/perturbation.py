"""Changes of a recording's waveform before its spectrogram is computed.

Sources: Giri et al. 2020 (DCASE), section 2.2, task 2: resampled time signals, from which the
recording is to be told apart; the report does not say by which factors. Kazakova et al. 2022
(DCASE), section 2.1: a pitch shift, then a time stretch, of the library audiomentations, and what
exceeds the recording's duration cut off; the report does not say in which ranges, which are the
library's defaults here.

A clip names its perturbation by a text, which `perturb` applies:

    ""                       none
    "resample 1.1"           played 1.1 times faster
    "pitch_and_stretch 17"   pitch shift and time stretch drawn by the seed 17

A resampled recording is shorter or longer than it was: features may have any number of frames.
A stretched one keeps its length, since pictures of it have that of the recording.
"""

import contextlib
import fractions
import functools
import math

import jax
import jax.numpy as jnp
import numpy as np

from asd_jax.errors import UserError

# The defaults of audiomentations.
SEMITONES = (-4.0, 4.0)
RATES = (0.8, 1.25)

_FACTORS = (0.25, 4.0)
_LARGEST_DENOMINATOR = 1000
# The filter: a sinc with its half-way point at this share of the lower Nyquist frequency, cut off
# after this many zero crossings by a Kaiser window. From 0.9 of that frequency downwards it
# passes, from 1 upwards it is 100 dB down.
_CUTOFF = 0.95
_ZERO_CROSSINGS = 61
_KAISER_BETA = 10.06


def resample_waveform(waveforms: jax.Array, factor: float) -> jax.Array:
    """Waveforms played faster or slower, pitch and tempo together, on the device.

    Sample m of the result is the band-limited waveform at sample m * factor; outside of it there
    is silence. What would lie above the Nyquist frequency is filtered out: of a recording played
    faster, the frequencies above 1 / factor of it, and nine tenths of that are kept as they are.

    Args:
        waveforms: floating point (..., samples).
        factor: how many times faster, 0.25 to 4, a Python number, for each of which a program is
            compiled. Three decimals are taken exactly, others as the nearest fraction with a
            denominator up to 1000. 1 changes nothing.

    Returns:
        (..., round(samples / factor)), float32, or float64 for float64 waveforms.

    Raises:
        UserError: the factor is out of range, or the waveforms are not floating point.
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
    """A pitch shift, then a time stretch, both drawn by a seed; on the host.

    The pitch shift is of -4 to 4 semitones and the stretch to 0.8 to 1.25 times the tempo, evenly.
    No random state but the seed's is read or changed.

    Args:
        waveform: float32 (samples,), full scale at 1.
        sample_rate: in Hz.
        seed: whole number from 0.

    Returns:
        float32 (samples,): what exceeds the waveform's length is cut off, and what is shorter
        begins again, as a machine goes on.
    """
    import audiomentations  # here, as it takes a second that no other run should pay

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
    n_samples = waveforms.shape[-1]
    n_resampled = round(n_samples / factor)
    if factor == 1 or n_resampled == 0:
        return waveforms[..., :n_resampled]
    hop, n_out, before, matrix = _filters(factor)
    # A row of the product is n_out samples of the result, of the samples from `before` ahead of
    # the row's hop on; those lie in whole hops, side by side: a reshape, no gather.
    n_rows = math.ceil(n_resampled / n_out)
    overlap = matrix.shape[0] // hop
    after = (n_rows + overlap - 1) * hop - before - n_samples
    # More samples than the last row reads are cut off, by padding of a negative width.
    widths = [(0, 0, 0)] * (waveforms.ndim - 1) + [(before, after, 0)]
    padded = jax.lax.pad(waveforms, jnp.zeros((), waveforms.dtype), widths)
    hops = padded.reshape(waveforms.shape[:-1] + (-1, hop))
    rows = jnp.concatenate([hops[..., i : i + n_rows, :] for i in range(overlap)], axis=-1)
    # TF32, the default of GPUs for float32 products, keeps 11 bits of a sample.
    resampled = jnp.matmul(rows, matrix.astype(rows.dtype), precision=jax.lax.Precision.HIGHEST)
    return resampled.reshape(waveforms.shape[:-1] + (-1,))[..., :n_resampled]


def _filters(factor: fractions.Fraction) -> tuple[int, int, int, np.ndarray]:
    """The filters of one factor, as a matrix.

    Returns:
        hop: samples from one row of the product to the next.
        n_out: samples of the result in a row.
        before: samples that a row reads ahead of its hop.
        matrix: float64 (a multiple of hop, n_out).
    """
    # In samples of the waveform: from one zero of the sinc to the next.
    spacing = max(1.0, float(factor)) / _CUTOFF
    half = _ZERO_CROSSINGS * spacing
    before = math.ceil(half)
    # A hop about as long as the filter: few copies of the waveform, few zeros in the matrix.
    repeats = math.ceil(2 * half / factor.numerator)
    hop, n_out = repeats * factor.numerator, repeats * factor.denominator
    length = math.ceil((hop + 2 * before) / hop) * hop
    places = np.arange(n_out) * float(factor)
    distance = np.arange(length)[:, None] - before - places
    window = np.i0(_KAISER_BETA * np.sqrt(np.maximum(0, 1 - (distance / half) ** 2)))
    matrix = np.where(np.abs(distance) < half, np.sinc(distance / spacing) * window, 0)
    # Each filter passes a constant as it is.
    return hop, n_out, before, matrix / matrix.sum(axis=0)
