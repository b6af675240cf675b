"""Tables of finished runs as papers print them, with the organisers' baseline."""

import os
from collections.abc import Sequence

from asd_jax.data.years import YEARS
from asd_jax.errors import UserError
from asd_jax.evaluation.printed import (
    MEAN,
    SCORE,
    System,
    baseline_system,
    cells,
    interval_lines,
    lines_of,
    system_of,
    to_latex,
    to_markdown,
)
from asd_jax.evaluation.results import ResultRow, read_results_csv, read_scores_csv
from asd_jax.evaluation.standing import SETS
from asd_jax.published import load_published
from asd_jax.published.scores import load_scores
from asd_jax.runs.report import finished_run, named, truth_notes
from asd_jax.runs.standing import official_sections, subset_of

_WRITERS = {"markdown": to_markdown, "latex": to_latex}


def paper_table(paths: Sequence[os.PathLike | str], style: str) -> str:
    """One table of finished runs of a year's set.

    Args:
        paths: run directories; the order is that of the rows.
        style: "markdown" or "latex".

    Returns:
        The table, machines as columns; AUC, pAUC and F1 by domain, and the official score of each
        machine and of all, are rows of each run. Of several runs, the best is bold.

    Raises:
        UserError: no finished run, runs of several years, or of no challenge year.
    """
    systems, notes, years = [], [], set()
    results: list[ResultRow] = []
    for path, name in named(paths):
        run_dir, _, data = finished_run(path)
        own, rows = read_results_csv(run_dir.results_csv), read_scores_csv(run_dir.scores_csv)
        year = data["year"]
        years.add(year)
        if year not in YEARS:
            raise UserError(
                f"{path}: its recordings are of no challenge year, whose tables these are"
            )
        systems.append(system_of(name, own, year))
        results += own
        notes += [*truth_notes(run_dir), *interval_lines(name, rows, year)]
        if data["synthetic"]:
            notes.append("The data is synthetic; published numbers are of the challenge's.")
    if len(years) > 1:
        raise UserError(
            f"the runs are of the years {', '.join(map(str, sorted(years)))}; give those of one"
        )
    baseline, sources = _baseline(results, year)
    over = (
        "; mean ± standard deviation over the seeds" if len({r.seed for r in results}) > 1 else ""
    )
    mean = "arithmetic" if year <= 2020 else "harmonic"
    notes = [
        f"In percent{over}; {mean} means over sections and machines.",
        *dict.fromkeys(notes),
        *sources,
    ]
    return _WRITERS[style](cells([*baseline, *systems]), notes)


def _baseline(results: Sequence[ResultRow], year: int) -> tuple[list[System], list[str]]:
    """The organisers' baseline on the set of the results, and where it is printed."""
    sections = {(row.machine, row.section) for row in results}
    subset = subset_of(sections, year)
    if subset is None:
        return [], []
    of_set = f"DCASE {year}'s {SETS[subset]}"
    lines: dict[str, dict[str, str]] = {}
    sources = []
    if (year, subset) == (2020, "dev"):
        columns = {column: title for title, (_, column) in lines_of(year).items()}
        for number in load_published("dense_ae", year):
            if number.source.endswith("baseline") and number.machine in {m for m, _ in sections}:
                lines.setdefault(columns[number.metric], {})[number.machine] = number.percent
                sources.append(number.source)
    for score in load_scores(year, subset):
        if score.system.startswith("challenge baseline") and score.metric == "score" and not lines:
            lines[SCORE] = {MEAN: score.percent}
            sources.append(f"{score.source}, {score.table}")
    if not lines:
        return [], [f"The organisers' baseline on {of_set} is not among our published numbers."]
    missing = official_sections(year, subset) - sections
    part = ", of the whole set" if missing else ""
    where = "; ".join(dict.fromkeys(sources))
    return [baseline_system(lines)], [f"Challenge baseline on {of_set}{part}: {where}."]
