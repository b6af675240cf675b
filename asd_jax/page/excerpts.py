"""Excerpts of recordings for the page: the seconds to hear, their sound, and their spectrogram."""

import base64
import contextlib
import io
import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from asd_jax.audio.mel import MelScale, band_limits, mel_filters
from asd_jax.data.audio_files import resample
from asd_jax.data.recordings import Waveform, read_recordings
from asd_jax.errors import UserError

# Hz; what is higher is seen in the spectrogram and not heard in the player.
HIGHEST_RATE = 16_000
_N_FFT, _N_MELS = 1024, 128
_COLUMNS = 320  # of a picture, at most
_RANGE_DB = 70.0  # from the loudest to black
# Seconds at which an excerpt may begin: excerpts that begin alike share the picture of their axes.
_STEP = 0.5


class Excerpt(NamedTuple):
    """Some seconds of a recording.

    Attributes:
        waveform: (samples,) float32, full scale at 1.
        sample_rate: in Hz.
        start: of the excerpt within the recording, in seconds.
        duration: of the recording, in seconds.
    """

    waveform: np.ndarray
    sample_rate: int
    start: float
    duration: float

    @property
    def stop(self) -> float:
        """End of the excerpt within the recording, in seconds."""
        return self.start + len(self.waveform) / self.sample_rate

    @property
    def is_part(self) -> bool:
        """Whether the recording is longer."""
        return len(self.waveform) < round(self.duration * self.sample_rate)


def read_excerpts(
    paths: Sequence[str],
    sample_rate: int,
    channel: int | str,
    seconds: float,
    maps: Sequence[np.ndarray | None],
    spans: Sequence[tuple[float, float] | None],
    report: Callable[[str], None],
) -> list[Excerpt | None]:
    """Reads excerpts of recordings, as systems hear them.

    Of a longer recording these are the seconds that are the most anomalous, where a map says so,
    else the loudest.

    Args:
        paths: of the recordings; "" for one that is not known.
        sample_rate: at which they are scored, in Hz.
        channel: that is scored, as of `asd_jax.data.read`.
        seconds: length of an excerpt.
        maps: (frames, bands) of each recording's score over time, or None.
        spans: start and end in seconds of clips that were cut from recordings; None of whole ones.
        report: called with a line about each recording that cannot be read.

    Returns:
        Excerpts; None for a recording that is not there or cannot be read.
    """
    found: list[Excerpt | None] = [None] * len(paths)
    for i, path in enumerate(paths):
        if not path:
            continue
        try:
            # One at a time: a recording that is lost must not hide the others.
            recordings = read_recordings(
                [path], sample_rate, channel, threads=1, report=lambda line: None
            )
            with contextlib.closing(recordings):
                for _, waveform in recordings:
                    clip = piece_of(waveform, sample_rate, spans[i])
                    found[i] = _excerpt(clip, sample_rate, seconds, maps[i])
        except (UserError, OSError) as error:
            report(f"without a picture and a player in report.html: {error}")
    return found


def piece_of(waveform: Waveform, sample_rate: int, span: tuple[float, float] | None) -> Waveform:
    """The samples of a clip that was cut from a recording."""
    if span is None:
        return waveform
    first, last = (min(round(edge * sample_rate), waveform.n_samples) for edge in span)
    parts, at = [], 0
    for block in waveform.blocks:
        parts.append(block[max(0, first - at) : max(0, last - at)])
        at += len(block)
    return Waveform.of(np.concatenate(parts))


