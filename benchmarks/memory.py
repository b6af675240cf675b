"""Host memory of a whole run, as its data grows tenfold with a fixed limit of frames on the device.

Each run is a process of its own; what counts is the most memory that was resident in it.
"""

import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from asd_jax.data.synthetic.synthesis import synthesize
from benchmarks.harness import Comparison, Difference, Prepared, Way, WrongAnswer

_FEWER = "a tenth of the clips"
_SECONDS = 0.05  # between two looks at a process's memory


def _peak(data: Path, place: Path, settings: Sequence[str]) -> tuple[float, int]:
    """Peak memory of a run in MiB, and the number of training clips that it scored."""
    command = [
        *(sys.executable, "-m", "asd_jax", "run", "--config=dense_ae", "--config.seeds=0,"),
        *("--config.train.epochs=1", f"--data_dir={data}", f"--out_dir={place / 'run'}"),
        *(f"--cache_dir={place / 'cache'}", *settings),
    ]
    with tempfile.TemporaryFile("w+") as errors:
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=errors)
        peak = 0.0
        while process.poll() is None:
            peak = max(peak, high_water(process.pid))
            time.sleep(_SECONDS)
        errors.seek(0)
        text = errors.read()
    if process.returncode:
        raise WrongAnswer(f"the run ended with {process.returncode}: {text[-300:]}")
    if "windows" not in text:
        raise WrongAnswer("all frames were on the device at once; nothing is measured")
    with open(place / "run" / "training_scores.csv", encoding="utf-8") as file:
        return peak, sum(1 for _ in file) - 1


def high_water(process: int | str = "self") -> float:
    """Most memory that was resident in a running process so far, in MiB; 0 of an ended one.

    Unlike what the system says of an ended process, it does not begin with the memory of the
    process that started it.
    """
    try:
        status = Path(f"/proc/{process}/status").read_text(encoding="ascii")
    except OSError:
        return 0.0
    found = re.search(r"VmHWM:\s+([0-9]+) kB", status)
    return int(found[1]) / 1024 if found else 0.0


def setup(quick: bool, peers: Sequence[str]) -> Prepared:
    """Two data sets of two machine types."""
    temporary = tempfile.TemporaryDirectory(prefix="asd_jax_benchmark_")
    place = Path(temporary.name)
    clips, duration, mib = (8, 2.0, 0.25) if quick else (200, 10.0, 48)
    made = {}
    for name, count in (("ours", 10 * clips), *((peer, clips) for peer in peers)):
        made[name] = 2 * count
        synthesize(
            place / name / "data",
            year=2021,
            machines=["fan", "pump"],
            sections=1,
            clips=count,
            duration=duration,
        )

    def way(name: str) -> Way:
        def clear():
            for folder in ("run", "cache"):
                shutil.rmtree(place / name / folder, ignore_errors=True)

        setting = f"--config.train.table_mib={mib}"
        return Way(lambda: _peak(place / name / "data", place / name, [setting]), clear)

    def check(peer, ours, theirs):
        wrong = abs(ours[1] - made["ours"]) + abs(theirs[1] - made[peer])
        yield Difference("number of training clips", wrong, 0, "all of them are there")

    return Prepared(
        f"`dense_ae`, one epoch, {made['ours']} synthetic training clips to results, and a tenth "
        f"as many; at most {mib} MiB of frames on the device; ours is the run with more",
        {name: way(name) for name in made},
        check,
        notes=["the goal, 0.91, is a growth by less than a tenth"],
        close=temporary.cleanup,
        unit="MiB",
        amount=lambda result: result[0],
    )


COMPARISONS = [
    Comparison(
        "memory",
        {_FEWER: lambda: ""},
        setup,
        {(backend, _FEWER): 0.91 for backend in ("cpu", "gpu")},
        rounds=3,
    )
]
