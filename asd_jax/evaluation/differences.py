"""Differences between runs on the same test clips, with paired bootstrap intervals.

A resample draws the same clips for every run, so that what is hard for all of them cancels. That
tells apart runs whose own intervals overlap.
"""

import hashlib
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from asd_jax import metrics
from asd_jax.evaluation.bootstrap import bootstrap, percentile_interval
from asd_jax.evaluation.results import ScoreGroups, ScoreRow, score_groups
from asd_jax.evaluation.row_table import RowTable
from asd_jax.evaluation.tables import aligned
from asd_jax.metrics import mean_over_sections

ALL = "all machines"
_METRICS = ("AUC", "pAUC (McClish)")


class Difference(NamedTuple):
    """By how much a run is better than the first one.

    Attributes:
        machine: machine type; `ALL` for all of them.
        domain: "all", "source" or "target"; "" for `ALL`.
        metric: "AUC", "pAUC (McClish)" or "official score"; of a machine, mean over its sections.
        values: (runs,) of each run, mean over its seeds, as a fraction.
        low: (runs - 1,) lower limits of the 95 % intervals of each run's value minus the first's.
        high: (runs - 1,) upper limits.
    """

    machine: str
    domain: str
    metric: str
    values: np.ndarray
    low: np.ndarray
    high: np.ndarray

    @property
    def difference(self) -> np.ndarray:
        """(runs - 1,) each run's value minus the first's."""
        return self.values[1:] - self.values[0]


class Differences(NamedTuple):
    """Differences of runs.

    Attributes:
        rows: by machine, domain and metric, then those of all machines.
        left_out: machines and sections that the runs scored on different clips.
    """

    rows: tuple[Difference, ...]
    left_out: tuple[str, ...]


def differences(
    runs: Sequence[Sequence[ScoreRow]], year: int, *, n_resamples: int = 1000, seed: int = 0
) -> Differences:
    """Differences of runs from the first one, by a bootstrap of clips that all share.

    As in `bootstrap`, resamples are stratified by label. Each run's metric is its mean over its
    own seeds, whose numbers may differ from run to run.

    Args:
        runs: scores of two or more runs; each one's seeds scored the same clips.
        year: challenge year.
        n_resamples: as in `bootstrap`.
        seed: of the resamples.

    Returns:
        Differences of machines with labelled clips of both classes; values are NaN where a metric
        is undefined.

    Examples:
        >>> def run(scores):
        ...     return [
        ...         ScoreRow("fan", "00", "", 0, str(i), int(i > 1), float(score), 1.0, 0)
        ...         for i, score in enumerate(scores)
        ...     ]
        >>> found = differences([run([0, 3, 2, 4]), run([0, 1, 2, 4])], 2020)
        >>> found.rows[0].values.tolist(), found.rows[0].difference.tolist()
        ([0.75, 1.0], [0.25])
    """
    tables = [RowTable.of(run, ScoreRow) for run in runs]
    common, left_out = _common(tables)
    owner: list[int] = []  # of each seed of all runs
    parts: list[RowTable[ScoreRow]] = []
    for number, table in enumerate(tables):
        seed_column = table.column("seed")
        seeds = {own: len(owner) + i for i, own in enumerate(seed_column.distinct())}
        owner += [number] * len(seeds)
        # A value that no row has is no seed.
        renamed = seed_column.renamed([seeds.get(own, -1) for own in seed_column.values])
        kept = np.zeros(len(table), bool)
        for group, own in table.groups("machine", "section").items():
            kept[own] = group in common
        parts.append(table.replace(seed=renamed)[kept])
    rows = RowTable.concatenate(parts, ScoreRow)
    groups = score_groups(rows, year)
    if groups is None:
        return Differences((), left_out)
    both = [
        g
        for g in range(len(groups.keys))
        if {0, 1} <= set(groups.labels[g][groups.ranked[g]].tolist())
    ]
    if not both:
        return Differences((), left_out)
    chosen = groups._replace(
        keys=tuple(groups.keys[g] for g in both), **{n: getattr(groups, n)[both] for n in _ARRAYS}
    )
    values, resampled = _metrics_of(chosen, n_resamples, seed)
    made = []
    for machine, domain in dict.fromkeys((key[0], key[2]) for key in chosen.keys):
        at = [g for g, key in enumerate(chosen.keys) if (key[0], key[2]) == (machine, domain)]
        for m, metric in enumerate(_METRICS):
            made.append(
                _difference(
                    (machine, domain, metric),
                    mean_over_sections(values[m][at], year, axis=0),
                    mean_over_sections(resampled[m][at], year, axis=0),
                    owner,
                )
            )
    domains = [key[2] for key in chosen.keys]
    scores, draws = (
        # The official score wants groups last: (seeds, groups), (seeds, resamples, groups).
        metrics.official_score(year, domains, *(np.moveaxis(each, 0, -1) for each in part))
        for part in (values, resampled)
    )
    names = {"AUC": _METRICS[0], "pAUC": _METRICS[1]}
    for name in scores:
        key = (ALL, "", names.get(name, name))
        made.append(_difference(key, scores[name], draws[name], owner))
    return Differences(tuple(made), left_out)


