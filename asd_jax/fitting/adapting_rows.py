"""Rows of training_scores.csv of the clips that a network knows, where it is adapted to more."""

from collections.abc import Sequence

import numpy as np

from asd_jax.data.clips import HELD_OUT
from asd_jax.errors import UserError
from asd_jax.evaluation.results import TrainingRow
from asd_jax.evaluation.row_table import RowTable
from asd_jax.fitting.detector import FittedDetector
from asd_jax.fitting.history import KnownClip
from asd_jax.fitting.layout import Group
from asd_jax.runtime.progress import Reporter

# Clips that a network has not seen from which on they alone set its threshold.
FEWEST = 10


def facts_of_known(
    fitted: FittedDetector, rows: RowTable[TrainingRow] | None
) -> dict[Group, list[list[TrainingRow]]]:
    """Rows of the known clips of each group and seed, in the order of the history."""
    assert fitted.history is not None
    facts: dict[Group, list[list[TrainingRow]]] = {}
    by_section = fitted.detector.scope == "section"
    for group, known in fitted.history.known.items():
        if rows is None:
            facts[group] = [_rows_of_known(fitted, group, seed) for seed in fitted.seeds]
            continue
        facts[group] = [[] for _ in fitted.seeds]
        for row in rows:
            if group == ((row.machine, row.section) if by_section else (row.machine, "")):
                facts[group][fitted.seeds.index(row.seed)].append(row)
        if any(len(own) != len(known.clips) for own in facts[group]):
            raise UserError(
                f"{' '.join(filter(None, group))}: training_scores.csv has not the clips that the "
                "model knows; it is of another run"
            )
    return facts


def _rows_of_known(fitted: FittedDetector, group: Group, seed: int) -> list[TrainingRow]:
    """Rows of known clips, without names and scores."""
    assert fitted.history is not None
    known = fitted.history.known[group].clips
    unseen = [not is_learned(clip) for clip in known]
    setting = any(clip.split == HELD_OUT for clip in known) or sum(unseen) >= FEWEST
    by_section = int(fitted.detector.scope == "section")
    return [
        TrainingRow(
            *(group[0], clip.section or group[1], clip.domain, seed, "", np.nan),
            sets_threshold=int(own == setting),
            unseen=int(own),
            group=clip.group,
            by_section=by_section,
        )
        for clip, own in zip(known, unseen, strict=True)
    ]


def is_learned(clip: KnownClip) -> bool:
    """Whether the network's weights are of a clip."""
    return clip.version == 0 and clip.split != HELD_OUT


def rows_of_reference(fitted: FittedDetector) -> RowTable[TrainingRow]:
    """The scores of clips that a network has not seen, without their names."""
    rows = []
    for m, model in enumerate(fitted.models if fitted.reference else ()):
        if model.repeat:
            continue
        scores, groups = (fitted.reference[name][m] for name in ("scores", "groups"))
        for score, group in zip(scores.tolist(), groups.tolist(), strict=True):
            if not np.isnan(score):
                facts = (model.machine, model.section, "", model.seed, "", score, 1, 1)
                by_section = int(fitted.detector.scope == "section")
                rows.append(TrainingRow(*facts, group=f"group {group}", by_section=by_section))
    return RowTable.of(rows, TrainingRow)


def with_flags(
    name: str,
    known: Sequence[TrainingRow],
    new: Sequence[TrainingRow],
    stays: str,
    reporter: Reporter,
) -> list[TrainingRow]:
    """Rows of known and new clips of a group that say which of them set the threshold.

    Clips that a network has not seen set it, once there are enough of them.
    """
    seed = new[0].seed
    unseen = [row for row in known if row.unseen and row.seed == seed]
    setting = any(row.sets_threshold for row in unseen)
    count = len(unseen) + sum(row.seed == seed for row in new)
    if not setting and count < FEWEST:
        reporter.line(
            f"{name}: {count} new clips are too few for a threshold, and {stays}; from {FEWEST} on "
            "they set it"
        )
        return [*known, *(row._replace(sets_threshold=0) for row in new)]
    if not setting:
        reporter.line(
            f"{name}: thresholds and p-values are now by {count} clips that no model learned from"
        )
    return [row._replace(sets_threshold=row.unseen) for row in (*known, *new)]
