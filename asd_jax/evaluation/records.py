"""The numbers of result tables as records, for programs."""

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from asd_jax.evaluation.citations import beside
from asd_jax.evaluation.results import MEAN
from asd_jax.evaluation.tables import Intervals, Run, official_values, result_lines
from asd_jax.published import Published

# Metrics of the records of official scores, by their names in `metrics.official_score`.
_OFFICIAL = {"AUC": "auc", "pAUC": "pauc_mcclish", "official score": "official_score"}


class MetricRecord(NamedTuple):
    """One metric of one line of a result table.

    Attributes:
        run: name of the run.
        year: challenge year of its data; 0 for MIMII, −1 for recordings of one's own.
        machine: machine type; "mean" for the year's official scores over all machines.
        section: section; "mean" for a machine's mean over its sections.
        domain: "all", "source" or "target".
        metric: "auc", "pauc" or "pauc_mcclish", a column of results.csv; or "official_score".
        n_normal: normal test clips; None of official scores.
        n_anomaly: anomalous test clips; None of official scores.
        seeds: seeds, ascending.
        values: the metric of each seed, as a fraction.
        mean: mean of the values; NaN if one is undefined.
        std: their standard deviation, n − 1 in its denominator; None for a single seed.
        low: lower limit of the 95 % bootstrap interval of the mean, as a fraction; None for none.
        high: upper limit.
        published_percent: the published number, in percent as printed; None for none.
        published_source: where it is printed.
    """

    run: str
    year: int
    machine: str
    section: str
    domain: str
    metric: str
    n_normal: int | None
    n_anomaly: int | None
    seeds: tuple[int, ...]
    values: tuple[float, ...]
    mean: float
    std: float | None
    low: float | None = None
    high: float | None = None
    published_percent: float | None = None
    published_source: str | None = None


def metric_records(
    run: Run, intervals: Intervals, published: Sequence[Published] = ()
) -> Iterator[MetricRecord]:
    """Yields every number of a run's table: lines, metrics, official scores.

    Args:
        run: the run.
        intervals: from `intervals.bootstrap_results`.
        published: as of `tables.format_table`.
    """
    seeds = tuple(sorted({row.seed for row in run.results}))
    printed = beside(published, run.results, run.year)
    for key, line in result_lines(run.results, run.year).items():
        for metric, values in line.values._asdict().items():
            low, high = getattr(intervals[key], metric) if key in intervals else (None, None)
            row = printed.get((key, metric))
            yield MetricRecord(
                *(run.name, run.year, *key, metric, line.n_normal, line.n_anomaly, seeds),
                *_summary(values),
                low=None if low is None else float(low),
                high=None if high is None else float(high),
                published_percent=float(row.percent) if row else None,
                published_source=f"{row.source}, {row.table}" if row else None,
            )
    for name, values in official_values(run.results, run.year).items():
        place = run.name, run.year, MEAN, MEAN, "all", _OFFICIAL[name], None, None, seeds
        yield MetricRecord(*place, *_summary(values))


def _summary(values: np.ndarray) -> tuple[tuple[float, ...], float, float | None]:
    """Values (seeds,), their mean, and their standard deviation."""
    if len(values) == 0 or np.isnan(values).any():
        return tuple(values.tolist()), math.nan, None
    std = float(values.std(ddof=1)) if len(values) > 1 else None
    return tuple(values.tolist()), float(values.mean()), std
