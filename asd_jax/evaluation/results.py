"""Clip scores and results of a run: their CSV files, and the evaluation between them."""

import csv
import os
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

from asd_jax import metrics
from asd_jax.errors import UserError
from asd_jax.evaluation.bootstrap import bootstrap, percentile_interval
from asd_jax.metrics import RankingMetrics, domains_of, mean_over_sections
from asd_jax.runtime.files import atomic_write

# The section of lines that average over a machine's sections.
MEAN = "mean"


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
        decision: 1 if the clip is predicted anomalous, else 0.
        p_value: largest rate at which normal clips have such a score, see `scoring.conformal`; NaN
            where no normal clip was kept apart from the fit.
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
    groups = score_groups(rows, year)
    if groups is None:
        return ()
    ranked = metrics.ranking_metrics(groups.labels, groups.scores, groups.ranked)
    own = metrics.ranking_metrics(groups.labels, groups.scores, groups.own)
    counts = metrics.confusion_counts(groups.labels, groups.decisions, groups.own)
    n_normal, n_anomaly = counts.fp + counts.tn, counts.tp + counts.fn
    labelled = n_normal + n_anomaly > 0
    values = [ranked.auc, own.pauc, own.pauc_mcclish] + [
        np.where(labelled, metric(counts), np.nan)
        for metric in (metrics.precision, metrics.recall, metrics.f1)
    ]
    return tuple(
        ResultRow(
            *key, seed, int(n_normal[at]), int(n_anomaly[at]), *(float(v[at]) for v in values)
        )
        for g, key in enumerate(groups.keys)
        for s, seed in enumerate(groups.seeds)
        for at in [(g, s)]
    )


def bootstrap_results(
    rows: Iterable[ScoreRow],
    year: int,
    *,
    n_resamples: int = 1000,
    seed: int = 0,
) -> dict[tuple[str, str, str], RankingMetrics]:
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
    groups = score_groups(rows, year)
    if groups is None:
        return {}
    labels = groups.labels
    ranked = bootstrap(labels, groups.scores, groups.ranked, n_resamples=n_resamples, seed=seed)
    own = ranked
    if not np.array_equal(groups.own, groups.ranked):
        own = bootstrap(labels, groups.scores, groups.own, n_resamples=n_resamples, seed=seed)
    values = (ranked.auc, own.pauc, own.pauc_mcclish)  # each (groups, seeds, resamples)

    def interval(metric_values: Iterable[np.ndarray]) -> RankingMetrics:
        """From each metric's values (seeds, resamples)."""
        return RankingMetrics(*(percentile_interval(v.mean(0)) for v in metric_values))

    intervals = {key: interval(v[g] for v in values) for g, key in enumerate(groups.keys)}
    # Every machine's mean over its labelled sections, resample by resample.
    labelled = ((labels >= 0) & groups.own).any(axis=(1, 2))
    for machine, domain in dict.fromkeys((key[0], key[2]) for key in groups.keys):
        sections = [
            g
            for g, key in enumerate(groups.keys)
            if (key[0], key[2]) == (machine, domain) and labelled[g]
        ]
        if sections:
            intervals[machine, MEAN, domain] = interval(
                mean_over_sections(v[sections], year, axis=0) for v in values
            )
    return intervals


