"""Evaluates a run: scores of its test clips, and all that is written by them."""

from collections.abc import Sequence
from typing import Any

from asd_jax.data.clips import ClipTable
from asd_jax.data.ground_truth import GroundTruth
from asd_jax.evaluation.analysis import write_analysis
from asd_jax.evaluation.results import ScoreRow, scored
from asd_jax.features.table import Features
from asd_jax.fitting.detector import FittedDetector
from asd_jax.fitting.scores import score_clips
from asd_jax.runs import page
from asd_jax.runs.directory import RunDirectory
from asd_jax.runs.labelled import label_run, labelled
from asd_jax.runs.machine_by_machine import MachineByMachine
from asd_jax.runs.places import write_places
from asd_jax.runs.report import write_results
from asd_jax.runtime import distributed
from asd_jax.runtime.progress import Reporter


def score_and_evaluate(
    fitted: FittedDetector,
    test: Features,
    run_dir: RunDirectory,
    data: dict[str, Any],
    used: ClipTable,
    truth: GroundTruth | None,
    reporter: Reporter,
) -> None:
    """Scores the test clips and writes all that comes of them.

    Args:
        fitted: the system.
        test: features of the test clips.
        run_dir: where it is written, by the first process.
        data: what was recorded, see `describe_data`.
        used: the training and test clips.
        truth: labels of an evaluation set.
        reporter: shows progress.
    """
    writes = distributed.is_primary()
    front_end = fitted.detector.front_end
    with MachineByMachine(run_dir.path, test, front_end, data["year"]) as made:
        after = made.begin if writes and truth is None else None
        rows: Sequence[ScoreRow] = score_clips(fitted, test, reporter, after)
        if not writes:
            return
        if truth:
            rows = labelled(run_dir, truth, rows)
        write_analysis(run_dir.path, scored(rows), test, front_end, draw=made.draw)
        intervals = made.intervals(scored(rows))
    write_results(run_dir, rows, data, intervals)
    write_places(run_dir.recordings_csv, used)
    explain = page.by_features(fitted, test)
    page.write_page(run_dir.path, reporter.line, explain=explain, intervals=intervals)


def complete(
    run_dir: RunDirectory,
    used: ClipTable,
    truth: GroundTruth | None,
    on_bad_clip: str,
    reporter: Reporter,
) -> None:
    """Evaluates a finished run by labels, or makes the page that it lacks.

    Args:
        run_dir: the run, locked by the caller.
        used: its training and test clips.
        truth: labels of an evaluation set.
        on_bad_clip: as in `asd_jax.run`.
        reporter: shows progress.
    """
    again = "its scores are evaluated by the ground truth" if truth else "nothing to do"
    reporter.line(f"{run_dir.path} is finished; {again}")
    if truth:
        label_run(run_dir.path, truth, lambda _: None, on_bad_clip=on_bad_clip)
    elif not run_dir.report_html.is_file():  # interrupted, or of a version before
        write_places(run_dir.recordings_csv, used)
        page.write_page(run_dir.path, reporter.line)
