"""Clip scores and results of a run: their CSV files, and the evaluation between them."""

import os
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from asd_jax import metrics
from asd_jax.errors import UserError
from asd_jax.evaluation.bootstrap import resample_group
from asd_jax.evaluation.row_files import read_rows, read_table, write_rows
from asd_jax.evaluation.row_table import RowTable
from asd_jax.metrics import RankingMetrics, domains_of

# The section of lines that average over a machine's sections.
MEAN = "mean"
NO_DECISION = -1  # of a clip that is not scored
# Scores, with their padding, that are evaluated together.
_TOGETHER = 4_000_000


class ScoreRow(NamedTuple):
    """The score of one test clip by one seed's detector; a line of scores.csv.

    Attributes:
        machine: as in `Clip`.
        section: as in `Clip`.
        domain: as in `Clip`: "source", "target" or "".
        seed: training seed.
        clip: `Clip.name`.
        label: `NORMAL`, `ANOMALY` or `UNLABELLED`.
        score: anomaly score, larger is more anomalous.
        threshold: the decision threshold.
        decision: 1 if the clip is predicted anomalous, else 0; `NO_DECISION`, an empty cell, of a
            clip that is not scored.
        p_value: largest rate at which normal clips have such a score, see `scoring.conformal`; NaN
            where no normal clip was kept apart from the fit.
        state: of the machine, as in `Clip`; "" where it is not known.
        verdict: "normal" or "anomalous"; or why the clip is not scored: "off", "transient" or
            "unseen state"; "" without a threshold or a score.
    """

    machine: str
    section: str
    domain: str
    seed: int
    clip: str
    label: int
    score: float
    threshold: float
    decision: int
    p_value: float = float("nan")
    state: str = ""
    verdict: str = ""


def scored(rows: Iterable[ScoreRow]) -> RowTable[ScoreRow]:
    """The rows of clips that are scored: not off, transient, or in an unseen state."""
    table = RowTable.of(rows, ScoreRow)
    mask = ~table.where(decision=NO_DECISION)
    return table if mask.all() else table[mask]


class TrainingRow(NamedTuple):
    """The score of one training clip by one seed's detector; a line of training_scores.csv.

    Attributes as in `ScoreRow`, and

    Attributes:
        sets_threshold: 1 if the score is one of those that set the threshold, else 0.
        unseen: 1 if neither gradients nor the choice of an epoch nor another fit saw the clip
            before it was scored, else 0; p-values are by these.
        group: what it was recorded with, as in `Clip`.
        by_section: 1 if the models that scored it serve its section alone, else 0.
    """

    machine: str
    section: str
    domain: str
    seed: int
    clip: str
    score: float
    sets_threshold: int = 1
    unseen: int = 0
    group: str = ""
    by_section: int = 0


class ResultRow(NamedTuple):
    """Metrics of one machine, section, domain and seed; a line of results.csv.

    Attributes:
        machine: machine type.
        section: machine id or section.
        domain: "all", "source" or "target"; see `evaluate`.
        seed: training seed.
        n_normal: normal clips of the domain.
        n_anomaly: anomalies of the domain.
        auc: area under the ROC curve.
        pauc: the papers' partial AUC, see `RankingMetrics`.
        pauc_mcclish: the official programs' partial AUC, see `RankingMetrics`.
        precision: of the decisions.
        recall: of the decisions.
        f1: of the decisions.
    """

    machine: str
    section: str
    domain: str
    seed: int
    n_normal: int
    n_anomaly: int
    auc: float
    pauc: float
    pauc_mcclish: float
    precision: float
    recall: float
    f1: float


def evaluate(rows: Iterable[ScoreRow], year: int) -> tuple[ResultRow, ...]:
    """Computes the metrics of every machine, section, domain and seed, all at once.

    2020 and MIMII (year 0) have only the domain "all"; 2021 has "source" and "target", each from
    its own clips; later years have all three. From 2022 on, as in the official programs, AUC
    (source) ranks the source's normal clips against the anomalies of both domains, while the
    source's pAUC, precision, recall and F1 are computed from the source's clips alone; likewise
    for the target.

    Args:
        rows: the scores; all seeds of a section must have scored the same clips.
        year: challenge year.

    Returns:
        Rows ordered by machine, section, domain and seed. Metrics are NaN where they are
        undefined: no labels, one class only, too few normal clips, a score that is NaN.

    Raises:
        UserError: a clip is scored twice, or by some seeds only.
    """
    return tuple(row for groups in _parts(rows, year) for row in _results_of(groups))


