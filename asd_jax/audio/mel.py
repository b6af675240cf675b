"""Mel bands: the filters, in NumPy without an audio library, and filtered spectra, in JAX."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np

from asd_jax.runtime.portable import is_portable

# Slaney's scale: linear up to 1 kHz, logarithmic above, where 27 steps multiply by 6.4.
_HZ_PER_MEL = 200 / 3
_CORNER_HZ = 1000.0
_CORNER_MEL = _CORNER_HZ / _HZ_PER_MEL
_LOG_STEP = np.log(6.4) / 27

# Neighbouring bands that share a matrix product on CPUs.
_NEIGHBOURS = 32


@dataclasses.dataclass(frozen=True)
class MelScale:
    """The mel bands; for the fields, see `asd_jax.audio.FrontEnd`."""

    sample_rate: int
    n_mels: int
    scale: str
    norm: str | None
    fmin: float
    fmax: float | None


@functools.cache
def mel_filters(n_fft: int, mel: MelScale) -> np.ndarray:
    """Triangular filters, as `librosa.filters.mel` defines them on the mel scales.

    Args:
        n_fft: length of the transform, in samples.
        mel: the bands.

    Returns:
        float32 (n_fft // 2 + 1, n_mels).

    Examples:
        >>> mel = MelScale(16000, 64, "slaney", "slaney", 0.0, None)
        >>> mel_filters(1024, mel).shape
        (513, 64)
    """
    # A band rises from its lower neighbour's centre to its own and falls to the upper one's.
    edges = _edges(mel)
    bins = np.fft.rfftfreq(n_fft, 1 / mel.sample_rate)[:, None]  # (n_fft // 2 + 1, 1), in Hz
    low, centre, high = edges[:-2], edges[1:-1], edges[2:]  # (n_mels,) each
    rising, falling = (bins - low) / (centre - low), (high - bins) / (high - centre)
    filters = np.maximum(0, np.minimum(rising, falling))
    if mel.norm == "slaney":
        filters *= 2 / (high - low)  # triangles of equal area
    return filters.astype(np.float32)


def band_limits(mel: MelScale) -> np.ndarray:
    """(n_mels, 2) lower and upper limit of each band, the centres of its neighbours, in Hz.

    Examples:
        >>> band_limits(MelScale(16000, 3, "linear", None, 0.0, None)).tolist()
        [[0.0, 4000.0], [2000.0, 6000.0], [4000.0, 8000.0]]
    """
    edges = _edges(mel)
    return np.stack([edges[:-2], edges[2:]], axis=1)


def _edges(mel: MelScale) -> np.ndarray:
    """(n_mels + 2,) centres of the bands and of a further one on either side, in Hz."""
    highest = mel.sample_rate / 2 if mel.fmax is None else mel.fmax
    to_mel, to_hz = _SCALES[mel.scale]
    return to_hz(np.linspace(to_mel(mel.fmin), to_mel(highest), mel.n_mels + 2))


@functools.lru_cache
def empty_bands(n_fft: int, mel: MelScale) -> int:
    """Counts the bands into which no frequency of the transform falls; they are always zero.

    Args:
        n_fft: length of the transform, in samples.
        mel: the bands.

    Examples:
        >>> mel = MelScale(16000, 128, "slaney", "slaney", 0.0, None)
        >>> empty_bands(1024, mel), empty_bands(256, mel)
        (0, 13)
    """
    filters = mel_filters.__wrapped__(n_fft, mel)  # of many settings, which are not kept
    return int((~filters.any(axis=0)).sum())


def mel_bands(values: jax.Array, n_fft: int, mel: MelScale) -> jax.Array:
    """Sums spectra into mel bands.

    Args:
        values: (..., n_fft // 2 + 1).
        n_fft: length of the transform, in samples.
        mel: the bands.

    Returns:
        (..., n_mels).

    Examples:
        >>> import jax.numpy as jnp
        >>> mel = MelScale(16000, 64, "slaney", "slaney", 0.0, None)
        >>> mel_bands(jnp.zeros((10, 513)), 1024, mel).shape
        (10, 64)
    """
    filters = mel_filters(n_fft, mel).astype(values.dtype)

    def product(low: int, high: int, first: int, last: int) -> jax.Array:
        # TF32, the default of GPUs for float32 products, would be off by 0.002 dB.
        part = filters[low:high, first:last]
        return jnp.matmul(values[..., low:high], part, precision=jax.lax.Precision.HIGHEST)

    if jax.default_backend() != "cpu" and not is_portable():
        return product(0, len(filters), 0, mel.n_mels)
    # A band reads few of the bins. On CPUs each group of neighbours is multiplied by the bins
    # that the group reads, not by all of them.
    parts = []
    for first in range(0, mel.n_mels, _NEIGHBOURS):
        last = first + _NEIGHBOURS
        bins = np.flatnonzero(filters[:, first:last].any(axis=1))
        low, high = (bins[0], bins[-1] + 1) if len(bins) else (0, 1)
        parts.append(product(low, high, first, last))  # (..., 32)
    return jnp.concatenate(parts, axis=-1)


def _slaney_mel(hz: float) -> np.ndarray:
    frequency = np.asarray(hz, np.float64)
    above = _CORNER_MEL + np.log(np.maximum(frequency, _CORNER_HZ) / _CORNER_HZ) / _LOG_STEP
    return np.where(frequency < _CORNER_HZ, frequency / _HZ_PER_MEL, above)


def _slaney_hz(mel: np.ndarray) -> np.ndarray:
    above = _CORNER_HZ * np.exp(_LOG_STEP * (mel - _CORNER_MEL))
    return np.where(mel < _CORNER_MEL, mel * _HZ_PER_MEL, above)


def _htk_mel(hz: float) -> np.ndarray:
    return 2595 * np.log10(1 + np.asarray(hz, np.float64) / 700)


def _htk_hz(mel: np.ndarray) -> np.ndarray:
    return 700 * (10 ** (mel / 2595) - 1)


def _hz(hz: float | np.ndarray) -> np.ndarray:
    return np.asarray(hz, np.float64)


_SCALES = {"slaney": (_slaney_mel, _slaney_hz), "htk": (_htk_mel, _htk_hz), "linear": (_hz, _hz)}
