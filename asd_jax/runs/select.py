"""Chooses among finished runs without labels, by pseudo-anomalies made of their normal clips."""

import contextlib
import os
import zlib
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from asd_jax.audio.pseudo_anomalies import (
    CHOOSING,
    KINDS,
    STRENGTHS,
    PseudoAnomaly,
    pseudo_anomaly,
)
from asd_jax.data.clip_paths import parse_clip
from asd_jax.data.groups import group_numbers
from asd_jax.data.recordings import read_recordings
from asd_jax.errors import UserError
from asd_jax.evaluation.pseudo_auc import MachineMeasure, SectionScores, measure
from asd_jax.evaluation.results import TrainingRow
from asd_jax.evaluation.selection import Selection, choose
from asd_jax.features.cut import span_of
from asd_jax.fitting.detector import FittedDetector
from asd_jax.fitting.folds import FoldScorer, folds_of
from asd_jax.fitting.layout import Group
from asd_jax.page.excerpts import piece_of
from asd_jax.runs.candidates import Candidate, by_channel, load_candidates, rate_of, title_of
from asd_jax.runtime.arguments import check, check_path
from asd_jax.runtime.progress import Reporter

CLIPS, LEAST = 90, 0.5
_FOLDS = 5
_MOST_NORMAL = 200  # of a machine; the error of an AUC is that of its pseudo-anomalies then
_PARTNERS = 16  # of a kind and section, which bounds the recordings that are read
_AT_ONCE = 32  # clips that are scored together

_Clip = tuple[Group, int]  # a row of a section


class Section(NamedTuple):
    """Clips of a machine and section by which candidates are judged.

    Attributes:
        rows: of all training clips.
        paths: of their recordings.
        conditions: domain and attributes of each.
        fold_of: of each clip that candidates are judged by, from 0: each is scored by a fit without
            its fold.
    """

    rows: Sequence[TrainingRow]
    paths: Sequence[str]
    conditions: Sequence[tuple]
    fold_of: Mapping[str, int]


def select(
    paths: Sequence[os.PathLike | str],
    *,
    clips: int = CLIPS,
    seed: int = 0,
    least: float = LEAST,
    reporter: Reporter | None = None,
) -> Selection:
    """Chooses among finished runs on the same data, without a label.

    Pseudo-anomalies are made of normal training clips, see `asd_jax.audio.pseudo_anomalies`, and
    all runs score the same ones. Clips that a network held out from training are the normal ones;
    systems without training are fitted again without the clips that they are judged by.

    Args:
        paths: run directories, two or more.
        clips: pseudo-anomalies of each machine, at each strength.
        seed: of all that is drawn.
        least: probability of being the best below which the choice is undecided.
        reporter: shows progress, and lines on what was assumed.

    Returns:
        The candidates, ranked.

    Raises:
        UserError: fewer than two runs, an unfinished one, runs on other data, or recordings that
            are not where they were.

    Examples:
        >>> from asd_jax import select
        >>> select(["A", "B"]).chosen  # doctest: +SKIP
        'B'
    """
    check("paths", paths, (list, tuple), "a list of run directories")
    for path in paths:
        check_path("a run directory in paths", path)
    check("clips", clips, (int, np.integer), "a whole number")
    check("seed", seed, (int, np.integer), "a whole number")
    check("least", least, (int, float, np.floating), "a probability, as 0.5")
    if clips < len(CHOOSING):
        raise UserError(f"clips is {clips}; there are {len(CHOOSING)} kinds of pseudo-anomalies")
    if seed < 0 or not 0 <= least <= 1:
        raise UserError(f"seed is {seed} and least {least}; from 0, and from 0 to 1")
    judged = judge(paths, clips=clips, seed=seed, reporter=reporter or Reporter())
    measures: dict[str, MachineMeasure] = {}
    for machine, sections in judged.sections.items():
        rng = np.random.default_rng([seed, zlib.crc32(machine.encode())])
        measures[machine] = measure(sections, len(KINDS), rng)
    rng = np.random.default_rng(seed)
    return choose(judged.names, measures, least=least, rng=rng, notes=judged.notes)


class Judged(NamedTuple):
    """Scores by which candidates are judged.

    Attributes:
        names: of the candidates.
        sections: scores of each section, by machine type.
        notes: what to know of them, as lines.
    """

    names: tuple[str, ...]
    sections: dict[str, list[SectionScores]]
    notes: tuple[str, ...]


