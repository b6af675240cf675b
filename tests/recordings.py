"""Recordings of noise, and what is read of their features."""

import numpy as np
import soundfile

from asd_jax.audio import FrontEnd
from asd_jax.data.clips import Clip

RATE = 16000
FRONT_END = FrontEnd(n_fft=512, hop_length=256, n_mels=32)


def noise(n_samples, channels=1, seed=0):
    """(samples, channels) of 16 bits, loud but not clipped."""
    values = np.random.default_rng(seed).integers(-30000, 30000, (n_samples, channels))
    return values.astype(np.int16)


def make_clip(folder, i, n_samples, machine="fan", split="train"):
    path = folder / machine / split / f"normal_id_00_{i:08d}.wav"
    path.parent.mkdir(parents=True, exist_ok=True)
    waveform = 0.1 * np.random.default_rng(i).standard_normal(n_samples)
    soundfile.write(path, waveform, 16000)
    return Clip(machine, "00", split, path.name, str(path))


def rows(found):
    """All frames of a table."""
    return found.read(0, found.total_frames)


ONE_SAMPLE = b"RIFF&\0\0\0WAVEfmt \x10\0\0\0\1\0\1\0\x80>\0\0\0}\0\0\2\0\x10\0data\2\0\0\0\1\0"


def make(root, *paths):
    """Layouts are read off paths, MIMII's split off headers as well."""
    for path in paths:
        file = root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(ONE_SAMPLE)
    return root
