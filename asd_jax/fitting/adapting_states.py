"""Operating states of clips that a fitted system is adapted to: which of them it learns from."""

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np

from asd_jax.data.clips import Clip
from asd_jax.data.groups import group_numbers
from asd_jax.data.states import OFF, TRANSIENT
from asd_jax.errors import UserError
from asd_jax.features.batches import read_blocks
from asd_jax.features.table import Features
from asd_jax.fitting.adapting import fitted_clips
from asd_jax.fitting.detector import FittedDetector
from asd_jax.fitting.judging import found_states, needs_levels
from asd_jax.fitting.layout import Group
from asd_jax.fitting.operating import frame_levels, states_line, with_states
from asd_jax.scoring.quiet import segment_levels
from asd_jax.scoring.state_space import StateSpace


def with_new_states(
    fitted: FittedDetector, features: Features, report: Callable[[str], None]
) -> tuple[FittedDetector, Features]:
    """The system with the states that new clips add, and the clips that it learns from.

    Clips that are off, transient, without a state, or of a state that too few are of are left out,
    as in a fit. A network cannot learn another state. What is off by its level stays as the fit
    found it, as clips that were off are not kept.

    Args:
        fitted: the system.
        features: of clips that it does not know, of machines and sections that were fitted.
        report: called with a line about each machine's states.

    Raises:
        UserError: with the new clips, known ones would be of other states, or of none.
    """
    data = fitted.config.data
    if not (data.state or data.learn_off or any(clip.state for clip in features.clips)):
        return fitted, features
    by = ("machine", "section") if fitted.detector.scope == "section" else ("machine",)
    groups = {(*place, "")[:2]: own for place, own in features.clips.groups(*by).items()}
    states = [clip.state for clip in features.clips]
    spaces = dict(fitted.operating.spaces)
    learned = np.zeros(len(states), bool)
    for group, rows in groups.items():
        for row, state in zip(rows.tolist(), _found(fitted, features, group, rows), strict=True):
            states[row] = state
        own = [dataclasses.replace(features.clips[row], state=states[row]) for row in rows.tolist()]
        name, space = "/".join(group), None
        if data.state:
            spaces[name] = space = _space(fitted, group, own)
        learned[rows] = [_is_learned(clip, space) for clip in own]
        clips = with_states(features, states).clips
        done, lacking = "new clips are learned from", "with too few others"
        if fitted.config.detector.trains:
            lacking = "that the network was not trained on"
        report(states_line(group, rows, ~learned, clips, space, done, lacking))
    operating = fitted.operating._replace(spaces=spaces)
    kept = with_states(features, states).take(np.flatnonzero(learned))
    return dataclasses.replace(fitted, operating=operating), kept


def _found(fitted: FittedDetector, features: Features, group: Group, rows: np.ndarray) -> list[str]:
    """The states of some clips of a group, off or transient where their levels say so."""
    states = [features.clips[row].state for row in rows.tolist()]
    resolved = fitted.resolve(group[0], group[1] or None)
    if not needs_levels(fitted, resolved):
        return states
    waveforms = fitted.config.detector.hears_waveforms
    levels = [
        segment_levels(frame_levels(blocks, waveforms)) for _, blocks in read_blocks(features, rows)
    ]
    return found_states(fitted, resolved, states, levels)


def _space(fitted: FittedDetector, group: Group, new: Sequence[Clip]) -> StateSpace:
    """The states of known and new clips; of a network those that it knows."""
    before = fitted.operating.spaces["/".join(group)]
    if fitted.config.detector.trains:
        return before
    known = fitted_clips(fitted, group)
    every = [*known, *(clip for clip in new if clip.state not in (OFF, TRANSIENT))]
    numbers = group_numbers(every)
    kept = np.ones(len(every), bool)
    while True:  # what is left may be of other states than all were
        own = np.flatnonzero(kept)
        states = [every[i].state for i in own.tolist()]
        space, category = StateSpace.of(states, numbers[own].tolist())
        if (category >= 0).all():
            break
        kept[own[category < 0]] = False
    if not kept[: len(known)].all():
        raise UserError(
            f"{' '.join(filter(None, group))}: with these clips, {(~kept[: len(known)]).sum()} of "
            "those that are known would be of states of too few; run it again on all of them"
        )
    return space


def _is_learned(clip: Clip, space: StateSpace | None) -> bool:
    """Whether a clip is learned from."""
    if clip.state in (OFF, TRANSIENT):
        return False
    return space is None or space.place(clip.state) is not None
