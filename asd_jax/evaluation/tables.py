"""Tables of results: for the terminal, in results.md, and of several runs side by side."""

import os
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from asd_jax import metrics
from asd_jax.evaluation.citations import Citations, agree, beside
from asd_jax.evaluation.results import MEAN, ResultRow
from asd_jax.metrics import RankingMetrics, mean_over_sections
from asd_jax.published import Published
from asd_jax.runtime.files import atomic_write
from asd_jax.runtime.text_tables import aligned

_METRICS = {"auc": "AUC", "pauc": "pAUC", "pauc_mcclish": "pAUC (McClish)"}
_UNDEFINED = "–"

Key = tuple[str, str, str]
_KEYS = 3  # columns: machine, section, domain
Intervals = Mapping[Key, RankingMetrics]


class Run(NamedTuple):
    """A run to report on.

    Attributes:
        name: heading of its columns.
        year: challenge year of its data.
        results: its rows of results.csv.
    """

    name: str
    year: int
    results: Sequence[ResultRow]


class ResultLine(NamedTuple):
    """A line of a table: counts, and the metrics of every seed (seeds,)."""

    n_normal: int
    n_anomaly: int
    values: RankingMetrics


def format_table(
    results: Sequence[ResultRow],
    year: int,
    intervals: Intervals | None = None,
    published: Sequence[Published] = (),
    notes: Sequence[str] = (),
    width: int | None = None,
) -> str:
    """Formats the table of one run as text for a terminal.

    In percent, mean ± standard deviation over the seeds (n - 1 in its denominator; none for a
    single seed), [the 95 % bootstrap interval of the mean], and the published number.

    Args:
        results: rows of one run.
        year: challenge year.
        intervals: from `intervals.bootstrap_results`; None for none.
        published: numbers of the run's score, as `runs.same_score` finds them. Shown is what
            `citations.beside` chooses.
        notes: lines to add below.
        width: as in `aligned`, for the table.

    Returns:
        Lines, the last without a newline.
    """
    header, rows, legend = results_table(results, year, intervals or {}, published)
    lines = aligned([header, *rows], width=width, keys=_KEYS)
    return "\n".join([*lines, *legend, *notes])


def write_results_md(
    path: os.PathLike | str,
    results: Sequence[ResultRow],
    year: int,
    intervals: Intervals | None = None,
    published: Sequence[Published] = (),
    notes: Sequence[str] = (),
) -> None:
    """Writes the table of `format_table` as Markdown; arguments as there."""
    header, rows, legend = results_table(results, year, intervals or {}, published)
    with atomic_write(path) as file:
        file.write("# Results\n\n" + markdown([header, *rows]) + "\n")
        file.writelines(f"\n{note}\n" for note in [*legend, *notes] if note)


def format_report(
    runs: Sequence[Run],
    published: Sequence[Sequence[Published]] = (),
    width: int | None = None,
) -> str:
    """Formats several runs side by side, AUC and McClish pAUC in percent, a table for each year.

    Args:
        runs: the runs, in the order of the columns.
        published: of each run, as of `format_table`; empty for none. Runs that share their numbers
            share a column of them; else each run's are beside it, under its name.
        width: as in `aligned`.

    Returns:
        Lines, the last without a newline.
    """
    blocks = []
    shown = ("auc", "pauc_mcclish")
    printed = [
        beside(of_run, run.results, run.year)
        for run, of_run in zip(runs, published or [()] * len(runs), strict=True)
    ]
    for year in dict.fromkeys(run.year for run in runs):
        places = [place for place, run in enumerate(runs) if run.year == year]
        columns = [runs[place] for place in places]
        lines = [result_lines(run.results, year) for run in columns]
        numbers = [printed[place] for place in places]
        sources: list[str] = []
        shared = agree(numbers, lines)
        if shared:  # one column, the last
            every = {key: number for own in numbers for key, number in own.items()}
            numbers = [*[{}] * (len(columns) - 1), every]
        citations = [Citations(own, sources) for own in numbers]
        header = ["machine", "section", "domain"]
        for metric in shown:
            for run, cited in zip(columns, citations, strict=True):
                header.append(f"{run.name} {_METRICS[metric]}")
                header += ["published" if shared else f"{run.name} published"] * cited.has(metric)
        rows = []
        for key in sorted(dict.fromkeys(k for of_run in lines for k in of_run), key=_order):
            row = list(key)
            for metric in shown:
                for of_run, cited in zip(lines, citations, strict=True):
                    row.append(_cell(of_run.get(key), metric))
                    row += [cited.cell(key, metric)] * cited.has(metric)
            rows.append(row)
        scores = [f"{run.name}: {text}" for run in columns for text in _official(run.results, year)]
        undefined = [note for run in columns for note in _undefined(run.results)]
        notes = ["", *scores, *citations[0].notes(), *dict.fromkeys(undefined)]
        blocks.append("\n".join([*aligned([header, *rows], width=width, keys=_KEYS), *notes]))
    return "\n\n".join(blocks)


