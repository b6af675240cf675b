"""Tables of finished runs as papers print them, with the organisers' baseline."""

import os
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from asd_jax.data.synthetic.takes import machines_of
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
from asd_jax.evaluation.results import (
    ResultRow,
    read_results_csv,
    read_scores_csv,
    read_training_csv,
)
from asd_jax.evaluation.standing import SETS
from asd_jax.published import load_published
from asd_jax.published.scores import load_scores
from asd_jax.runs.directory import RunDirectory
from asd_jax.runs.report import finished_run, named, truth_notes
from asd_jax.runs.standing import subset_of, whole_machines

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
    runs: list[_Run] = []
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
        runs.append(_Run(run_dir, data, own))
        notes += [*truth_notes(run_dir), *interval_lines(name, rows, year)]
        if data["synthetic"]:
            notes.append("The data is synthetic; published numbers are of the challenge's.")
    if len(years) > 1:
        raise UserError(
            f"the runs are of the years {', '.join(map(str, sorted(years)))}; give those of one"
        )
    baseline, sources = _baseline(runs, year)
    several = len({row.seed for run in runs for row in run.results}) > 1
    over = "; mean ± standard deviation over the seeds" * several
    mean = "arithmetic" if year <= 2020 else "harmonic"
    notes = [
        f"In percent{over}; {mean} means over sections and machines.",
        *dict.fromkeys(notes),
        *sources,
    ]
    return _WRITERS[style](cells([*baseline, *systems]), notes)


class _Run(NamedTuple):
    """A finished run: its folder, the description of its recordings, its results."""

    run_dir: RunDirectory
    data: Mapping[str, Any]
    results: Sequence[ResultRow]

    def whole(self, subset: str) -> frozenset[str]:
        """As `whole_machines`."""
        training = self.run_dir.training_csv
        return whole_machines(self.data, self.results, lambda: read_training_csv(training), subset)


def _baseline(runs: Sequence[_Run], year: int) -> tuple[list[System], list[str]]:
    """The organisers' baselines on the set of some runs, and where they are printed.

    Their numbers of a machine are there if every run that has the machine has all of its sections,
    and means and scores if every run is on the whole set.
    """
    subset = subset_of({(row.machine, row.section) for run in runs for row in run.results}, year)
    if subset is None:
        return [], []
    of_set = f"DCASE {year}'s {SETS[subset]}"
    machines = [{row.machine for row in run.results} for run in runs]
    whole = [run.whole(subset) for run in runs]
    of_all = set.union(*machines)
    shown = of_all.difference(*(own - of_run for own, of_run in zip(machines, whole, strict=True)))
    every = all({*machines_of(year, subset)} == own == shown for own in machines)
    numbers = _printed(year, subset)
    known = {number.machine for number in numbers} - {MEAN}
    placed = [each for each in numbers if each.machine in shown or (every and each.machine == MEAN)]
    lines: dict[str, dict[str, dict[str, str]]] = {}  # baseline → title → machine → percent
    for number in placed:
        lines.setdefault(number.name, {}).setdefault(number.title, {})[number.machine] = (
            number.percent
        )
    if not numbers:
        return [], [f"The organisers' baseline on {of_set} is not among our published numbers."]
    notes = []
    if lines:
        where = "; ".join(dict.fromkeys(number.where for number in placed))
        notes.append(f"Challenge baseline on {of_set}: {where}.")
    if left := sorted((of_all & known) - shown):
        notes.append(
            f"The challenge baseline on {of_set} has no place beside {', '.join(left)}: not all of "
            "their sections, or other recordings."
        )
    elif not lines:
        notes.append(f"The challenge baseline's score on {of_set} is of all its machines.")
    return [System(name, own) for name, own in lines.items()], notes


class _Printed(NamedTuple):
    """A number of an organisers' baseline, by its place in our table, and where it is printed.

    The machine of means and scores over a set is `MEAN`.
    """

    name: str
    title: str
    machine: str
    percent: str
    where: str


def _printed(year: int, subset: str) -> list[_Printed]:
    """The organisers' numbers of a set; of a score that is printed twice, the first."""
    titles = {column: title for title, column in lines_of(year).items()}
    found: dict[tuple[str, str, str], _Printed] = {}
    for configuration, name in _BASELINES.items():
        for number in load_published(configuration, year):
            is_official = number.source.startswith("DCASE") and SETS[subset] in number.table
            title = titles.get((number.domain, number.metric))
            if is_official and title:
                where = f"{number.source}, {number.table}"
                key = name, title, number.machine
                found.setdefault(key, _Printed(*key, number.percent, where))
    for score in load_scores(year, subset):
        if score.system.startswith(_BASELINE) and score.metric == "score":
            key = _BASELINES.get(score.configuration, score.system), SCORE, MEAN
            where = f"{score.source}, {score.table}"
            found.setdefault(key, _Printed(*key, score.percent, where))
    return [*found.values()]
