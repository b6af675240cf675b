"""Full disks, limits, signals and kills at random: a run goes on after each to the same bytes.

    .venv/bin/python scripts/fuzz_limits.py [--seed=0] [--count=60]

Two machines' recordings are made, and systems with and without training run on them. Each trial
runs one again into an empty folder, with too little of something: bytes or inodes of the disk of
the run or of the cache, the size of a file, memory; or stops it, by a signal or a kill, at a random
moment. It must end in three minutes, with status 0, or with 1 and one line, or as stopped by the
signal; without a traceback and without half a file. Then the same command must end well without
the limit, with the scores and results of the run that nothing disturbed. After a kill it must say
that there was one.

Disks are file systems in memory, for which Linux wants root; without, these trials are skipped.
Each trial has a random stream of its own: --seed=SEED --first=NUMBER --count=1 does one again. The
exit status is 1 if any ends otherwise.
"""

import functools
import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

from fuzz_trials import Outcome, do_trials

from asd_jax.runtime.interruption import stopping

_SECONDS = 180.0
_CONFIGS = {
    "mel_mahalanobis": ["--config=mel_mahalanobis"],
    "spectral": ["--config=spectral"],
    "dense_ae": [
        *("--config=dense_ae", "--config.train.epochs=4", "--config.seeds=0"),
        *("--config.train.batch_size=64", "--config.detector.hidden=16,"),
    ],
}
_SAME = ("scores.csv", "results.csv", "training_scores.csv")
_ROOM = "size=1g,nr_inodes=100000"
# What no run may say: traces of Python and of native code.
_BAD = ("Traceback", 'File "', "Fatal Python", "terminate called", "*** Check failure")


class _Ended(NamedTuple):
    status: int | None  # None where time ran out
    text: str

    @property
    def lines(self) -> list[str]:
        return [line for line in self.text.splitlines() if line.startswith("asd-jax: ")]


class _Place(NamedTuple):
    """Where a trial's run is: its folders, and that of a small disk."""

    run: Path
    cache: Path
    disk: Path


@functools.cache
def _data() -> Path:
    """The recordings, and in `runs` what nothing has disturbed."""
    folder = Path(tempfile.mkdtemp(prefix="asd_jax_limits_"))
    made = ["synth", f"--out_dir={folder / 'data'}", "--machines=fan,pump", "--clips=6"]
    _must([*made, "--sections=1", "--duration=2", "--seed=1"])
    for name, flags in _CONFIGS.items():
        _must(_command(flags, _Place(folder / "runs" / name, folder / "cache", folder)))
    return folder


def _command(flags: Sequence[str], place: _Place, data: Path | None = None) -> list[str]:
    data = data or place.run.parents[1] / "data"
    return [
        "run", *flags, f"--data_dir={data}", f"--out_dir={place.run}", f"--cache_dir={place.cache}"
    ]  # fmt: skip


def _must(arguments: Sequence[str]) -> None:
    ended = _do(arguments)
    if ended.status:
        sys.exit(f"the undisturbed command {' '.join(arguments)} fails:\n{ended.text}")


def _do(
    arguments: Sequence[str],
    limit: Callable[[], None] | None = None,
    disturb: Callable[[subprocess.Popen], None] | None = None,
) -> _Ended:
    """Runs the command line in a process with limits, which may be disturbed."""
    process = subprocess.Popen(
        [sys.executable, "-m", "asd_jax", *arguments],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        preexec_fn=limit,
        start_new_session=True,
    )
    if disturb:
        disturb(process)
    try:
        text = process.communicate(timeout=_SECONDS)[1]
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        return _Ended(None, process.communicate()[1])
    return _Ended(process.returncode, text)


@contextmanager
def _disk(folder: Path, options: str) -> Iterator[None]:
    """A file system in memory."""
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", folder], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


def _limit(kind: int, number: int) -> Callable[[], None]:
    return lambda: resource.setrlimit(kind, (number, number))


def _after(seconds: float, number: int) -> Callable[[subprocess.Popen], None]:
    def disturb(process: subprocess.Popen) -> None:
        time.sleep(seconds)
        with suppress(ProcessLookupError):
            process.send_signal(number)

    return disturb


def _fault(ended: _Ended, number: int = 0) -> str:
    """What is wrong with the end of a disturbed run."""
    if ended.status is None:
        return "it hangs"
    if bad := next((word for word in _BAD if word in ended.text), None):
        return f"it says {bad}"
    if ended.status == 0 or ended.status == -signal.SIGKILL == -number:
        return ""
    if ended.status not in (1, 128 + number):
        return f"status {ended.status}"
    if len(ended.lines) != 1:
        return f"{len(ended.lines)} lines of failure"
    return ""


