"""Short-time Fourier transforms in float64 or float32, and their sums in mel bands, in JAX.

A pure tone leaves bands far from it 150 dB and more below its own. That is below the rounding of
a float32 FFT, but librosa resolves it: it transforms in float64 and rounds the result. So the
transform, and nothing else, is float64 here too on CPUs and GPUs, whatever the setting
`jax_enable_x64`: results are within 1e-3 dB of librosa's in every band. TPUs have no float64 FFT
and use float32, as does `precision="float32"` anywhere: then a band is within 1e-3 dB down to
about 60 dB below the strongest band of its frame. Gradients are those of the float32 transform.
"""

import dataclasses
import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.custom_batching
import jax.numpy as jnp
import jaxlib
import numpy as np

from asd_jax.audio.mel import MelScale, mel_bands
from asd_jax.audio.products import squared_spectrum
from asd_jax.errors import UserError
from asd_jax.runtime.portable import is_portable

# A large transform waits for the threads that run the program also where it is on one of them:
# on a CPU, several at once wait for ever. Excluded in setup.cfg too.
_HANGING = ("0.11.1", "0.11.2")

# Values that a CPU transforms together: 64 frames of 1,024.
_AT_ONCE = 2**16

_OfFrames = Callable[[jax.Array], jax.Array]  # (..., n_fft) → (..., bands)


@dataclasses.dataclass(frozen=True)
class Settings:
    """Settings of a spectrogram; `mel` None leaves the bins of the transform."""

    n_fft: int
    hop_length: int
    power: float
    center: bool
    mel: MelScale | None
    precision: str
    pad_mode: str = "constant"


def transform(waveforms: jax.Array, settings: Settings) -> jax.Array:
    """Computes spectrograms, linear or in mel bands; in `portable` programs by matrix products.

    Args:
        waveforms: float32 or float64 (..., samples).
        settings: of the spectrogram.

    Returns:
        (..., frames, bands), in the unit of magnitude ** power.

    Raises:
        UserError: they are too short for a frame, or this version of jaxlib would hang.
    """
    if is_portable():
        return _by_products(waveforms, settings)
    return _transform(waveforms, settings)


@functools.partial(jax.jit, static_argnums=1)
@functools.partial(jax.custom_jvp, nondiff_argnums=(1,))
def _transform(waveforms: jax.Array, settings: Settings) -> jax.Array:
    check_jaxlib()

    def in_float64(frames: jax.Array) -> jax.Array:  # (..., n_fft) → (..., bands)
        with jax.enable_x64(True):
            squared = _squared(_spectrum(frames.astype(jnp.float64))).astype(frames.dtype)
        return _to_bands(_magnitude_power(squared, settings.power), settings)

    def in_float32(frames: jax.Array) -> jax.Array:
        squared = _squared(_spectrum(frames))
        return _to_bands(_magnitude_power(squared, settings.power), settings)

    in_precision = in_float64 if settings.precision == "float64" else in_float32

    def together(of_frames: _OfFrames, x: jax.Array) -> jax.Array:  # (..., samples)
        return of_frames(_frames(_padded(x, settings), settings))

    def piece_by_piece(x: jax.Array) -> jax.Array:
        return _piece_by_piece(in_precision, _padded(x, settings), settings)

    # JAX's own batching rule of the FFT would run outside the float64 context, and round. As the
    # functions above take any leading axes, batching needs no more than the batched array.
    @jax.custom_batching.custom_vmap
    def bands(x: jax.Array) -> jax.Array:
        return jax.lax.platform_dependent(
            x,
            cpu=piece_by_piece,
            cuda=functools.partial(together, in_precision),
            rocm=functools.partial(together, in_precision),
            default=functools.partial(together, in_float32),
        )

    @bands.def_vmap
    def _(axis_size: int, in_batched: list[bool], x: jax.Array) -> tuple[jax.Array, bool]:
        return bands(x), True

    return bands(waveforms)


def check_jaxlib() -> None:
    """Raises UserError where Fourier transforms on a CPU may never end."""
    if jaxlib.__version__ in _HANGING and jax.default_backend() == "cpu":
        raise UserError(
            f"jaxlib {jaxlib.__version__} hangs in Fourier transforms on CPUs; "
            "install another version: pip install --upgrade jax"
        )


@_transform.__wrapped__.defjvp  # type: ignore[attr-defined]  # jit's type lacks the function
def _transform_jvp(
    settings: Settings, primals: tuple[jax.Array], tangents: tuple[jax.Array]
) -> tuple[jax.Array, jax.Array]:
    # Differentiating the float64 transform would need x64 in the backward pass, outside the
    # context; a gradient has no use for its precision.
    (waveforms,), (direction,) = primals, tangents
    spectrum, along = (  # (..., frames, n_fft // 2 + 1); the transform is linear
        _spectrum(_frames(_padded(each, settings), settings)) for each in (waveforms, direction)
    )
    squared = _squared(spectrum)
    # The derivative of |X|², and for another power that of (|X|²) ** (power / 2) by the chain
    # rule; its slope at X = 0 is taken as 0.
    slope = 2 * (spectrum.real * along.real + spectrum.imag * along.imag)
    if settings.power != 2:
        safe = jnp.where(squared > 0, squared, 1)
        factor = settings.power / 2 * safe ** (settings.power / 2 - 1)
        slope = slope * jnp.where(squared > 0, factor, 0)
    return transform(waveforms, settings), _to_bands(slope, settings)


