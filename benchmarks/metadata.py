"""Memory and time of a run's metadata: what grows with the number of clips, measured without sound.

    python -m benchmarks.metadata                         # 100 thousand, a million, ten million
    python -m benchmarks.metadata --clips=100000 --clips=1000000 --stages=index,scores

A run of N clips has N rows in its index (half of the clips are training clips, half test clips),
and with two seeds N rows in scores.csv and N in training_scores.csv. Machines and clips of a
machine grow alike: 10, 32 and 100 machines of ten sections. Names are those of 2020 to 2024.

Each stage is a process of its own. What is printed: seconds of a core that the stage took, which
other work on the machine hardly moves; the process's peak memory, with Python, JAX and the stage's
input; and exponents of growth between the last two sizes, of the seconds and of the memory beyond
that of a process that has only imported the package. 1 is in proportion to the clips; what is above
1.15 is marked.
"""

import argparse
import json
import math
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from asd_jax.config import load_config
from asd_jax.detectors import make_detector
from benchmarks.memory import high_water
from benchmarks.metadata_stages import STAGES
from benchmarks.report import environment

SIZES = (100_000, 1_000_000, 10_000_000)
_STEEP = 1.15  # exponent above which a stage is marked

_MOST_FILES = 1_000_000  # of "walk", which makes them


def measure(stage: str, clips: int) -> dict[str, float]:
    """Runs a stage in this process: `seconds` and those on a core, `peak` and `base` in MiB."""
    make_detector(load_config("spectral"))  # imports what every run imports
    base = high_water()
    with tempfile.TemporaryDirectory(prefix="asd_jax_metadata_") as place:
        folder = Path(place)
        measured = STAGES[stage][1](clips, folder)
        begin, busy = time.perf_counter(), time.process_time()
        measured()
        seconds, busy = time.perf_counter() - begin, time.process_time() - busy
        peak = high_water()
    return {"seconds": seconds, "cpu": busy, "peak": peak, "base": base}


def _measured_apart(stage: str, clips: int) -> dict[str, float]:
    command = [sys.executable, "-m", "benchmarks.metadata", f"--clips={clips}", f"--child={stage}"]
    run = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(run.stdout.splitlines()[-1])


def exponent(values: Sequence[float], sizes: Sequence[int]) -> float:
    """Exponent of growth between the last two sizes; NaN of one size.

    Examples:
        >>> exponent([1.0, 10.0], [1, 10]), exponent([3.0, 300.0], [1, 10])
        (1.0, 2.0)
    """
    if len(values) < 2 or min(values[-2:]) <= 0:
        return math.nan
    return math.log(values[-1] / values[-2]) / math.log(sizes[-1] / sizes[-2])


def table_of(measured: dict[str, dict[int, dict[str, float]]], sizes: Sequence[int]) -> list[str]:
    """Lines of the table in Markdown."""
    head = [*(f"{size:,} clips" for size in sizes), "growth: time", "memory"]
    lines = ["| stage | " + " | ".join(head) + " |", "|---" * (len(head) + 1) + "|"]
    for stage, of_sizes in measured.items():
        there = [size for size in sizes if size in of_sizes]
        cells = [
            f"{of_sizes[size]['cpu']:.3g} s, {of_sizes[size]['peak']:,.0f} MiB"
            if size in of_sizes
            else "–"
            for size in sizes
        ]
        for values in (
            [of_sizes[size]["cpu"] for size in there],
            [of_sizes[size]["peak"] - of_sizes[size]["base"] for size in there],
        ):
            growth = exponent(values, there)
            text = "–" if math.isnan(growth) else f"{growth:.2f}"
            cells.append(f"**{text}**" if growth > _STEEP else text)
        lines.append(f"| {STAGES[stage][0]} | " + " | ".join(cells) + " |")
    return lines


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command and returns its exit status."""
    parser = argparse.ArgumentParser(
        "python -m benchmarks.metadata",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--clips", type=int, action="append", help="may be repeated")
    parser.add_argument("--stages", default=",".join(STAGES), help="some of them")
    parser.add_argument("--child", choices=[*STAGES], help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    sizes = sorted(options.clips or SIZES)
    stages = options.stages.split(",")
    if unknown := [stage for stage in stages if stage not in STAGES]:
        parser.error(f"no stage {unknown[0]}; there are {', '.join(STAGES)}")
    if options.child:
        print(json.dumps(measure(options.child, sizes[0])))
        return 0
    measured: dict[str, dict[int, dict[str, float]]] = {}
    for stage in stages:
        for size in sizes:
            if stage == "walk" and size > _MOST_FILES:
                continue
            print(f"{stage}, {size:,} clips", file=sys.stderr, flush=True)
            measured.setdefault(stage, {})[size] = _measured_apart(stage, size)
            print(f"  {measured[stage][size]}", file=sys.stderr, flush=True)
    facts = environment(1)
    versions = ", ".join(f"{name} {facts['versions'][name]}" for name in ("python", "numpy", "jax"))
    print(f"{facts['processor']}, {facts['cores']} cores; {versions}\n")
    print("\n".join(table_of(measured, sizes)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
