"""The results tables of the five reports, our numbers beside theirs.

All five reports use arithmetic means: over a machine's sections; Jalali et al. also over machine
types, and Grollmisch et al. over all machine ids.
"""

import functools
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from asd_jax.config import difference, load_config, nearest, shipped_configs, to_dict
from asd_jax.errors import UserError
from asd_jax.papers.layouts import PAPERS
from asd_jax.papers.measures import RunNumbers, measure
from asd_jax.published import Published, configuration_of, load_published


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
        published: the printed number; without a percent, what it would be of.
        run: name of our run; "" for none.
        values: our number for each seed, as fractions; may be empty.
        note: a remark on our number.
        comparable: whether our number is of what the printed one is of.
        also: our number by other formulas, see `measures`.
    """

    published: Published
    run: str
    values: tuple[float, ...] = ()
    note: str = ""
    comparable: bool = True
    also: Mapping[str, tuple[float, ...]] = {}

    @property
    def difference(self) -> float | None:
        """Our mean minus the published number in percentage points; None if undefined."""
        if not self.values or np.isnan(self.values).any():
            return None
        if not self.comparable or not self.published.percent:
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
        note: a remark on all of it; "" for none.
    """

    paper: str
    source: str
    table: str
    title: str
    row_headings: tuple[str, ...]
    columns: tuple[tuple[str, ...], ...]
    rows: tuple[Row, ...]
    note: str = ""


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


_OF_DECISIONS = ("threshold", "threshold_quantile", "threshold_deviations")


def decided_otherwise(paper: str, run: str, stored: Mapping[str, Any]) -> str:
    """How a run's thresholds are made otherwise than the report's; "" where they are alike.

    Args:
        paper: one of `PAPERS`.
        run: name of the run.
        stored: its configuration, of one system.
    """
    needs = _runs(paper)[run]
    own = to_dict(load_config(needs.configuration, needs.overrides))

    def chosen(settings: Mapping[str, Any]) -> dict[str, Any]:
        split = {"train.threshold_split": settings["train"]["threshold_split"]}
        return {**{key: settings[key] for key in _OF_DECISIONS}, **split}

    lines = difference(chosen(own), chosen(stored))
    return "; ".join(
        line.replace(" there and ", " in this run and ").replace(" here", " there")
        for line in lines
    )


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
            outliers |= dict.fromkeys(cell.published.machines, cell.published.outliers)
    runs = {}
    for name, outliers in machines.items():
        configuration, overrides = _configuration_of(systems[name])
        pairs = [f"{machine}:{other}" for machine, other in outliers.items() if other]
        if pairs:
            overrides["detector.outliers"] = ",".join(pairs)
        overrides |= PAPERS[paper].settings.get(name, {})
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
    source, layouts = PAPERS[paper].source, PAPERS[paper].layouts
    numbers = _printed(paper)
    runs = _run_names(numbers)
    placed: set[Published] = set()

    def cell(row_numbers: Sequence[Published], fields: Mapping[str, str], has_gaps: bool) -> Cell:
        """The cell of the one number of a row that has a column's fields."""
        found = [p for p in row_numbers if all(getattr(p, k) == v for k, v in fields.items())]
        if has_gaps and not found:
            system = fields["system"]
            missing = row_numbers[0]._replace(system=system, percent="", note="", where="")
            return Cell(missing, system)
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
            cells = tuple(
                cell(row_numbers, fields, layout.has_gaps) for _, fields in layout.columns
            )
            rows.append(Row(layout.labels(cells[0].published), cells))
        columns = tuple(headings for headings, _ in layout.columns)
        headings = layout.title, layout.row_headings, columns
        tables.append(PaperTable(paper, source, table, *headings, tuple(rows), layout.note))
    # A printed number may be listed for two systems, one of which stands in its column.
    shown = {number._replace(system="", note="", where="") for number in placed}
    lost = next((n for n in numbers if n._replace(system="", note="", where="") not in shown), None)
    if lost is not None:
        raise UserError(
            f"{lost.where}: {lost.table}, row {lost.row!r}, system {lost.system!r}, has no place "
            f"in the tables of {paper}; add it to papers/layouts.py, or correct it"
        )
    return tuple(tables)


def fill(tables: Sequence[PaperTable], runs: Mapping[str, RunNumbers]) -> tuple[PaperTable, ...]:
    """Fills our numbers into a report's tables.

    A mean is over the report's sections with labelled test clips in the data; where some are
    missing, a note names their number, and there is no difference.

    Args:
        tables: of one report, from `tables_of`.
        runs: numbers of runs by name; runs may be missing.
    """

    def filled(cell: Cell) -> Cell:
        numbers = runs.get(cell.run)
        if numbers is None:
            return cell
        published = cell.published
        machines = _runs(tables[0].paper)[cell.run].machines
        values, also, note = measure(published, machines, numbers)
        comparable = published.is_clear and not note
        comparable &= numbers.comparable is None or published in numbers.comparable
        return cell._replace(values=values, also=also, note=note, comparable=comparable)

    return tuple(
        table._replace(
            rows=tuple(row._replace(cells=tuple(map(filled, row.cells))) for row in table.rows)
        )
        for table in tables
    )
