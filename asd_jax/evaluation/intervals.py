"""Bootstrap intervals of a run's results, of all machines or of one after another."""

from collections.abc import Iterable, Sequence

import numpy as np

from asd_jax.evaluation.bootstrap import percentile_interval, resamples_at_once
from asd_jax.evaluation.results import MEAN, Group, ScoreRow, groups_of
from asd_jax.evaluation.row_table import RowTable
from asd_jax.evaluation.tables import Key
from asd_jax.metrics import RankingMetrics, mean_over_sections
from asd_jax.runtime.cores import usable_cores
from asd_jax.runtime.side_by_side import in_order

_RESAMPLES, _SEED = 1000, 0


def bootstrap_results(
    rows: Iterable[ScoreRow],
    year: int,
    *,
    n_resamples: int = _RESAMPLES,
    seed: int = _SEED,
) -> dict[Key, RankingMetrics]:
    """Computes 95 % bootstrap intervals of the mean over the seeds, for every line of the tables.

    Args:
        rows: as in `evaluate`.
        year: challenge year.
        n_resamples: as in `bootstrap`; the seeds share the resamples.
        seed: of the resamples.

    Returns:
        (machine, section, domain) → (low, high) of each metric. The section `MEAN` has the
        intervals of a machine's mean over its sections.
    """
    groups = [*groups_of(RowTable.of(rows, ScoreRow), year)]
    longest = max((len(group.labels) for group in groups), default=0)
    return _intervals(groups, year, 0, longest, n_resamples, seed)


class ByMachine:
    """`bootstrap_results` of machines that come one after another, in ascending order.

    Args:
        year: challenge year.
        longest: clips of the longest section, which decide how many resamples are drawn at a time.

    Examples:
        >>> rows = [ScoreRow("fan", "00", "all", 0, c, c == "b", ord(c), 0.0, 1) for c in "abc"]
        >>> by_machine = ByMachine(2020, longest=3)
        >>> by_machine.add(rows)
        >>> found = by_machine.of(rows)
        >>> found.keys() == bootstrap_results(rows, 2020).keys()
        True
    """

    def __init__(self, year: int, longest: int):
        self._year, self._longest = year, longest
        self._found: dict[Key, RankingMetrics] = {}
        self._n_groups = self._n_rows = 0

    def add(self, rows: Iterable[ScoreRow]) -> None:
        """Resamples the scores of the next machine, or of some machines."""
        table = RowTable.of(rows, ScoreRow)
        groups = [*groups_of(table, self._year)]
        number, self._n_groups = self._n_groups, self._n_groups + len(groups)
        self._n_rows += len(table)
        self._found |= _intervals(groups, self._year, number, self._longest, _RESAMPLES, _SEED)

    def of(self, rows: Iterable[ScoreRow]) -> dict[Key, RankingMetrics]:
        """The intervals of all rows, computed anew where not all of them were added."""
        table = RowTable.of(rows, ScoreRow)
        sections = table.groups("machine", "section").values()
        n_seeds = max(1, len(table.column("seed").distinct()))
        longest = max((len(own) // n_seeds for own in sections), default=0)
        at_once = {resamples_at_once(_RESAMPLES, length) for length in (longest, self._longest)}
        if len(table) != self._n_rows or len(at_once) > 1:
            return bootstrap_results(table, self._year)
        means = {key: values for key, values in self._found.items() if key[1] == MEAN}
        return {key: self._found[key] for key in self._found if key not in means} | means


def _intervals(
    groups: Sequence[Group], year: int, number: int, longest: int, n_resamples: int, seed: int
) -> dict[Key, RankingMetrics]:
    """The intervals of groups, of which the first has a number among all."""
    intervals: dict[Key, RankingMetrics] = {}
    # Each metric's values (seeds, resamples) of every labelled section, by machine and domain.
    of_sections: dict[tuple[str, str], list[list[np.ndarray]]] = {}
    resampled = in_order(
        lambda place: groups[place].resampled(n_resamples, seed, number + place, longest),
        range(len(groups)),
        threads=usable_cores(),
    )
    for group, values in zip(groups, resampled, strict=True):
        machine, _, domain = group.key
        intervals[group.key] = _interval(values)
        if (group.labels[group.own] >= 0).any():
            of_sections.setdefault((machine, domain), []).append(values)
    # Every machine's mean over its labelled sections, resample by resample.
    for (machine, domain), sections in of_sections.items():
        means = [
            mean_over_sections([*of_metric], year, axis=0)
            for of_metric in zip(*sections, strict=True)
        ]
        intervals[machine, MEAN, domain] = _interval(means)
    return intervals


def _interval(metric_values: Iterable[np.ndarray]) -> RankingMetrics:
    """Intervals of the means over the seeds, from each metric's values (seeds, resamples)."""
    return RankingMetrics(*(percentile_interval(v.mean(0)) for v in metric_values))
