"""What the fuzzers share: a trial in a process of its own, and the table of how trials ended."""

import argparse
import collections
import contextlib
import os
import random
import resource
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Sequence
from typing import NamedTuple

from asd_jax.runtime.text_tables import aligned


class Outcome(NamedTuple):
    """How a trial ended.

    Attributes:
        word: "wrong", or another word for a good end.
        what: what was tried.
        error: what is wrong about it; empty otherwise.
    """

    word: str
    what: str
    error: str = ""


class Ended(NamedTuple):
    """How a process ended.

    Attributes:
        status: its exit status, or minus the signal's number; None where it ran out of time.
        out: what it wrote to its standard output.
        err: what it wrote to its standard error.
    """

    status: int | None
    out: str
    err: str


def in_child(work: Callable[[], object], seconds: float, mebibytes: int | None = None) -> Ended:
    """Runs a function in a forked process, with limits.

    Args:
        work: the function; a `SystemExit` is the process's end, another exception a traceback.
        seconds: after which the process is killed, with all that it started.
        mebibytes: of address space that it may take beyond what it has; None for any.
    """
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        sys.stdout.flush()
        sys.stderr.flush()
        child = os.fork()
        if not child:
            _be_child(work, (out.fileno(), err.fileno()), mebibytes)
        status = _wait(child, seconds)
        texts = []
        for file in (out, err):
            file.seek(0)
            texts.append(file.read().decode("utf-8", "replace"))
        return Ended(status, *texts)


def _be_child(work: Callable[[], object], files: Sequence[int], mebibytes: int | None) -> None:
    status = 1
    try:
        os.setsid()
        nothing = os.open(os.devnull, os.O_RDONLY)
        for number, file in enumerate((nothing, *files)):
            os.dup2(file, number)
        # Not those of a test, which may write elsewhere.
        sys.stdout, sys.stderr = (os.fdopen(number, "w", closefd=False) for number in (1, 2))
        if mebibytes is not None:
            limit = _status_kib("VmSize") * 1024 + mebibytes * 2**20
            resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
        work()
        status = 0
    except SystemExit as ended:
        status = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    except BaseException:
        traceback.print_exc()
    finally:
        with contextlib.suppress(Exception):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(status)


def _wait(child: int, seconds: float) -> int | None:
    """Exit status of a child process, minus the signal's number, or None where it was killed."""
    until, pause = time.monotonic() + seconds, 1e-3
    while True:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() > until:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child, signal.SIGKILL)
            os.waitpid(child, 0)
            return None
        time.sleep(pause)
        pause = min(2 * pause, 0.05)


def peak_mebibytes() -> float:
    """The most memory that this process has had since it began, or since `forget_peak`."""
    return _status_kib("VmHWM") / 1024


def forget_peak() -> None:
    """Lets `peak_mebibytes` begin anew, where Linux allows it."""
    with contextlib.suppress(OSError), open("/proc/self/clear_refs", "w") as file:
        file.write("5")


def _status_kib(key: str) -> int:
    with open("/proc/self/status") as file:
        return int(next(line for line in file if line.startswith(f"{key}:")).split()[1])


def do_trials(
    argv: list[str] | None,
    doc: str | None,
    count: int,
    kinds: Sequence[str],
    trial: Callable[[str, random.Random], Outcome],
    words: Sequence[str],
) -> int:
    """Does the trials of a fuzzer and prints a table of how they ended; returns the exit status.

    Args:
        argv: the command line; that of the process by default.
        doc: the fuzzer's docstring.
        count: trials by default.
        kinds: of trials, in turn.
        trial: does one, of a kind, with random numbers of its own.
        words: of outcomes, in the table's order.
    """
    parser = argparse.ArgumentParser(description=doc.splitlines()[0] if doc else None)
    parser.add_argument("--seed", type=int, default=0, help="of all that is random")
    parser.add_argument("--count", type=int, default=count, help="trials")
    parser.add_argument("--first", type=int, default=0, help="number of the first one")
    given = parser.parse_args(argv)
    print(f"seed {given.seed}, {given.count} trials from {given.first}", flush=True)
    ended: collections.Counter[tuple[str, str]] = collections.Counter()
    for number in range(given.first, given.first + given.count):
        kind = kinds[number % len(kinds)]
        found = trial(kind, random.Random(f"{given.seed} {number}"))
        ended[kind, found.word] += 1
        if found.word == "wrong":
            print(f"trial {number}, {kind}: {found.what}\n{found.error}", file=sys.stderr)
        if (done := number - given.first + 1) % 500 == 0:
            print(f"{done} of {given.count}", flush=True)
    rows = [[kind, *(str(ended[kind, word]) for word in words)] for kind in kinds]
    print(*aligned([["trials", *words], *rows], right=range(1, len(words) + 1)), sep="\n")
    return int(any(word == "wrong" for _, word in ended))