def _results_of(groups: "ScoreGroups") -> Iterator[ResultRow]:
    ranked = metrics.ranking_metrics(groups.labels, groups.scores, groups.ranked)
    own = metrics.ranking_metrics(groups.labels, groups.scores, groups.own)
    counts = metrics.confusion_counts(groups.labels, groups.decisions, groups.own)
    n_normal, n_anomaly = counts.fp + counts.tn, counts.tp + counts.fn
    labelled = n_normal + n_anomaly > 0
    values = [ranked.auc, own.pauc, own.pauc_mcclish] + [
        np.where(labelled, metric(counts), np.nan)
        for metric in (metrics.precision, metrics.recall, metrics.f1)
    ]
    for g, key in enumerate(groups.keys):
        for s, seed in enumerate(groups.seeds):
            counted = int(n_normal[g, s]), int(n_anomaly[g, s])
            yield ResultRow(*key, seed, *counted, *(float(v[g, s]) for v in values))


def constant_scores(rows: Iterable[ScoreRow]) -> list[str]:
    """One line a machine and section all of whose test clips get the same score.

    Such scores rank nothing: the AUC is 50 % whatever the recordings are.

    Examples:
        >>> rows = [ScoreRow("fan", "00", "", 0, clip, 0, 2.5, 1.0, 1) for clip in "ab"]
        >>> constant_scores(rows)
        ['fan 00, seed 0: all 2 test clips have the same score, which says nothing about them']
    """
    table = RowTable.of(rows, ScoreRow)
    scores = table.numbers("score")
    constant: dict[tuple[str, str, int], list[str]] = {}
    for (machine, section, seed), rows_of in table.groups("machine", "section", "seed").items():
        own = scores[rows_of]
        if len(own) > 1 and own.min() == own.max():
            constant.setdefault((machine, section, len(own)), []).append(str(seed))
    return [
        f"{machine} {section}, seed{'s' * (len(seeds) > 1)} {', '.join(seeds)}: all {n} test clips "
        "have the same score, which says nothing about them"
        for (machine, section, n), seeds in constant.items()
    ]


class ScoreGroups(NamedTuple):
    """Scores padded to (groups, seeds, clips); labels and masks have a seed axis of 1.

    Attributes:
        keys: (machine, section, domain) of each group.
        seeds: all seeds, ascending.
        labels: (groups, 1, clips), −1 for padding.
        scores: (groups, seeds, clips).
        decisions: (groups, seeds, clips).
        ranked: (groups, 1, clips), clips that the domain's AUC ranks.
        own: (groups, 1, clips), the domain's own clips.
    """

    keys: tuple[tuple[str, str, str], ...]
    seeds: tuple[int, ...]
    labels: np.ndarray
    scores: np.ndarray
    decisions: np.ndarray
    ranked: np.ndarray
    own: np.ndarray


def score_groups(rows: Iterable[ScoreRow], year: int) -> ScoreGroups | None:
    """Arranges scores as arrays, a group for each machine, section and domain; None without rows.

    Raises:
        UserError: a clip is scored twice, or by some seeds only.
    """
    groups = [*groups_of(RowTable.of(rows, ScoreRow), year)]
    return _padded(groups) if groups else None


class Group(NamedTuple):
    """The scores of a machine, section and domain.

    Attributes:
        key: machine, section and domain.
        seeds: all seeds of the run, ascending.
        labels: (clips,) of the section, in the order of the clips' names.
        scores: (seeds, clips).
        decisions: (seeds, clips).
        ranked: (clips,), those that the domain's AUC ranks.
        own: (clips,), the domain's own.
    """

    key: tuple[str, str, str]
    seeds: tuple[int, ...]
    labels: np.ndarray
    scores: np.ndarray
    decisions: np.ndarray
    ranked: np.ndarray
    own: np.ndarray

    def resampled(self, n_resamples: int, seed: int, number: int, longest: int) -> list[np.ndarray]:
        """AUC of the ranked clips and pAUCs of the own ones: (seeds, n_resamples) each."""

        def drawn(mask: np.ndarray) -> RankingMetrics:
            return resample_group(
                self.labels, self.scores, mask, n_resamples, [seed, number], longest
            )

        ranked = drawn(self.ranked)
        own = ranked if np.array_equal(self.own, self.ranked) else drawn(self.own)
        return [ranked.auc, own.pauc, own.pauc_mcclish]


