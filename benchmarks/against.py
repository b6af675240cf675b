"""This state of the project beside an earlier one, in turns: ratios that hold on any machine.

Both are called `asd_jax`, so each works in processes of its own with its folder on PYTHONPATH.
What they do is what both offer: the command `asd-jax run`, and the functions that
`benchmarks.worker` calls.
"""

import contextlib
import functools
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from asd_jax.config import load_config
from asd_jax.data.layouts import find_clips
from asd_jax.data.synthetic.synthesis import synthesize
from asd_jax.data.synthetic.takes import machines_of
from asd_jax.detectors import make_detector
from asd_jax.errors import UserError
from asd_jax.runs.plan import plan_clips
from asd_jax.runtime.cores import usable_cores
from benchmarks.features import make_recordings, our_way
from benchmarks.frontend import FRONT_END, LogMels, log_mel_work, make_clips
from benchmarks.harness import Comparison, Difference, Prepared, Way, largest
from benchmarks.processes import ROOT, Worker
from benchmarks.roofline import training_work
from benchmarks.start import Epochs, start_run

_EPOCHS = 4  # of a fleet, of which the first also compiles


@contextlib.contextmanager
def earlier(state: str) -> Iterator[tuple[Path, str]]:
    """The folder of an earlier state, and a name for it.

    Args:
        state: a folder that has `asd_jax` in it, or a commit of this repository, which is put into
            a temporary folder.

    Raises:
        UserError: it is neither.
    """
    if (Path(state) / "asd_jax" / "__init__.py").is_file():
        yield Path(state).resolve(), Path(state).resolve().name
        return
    with tempfile.TemporaryDirectory(prefix="asd_jax_benchmark_") as folder:
        archive = Path(folder) / "state.tar"
        done = subprocess.run(
            ["git", "archive", f"--output={archive}", state, "asd_jax", "configs"],
            cwd=ROOT,
            capture_output=True,
            text=True,
        )
        if done.returncode:
            raise UserError(
                f"--against={state} is neither a folder with asd_jax in it nor a commit of this "
                f"repository ({' '.join(done.stderr.split())[:100]})"
            )
        with tarfile.open(archive) as packed:
            packed.extractall(Path(folder) / "state", filter="data")
        yield Path(folder) / "state", state


def _first_losses(peer: str, ours: Epochs, theirs: Epochs) -> Iterator[Difference]:
    yield Difference(
        "losses of the first epoch, relative",
        largest(ours.losses, theirs.losses, relative=True),
        1e-2,
        "the same training, sums in another order",
    )


def setup_features(folder: Path, quick: bool, peers: Sequence[str]) -> Prepared:
    """Each state has a process and a cache."""
    with contextlib.ExitStack() as stack:
        place = Path(stack.enter_context(_folder()))
        make_recordings(place / "data", quick)
        ways, devices = {}, []
        for name, package in (("ours", ROOT), *((peer, folder) for peer in peers)):
            worker = Worker(usable_cores(), package)
            stack.callback(worker.close)
            ways[name] = our_way(worker, place / "data", place, name)
            devices.append(f"{name} on {worker.devices}")
        close = stack.pop_all().close

    def check(peer: str, ours: dict, theirs: dict) -> Iterator[Difference]:
        worst = max(largest(features, theirs[name]) for name, features in ours.items())
        yield Difference("dB", worst, 1e-3, "the same float64 front end")

    lengths = [soundfile.info(path).frames for path in (place / "data").rglob("*.wav")]
    return Prepared(
        f"features of {len(lengths)} recordings of 10 s from their files, into an empty cache; "
        "programs are compiled before",
        ways,
        check,
        lambda _: log_mel_work(lengths, FRONT_END),
        notes=devices,
        close=close,
    )


def setup_log_mels(precision: str, folder: Path, quick: bool, peers: Sequence[str]) -> Prepared:
    """Each state has the waveforms in a process of its own."""
    clips, batches = (make_clips(4), 1) if quick else (make_clips(16), 32)
    states = {"ours": ROOT, **{peer: folder for peer in peers}}
    sides = {
        name: LogMels(clips, {"precision": precision}, batches, package)
        for name, package in states.items()
    }

    def check(peer: str, ours: LogMels, theirs: LogMels) -> Iterator[Difference]:
        limit = 1e-3 if precision == "float64" else 2e-2
        yield Difference("dB", largest(ours, theirs), limit, f"{precision} transforms")

    return Prepared(
        f"log-mels of {batches} × {len(clips)} clips of 10 s in memory; transform {precision}",
        {name: Way(side.run, close=side.close) for name, side in sides.items()},
        check,
        lambda _: log_mel_work([clips.shape[1]] * len(clips) * batches, FRONT_END),
        notes=[f"{name} on {side.devices}" for name, side in sides.items()],
    )


