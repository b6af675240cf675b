"""The command submission: makes the folder that a challenge asks for, or checks one."""

from typing import TYPE_CHECKING

from absl import flags

from asd_jax.commands.base import YEAR, Command, define_whole
from asd_jax.errors import UserError
from asd_jax.runtime.bounds import SEED

if TYPE_CHECKING:
    from asd_jax.evaluation.submission_check import SubmissionCheck

_OF_MAKING = ("run_dir", "out_dir", "label", "seed", "dev_run")
_OF_CHECKING = ("data_dir", "year")


def _define_submission(values: flags.FlagValues) -> None:
    flags.DEFINE_string(
        "run_dir",
        None,
        "finished run of an evaluation set, or the folder with the runs of both sets",
        flag_values=values,
    )
    flags.DEFINE_string(
        "out_dir", None, "where the submission's folder, named by its label, is made",
        flag_values=values,
    )  # fmt: skip
    flags.DEFINE_string(
        "label",
        None,
        "last name, institute, task and number of the system, as Smith_ABC_task2_1",
        flag_values=values,
    )
    define_whole(
        values, "seed", None, "submit this seed alone, in place of the mean over all", SEED
    )
    flags.DEFINE_string(
        "dev_run",
        None,
        "finished run of the development set, for its results; that of a folder with both by "
        "default",
        flag_values=values,
    )
    flags.DEFINE_string(
        "check",
        None,
        "in place of --run_dir, the folder of a submission: say all that is wrong with it",
        flag_values=values,
    )
    flags.DEFINE_string(
        "data_dir",
        None,
        "with --check: recordings of the evaluation set, by which clips are compared",
        flag_values=values,
    )
    define_whole(
        values,
        "year",
        None,
        "with --check: challenge year, where the files' names do not show it",
        YEAR,
    )


def _submission(values: flags.FlagValues, words: list[str], overrides: dict[str, str]) -> None:
    if words:
        raise UserError(f"submission takes one run, not {words[0]!r} as well")
    making = [flag for flag in _OF_MAKING if values[flag].value is not None]
    checking = [flag for flag in _OF_CHECKING if values[flag].value is not None]
    if values.check and making:
        raise UserError(f"--check and --{making[0]} do not go together: it makes nothing")
    if not values.check and checking:
        raise UserError(f"--{checking[0]} has no effect without --check")
    if values.check:
        _check(values)
    elif not values.out_dir:
        raise UserError("submission needs --out_dir=…; `asd-jax submission --help` says more")
    else:
        _make(values)


def _check(values: flags.FlagValues) -> None:
    from asd_jax.data.years import YEARS
    from asd_jax.evaluation.submission_check import check_submission, expected_clips

    year, expected = values.year, None
    if year is not None and year not in YEARS:
        raise UserError(f"--year={year}: the challenge years are {YEARS[0]} to {YEARS[-1]}")
    if values.data_dir is not None:
        year, expected = expected_clips(values.data_dir, year)
    found = check_submission(values.check, year=year, expected=expected)
    _print_findings(found)
    if not found.accepted:
        raise UserError(f"{values.check} would not be accepted: {_faults(found)}")
    print(f"{values.check} would be accepted in {found.year}: {found.n_clips:,} clips")


def _make(values: flags.FlagValues) -> None:
    from asd_jax.evaluation.submission_form import UNNAMED
    from asd_jax.runs.submission import make_submission

    made = make_submission(
        values.run_dir,
        values.out_dir,
        label=UNNAMED if values.label is None else values.label,
        seed=values.seed,
        dev_run=values.dev_run,
    )
    print(f"{made.folder} has the scores of {made.check.n_clips:,} clips", *made.lines, sep="\n")
    _print_findings(made.check)
    if made.check.accepted:
        print("it would be accepted")
    else:
        print(f"it would not be accepted yet: {_faults(made.check)}")


def _faults(found: "SubmissionCheck") -> str:
    return f"{len(found.faults)} fault{'s' * (len(found.faults) != 1)}"


def _print_findings(found: "SubmissionCheck") -> None:
    from asd_jax.runtime.text_tables import filled, terminal_width

    width = terminal_width()
    for kind, lines in (("fault", found.faults), ("warning", found.warnings)):
        for line in lines:
            print(*filled(f"{kind}: {line}", width, indent=2), sep="\n")


SUBMISSION = Command(
    "make the result files and the description of a submission to the challenge, or check one",
    _define_submission,
    _submission,
    ("run_dir|check",),
    "[RUN]",
)
