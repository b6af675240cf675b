"""The results tables of the five reports, our numbers beside theirs.

All five reports use arithmetic means: over a machine's sections, and Grollmisch et al. also over
all machine ids.
"""

import csv
import functools
import io
import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from asd_jax.config import nearest, shipped_configs
from asd_jax.data.synthetic.takes import sections_of
from asd_jax.errors import UserError
from asd_jax.evaluation.results import MEAN, ResultRow
from asd_jax.evaluation.row_files import number
from asd_jax.evaluation.tables import markdown, mean_std
from asd_jax.papers.layouts import PAPERS
from asd_jax.published import Published, configuration_of, load_published
from asd_jax.runtime.text_tables import aligned

_DASH = "–"
_LEGEND = (
    "In percent: ours, mean ± standard deviation over the seeds; the published number; the "
    "difference, ours − published, in percentage points. pAUC is McClish-standardised, as the "
    f"reports print it. {_DASH}: not in the data, not run, or undefined."
)


class NeededRun(NamedTuple):
    """A run that a report's tables need.

    Attributes:
        name: of the run; the configuration's if it has one run.
        configuration: the configuration's name.
        overrides: dotted keys that this run changes in its configuration, with their texts.
        machines: machine types of the tables, each with the machine type of its outliers, or "".
    """

    name: str
    configuration: str
    overrides: Mapping[str, str]
    machines: Mapping[str, str]


class Cell(NamedTuple):
    """A printed number and ours.

    Attributes:
        published: the printed number.
        run: name of our run; "" for none.
        values: our number for each seed, as fractions; may be empty.
        note: a remark on our number.
        comparable: whether our number is of what the printed one is of.
    """

    published: Published
    run: str
    values: tuple[float, ...] = ()
    note: str = ""
    comparable: bool = True

    @property
    def difference(self) -> float | None:
        """Our mean minus the published number in percentage points; None if undefined."""
        if not self.values or np.isnan(self.values).any() or not self.comparable:
            return None
        return 100 * float(np.mean(self.values)) - float(self.published.percent)


class Row(NamedTuple):
    """A row of a table: its labels, and a cell for each column."""

    labels: tuple[str, ...]
    cells: tuple[Cell, ...]


class PaperTable(NamedTuple):
    """A table in the arrangement of a report.

    Attributes:
        paper: our name of the report, like "jalali2020".
        source: the report.
        table: its number, like "Table 1".
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


# Systems from the quickest to train to the slowest; ensembles after their members.
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
    by the outliers of a machine or that there are none (Kazakova et al., Table 1).
    """
    places = {name: place for place, name in enumerate(_QUICK_FIRST)}
    runs = _runs(paper).values()
    return tuple(sorted(runs, key=lambda run: places.get(run.configuration, len(places))))


def _printed(paper: str) -> tuple[Published, ...]:
    """All numbers of a report."""
    source = PAPERS[paper].source
    return tuple(published for published in load_published() if published.source == source)


@functools.cache
def _runs(paper: str) -> dict[str, NeededRun]:
    """The runs of a report's tables by name."""
    # For each run, its machines with the machines of their outliers, and its system.
    machines: dict[str, dict[str, str]] = {}
    systems: dict[str, Published] = {}
    for table in tables_of(paper):
        for cell in (cell for row in table.rows for cell in row.cells):
            outliers = machines.setdefault(cell.run, {})
            systems.setdefault(cell.run, cell.published)
            if cell.published.machine != MEAN:
                outliers[cell.published.machine] = cell.published.outliers
    runs = {}
    for name, outliers in machines.items():
        configuration, overrides = _configuration_of(systems[name])
        pairs = [f"{machine}:{other}" for machine, other in outliers.items() if other]
        if pairs:
            overrides["detector.outliers"] = ",".join(pairs)
        runs[name] = NeededRun(name, configuration, overrides, outliers)
    return runs


