"""From the command to the first training step: with an empty cache, and with a run's cache.

Each start is a process of its own. The first epoch here is one step; its line in log.jsonl marks
the step's end.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from asd_jax.data.synthetic.synthesis import synthesize
from benchmarks.harness import Comparison, Difference, Prepared, Way, WrongAnswer, largest

_AT_MOST = 600  # seconds


def _start(data: Path, run_dir: Path, cache: Path) -> list[float]:
    """Starts a run, stops it after the first epoch, and returns the losses of all models."""
    command = [
        *(sys.executable, "-m", "asd_jax", "run", "--config=dense_ae", "--config.seeds=0,"),
        *(f"--data_dir={data}", f"--out_dir={run_dir}", f"--cache_dir={cache}"),
    ]
    environment = {k: v for k, v in os.environ.items() if k != "JAX_COMPILATION_CACHE_DIR"}
    with tempfile.TemporaryFile("w+") as errors:
        process = subprocess.Popen(
            command, env=environment, stdout=subprocess.DEVNULL, stderr=errors
        )
        try:
            deadline = time.monotonic() + _AT_MOST
            while not (line := _first_line(run_dir / "log.jsonl")):
                if process.poll() is not None or time.monotonic() > deadline:
                    errors.seek(0)
                    raise WrongAnswer(f"no training step: {errors.read()[-300:]}")
                time.sleep(0.01)
        finally:
            process.terminate()
            process.wait()
    return [loss for _, loss in sorted(json.loads(line)["loss"].items())]


def _first_line(path: Path) -> str:
    """The first line of a file that another process writes; "" until it is complete."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return ""
    return text.partition("\n")[0] if "\n" in text else ""


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
        return Way(lambda: _start(data, run_dir, cache), lambda: clear(*cleared))

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