def results_table(
    results: Sequence[ResultRow], year: int, intervals: Intervals, published: Sequence[Published]
) -> tuple[list[str], list[list[str]], list[str]]:
    """Heading, rows and legend of one run's table; arguments as of `format_table`."""
    citations = Citations(beside(published, results, year))
    header = ["machine", "section", "domain", "normal/anomaly"]
    for metric, title in _METRICS.items():
        header += [title] + ["published"] * citations.has(metric)
    rows = []
    for key, line in result_lines(results, year).items():
        row = [*key, f"{line.n_normal}/{line.n_anomaly}"]
        for metric in _METRICS:
            row.append(_cell(line, metric, intervals.get(key)))
            row += [citations.cell(key, metric)] * citations.has(metric)
        rows.append(row)
    notes = ["", *_official(results, year), *_legend(results, year, bool(intervals))]
    return header, rows, notes + citations.notes() + _undefined(results)


def result_lines(results: Sequence[ResultRow], year: int) -> dict[Key, ResultLine]:
    """Every section's line, and every machine's means over its labelled sections."""
    seeds_of: dict[Key, list[ResultRow]] = {}
    for row in results:
        seeds_of.setdefault((row.machine, row.section, row.domain), []).append(row)
    lines = {}
    for key, rows in seeds_of.items():
        rows = sorted(rows, key=lambda row: row.seed)
        values = RankingMetrics(*(np.array([getattr(r, m) for r in rows]) for m in _METRICS))
        lines[key] = ResultLine(rows[0].n_normal, rows[0].n_anomaly, values)
    for machine, domain in dict.fromkeys((key[0], key[2]) for key in seeds_of):
        labelled = [
            line
            for key, line in lines.items()
            if (key[0], key[2]) == (machine, domain) and line.n_normal + line.n_anomaly
        ]
        if labelled:
            lines[machine, MEAN, domain] = ResultLine(
                sum(line.n_normal for line in labelled),
                sum(line.n_anomaly for line in labelled),
                RankingMetrics(
                    *(
                        mean_over_sections([line.values[i] for line in labelled], year, axis=0)
                        for i in range(len(_METRICS))
                    )
                ),
            )
    return dict(sorted(lines.items(), key=lambda item: _order(item[0])))


def _order(key: Key) -> tuple[str, bool, str, int]:
    """Sorts lines by machine, section and domain; a machine's mean comes last."""
    machine, section, domain = key
    return machine, section == MEAN, section, ("all", "source", "target").index(domain)


def _cell(line: ResultLine | None, metric: str, interval: RankingMetrics | None = None) -> str:
    """A metric's text in a line: mean, deviation and interval."""
    if line is None:
        return ""
    values = getattr(line.values, metric)
    text = mean_std(values)
    if interval is not None and text != _UNDEFINED:
        low, high = 100 * getattr(interval, metric)
        text += f" [{low:.1f}, {high:.1f}]"
    return text


