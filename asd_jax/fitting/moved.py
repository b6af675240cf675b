"""Scores of systems that compare clips of all states, less what the states move in them."""

import dataclasses
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from asd_jax.data.clips import Clip
from asd_jax.evaluation.promises import numbered
from asd_jax.evaluation.results import TrainingRow
from asd_jax.evaluation.row_table import RowTable
from asd_jax.fitting.layout import group_name
from asd_jax.scoring.moved_scores import fit_moved_scores
from asd_jax.scoring.operating import NAMES

if TYPE_CHECKING:
    from asd_jax.fitting.detector import FittedDetector


def without_moved(
    fitted: "FittedDetector",
    chosen: Sequence[int],
    states: Sequence[str],
    scores: np.ndarray,
) -> np.ndarray:
    """Scores (models, clips) of models `chosen`, without what the clips' states (clips,) move."""
    if not fitted.operating.moved:
        return scores
    scores = scores.copy()
    for row, m in zip(scores, chosen, strict=True):
        model = fitted.models[m]
        of_seeds = fitted.operating.moved.get(group_name(model))
        if of_seeds is not None:
            moved = of_seeds[fitted.config.seeds.index(model.seed)]
            row[:] = [moved.less(*own) for own in zip(row.tolist(), states, strict=True)]
    return scores


def states_of_rows(rows: RowTable[TrainingRow], clips: Iterable[Clip]) -> list[str]:
    """The state of each row's clip."""
    state_of = {(clip.machine, clip.section, clip.name): clip.state for clip in clips}
    keys = zip(rows.values("machine"), rows.values("section"), rows.values("clip"), strict=True)
    return [state_of[key] for key in keys]


def with_moved_scores(
    fitted: "FittedDetector", rows: RowTable[TrainingRow], states: Sequence[str]
) -> tuple["FittedDetector", RowTable[TrainingRow]]:
    """The system, which knows what states move in its scores, and the rows without that.

    Args:
        fitted: the system, of which the rows are.
        rows: of all known clips of some of its machines or sections, as it scores without knowing
            what states move.
        states: of each row.

    Returns:
        Both as they are for a system that compares by state, or without given states.
    """
    spaces = {
        name: space
        for name, space in fitted.operating.spaces.items()
        if len(space.categories) > 1 or space.points
    }
    if not spaces or NAMES[0] in fitted.calibration:
        return fitted, rows
    scores = rows.numbers("score").copy()
    setting = rows.numbers("sets_threshold") > 0
    by = ("machine", "section") if fitted.detector.scope == "section" else ("machine",)
    moved = dict(fitted.operating.moved)
    for group, own in rows.groups(*by).items():
        name = group_name(fitted.models[fitted.models_for((*group, "")[:2])[0]])
        if name not in spaces:
            continue
        groups = numbered(rows.column("group")[own])
        of_seed = rows.numbers("seed")[own]
        found = []
        for seed in fitted.config.seeds:
            here = of_seed == seed
            at = own[here]
            if not np.isfinite(scores[at]).all():  # of a model that could not be fitted
                break
            each, scores[at] = fit_moved_scores(
                *(scores[at], [states[row] for row in at], groups[here]),
                spaces[name],
                setting[at],
            )
            found.append(each)
        else:
            moved[name] = tuple(found)
    operating = fitted.operating._replace(moved=moved)
    return dataclasses.replace(fitted, operating=operating), rows.replace(score=scores)