def _by_products(waveforms: jax.Array, settings: Settings) -> jax.Array:
    """Spectra in float32, whose samples may be of a symbolic number."""
    frames = _frames(_padded(waveforms, settings), settings)
    squared = squared_spectrum(frames * _window(settings.n_fft).astype(np.float32))
    return _to_bands(_magnitude_power(squared, settings.power), settings)


def _piece_by_piece(of_frames: _OfFrames, waveforms: jax.Array, settings: Settings) -> jax.Array:
    """Spectra of padded waveforms (..., samples) on a CPU, of some frames at a time.

    These fit into the processor's cache, where those of a batch or a clip do not.
    """
    leading, n_samples = waveforms.shape[:-1], waveforms.shape[-1]
    flat = waveforms.reshape(math.prod(leading), n_samples)  # (clips, samples)
    n_frames = count_frames(n_samples, settings.n_fft, settings.hop_length, center=False)
    n_pieces = -(-n_frames // max(1, _AT_ONCE // settings.n_fft))
    in_piece = -(-n_frames // n_pieces)
    starts = settings.hop_length * np.arange(n_pieces * in_piece, dtype=np.int32)
    clips = np.repeat(np.arange(len(flat), dtype=np.int32), n_pieces)  # (clips · pieces,)
    places: Any = clips, np.tile(starts.reshape(n_pieces, in_piece), (len(flat), 1))
    if not len(flat):
        flat = jnp.zeros((1, n_samples), flat.dtype)  # for the shapes alone

    def of_piece(_: None, place: tuple[jax.Array, jax.Array]) -> tuple[None, jax.Array]:
        clip, starts = place

        def frame_at(start: jax.Array) -> jax.Array:
            return jax.lax.dynamic_slice(flat, (clip, start), (1, settings.n_fft))[0]

        # What fills up the last piece, and begins too late, repeats the last frames.
        return None, of_frames(jax.vmap(frame_at)(starts))  # (in_piece, bands)

    # Unrolling four pieces keeps all cores busy.
    _, bands = jax.lax.scan(of_piece, None, places, unroll=4)
    return bands.reshape(*leading, n_pieces * in_piece, bands.shape[-1])[..., :n_frames, :]


def _padded(waveforms: jax.Array, settings: Settings) -> jax.Array:
    """Waveforms (..., samples), longer on both sides where frames are centred.

    Raises:
        UserError: they are too short for a frame.
    """
    n_fft = settings.n_fft
    count_frames(waveforms.shape[-1], n_fft, settings.hop_length, settings.center)
    half = n_fft // 2 if settings.center else 0
    if settings.pad_mode == "reflect" and is_portable():  # of a waveform longer than its padding
        before, behind = waveforms[..., 1 : half + 1], waveforms[..., -half - 1 : -1]
        reflected = jnp.flip(before, -1), waveforms, jnp.flip(behind, -1)
        return jnp.concatenate(reflected, axis=-1)
    sides = [(0, 0)] * (waveforms.ndim - 1) + [(half, half)]
    return jnp.pad(waveforms, sides, mode=settings.pad_mode)


def _spectrum(frames: jax.Array) -> jax.Array:
    """Fourier transform (..., n_fft // 2 + 1) of frames (..., n_fft), in their precision."""
    return jnp.fft.rfft(frames * _window(frames.shape[-1]).astype(frames.dtype))


def _window(n_fft: int) -> np.ndarray:
    """The periodic Hann window (n_fft,), float64."""
    return 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(n_fft) / n_fft)


def _frames(waveforms: jax.Array, settings: Settings) -> jax.Array:
    """Overlapping frames (..., n_frames, n_fft) of padded waveforms (..., samples)."""
    n_fft, hop_length = settings.n_fft, settings.hop_length
    n_frames = count_frames(waveforms.shape[-1], n_fft, hop_length, center=False)
    if n_fft % hop_length:
        index = np.arange(n_frames)[:, None] * hop_length + np.arange(n_fft)  # (n_frames, n_fft)
        return waveforms[..., index]
    # A frame is `overlap` consecutive blocks of one hop. Slices of the blocks, side by side, need
    # no gather, and no scatter in the gradient.
    overlap = n_fft // hop_length
    n_blocks = n_frames + overlap - 1
    blocks = waveforms[..., : n_blocks * hop_length]
    blocks = blocks.reshape(waveforms.shape[:-1] + (n_blocks, hop_length))
    return jnp.concatenate([blocks[..., i : i + n_frames, :] for i in range(overlap)], axis=-1)


def _squared(spectrum: jax.Array) -> jax.Array:
    return spectrum.real**2 + spectrum.imag**2


def _magnitude_power(squared: jax.Array, power: float) -> jax.Array:
    if power == 2:
        return squared
    return jnp.sqrt(squared) if power == 1 else squared ** (power / 2)


def _to_bands(values: jax.Array, settings: Settings) -> jax.Array:
    if settings.mel is None:
        return values
    return mel_bands(values, settings.n_fft, settings.mel)


def count_frames(n_samples: int, n_fft: int, hop_length: int, center: bool) -> int:
    """Counts the frames of a waveform; arguments as in `asd_jax.audio.FrontEnd`.

    Raises:
        UserError: the waveform is too short for a frame.

    Examples:
        >>> count_frames(16000, 1024, 512, center=False), count_frames(16000, 1024, 512, True)
        (30, 32)
    """
    shortest = 1 if center else n_fft
    if n_samples < shortest:
        raise UserError(
            f"a waveform of {n_samples} samples has no frame: at least {shortest} samples are "
            "needed" + ("" if center else f" for n_fft {n_fft} without centring")
        )
    padded = n_samples + 2 * (n_fft // 2) if center else n_samples
    return 1 + (padded - n_fft) // hop_length
