"""The input of OpenL3's networks from waveforms: windows of a second, each a picture in dB.

    waveforms (rows, samples) → windows (windows, samples) → pictures (windows, mels, frames)

This is the front end of OpenL3's release 0.3.1, with spectrograms by kapre 0.1; later releases
have another one. Differences from `asd_jax.audio.log_mel`: decibels are 10·log10 of an amplitude,
not of a power, hence half as large; they are relative to the loudest point of the window; and
frames are padded like TensorFlow's "SAME".

Cramer, Wu, Salamon, Bello: Look, Listen, and Learn More: Design Choices for Deep Audio
Embeddings, ICASSP 2019. Choi, Joo, Kim: Kapre, 2017.
"""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np

from asd_jax.audio.frontend import FrontEnd, mel_spectrogram
from asd_jax.audio.mel import MelScale, mel_filters
from asd_jax.errors import UserError

_SCALE, _NORM = "htk", "slaney"
_FLOOR = 1e-10  # of the amplitude
_RANGE_DB = 80.0


@dataclasses.dataclass(frozen=True)
class OpenL3FrontEnd:
    """Settings of the pictures; calling it computes them.

    The defaults are OpenL3's.

    Attributes:
        sample_rate: of the waveforms, in Hz; a window is one second, so also its samples.
        n_fft: length of a frame and of its transform, in samples.
        hop_length: from one frame's start to the next one's, in samples.
        n_mels: number of mel bands, on the HTK scale from 0 to half the sample rate, of equal
            area.

    Examples:
        >>> import numpy as np
        >>> front_end = OpenL3FrontEnd(n_mels=32)
        >>> pictures = np.asarray(front_end(np.zeros((2, 48000), np.float32)))
        >>> pictures.shape, float(pictures.min())  # silence is everywhere as loud as its maximum
        ((2, 32, 199), 0.0)
    """

    sample_rate: int = 48000
    n_fft: int = 2048
    hop_length: int = 242
    n_mels: int = 128

    @property
    def window(self) -> int:
        """Samples of a window."""
        return self.sample_rate

    @property
    def frames(self) -> int:
        """Frames of a window."""
        return -(-self.window // self.hop_length)

    @property
    def filters(self) -> np.ndarray:
        """(n_fft // 2 + 1, n_mels) mel filters, float32."""
        mel = MelScale(self.sample_rate, self.n_mels, _SCALE, _NORM, 0.0, None)
        return mel_filters(self.n_fft, mel)

    def __call__(self, windows: jax.Array) -> jax.Array:
        """Computes pictures of windows.

        Args:
            windows: floating point (..., window), full scale at 1.

        Returns:
            (..., n_mels, frames), in dB from −80 to 0, the loudest point of each window.

        Raises:
            UserError: windows of another length.
        """
        if windows.shape[-1] != self.window:
            raise UserError(f"a window has {self.window} samples, not {windows.shape[-1]}")
        # "SAME" padding: the odd sample is at the end.
        missing = max(0, (self.frames - 1) * self.hop_length + self.n_fft - self.window)
        ends = (missing // 2, missing - missing // 2)
        padded = jnp.pad(windows, [(0, 0)] * (windows.ndim - 1) + [ends])
        settings = FrontEnd(
            self.sample_rate,
            self.n_fft,
            self.hop_length,
            self.n_mels,
            scale=_SCALE,
            norm=_NORM,
            center=False,
        )
        power = jnp.swapaxes(mel_spectrogram(padded, settings), -1, -2)  # (..., mels, frames)
        # 10 log10 of the amplitude, the root of the power.
        decibels = 5 * jnp.log10(jnp.maximum(power, _FLOOR**2))
        loudest = decibels.max((-2, -1), keepdims=True)
        return jnp.maximum(decibels - loudest, -_RANGE_DB)


def count_windows(n_samples: int, window: int, hop: int, center: bool = True) -> int:
    """Counts the windows of a waveform; the last one reaches its end or beyond.

    Args:
        n_samples: length of the waveform, in samples.
        window: samples of a window.
        hop: samples from one window's start to the next one's.
        center: half a window of zeros is in front of the waveform.

    Raises:
        UserError: the waveform has no samples.

    Examples:
        >>> count_windows(10, window=4, hop=2, center=False)
        4
        >>> count_windows(10, window=4, hop=2)
        5
    """
    if n_samples < 1:
        raise UserError("a waveform of 0 samples has no window: at least 1 sample is needed")
    n_samples += window // 2 if center else 0
    return 1 + math.ceil(max(0, n_samples - window) / hop)


def pad_to_windows(
    waveforms: jax.Array, window: int, hop: int, center: bool = True
) -> tuple[jax.Array, int]:
    """Pads waveforms with zeros to whole windows and counts these.

    Args:
        waveforms: (..., samples).
        window: and all further arguments: see `count_windows`.

    Returns:
        (..., (windows - 1) * hop + window) and the number of windows; window i begins at sample
        i * hop.

    Examples:
        >>> import numpy as np
        >>> padded, count = pad_to_windows(np.ones(9), window=4, hop=2, center=False)
        >>> padded.shape, count
        ((10,), 4)
    """
    count = count_windows(waveforms.shape[-1], window, hop, center)
    front = window // 2 if center else 0
    behind = (count - 1) * hop + window - front - waveforms.shape[-1]
    return jnp.pad(waveforms, [(0, 0)] * (waveforms.ndim - 1) + [(front, behind)]), count