def constant_scores(rows: Iterable[ScoreRow]) -> list[str]:
    """One line a machine and section all of whose test clips get the same score.

    Such scores rank nothing: the AUC is 50 % whatever the recordings are.

    Examples:
        >>> rows = [ScoreRow("fan", "00", "", 0, clip, 0, 2.5, 1.0, 1) for clip in "ab"]
        >>> constant_scores(rows)
        ['fan 00, seed 0: all 2 test clips have the same score, which says nothing about them']
    """
    groups: dict[tuple[str, str, int], list[float]] = {}
    for row in rows:
        groups.setdefault((row.machine, row.section, row.seed), []).append(row.score)
    constant: dict[tuple[str, str, int], list[str]] = {}
    for (machine, section, seed), scores in groups.items():
        if len(scores) > 1 and min(scores) == max(scores):
            constant.setdefault((machine, section, len(scores)), []).append(str(seed))
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
    # The rows by section, seed and clip.
    sections: dict[tuple[str, str], dict[int, dict[str, ScoreRow]]] = {}
    for row in rows:
        clips = sections.setdefault((row.machine, row.section), {}).setdefault(row.seed, {})
        if row.clip in clips:
            raise UserError(
                f"{row.clip} of {row.machine}, section {row.section}, is scored twice by seed "
                f"{row.seed}"
            )
        clips[row.clip] = row
    seeds = tuple(sorted({seed for by_seed in sections.values() for seed in by_seed}))

    # For each section, arrays over its clips in the order of their names; then a group for each
    # domain, with a mask of its clips.
    arrays = []
    for (machine, section), by_seed in sorted(sections.items()):
        first = next(iter(by_seed.values()))
        names = sorted(first)
        for seed in seeds:
            if by_seed.get(seed, {}).keys() != first.keys():
                raise UserError(
                    f"the seeds {', '.join(map(str, seeds))} did not score the same clips of "
                    f"{machine}, section {section} (seed {seed} differs); score them again"
                )
        labels = np.array([first[name].label for name in names])
        domain = np.array([first[name].domain for name in names])
        scores = np.array([[by_seed[s][name].score for name in names] for s in seeds])
        decisions = np.array([[by_seed[s][name].decision for name in names] for s in seeds])
        for reported in domains_of(year):
            own = np.full(len(names), True) if reported == "all" else domain == reported
            if own.any():
                # Since 2022 a domain's AUC ranks its normal clips against all anomalies.
                ranked = own | (labels == 1) if year >= 2022 else own
                key = (machine, section, reported)
                arrays.append((key, labels, scores, decisions, ranked, own))

    if not arrays:
        return None
    length = max(len(own) for *_, own in arrays)

    def padded(column: int, fill: Any) -> np.ndarray:
        """One of the arrays of all groups, padded to the longest: (groups, seeds or 1, clips)."""
        parts = [np.atleast_2d(a[column]) for a in arrays]
        return np.stack(
            [
                np.pad(part, ((0, 0), (0, length - part.shape[1])), constant_values=fill)
                for part in parts
            ]
        )

    return ScoreGroups(
        keys=tuple(a[0] for a in arrays),
        seeds=seeds,
        labels=padded(1, -1),
        scores=padded(2, np.nan),
        decisions=padded(3, 0),
        ranked=padded(4, False),
        own=padded(5, False),
    )


def write_scores_csv(path: os.PathLike | str, rows: Iterable[ScoreRow]) -> None:
    """Writes scores.csv; equal scores give equal bytes, and reading gives them back."""
    write_rows(path, ScoreRow, rows)


def read_scores_csv(path: os.PathLike | str) -> tuple[ScoreRow, ...]:
    """Reads scores.csv; raises UserError if it is missing or damaged."""
    return read_rows(path, ScoreRow)


def write_training_csv(path: os.PathLike | str, rows: Iterable[TrainingRow]) -> None:
    """Writes training_scores.csv."""
    write_rows(path, TrainingRow, rows)


def read_training_csv(path: os.PathLike | str) -> tuple[TrainingRow, ...]:
    """Reads training_scores.csv; raises UserError if it is missing or damaged."""
    return read_rows(path, TrainingRow)


def write_results_csv(path: os.PathLike | str, results: Iterable[ResultRow]) -> None:
    """Writes results.csv; undefined metrics are `nan`."""
    write_rows(path, ResultRow, results)


def read_results_csv(path: os.PathLike | str) -> tuple[ResultRow, ...]:
    """Reads results.csv; raises UserError if it is missing or damaged."""
    return read_rows(path, ResultRow)


def number(value: Any) -> str:
    """The shortest text that reads back as the same number of the value's own precision.

    Examples:
        >>> number(0.1), number(np.float32(0.1))
        ('0.1', '0.1')
    """
    return str(value) if isinstance(value, np.floating) else repr(float(value))


def write_rows(path: os.PathLike | str, row_type: Any, rows: Iterable[Any]) -> None:
    """Writes rows of a named tuple's type as a CSV, whole or not at all."""
    floats = [kind is float for kind in row_type.__annotations__.values()]
    with atomic_write(path) as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(row_type._fields)
        for row in rows:
            writer.writerow(
                number(x) if is_float else x for x, is_float in zip(row, floats, strict=True)
            )


def read_rows(path: os.PathLike | str, row_type: Any) -> tuple[Any, ...]:
    """Reads what `write_rows` wrote; raises UserError if it is missing or damaged."""
    kinds: Sequence[type] = tuple(row_type.__annotations__.values())
    try:
        with open(path, encoding="utf-8", newline="") as file:
            header, *lines = csv.reader(file)
            # Files of versions before lack the last columns.
            needed = len(row_type._fields) - len(row_type._field_defaults)
            if tuple(header) != row_type._fields[: max(len(header), needed)]:
                raise ValueError(f"its first line is not {','.join(row_type._fields)}")
            kinds = kinds[: len(header)]
            return tuple(
                row_type(*(kind(x) for kind, x in zip(kinds, line, strict=True))) for line in lines
            )
    except OSError as error:
        raise UserError(
            f"cannot read {path}: {error.strerror}; the command of the run writes it again"
        ) from error
    except (ValueError, csv.Error) as error:
        raise UserError(
            f"{path} is damaged: {error}; remove it, and the command of the run writes it again"
        ) from error
