"""Log-mel spectrograms of ten-second clips: ours and those of other libraries."""

import concurrent.futures
import dataclasses
import functools
import math
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from asd_jax.audio import FrontEnd
from asd_jax.runtime.cores import usable_cores
from benchmarks.harness import Comparison, Difference, Prepared, Way, installed, largest
from benchmarks.peers.librosa_frontend import log_mel
from benchmarks.processes import ROOT, Worker
from benchmarks.roofline import Work

SECONDS = 10
# Of a batch. On an accelerator, those of a CPU take less time than it takes to ask for them.
_QUICK_CLIPS, _CLIPS, _ACCELERATOR_CLIPS = 4, 32, 512
# The defaults, those of the challenge's baselines: 1024 samples a frame, every 512, 128 bands.
FRONT_END = FrontEnd()
# audioFlux's triangles are those of the HTK scale with peaks of 1.
HTK = dataclasses.replace(FRONT_END, scale="htk", norm=None)
_AUDIOFLUX = "audioFlux"


def make_clips(count: int) -> np.ndarray:
    """Float32 (count, samples): hums with harmonics over noise, like sounds of machines."""
    rng = np.random.default_rng(0)
    rate = FRONT_END.sample_rate
    time = np.arange(SECONDS * rate) / rate
    clips = 0.02 * rng.normal(size=(count, len(time)))
    for clip in clips:
        pitch = rng.uniform(50, 400)
        for harmonic in range(1, 9):
            clip += 0.05 / harmonic * np.sin(2 * np.pi * harmonic * pitch * time + harmonic)
    return clips.astype(np.float32)


def _librosa_way(clips: np.ndarray) -> Way:
    """librosa with one thread a core; its FFT and products release the interpreter's lock.

    Of a batch as large as accelerators have, it computes the first clips.
    """
    pool = concurrent.futures.ThreadPoolExecutor(usable_cores())
    first = clips[:_CLIPS]
    one = functools.partial(log_mel, front_end=FRONT_END)
    return Way(lambda: np.stack(list(pool.map(one, first))), scale=len(clips) / len(first))


def _torch_way(clips: np.ndarray, make: Callable[[], Callable]) -> Way:
    """A way in PyTorch; `make` returns a function from waveforms to bands (clips, mels, frames)."""
    import torch

    from benchmarks.peers.torch_frontend import decibels

    on_gpu = torch.cuda.is_available()
    device = "cuda" if on_gpu else "cpu"
    bands = make().to(device)
    waveforms = torch.from_numpy(clips).to(device)

    @torch.no_grad()
    def run():
        levels = decibels(bands(waveforms), FRONT_END)
        if on_gpu:
            torch.cuda.synchronize()
        return levels.transpose(1, 2)

    return Way(run)


def _stft_and_product():
    from benchmarks.peers.torch_frontend import Bands

    return Bands(FRONT_END)


def _torchaudio():
    import torchaudio

    return torchaudio.transforms.MelSpectrogram(
        FRONT_END.sample_rate,
        FRONT_END.n_fft,
        hop_length=FRONT_END.hop_length,
        n_mels=FRONT_END.n_mels,
        power=FRONT_END.power,
        pad_mode="constant",
        norm=FRONT_END.norm,
        mel_scale=FRONT_END.scale,
    )


def _nn_audio():
    from nnAudio.features import MelSpectrogram

    return MelSpectrogram(
        FRONT_END.sample_rate,
        FRONT_END.n_fft,
        hop_length=FRONT_END.hop_length,
        n_mels=FRONT_END.n_mels,
        power=FRONT_END.power,
        pad_mode="constant",
        verbose=False,
    )


def _audioflux_way(clips: np.ndarray) -> Way:
    """audioFlux with one thread a core."""
    from benchmarks.peers.audioflux_frontend import Remote

    remote = Remote(clips, HTK)
    return Way(remote.run, close=remote.close)


_WAYS = {
    _AUDIOFLUX: _audioflux_way,
    "librosa": _librosa_way,
    "torch": functools.partial(_torch_way, make=_stft_and_product),
    "torchaudio": functools.partial(_torch_way, make=_torchaudio),
    "nnAudio": functools.partial(_torch_way, make=_nn_audio),
}


def log_mel_work(lengths: Sequence[int], front_end: FrontEnd) -> Work:
    """The least work for the log-mels of clips of so many samples each."""
    n_fft = front_end.n_fft
    frames, bins = sum(map(front_end.frames, lengths)), n_fft // 2 + 1
    # A real FFT of n is half a complex one: 2.5 n log2 n.
    flops = n_fft + 2.5 * n_fft * math.log2(n_fft) + 3 * bins + 2 * bins * front_end.n_mels
    return Work(
        4 * (sum(lengths) + frames * front_end.n_mels),
        frames * flops,
        "float32 samples in and bands out; window, real FFT, squares and mel product a frame",
    )


