"""Times this package's computations beside the usual tools for them.

    python -m benchmarks                      # all, an hour or more on two cores
    python -m benchmarks --quick              # one of most kinds, small: a minute or so
    python -m benchmarks frontend steps.lstm_ae --rounds=20
    python -m benchmarks --list

Peers need `pip install -e '.[bench]'`; missing ones are listed as skipped. Writes benchmarks.json
and benchmarks.md into --out_dir. Exit status 1 if a way fails or its result differs from ours, 2
for a wrong request.
"""

import argparse
import importlib.util
import os
import sys
from collections.abc import Sequence
from pathlib import Path

# Set before JAX and Keras are imported, as PyTorch and other processes need memory of the GPU too.
os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
os.environ["KERAS_BACKEND"] = "jax"

from asd_jax.errors import UserError
from benchmarks import (
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
    scaling,
    start,
    steps,
)
from benchmarks.harness import Comparison, choose, measure
from benchmarks.report import environment, markdown, write
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
    start,
    cached_start,
    memory,
    scaling,
)


def main(
    arguments: Sequence[str] | None = None, comparisons: Sequence[Comparison] | None = None
) -> int:
    """Runs the command and returns its exit status.

    Args:
        arguments: of the command line.
        comparisons: to choose from; all by default.
    """
    if comparisons is None:
        comparisons = [each for group in _GROUPS for each in group.COMPARISONS]
    options = _parser().parse_args(arguments)
    if options.list:
        for comparison in comparisons:
            print(f"{comparison.name}: {', '.join(comparison.peers)}")
        return 0
    try:
        return _run(options, choose(comparisons, options.names, brief=options.quick))
    except UserError as error:
        print(f"benchmarks: {error}", file=sys.stderr)
        return error.exit_status


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
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="of PyTorch")
    parser.add_argument("--out_dir", type=Path, default=Path("runs/benchmarks"))
    return parser


def _run(options: argparse.Namespace, comparisons: Sequence[Comparison]) -> int:
    if min(options.threads, 1 if options.rounds is None else options.rounds) < 1:
        raise UserError("--rounds and --threads must be 1 or more")
    if importlib.util.find_spec("torch"):
        import torch

        torch.set_num_threads(options.threads)
        torch.backends.cuda.matmul.allow_tf32 = True  # as JAX, and as PyTorch's convolutions
    machine = measure_machine(options.quick)
    measured = {
        "environment": environment(options.threads),
        "machine": machine._asdict(),
        "quick": options.quick,
        "comparisons": [],
    }

    def say(line: str) -> None:
        print(line, file=sys.stderr, flush=True)

    for comparison in comparisons:
        record = measure(comparison, machine, quick=options.quick, rounds=options.rounds, say=say)
        measured["comparisons"].append(record)
        measured["environment"]["load_after"] = os.getloadavg()[0]
        write(options.out_dir, measured)  # after each comparison, in case a later one fails
    print(markdown(measured))
    say(f"written to {options.out_dir}")
    return 1 if any(record["error"] for record in measured["comparisons"]) else 0


if __name__ == "__main__":
    sys.exit(main())
