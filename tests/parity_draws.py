"""Weights and inputs that another program's network and ours are given alike."""

import zlib

import numpy as np

SAMPLES, BATCH = 80_000, 4


def array(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """Drawn from the name, float32, of variance 1 over the number of inputs of a kernel."""
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    inputs = max(1, int(np.prod(shape[:-1])))
    return (rng.normal(size=shape) / np.sqrt(inputs)).astype(np.float32)


def waveforms() -> np.ndarray:
    """(batch, samples): noise of different colours and levels, with a tone each."""
    rng = np.random.default_rng(0)
    noise = rng.normal(size=(BATCH, SAMPLES))
    tilt = 1 / (1 + np.arange(SAMPLES // 2 + 1) / 500) ** np.linspace(0, 1, BATCH)[:, None]
    noise = np.fft.irfft(np.fft.rfft(noise) * tilt, SAMPLES)
    time = np.arange(SAMPLES) / 16_000
    tones = np.sin(2 * np.pi * np.array([300, 700, 1500, 4000])[:, None] * time)
    return (0.1 * noise + 0.05 * tones).astype(np.float32)


def long_waveforms() -> np.ndarray:
    """(batch, 2 · samples): ten seconds at 16 kHz, of two of the `waveforms` each."""
    found = waveforms()
    return np.concatenate([found, found[::-1]], axis=1)


def log_mels() -> np.ndarray:
    """(batch, 313, 128) noise, of levels that the sigmoid of the largest and the mean tells."""
    drawn = array("log_mels", (BATCH, 313, 128))
    return (10 * drawn / drawn.std() - 12).astype(np.float32)


def labels(batch: int, classes: int) -> np.ndarray:
    """(batch, classes) proportions: two rows of one class, the others mixed of two."""
    found = np.zeros((batch, classes), np.float32)
    for row in range(batch):
        share = (1.0, 0.7, 1.0, 0.4)[row]
        found[row, row] += share
        found[row, row + 1] += 1 - share
    return found
