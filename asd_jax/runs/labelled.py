"""Ground truth for runs: labels that were published after a challenge, before or after scoring."""

import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path

from asd_jax.data.clips import OWN, ClipTable
from asd_jax.data.ground_truth import GroundTruth, read_ground_truth
from asd_jax.errors import UserError
from asd_jax.evaluation.analysis import write_analysis
from asd_jax.evaluation.labelling import ScoredClip, check_truth, clips_of, labelled_rows
from asd_jax.evaluation.results import ScoreRow, read_scores_csv, scored
from asd_jax.evaluation.row_table import RowTable
from asd_jax.runs.directory import RunDirectory
from asd_jax.runs.page import write_page
from asd_jax.runs.report import finished_run, write_results
from asd_jax.runtime.files import atomic_write


def truth_of(
    path: os.PathLike | str,
    clips: ClipTable,
    report: Callable[[str], None],
    *,
    on_bad_clip: str = "stop",
) -> GroundTruth:
    """Reads a ground truth, and checks that it is that of the test clips of a run.

    Args:
        path: as of `read_ground_truth`.
        clips: clips of the run.
        report: called with lines.
        on_bad_clip: as of `pipeline.run`.

    Raises:
        UserError: as `read_ground_truth` and `check_truth`.
    """
    truth = read_ground_truth(path, _year_of(clips.distinct("year"), path))
    scored = [
        ScoredClip(clip.machine, clip.section, clip.name, clip.domain, clip.label)
        for clip in clips[clips.where(split="test")]
    ]
    for line in check_truth(truth, scored, some_skipped=on_bad_clip == "skip"):
        report(line)
    return truth


def _year_of(years: Sequence[int], path: os.PathLike | str) -> int | None:
    """The one year of some clips; UserError where it is none of the challenge's."""
    if len(years) != 1:  # an error of its own, later
        return None
    if years[0] in (0, OWN):
        raise UserError(
            f"--ground_truth={path} is for evaluation sets of the challenge, and these recordings "
            "are no such set; leave it out"
        )
    return years[0]


def labelled(
    run_dir: RunDirectory, truth: GroundTruth, rows: Sequence[ScoreRow]
) -> RowTable[ScoreRow]:
    """Scores with the labels of a ground truth, which the run directory notes."""
    with atomic_write(run_dir.ground_truth) as file:
        file.write(json.dumps({"source": os.fspath(Path(truth.source).resolve())}) + "\n")
    return labelled_rows(truth, rows)


def label_run(
    path: os.PathLike | str,
    ground_truth: os.PathLike | str | GroundTruth,
    report: Callable[[str], None],
    *,
    on_bad_clip: str = "stop",
) -> None:
    """Evaluates a finished run by a ground truth; its scores are not computed anew.

    Args:
        path: the run directory, locked by the caller.
        ground_truth: one, or where to read it.
        report: called with lines.
        on_bad_clip: as of `pipeline.run`.

    Raises:
        UserError: no finished run; or as `read_ground_truth` and `check_truth`. Nothing is changed
            then.
    """
    run_dir, _, data = finished_run(path)
    rows = read_scores_csv(run_dir.scores_csv, every=True)
    truth = ground_truth
    if not isinstance(truth, GroundTruth):
        truth = read_ground_truth(truth, _year_of([data["year"]], truth))
    for line in check_truth(truth, clips_of(rows), some_skipped=on_bad_clip == "skip"):
        report(line)
    rows = labelled(run_dir, truth, rows)
    if not run_dir.ensemble.exists():  # which has no analysis
        write_analysis(run_dir.path, scored(rows))
    intervals = write_results(run_dir, rows, data)
    write_page(path, report, intervals=intervals)
