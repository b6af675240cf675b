"""Checks of arrays that a user hands in: features and waveforms."""

from collections.abc import Sequence

import numpy as np

from asd_jax.audio.views import ViewSpec, fill_view
from asd_jax.data.audio_files import resample
from asd_jax.errors import UserError


def check_features(
    features: Sequence[np.ndarray], n_mels: int, views: ViewSpec
) -> list[np.ndarray]:
    """Checks features and makes them float32; a clip shorter than a view is repeated to fill one.

    Args:
        features: (frames, n_mels) a clip.
        n_mels: bands of a frame.
        views: how clips are cut.

    Raises:
        UserError: what is wrong with which clip.
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
    return [fill_view(clip, views.length) for clip in arrays]


def checked_waveforms(waveforms: np.ndarray, sample_rate: int, wanted: int) -> np.ndarray:
    """Recordings in memory as (clips, samples) float32 at the wanted rate.

    Args:
        waveforms: (clips, samples), or (samples,) of one clip; −1 to 1, or signed integers of
            any width.
        sample_rate: theirs, in Hz.
        wanted: that of the result, in Hz.

    Raises:
        UserError: waveforms of other shapes, or with samples that are no finite numbers.
    """
    try:
        waveforms = np.atleast_2d(np.asarray(waveforms))
    except ValueError as error:
        raise UserError(
            "waveforms of unequal lengths make no array; score them one at a time"
        ) from error
    if waveforms.ndim != 2 or not waveforms.size or waveforms.dtype.kind not in "if":
        raise UserError(
            f"waveforms are {waveforms.dtype} {waveforms.shape}; they must be (clips, "
            "samples), of floating-point numbers or signed integers"
        )
    if waveforms.dtype.kind == "i":
        waveforms = waveforms / -float(np.iinfo(waveforms.dtype).min)
    waveforms = waveforms.astype(np.float32)
    if not np.isfinite(waveforms).all():
        raise UserError("waveforms have NaN or infinite samples; leave those recordings out")
    if not (isinstance(sample_rate, int | np.integer) and sample_rate > 0):
        raise UserError(f"sample_rate is {sample_rate}; it must be a whole number of Hz")
    if sample_rate != wanted:
        waveforms = np.stack([resample(row, sample_rate, wanted) for row in waveforms])
    return waveforms