def _configuration_of(published: Published) -> tuple[str, dict[str, str]]:
    """Configuration of a number's system, and what a run changes in it.

    Raises:
        UserError: there is no such configuration.
    """
    configuration, overrides = configuration_of(published.system)
    known = shipped_configs()
    if configuration not in known:
        raise UserError(
            f"{published.where}: there is no configuration of system {published.system!r}"
            f"{nearest(configuration, [*known])}; add configs/{configuration}.py, or correct it"
        )
    return configuration, overrides


def _run_names(numbers: Sequence[Published]) -> dict[Published, str]:
    """The run of each number: one for a system, and one for each further kind of its outliers."""
    names: dict[Published, str] = {}
    pairs: dict[tuple[str, str], str] = {}
    for published in numbers:
        outliers = published.outliers
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

    Examples:
        >>> table = tables_of("jalali2020")[0]
        >>> table.source, table.table, len(table.columns)
        ('Jalali et al. 2020', 'Table 1', 4)
    """
    source, _, layouts = PAPERS[paper]
    numbers = _printed(paper)
    runs = _run_names(numbers)
    placed: set[Published] = set()

    def cell(row_numbers: Sequence[Published], fields: Mapping[str, str]) -> Cell:
        """The cell of the one number of a row that has a column's fields."""
        found = [p for p in row_numbers if all(getattr(p, k) == v for k, v in fields.items())]
        if len(found) != 1:
            column = " ".join(fields.values())
            raise UserError(
                f"{row_numbers[0].where}: {row_numbers[0].table}, row {row_numbers[0].row!r}, has "
                f"{len(found)} numbers for the column {column}; it must have one"
            )
        placed.add(found[0])
        return Cell(found[0], runs[found[0]])

    tables = []
    for table, layout in layouts.items():
        table_numbers = [published for published in numbers if published.table == table]
        rows = []
        for name in layout.rows or dict.fromkeys(published.row for published in table_numbers):
            row_numbers = [published for published in table_numbers if published.row == name]
            cells = tuple(cell(row_numbers, fields) for _, fields in layout.columns)
            rows.append(Row(layout.labels(cells[0].published), cells))
        columns = tuple(headings for headings, _ in layout.columns)
        tables.append(
            PaperTable(
                paper, source, table, layout.title, layout.row_headings, columns, tuple(rows)
            )
        )
    # A printed number may be listed for two systems, one of which stands in its column.
    shown = {number._replace(system="", note="", where="") for number in placed}
    lost = next((n for n in numbers if n._replace(system="", note="", where="") not in shown), None)
    if lost is not None:
        raise UserError(
            f"{lost.where}: {lost.table}, row {lost.row!r}, system {lost.system!r}, has no place "
            f"in the tables of {paper}; add it to papers/layouts.py, or correct it"
        )
    return tuple(tables)


def fill(
    tables: Sequence[PaperTable], results: Mapping[str, Sequence[ResultRow]]
) -> tuple[PaperTable, ...]:
    """Fills our numbers into a report's tables.

    A mean is over the report's sections with labelled test clips in the data; a note names the
    number of missing sections.

    Args:
        tables: of one report, from `tables_of`.
        results: rows of results.csv by the run's name; runs may be missing.
    """

    def filled(cell: Cell) -> Cell:
        machines = _runs(tables[0].paper)[cell.run].machines
        return _filled(cell, machines, results.get(cell.run, ()))

    return tuple(
        table._replace(
            rows=tuple(row._replace(cells=tuple(map(filled, row.cells))) for row in table.rows)
        )
        for table in tables
    )


