"""Log-mels in PyTorch: its short-time Fourier transform and a product with librosa's filters."""

import concurrent.futures
import contextlib
from collections.abc import Callable, Iterator

import librosa
import torch

from asd_jax.audio import FrontEnd
from asd_jax.runtime.cores import usable_cores


class Bands(torch.nn.Module):
    """Waveforms (clips, samples) → mel bands (clips, mels, frames) of power.

    Args:
        front_end: its settings.
    """

    def __init__(self, front_end: FrontEnd) -> None:
        super().__init__()
        self.settings = front_end
        filters = librosa.filters.mel(
            sr=front_end.sample_rate, n_fft=front_end.n_fft, n_mels=front_end.n_mels
        )
        self.register_buffer("filters", torch.from_numpy(filters))
        self.register_buffer("window", torch.hann_window(front_end.n_fft))

    def forward(self, waveforms: torch.Tensor) -> torch.Tensor:
        """The bands."""
        spectrum = torch.stft(
            waveforms,
            self.settings.n_fft,
            self.settings.hop_length,
            window=self.window,
            pad_mode="constant",
            return_complex=True,
        )
        return self.filters @ (spectrum.real**2 + spectrum.imag**2)


def decibels(bands: torch.Tensor, front_end: FrontEnd) -> torch.Tensor:
    """Levels of the bands."""
    return 10 * torch.log10(torch.clamp(bands, min=front_end.eps))


@contextlib.contextmanager
def threads_a_core() -> Iterator[Callable]:
    """`map` of a thread a core, in each of which PyTorch computes with one thread.

    For files one by one, this is faster than PyTorch's own threads.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with concurrent.futures.ThreadPoolExecutor(
            usable_cores(), initializer=torch.set_num_threads, initargs=(1,)
        ) as pool:
            yield pool.map
    finally:
        torch.set_num_threads(before)
