"""What maps over time and frequency are made of: values of each frame and band of a clip.

Cells are computed of pieces of a clip, as scores are, and pieces overlap; so a piece keeps the sum
of each frame's cells over the views that have it, and their number. `asd_jax.scoring.maps` makes
evidence of them.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from asd_jax.audio import FrontEnd
from asd_jax.audio.mel import MelScale, band_limits, mel_filters
from asd_jax.audio.views import ViewSpec
from asd_jax.audio.waveform_blocks import BLOCK, WaveformBlocks, samples_of
from asd_jax.features.request import ClipFrontEnd
from asd_jax.features.table import ClipInput

# Of waveforms: a frame of the map is a block, in the middle of a window of about twice its length.
_N_FFT = 1024
_BANDS = 128
_DB = np.log(10) / 20  # of a factor near 1


class Cells(NamedTuple):
    """Values of a piece's frames and bands.

    Attributes:
        total: (frames, kinds, bands) sum over the views that have a frame.
        count: (frames,) number of these views.
    """

    total: jax.Array
    count: jax.Array  # type: ignore[assignment]  # not the tuple's method

    @classmethod
    def of_views(
        cls, values: jax.Array, clip: ClipInput, spec: ViewSpec, first: int = 0
    ) -> "Cells":
        """Puts values back where their frames are.

        Args:
            values: (views, frames, bands) of each view.
            clip: the piece.
            spec: of its views.
            first: frame of a view that the values begin at.

        Examples:
            >>> clip = ClipInput(jnp.zeros((4, 1)), n_frames=4)
            >>> values = jnp.array([[[1.0], [2.0]], [[4.0], [8.0]], [[0.0], [1.0]]])
            >>> cells = Cells.of_views(values, clip, ViewSpec(2))
            >>> cells.total.ravel().tolist(), cells.count.tolist()
            ([1.0, 6.0, 8.0, 1.0], [1.0, 2.0, 2.0, 1.0])
        """
        starts, mask = clip.starts(spec)
        places = starts[:, None] + first + jnp.arange(values.shape[1])  # (views, frames)
        counts = jnp.broadcast_to(mask[:, None].astype(values.dtype), places.shape)
        n_frames = clip.features.shape[0]
        total = jnp.zeros((n_frames, values.shape[-1]), values.dtype)
        total = total.at[places].add(jnp.where(mask[:, None, None], values, 0))
        count = jnp.zeros(n_frames, values.dtype).at[places].add(counts)
        return cls(total[:, None], count)

    @classmethod
    def of_frames(cls, values: jax.Array, clip: ClipInput) -> "Cells":
        """Takes values (frames, bands) or (frames, kinds, bands) of the frames themselves."""
        if values.ndim == 2:
            values = values[:, None]
        inside = jnp.arange(len(values)) < clip.n_frames
        return cls(jnp.where(inside[:, None, None], values, 0), inside.astype(values.dtype))


def levels(front_end: ClipFrontEnd, clip: ClipInput) -> jax.Array:
    """(frames, bands) levels of a piece in dB: its features, or the log-mels of its blocks."""
    if not isinstance(front_end, WaveformBlocks):
        return clip.features
    beside = (_N_FFT - BLOCK) // 2
    # Reflected at the ends, so that no view seems quiet there.
    sound = jnp.pad(samples_of(clip.features), beside, mode="reflect")
    return _log_mels(front_end)(sound[None])[0]


def _log_mels(front_end: WaveformBlocks) -> Callable[[jax.Array], jax.Array]:
    return FrontEnd(
        *(front_end.sample_rate, _N_FFT, BLOCK, _BANDS), center=False, precision="float32"
    )


def band_hz(front_end: ClipFrontEnd) -> np.ndarray:
    """(bands, 2) limits of the bands of `levels`, in Hz."""
    if isinstance(front_end, WaveformBlocks):
        return band_limits(_mel(front_end))
    mel: Any = getattr(front_end, "mel", None)
    return band_limits(mel)


def _mel(front_end: WaveformBlocks) -> MelScale:
    return MelScale(front_end.sample_rate, _BANDS, "slaney", None, 0.0, None)


def frame_seconds(front_end: ClipFrontEnd, n_frames: int, together: int = 1) -> np.ndarray:
    """Begin and end of frames of a clip: half a hop before and behind each one's middle.

    Args:
        front_end: of the features.
        n_frames: of the clip.
        together: frames that are taken as one.

    Returns:
        (ceil(n_frames / together), 2) in s, from 0 on.

    Examples:
        >>> frame_seconds(FrontEnd(), 3).tolist()  # centred on 0, 512 and 1024 samples
        [[0.0, 0.016], [0.016, 0.048], [0.048, 0.08]]
        >>> frame_seconds(WaveformBlocks(), 3, together=2).tolist()
        [[0.0, 0.0625], [0.0625, 0.09375]]
    """
    hop, rate = front_end.hop_length, front_end.sample_rate
    # Of any length of a waveform: padding is as much before each.
    middle = front_end.n_fft / 2 - front_end.padding(front_end.n_fft)[0]
    limits = middle + (np.arange(n_frames + 1) - 0.5) * hop  # (n_frames + 1,) in samples
    firsts = np.arange(0, n_frames, together)
    lasts = np.minimum(firsts + together, n_frames)
    return np.maximum(np.stack([limits[firsts], limits[lasts]], axis=1), 0) / rate


def sensitivity(
    front_end: ClipFrontEnd, score: Callable[[ClipInput], jax.Array], clip: ClipInput
) -> jax.Array:
    """How strongly a score depends on each level of a piece.

    Of waveforms, on the level of each time and frequency of a short-time transform, from which the
    waveform is made again (overlapping windows whose squares add up to 1).

    Args:
        front_end: of the features.
        score: of a piece.
        clip: the piece.

    Returns:
        (frames, bands) squared derivative by the level in dB; 0 where it is no number.
    """
    if isinstance(front_end, WaveformBlocks):
        slopes = _slopes_of_sound(front_end, score, clip)
    else:
        slopes = jax.grad(lambda features: score(clip._replace(features=features)))(clip.features)
    return jnp.nan_to_num(slopes, nan=0.0, posinf=0.0, neginf=0.0) ** 2


def _slopes_of_sound(
    front_end: WaveformBlocks, score: Callable[[ClipInput], jax.Array], clip: ClipInput
) -> jax.Array:
    """(blocks, bands) derivatives by the levels of a transform with windows of two blocks."""
    sound = samples_of(clip.features)
    window = jnp.asarray(np.sin(np.pi * (np.arange(2 * BLOCK) + 0.5) / (2 * BLOCK)), jnp.float32)
    halves = jnp.pad(sound, BLOCK).reshape(-1, BLOCK)  # (blocks + 2, BLOCK)
    windows = jnp.concatenate([halves[:-1], halves[1:]], axis=1) * window  # (blocks + 1, 2 BLOCK)
    spectra = jnp.fft.rfft(windows)

    def of_gains(gains: jax.Array) -> jax.Array:
        """The score with the spectra times gains (blocks + 1, bins)."""
        parts = jnp.fft.irfft(spectra * gains, 2 * BLOCK) * window
        again = parts[:-1, BLOCK:] + parts[1:, :BLOCK]  # (blocks, BLOCK)
        # As blocks of floating point, whose exponent of 0 stands for 2^-15.
        blocks = jnp.concatenate([again * 2.0**15, jnp.zeros((len(again), 1))], axis=1)
        return score(clip._replace(features=blocks))

    slopes = _DB * jax.grad(of_gains)(jnp.ones(spectra.shape, jnp.float32))
    bands = slopes @ mel_filters(2 * BLOCK, _mel(front_end))  # (blocks + 1, bands)
    return (bands[:-1] + bands[1:]) / 2
