"""Log-mel spectrograms of waveforms, as librosa defines them, in JAX.

    waveforms (..., samples) → spectrogram (..., frames, bins) → mel bands → dB

The transform is float64 by default, see `asd_jax.audio.stft`.
"""

import dataclasses
import math
import warnings
from typing import Annotated, Any

import jax
import jax.numpy as jnp
import numpy as np

from asd_jax.audio.mel import MelScale, empty_bands
from asd_jax.audio.stft import Settings, count_frames, transform
from asd_jax.errors import UserError
from asd_jax.runtime.bounds import Between, check_numbers
from asd_jax.runtime.portable import is_portable

FLOAT64_EPS = float(np.finfo(np.float64).eps)


@dataclasses.dataclass(frozen=True)
class FrontEnd:
    """Settings of a log-mel spectrogram; calling it computes one.

    The defaults are those of the DCASE baselines. The definitions are those of `librosa.stft`,
    with a Hann window, and of `librosa.filters.mel`.

    Attributes:
        sample_rate: of the waveforms, in Hz.
        n_fft: length of a frame and of its transform, in samples.
        hop_length: from one frame's start to the next one's, in samples.
        n_mels: number of mel bands.
        power: exponent of the magnitude, 2 for power, 1 for magnitude.
        scale: mel scale, "slaney" or "htk"; "linear" spaces the bands evenly in Hz.
        norm: "slaney" for bands of equal area, None for bands of equal peak.
        fmin: lowest frequency of the mel bands, in Hz.
        fmax: highest frequency of the mel bands, in Hz; None for half the sample rate.
        center: True pads the waveform with n_fft // 2 samples on both sides, so that frame t
            is centred on sample t * hop_length; False takes only the complete frames.
        pad_mode: those samples. "constant" is zeros, librosa's default since 0.9; "reflect" is
            the waveform mirrored at its first and last sample, as `numpy.pad` has it, which was
            the default until then. The first and last frames differ by some 6 to 14 dB.
        db: use of `eps`: "max" is 20 / power * log10(max(mel, eps)), as in the DCASE baselines
            of 2021 and later; "add" is 20 / power * log10(mel + eps), as in that of 2020.
        eps: floor of the mel bands, in the unit of magnitude ** power.
        precision: of the Fourier transform, "float64" or the faster "float32".
        canceller: whether recordings have two channels, near the machine and far from it, and
            what the far one explains is taken off the near one (`asd_jax.data.cancelled`). It
            needs whole recordings, and is done as they are read, for every system.

    Raises:
        UserError: a setting is out of its range.

    Examples:
        A second at 16 kHz is 31 hops and a rest: 32 frames, as both ends are padded.

        >>> import numpy as np
        >>> front_end = FrontEnd(n_mels=64)
        >>> front_end.frames(16000)
        32
        >>> front_end(np.zeros((2, 16000), np.float32)).shape
        (2, 32, 64)
    """

    sample_rate: Annotated[int, Between(1, 10**6)] = 16000
    n_fft: Annotated[int, Between(1, 2**20)] = 1024
    hop_length: Annotated[int, Between(1, 2**20)] = 512
    n_mels: Annotated[int, Between(1, 10**5)] = 128
    power: Annotated[float, Between(0, 100, above=True)] = 2.0
    _: dataclasses.KW_ONLY
    scale: str = "slaney"
    norm: str | None = "slaney"
    fmin: Annotated[float, Between(0, 10**6)] = 0.0
    fmax: Annotated[float | None, Between(0, 10**6, above=True)] = None
    center: bool = True
    db: str = "max"
    eps: Annotated[float, Between(0, 10**6, above=True)] = FLOAT64_EPS
    precision: str = "float64"
    canceller: bool = False
    pad_mode: str = "constant"

    def __post_init__(self) -> None:
        check_numbers("front_end", self)
        for name, choices in _CHOICES.items():
            _require(
                getattr(self, name) in choices,
                f"front end: {name} {getattr(self, name)!r} must be one of "
                + ", ".join(map(repr, choices)),
            )
        _require(
            self.center or self.pad_mode == "constant",
            f"front end: pad_mode is {self.pad_mode!r}, which has no effect: center is False, and "
            "nothing is padded; leave it at 'constant'",
        )
        half = self.sample_rate / 2
        fmax = half if self.fmax is None else self.fmax
        _require(
            _is_finite(self.fmin) and _is_finite(fmax) and 0 <= self.fmin < fmax <= half,
            f"front end: fmin {self.fmin!r} and fmax {self.fmax!r} must satisfy "
            f"0 <= fmin < fmax <= {half:g} Hz, half the sample rate",
        )

    @property
    def mel(self) -> MelScale:
        """The bands."""
        return MelScale(self.sample_rate, self.n_mels, self.scale, self.norm, self.fmin, self.fmax)

    @property
    def width(self) -> int:
        """Values of a frame: the bands."""
        return self.n_mels

    @property
    def dtype(self) -> str:
        """Type of the values, whatever the transform is computed in."""
        return "float32"

    def frames(self, n_samples: int) -> int:
        """Number of frames of a waveform.

        Args:
            n_samples: length of the waveform, in samples.

        Returns:
            The number of frames, at least 1.

        Raises:
            UserError: the waveform has no samples or, without centring, less than a frame.
        """
        return count_frames(n_samples, self.n_fft, self.hop_length, self.center)

    @property
    def frames_at_once(self) -> int:
        """Frames in one call of `of_padded` on a CPU: two million values to transform."""
        return max(1, 2**21 // self.n_fft)

    def padding(self, n_samples: int) -> tuple[int, int]:
        """Samples added before and behind a waveform, see `center` and `pad_mode`."""
        return (self.n_fft // 2, self.n_fft // 2) if self.center else (0, 0)

    def of_padded(self, waveforms: jax.Array) -> jax.Array:
        """Log-mel spectrogram of waveforms that have their padding already.

        Args:
            waveforms: as of `__call__`.

        Returns:
            (..., frames, n_mels), in dB.
        """
        own = dataclasses.replace(self, center=False, pad_mode="constant", canceller=False)
        return own(waveforms)

    def __call__(self, waveforms: jax.Array) -> jax.Array:
        """Log-mel spectrogram, as `log_mel` returns it.

        Args:
            waveforms: floating point (..., samples).

        Returns:
            (..., frames, n_mels), in dB.

        Raises:
            UserError: the canceller is on, which has its place before.
        """
        if self.canceller:
            raise UserError(
                "front end: canceller is on, and waveforms here have one channel; take the far "
                "channel off by asd_jax.data.cancelled, and leave canceller=False"
            )
        compute = _log_mel if is_portable() else _compiled_log_mel
        return compute(_checked(waveforms), self)


def log_mel(
    waveforms: jax.Array,
    sample_rate: int = 16000,
    n_fft: int = 1024,
    hop_length: int = 512,
    n_mels: int = 128,
    power: float = 2.0,
    *,
    scale: str = "slaney",
    norm: str | None = "slaney",
    fmin: float = 0.0,
    fmax: float | None = None,
    center: bool = True,
    db: str = "max",
    eps: float = FLOAT64_EPS,
    precision: str = "float64",
    pad_mode: str = "constant",
) -> jax.Array:
    """Computes log-mel spectrograms of waveforms.

    Works under `jit`, `vmap` and `grad`; all arguments but the waveforms are Python values.
    The gradient is finite everywhere, and zero on silence.

    Args:
        waveforms: floating point (..., samples), full scale at 1.
        sample_rate: and all further arguments: see `FrontEnd`.

    Returns:
        (..., frames, n_mels), in dB; float32, or float64 for float64 waveforms.

    Raises:
        UserError: a setting is out of its range, the waveforms are not floating point, or they
            are too short for a frame.

    Warns:
        UserWarning: bands are empty, as they are narrower than the transform resolves.

    Examples:
        A tone of 1 kHz is loudest in the band around it.

        >>> import numpy as np
        >>> tone = np.sin(2 * np.pi * 1000 * np.arange(16000) / 16000)
        >>> decibels = np.asarray(log_mel(tone, sample_rate=16000, n_mels=64))
        >>> decibels.shape
        (32, 64)
        >>> int(decibels[16].argmax())
        21
    """
    front_end = FrontEnd(
        sample_rate,
        n_fft,
        hop_length,
        n_mels,
        power,
        scale=scale,
        norm=norm,
        fmin=fmin,
        fmax=fmax,
        center=center,
        db=db,
        eps=eps,
        precision=precision,
        pad_mode=pad_mode,
    )
    if empty := empty_bands(n_fft, front_end.mel):
        warnings.warn(
            f"{empty} of the {n_mels} mel bands are empty, as no frequency of a transform of "
            f"{n_fft} samples falls into them: they have one value whatever is heard; raise n_fft "
            "or lower n_mels",
            stacklevel=2,
        )
    return front_end(waveforms)


def mel_spectrogram(waveforms: jax.Array, front_end: FrontEnd) -> jax.Array:
    """Computes mel spectrograms of waveforms, not yet in decibels.

    Args:
        waveforms: floating point (..., samples).
        front_end: the settings; `db` and `eps` are not used.

    Returns:
        (..., frames, n_mels), in the unit of magnitude ** power.

    Raises:
        UserError: the waveforms are not floating point or too short for a frame.

    Examples:
        >>> import numpy as np
        >>> silence = mel_spectrogram(np.zeros(16000), FrontEnd(n_mels=64))
        >>> silence.shape, float(silence.max())
        ((32, 64), 0.0)
    """
    settings = Settings(
        front_end.n_fft,
        front_end.hop_length,
        front_end.power,
        front_end.center,
        front_end.mel,
        front_end.precision,
        front_end.pad_mode,
    )
    return transform(_checked(waveforms), settings)


def spectrogram(
    waveforms: jax.Array,
    n_fft: int = 1024,
    hop_length: int = 512,
    power: float = 2.0,
    *,
    center: bool = True,
    precision: str = "float64",
    pad_mode: str = "constant",
) -> jax.Array:
    """Computes spectrograms of waveforms, on the linear frequency axis.

    Args:
        waveforms: floating point (..., samples).
        n_fft: and all further arguments: see `FrontEnd`.

    Returns:
        (..., frames, n_fft // 2 + 1), magnitudes ** power.

    Raises:
        UserError: a setting is out of its range, the waveforms are not floating point, or they
            are too short for a frame.

    Examples:
        A tone of 1 kHz at 16 kHz is in bin 1000 / 16000 · 1024 = 64. The Hann window sums to
        n_fft / 2, and a tone's amplitude is shared by its positive and negative frequency.

        >>> import numpy as np
        >>> tone = np.cos(2 * np.pi * 1000 * np.arange(16000) / 16000)
        >>> magnitudes = np.asarray(spectrogram(tone, power=1.0, precision="float32"))
        >>> magnitudes.shape, int(magnitudes[16].argmax())
        ((32, 513), 64)
        >>> round(float(magnitudes[16, 64]))
        256
    """
    # Only for its checks of the settings.
    FrontEnd(
        n_fft=n_fft,
        hop_length=hop_length,
        power=power,
        center=center,
        precision=precision,
        pad_mode=pad_mode,
    )
    settings = Settings(n_fft, hop_length, power, center, None, precision, pad_mode)
    return transform(_checked(waveforms), settings)


_CHOICES: dict[str, tuple[Any, ...]] = {
    "scale": ("slaney", "htk", "linear"),
    "norm": ("slaney", None),
    "center": (True, False),
    "canceller": (True, False),
    "db": ("max", "add"),
    "precision": ("float64", "float32"),
    "pad_mode": ("constant", "reflect"),
}


def _log_mel(waveforms: jax.Array, front_end: FrontEnd) -> jax.Array:
    mel = mel_spectrogram(waveforms, front_end)
    floored = jnp.maximum(mel, front_end.eps) if front_end.db == "max" else mel + front_end.eps
    return 20.0 / front_end.power * jnp.log10(floored)


_compiled_log_mel = jax.jit(_log_mel, static_argnums=1)


def _checked(waveforms: jax.Array) -> jax.Array:
    waveforms = jnp.asarray(waveforms)
    if waveforms.ndim == 0 or not jnp.issubdtype(waveforms.dtype, jnp.floating):
        raise UserError(
            f"waveforms are {waveforms.dtype} of shape {waveforms.shape}; they must be floating "
            "point (..., samples), full scale at 1"
        )
    # Where nothing is to be converted, no program is called.
    wanted = jnp.promote_types(waveforms.dtype, jnp.float32)
    return waveforms if waveforms.dtype == wanted else waveforms.astype(wanted)


def _is_finite(value: Any) -> bool:
    return isinstance(value, int | float | np.number) and math.isfinite(value)


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise UserError(message)
