"""Tables of finished runs as papers print them, with the organisers' baseline."""

import os
from collections.abc import Sequence

from asd_jax.data.years import YEARS
from asd_jax.errors import UserError
from asd_jax.evaluation.printed import (
    MEAN,
    SCORE,
    System,
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
_BASELINE = "challenge baseline"
# Of the organisers' autoencoders, by our configurations.
_BASELINES = {
    "dense_ae": _BASELINE,
    "dense_ae_2023": f"{_BASELINE} (MSE)",
    "mahalanobis_2023": f"{_BASELINE} (Mahalanobis)",
}


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
    """The organisers' baselines on the set of the results, and where they are printed."""
    sections = {(row.machine, row.section) for row in results}
    subset = subset_of(sections, year)
    if subset is None:
        return [], []
    of_set = f"DCASE {year}'s {SETS[subset]}"
    machines = {machine for machine, _ in sections}
    baselines: dict[str, dict[str, dict[str, str]]] = {}  # name → title → machine → percent
    sources = []
    for configuration, name in _BASELINES.items():
        for number in load_published(configuration, year):
            is_official = number.source.startswith("DCASE") and SETS[subset] in number.table
            if is_official and number.machine in {*machines, MEAN}:
                key = number.domain, number.metric
                for title in [title for title, own in lines_of(year).items() if own == key]:
                    lines = baselines.setdefault(name, {}).setdefault(title, {})
                    lines[number.machine] = number.percent
                sources.append(f"{number.source}, {number.table}")
    for score in load_scores(year, subset):
        if score.system.startswith(_BASELINE) and score.metric == "score":
            name = _BASELINES.get(score.configuration, score.system)
            baselines.setdefault(name, {}).setdefault(SCORE, {MEAN: score.percent})
            sources.append(f"{score.source}, {score.table}")
    if not baselines:
        return [], [f"The organisers' baseline on {of_set} is not among our published numbers."]
    missing = official_sections(year, subset) - sections
    part = ", of the whole set" if missing else ""
    where = "; ".join(dict.fromkeys(sources))
    systems = [System(name, lines) for name, lines in baselines.items()]
    return systems, [f"Challenge baseline on {of_set}{part}: {where}."]
