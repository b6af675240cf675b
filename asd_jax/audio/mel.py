"""The constants of mel spectrograms."""

import dataclasses
import functools

import numpy as np

from asd_jax.errors import UserError


@dataclasses.dataclass(frozen=True)
class MelScale:
    """What mel bands there are; see `asd_jax.audio.FrontEnd`."""

    sample_rate: int
    n_mels: int
    scale: str
    norm: str | None
    fmin: float
    fmax: float | None


@functools.cache
def mel_filters(n_fft: int, mel: MelScale) -> np.ndarray:
    """Mel filters of librosa, float32 (n_fft // 2 + 1, n_mels).

    Raises:
        UserError: librosa is not installed.
    """
    try:
        from librosa import filters
    except ImportError as error:
        raise UserError(
            f"mel spectrograms need the Python package librosa: {error}", exit_status=1
        ) from error
    weights = filters.mel(
        sr=mel.sample_rate,
        n_fft=n_fft,
        n_mels=mel.n_mels,
        fmin=mel.fmin,
        fmax=mel.fmax,
        htk=mel.scale == "htk",
        norm=mel.norm,
    )
    return np.ascontiguousarray(weights.T)
