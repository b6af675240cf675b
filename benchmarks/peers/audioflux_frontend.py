"""audioFlux's log-mels, in a process of its own.

In a process that has imported PyTorch before, audioFlux (0.1.9) gives twice the power: both bring
a library of Fourier transforms. The functions here are called by that process.
"""

import concurrent.futures
import multiprocessing
import threading
from typing import Any

import numpy as np

from asd_jax.audio import FrontEnd
from asd_jax.runtime.cores import usable_cores

_held: dict[str, Any] = {}


class Remote:
    """The process, with waveforms in its memory.

    Args:
        clips: float32 (clips, samples).
        front_end: settings; the HTK scale, and triangles with peaks of 1.
    """

    def __init__(self, clips: np.ndarray, front_end: FrontEnd) -> None:
        self._pool = concurrent.futures.ProcessPoolExecutor(
            1, multiprocessing.get_context("spawn"), initializer=_hold, initargs=(clips, front_end)
        )

    def run(self) -> "Remote":
        """Computes; the result stays in the process until it is asked for, as an array."""
        self._pool.submit(_run).result()
        return self

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        """(clips, frames, mels) in dB."""
        return np.asarray(self._pool.submit(_levels).result(), dtype)

    def close(self) -> None:
        """Ends the process."""
        self._pool.shutdown()


def _hold(clips: np.ndarray, front_end: FrontEnd) -> None:
    """Pads the waveforms, which audioFlux does not, and starts a thread a core."""
    pad = front_end.n_fft // 2
    _held["clips"] = np.pad(clips, ((0, 0), (pad, pad)))
    _held["front_end"] = front_end
    _held["threads"] = concurrent.futures.ThreadPoolExecutor(usable_cores())
    _held["own"] = threading.local()  # a transform has buffers


def _run() -> None:
    _held["levels"] = np.stack([*_held["threads"].map(_of_clip, _held["clips"])])


def _levels() -> np.ndarray:
    return _held["levels"]


def _of_clip(clip: np.ndarray) -> np.ndarray:
    """(frames, mels)."""
    front_end, own = _held["front_end"], _held["own"]
    if not hasattr(own, "transform"):
        own.transform = _transform(front_end)
    levels = own.transform.bft(clip, result_type=1).T
    np.maximum(levels, front_end.eps, out=levels)
    np.log10(levels, out=levels)
    return np.multiply(levels, 10, out=levels)


def _transform(front_end: FrontEnd) -> Any:
    from audioflux import BFT
    from audioflux import type as types

    return BFT(
        front_end.n_mels,
        radix2_exp=front_end.n_fft.bit_length() - 1,
        samplate=front_end.sample_rate,
        low_fre=0.0,
        high_fre=front_end.sample_rate / 2,
        slide_length=front_end.hop_length,
        window_type=types.WindowType.HANN,
        scale_type=types.SpectralFilterBankScaleType.MEL,
        style_type=types.SpectralFilterBankStyleType.SLANEY,
        normal_type=types.SpectralFilterBankNormalType.NONE,
        data_type=types.SpectralDataType.POWER,
    )
