"""Compares our figures with an official evaluator's, on random scores of the evaluation set.

    git clone EVALUATOR DIR    # as nttcslab/dcase2023_task2_evaluator
    .venv/bin/python scripts/official_evaluator.py --year=2023 --evaluator=DIR

Scores of every third section are rounded to one digit, so that there are ties, and of every fifth
constant. They are written as result files, which the evaluator's program reads in a copy of its
folder; AUC, pAUC, precision, recall, F1 and the official score of its result file must be ours to
1e-9. Of 2020 the list is apart: --ground_truth names it. The program may need packages that we do
not have; install them beside.
"""

import csv
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from absl import app, flags

from asd_jax.data.ground_truth import GroundTruth, read_ground_truth
from asd_jax.errors import UserError
from asd_jax.evaluation.challenge import write_challenge_files
from asd_jax.evaluation.labelling import labelled_rows
from asd_jax.evaluation.results import ResultRow, ScoreRow, evaluate
from asd_jax.metrics import official_score

_YEAR = flags.DEFINE_integer("year", None, "challenge year, 2020 to 2026", required=True)
_EVALUATOR = flags.DEFINE_string("evaluator", None, "folder of the evaluator", required=True)
_TRUTH = flags.DEFINE_string("ground_truth", None, "ground truth that the folder does not have")
_PROGRAM = flags.DEFINE_string("program", None, "its program; *evaluator.py by default")

_THRESHOLD = 0.4
_TOLERANCE = 1e-9


def random_rows(truth: GroundTruth, year: int) -> list[ScoreRow]:
    """Scores of the clips of a ground truth, 0.7 of a deviation higher for anomalies."""
    rng = np.random.default_rng(year)
    rows = []
    for i, ((machine, section), clips) in enumerate(truth.sections.items()):
        for clip, known in clips.items():
            score = 1.0 if i % 5 == 0 else rng.normal(0.7 * known.label)
            score = float(np.round(score, 1 if i % 3 == 0 else 6))
            domain = known.domain if year == 2021 else ""
            decision = int(score > _THRESHOLD)
            rows.append(
                ScoreRow(machine, section, domain, 0, clip, -1, score, _THRESHOLD, decision)
            )
    return rows


def run_program(folder: Path, rows: list[ScoreRow], year: int) -> Path:
    """Runs the evaluator in a copy of its folder; returns its result file."""
    teams = folder / "teams"
    shutil.rmtree(teams, ignore_errors=True)
    shutil.rmtree(folder / "teams_result", ignore_errors=True)
    if year >= 2023:  # later programs make the folder of results only where asked
        (folder / "teams_result").mkdir()
    team = teams / "ours" if year <= 2021 else teams / "ours" / "system"
    write_challenge_files(team, rows, year)
    program = _PROGRAM.value or next(folder.glob("*evaluator.py")).name
    done = subprocess.run([sys.executable, program], cwd=folder, capture_output=True, text=True)
    found = [path for path in folder.glob("teams*/*result*.csv")]
    if done.returncode or not found:
        raise UserError(f"{program} ended with {done.returncode}: {done.stderr[-500:]}")
    return found[0]


def printed(path: Path) -> Iterator[tuple[str, str, dict[str, float]]]:
    """Machine, section and figures of each line of a result file, then the official score."""
    machine, heading = "", []
    with path.open(newline="") as file:
        for row in csv.reader(file):
            if len(row) == 1:
                machine, heading = row[0], []
            elif row and not heading and row[0] in ("id", "section"):
                heading = row
            elif row and row[0].isdigit():
                domain = dict(zip(heading, row, strict=True)).get("domain", "")
                figures = zip(heading, row, strict=True)
                numbers = {k: float(v) for k, v in figures if k not in ("id", "section", "domain")}
                yield machine, row[0], {f"{k} {domain}".strip(): v for k, v in numbers.items()}
            elif row and row[0] == "official score":
                yield "", "", {"official score": float(row[-1])}


_FIELDS = {
    "AUC": "auc",
    "pAUC": "pauc_mcclish",
    "precision": "precision",
    "recall": "recall",
    "F1 score": "f1",
}


def ours(results: dict[tuple[str, str, str], ResultRow], machine: str, section: str, name: str):
    """The number of ours that a column names, as "AUC (source)" or "recall target"."""
    domain = next((d for d in ("source", "target") if d in name), "all")
    field = next(_FIELDS[key] for key in sorted(_FIELDS, reverse=True) if name.startswith(key))
    return getattr(results[machine, section, domain], field)


def main(argv: list[str]) -> None:
    """Prints how many figures agree; ends with 1 where one does not."""
    del argv
    year = _YEAR.value
    try:
        truth = read_ground_truth(_TRUTH.value or _EVALUATOR.value, year)
        rows = random_rows(truth, year)
        found = evaluate(labelled_rows(truth, rows), year)
        results = {(row.machine, row.section, row.domain): row for row in found}
        with tempfile.TemporaryDirectory() as temporary:
            folder = Path(shutil.copytree(_EVALUATOR.value, Path(temporary) / "evaluator"))
            if year == 2020:
                shutil.copy(truth.source, folder / "eval_data_list.csv")
            lines = [*printed(run_program(folder, rows, year))]
    except UserError as error:
        sys.exit(f"official_evaluator: {error}")
    of_rows = ([row.domain for row in found], [row.auc for row in found])
    score = official_score(year, *of_rows, [row.pauc_mcclish for row in found])
    count, odd = 0, []
    for machine, section, figures in lines:
        for name, value in figures.items():
            own = ours(results, machine, section, name) if machine else float(score[name])
            count += 1
            if not abs(own - value) < _TOLERANCE:
                odd.append(f"{machine} {section} {name}: {value} there, {own} here")
    print(f"{year}: {count - len(odd)} of {count} figures agree to {_TOLERANCE}", *odd, sep="\n")
    sys.exit(bool(odd))


if __name__ == "__main__":
    app.run(main)