def _repeated(way: Way, times: int) -> Way:
    """One batch after another, as of a data set; they are the same batch."""
    return dataclasses.replace(way, run=lambda: [way.run() for _ in range(times)][-1])


class LogMels:
    """Our log-mels of waveforms in memory, in a process of its own.

    Args:
        clips: float32 (clips, samples).
        settings: of the front end.
        batches: how often they are computed in a run.
        package: folder of the `asd_jax` that computes them; this one by default.
    """

    def __init__(
        self, clips: np.ndarray, settings: Mapping[str, Any], batches: int, package: Path = ROOT
    ) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="asd_jax_benchmark_")
        self._file = str(Path(self._folder.name) / "waveforms.npy")
        np.save(self._file, clips)
        self._request = {"waveforms": self._file, "settings": dict(settings), "batches": batches}
        self._worker = Worker(usable_cores(), package)
        self.devices = self._worker.devices

    def run(self) -> "LogMels":
        """Computes them; the result stays on the device until it is asked for, as an array."""
        self._worker.ask("log_mels", **self._request)
        return self

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        """(clips, frames, mels) in dB."""
        kept = str(Path(self._folder.name) / "levels.npy")
        self._worker.ask("save_log_mels", kept=kept)
        return np.asarray(np.load(kept), dtype)

    def close(self) -> None:
        """Ends the process."""
        self._worker.close()
        self._folder.cleanup()


def setup(
    quick: bool, peers: Sequence[str], precision: str, settings: FrontEnd = FRONT_END
) -> Prepared:
    """Waveforms are on the device beforehand, and spectrograms stay there."""
    front_end = dataclasses.replace(settings, precision=precision)
    large = jax.default_backend() != "cpu"
    clips = make_clips(_QUICK_CLIPS if quick else _ACCELERATOR_CLIPS if large else _CLIPS)
    batches = 1 if quick else 8

    def check(peer, ours, theirs):
        # NumPy cannot read tensors on a GPU.
        theirs = theirs.cpu().numpy() if hasattr(theirs, "cpu") else np.asarray(theirs)
        if peer == "librosa":
            ours = np.asarray(ours)[: len(theirs)]
            yield Difference("dB", largest(ours, theirs), 1e-3, "as `asd_jax.audio` promises")
        elif peer == _AUDIOFLUX:
            why = "float32 transforms and filters on both sides"
            yield Difference("dB", largest(ours, theirs), 2e-2, why)
        else:
            why = f"float32 FFT, TF32 product on a GPU; our FFT is {precision}"
            limit = 2e-2 if jax.default_backend() == "cpu" else 0.1
            yield Difference("dB", largest(ours, theirs), limit, why)

    def work(_):
        return log_mel_work([clips.shape[1]] * batches * len(clips), front_end)

    own = {"precision": precision, "scale": settings.scale, "norm": settings.norm}
    ours = LogMels(clips, own, batches)
    ways = {peer: _repeated(_WAYS[peer](clips), batches) for peer in peers}
    return Prepared(
        f"log-mel in dB of {batches} × {len(clips)} clips of {SECONDS} s at "
        f"{FRONT_END.sample_rate} Hz, "
        f"frames of {FRONT_END.n_fft} every {FRONT_END.hop_length}, {FRONT_END.n_mels} bands, "
        f"{settings.scale}; "
        f"float32 in and out, our FFT {precision}",
        {"ours": Way(ours.run, close=ours.close)} | ways,
        check,
        work,
        notes=[
            f"ours on {ours.devices}, in a process of its own",
            f"librosa and audioFlux in {usable_cores()} threads on the processor, also where there "
            "is a GPU",
        ],
    )


_IN_FLOAT32 = {
    "torch": installed("torch"),
    "torchaudio": installed("torchaudio", ""),
    "nnAudio": installed("nnAudio", ""),
}
# torchaudio also uses PyTorch's transform and product.
_GOALS = {
    ("cpu", "librosa"): 2.5,
    ("cpu", "torch"): 2,
    ("gpu", "torch"): 3,
    ("gpu", "torchaudio"): 3,
}

COMPARISONS = [
    Comparison(
        "frontend.float64",
        {"librosa": installed("librosa", ""), **_IN_FLOAT32},
        functools.partial(setup, precision="float64"),
        _GOALS,
        brief=True,
    ),
    Comparison(
        "frontend.float32",
        _IN_FLOAT32,
        functools.partial(setup, precision="float32"),
        _GOALS,
    ),
    Comparison(
        "frontend.htk",
        {_AUDIOFLUX: installed("audioflux")},
        functools.partial(setup, precision="float32", settings=HTK),
        {("cpu", _AUDIOFLUX): 1.3},
    ),
]
