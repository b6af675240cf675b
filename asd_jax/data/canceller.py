"""Takes off a near microphone's signal what a far one explains of it.

The recordings of 2026 have two channels: the first is near the machine, the second far from it,
where the surroundings are as loud and the machine is fainter. Per frequency, one complex number
for the whole recording predicts the near channel C from the far one F by least squares, and the
prediction is taken off:

    H = Σ_t C·conj(F) / (Σ_t |F|² + 1e-12),    Y = C − H·F

with sums over the frames of a short-time Fourier transform (1,024 samples, every 512, periodic
Hann window, centred, reflected at the ends), and both channels scaled to a joint peak of 0.9
before, which Y undoes. What reaches both microphones by fixed paths goes, the machine too as far as
the far one hears it; what only one of them hears stays.
"""

from collections.abc import Callable, Iterable, Iterator

import numpy as np

from asd_jax.errors import UserError

N_FFT = 1024
HOP = 512
_PAD = N_FFT // 2
_PEAK = 0.9
_EPS = 1e-12
_FRAMES = 256  # transformed together
_WINDOW = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(N_FFT) / N_FFT)  # periodic Hann
# Past this sample of the last hop its window is so small that the inverse transform, which divides
# by it, would be much louder than the signal; another frame is taken then.
_LAST = 3 * HOP // 4


def cancelled(near_and_far: np.ndarray) -> np.ndarray:
    """Takes off the near channel what the far one explains of it.

    Args:
        near_and_far: floating point (samples, 2).

    Returns:
        float32 (samples,).

    Raises:
        UserError: samples of another shape.

    Examples:
        What both channels hear goes.

        >>> rng = np.random.default_rng(0)
        >>> hall, machine = 0.1 * rng.normal(size=(2, 16_000))
        >>> both = np.stack([machine + 2 * hall, hall], axis=1)
        >>> rest = cancelled(both) - machine
        >>> round(float(rest.std() / (2 * hall).std()), 1)
        0.1
    """
    if near_and_far.ndim != 2 or near_and_far.shape[1] != 2:
        raise UserError(
            f"a recording is {near_and_far.shape}; the canceller needs (samples, 2), near the "
            "machine and far from it"
        )
    blocks = cancelled_blocks(lambda: [near_and_far], len(near_and_far))
    return np.concatenate([np.zeros(0, np.float32), *blocks])


def cancelled_blocks(
    blocks: Callable[[], Iterable[np.ndarray]], n_samples: int
) -> Iterator[np.ndarray]:
    """`cancelled` of a recording that memory need not hold; it is gone through twice.

    Args:
        blocks: gives (samples, 2) of the recording, one after another, each time it is called.
        n_samples: of all blocks together.

    Yields:
        (samples,) float32, one after another, as many in all.
    """
    if not n_samples:
        return
    peak, cross, power = 0.0, np.zeros(HOP + 1, complex), np.zeros(HOP + 1)

    def measured() -> Iterator[np.ndarray]:
        nonlocal peak
        for block in blocks():
            peak = max(peak, float(np.abs(block).max(initial=0.0)))
            yield block

    for spectra in _spectra(measured(), n_samples, 0):
        near, far = spectra[:, 0], spectra[:, 1]  # (frames, bins)
        cross += (near * far.conj()).sum(axis=0)
        power += (far.real**2 + far.imag**2).sum(axis=0)
    if peak == 0:
        yield np.zeros(n_samples, np.float32)
        return
    # The constant is of scaled channels, and these are not scaled.
    response = cross / (power + _EPS * (peak / _PEAK) ** 2)  # (bins,)

    rest = n_samples % HOP
    frames = _spectra(blocks(), n_samples, HOP - rest if rest > _LAST else 0)
    signal = (np.fft.irfft(own[:, 0] - response * own[:, 1]) * _WINDOW for own in frames)
    at = -_PAD
    for block in _overlap_added(signal):
        yield block[max(0, -at) : max(0, n_samples - at)].astype(np.float32)
        at += len(block)


def _spectra(blocks: Iterable[np.ndarray], n_samples: int, more: int) -> Iterator[np.ndarray]:
    """Spectra complex128 (frames, 2, bins) of a recording, and of so many samples more."""
    kept = np.zeros((0, 2))
    for block in _reflected(blocks, _PAD + more):
        kept = np.concatenate([kept, block])
        n_frames = max(0, 1 + (len(kept) - N_FFT) // HOP)
        for first in range(0, n_frames, _FRAMES):
            last = min(first + _FRAMES, n_frames)
            own = kept[first * HOP : (last - 1) * HOP + N_FFT]
            frames = np.lib.stride_tricks.sliding_window_view(own, N_FFT, axis=0)[::HOP]
            yield np.fft.rfft(frames * _WINDOW)
        kept = kept[n_frames * HOP :]


def _reflected(blocks: Iterable[np.ndarray], behind: int) -> Iterator[np.ndarray]:
    """The samples (samples, 2), with some before and behind them, reflected at the ends."""
    kept, before = np.zeros((0, 2), np.float32), _PAD
    for block in blocks:
        kept = np.concatenate([kept, block])
        if len(kept) > 2 * N_FFT:  # enough to be reflected at both ends
            kept = np.pad(kept, [(before, 0), (0, 0)], mode="reflect")
            yield kept[:-N_FFT]
            kept, before = kept[-N_FFT:], 0
    yield np.pad(kept, [(before, behind), (0, 0)], mode="reflect")


def _overlap_added(frames: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
    """Overlap-adds frames (frames, N_FFT) and divides by what their windows add up to."""
    squares = _WINDOW**2
    carried, weight = np.zeros(HOP), np.zeros(HOP)
    for own in frames:
        halves = own.reshape(len(own), 2, HOP)
        summed = halves[:, 0]
        summed[0] += carried
        summed[1:] += halves[:-1, 1]
        weights = np.tile(squares[:HOP] + squares[HOP:], (len(own), 1))
        weights[0] = squares[:HOP] + weight
        # The first sample of all is a zero of the window; it is padding.
        yield (summed / np.maximum(weights, np.finfo(float).tiny)).ravel()
        carried, weight = halves[-1, 1].copy(), squares[HOP:]
    yield carried / squares[HOP:]