def mean_std(values: np.ndarray) -> str:
    """Formats the mean in percent, with the standard deviation if there are several seeds.

    Args:
        values: (seeds,) fractions; the text is a dash without values, or if one is NaN.

    Examples:
        >>> mean_std(np.array([0.9])), mean_std(np.array([0.9, 0.8])), mean_std(np.array([]))
        ('90.00', '85.00 ± 7.07', '–')
    """
    if len(values) == 0 or np.isnan(values).any():
        return _UNDEFINED
    text = f"{100 * values.mean():.2f}"
    return text if len(values) < 2 else f"{text} ± {100 * values.std(ddof=1):.2f}"


def official_values(results: Sequence[ResultRow], year: int) -> dict[str, np.ndarray]:
    """The year's official scores over every labelled row, as fractions.

    Args:
        results: rows of one run.
        year: challenge year.

    Returns:
        Name, as of `metrics.official_score` → (seeds,) values; empty without labels.
    """
    rows = [row for row in results if row.n_normal + row.n_anomaly]
    values: dict[str, list[float]] = {}  # a value for each seed
    for seed in sorted({row.seed for row in rows}):
        own = [row for row in rows if row.seed == seed]
        score = metrics.official_score(
            year,
            [row.domain for row in own],
            [row.auc for row in own],
            [row.pauc_mcclish for row in own],
        )
        for name, value in score.items():
            values.setdefault(name, []).append(float(value))
    return {name: np.array(of_seeds) for name, of_seeds in values.items()}


def _official(results: Sequence[ResultRow], year: int) -> list[str]:
    """The year's official score over every labelled row, mean ± std over the seeds."""
    if year <= 2020:
        label = "mean over all machine ids, {} %: {}"
        names = {"AUC": "AUC", "pAUC": "pAUC (McClish)"}
    else:
        label = f"official score of {year}, {{}} %: {{}}"
        needed = "AUC and pAUC of both domains"
        if year >= 2022:
            needed = "AUC (source), AUC (target) and pAUC"
        names = {"official score": f"harmonic mean of {needed},"}
    values = official_values(results, year)
    return [label.format(names[name], mean_std(of_seeds)) for name, of_seeds in values.items()]


def _legend(results: Sequence[ResultRow], year: int, intervals: bool) -> list[str]:
    seeds = len({row.seed for row in results})
    over = f"mean ± standard deviation over {seeds} seeds" if seeds > 1 else "one seed"
    parts = [f"In percent, {over}"]
    if intervals:
        parts.append("95 % bootstrap interval in brackets")
    mean = "arithmetic" if year <= 2020 else "harmonic"
    parts.append(f'section "{MEAN}": {mean} mean over the sections')
    return ["; ".join(parts) + "."]


def _undefined(results: Sequence[ResultRow]) -> list[str]:
    """A note with every reason for undefined numbers."""
    reasons = []
    for row in results:
        values = (row.auc, row.pauc, row.pauc_mcclish)
        if not np.isnan(values).any():
            continue
        if row.n_normal + row.n_anomaly == 0:
            reasons.append("no labels")
        elif row.n_normal == 0 or row.n_anomaly == 0:
            reasons.append("one class only")
        elif np.isnan(row.auc):
            reasons.append("a score that is not a number")
        else:
            reasons.append("too few normal clips for a pAUC")
    return [f"{_UNDEFINED} undefined: {', '.join(dict.fromkeys(reasons))}."] if reasons else []


def markdown(rows: Sequence[Sequence[str]]) -> str:
    """Formats a Markdown table of a heading and lines, without a newline at its end.

    Examples:
        >>> print(markdown([["machine", "AUC"], ["fan", "90.00"]]))
        | machine | AUC |
        |---|---|
        | fan | 90.00 |
    """
    lines = ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows]
    return "\n".join([lines[0], "|" + "---|" * len(rows[0]), *lines[1:]])
