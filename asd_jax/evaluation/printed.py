"""Tables as papers print them: machines as columns, systems and metrics as rows."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from asd_jax.evaluation.results import ResultRow, ScoreRow
from asd_jax.evaluation.standing import set_scores
from asd_jax.evaluation.tables import markdown, mean_std
from asd_jax.metrics import mean_over_sections
from asd_jax.metrics.jackknife import Jackknife, jackknife

SCORE = "score"
MEAN = "mean"  # the last column
# Title of each line → domain and column of results.csv, by the year from which on it is so.
_LINES: Mapping[int, Mapping[str, tuple[str, str]]] = {
    2020: {"AUC": ("all", "auc"), "pAUC": ("all", "pauc_mcclish")},
    2021: {
        "AUC (source)": ("source", "auc"),
        "AUC (target)": ("target", "auc"),
        "pAUC (source)": ("source", "pauc_mcclish"),
        "pAUC (target)": ("target", "pauc_mcclish"),
        "F1 (source)": ("source", "f1"),
        "F1 (target)": ("target", "f1"),
    },
    2022: {
        "AUC (source)": ("source", "auc"),
        "AUC (target)": ("target", "auc"),
        "pAUC": ("all", "pauc_mcclish"),
        "F1 (source)": ("source", "f1"),
        "F1 (target)": ("target", "f1"),
    },
}


class System(NamedTuple):
    """A system's figures.

    Attributes:
        name: of its rows.
        lines: title of a line → text or (seeds,) fractions of each machine and of `MEAN`. Of a
            baseline, a line or a machine may not be published.
    """

    name: str
    lines: Mapping[str, Mapping[str, np.ndarray | str]]


def lines_of(year: int) -> Mapping[str, tuple[str, str]]:
    """Lines of a year's table: title → domain and column of results.csv.

    Examples:
        >>> [*lines_of(2025)]
        ['AUC (source)', 'AUC (target)', 'pAUC', 'F1 (source)', 'F1 (target)']
    """
    return _LINES[max(first for first in _LINES if first <= max(year, 2020))]


def system_of(name: str, results: Sequence[ResultRow], year: int) -> System:
    """Figures of a run, as the year's official program averages them.

    Args:
        name: of its rows.
        results: its rows of results.csv; those without labels do not count.
        year: challenge year.
    """
    labelled = [row for row in results if row.n_normal + row.n_anomaly]
    machines = sorted({row.machine for row in labelled})
    groups = {machine: [r for r in labelled if r.machine == machine] for machine in machines}
    groups[MEAN] = labelled
    lines: dict[str, dict[str, np.ndarray | str]] = {}
    for title, (domain, metric) in lines_of(year).items():
        lines[title] = {
            column: _mean([row for row in rows if row.domain == domain], metric, year)
            for column, rows in groups.items()
        }
    lines[SCORE] = {column: set_scores(rows, year) for column, rows in groups.items()}
    return System(name, lines)


def _mean(rows: Sequence[ResultRow], metric: str, year: int) -> np.ndarray:
    """(seeds,) means over sections and machines."""
    seeds = sorted({row.seed for row in rows})
    values = [[getattr(row, metric) for row in rows if row.seed == seed] for seed in seeds]
    return mean_over_sections(values, year, axis=1) if values else np.zeros(0)


def interval_lines(name: str, rows: Sequence[ScoreRow], year: int) -> list[str]:
    """The official evaluator's interval of each seed, which it prints since 2022, as one line.

    Args:
        name: of the run.
        rows: its scores.
        year: challenge year.
    """
    labelled = [row for row in rows if row.label >= 0]
    if year < 2022 or not labelled:
        return []
    found = []
    for seed in sorted({row.seed for row in labelled}):
        own = [row for row in labelled if row.seed == seed]
        found.append(jackknife([row.label for row in own], [row.score for row in own]))
    both = Jackknife(*np.mean(found, axis=0).tolist())
    count = sum(row.seed == labelled[0].seed for row in labelled)
    return [
        f"{name}: the evaluator's ci95 is {both.official:.3g}; the jackknife's standard error over "
        f"the {count} clips, of AUC and pAUC of all machines together, is "
        f"{100 * both.standard_error:.2f} %."
    ]


class Cell(NamedTuple):
    """A cell of a printed table.

    Attributes:
        text: what it says.
        is_best: whether it is the best of several systems, which is printed in bold.
    """

    text: str
    is_best: bool = False


def cells(systems: Sequence[System]) -> list[list[Cell]]:
    """Heading and lines: system, metric, machines, mean; the best of a line and column is marked.

    A figure that one system alone has is not.

    Args:
        systems: in the order of the lines.
    """
    machines = sorted({m for s in systems for line in s.lines.values() for m in line} - {MEAN})
    columns = [*machines, MEAN]
    best = {}
    if sum(len(system.lines) > 1 for system in systems) > 1:
        for title in dict.fromkeys(title for system in systems for title in system.lines):
            for column in columns:
                texts = [_text(system, title, column) for system in systems]
                numbers = [
                    (float(text.split()[0]), text) for text in texts if text not in ("", "–")
                ]
                if len(numbers) > 1:
                    best[title, column] = max(numbers)[0]
    table = [[*map(Cell, ("system", "metric", *columns))]]
    for system in systems:
        for i, title in enumerate(system.lines):
            row = [Cell(system.name if i == 0 else ""), Cell(title)]
            for column in columns:
                text = _text(system, title, column)
                number = text.split()[0] if text not in ("", "–") else ""
                is_best = bool(number) and float(number) == best.get((title, column))
                row.append(Cell(text, is_best))
            table.append(row)
    return table


def _text(system: System, title: str, column: str) -> str:
    value = system.lines.get(title, {}).get(column, "")
    return value if isinstance(value, str) else mean_std(value)


def to_markdown(table: Sequence[Sequence[Cell]], notes: Sequence[str] = ()) -> str:
    """A table of `cells` in Markdown, the best in bold.

    Examples:
        >>> table = [[Cell("system"), Cell("fan")], [Cell("a_b"), Cell("90.00", is_best=True)]]
        >>> print(to_markdown(table, ["In percent."]))
        | system | fan |
        |---|---|
        | a_b | **90.00** |
        <BLANKLINE>
        In percent.
    """
    bold = [[f"**{cell.text}**" if cell.is_best else cell.text for cell in row] for row in table]
    return "\n\n".join([markdown(bold), *notes])


def to_latex(table: Sequence[Sequence[Cell]], notes: Sequence[str] = ()) -> str:
    r"""A table of `cells` in LaTeX, the best in bold, notes as comments; it needs no package.

    Examples:
        >>> heading = [Cell("system"), Cell("metric"), Cell("fan")]
        >>> print(to_latex([heading, [Cell("a_b"), Cell("AUC"), Cell("90.00 ± 1.00", True)]]))
        \begin{table}
        \centering
        \begin{tabular}{llr}
        \hline
        system & metric & fan \\
        \hline
        a\_b & AUC & \textbf{90.00 $\pm$ 1.00} \\
        \hline
        \end{tabular}
        \end{table}
    """
    heading, *rows = table
    lines = [
        *(f"% {note}" for note in notes),
        r"\begin{table}",
        r"\centering",
        rf"\begin{{tabular}}{{ll{'r' * (len(heading) - 2)}}}",
        r"\hline",
        _latex_row(heading),
    ]
    for row in rows:
        lines += [r"\hline"] * bool(row[0].text)
        lines.append(_latex_row(row))
    return "\n".join([*lines, r"\hline", r"\end{tabular}", r"\end{table}"])


_ESCAPES = {
    **{character: f"\\{character}" for character in "&%$#_{}"},
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "±": r"$\pm$",
    "–": "--",
}


def _latex_row(row: Sequence[Cell]) -> str:
    texts = []
    for cell in row:
        escaped = "".join(_ESCAPES.get(character, character) for character in cell.text)
        texts.append(rf"\textbf{{{escaped}}}" if cell.is_best else escaped)
    return " & ".join(texts) + r" \\"
