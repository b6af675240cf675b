"""The tables of reports as text, Markdown and CSV."""

import csv
import io
import re
from collections.abc import Sequence

import numpy as np

from asd_jax.evaluation.row_files import number
from asd_jax.evaluation.tables import markdown, mean_std
from asd_jax.papers.measures import FORMULA, PRINTED
from asd_jax.papers.tables import Cell, PaperTable
from asd_jax.runtime.text_tables import aligned

_DASH = "–"
_LEGEND = (
    "In percent: ours, mean ± standard deviation over the seeds; the published number; the "
    "difference, ours − published, in percentage points. pAUC is McClish-standardised, as the "
    f"reports print it. {_DASH}: not in the data, not run, or undefined; as a difference also: "
    "ours and the published number are not of the same."
)
_LEGENDS = {
    FORMULA: f'"{FORMULA}": pAUC by the challenge\'s formula, not standardised, of which no report '
    "prints a number: the share of right pairs among the ⌊0.1 N⌋ highest-scoring of N normal "
    "clips; ties count half.",
    PRINTED: f'"{PRINTED}": pAUC by the report\'s equation 2 as printed, of ⌊0.1 N / 2⌋ normal '
    "clips; ties count nothing.",
}


def as_text(tables: Sequence[PaperTable]) -> str:
    """Formats tables for a terminal, with lines for ours, published and difference of each row.

    Of pAUC, ours is there by other formulas, too.
    """
    blocks = []
    for table in tables:
        headings = [[*_blanks(table), *titles] for titles in _heading_lines(table)]
        headings[-1][: len(table.row_headings)] = table.row_headings
        lines = aligned([*headings, *_lines(table)], len(headings))
        title = f"{table.source}, {table.table}: {table.title}"
        blocks.append("\n".join([title, "", *(line.rstrip() for line in lines), *_notes(table)]))
    return "\n\n".join([*blocks, "\n".join(_legends(tables))])


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
    return "\n\n".join([*blocks, *_legends(tables)]) + "\n"


def _legends(tables: Sequence[PaperTable]) -> list[str]:
    """What the lines of some tables say."""
    cells = [cell for table in tables for row in table.rows for cell in row.cells]
    return [_LEGEND, *(_LEGENDS[name] for name in _others(cells))]


def _others(cells: Sequence[Cell]) -> list[str]:
    """The other formulas of some cells."""
    return [name for name in _LEGENDS if any(name in cell.also for cell in cells)]


def as_csv(tables: Sequence[PaperTable]) -> str:
    """Formats tables as CSV, a line for each cell; missing values are empty."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(
        ["paper", "table", "row", "column", "system", "machine", "section", "domain", "metric"]
        + ["ours_mean", "ours_std", "n_seeds", "published", "difference", "note"]
        + ["ours_formula_mean", "ours_formula_std", "ours_printed_mean", "ours_printed_std"]
    )
    for table in tables:
        for row in table.rows:
            for column, cell in zip(table.columns, row.cells, strict=True):
                published, difference = cell.published, cell.difference
                writer.writerow(
                    [table.paper, table.table, published.row, " ".join(column)]
                    + [published.system, published.machine, published.section]
                    + [published.domain, published.metric]
                    + _summary(cell.values)
                    + [len(cell.values), published.percent]
                    + ["" if difference is None else number(difference)]
                    + ["; ".join(filter(None, (cell.note, published.note)))]
                    + _summary(cell.also.get(FORMULA, ()))
                    + _summary(cell.also.get(PRINTED, ()))
                )
    return text.getvalue()


def _summary(fractions: Sequence[float]) -> list[str]:
    """Mean and standard deviation in percent; "" where there is none."""
    values = 100 * np.array(fractions)
    if not len(values) or np.isnan(values).any():
        return ["", ""]
    return [number(values.mean()), number(values.std(ddof=1)) if len(values) > 1 else ""]


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
    """Lines for each row: ours, by other formulas, published, difference."""
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
        for name in _others(row.cells):
            values = [mean_std(np.array(c.also[name])) if name in c.also else "" for c in row.cells]
            lines.append([*_blanks(table)[1:], name, *values])
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
    notes = [
        note if len(names) == everywhere else f"{', '.join(names)}: {note}"
        for note, names in rows.items()
    ]
    return [*notes, *[table.note] * bool(table.note)]
