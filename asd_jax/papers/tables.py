"""The results tables of the five reports, ours beside theirs.

All five reports average arithmetically: over a machine's sections, and Grollmisch et al. in the
end over all machine ids.
"""

import csv
import functools
import io
import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from asd_jax.data.synthetic.takes import sections_of
from asd_jax.evaluation.results import MEAN, ResultRow, number
from asd_jax.evaluation.tables import aligned, markdown, mean_std
from asd_jax.papers.layouts import PAPERS, outliers_of
from asd_jax.published import Published, load_published

_DASH = "–"
_LEGEND = (
    "In percent: ours, mean ± standard deviation over the seeds; the published number; the "
    "difference, ours − published, in percentage points. pAUC is McClish-standardised, as the "
    f"reports print it. {_DASH}: not in the data, not run, or undefined."
)


class NeededRun(NamedTuple):
    """A run that a report's tables need.

    Attributes:
        name: of the run; that of its configuration where there is one run of it.
        configuration: the configuration's name.
        overrides: dotted keys of it that make this run, to text.
        machines: machine types of the tables, each with the one whose clips must be there as
            well, or "".
    """

    name: str
    configuration: str
    overrides: Mapping[str, str]
    machines: Mapping[str, str]


class Cell(NamedTuple):
    """One printed number and ours.

    Attributes:
        published: the printed number.
        run: name of the run that ours comes from.
        values: ours of each seed, as fractions; empty where there is none.
        note: what a reader must know of ours.
    """

    published: Published
    run: str
    values: tuple[float, ...] = ()
    note: str = ""

    @property
    def difference(self) -> float | None:
        """Our mean minus the published number in percentage points; None where undefined."""
        if not self.values or np.isnan(self.values).any():
            return None
        return 100 * float(np.mean(self.values)) - float(self.published.percent)


class Row(NamedTuple):
    """A line of a table: what the report prints before the numbers, and a cell a column."""

    labels: tuple[str, ...]
    cells: tuple[Cell, ...]


class PaperTable(NamedTuple):
    """A table as a report prints it.

    Attributes:
        paper: our name of the report, as "jalali2020".
        source: the report.
        table: as "Table 1".
        title: its caption.
        row_headings: headings of the rows' labels.
        columns: headings of each column, from the outermost in; as many for all columns.
        rows: the rows.
    """

    paper: str
    source: str
    table: str
    title: str
    row_headings: tuple[str, ...]
    columns: tuple[tuple[str, ...], ...]
    rows: tuple[Row, ...]


# Systems from the quickest to train to the slowest; ensembles after what they are made of.
_QUICK_FIRST = (
    "dense_ae",
    "outlier_exposure_ae",
    "iaeo3",
    "iaeo3_opt",
    "group_made",
    "lstm_ae",
    "mobilenet_v2_baseline",
    "giri2020_system3",
    "giri2020_system2",
    "giri2020_system1",
    "picture_mobilenet",
    "ganomaly",
)


def needed(paper: str) -> tuple[NeededRun, ...]:
    """The runs that a report's tables need, quick ones first.

    Runs of one configuration differ by how an ensemble combines its members (Giri et al.), or
    by the outliers of a machine (Kazakova et al., Table 1).
    """
    found = _runs(paper).values()
    return tuple(sorted(found, key=lambda run: _QUICK_FIRST.index(run.configuration)))


def _printed(paper: str) -> tuple[Published, ...]:
    source = PAPERS[paper].source
    return tuple(published for published in load_published() if published.source == source)


