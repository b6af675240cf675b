"""P-values, and what thresholds promise, from the rows of a run's score files."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from asd_jax.errors import UserError
from asd_jax.evaluation.results import ScoreRow, TrainingRow
from asd_jax.scoring.conformal import (
    Promise,
    Reference,
    conformal_threshold,
    p_values,
    percent,
    promise_of,
)

Served = tuple[str, str]  # machine and section; the section is "" where models serve all of them


class References(NamedTuple):
    """Scores of normal clips that were kept apart from the fit, of one machine or section.

    Attributes:
        scores: (seeds, clips).
        seeds: of the rows.
        groups: (clips,) names; "" for a clip by itself.
    """

    scores: np.ndarray
    seeds: tuple[int, ...]
    groups: tuple[str, ...]

    def of_seed(self, seed: int | None) -> Reference:
        """The scores of a seed; None for their mean over the seeds."""
        scores = self.scores.mean(axis=0) if seed is None else self.scores[self.seeds.index(seed)]
        return Reference.of(scores, numbered(self.groups))


def numbered(groups: Iterable[str]) -> np.ndarray:
    """(clips,) texts of groups, of which clips without one have their own.

    Examples:
        >>> numbered(["day1", "", "day1", ""]).tolist()
        ['=day1', '1', '=day1', '3']
    """
    return np.array([f"={group}" if group else str(i) for i, group in enumerate(groups)])


def rounded(values: Any) -> np.ndarray:
    """Float64 of the precision of scores, so that a threshold that is a score equals it.

    Files have the shortest decimals, which are not quite the numbers.

    Examples:
        >>> float(rounded("0.1")) == float(np.float32(0.1)) != 0.1
        True
    """
    return np.asarray(values, np.float32).astype(np.float64)


def references_of(rows: Iterable[TrainingRow]) -> dict[Served, References]:
    """The references of each machine or section, from the rows of training_scores.csv.

    Args:
        rows: of all seeds; every seed of a machine must have scored the same clips.

    Raises:
        UserError: the seeds did not score the same clips.
    """
    found: dict[Served, dict[int, list[TrainingRow]]] = {}
    for row in rows:
        if row.unseen and row.sets_threshold:
            of_seeds = found.setdefault(_served(row), {})
            of_seeds.setdefault(row.seed, []).append(row)
    references = {}
    for served, of_seeds in found.items():
        clips = [[(row.section, row.clip) for row in own] for own in of_seeds.values()]
        if any(own != clips[0] for own in clips):
            raise UserError(
                f"training_scores.csv: the seeds of {' '.join(served)} did not score the same "
                "clips; remove it, and the command of the run writes it again"
            )
        first = next(iter(of_seeds.values()))
        scores = rounded([[row.score for row in own] for own in of_seeds.values()])
        groups = tuple(row.group for row in first)
        references[served] = References(scores, tuple(of_seeds), groups)
    return references


def _served(row: TrainingRow) -> Served:
    return row.machine, row.section if row.by_section else ""


def serving(
    references: Mapping[Served, References], machine: str, section: str
) -> References | None:
    """The references of a machine and section; None where there are none."""
    return references.get((machine, section)) or references.get((machine, ""))


def with_p_values(rows: Sequence[ScoreRow], training: Iterable[TrainingRow]) -> list[ScoreRow]:
    """The rows of test clips with their p-values, by those of the training clips."""
    references = references_of(training)
    found = list(rows)
    for indices, reference in _of_references(rows, references):
        values = p_values(rounded([rows[i].score for i in indices]), reference)
        for i, value in zip(indices, values.tolist(), strict=True):
            found[i] = rows[i]._replace(p_value=value)
    return found


def decided_anew(
    rows: Sequence[ScoreRow], training: Iterable[TrainingRow], false_alarms: float
) -> list[ScoreRow]:
    """The rows of test clips with thresholds that keep another rate of false alarms.

    Args:
        rows: of scores.csv.
        training: of training_scores.csv.
        false_alarms: the rate, in (0, 1).

    Raises:
        UserError: there are no clips that were kept apart from the fit, or too few for the rate.
    """
    references = references_of(training)
    decided: dict[int, ScoreRow] = {}
    for indices, reference in _of_references(rows, references):
        threshold, problem = conformal_threshold(reference, false_alarms)
        if problem:
            row = rows[indices[0]]
            raise UserError(f"{row.machine} {row.section}: {too_few(problem, reference)}")
        for i in indices:
            decision = int(rounded(rows[i].score) > threshold)
            decided[i] = rows[i]._replace(threshold=threshold, decision=decision)
    lacking = next((row for i, row in enumerate(rows) if i not in decided), None)
    if lacking is not None:
        raise UserError(f"{lacking.machine} {lacking.section}: {NO_REFERENCE}")
    return [decided[i] for i in range(len(rows))]


NO_REFERENCE = (
    "no normal clip was kept apart from the fit, so no rate of false alarms can be promised; hold "
    "some out in a new run (--config.train.threshold_split=0.2), or take spectral, which needs none"
)


def too_few(problem: str, reference: Reference) -> str:
    """A line on a rate that a reference cannot promise.

    Args:
        problem: `Threshold.fallback` of `conformal_threshold`.
        reference: the reference.
    """
    if not reference.n_groups:
        return NO_REFERENCE
    if "promise at most" not in problem:
        return problem
    least = np.ceil(1e4 / (reference.n_groups + 1)) / 1e4
    return f"{problem}; ask for {least:g} or more, or give more normal clips"


def _of_references(
    rows: Sequence[ScoreRow], references: Mapping[Served, References]
) -> list[tuple[list[int], Reference]]:
    """The rows of each seed of a machine and section, by place, beside their reference."""
    groups: dict[tuple[str, str, int], list[int]] = {}
    for i, row in enumerate(rows):
        groups.setdefault((row.machine, row.section, row.seed), []).append(i)
    return [
        (indices, own.of_seed(seed))
        for (machine, section, seed), indices in groups.items()
        if (own := serving(references, machine, section)) is not None
    ]


def promise_lines(
    rows: Sequence[ScoreRow], training: Iterable[TrainingRow], clip_seconds: float = 0.0
) -> list[str]:
    """What the thresholds promise, machines of which it is alike in one line.

    Args:
        rows: of scores.csv.
        training: of training_scores.csv.
        clip_seconds: usual length of a clip, for false alarms a day; 0 if it is not known.
    """
    of_machines: dict[tuple[str, str], list[Promise]] = {}
    single: dict[tuple[str, str], bool] = {}
    for indices, reference in _of_references(rows, references_of(training)):
        row = rows[indices[0]]
        promise = promise_of(float(rounded(row.threshold)), reference)
        if np.isfinite(promise.rate):
            of_machines.setdefault((row.machine, row.section), []).append(promise)
            single[row.machine, row.section] = promise.n_groups == len(reference.scores)
    lines: dict[str, list[str]] = {}
    for place, promises in of_machines.items():
        # Of several seeds, the one that promises least.
        worst = max(promises, key=lambda promise: promise.rate)
        what = "normal clips" if single[place] else "groups of normal clips"
        if worst.n_groups == 1:
            what = "normal clip" if single[place] else "group of normal clips"
        lines.setdefault(promise_text(worst, what, clip_seconds), []).append(" ".join(place))
    return [f"{', '.join(places)}: {line}" for line, places in lines.items()]


def promise_text(promise: Promise, what: str, clip_seconds: float = 0.0) -> str:
    """A promise in words.

    Args:
        promise: of a threshold.
        what: what the reference has, in the plural.
        clip_seconds: as of `promise_lines`.

    Examples:
        >>> promise_text(Promise(0.1, 0.226, 19), "normal clips", clip_seconds=10)
        'by 19 normal clips, at most 10 % false alarms on average (22.6 % given these clips, with \
95 % confidence), so 864 a day if a clip of 10 s follows another; no p-value below 1/20'
    """
    line = (
        f"by {promise.n_groups} {what}, at most {percent(promise.rate)} false alarms on average "
        f"({percent(promise.bound)} given these clips, with 95 % confidence)"
    )
    if clip_seconds > 0:
        a_day = promise.alarms_a_day(clip_seconds)
        alarms = f"{a_day:,.0f}" if a_day >= 10 else f"{a_day:.2g}"
        line += f", so {alarms} a day if a clip of {clip_seconds:.3g} s follows another"
    return f"{line}; no p-value below 1/{promise.n_groups + 1}"
