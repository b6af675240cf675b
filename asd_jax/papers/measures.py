"""Our numbers of a run: the quantities that reports print, from results.csv and scores.csv.

A report's pAUC is printed as the official program gives it, and stands beside ours of that kind.
Two more kinds are shown without a difference:

`FORMULA`, the column `pauc` of results.csv: the challenge's formula, the share of (normal, anomaly)
pairs in the right order among the floor(0.1 N) highest-scoring of N normal clips, ties half.
`PRINTED`, a report's own formula to the letter. Equation 2 of Jalali et al. has floor(p N / 2)
clips, and its H(0) is 0, so that ties count nothing.
"""

import warnings
from collections.abc import Iterable, Mapping, Sequence, Set
from typing import NamedTuple

import numpy as np

from asd_jax import metrics
from asd_jax.data.synthetic.takes import sections_of
from asd_jax.evaluation.results import MEAN, ResultRow, ScoreRow, groups_of
from asd_jax.evaluation.row_table import RowTable
from asd_jax.published import POOLED, RATES, Published

FORMULA = "ours, formula"
PRINTED = "ours, eq. 2"

Place = tuple[str, str]  # machine and section
BySeed = Mapping[int, float]


class RunNumbers(NamedTuple):
    """What the numbers of a run are made of.

    Attributes:
        results: rows of results.csv.
        printed_paucs: pAUC of each section by the report's formula as printed, by seed.
        counts: decisions of each section, each (seeds,) in the order of `seeds`.
        seeds: ascending.
        comparable: the published numbers that are of the run's score and may be of its recordings;
            None for all.
    """

    results: Sequence[ResultRow]
    printed_paucs: Mapping[Place, BySeed] = {}
    counts: Mapping[Place, metrics.Confusion] = {}
    seeds: tuple[int, ...] = ()
    comparable: Set[Published] | None = None


def with_scores(numbers: RunNumbers, rows: Iterable[ScoreRow], max_fpr: float) -> RunNumbers:
    """Adds what scores.csv gives; sections without labels have none of it.

    Args:
        numbers: of the run.
        rows: its scores, of recordings without domains, as those of 2020.
        max_fpr: as of `layouts.Paper`.
    """
    paucs: dict[Place, BySeed] = {}
    counts: dict[Place, metrics.Confusion] = {}
    seeds: tuple[int, ...] = ()
    for group in groups_of(RowTable.of(rows, ScoreRow), 2020):
        place, seeds = group.key[:2], group.seeds
        if not (group.labels >= 0).any():
            continue
        counts[place] = metrics.confusion_counts(group.labels, group.decisions, group.own)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # undefined is a dash in the tables
            values = metrics.pauc(group.labels, group.scores, group.own, max_fpr, False, "none")
        paucs[place] = dict(zip(seeds, values.tolist(), strict=True))
    return numbers._replace(printed_paucs=paucs, counts=counts, seeds=seeds)


class Measured(NamedTuple):
    """Our number of what a published one is of.

    Attributes:
        values: for each seed, as fractions; empty for none.
        also: of a pAUC: the same by other formulas, by what they are called.
        note: what it lacks of the published number's sections; "" for nothing.
    """

    values: tuple[float, ...] = ()
    also: Mapping[str, tuple[float, ...]] = {}
    note: str = ""


def measure(published: Published, machines: Iterable[str], numbers: RunNumbers) -> Measured:
    """Our number, by the report's means: arithmetic, over what the published one is over.

    A mean, or the decisions of a machine, are over those of the report's sections that have labels
    in the data.

    Args:
        published: the number.
        machines: of the report, which a number of all machines is over.
        numbers: of the run.
    """
    of_all = published.section in (MEAN, POOLED)
    wanted = {
        (machine, section)
        for machine in published.machines or machines
        for section in (
            sections_of(published.year, "dev", machine) if of_all else [published.section]
        )
    }
    if published.metric in RATES:
        there = wanted & numbers.counts.keys()
        values = _rates(published.metric, there, numbers)
        return Measured(values, {}, _lack("ours is of", there, wanted, published))
    by_metric = {
        metric: _sections(numbers.results, wanted, published.domain, metric)
        for metric in dict.fromkeys((published.metric, "pauc"))
    }
    of_metric = by_metric[published.metric]
    if not of_metric:
        return Measured()
    # Groups that are averaged one by one, and then with each other.
    groups = [[m] for m in published.machines] or [[*machines]]
    also = {}
    if published.metric == "pauc_mcclish":
        printed = {
            place: numbers.printed_paucs[place]
            for place in of_metric.keys() & {*numbers.printed_paucs}
        }
        also = {FORMULA: _mean(by_metric["pauc"], groups), PRINTED: _mean(printed, groups)}
    return Measured(
        _mean(of_metric, groups),
        {name: values for name, values in also.items() if values},
        _lack("ours is a mean over", of_metric.keys(), wanted, published),
    )


def _lack(what: str, there: Set[Place], wanted: Set[Place], published: Published) -> str:
    if not there or len(there) == len(wanted):
        return ""
    whose = ", ".join(published.machines) or "all machines"
    return f"{what} {len(there)} of the {len(wanted)} sections of {whose}"


def _sections(
    results: Sequence[ResultRow], wanted: Set[Place], domain: str, metric: str
) -> dict[Place, dict[int, float]]:
    """A metric of the labelled ones of some sections, by seed."""
    found: dict[Place, dict[int, float]] = {}
    for row in results:
        place = row.machine, row.section
        if place in wanted and row.domain == domain and row.n_normal + row.n_anomaly:
            found.setdefault(place, {})[row.seed] = getattr(row, metric)
    return found


def _mean(
    of_sections: Mapping[Place, BySeed], groups: Sequence[Sequence[str]]
) -> tuple[float, ...]:
    """Mean over groups of machines of the mean over a group's sections, for each seed."""
    if not of_sections:
        return ()
    seeds = sorted(next(iter(of_sections.values())))
    means = []
    for group in groups:
        own = [values for (machine, _), values in of_sections.items() if machine in group]
        if own:
            means.append(np.mean([[values[seed] for seed in seeds] for values in own], axis=0))
    return tuple(np.mean(means, axis=0).tolist())


def _rates(metric: str, places: Set[Place], numbers: RunNumbers) -> tuple[float, ...]:
    """A rate of the decisions of some sections together, for each seed."""
    if not places:
        return ()
    parts = [numbers.counts[place] for place in sorted(places)]
    counts = metrics.Confusion(*(np.sum(each, axis=0) for each in zip(*parts, strict=True)))
    return tuple(getattr(metrics.decision_rates(counts), metric).tolist())