def groups_of(table: RowTable[ScoreRow], year: int) -> Iterator[Group]:
    """The groups of a year's results, ascending; errors as of `score_groups`."""
    seeds = tuple(table.column("seed").distinct())
    label, decision, score = (table.numbers(name) for name in ("label", "decision", "score"))
    for (machine, section), rows in sorted(table.groups("machine", "section").items()):
        of_seeds = _aligned(table, rows, seeds)  # (seeds, clips)
        first = of_seeds[0]
        labels, domain = label[first], table.column("domain")[first]
        for reported in domains_of(year):
            own = np.full(len(first), True) if reported == "all" else domain.is_in([reported])
            if own.any():
                # Since 2022 a domain's AUC ranks its normal clips against all anomalies.
                ranked = own | (labels == 1) if year >= 2022 else own
                key = (machine, section, reported)
                values = score[of_seeds], decision[of_seeds]
                yield Group(key, seeds, labels, *values, ranked, own)


def _aligned(table: RowTable[ScoreRow], rows: np.ndarray, seeds: Sequence[int]) -> np.ndarray:
    """Rows of a section by seed and, ascending, the clips' names: (seeds, clips)."""
    place = table[rows[:1]][0]
    ranks = table.name_ranks[rows]
    numbers = table.column("seed")[rows].places(seeds)
    order = np.lexsort((ranks, numbers))
    ranks, numbers = ranks[order], numbers[order]
    if (twice := (np.diff(ranks) == 0) & (np.diff(numbers) == 0)).any():
        row = table[int(rows[order[np.argmax(twice)]])]
        raise UserError(
            f"{row.clip} of {row.machine}, section {row.section}, is scored twice by seed "
            f"{row.seed}"
        )
    counts = np.bincount(numbers, minlength=len(seeds))
    starts = np.cumsum(counts) - counts
    # The clips that counts are those of the seed that comes first in the file.
    first = int(table.column("seed")[rows[:1]].places(seeds)[0])
    wanted = ranks[starts[first] : starts[first] + counts[first]]
    for seed, start, count in zip(seeds, starts, counts, strict=True):
        if not np.array_equal(ranks[start : start + count], wanted):
            raise UserError(
                f"the seeds {', '.join(map(str, seeds))} did not score the same clips of "
                f"{place.machine}, section {place.section} (seed {seed} differs); score them again"
            )
    return rows[order].reshape(len(seeds), -1)


def _parts(rows: Iterable[ScoreRow], year: int) -> Iterator[ScoreGroups]:
    """Groups that are evaluated together, so that their padding needs little memory."""
    part: list[Group] = []
    longest = 0
    for group in groups_of(RowTable.of(rows, ScoreRow), year):
        longest = max(longest, group.scores.size)
        if part and longest * (len(part) + 1) > _TOGETHER:
            yield _padded(part)
            part, longest = [], group.scores.size
        part.append(group)
    if part:
        yield _padded(part)


def _padded(groups: Sequence[Group]) -> ScoreGroups:
    """Groups as arrays, padded to the longest."""
    length = max(len(group.labels) for group in groups)

    def padded(name: str, fill: Any) -> np.ndarray:
        """An array of all groups: (groups, seeds or 1, clips)."""
        parts = [np.atleast_2d(getattr(group, name)) for group in groups]
        shape = (len(parts), len(parts[0]), length)
        values = np.full(shape, fill, np.result_type(*{part.dtype for part in parts}))
        for own, part in zip(values, parts, strict=True):
            own[:, : part.shape[1]] = part
        return values

    return ScoreGroups(
        keys=tuple(group.key for group in groups),
        seeds=groups[0].seeds,
        labels=padded("labels", -1),
        scores=padded("scores", np.nan),
        decisions=padded("decisions", 0),
        ranked=padded("ranked", False),
        own=padded("own", False),
    )


def write_scores_csv(path: os.PathLike | str, rows: Iterable[ScoreRow]) -> None:
    """Writes scores.csv; equal scores give equal bytes, and reading gives them back."""
    write_rows(path, ScoreRow, rows)


def read_scores_csv(path: os.PathLike | str, *, every: bool = False) -> RowTable[ScoreRow]:
    """Reads scores.csv: of clips that are scored, or of every one.

    Raises:
        UserError: it is missing or damaged.
    """
    table = read_table(path, ScoreRow)
    return table if every else scored(table)


def write_training_csv(path: os.PathLike | str, rows: Iterable[TrainingRow]) -> None:
    """Writes training_scores.csv."""
    write_rows(path, TrainingRow, rows)


def read_training_csv(path: os.PathLike | str) -> RowTable[TrainingRow]:
    """Reads training_scores.csv; raises UserError if it is missing or damaged."""
    return read_table(path, TrainingRow)


def write_results_csv(path: os.PathLike | str, results: Iterable[ResultRow]) -> None:
    """Writes results.csv; undefined metrics are `nan`."""
    write_rows(path, ResultRow, results)


def read_results_csv(path: os.PathLike | str) -> tuple[ResultRow, ...]:
    """Reads results.csv; raises UserError if it is missing or damaged."""
    return read_rows(path, ResultRow)