def setup_fleet(folder: Path, quick: bool, peers: Sequence[str]) -> Prepared:
    """A run of the command for each round; features and programs are kept from the first one."""
    temporary = tempfile.TemporaryDirectory(prefix="asd_jax_benchmark_")
    place = Path(temporary.name)
    machines = machines_of(2020, "dev")
    epochs = 2 if quick else _EPOCHS
    small = {"clips": 8, "duration": 2.0} if quick else {"clips": 100}
    synthesize(place / "data", year=2020, machines=machines, sections=1, **small)

    def way(name: str, package: Path) -> Way:
        run_dir, cache = place / f"run of {name}", place / f"cache of {name}"

        def run() -> Epochs:
            return start_run(place / "data", run_dir, cache, epochs=epochs, package=package)

        return Way(run, lambda: shutil.rmtree(run_dir, ignore_errors=True))

    config = load_config("dense_ae", {"seeds": "0,"})
    detector = make_detector(config)
    trained = [c for c in find_clips(place / "data", report=_silent) if c.split == "train"]
    steps = plan_clips(detector, trained).steps
    return Prepared(
        f"an epoch of {len(machines)} models `dense_ae` in a run of the command, median of those "
        "after the first one",
        {"ours": way("ours", ROOT)} | {peer: way(peer, folder) for peer in peers},
        _first_losses,
        lambda _: training_work(
            detector.task(), config.front_end.n_mels, config.train.batch_size, steps
        ),
        close=temporary.cleanup,
        amount=lambda result: float(np.median(np.diff(result.ends))),
    )


def setup_start(warm: bool, folder: Path, quick: bool, peers: Sequence[str]) -> Prepared:
    """The recordings of `benchmarks.start`."""
    temporary = tempfile.TemporaryDirectory(prefix="asd_jax_benchmark_")
    place = Path(temporary.name)
    synthesize(place / "data", year=2020, sections=1, clips=8, duration=2.0)

    def way(name: str, package: Path) -> Way:
        run_dir, cache = place / f"run of {name}", place / f"cache of {name}"

        def before() -> None:
            for used in (run_dir,) if warm else (run_dir, cache):
                shutil.rmtree(used, ignore_errors=True)

        return Way(lambda: start_run(place / "data", run_dir, cache, package=package), before)

    kept = "the features and programs of an earlier start" if warm else "an empty cache"
    return Prepared(
        "from the command `asd-jax run --config=dense_ae` to the first training step of three "
        f"machine types, with {kept}",
        {"ours": way("ours", ROOT)} | {peer: way(peer, folder) for peer in peers},
        _first_losses,
        close=temporary.cleanup,
    )


def _silent(line: str) -> None:
    """Reports nothing."""


def _folder() -> Any:
    return tempfile.TemporaryDirectory(prefix="asd_jax_benchmark_")


def comparisons(folder: Path, label: str) -> list[Comparison]:
    """Those with an earlier state.

    Args:
        folder: its folder.
        label: its name.
    """

    def made(
        name: str, setup: Callable[..., Prepared], *arguments: Any, goal: float, rounds: int
    ) -> Comparison:
        return Comparison(
            f"against.{name}",
            {label: lambda: ""},
            functools.partial(setup, *arguments, folder),
            {("cpu", label): goal},
            rounds=rounds,
        )

    return [
        made("features", setup_features, goal=1.5, rounds=5),
        made("log_mels_float64", setup_log_mels, "float64", goal=1.4, rounds=7),
        made("log_mels_float32", setup_log_mels, "float32", goal=1.5, rounds=7),
        made("fleet", setup_fleet, goal=1.3, rounds=3),
        made("cold_start", setup_start, False, goal=1 / 0.6, rounds=3),
        made("warm_start", setup_start, True, goal=1 / 0.8, rounds=3),
    ]
