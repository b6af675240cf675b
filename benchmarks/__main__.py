"""Times this package's computations beside the usual tools for them.

    python -m benchmarks                      # all, an hour or more on two cores
    python -m benchmarks --quick              # one of most kinds, small: a minute or so
    python -m benchmarks frontend steps.lstm_ae --rounds=20
    python -m benchmarks --against=a7181e9    # beside an earlier state of this project
    python -m benchmarks --gpu                # what a GPU is compared by, nine minutes at most
    python -m benchmarks features --compare   # beside the ratios kept in benchmarks/ratios.json
    python -m benchmarks features --keep      # puts the ratios there
    python -m benchmarks --list

Peers need `pip install -e '.[bench]'`; missing ones are listed as skipped. Writes benchmarks.json
and benchmarks.md into --out_dir after each benchmark.

Exit status 1 if a way fails, its result differs from ours, or with --compare a ratio is below the
range kept; 2 for a wrong request; 3 if --gpu has time left for only some of its benchmarks.
"""

import argparse
import contextlib
import importlib.util
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

# Set before JAX and Keras are imported, as PyTorch and other processes need memory of the GPU too.
os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
os.environ["KERAS_BACKEND"] = "jax"

from asd_jax.errors import UserError
from asd_jax.runtime.cores import usable_cores
from benchmarks import (
    against,
    baselines,
    cached_start,
    drivers,
    end_to_end,
    features,
    fleets,
    frontend,
    joint,
    left_out,
    lstm_layers,
    memory,
    metrics,
    mixtures,
    ratios,
    scaling,
    start,
    steps,
    variants,
)
from benchmarks.harness import Comparison, choose, measure, on_gpu
from benchmarks.report import environment, markdown, measured_before, write
from benchmarks.roofline import measure_machine

_GROUPS = (
    frontend,
    features,
    metrics,
    steps,
    lstm_layers,
    drivers,
    fleets,
    joint,
    mixtures,
    left_out,
    end_to_end,
    baselines,
    start,
    cached_start,
    memory,
    scaling,
    variants,
)

# What --gpu measures, in this order, and for how long it starts new ones.
_ON_GPU = (
    *("frontend", "end_to_end", "steps.dense_ae", "fleets", "metrics", "joint", "features"),
    *("steps.mobilenet_v2", "steps.resnet50", "steps.interpolation_ae", "steps.group_made"),
    *("steps.lstm_ae", "lstm_layers", "steps.ganomaly", "drivers", "mixtures", "left_out"),
)
_GPU_SECONDS, _GPU_ROUNDS = 480, 3
_UNFINISHED = 3


def main(
    arguments: Sequence[str] | None = None, comparisons: Sequence[Comparison] | None = None
) -> int:
    """Runs the command and returns its exit status.

    Args:
        arguments: of the command line.
        comparisons: to choose from; all by default.
    """
    options = _parser().parse_args(arguments)
    with contextlib.ExitStack() as stack:
        try:
            if comparisons is None:
                comparisons = [each for group in _GROUPS for each in group.COMPARISONS]
            if options.against:
                state = stack.enter_context(against.earlier(options.against))
                comparisons = [*against.comparisons(*state), *comparisons]
            if options.list:
                for comparison in comparisons:
                    print(f"{comparison.name}: {', '.join(comparison.peers)}")
                return 0
            return _run(options, _chosen(options, comparisons))
        except UserError as error:
            print(f"benchmarks: {error}", file=sys.stderr)
            return error.exit_status