def difference_table(names: Sequence[str], found: Differences) -> tuple[list[str], list[list[str]]]:
    """Heading and rows of a table, in percent.

    Args:
        names: of the runs, the first one included.
        found: their differences.
    """
    header = [
        "machine",
        "domain",
        "metric",
        names[0],
        *(f"{name} − {names[0]}" for name in names[1:]),
    ]
    rows = []
    for row in found.rows:
        cells = [
            f"{100 * gain:+.2f} [{100 * low:+.1f}, {100 * high:+.1f}]" if gain == gain else "–"
            for gain, low, high in zip(row.difference, row.low, row.high, strict=True)
        ]
        first = "–" if np.isnan(row.values[0]) else f"{100 * row.values[0]:.2f}"
        rows.append([row.machine, row.domain, row.metric, first, *cells])
    return header, rows


def difference_notes(found: Differences) -> list[str]:
    """What to know of the table."""
    notes = [f"not compared, as the test clips differ: {', '.join(found.left_out)}"]
    legend = (
        "In percent, with the 95 % interval of a bootstrap that draws the same clips for all runs: "
        "an interval without 0 is more than the choice of test clips explains."
    )
    return [legend] * bool(found.rows) + notes * bool(found.left_out)


def difference_lines(
    names: Sequence[str], found: Differences, width: int | None = None
) -> list[str]:
    """The table and its notes as text; arguments as of `difference_table` and `aligned`."""
    header, rows = difference_table(names, found)
    table = aligned([header, *rows], width=width, keys=2) if rows else []
    return [*table, *difference_notes(found)]


_ARRAYS = ("labels", "scores", "decisions", "ranked", "own")


def _common(tables: Sequence[RowTable[ScoreRow]]) -> tuple[set[tuple], tuple[str, ...]]:
    """Machines and sections of which all runs scored the same clips; names of the other ones."""
    of_runs: list[dict[tuple, bytes]] = []
    for table in tables:
        groups = table.groups("machine", "section").items()
        of_runs.append({group: _clips_digest(table[own]) for group, own in groups})
    every = sorted({group for found in of_runs for group in found})
    first = of_runs[0]
    same = {g for g in every if g in first and all(f.get(g) == first[g] for f in of_runs)}
    return same, tuple(" ".join(filter(None, group)) for group in every if group not in same)


def _clips_digest(table: RowTable[ScoreRow]) -> bytes:
    """Digest of the clips of some rows, with their domains and labels, in any order."""
    clips = {(row.clip, row.domain, row.label) for row in table}
    return hashlib.sha256(repr(sorted(clips)).encode("utf-8", "surrogatepass")).digest()


def _metrics_of(
    groups: ScoreGroups, n_resamples: int, seed: int
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """AUC and pAUC, each (groups, seeds), and resampled (groups, seeds, resamples)."""
    labels = groups.labels
    ranked = metrics.ranking_metrics(labels, groups.scores, groups.ranked)
    own = metrics.ranking_metrics(labels, groups.scores, groups.own)
    settings = {"n_resamples": n_resamples, "seed": seed}
    drawn = own_drawn = bootstrap(labels, groups.scores, groups.ranked, **settings)
    if not np.array_equal(groups.own, groups.ranked):
        own_drawn = bootstrap(labels, groups.scores, groups.own, **settings)
    return [ranked.auc, own.pauc_mcclish], [drawn.auc, own_drawn.pauc_mcclish]


def _difference(
    key: tuple[str, str, str], values: np.ndarray, resampled: np.ndarray, owner: Sequence[int]
) -> Difference:
    """A difference from values (seeds,) and (seeds, resamples) of all runs' seeds."""
    runs = np.unique(owner)
    means, drawn = (
        np.stack([part[np.equal(owner, run)].mean(axis=0) for run in runs])
        for part in (values, resampled)
    )
    low, high = np.moveaxis(percentile_interval(drawn[1:] - drawn[0]), -1, 0)
    return Difference(*key, means, low, high)
