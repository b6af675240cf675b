"""Checks of the arrays that users of the library hand in: features and waveforms."""

from collections.abc import Iterable

import numpy as np

from asd_jax.audio.views import ViewSpec, fill_view
from asd_jax.data.announced import RATES
from asd_jax.data.audio_files import resample
from asd_jax.data.canceller import cancelled
from asd_jax.data.levels import LARGEST_PEAK
from asd_jax.errors import UserError
from asd_jax.runtime.bounds import shown


def check_features(
    features: Iterable[np.ndarray], n_mels: int, views: ViewSpec
) -> list[np.ndarray]:
    """Checks features and makes them float32; a clip shorter than a view is repeated to fill one.

    Args:
        features: (frames, n_mels) of each clip.
        n_mels: bands of a frame.
        views: length and hop of the views.

    Raises:
        UserError: no clips, or a clip of another shape, too short, or with NaN.
    """
    arrays = [np.asarray(clip, np.float32) for clip in features]
    if not arrays:
        raise UserError("no clips: features is empty")
    for i, clip in enumerate(arrays):
        if clip.ndim != 2 or clip.shape[1] != n_mels:
            raise UserError(
                f"features[{i}] has shape {clip.shape}; a clip is (frames, {n_mels}) by "
                "front_end.n_mels of the configuration"
            )
        if len(clip) < views.fewest:
            raise UserError(
                f"features[{i}] has {len(clip)} frames; this system needs {views.fewest} or more"
            )
        if not np.isfinite(clip).all():
            raise UserError(f"features[{i}] has NaN or infinite values; leave that clip out")
    return [fill_view(clip, views.filled) for clip in arrays]


def checked_waveforms(
    waveforms: np.ndarray, sample_rate: int, wanted: int, canceller: bool = False
) -> np.ndarray:
    """Checks recordings in memory and resamples them to (clips, samples) float32.

    Args:
        waveforms: (clips, samples), or (samples,) of one clip; −1 to 1, or signed integers
            of the type that they were recorded in (int8, int16, int32).
        sample_rate: of the recordings, in Hz.
        wanted: sample rate of the result, in Hz.
        canceller: whether waveforms have two channels, (clips, samples, 2), of which the second
            is taken off the first, see `asd_jax.data.cancelled`.

    Raises:
        UserError: waveforms of other shapes, with samples that are not finite, or of a level
            that cannot be of full scale 1.
    """
    try:
        waveforms = np.asarray(waveforms)
    except ValueError as error:
        raise UserError(
            "waveforms of unequal lengths make no array; score them one at a time"
        ) from error
    channels = (2,) if canceller else ()
    if waveforms.ndim == 1 + len(channels):  # of one clip
        waveforms = waveforms[None]
    right = waveforms.ndim == 2 + len(channels) and waveforms.shape[2:] == channels
    if not right or not waveforms.size or waveforms.dtype.kind not in "if":
        wanted_shape = "(clips, samples)"
        if canceller:
            wanted_shape = "(clips, samples, 2), near the machine and far from it,"
        raise UserError(
            f"waveforms are {waveforms.dtype} {waveforms.shape}; they must be {wanted_shape} of "
            "floating-point numbers or signed integers"
        )
    if waveforms.dtype.kind == "i":
        waveforms = _scaled(waveforms)
    waveforms = waveforms.astype(np.float32)
    peak = float(np.max(np.abs(waveforms)))
    if not np.isfinite(peak):
        raise UserError("waveforms have NaN or infinite samples; leave those recordings out")
    if peak > LARGEST_PEAK:
        raise UserError(
            f"waveforms reach {peak:.6g} where full scale is 1; divide them by their full scale"
        )
    if not (isinstance(sample_rate, int | np.integer) and sample_rate > 0):
        raise UserError(f"sample_rate is {sample_rate}; it must be a whole number of Hz")
    if sample_rate != wanted:
        if sample_rate not in RATES:
            raise UserError(
                f"sample_rate is {shown(sample_rate)} Hz; it must be {RATES}, or that of the "
                f"system, {wanted}"
            )
        waveforms = np.stack([resample(row, sample_rate, wanted) for row in waveforms])
    return np.stack([cancelled(row) for row in waveforms]) if canceller else waveforms


def _scaled(waveforms: np.ndarray) -> np.ndarray:
    """Integers as numbers from −1 to 1, by the full scale of their type."""
    if waveforms.dtype.itemsize > 4:
        raise UserError(
            f"waveforms are {waveforms.dtype}, which no recording has; convert them to the type "
            "that they were recorded in (int16, int32), or divide them by their full scale"
        )
    full_scale = -float(np.iinfo(waveforms.dtype).min)
    peak = float(np.max(np.abs(waveforms.astype(np.float64))))
    if waveforms.dtype.itemsize == 4 and 0 < peak <= 2**15:
        raise UserError(
            f"waveforms are {waveforms.dtype} and reach {peak:.0f}, the range of int16: as "
            f"{waveforms.dtype} they are silence; convert them to int16"
        )
    return waveforms / full_scale