def _excerpt(
    waveform: Waveform, sample_rate: int, seconds: float, own_map: np.ndarray | None
) -> Excerpt:
    length = min(waveform.n_samples, round(seconds * sample_rate))
    start = 0
    if length < waveform.n_samples:
        step = max(1, round(_STEP * sample_rate))
        weights = _weights(waveform, step, own_map)
        start = min(
            best_window(weights, max(1, length // step)) * step, waveform.n_samples - length
        )
    parts, at = [], 0
    for block in waveform.blocks:
        parts.append(block[max(0, start - at) : max(0, start + length - at)])
        at += len(block)
    samples = np.concatenate(parts)
    return Excerpt(samples, sample_rate, start / sample_rate, waveform.n_samples / sample_rate)


def _weights(waveform: Waveform, step: int, own_map: np.ndarray | None) -> np.ndarray:
    """How much each step of a recording is to be heard: its score or its energy."""
    count = math.ceil(waveform.n_samples / step)
    if own_map is not None and len(own_map):
        over_time = np.nan_to_num(own_map.sum(axis=1))
        return np.interp((np.arange(count) + 0.5) / count, _middles(len(own_map)), over_time)
    energies, at = np.zeros(count), 0
    for block in waveform.blocks:
        cells = (at + np.arange(len(block))) // step
        energies += np.bincount(cells, np.square(block, dtype=np.float64), minlength=count)[:count]
        at += len(block)
    return energies


def _middles(n: int) -> np.ndarray:
    return (np.arange(n) + 0.5) / n


def best_window(weights: np.ndarray, length: int) -> int:
    """First of `length` neighbours whose sum is the largest.

    Examples:
        >>> best_window(np.array([0.0, 1.0, 5.0, 4.0, 0.0]), 2)
        2
    """
    if length >= len(weights):
        return 0
    sums = np.concatenate([[0.0], np.cumsum(weights)])
    return int(np.argmax(sums[length:] - sums[:-length]))


def spectrogram(excerpt: Excerpt) -> tuple[np.ndarray, np.ndarray]:
    """A log-mel spectrogram to look at.

    Args:
        excerpt: of a recording.

    Returns:
        (columns, bands) in dB, at most 320 columns, each the mean power of its time; and (bands, 2)
        limits of the bands, in Hz.
    """
    waveform = excerpt.waveform
    padded = np.pad(waveform, (0, max(0, _N_FFT - len(waveform))))
    hop = max(_N_FFT // 4, (len(padded) - _N_FFT) // (4 * _COLUMNS) + 1)
    frames = np.lib.stride_tricks.sliding_window_view(padded, _N_FFT)[::hop]
    window = np.hanning(_N_FFT + 1)[:-1].astype(np.float32)
    powers = np.abs(np.fft.rfft(frames * window)) ** 2  # (frames, bins)
    columns = min(_COLUMNS, len(powers))
    first = np.linspace(0, len(powers), columns, endpoint=False).astype(int)
    counts = np.diff(np.append(first, len(powers)))
    powers = np.add.reduceat(powers, first, axis=0) / counts[:, None]
    mel = MelScale(excerpt.sample_rate, _N_MELS, "slaney", "slaney", 0.0, None)
    filters = mel_filters(_N_FFT, mel)
    kept = filters.any(axis=0)  # at high rates some of the lowest bands have no frequency
    bands = (powers @ filters[:, kept]) / np.sum(window) ** 2
    return 10 * np.log10(bands + 1e-12), band_limits(mel)[kept]


def within(own_map: np.ndarray, excerpt: Excerpt) -> np.ndarray:
    """The frames of a map of a recording that lie in an excerpt of it, one at least."""
    per_second = len(own_map) / excerpt.duration
    first = min(int(excerpt.start * per_second), len(own_map) - 1)
    return own_map[first : max(first + 1, round(excerpt.stop * per_second))]


def image(values: np.ndarray, low: float, high: float, colours: str = "magma") -> str:
    """Values (columns, rows) as a picture: a data URI of a WebP file, the first row at the bottom.

    Args:
        values: (columns, rows).
        low: value of the darkest colour.
        high: value of the brightest one.
        colours: name of a colour map of matplotlib.
    """
    from matplotlib import colormaps
    from PIL import Image

    scaled = np.clip((np.nan_to_num(values) - low) / max(high - low, 1e-12), 0, 1)
    pixels = colormaps[colours](scaled.T[::-1], bytes=True)[..., :3]
    file = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels)).save(file, "WEBP", quality=80, method=4)
    return _data_uri("image/webp", file)


def spectrogram_image(decibels: np.ndarray, loudest: float) -> str:
    """A spectrogram (columns, bands) as a data URI; pictures of one `loudest` are comparable."""
    return image(decibels, loudest - _RANGE_DB, loudest)


def map_image(own_map: np.ndarray, highest: float) -> str:
    """A map (frames, bands) as a data URI; dark is usual, bright is anomalous."""
    columns = min(_COLUMNS, len(own_map))
    first = np.linspace(0, len(own_map), columns, endpoint=False).astype(int)
    counts = np.diff(np.append(first, len(own_map)))
    return image(np.add.reduceat(own_map, first, axis=0) / counts[:, None], 0.0, highest, "cividis")


def player_source(excerpt: Excerpt, gain: float = 1.0) -> str:
    """The sound of an excerpt as a data URI: FLAC of 16 bits at 16 kHz or less.

    Args:
        excerpt: of a recording.
        gain: by which it is made louder. What exceeds full scale is clipped, as by a player.
    """
    import soundfile

    waveform, rate = excerpt.waveform, excerpt.sample_rate
    if rate > HIGHEST_RATE:
        waveform, rate = resample(waveform, rate, HIGHEST_RATE), HIGHEST_RATE
    file = io.BytesIO()
    soundfile.write(file, np.clip(gain * waveform, -1, 1), rate, format="FLAC", subtype="PCM_16")
    return _data_uri("audio/flac", file)


def _data_uri(kind: str, file: io.BytesIO) -> str:
    return f"data:{kind};base64,{base64.b64encode(file.getvalue()).decode()}"
