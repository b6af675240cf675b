"""The part of the command report that compares recent recordings with training."""

import sys

from absl import flags

from asd_jax.commands.base import define_cache_dir, define_cores, prepare_jax
from asd_jax.commands.output import PAPER_FORMATS, print_csv, print_json
from asd_jax.errors import UserError

_OF_DRIFT = ("machine", "section", "out_dir", "cache_dir", "cores")


def define_drift(values: flags.FlagValues) -> None:
    """Adds --drift, and the flags that go with it."""
    flags.DEFINE_string(
        "drift",
        None,
        "folder of recent recordings to compare with training: has the set-up changed? "
        "--false_alarms is then the rate of false warnings, 0.05 by default",
        flag_values=values,
    )
    for name, text in (
        ("machine", "machine type of the recordings"),
        ("section", "section or id of the recordings"),
        ("out_dir", "folder for a picture of the spectra of each machine"),
    ):
        flags.DEFINE_string(name, None, f"with --drift: {text}", flag_values=values)
    define_cache_dir(values, "features and compiled programs of --drift")
    define_cores(values)


def asks_for_drift(values: flags.FlagValues) -> bool:
    """Whether --drift is given; UserError where it is not and a flag needs it."""
    if values.drift is not None:
        return True
    for name in _OF_DRIFT:
        if values[name].value is not None:
            raise UserError(f"--{name} has no effect without --drift=FOLDER; leave it out")
    return False


def report_drift(values: flags.FlagValues) -> None:
    """Prints what has changed between training and recent recordings."""
    if values.ground_truth is not None:
        raise UserError("--ground_truth has no effect with --drift; leave one of them out")
    if len(values.run_dir) != 1:
        raise UserError("--drift compares recordings with one run; name one")
    if values.format in PAPER_FORMATS:
        raise UserError(f"--drift has no --format={values.format}; there are table, csv, json")
    from asd_jax.runs import drift as drifting

    prepare_jax(values.cache_dir, values.cores)
    found = drifting.find_drift(
        values.run_dir[0],
        values.drift,
        machine=values.machine,
        section=values.section,
        rate=drifting.RATE if values.false_alarms is None else values.false_alarms,
        out_dir=values.out_dir,
        on_bad_clip=values.on_bad_clip,
        cache_dir=values.cache_dir,
    )
    if values.format == "csv":
        print_csv(drifting.RECORD, found.records())
    elif values.format == "json":
        print_json({"run": values.run_dir[0], "rate": found.rate, "drift": found.records()})
    else:
        print(*found.lines(), sep="\n")
    if values.out_dir is not None:
        print(f"pictures are in {values.out_dir}", file=sys.stderr)
