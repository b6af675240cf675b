"""Waveforms as frames: blocks of samples, for networks that hear waveforms.

What a log-mel spectrogram is to other systems, this is to one that computes its spectra itself:
the table of features holds the samples, 16 bits each, and a step of training turns them back.

    waveforms (..., samples) → blocks (..., blocks, 501) int16 → waveforms

Each block has a power of two of its own as its last value, so that a quiet recording of floating
point is kept as precisely as a loud one, and a recording of 16 bits exactly.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from asd_jax.errors import UserError
from asd_jax.runtime.portable import is_portable

# Of whole seconds at 8, 16, 32 and 48 kHz, no sample is left over.
BLOCK = 500


@dataclasses.dataclass(frozen=True)
class WaveformBlocks:
    """A front end whose frames are blocks of `BLOCK` samples; see `features.request.ClipFrontEnd`.

    Samples behind the last whole block are left out: less than 32 ms at 16 kHz.

    Attributes:
        sample_rate: of the waveforms, in Hz.

    Examples:
        >>> import numpy as np
        >>> front_end = WaveformBlocks()
        >>> front_end.frames(16_000)
        32
        >>> blocks = front_end.of_padded(np.full((1, 1000), 0.25, np.float32))
        >>> blocks.shape, blocks.dtype, float(samples_of(blocks)[0, 0])
        ((1, 2, 501), dtype('int16'), 0.25)
    """

    sample_rate: int = 16_000
    block: int = dataclasses.field(default=BLOCK, init=False)

    @property
    def n_fft(self) -> int:
        """Samples of a block."""
        return self.block

    @property
    def hop_length(self) -> int:
        """Samples of a block: they lie side by side."""
        return self.block

    @property
    def width(self) -> int:
        """Values of a block: its samples and their exponent."""
        return self.block + 1

    @property
    def dtype(self) -> str:
        """Of the values."""
        return "int16"

    def frames(self, n_samples: int) -> int:
        """Whole blocks of a waveform.

        Raises:
            UserError: there is none.
        """
        if n_samples < self.block:
            raise UserError(
                f"too short: {n_samples} samples where {self.block} are needed; give a longer one"
            )
        return n_samples // self.block

    @property
    def frames_at_once(self) -> int:
        """Two million samples."""
        return 2**21 // self.block

    def padding(self, n_samples: int) -> tuple[int, int]:
        """None."""
        return 0, 0

    def of_padded(self, waveforms: jax.Array) -> jax.Array:
        """(..., samples) → (..., blocks, width) int16."""
        waveforms = jnp.asarray(waveforms, jnp.float32)
        return _portable_blocks(waveforms) if is_portable() else _blocks(waveforms)


@jax.jit
def _blocks(waveforms: jax.Array) -> jax.Array:
    count = waveforms.shape[-1] // BLOCK
    samples = waveforms[..., : count * BLOCK].reshape(*waveforms.shape[:-1], count, BLOCK)
    # Integers reach from −2^15 to 2^15 − 1, so that 1.0 needs an exponent more than −1.0.
    up, down = samples.max(axis=-1) / (1 - 2.0**-15), -samples.min(axis=-1)
    _, exponents = jnp.frexp(jnp.maximum(up, down))
    exact = jnp.maximum(up, down) == jnp.ldexp(1.0, exponents - 1)  # a power of two itself
    exponents = jnp.where(exact, exponents - 1, exponents)
    # Down to the smallest number of floating point that is not subnormal.
    exponents = jnp.clip(exponents, -110, 15)
    mantissas = jnp.round(jnp.ldexp(samples, 15 - exponents[..., None]))
    mantissas = jnp.clip(mantissas, -(2**15), 2**15 - 1)
    blocks = jnp.concatenate([mantissas, exponents[..., None].astype(jnp.float32)], axis=-1)
    return blocks.astype(jnp.int16)


def _portable_blocks(waveforms: jax.Array) -> jax.Array:
    """The same values as float32, without operations on bits.

    Near a power of two an exponent may be one larger: samples of 16 bits stay exact.
    """
    count = waveforms.shape[-1] // BLOCK
    samples = waveforms[..., : count * BLOCK].reshape(*waveforms.shape[:-1], count, BLOCK)
    up, down = samples.max(axis=-1) / (1 - 2.0**-15), -samples.min(axis=-1)
    largest = jnp.maximum(jnp.maximum(up, down), 2.0**-110)
    exponents = jnp.clip(jnp.ceil(jnp.log2(largest)), -110, 15)
    mantissas = jnp.round(samples * _power(15 - exponents)[..., None])
    mantissas = jnp.clip(mantissas, -(2.0**15), 2.0**15 - 1)
    return jnp.concatenate([mantissas, exponents[..., None]], axis=-1)


def _power(exponents: jax.Array) -> jax.Array:
    """2 to whole numbers within ±126, exactly, which `exp2` is not in all runtimes."""
    table = jnp.asarray(np.ldexp(np.float32(1), np.arange(-126, 127)))
    return jnp.take(table, (exponents + 126).astype(jnp.int32), mode="clip")


def samples_of(blocks: jax.Array) -> jax.Array:
    """Turns blocks back into a waveform.

    Args:
        blocks: int16 (..., blocks, width) of `WaveformBlocks`; float32 of a portable program.

    Returns:
        float32 (..., samples), full scale at 1.
    """
    blocks = jnp.asarray(blocks)
    if is_portable():
        samples = blocks[..., :-1] * _power(blocks[..., -1:] - 15)
        return samples.reshape(*samples.shape[:-2], samples.shape[-2] * BLOCK)
    exponents = blocks[..., -1:].astype(jnp.int32) - 15
    samples = blocks[..., :-1].astype(jnp.float32) * jnp.ldexp(jnp.float32(1), exponents)
    return samples.reshape(*samples.shape[:-2], -1)