def trial(kind: str, rng: random.Random) -> Outcome:
    """Disturbs one run, and does it again."""
    folder = _data()
    name = rng.choice([*_CONFIGS])
    base = Path(tempfile.mkdtemp(prefix="trial_", dir=folder))
    try:
        return _tried(kind, rng, name, base)
    finally:
        shutil.rmtree(base, ignore_errors=True)


def _tried(kind: str, rng: random.Random, name: str, base: Path) -> Outcome:
    folder, disk = _data(), base / "disk"
    small = rng.choice(["run", "cache"])  # what lies on the small disk
    on_disk = kind in ("bytes", "inodes")
    run = (disk if on_disk and small == "run" else base) / "out"
    cache = disk / "cache" if on_disk and small == "cache" else folder / "cache"
    if kind in ("signal", "kill") and rng.random() < 0.5:
        cache = base / "cache"  # features are computed
    place = _Place(run, cache, disk)
    arguments = _command(_CONFIGS[name], place, folder / "data")
    number, what = 0, ""
    if on_disk:
        if os.geteuid():
            return Outcome("skipped", "not root")
        size = int(10 ** rng.uniform(3.6, 6.8)) if kind == "bytes" else 2**30
        inodes = rng.randint(2, 60) if kind == "inodes" else 100_000
        what = f"{name}, {small} on a disk of {size} bytes and {inodes} inodes"
        with _disk(disk, f"size={size},nr_inodes={inodes}"):
            ended = _do(arguments)
            subprocess.run(["mount", "-o", f"remount,{_ROOM}", disk], check=True)
            return _judged(ended, number, what, name, place, arguments)
    if kind == "file size":
        limit = int(10 ** rng.uniform(2.5, 6.5))
        what = f"{name}, files of {limit} bytes"
        ended = _do(arguments, _limit(resource.RLIMIT_FSIZE, limit))
    elif kind == "memory":
        limit = int(rng.uniform(0.03, 4.0) * 2**30)
        what = f"{name}, {limit} bytes of address space"
        ended = _do(arguments, _limit(resource.RLIMIT_AS, limit))
    else:
        number = signal.SIGKILL if kind == "kill" else rng.choice(stopping())
        seconds = rng.uniform(0.2, 12.0)
        what = f"{name}, {signal.Signals(number).name} after {seconds:.2f} s"
        ended = _do(arguments, disturb=_after(seconds, number))
    return _judged(ended, number, what, name, place, arguments)


def _judged(
    ended: _Ended, number: int, what: str, name: str, place: _Place, arguments: Sequence[str]
) -> Outcome:
    """How a disturbed run ended, and the same command after it."""
    wrong = _fault(ended, number)
    if not wrong and ended.status and ended.status > 0:
        half = [p for p in place.run.rglob(".*") if p.name != ".lock"] if place.run.exists() else []
        wrong = f"half a file, {half[0]}" if half else ""
    noted = place.run / ".lock"
    killed = ended.status == -signal.SIGKILL and noted.is_file() and noted.read_text() != ""
    if killed:
        with suppress(ValueError):  # killed while it wrote that note
            killed = bool(json.loads(noted.read_text())["since"])
    if not wrong:
        again = _do(arguments)
        if again.status != 0 or any(word in again.text for word in _BAD):
            wrong = f"the same command ends with {again.status} after it:\n{again.text}"
        elif killed and "ended abruptly" not in again.text and "was killed" not in again.text:
            wrong = "the next start does not say that there was a kill"
        else:
            whole = _data() / "runs" / name
            for file in _SAME:
                if (place.run / file).read_bytes() != (whole / file).read_bytes():
                    wrong = f"{file} is another than that of an undisturbed run"
    if wrong:
        return Outcome("wrong", what, f"{wrong}\n{ended.text}")
    return Outcome("finished" if ended.status == 0 else "stopped", what)


def main(argv: list[str] | None = None) -> int:
    """Does the trials; returns the exit status."""
    kinds = ("bytes", "inodes", "file size", "memory", "signal", "kill")
    try:
        words = ("finished", "stopped", "skipped", "wrong")
        return do_trials(argv, __doc__, 60, kinds, trial, words)
    finally:
        shutil.rmtree(_data(), ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
