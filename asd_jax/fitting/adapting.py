"""Adapting a fitted system to more normal clips, without those that it was fitted to.

Systems without training keep a vector of every clip, so that they are fitted again to all vectors:
what comes out is the fit to all clips. For networks see `asd_jax.fitting.adapting_networks`.
"""

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from asd_jax.data.clips import HELD_OUT, NORMAL, Clip
from asd_jax.data.identity import UNREADABLE
from asd_jax.data.supplemental import NOISE, SPLIT
from asd_jax.detectors.base import TrainingClips
from asd_jax.detectors.untrained import OF_SUPPLEMENTAL
from asd_jax.errors import UserError
from asd_jax.evaluation.results import TrainingRow
from asd_jax.evaluation.row_table import RowTable
from asd_jax.features.batches import table_clips
from asd_jax.features.table import ArrayFeatures, Features
from asd_jax.fitting.adapting_networks import adapted_network, check_bound
from asd_jax.fitting.detector import FittedDetector
from asd_jax.fitting.fitting import stack
from asd_jax.fitting.history import History, KnownClip, KnownClips, known_clips, with_more_known
from asd_jax.fitting.layout import Group, group_name
from asd_jax.fitting.lengths import FRAMES
from asd_jax.fitting.moved import with_moved_scores
from asd_jax.fitting.normal import with_more_normal
from asd_jax.fitting.pooled import pool_clips, pool_program
from asd_jax.fitting.scores import training_rows
from asd_jax.fitting.thresholds import with_thresholds
from asd_jax.runtime.progress import Reporter
from asd_jax.scoring.thinning import thinned
from asd_jax.training import FleetModel


class Adapted(NamedTuple):
    """A system adapted to more clips.

    Attributes:
        fitted: the system.
        rows: scores of all clips that it knows, as of training_scores.csv.
    """

    fitted: FittedDetector
    rows: RowTable[TrainingRow]


def adapt_clips(
    fitted: FittedDetector,
    features: Features,
    rows: RowTable[TrainingRow] | None,
    reporter: Reporter,
    *,
    max_bank: int | None = None,
) -> Adapted:
    """Adapts a system to more normal clips.

    Args:
        fitted: the system, with thresholds.
        features: of the clips, of machines and sections that were fitted, none of them known.
        rows: of training_scores.csv; None for those that the system itself has.
        reporter: shows progress, and lines about thresholds.
        max_bank: clips that a system of nearest neighbours keeps of each machine or section.

    Raises:
        UserError: the system cannot learn from these clips, or has no bank to bound.
    """
    if max_bank is not None:
        check_bound(fitted)
    if fitted.history is None:
        fitted = dataclasses.replace(fitted, history=_history_of(fitted, rows))
    by = ("machine", "section") if fitted.detector.scope == "section" else ("machine",)
    new = {(*place, "")[:2]: own for place, own in features.clips.groups(*by).items()}
    if fitted.config.detector.trains:
        adapted, rows = adapted_network(fitted, features, new, rows, max_bank, reporter)
        adapted = with_more_normal(adapted, features, new, {})
    else:
        adapted, dropped = _refitted(fitted, features, new, max_bank, reporter)
        adapted = with_more_normal(adapted, features, new, dropped)
        known = with_more_known(fitted, features, new, dropped)
        adapted = dataclasses.replace(adapted, history=known)
        rows, clips = _rows_of_fit(adapted)
        adapted, rows = with_moved_scores(adapted, rows, [clip.state for clip in clips])
    with_new = with_thresholds(adapted, rows, reporter)
    # Networks without new clips keep what they have, as do machines without rows.
    stays = np.array([_stays(fitted, model, new) for model in fitted.models])
    stays |= np.isnan(with_new.thresholds)
    thresholds = np.where(stays, fitted.thresholds, with_new.thresholds)
    of_groups = {**fitted.group_thresholds, **with_new.group_thresholds}
    for model in fitted.models:
        name = group_name(model)
        if _stays(fitted, model, new) and name in fitted.group_thresholds:
            of_groups[name] = fitted.group_thresholds[name]
    return Adapted(
        dataclasses.replace(with_new, thresholds=thresholds, group_thresholds=of_groups), rows
    )


def _stays(fitted: FittedDetector, model: FleetModel, new: Mapping[Group, np.ndarray]) -> bool:
    """Whether a model is a network of a machine or section without new clips."""
    return fitted.config.detector.trains and (model.machine, model.section) not in new


def _history_of(fitted: FittedDetector, rows: RowTable[TrainingRow] | None) -> History:
    """What the scores of the training clips tell of them, of a system of an earlier version."""
    name = fitted.config.detector.name
    if rows is None:
        raise UserError(f"{name} was fitted by an earlier version that kept less; fit it again")
    if getattr(fitted.config.detector, "states", "") == "attributes":
        raise UserError(
            f"{name} was fitted by an earlier version that did not keep its clips' attributes, "
            "which detector.states=attributes needs; run it again into another --out_dir"
        )
    known: dict[Group, list[KnownClip]] = {}
    for model in fitted.models:
        known.setdefault((model.machine, model.section), [])
    for row in rows:
        group = (row.machine, row.section) if row.by_section else (row.machine, "")
        if group in known and row.seed == fitted.config.seeds[0]:
            held_out = fitted.config.detector.trains and row.unseen
            clip = Clip(row.machine, row.section, HELD_OUT if held_out else "train", "", "")
            clip = dataclasses.replace(clip, domain=row.domain, group=row.group)
            known[group].append(KnownClip.of(clip, UNREADABLE))
    nothing = np.zeros((0, 3, 0), np.float16)
    return History(
        {group: KnownClips(tuple(own), np.zeros(0, int), nothing) for group, own in known.items()}
    )


