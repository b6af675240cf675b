"""Tables of official scores by year and set, our numbers beside the published ones."""

import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from asd_jax.config import shipped_configs
from asd_jax.evaluation.results import MEAN, ResultRow
from asd_jax.evaluation.standing import set_scores
from asd_jax.metrics import harmonic_mean
from asd_jax.papers.layouts import SCORE_PAPERS
from asd_jax.papers.tables import Cell, PaperTable, Row
from asd_jax.published import Published
from asd_jax.published.scores import MEANS, Score, load_scores
from asd_jax.runs.standing import official_set

Set = tuple[int, str]  # year and subset


class System(NamedTuple):
    """A system of a table that we have, or will have, a configuration of.

    Attributes:
        name: of the system in the command line and in the folders of its runs.
        configuration: the configuration's name.
        overrides: what the system changes in it.
        sets: the sets that the table has a number of.
    """

    name: str
    configuration: str
    overrides: Mapping[str, str]
    sets: tuple[Set, ...]

    @property
    def exists(self) -> bool:
        """Whether this version has the configuration."""
        return self.configuration in shipped_configs()


def systems_of(paper: str) -> tuple[System, ...]:
    """The systems of a table that have a configuration, in the order of the table.

    A row of several configurations, as the organisers' baselines of several years, is none.

    Args:
        paper: one of `SCORE_PAPERS`.

    Examples:
        >>> [system.name for system in systems_of("asdkit2025")][:2]
        ['dense_ae', 'mel_knn']
    """
    rows: dict[str, list[Score]] = {}
    for number in _numbers(paper):
        rows.setdefault(number.system, []).append(number)
    numbers: dict[str, list[Score]] = {}
    for number in (n for row in rows.values() if _configuration(row) for n in row):
        if number.metric not in MEANS:
            numbers.setdefault(_name(number), []).append(number)
    return tuple(
        System(
            name,
            of_system[0].configuration,
            of_system[0].overrides,
            tuple(sorted((number.year, number.subset) for number in of_system)),
        )
        for name, of_system in numbers.items()
    )


def _configuration(row: Sequence[Score]) -> str:
    """The configuration of a row; "" for none, or several."""
    found = {number.configuration for number in row}
    return found.pop() if len(found) == 1 else ""


def run_name(system: str, year: int, subset: str) -> str:
    """Name of the run of a system on a set, and of its folder."""
    return f"{system}-{year}-{subset}"


def _numbers(paper: str) -> list[Score]:
    source, table, _ = SCORE_PAPERS[paper]
    return [n for n in load_scores() if (n.source, n.table) == (source, table)]


def _name(number: Score) -> str:
    """The configuration's name; with settings, the published one in letters that folders have."""
    return re.sub(r"\W+", "_", number.system) if number.settings else number.configuration


def table_of(paper: str) -> PaperTable:
    """A table with the published numbers, without ours.

    Args:
        paper: one of `SCORE_PAPERS`.

    Examples:
        >>> table = table_of("asdkit2025")
        >>> table.columns[0], table.rows[1].labels, table.rows[1].cells[0].published.percent
        (('2020', 'dev'), ('raw_spec', 'mel_knn'), '64.81')
    """
    source, printed_as, title = SCORE_PAPERS[paper]
    numbers = _numbers(paper)
    columns = sorted({_column(number) for number in numbers}, key=lambda c: (c[1] in MEANS, c))
    rows = []
    for system in dict.fromkeys(number.system for number in numbers):
        own = {_column(number): number for number in numbers if number.system == system}
        first = next(iter(own.values()))
        configuration = _configuration([*own.values()])
        name = _name(first) if configuration else ""
        cells = tuple(_cell(first, own.get(column), column, name) for column in columns)
        rows.append(Row((system, configuration), cells))
    headings = tuple((years, _TITLES.get(kind, kind)) for years, kind in columns)
    labels = ("system", "configuration here")
    return PaperTable(paper, source, printed_as, title, labels, headings, tuple(rows))


_TITLES = {"amean": "arithmetic mean", "hmean": "harmonic mean"}


def _column(number: Score) -> tuple[str, str]:
    """Years and set, or kind of mean."""
    return number.years, number.metric if number.metric in MEANS else number.subset


def _cell(first: Score, number: Score | None, column: tuple[str, str], name: str) -> Cell:
    """The cell of a system's number in a column, which it may lack."""
    years, kind = column
    published = Published(
        first.source,
        first.table,
        first.system,
        name,
        number.year if number else 0,
        MEAN,
        MEAN,
        "all",
        kind if kind in MEANS else "score",
        number.percent if number else "",
        number.note if number else "",
    )
    run = ""
    if number and name:
        run = name if kind in MEANS else run_name(name, int(years), kind)
    return Cell(published, run)


def fill(table: PaperTable, results: Mapping[str, Sequence[ResultRow]]) -> PaperTable:
    """Fills our scores into a table.

    A score over a part of a set has a note, and no difference. A mean over sets is filled where
    all of them are there and whole; it is of the means over the seeds.

    Args:
        table: from `table_of`.
        results: rows of results.csv by the run's name; runs may be missing.
    """
    return table._replace(rows=tuple(_filled(row, table, results) for row in table.rows))


def _filled(row: Row, table: PaperTable, results: Mapping[str, Sequence[ResultRow]]) -> Row:
    cells: list[Cell] = []
    means: list[float] = []
    whole = True
    for cell, (years, kind) in zip(row.cells, table.columns, strict=True):
        if kind in _TITLES.values():
            cells.append(cell)
            continue
        values, note = _scores_on(results.get(cell.run, ()), int(years), kind)
        cells.append(cell._replace(values=values, note=note, comparable=not note))
        whole &= bool(values) and not note
        means.append(float(np.mean(values)) if values else np.nan)
    if whole and means:
        of = {"amean": float(np.mean(means)), "hmean": float(harmonic_mean(means))}
        cells = [
            cell._replace(values=(of[cell.published.metric],))
            if cell.published.metric in MEANS and cell.run
            else cell
            for cell in cells
        ]
    return row._replace(cells=tuple(cells))


def _scores_on(
    results: Sequence[ResultRow], year: int, subset: str
) -> tuple[tuple[float, ...], str]:
    """A run's score for each seed, as fractions, and a note where it is over a part of the set."""
    found = official_set(results, year)
    if found is None or found.subset != subset:
        return (), ""
    note = ""
    if found.n_missing:
        there = found.n_sections - found.n_missing
        note = f"ours on {year} {subset} is over {there} of the {found.n_sections} sections"
    return tuple(set_scores(results, year).tolist()), note