@functools.cache
def _runs(paper: str) -> dict[str, NeededRun]:
    """The runs by name."""
    machines: dict[str, dict[str, str]] = {}
    systems: dict[str, str] = {}
    for table in tables_of(paper):
        for cell in (cell for row in table.rows for cell in row.cells):
            of_run = machines.setdefault(cell.run, {})
            systems[cell.run] = cell.published.system
            if cell.published.machine != MEAN:
                of_run[cell.published.machine] = outliers_of(cell.published)
    runs = {}
    for name, of_run in machines.items():
        configuration, _, combine = systems[name].rpartition("_")
        overrides = {"combine": combine}
        if combine not in ("mean", "max"):
            configuration, overrides = systems[name], {}
        pairs = [f"{machine}:{other}" for machine, other in of_run.items() if other]
        if pairs:
            overrides["detector.outliers"] = ",".join(pairs)
        runs[name] = NeededRun(name, configuration, overrides, of_run)
    return runs


def _run_names(numbers: Sequence[Published]) -> dict[Published, str]:
    """The run of each number: one a system, and one more for each further kind of outliers."""
    names, pairs = {}, {}
    for published in numbers:
        outliers = outliers_of(published)
        name = published.system
        if pairs.setdefault((name, published.machine), outliers) != outliers:
            name = f"{name}-{published.machine}-{outliers}"
        names[published] = name
    return names


@functools.cache
def tables_of(paper: str) -> tuple[PaperTable, ...]:
    """A report's tables with the published numbers, without ours.

    Args:
        paper: one of `PAPERS`.
    """
    source, _, layouts = PAPERS[paper]
    numbers = _printed(paper)
    runs = _run_names(numbers)

    def cell(of_row, fields):
        (found,) = [p for p in of_row if all(getattr(p, k) == v for k, v in fields.items())]
        return Cell(found, runs[found])

    tables = []
    for table, layout in layouts.items():
        of_table = [published for published in numbers if published.table == table]
        rows = []
        for name in layout.rows or dict.fromkeys(published.row for published in of_table):
            of_row = [published for published in of_table if published.row == name]
            cells = tuple(cell(of_row, fields) for _, fields in layout.columns)
            rows.append(Row(layout.labels(cells[0].published), cells))
        columns = tuple(headings for headings, _ in layout.columns)
        tables.append(
            PaperTable(
                paper, source, table, layout.title, layout.row_headings, columns, tuple(rows)
            )
        )
    return tuple(tables)


def fill(
    tables: Sequence[PaperTable], results: Mapping[str, Sequence[ResultRow]]
) -> tuple[PaperTable, ...]:
    """The tables with our numbers.

    A mean is over those of the report's sections that have labelled test clips in the data,
    with a note where some are missing.

    Args:
        tables: of one report, from `tables_of`.
        results: rows of results.csv by the run's name; a run may be missing.
    """

    def filled(cell):
        machines = _runs(tables[0].paper)[cell.run].machines
        return _filled(cell, machines, results.get(cell.run, ()))

    return tuple(
        table._replace(
            rows=tuple(row._replace(cells=tuple(map(filled, row.cells))) for row in table.rows)
        )
        for table in tables
    )


def _filled(cell: Cell, machines: Mapping[str, str], results: Sequence[ResultRow]) -> Cell:
    published = cell.published
    wanted = {
        (machine, section)
        for machine in (machines if published.machine == MEAN else [published.machine])
        for section in (
            sections_of(published.year, "dev", machine)
            if published.section == MEAN
            else [published.section]
        )
    }
    of_section: dict[tuple[str, str], dict[int, float]] = {}
    for row in results:
        key = row.machine, row.section
        if key in wanted and row.domain == published.domain and row.n_normal + row.n_anomaly:
            of_section.setdefault(key, {})[row.seed] = getattr(row, published.metric)
    if not of_section:
        return cell
    seeds = sorted(next(iter(of_section.values())))
    values = np.array([[of_seed[seed] for seed in seeds] for of_seed in of_section.values()])
    note = ""
    if len(of_section) < len(wanted):
        whose = "all machines" if published.machine == MEAN else published.machine
        note = f"ours is a mean over {len(of_section)} of the {len(wanted)} sections of {whose}"
    return cell._replace(values=tuple(values.mean(axis=0).tolist()), note=note)