def _filled(cell: Cell, machines: Mapping[str, str], results: Sequence[ResultRow]) -> Cell:
    """The cell with our numbers from a run's results."""
    published = cell.published
    # Machines and sections that the printed number averages.
    wanted = {
        (machine, section)
        for machine in (machines if published.machine == MEAN else [published.machine])
        for section in (
            sections_of(published.year, "dev", machine)
            if published.section == MEAN
            else [published.section]
        )
    }
    sections: dict[tuple[str, str], dict[int, float]] = {}  # values by seed
    for row in results:
        key = row.machine, row.section
        if key in wanted and row.domain == published.domain and row.n_normal + row.n_anomaly:
            sections.setdefault(key, {})[row.seed] = getattr(row, published.metric)
    if not sections:
        return cell
    seeds = sorted(next(iter(sections.values())))
    values = np.array([[by_seed[seed] for seed in seeds] for by_seed in sections.values()])
    note = ""
    if len(sections) < len(wanted):
        whose = "all machines" if published.machine == MEAN else published.machine
        note = f"ours is a mean over {len(sections)} of the {len(wanted)} sections of {whose}"
    return cell._replace(values=tuple(values.mean(axis=0).tolist()), note=note)


def as_text(tables: Sequence[PaperTable]) -> str:
    """Formats tables for a terminal, with three lines a row: ours, published, difference."""
    blocks = []
    for table in tables:
        headings = [[*_blanks(table), *titles] for titles in _heading_lines(table)]
        headings[-1][: len(table.row_headings)] = table.row_headings
        lines = aligned([*headings, *_lines(table)], len(headings))
        title = f"{table.source}, {table.table}: {table.title}"
        blocks.append("\n".join([title, "", *(line.rstrip() for line in lines), *_notes(table)]))
    return "\n\n".join([*blocks, _LEGEND])


def as_markdown(tables: Sequence[PaperTable]) -> str:
    """Formats tables as Markdown, with a newline at the end."""
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
    """Formats tables as CSV, a line for each printed number; missing values are empty."""
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
                known = len(values) > 0 and not np.isnan(values).any()
                published = cell.published
                writer.writerow(
                    [table.paper, table.table, published.row, " ".join(column)]
                    + [published.system, published.machine, published.section]
                    + [published.domain, published.metric]
                    + [number(values.mean()) if known else ""]
                    + [number(values.std(ddof=1)) if known and len(values) > 1 else ""]
                    + [len(values), published.percent]
                    + ["" if difference is None else number(difference)]
                    + ["; ".join(filter(None, (cell.note, published.note)))]
                )
    return text.getvalue()


def _blanks(table: PaperTable) -> list[str]:
    """Empty cells above the labels and the word "ours", "published" or "difference"."""
    return [""] * (len(table.row_headings) + 1)


def _heading_lines(table: PaperTable) -> list[list[str]]:
    """Lines of headings from the outermost in; a heading over several columns is printed once."""
    lines = []
    for level in range(len(table.columns[0])):
        titles = [column[: level + 1] for column in table.columns]
        again = [False, *(a == b for a, b in zip(titles, titles[1:], strict=False))]
        lines.append(["" if same else t[-1] for t, same in zip(titles, again, strict=True)])
    return lines


def _lines(table: PaperTable) -> list[list[str]]:
    """Three lines for each row."""
    lines = []
    for row in table.rows:
        ours = [mean_std(np.array(cell.values)) for cell in row.cells]
        printed = [cell.published.percent or _DASH for cell in row.cells]
        if not any(cell.run for cell in row.cells):  # a system that we do not have
            lines.append([*row.labels, "published", *printed])
            continue
        differences = [
            _DASH if cell.difference is None else f"{cell.difference:+.2f}" for cell in row.cells
        ]
        lines.append([*row.labels, "ours", *ours])
        lines.append([*_blanks(table)[1:], "published", *printed])
        lines.append([*_blanks(table)[1:], "difference", *differences])
    return lines


def _notes(table: PaperTable) -> list[str]:
    """Notes on the cells, with the names of their rows unless all rows have them."""
    rows: dict[str, dict[str, None]] = {}
    for cell in (cell for row in table.rows for cell in row.cells):
        for note in [*cell.published.note.split("; "), cell.note]:
            # The labels of a row name its outliers already.
            if note and not re.fullmatch(r"outliers: \w+", note):
                rows.setdefault(note, {})[cell.published.row] = None
    everywhere = len(table.rows)
    return [
        note if len(names) == everywhere else f"{', '.join(names)}: {note}"
        for note, names in rows.items()
    ]