def _chosen(options: argparse.Namespace, comparisons: Sequence[Comparison]) -> list[Comparison]:
    """The benchmarks that are asked for, in the order of the groups, or in that of --gpu."""
    if options.gpu:
        if options.names or options.against:
            raise UserError("--gpu says which benchmarks are measured; name none beside it")
        if reason := on_gpu():
            raise UserError(f"--gpu {reason}; name benchmarks to measure this processor's")
        return [each for name in _ON_GPU for each in choose(comparisons, [name])]
    names = options.names or (["against"] if options.against else [])
    return choose(comparisons, names, brief=options.quick)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "python -m benchmarks",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("names", nargs="*", help="benchmarks, or groups of them; all without")
    parser.add_argument("--list", action="store_true", help="print the names and stop")
    parser.add_argument(
        "--quick",
        action="store_true",
        help="small sizes, and without names one of most kinds; figures are meaningless",
    )
    parser.add_argument(
        "--rounds",
        type=int,
        help="timed rounds; by default 3 to 7, and with --quick only the first turn",
    )
    parser.add_argument("--threads", type=int, default=usable_cores(), help="of PyTorch")
    parser.add_argument(
        "--against",
        metavar="STATE",
        help="an earlier state of this project, a commit or a folder with its asd_jax; without "
        "names, only the benchmarks beside it, which names call against.…",
    )
    parser.add_argument(
        "--gpu",
        action="store_true",
        help=f"the benchmarks of a GPU, {_GPU_ROUNDS} rounds each, with --resume; none is started "
        f"after {_GPU_SECONDS // 60} minutes, and the same command goes on",
    )
    parser.add_argument(
        "--resume",
        action="store_true",
        help="take over what --out_dir has, measured at this commit on this device",
    )
    parser.add_argument(
        "--compare",
        action="store_true",
        help="say which ratios are beyond the ranges in benchmarks/ratios.json",
    )
    parser.add_argument(
        "--keep", action="store_true", help="put the ratios into benchmarks/ratios.json"
    )
    parser.add_argument("--out_dir", type=Path, default=Path("runs/benchmarks"))
    return parser


def _run(options: argparse.Namespace, comparisons: Sequence[Comparison]) -> int:
    if min(options.threads, 1 if options.rounds is None else options.rounds) < 1:
        raise UserError("--rounds and --threads must be 1 or more")
    if importlib.util.find_spec("torch"):
        import torch

        torch.set_num_threads(options.threads)
        torch.backends.cuda.matmul.allow_tf32 = True  # as JAX, and as PyTorch's convolutions
    if options.keep and options.quick:
        raise UserError("figures of --quick mean nothing and are not kept; measure without it")
    kept = ratios.read()  # before anything is measured, in case it cannot be read
    machine = measure_machine(options.quick)
    measured: dict[str, Any] = {
        "environment": environment(options.threads),
        "machine": machine._asdict(),
        "quick": options.quick,
        "comparisons": [],
    }
    resume = options.resume or options.gpu
    before = measured_before(options.out_dir, measured) if resume else {}
    rounds = _GPU_ROUNDS if options.gpu and options.rounds is None else options.rounds
    left, begin = [], time.monotonic()
    for comparison in comparisons:
        record = before.get(comparison.name)
        if record is None and options.gpu and time.monotonic() - begin > _GPU_SECONDS:
            left.append(comparison.name)
            continue
        if record is None:
            record = measure(comparison, machine, quick=options.quick, rounds=rounds, say=_say)
        else:
            _say(f"{comparison.name}: measured before")
        measured["comparisons"].append(record)
        measured["environment"]["load_after"] = os.getloadavg()[0]
        # After each comparison, in case a later one fails; what is not reached yet stays.
        waiting = [before[each] for each in before if each not in _names(measured)]
        write(options.out_dir, {**measured, "comparisons": measured["comparisons"] + waiting})
    print(markdown(measured))
    _say(f"written to {options.out_dir}")
    status = 1 if any(record["error"] for record in measured["comparisons"]) else 0
    if options.compare and _compare(measured, kept):
        status = 1
    if options.keep:
        _say(f"{ratios.keep(measured)} ratios kept in {ratios.PATH}")
    if left:
        _say(f"time is up before {', '.join(left)}; the same command goes on with them")
        status = status or _UNFINISHED
    return status


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _names(measured: dict[str, Any]) -> set[str]:
    return {record["name"] for record in measured["comparisons"]}


def _compare(measured: dict[str, Any], kept: ratios.Table) -> bool:
    """Says what got slower or faster than what is kept; whether anything got slower."""
    found = list(ratios.changes(measured, kept))
    for change in found:
        _say(change.line)
    where = ratios.processor_of(measured["environment"])
    _say(f"{ratios.compared(measured, kept)} ratios compared with those kept of {where}")
    return any(change.slower for change in found)


if __name__ == "__main__":
    sys.exit(main())
