"""Recordings of a tone, for tests of systems that hear waveforms."""

import numpy as np

RATE = 16_000


def sound(hz, seed, samples=20_000):
    """A tone in noise."""
    noise = np.random.default_rng(seed).normal(0, 0.02, samples)
    return (noise + 0.1 * np.sin(2 * np.pi * hz * np.arange(samples) / RATE)).astype(np.float32)
