"""Magnitudes of a waveform's spectrum and of its spectrograms, for networks that hear waveforms."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from asd_jax.audio import stft
from asd_jax.audio.products import squared_spectrum
from asd_jax.runtime.portable import is_portable


def magnitude_spectrum(waveforms: jax.Array) -> jax.Array:
    """Magnitudes of the transform of a whole waveform.

    Args:
        waveforms: (..., samples).

    Returns:
        (..., samples / 2 + 1), from 0 Hz to half the sample rate.

    Raises:
        UserError: this version of jaxlib would hang.

    Examples:
        >>> magnitude_spectrum(jnp.ones((1, 4))).tolist()
        [[4.0, 0.0, 0.0]]
    """
    if is_portable():
        return jnp.sqrt(squared_spectrum(waveforms))
    stft.check_jaxlib()
    return jnp.abs(jnp.fft.rfft(waveforms))


class Spectrogram(NamedTuple):
    """Magnitudes of short-time transforms, of the frequencies from `fmin` to `fmax`.

    Frames overlap by half.
    Magnitudes are divided by the root of the sum of the window's squares, as torchaudio's with
    `normalized=True`.

    Attributes:
        n_fft: samples of a transform, under a periodic Hann window.
        sample_rate: of the waveforms, in Hz.
        fmin: in Hz.
        fmax: in Hz.
        center: whether the first frame is centred on the first sample, with zeros before it, or
            begins there.
        subtract_mean: whether each frequency's mean over time is subtracted.

    Examples:
        >>> Spectrogram(n_fft=1024)(jnp.zeros((2, 16_000))).shape
        (2, 32, 500)
    """

    n_fft: int
    sample_rate: int = 16_000
    fmin: float = 200.0
    fmax: float = 8000.0
    center: bool = True
    subtract_mean: bool = False

    @property
    def _kept(self) -> slice:
        hz = np.arange(self.n_fft // 2 + 1) * self.sample_rate / self.n_fft
        (kept,) = np.nonzero((hz >= self.fmin) & (hz <= self.fmax))
        return slice(int(kept[0]), int(kept[-1]) + 1) if len(kept) else slice(0, 0)

    @property
    def bins(self) -> int:
        """Frequencies from `fmin` to `fmax`."""
        return self._kept.stop - self._kept.start

    def __call__(self, waveforms: jax.Array) -> jax.Array:
        """(..., samples) → (..., frames, bins), in the waveforms' precision."""
        settings = stft.Settings(
            self.n_fft,
            self.n_fft // 2,
            power=1.0,
            center=self.center,
            mel=None,
            precision="float32",
        )
        magnitudes = stft.transform(waveforms, settings)[..., self._kept]
        # The squares of the window add up to 3/8 of its length.
        magnitudes = magnitudes * float(1 / np.sqrt(3 / 8 * self.n_fft))
        if self.subtract_mean:
            magnitudes = magnitudes - magnitudes.mean(axis=-2, keepdims=True)
        return magnitudes
