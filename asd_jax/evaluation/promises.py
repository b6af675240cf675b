"""P-values, and what thresholds promise, from the rows of a run's score files."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from asd_jax.data.columns import Categorical
from asd_jax.errors import UserError
from asd_jax.evaluation.results import ScoreRow, TrainingRow
from asd_jax.evaluation.row_table import BLOCK, RowTable
from asd_jax.features.cut import span_of
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
        groups: column (clips,) of names; "" for a clip by itself.
        sequences: int (clips,), as of `Reference`.
    """

    scores: np.ndarray
    seeds: tuple[int, ...]
    groups: Categorical
    sequences: np.ndarray

    def of_seed(self, seed: int | None) -> Reference:
        """The scores of a seed; None for their mean over the seeds."""
        scores = self.scores.mean(axis=0) if seed is None else self.scores[self.seeds.index(seed)]
        return Reference.of(scores, numbered(self.groups), self.sequences)


def numbered(groups: Categorical) -> np.ndarray:
    """int64 (clips,) numbers of groups, of which clips without one ("") have their own.

    Examples:
        >>> numbered(Categorical(np.array([0, 1, 0, 1]), ("day1", ""))).tolist()
        [4, 1, 4, 3]
    """
    alone = groups.is_in([""])
    # Above those of all clips that are by themselves.
    return np.where(alone, np.arange(len(alone)), len(alone) + groups.codes.astype(np.int64))


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
    table = RowTable.of(rows, TrainingRow)
    mask = table.where(unseen=1, sets_threshold=1)
    found: dict[Served, dict[int, list[np.ndarray]]] = {}
    by = ("machine", "section", "by_section", "seed")
    # Where models serve a whole machine, all its sections are one reference.
    whole = table.where(by_section=0) & mask
    of_machines = table.groups("machine", "seed", rows=whole).items()
    of_sections = table.groups(*by, rows=mask & ~whole).items()
    for served, seed, own in [
        *(((machine, ""), seed, own) for (machine, seed), own in of_machines),
        *(((machine, section), seed, own) for (machine, section, _, seed), own in of_sections),
    ]:
        found.setdefault(served, {}).setdefault(seed, []).append(own)
    score, group, clip = table.numbers("score"), table.column("group"), table.column("clip")
    references = {}
    for served, parts in sorted(found.items(), key=lambda item: _first(item[1])):
        of_seeds = {seed: np.sort(np.concatenate(own)) for seed, own in parts.items()}
        first, *others = of_seeds.values()
        sections, ranks = table.column("section").codes, table.name_ranks
        for own in others:
            if len(own) != len(first) or not (
                np.array_equal(sections[own], sections[first])
                and np.array_equal(ranks[own], ranks[first])
            ):
                raise UserError(
                    f"training_scores.csv: the seeds of {' '.join(served)} did not score the same "
                    "clips; remove it, and the command of the run writes it again"
                )
        scores = rounded([score[own] for own in of_seeds.values()])
        blocks = range(0, len(first), BLOCK)  # of names, which need much memory as objects
        names = (name for at in blocks for name in clip[first[at : at + BLOCK]].tolist())
        sequences = sequence_numbers(table.column("section")[first], names)
        references[served] = References(scores, tuple(of_seeds), group[first], sequences)
    return references


def sequence_numbers(sections: Categorical, names: Iterable[str]) -> np.ndarray:
    """Tells which clips follow one another in a recording that was cut (`DataConfig.clip_seconds`).

    Args:
        sections: column (clips,).
        names: (clips,), in which clips of a recording are in order.

    Returns:
        int64 (clips,), equal for a clip and the one before that ends where it begins.

    Examples:
        >>> names = ["a.wav@0-10s", "a.wav@10-20s", "b.wav@0-10s", "c.wav"]
        >>> sequence_numbers(Categorical(np.zeros(4, np.uint8), ("00",)), names).tolist()
        [0, 0, 1, 2]
    """
    numbers = np.zeros(len(sections.codes), np.int64)
    before = None
    for place, (code, name) in enumerate(zip(sections.codes.tolist(), names, strict=True)):
        span = span_of(name)
        recording = (code, name.rpartition("@")[0])
        follows = span is not None and before == (recording, span[0])
        numbers[place] = (numbers[place - 1] if place else -1) + (not follows)
        before = (recording, span[1]) if span else None
    return numbers


def _first(of_seeds: Mapping[int, Sequence[np.ndarray]]) -> int:
    """The first row of some seeds."""
    return min(int(own[0]) for parts in of_seeds.values() for own in parts)


def serving(
    references: Mapping[Served, References], machine: str, section: str
) -> References | None:
    """The references of a machine and section; None where there are none."""
    return references.get((machine, section)) or references.get((machine, ""))


def with_p_values(rows: Iterable[ScoreRow], training: Iterable[TrainingRow]) -> RowTable[ScoreRow]:
    """The rows of test clips with their p-values, by those of the training clips."""
    table = RowTable.of(rows, ScoreRow)
    score, values = table.numbers("score"), table.numbers("p_value").copy()
    for own, reference in _of_references(table, references_of(training)):
        values[own] = p_values(rounded(score[own]), reference)
    return table.replace(p_value=values)


def decided_anew(
    rows: Iterable[ScoreRow], training: Iterable[TrainingRow], false_alarms: float
) -> RowTable[ScoreRow]:
    """The rows of test clips with thresholds that keep another rate of false alarms.

    Args:
        rows: of scores.csv.
        training: of training_scores.csv.
        false_alarms: the rate, in (0, 1).

    Raises:
        UserError: there are no clips that were kept apart from the fit, or too few for the rate.
    """
    table = RowTable.of(rows, ScoreRow)
    score = rounded(table.numbers("score"))
    thresholds, decided = np.full(len(table), np.nan), np.zeros(len(table), bool)
    for own, reference in _of_references(table, references_of(training)):
        threshold, problem = conformal_threshold(reference, false_alarms)
        if problem:
            row = table[own[0]]
            raise UserError(f"{row.machine} {row.section}: {too_few(problem, reference)}")
        thresholds[own], decided[own] = threshold, True
    if not decided.all():
        lacking = table[int(np.argmin(decided))]
        raise UserError(f"{lacking.machine} {lacking.section}: {NO_REFERENCE}")
    return table.replace(threshold=thresholds, decision=(score > thresholds).astype(int))


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
    table: RowTable[ScoreRow], references: Mapping[Served, References]
) -> list[tuple[np.ndarray, Reference]]:
    """The rows of each seed of a machine and section, by place, beside their reference."""
    known: dict[tuple[int, int], Reference] = {}  # of a machine, and shared by its sections
    found = []
    for (machine, section, seed), rows in table.groups("machine", "section", "seed").items():
        own = serving(references, machine, section)
        if own is not None:
            if (id(own), seed) not in known:
                known[id(own), seed] = own.of_seed(seed)
            found.append((rows, known[id(own), seed]))
    return found


def promise_lines(
    rows: Iterable[ScoreRow], training: Iterable[TrainingRow], clip_seconds: float = 0.0
) -> list[str]:
    """What the thresholds promise, machines of which it is alike in one line.

    Args:
        rows: of scores.csv.
        training: of training_scores.csv.
        clip_seconds: usual length of a clip, for false alarms a day; 0 if it is not known.
    """
    of_machines: dict[tuple[str, str], list[Promise]] = {}
    single: dict[tuple[str, str], bool] = {}
    table = RowTable.of(rows, ScoreRow)
    for own, reference in _of_references(table, references_of(training)):
        row = table[own[0]]
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
