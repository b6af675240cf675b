"""From the command to the first training step: with an empty cache, and with a run's cache.

Each start is a process of its own. The first epoch here is one step; its line in log.jsonl marks
the step's end.
"""

import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from asd_jax.data.synthetic.synthesis import synthesize
from benchmarks.harness import Comparison, Difference, Prepared, Way, WrongAnswer, largest
from benchmarks.processes import ROOT, environment

_AT_MOST = 600  # seconds


class Epochs(NamedTuple):
    """Of a run that was stopped after some epochs.

    Attributes:
        losses: of all models, by their names, of the first epoch.
        ends: when the line of each epoch was there, in s from the start of the command.
    """

    losses: list[float]
    ends: list[float]


def start_run(
    data: Path, run_dir: Path, cache: Path, *, epochs: int = 1, package: Path = ROOT
) -> Epochs:
    """Starts the command `asd-jax run` for `dense_ae`, and stops it after some epochs.

    Args:
        data: folder of the recordings.
        run_dir: run directory.
        cache: for features and compiled programs.
        epochs: after how many it is stopped.
        package: folder of the `asd_jax` whose command it is.

    Raises:
        WrongAnswer: the command ends before, or takes ten minutes.
    """
    command = [
        *(sys.executable, "-P", "-m", "asd_jax", "run"),
        *("--config=dense_ae", "--config.seeds=0,", f"--config.train.epochs={epochs + 1}"),
        *(f"--data_dir={data}", f"--out_dir={run_dir}", f"--cache_dir={cache}"),
    ]
    begin, ends = time.perf_counter(), []
    lines: list[str] = []
    with tempfile.TemporaryFile("w+") as errors:
        process = subprocess.Popen(
            command, env=environment(package), stdout=subprocess.DEVNULL, stderr=errors
        )
        try:
            while len(ends) < epochs:
                over = process.poll() is not None
                lines = _lines(run_dir / "log.jsonl")
                now = time.perf_counter() - begin
                ends += [now] * (len(lines) - len(ends))
                if len(ends) < epochs and (over or now > _AT_MOST):
                    errors.seek(0)
                    raise WrongAnswer(f"no training step: {errors.read()[-300:]}")
                time.sleep(0.01)
        finally:
            process.terminate()
            process.wait()
    losses = [loss for _, loss in sorted(json.loads(lines[0])["loss"].items())]
    return Epochs(losses, ends[:epochs])


def _lines(path: Path) -> list[str]:
    """The complete lines of a file that another process writes."""
    try:
        return path.read_text(encoding="utf-8").split("\n")[:-1]
    except FileNotFoundError:
        return []


def setup(quick: bool, peers: Sequence[str]) -> Prepared:
    """Three machine types, one id each, eight clips of two seconds; as small with --quick."""
    temporary = tempfile.TemporaryDirectory(prefix="asd_jax_benchmark_")
    place = Path(temporary.name)
    data, run_dir = place / "data", place / "run"
    synthesize(data, year=2020, sections=1, clips=8, duration=2.0)

    def clear(*folders):
        for folder in (run_dir, *folders):
            shutil.rmtree(folder, ignore_errors=True)

    def way(cache: Path, *cleared: Path) -> Way:
        return Way(lambda: start_run(data, run_dir, cache).losses, lambda: clear(*cleared))

    def check(peer, ours, theirs):
        yield Difference("losses of the first epoch", largest(ours, theirs), 0, "same programs")

    return Prepared(
        "from the command `asd-jax run --config=dense_ae` to the first training step of three "
        "machine types; ours is a start with the features and compiled programs of an earlier "
        "one, the peer one with an empty cache",
        {"ours": way(place / "kept"), "first start": way(place / "fresh", place / "fresh")},
        check,
        notes=["ours starts with an earlier start's cache; its first run has an empty one"],
        close=temporary.cleanup,
    )


COMPARISONS = [
    Comparison(
        "start",
        {"first start": lambda: ""},
        setup,
        {(backend, "first start"): 2 for backend in ("cpu", "gpu")},
        rounds=3,
        brief=True,
    )
]
