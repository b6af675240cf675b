"""Features from files: recordings decoded, log-mels computed, and kept.

ours     `asd_jax.features.compute.compute_features` with an empty cache, in a process of its
         own, set up as `asd-jax run` sets itself up; kept on disk
torch    soundfile and PyTorch's transform, in a thread a core; kept in memory
librosa  soundfile and librosa, in a process a core; sent to one of them and kept in memory
"""

import contextlib
import os
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import soundfile

from asd_jax.audio import FrontEnd
from asd_jax.data.layouts import find_clips
from asd_jax.data.synthetic.synthesis import synthesize
from asd_jax.runtime.cores import usable_cores
from benchmarks.frontend import SECONDS, log_mel_work
from benchmarks.harness import Comparison, Difference, Prepared, Way, installed, largest
from benchmarks.processes import Worker
from benchmarks.roofline import Work

# Clips of each of two splits and four ids, and every which clip's features are compared.
_CLIPS, _QUICK_CLIPS, _EVERY = 70, 4, 10
_FRONT_END = FrontEnd()


def make_recordings(data: Path, quick: bool) -> None:
    """Writes recordings of 10 s of two machine types: 560, or 32."""
    synthesize(
        data,
        year=2020,
        machines=("fan", "valve"),
        sections=2,
        clips=_QUICK_CLIPS if quick else _CLIPS,
        duration=float(SECONDS),
    )


def features_of_torch(paths: Sequence[str]) -> list[np.ndarray]:
    """(frames, mels) of each recording; on a GPU, if there is one, transformed there."""
    import torch

    from benchmarks.peers.torch_frontend import Bands, decibels, threads_a_core

    device = "cuda" if torch.cuda.is_available() else "cpu"
    bands = Bands(_FRONT_END).to(device)

    def of_file(path: str) -> np.ndarray:
        waveform, _ = soundfile.read(path, dtype="float32")
        with torch.no_grad():
            power = bands(torch.from_numpy(waveform).to(device)[None])[0]
            return decibels(power, _FRONT_END).T.cpu().numpy()

    with threads_a_core() as share:
        return [*share(of_file, paths)]


def features_of_librosa(paths: Sequence[str]) -> list[np.ndarray]:
    """(frames, mels) of each recording."""
    from benchmarks.peers.spectral import in_processes, log_mels

    return in_processes(log_mels, paths, _FRONT_END)


_PEERS = {"torch": features_of_torch, "librosa": features_of_librosa}


def our_way(worker: Worker, data: Path, place: Path, name: str = "ours") -> Way:
    """Features computed into an empty cache; the result is every tenth clip's, by path.

    Args:
        worker: the process.
        data: folder of the recordings.
        place: folder for the cache and for what is compared.
        name: of the way, for these.
    """
    cache, kept = place / f"cache of {name}", place / f"features of {name}.npz"
    request = {"data": str(data), "cache": str(cache), "every": _EVERY}

    def run() -> dict[str, np.ndarray]:
        worker.ask("features", **request)
        return _read(kept)

    def before() -> None:
        if not kept.exists():  # once, so that nothing but the features is timed
            worker.ask("features", **request, kept=str(kept))
        worker.ask("clear", folders=[str(cache)])

    return Way(run, before)


def _read(kept: Path) -> dict[str, np.ndarray]:
    with np.load(kept) as arrays:
        return dict(zip(arrays["paths"].tolist(), arrays["features"], strict=True))


def setup(quick: bool, peers: Sequence[str]) -> Prepared:
    """Makes the recordings in a temporary folder."""
    with contextlib.ExitStack() as stack:
        temporary = tempfile.TemporaryDirectory(prefix="asd_jax_benchmark_")
        stack.callback(temporary.cleanup)
        place = Path(temporary.name)
        make_recordings(place / "data", quick)
        paths = [clip.path for clip in find_clips(place / "data", report=lambda line: None)]
        worker = Worker(usable_cores())
        stack.callback(worker.close)
        close = stack.pop_all().close
    names = [os.path.relpath(path, place / "data") for path in paths]

    def peers_way(peer: str) -> Way:
        of = _PEERS[peer]
        # Processes are started, and their libraries imported, beforehand.
        return Way(lambda: dict(zip(names, of(paths), strict=True)), lambda: of(paths[:32]))

    def check(peer: str, ours: dict, theirs: dict) -> Iterator[Difference]:
        worst = max(largest(features, theirs[name]) for name, features in ours.items())
        yield Difference("dB", worst, 2e-2, "float32 transforms; ours is float64")

    def work(_) -> Work:
        return log_mel_work([soundfile.info(path).frames for path in paths], _FRONT_END)

    return Prepared(
        f"log-mels of {len(paths)} recordings of {SECONDS} s (16 bits, {_FRONT_END.sample_rate} "
        "Hz) from their files; ours float64, into an empty cache on disk; the peers float32, into "
        "memory",
        {"ours": our_way(worker, place / "data", place)} | {p: peers_way(p) for p in peers},
        check,
        work,
        notes=[
            f"every {_EVERY}th clip is compared",
            "ours also reads each file's digest and level; its features are on disk afterwards",
            f"{worker.devices}",
        ],
        close=close,
    )


COMPARISONS = [
    Comparison(
        "features",
        {"torch": installed("torch"), "librosa": installed("librosa")},
        setup,
        {("cpu", "torch"): 2, ("cpu", "librosa"): 4},
        rounds=5,
        brief=True,
    )
]
