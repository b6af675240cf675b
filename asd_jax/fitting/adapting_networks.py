"""Adapting a fitted network to more normal clips: its weights stay, what it compares with grows.

Its thresholds and p-values are by clips that it has not learned from: those that were held out, and
the new ones. A new clip joins what clips are compared with, so that it is scored by a fit without
it: the new clips are in five parts, by groups, and each part is scored by the fit to the rest.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from asd_jax.data.clips import HELD_OUT
from asd_jax.detectors.banked import BankedConfig
from asd_jax.errors import UserError
from asd_jax.evaluation.results import TrainingRow
from asd_jax.evaluation.row_table import RowTable
from asd_jax.features.batches import ClipFrames
from asd_jax.features.table import Features
from asd_jax.fitting.adapting_rows import (
    facts_of_known,
    is_learned,
    rows_of_reference,
    with_flags,
)
from asd_jax.fitting.detector import SHARE_CLIPS, FittedDetector
from asd_jax.fitting.fitting import stack
from asd_jax.fitting.history import KnownClip, with_more_known
from asd_jax.fitting.kept import BANK, LEFT, OF_FIT, Kept, kept_clips, part_of
from asd_jax.fitting.layout import Group
from asd_jax.fitting.moved import with_moved_scores
from asd_jax.fitting.pooled import scores_of_pools, take
from asd_jax.fitting.scores import training_rows
from asd_jax.runtime.progress import Reporter
from asd_jax.scoring.thinning import thinned

_New = Mapping[Group, np.ndarray]


def adapted_network(
    fitted: FittedDetector,
    features: Features,
    new: _New,
    rows: RowTable[TrainingRow] | None,
    max_bank: int | None,
    reporter: Reporter,
) -> tuple[FittedDetector, RowTable[TrainingRow]]:
    """A network adapted to new clips, and scores of all clips that it knows.

    Args:
        fitted: the network, with thresholds and its history.
        features: of the new clips.
        new: their rows, by machine and section.
        rows: of training_scores.csv; None for those that the system itself has.
        max_bank: as of `adapt_clips`.
        reporter: shows progress, and lines about thresholds.

    Raises:
        UserError: the scores of new clips are no numbers, or the bound leaves too few clips.
    """
    every: list[TrainingRow] = []
    done = 0
    if fitted.kept is None:
        if fitted.detector.keeps:
            reporter.line(
                f"{fitted.config.detector.name} goes on to compare with the clips of its fit, of "
                "which too little was kept: it was fitted by an earlier version, or to very many "
                "clips. Run it again on all of them, or go on with new thresholds alone"
            )
        apart = features.with_clips(features.clips.replace(split=HELD_OUT))
        known = rows if rows is not None else rows_of_reference(fitted)
        history = with_more_known(fitted, apart, new, {})
        every = _with_new_rows(fitted, apart, new, [*known], reporter)
        return dataclasses.replace(fitted, history=history), RowTable.of(every, TrainingRow)
    of_clips = facts_of_known(fitted, rows)
    grown = _with_new(fitted, features, new, of_clips)
    if max_bank is not None:
        grown = _bounded(grown, new, max_bank, of_clips, reporter)
    reporter.start("comparing with more clips", len(new))
    groups = [*dict.fromkeys((model.machine, model.section) for model in fitted.models)]
    grown = dataclasses.replace(grown, calibration=_calibration(grown, groups))
    for group, of_seeds in of_clips.items():
        if group not in new and rows is not None:  # scored, by what has not changed
            every += [row for own in of_seeds for row in own]
            continue
        grown, table = _scored_anew(grown, group, of_seeds, len(new.get(group, ())), reporter)
        every += table
        done += group in new
        reporter.advance(done)
    reporter.stop()
    return grown, RowTable.of(every, TrainingRow)


def _scored_anew(
    grown: FittedDetector,
    group: Group,
    of_seeds: list[list[TrainingRow]],
    count: int,
    reporter: Reporter,
) -> tuple[FittedDetector, RowTable[TrainingRow]]:
    """The rows (seeds, clips) of a group by what its clips are now compared with.

    Args:
        grown: the system that knows the new clips.
        group: machine and section.
        of_seeds: rows of each seed, the new clips last.
        count: of new clips.
        reporter: shows lines about thresholds.
    """
    assert grown.history is not None
    name, scores = " ".join(filter(None, group)), _known_scores(grown, group)
    if count and not np.isfinite(scores[:, -count:]).all():
        raise UserError(f"{name}: its scores are no numbers, so it cannot be adapted")
    scored = [
        [row._replace(score=float(score)) for row, score in zip(own, of_seed, strict=True)]
        for own, of_seed in zip(of_seeds, scores, strict=True)
    ]
    states = [clip.state for clip in grown.history.known[group].clips]
    split = len(states) - count
    known = [row for own in scored for row in own[:split]]
    latest = [row for own in scored for row in own[split:]]
    stays = "training clips go on to set it"
    rows = with_flags(name, known, latest, stays, reporter) if latest else known
    in_order = states[:split] * len(scored) + states[split:] * len(scored)
    return with_moved_scores(grown, RowTable.of(rows, TrainingRow), in_order)


def check_bound(fitted: FittedDetector) -> None:
    """Raises UserError where a system has no bank whose vectors could be bounded."""
    config = fitted.config
    own = config.backend.kind == "own" and isinstance(config.detector, BankedConfig)
    if own or config.backend.kind == "knn":
        return
    raise UserError(
        "max_bank bounds the vectors that mel_knn, spectrum_knn, multibranch and backend=knn "
        f"compare with, and {config.detector.name} has no such bank here; leave it out"
    )


def _with_new(
    fitted: FittedDetector,
    features: Features,
    new: _New,
    of_clips: dict[Group, list[list[TrainingRow]]],
) -> FittedDetector:
    """The system that knows the new clips, whose rows are put behind the others."""
    assert fitted.kept is not None
    features = features.with_clips(features.clips.replace(split=BANK))
    history = with_more_known(fitted, features, new, {})
    kept = dict(fitted.kept.clips)
    for group, own in new.items():
        latest = history.known[group].clips[-len(own) :]
        more = kept_clips(fitted, group, features, own, latest)
        assert more is not None  # as there is no bound
        kept[group] = kept[group].with_more(more)
        for seed, rows in zip(fitted.seeds, of_clips[group], strict=True):
            for row in own.tolist():
                clip = features.clips[row]
                facts = (clip.machine, clip.section, clip.domain, seed, clip.name, np.nan, 1, 1)
                by_section = int(fitted.detector.scope == "section")
                rows.append(TrainingRow(*facts, group=clip.group, by_section=by_section))
    return dataclasses.replace(fitted, history=history, kept=Kept(kept))


def _bounded(
    fitted: FittedDetector,
    new: _New,
    max_bank: int,
    of_clips: dict[Group, list[list[TrainingRow]]],
    reporter: Reporter,
) -> FittedDetector:
    """The system with at most so many clips in the banks of some groups, before it is calibrated.

    A clip that the weights are of stays known, so that it is never taken for a new one.
    """
    assert fitted.kept is not None and fitted.history is not None
    backend = fitted.config.backend
    metric = (backend if backend.kind == "knn" else fitted.config.detector).metric
    kept, known = dict(fitted.kept.clips), dict(fitted.history.known)
    for group in new:
        clips = known[group].clips
        bank = _bank(clips)
        if len(bank) <= max_bank:
            continue
        kinds = [(clips[row].section, clips[row].domain == "target") for row in bank.tolist()]
        numbers = {kind: i for i, kind in enumerate(dict.fromkeys(kinds))}
        if len(numbers) > max_bank:
            raise UserError(
                f"{' '.join(filter(None, group))}: max_bank={max_bank} is less than the "
                f"{len(numbers)} sections and domains that it compares with; give more"
            )
        vectors = kept[group].pools[:, bank].astype(np.float64)  # (models, clips, values)
        if metric == "cosine":
            lengths = np.linalg.norm(vectors, axis=-1, keepdims=True)
            vectors = vectors / np.maximum(lengths, 1e-300)
        side_by_side = np.concatenate([*vectors], axis=1)
        stays = thinned(side_by_side, np.array([numbers[kind] for kind in kinds]), max_bank)
        gone = np.zeros(len(clips), bool)
        gone[bank[~stays]] = True
        marked = tuple(
            clip._replace(split=LEFT) if out else clip
            for clip, out in zip(clips, gone, strict=True)
        )
        forgotten = gone & ~np.array([is_learned(clip) for clip in clips])
        known[group] = known[group]._replace(clips=marked).without(forgotten)
        kept[group] = kept[group].without(forgotten)
        for rows in of_clips[group]:
            rows[:] = [row for row, out in zip(rows, forgotten, strict=True) if not out]
        name = " ".join(filter(None, group))
        reporter.line(f"{name}: {gone.sum()} of {len(bank)} clips leave the bank")
    history = dataclasses.replace(fitted.history, known=known)
    return dataclasses.replace(fitted, history=history, kept=Kept(kept))


def _bank(clips: Sequence[KnownClip], without: int | None = None) -> np.ndarray:
    """Places of the clips that others are compared with, but for those of a part."""
    kept = [
        i
        for i, clip in enumerate(clips)
        if clip.split == BANK and (without is None or part_of(clip) != without)
    ]
    return np.array(kept, int)


def _calibration(
    fitted: FittedDetector, groups: Sequence[Group], without: int | None = None
) -> Any:
    """Calibration of the models of some groups, by the clips in their banks.

    Args:
        fitted: the system.
        groups: in the order of its models.
        without: a part of the clips that is left out; arrays have the shapes that all clips give
            them, so that programs are not compiled for each part.
    """
    assert fitted.kept is not None and fitted.history is not None
    detector = fitted.detector
    found: list[dict[str, np.ndarray] | None] = []
    places, tables, before, problem = [], [], 0, None
    for group in groups:
        own, known = fitted.kept.clips[group], fitted.history.known[group].clips
        bank, whole = _bank(known, without), _bank(known)
        place = before + np.arange(len(bank))
        before += len(bank)
        tables.append(own.embeddings[bank])
        for model in range(len(own.pools)):
            places.append(place)
            try:
                learned = own.learned(model, group, known, bank, without)
                of_model = detector.calibrate(learned)
                if detector.keeps == "clips":
                    of_model = {k: _padded(leaf, len(whole)) for k, leaf in of_model.items()}
                found.append(of_model)
            except UserError as error:  # as when it was fitted, which was reported
                found.append(None)
                problem = error
    sound = next((each for each in found if each is not None), None)
    if sound is None:
        raise problem or UserError("there is no model to adapt")
    nothing = {name: np.full_like(leaf, np.nan) for name, leaf in sound.items()}
    filled = [nothing if each is None else each for each in found]
    stacked = {name: stack(*[each[name] for each in filled]) for name in sound}
    embeddings = np.concatenate(tables)
    return detector.calibrate_fleet(stacked, places, embeddings if embeddings.shape[1] else None)


def _padded(leaf: np.ndarray, count: int) -> np.ndarray:
    """Rows of clips, and NaN behind them, as a fleet's are padded."""
    padded = np.full((count, *leaf.shape[1:]), np.nan, leaf.dtype)
    padded[: len(leaf)] = leaf
    return padded