def judge(
    paths: Sequence[os.PathLike | str],
    *,
    clips: int,
    seed: int,
    reporter: Reporter,
    kinds: Sequence[str] = CHOOSING,
) -> Judged:
    """Scores normal clips and pseudo-anomalies by finished runs.

    Other arguments, and errors, are those of `select`.

    Args:
        paths: the runs.
        clips: pseudo-anomalies of each machine and strength.
        seed: of all that is drawn.
        reporter: shows progress.
        kinds: of the pseudo-anomalies, in turn.
    """
    candidates = load_candidates(paths)
    groups = [*candidates[0].rows]
    notes: list[str] = []
    sections = {group: _section(group, candidates, notes.append) for group in groups}
    for line in notes:
        reporter.line(line)

    def note(line: str) -> None:
        notes.append(line)
        reporter.line(line)

    scored: dict[str, list[SectionScores]] = {}
    reporter.start("judging by pseudo-anomalies", len(groups))
    for done, group in enumerate(groups, 1):
        siblings = sum(other[0] == group[0] for other in groups)
        rng = np.random.default_rng([seed, *(zlib.crc32(each.encode()) for each in group)])
        made = _planned(
            group,
            sections,
            max(len(kinds), clips // siblings),
            max(2, _MOST_NORMAL // siblings),
            kinds,
            rng,
        )
        own = _scores(candidates, group, sections, made, note, reporter.line)
        scored.setdefault(group[0], []).append(own)
        reporter.advance(done)
    reporter.stop()
    return Judged(tuple(candidate.name for candidate in candidates), scored, tuple(notes))


def _section(
    group: Group, candidates: Sequence[Candidate], report: Callable[[str], None]
) -> Section:
    """The clips of a group by which candidates are judged; reports who knows them."""
    first, name = candidates[0], title_of(group)
    # In an order that does not depend on the candidates'; with the groups of one that knows them.
    grouped = max(candidates, key=lambda each: sum(bool(row.group) for row in each.rows[group]))
    rows = sorted(grouped.rows[group], key=lambda row: row.clip)
    every = {row.clip for row in rows}
    learned = [candidate.learned(group) & every for candidate in candidates]
    # One that learned from all of them is judged by clips that it knows, as is said below.
    usable = every.difference(*(own for own in learned if own != every)) or every
    knowing = [each.name for each, own in zip(candidates, learned, strict=True) if own & usable]
    if knowing:
        it = (
            "it is judged by, so it looks"
            if len(knowing) == 1
            else "they are judged by, so they look"
        )
        report(
            f"{name}: {', '.join(knowing)} learned from the normal clips that {it} better than new "
            "clips would show; hold some out by --config.train.threshold_split=0.1"
        )
    if len(usable) < 2:
        raise UserError(
            f"{name}: 1 normal clip that the candidates do not know is too few to judge by; hold "
            "more out by --config.train.threshold_split"
        )
    own = [row for row in rows if row.clip in usable]
    folds = folds_of(own, _FOLDS if usable == every else 1)
    fold_of = {row.clip: fold for row, fold in zip(own, folds.tolist(), strict=True)}
    paths = [first.places[(*group, row.clip)] for row in rows]
    parsed = [parse_clip(path) for path in paths]
    conditions = [
        (row.domain, clip.attributes if clip else ())
        for row, clip in zip(rows, parsed, strict=True)
    ]
    return Section(rows, paths, conditions, fold_of)


class _Made(NamedTuple):
    """Pseudo-anomalies of a section, to be made at each strength.

    Attributes:
        normal: int (normal clips,), rows of the section.
        kind: int (pseudo-anomalies,).
        base: int (pseudo-anomalies,), places among `normal`.
        partner: the group and row of each one's partner.
        seed: of each.
    """

    normal: np.ndarray
    kind: np.ndarray
    base: np.ndarray
    partner: Sequence[_Clip]
    seed: Sequence[int]


def _planned(
    group: Group,
    sections: Mapping[Group, Section],
    n_pseudo: int,
    n_normal: int,
    names: Sequence[str],
    rng: np.random.Generator,
) -> _Made:
    """Draws which clips pseudo-anomalies are made of, and with which partners."""
    own = sections[group]
    usable = [row for row, each in enumerate(own.rows) if each.clip in own.fold_of]
    normal = np.sort(rng.permutation(usable)[:n_normal])

    def some(pool: Sequence[_Clip]) -> list[_Clip]:
        return [pool[i] for i in rng.permutation(len(pool))[:_PARTNERS]]

    def of(chosen: Callable[[Group], bool]) -> list[_Clip]:
        found = [each for each in sections if chosen(each)]
        return some([(each, row) for each in found for row in range(len(sections[each].rows))])

    same = of(lambda each: each == group)
    siblings = of(lambda each: each[0] == group[0] and each != group)
    others = of(lambda each: each[0] != group[0]) or siblings
    pools = {"band": same, "speed": same, "class": others}
    pools |= dict.fromkeys(("stretch", "bursts"), others or same)
    of_condition = {
        condition: some([(group, row) for row, c in enumerate(own.conditions) if c != condition])
        or siblings
        for condition in sorted(set(own.conditions), key=repr)
    }
    order = rng.permutation(len(normal))
    made = []
    for number in range(n_pseudo):
        kind = names[number % len(names)]
        # A clip further on each time round, so that it is the base of all kinds.
        base = int(order[(number + number // len(order)) % len(order)])
        row = int(normal[base])
        pool = of_condition[own.conditions[row]] if kind == "condition" else pools[kind]
        pool = [each for each in pool if each != (group, row)]
        draw, seed = (int(value) for value in rng.integers(2**31, size=2))
        if pool:  # none, as of a machine alone, or of one clip
            made.append((KINDS.index(kind), base, pool[draw % len(pool)], seed))
    kinds, bases, partners, seeds = zip(*made, strict=True)
    return _Made(normal, np.array(kinds), np.array(bases), partners, seeds)


def _scores(
    candidates: Sequence[Candidate],
    group: Group,
    sections: Mapping[Group, Section],
    made: _Made,
    note: Callable[[str], None],
    report: Callable[[str], None],
) -> SectionScores:
    """Scores of the normal clips and the pseudo-anomalies of a section by all candidates.

    Args:
        candidates: the runs.
        group: machine and section.
        sections: all of them, as partners may be of others.
        made: what pseudo-anomalies are made of.
        note: called with a line on a candidate that looks better than it is.
        report: called with lines on how recordings are read.
    """
    own, sample_rate = sections[group], rate_of(candidates)
    names = np.array([own.rows[row].clip for row in made.normal])
    folds = np.array([own.fold_of[name] for name in names])
    scorers = [_scorer(candidate, group, own, note) for candidate in candidates]
    normal = np.empty((len(candidates), len(made.normal)))
    pseudo = np.empty((len(candidates), STRENGTHS, len(made.base)))
    wanted = [*((group, int(row)) for row in made.normal), *made.partner]
    for channel, places in by_channel(candidates).items():
        hearing = [scorers[place] for place in places]
        sounds = _read(dict.fromkeys(wanted), sections, sample_rate, channel, report)
        normals = [sounds[group, int(row)] for row in made.normal]
        partners = [sounds[partner] for partner in made.partner]
        normal[places] = _in_batches(hearing, normals, sample_rate, folds, names)
        for strength in range(STRENGTHS):
            clips = _changed(normals, partners, sample_rate, made, strength)
            of = folds[made.base], names[made.base]
            pseudo[places, strength] = _in_batches(hearing, clips, sample_rate, *of)
    for candidate, *of_candidate in zip(candidates, normal, pseudo, strict=True):
        if not all(np.isfinite(scores).all() for scores in of_candidate):
            raise UserError(
                f"{candidate.name} has scores of {title_of(group)} that are no numbers, as those "
                "of a training that diverged; leave it out"
            )
    rows = [own.rows[row] for row in made.normal]
    return SectionScores(
        normal=normal,
        group=group_numbers(rows),
        target=np.array([row.domain == "target" for row in rows]),
        pseudo=pseudo,
        kind=made.kind,
        base=made.base,
    )


def _changed(
    normals: Sequence[np.ndarray],
    partners: Sequence[np.ndarray],
    sample_rate: int,
    made: _Made,
    strength: int,
) -> list[np.ndarray]:
    """(samples,) of the pseudo-anomalies of one strength."""
    return [
        pseudo_anomaly(
            normals[base], partner, sample_rate, PseudoAnomaly(KINDS[kind], strength, seed)
        )
        for kind, base, partner, seed in zip(made.kind, made.base, partners, made.seed, strict=True)
    ]


def _scorer(
    candidate: Candidate, group: Group, own: Section, note: Callable[[str], None]
) -> FoldScorer:
    def names_of(leaf: FittedDetector) -> list[str]:
        return [row.clip for row in candidate.members[id(leaf)][group]]

    scorer = FoldScorer.of(candidate.fitted, group, own.fold_of, names_of)
    if not scorer.complete:
        note(
            f"{title_of(group)}: {candidate.name} cannot be fitted without the clips "
            "that it is judged by, as too few are left, so it looks better than new ones would show"
        )
    return scorer


def _in_batches(
    scorers: Sequence[FoldScorer], clips: Sequence[np.ndarray], sample_rate: int, *of: np.ndarray
) -> np.ndarray:
    """(candidates, clips) scores, by folds and names (clips,); those of one length together."""
    folds, names = of
    scores = np.empty((len(scorers), len(clips)))
    alike: dict[tuple[int, int], list[int]] = {}
    for i, clip in enumerate(clips):
        alike.setdefault((len(clip), int(folds[i])), []).append(i)
    for rows in alike.values():
        for first in range(0, len(rows), _AT_ONCE):
            some = rows[first : first + _AT_ONCE]
            waveforms = np.stack([clips[i] for i in some])
            shared: dict[Hashable, np.ndarray] = {}
            for number, scorer in enumerate(scorers):
                own = folds[some], shared, names[some].tolist()
                scores[number, some] = scorer(waveforms, sample_rate, *own)
    return scores


def _read(
    wanted: Mapping[tuple[Group, int], None],
    sections: Mapping[Group, Section],
    sample_rate: int,
    channel: int | str,
    report: Callable[[str], None],
) -> dict[tuple[Group, int], np.ndarray]:
    """(samples,) of clips; UserError for a recording that is not there or cannot be read."""
    keys = [*wanted]
    paths = [sections[group].paths[row] for group, row in keys]
    found = {}
    recordings = read_recordings(paths, sample_rate, channel, report=report)
    with contextlib.closing(recordings):
        for i, waveform in recordings:
            group, row = keys[i]
            clip = piece_of(waveform, sample_rate, span_of(sections[group].rows[row].clip))
            found[keys[i]] = np.concatenate([*clip.blocks])
    return found