def _refitted(
    fitted: FittedDetector,
    features: Features,
    new: dict[Group, np.ndarray],
    max_bank: int | None,
    reporter: Reporter,
) -> tuple[FittedDetector, dict[Group, np.ndarray]]:
    """A system without training, fitted to all vectors; and masks of those that it drops."""
    detector, before = fitted.detector, fitted.calibration
    program = functools.partial(pool_program(detector, "pool"), {})
    calibrations, dropped, clips_of = [], {}, []
    frames = np.array(before[FRAMES]) if FRAMES in before else None
    reporter.start("calibrating", len(fitted.models))
    for m, model in enumerate(fitted.models):
        group = (model.machine, model.section)
        stored = _stored(before, m)
        clips = fitted_clips(fitted, group)
        if group in new and len(clips) != len(stored["vectors"]):
            raise UserError(
                f"{model.name}: it could not be fitted before, so nothing was kept of its "
                "clips; run it again on all of them"
            )
        if group in new:
            pooled = pool_clips(detector, program, table_clips(features, new[group]))
            vectors = np.stack([*stored["vectors"], *(value[0] for _, value in pooled)])
            clips += [features.clips[row] for row in new[group].tolist()]
            if max_bank is not None and len(vectors) > max_bank:
                kept = _thinned(detector.config.detector, vectors, clips, max_bank)
                dropped[group] = ~kept
                clips = [clip for clip, stays in zip(clips, kept, strict=True) if stays]
                reporter.line(f"{model.name}: {(~kept).sum()} of {len(kept)} clips leave the bank")
                vectors = vectors[kept]
            stored = detector.calibrate(_learned(clips, vectors, stored))
            if frames is not None:
                counts = np.append(features.n_frames[new[group]], frames[m])
                frames[m] = counts.min(), counts.max()
        calibrations.append(stored)
        clips_of.append(clips)
        reporter.advance(m + 1)
    reporter.stop()
    # A model without a calibration, which was reported when it was fitted, has no vectors.
    stacked = {name: stack(*[each[name] for each in calibrations]) for name in calibrations[0]}
    calibration = detector.calibrate_fleet(stacked, [], None)
    for line in detector.notes(calibration, clips_of):
        reporter.line(line)
    if frames is not None:
        calibration[FRAMES] = frames
    return dataclasses.replace(fitted, calibration=calibration), dropped


def _stored(calibration: Any, model: int) -> dict[str, np.ndarray]:
    """What `Untrained.calibrate` gave of a model, without padding."""
    there = np.isfinite(calibration["state"][model])
    names = ["vectors", "state", "group", *({"place"} & calibration.keys())]
    stored = {name: calibration[name][model][there] for name in names}
    if "kin" in calibration:
        stored["kin"] = calibration["kin"][model]
    if calibration.keys() >= OF_SUPPLEMENTAL:
        there = np.isfinite(calibration["is_noise"][model])
        stored |= {name: calibration[name][model][there] for name in OF_SUPPLEMENTAL}
    return stored


def _learned(
    clips: Sequence[Clip], vectors: np.ndarray, stored: dict[str, np.ndarray]
) -> TrainingClips:
    """Clips with their vectors, and the supplemental ones that are kept beside them."""
    also = [
        Clip(clips[0].machine, "", SPLIT, NOISE if noise else "machine", "")
        for noise in stored.get("is_noise", ())
    ]
    every = [*vectors, *stored.get("supplemental", ())]
    return TrainingClips([*clips, *also], lambda chosen: (every[i] for i in chosen.tolist()))


def _thinned(config: Any, vectors: np.ndarray, clips: Sequence[Clip], most: int) -> np.ndarray:
    """Mask of the vectors that stay in a bank."""
    if config.metric == "cosine":
        vectors = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-300)
    return thinned(vectors, np.array([clip.domain == "target" for clip in clips]), most)


def fitted_clips(fitted: FittedDetector, group: Group) -> list[Clip]:
    """The clips that a system without training is fitted to, in the order of its vectors."""
    assert fitted.history is not None
    machine, section = group
    known = fitted.history.known[group].clips
    names: Sequence[str] = [""] * len(known)
    if fitted.normal is not None:
        names = fitted.normal.clips[group].names
    return [
        Clip(
            *(machine, section, "train", name, ""),
            domain=clip.domain,
            label=NORMAL,
            attributes=clip.attributes,
            group=clip.group,
            start=clip.start,
            state=clip.state,
        )
        for clip, name in zip(known, names, strict=True)
    ]


def _rows_of_fit(fitted: FittedDetector) -> tuple[RowTable[TrainingRow], list[Clip]]:
    """The scores that a system without training has of its own clips, and these."""
    tables, known = [], list[Clip]()
    for model in fitted.models:
        group = (model.machine, model.section)
        clips = ArrayFeatures(fitted_clips(fitted, group), [])
        known += clips.clips
        count = len(clips.clips)
        tables.append(training_rows(fitted, clips, group, np.arange(count), 1, 1))
    return RowTable.concatenate(tables, TrainingRow), known


def not_known(fitted: FittedDetector, features: Features) -> np.ndarray:
    """Rows of the clips that a system does not know, of copies the first.

    Args:
        fitted: the system.
        features: of clips.
    """
    known = {clip.key for own in _known(fitted) for clip in own.clips}
    rows = []
    for row, clip in enumerate(known_clips(features, np.arange(len(features.clips)))):
        if clip.key not in known:
            known.add(clip.key)
            rows.append(row)
    return np.array(rows, int)


def _known(fitted: FittedDetector) -> Sequence[KnownClips]:
    return () if fitted.history is None else [*fitted.history.known.values()]