def _known_scores(fitted: FittedDetector, group: Group) -> np.ndarray:
    """(seeds, clips) scores of the known clips of a group, those in its bank by fits without them.

    Clips that the network has learned from are scored as after a fit.
    """
    assert fitted.history is not None
    clips, chosen = fitted.history.known[group].clips, fitted.models_for(group)
    whole = take(fitted.calibration, chosen)
    learned = np.array([is_learned(clip) for clip in clips], bool)
    part = np.array([part_of(clip) if clip.split == BANK else OF_FIT for clip in clips], int)
    scores = np.zeros((len(fitted.seeds), len(clips)), np.float32)
    for trained in (False, True):
        rows = np.flatnonzero((part == OF_FIT) & (learned == trained))
        if len(rows):
            scores[:, rows] = _scores(fitted, group, whole, rows, trained)
    own = fitted.training_scores(chosen)
    bank = _bank(clips)
    if own is not None:
        inside = learned[bank]
        scores[:, bank[inside]] = own[:, : len(bank)][:, inside]
    for without in np.unique(part[part != OF_FIT]).tolist():
        rows = np.flatnonzero(part == without)
        scores[:, rows] = _scores(
            fitted, group, _calibration(fitted, [group], without), rows, False
        )
    return scores


def _scores(
    fitted: FittedDetector, group: Group, calibration: Any, rows: np.ndarray, trained: bool
) -> np.ndarray:
    """(seeds, clips) scores of some known clips by a calibration of the group's models."""
    assert fitted.kept is not None and fitted.history is not None
    own, clips = fitted.kept.clips[group], fitted.history.known[group].clips
    program = scores_of_pools(fitted.detector, SHARE_CLIPS)
    chosen = fitted.models_for(group)
    scores = np.zeros((len(chosen), len(rows)), np.float32)
    for first in range(0, len(rows), SHARE_CLIPS):
        some = []
        for row in rows[first : first + SHARE_CLIPS].tolist():
            label = fitted.label_of((group[0], clips[row].section or group[1]))
            embedding = own.embeddings[row] if own.embeddings.shape[1] else None
            some.append((ClipFrames(row, (), label, embedding), own.pools[:, row]))
        scores[:, first : first + len(some)] = program(calibration, some, trained)[:, : len(some)]
    return fitted.of_seeds(chosen, scores)


def _with_new_rows(
    fitted: FittedDetector,
    features: Features,
    new: _New,
    rows: list[TrainingRow],
    reporter: Reporter,
) -> list[TrainingRow]:
    """The scores of the known clips and of new ones, of a network that compares with no clips."""
    by_section = fitted.detector.scope == "section"
    reporter.start("scoring new clips", len(new))
    for done, (group, own) in enumerate(new.items(), 1):
        name = " ".join(filter(None, group))
        scored = [*training_rows(fitted, features, group, own, 1, 1)]
        if any(not np.isfinite(row.score) for row in scored):
            raise UserError(f"{name}: its scores are no numbers, so it cannot be adapted")
        of_group = (*group,) if by_section else group[:1]
        mine = [row for row in rows if row[: len(of_group)] == of_group]
        others = [row for row in rows if row[: len(of_group)] != of_group]
        rows = others + with_flags(name, mine, scored, "it stays as it is", reporter)
        reporter.advance(done)
    reporter.stop()
    return rows