def as_text(tables: Sequence[PaperTable]) -> str:
    """The tables for a terminal: three lines a row, ours, published and the difference."""
    blocks = []
    for table in tables:
        headings = [[*_blanks(table), *titles] for titles in _heading_lines(table)]
        headings[-1][: len(table.row_headings)] = table.row_headings
        lines = aligned([*headings, *_lines(table)], len(headings))
        title = f"{table.source}, {table.table}: {table.title}"
        blocks.append("\n".join([title, "", *(line.rstrip() for line in lines), *_notes(table)]))
    return "\n\n".join([*blocks, _LEGEND])


def as_markdown(tables: Sequence[PaperTable]) -> str:
    """The tables of `as_text` as Markdown, with a newline at the end."""
    blocks = []
    for table in tables:
        heading = [*table.row_headings, "", *(" ".join(column) for column in table.columns)]
        blocks += [
            f"## {table.source}, {table.table}: {table.title}",
            markdown([heading, *_lines(table)]),
            *_notes(table),
        ]
    return "\n\n".join([*blocks, _LEGEND]) + "\n"


def as_csv(tables: Sequence[PaperTable]) -> str:
    """One line a printed number; ours and the difference are empty where there are none."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(
        ["paper", "table", "row", "column", "system", "machine", "section", "domain", "metric"]
        + ["ours_mean", "ours_std", "n_seeds", "published", "difference", "note"]
    )
    for table in tables:
        for row in table.rows:
            for column, cell in zip(table.columns, row.cells, strict=True):
                values, difference = 100 * np.array(cell.values), cell.difference
                known = difference is not None
                published = cell.published
                writer.writerow(
                    [table.paper, table.table, published.row, " ".join(column)]
                    + [published.system, published.machine, published.section]
                    + [published.domain, published.metric]
                    + [number(values.mean()) if known else ""]
                    + [number(values.std(ddof=1)) if known and len(values) > 1 else ""]
                    + [len(values), published.percent]
                    + [number(difference) if known else ""]
                    + ["; ".join(filter(None, (cell.note, published.note)))]
                )
    return text.getvalue()


def _blanks(table: PaperTable) -> list[str]:
    """In place of the labels and of the word that says what a line is."""
    return [""] * (len(table.row_headings) + 1)


def _heading_lines(table: PaperTable) -> list[list[str]]:
    """Headings from the outermost in; one that goes on from the column before is not repeated."""
    lines = []
    for level in range(len(table.columns[0])):
        titles = [column[: level + 1] for column in table.columns]
        again = [False, *(a == b for a, b in zip(titles, titles[1:], strict=False))]
        lines.append(["" if same else t[-1] for t, same in zip(titles, again, strict=True)])
    return lines


def _lines(table: PaperTable) -> list[list[str]]:
    """Three lines a row."""
    lines = []
    for row in table.rows:
        ours = [mean_std(np.array(cell.values)) for cell in row.cells]
        printed = [cell.published.percent for cell in row.cells]
        differences = [
            _DASH if cell.difference is None else f"{cell.difference:+.2f}" for cell in row.cells
        ]
        lines.append([*row.labels, "ours", *ours])
        lines.append([*_blanks(table)[1:], "published", *printed])
        lines.append([*_blanks(table)[1:], "difference", *differences])
    return lines


def _notes(table: PaperTable) -> list[str]:
    """Notes on the cells, with their rows where not all rows have them."""
    rows: dict[str, dict[str, None]] = {}
    for cell in (cell for row in table.rows for cell in row.cells):
        for note in [*cell.published.note.split("; "), cell.note]:
            # Which outliers a row has, it says itself.
            if note and not re.fullmatch(r"outliers: \w+", note):
                rows.setdefault(note, {})[cell.published.row] = None
    everywhere = len(table.rows)
    return [
        note if len(found) == everywhere else f"{', '.join(found)}: {note}"
        for note, found in rows.items()
    ]
