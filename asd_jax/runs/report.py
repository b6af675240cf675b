"""Reports of a finished run: result files and tables, beside published numbers."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from asd_jax.data.clips import OWN
from asd_jax.data.synthetic.takes import machines_of
from asd_jax.errors import UserError
from asd_jax.evaluation import tables
from asd_jax.evaluation.challenge import write_challenge_files
from asd_jax.evaluation.decisions import (
    count_table,
    decision_line,
    decision_markdown,
    decision_table,
)
from asd_jax.evaluation.differences import difference_lines, differences
from asd_jax.evaluation.intervals import bootstrap_results
from asd_jax.evaluation.promises import decided_anew, promise_lines
from asd_jax.evaluation.records import MetricRecord, metric_records
from asd_jax.evaluation.results import (
    ResultRow,
    ScoreRow,
    constant_scores,
    evaluate,
    read_results_csv,
    read_scores_csv,
    read_training_csv,
    scored,
    write_results_csv,
    write_scores_csv,
)
from asd_jax.evaluation.verdicts import unscored_lines
from asd_jax.published import Published
from asd_jax.runs.both_sets import sets_in
from asd_jax.runs.directory import RunDirectory, read_config
from asd_jax.runs.origin import SYNTHETIC, Comparison, compare
from asd_jax.runs.same_score import published_of
from asd_jax.runs.standing import Standing, standing_of
from asd_jax.runs.versions import current_version, is_settled, settle
from asd_jax.runtime.files import atomic_write


def write_results(
    run_dir: RunDirectory,
    rows: Sequence[ScoreRow],
    data: dict,
    intervals: tables.Intervals | None = None,
) -> tables.Intervals:
    """Writes scores and results; results.md comes last and marks the run as finished.

    Args:
        run_dir: the run directory, which has the configuration.
        rows: scores of the test clips, of those that are not scored as well.
        data: the run directory's description of its recordings.
        intervals: from `bootstrap_results`, where they are known.

    Returns:
        The intervals.
    """
    year = data["year"]
    write_scores_csv(run_dir.scores_csv, rows)
    lacking = unscored_lines(rows)
    rows = scored(rows)
    write_challenge_files(run_dir.scores, rows, year)
    results = evaluate(rows, year)
    write_results_csv(run_dir.results_csv, results)
    stored = read_config(run_dir.config)
    published, notes = comparison(run_dir, stored, data, results)
    standing = standing_in(run_dir, stored, data, results)
    training = read_training_csv(run_dir.training_csv)
    promises = promise_lines(rows, training, data.get("clip_seconds", 0.0))
    if standing.markdown:
        with atomic_write(run_dir.published_md) as file:
            file.write(standing.markdown)
    if intervals is None:
        intervals = bootstrap_results(rows, year)
    tables.write_results_md(
        run_dir.results_md,
        results,
        year,
        intervals,
        published,
        [
            *([decision_markdown(rows)] if year == OWN and rows else []),
            *(*notes, *truth_notes(run_dir), *standing.notes, standing.line),
            *(*lacking, *constant_scores(rows), *promises),
        ],
    )
    return intervals


def comparison(
    run_dir: RunDirectory, stored: dict, data: dict, results: Sequence[ResultRow]
) -> Comparison:
    """Published numbers beside a run's results, and notes on them.

    Args:
        run_dir: the run directory, with scores of the training clips.
        stored: its configuration.
        data: its description of its recordings.
        results: its results.
    """
    published, note = published_of(stored, data["year"])
    machines = {row.machine for row in results}
    if note:
        concerned = machines & {*machines_of(data["year"], "dev")}
        return Comparison((), (note,) * bool(concerned))
    needed = published and not data["synthetic"]
    rows = read_training_csv(run_dir.training_csv) if needed else ()
    return compare(published, machines, rows, data)


def truth_notes(run_dir: RunDirectory) -> list[str]:
    """A line on where the labels are from, if they were published apart from the recordings.

    Raises:
        UserError: the file that says so is damaged.
    """
    if not run_dir.ground_truth.is_file():
        return []
    return [f"Labels are those of {run_dir.read_ground_truth()['source']}."]


def standing_in(
    run_dir: RunDirectory,
    stored: dict,
    data: dict,
    results: Sequence[ResultRow],
    width: int | None = None,
) -> Standing:
    """A run's place among published official scores.

    Args:
        run_dir: as in `comparison`, like those below.
        stored: its configuration.
        data: its description of its recordings.
        results: its results.
        width: as in `aligned`, of the short table.
    """
    return standing_of(
        stored, data, results, lambda: read_training_csv(run_dir.training_csv), width
    )


def comparable(run_dir: RunDirectory, name: str, results: Sequence[ResultRow]) -> Comparison:
    """As `comparison`, for tables that have the published numbers in any case.

    Args:
        run_dir: the run directory.
        name: of the run, for the notes.
        results: its results.
    """
    data = run_dir.read_data()
    published, notes = comparison(run_dir, read_config(run_dir.config), data, results)
    said = [note.replace("without published numbers, as ", "no differences, as ") for note in notes]
    said = [note if note == SYNTHETIC else f"{name}: {note}" for note in said]
    if data["synthetic"] and SYNTHETIC not in said:
        said.append(SYNTHETIC)
    return Comparison(published, tuple(said))


def table(
    path: os.PathLike | str, width: int | None = None, *, false_alarms: float | None = None
) -> str:
    """The table of a finished run, with intervals and published numbers.

    Args:
        path: the run directory.
        width: as in `aligned`.
        false_alarms: rate of false alarms that thresholds are to keep, in place of the run's.

    Raises:
        UserError: no run directory, or an unfinished or damaged one; or the rate cannot be
            promised.
    """
    run_dir, stored, data = finished_run(path)
    year, every = data["year"], read_scores_csv(run_dir.scores_csv, every=True)
    rows, lacking = scored(every), unscored_lines(every)
    results = read_results_csv(run_dir.results_csv)
    training = read_training_csv(run_dir.training_csv)
    said: list[str] = []
    if false_alarms is not None:
        rows = decided_anew(rows, training, false_alarms)
        said = ["", *count_table(rows)] if year != OWN else []
    promises = promise_lines(rows, training, data.get("clip_seconds", 0.0))
    published, notes = comparison(run_dir, stored, data, results)
    standing = standing_in(run_dir, stored, data, results, width)
    text = tables.format_table(
        results,
        year,
        bootstrap_results(rows, year),
        published,
        [*notes, *truth_notes(run_dir), *standing.notes, *lacking, *constant_scores(rows)],
        width,
    )
    if year == OWN and not rows:
        text = f"there was nothing to score; `asd-jax score {path} FOLDER` scores recordings"
        said = lacking
    elif year == OWN:
        said = [decision_line(rows), "", *decision_table(rows, width)]
        labelled = any(row.n_normal and row.n_anomaly for row in results)
        said = [text, "", *said] if labelled else [*lacking, *constant_scores(rows), *said]
        text = ""
    lines = [*([text] if text else []), *said, *([""] if promises else []), *promises]
    return "\n".join([*lines, *_standing_lines(run_dir, standing)])


def _standing_lines(run_dir: RunDirectory, standing: Standing) -> list[str]:
    """The run among published scores, below an empty line; nothing where there is none."""
    if not standing.line:
        return []
    where = [f"{run_dir.published_md} has all, with sources."] * run_dir.published_md.is_file()
    return ["", standing.line, *standing.table, *where]


def report(
    paths: Sequence[os.PathLike | str],
    width: int | None = None,
    *,
    false_alarms: float | None = None,
) -> str:
    """Table of finished runs side by side, with published numbers; of one, with intervals.

    Args:
        paths: the run directories.
        width: as in `aligned`.
        false_alarms: as of `table`, for one run.

    Raises:
        UserError: as `table`; or thresholds are asked for beside several runs.
    """
    if len(paths) == 1:
        return table(paths[0], width, false_alarms=false_alarms)
    if false_alarms is not None:
        raise UserError(
            "--false_alarms changes the decisions of one run, and tables of several show none; "
            "name one run"
        )
    found = [_reported(path, name) for path, name in named(paths)]
    printed = [each.published for each in found]
    text = tables.format_report([each.run for each in found], printed, width)
    notes = dict.fromkeys(note for each in found for note in each.notes)
    return "\n".join([text, *notes, *_differences(found, width)])


def _differences(found: "Sequence[_Reported]", width: int | None) -> list[str]:
    """Lines on the differences of runs of one year from the first, below an empty line."""
    lines: list[str] = []
    for year in dict.fromkeys(each.run.year for each in found):
        own = [each for each in found if each.run.year == year]
        if len(own) > 1:
            between = differences([each.rows for each in own], year)
            lines += ["", *difference_lines([each.run.name for each in own], between, width)]
    return lines


def report_records(
    paths: Sequence[os.PathLike | str],
) -> tuple[list[MetricRecord], tuple[str, ...]]:
    """The numbers of finished runs as records, and notes on them; arguments as in `report`."""
    records: list[MetricRecord] = []
    notes: dict[str, None] = {}
    for path, name in named(paths):
        found = _reported(path, name)
        intervals = bootstrap_results(found.rows, found.run.year)
        records += metric_records(found.run, intervals, found.published)
        notes |= dict.fromkeys(found.notes)
    return records, tuple(notes)


class _Reported(NamedTuple):
    """A finished run with its scores, the published numbers beside it, and notes on it."""

    run: tables.Run
    rows: Sequence[ScoreRow]
    published: Sequence[Published]
    notes: Sequence[str]


def named(paths: Sequence[os.PathLike | str]) -> list[tuple[os.PathLike | str, str]]:
    """Run directories with their names; where two are called alike, with their paths.

    One of both sets of a year is called as the folder that has both.
    """
    places = [Path(path).resolve() for path in paths]
    names = [place.parent.name if sets_in(place.parent) else place.name for place in places]
    shown = [
        name if names.count(name) == 1 else os.fspath(path)
        for path, name in zip(paths, names, strict=True)
    ]
    return list(zip(paths, shown, strict=True))


def _reported(path: os.PathLike | str, name: str) -> _Reported:
    run_dir, stored, data = finished_run(path)
    results, rows = read_results_csv(run_dir.results_csv), read_scores_csv(run_dir.scores_csv)
    published, remarks = comparison(run_dir, stored, data, results)
    notes = [note if note == SYNTHETIC else f"{name}: {note}" for note in remarks]
    standing = standing_in(run_dir, stored, data, results)
    notes += [f"{name}: {standing.line}"] * bool(standing.line)
    notes += [f"{name}: {note}" for note in constant_scores(rows)]
    return _Reported(tables.Run(name, data["year"], results), rows, published, notes)


def finished_run(path: os.PathLike | str) -> tuple[RunDirectory, dict, dict]:
    """Paths, configuration and data description of a finished run; UserError if unfinished."""
    run_dir = RunDirectory(path)
    stored = read_config(run_dir.config)
    if not is_settled(run_dir):  # interrupted between two versions
        with run_dir.lock():
            settle(run_dir)
    if not run_dir.finished and (number := current_version(run_dir)):
        raise UserError(
            f"{path} was adapted (version {number}), and its test clips are not scored since; the "
            "command that made the run scores them, `asd-jax adapt --rollback` has the version "
            "before back with its results"
        )
    if not run_dir.finished:
        raise UserError(f"{path} has no results yet; continue with the command that began it")
    return run_dir, stored, run_dir.read_data()
