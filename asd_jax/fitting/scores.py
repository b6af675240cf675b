"""Scores of the training clips, of those held out, and of the test clips."""

from collections.abc import Callable

import numpy as np

from asd_jax.errors import UserError
from asd_jax.evaluation.results import NO_DECISION, ScoreRow, TrainingRow, scored
from asd_jax.evaluation.row_table import RowTable, text_column
from asd_jax.evaluation.verdicts import unscored_lines, with_verdicts
from asd_jax.features.batches import read_blocks
from asd_jax.features.table import Features
from asd_jax.fitting.detector import FittedDetector
from asd_jax.fitting.judging import found_states, lacks_state, needs_levels, unscored
from asd_jax.fitting.layout import Group, Layout
from asd_jax.fitting.lengths import length_line
from asd_jax.fitting.operating import frame_levels
from asd_jax.runtime.progress import Reporter
from asd_jax.scoring.conformal import p_values
from asd_jax.scoring.quiet import segment_levels


def score_training(
    fitted: FittedDetector,
    features: Features,
    layout: Layout,
    reporter: Reporter,
) -> RowTable[TrainingRow]:
    """Scores the training clips by the models that serve them.

    Args:
        fitted: a fitted system, with or without thresholds.
        features: a table with its training clips; other clips are left out.
        layout: of these clips.
        reporter: shows progress.

    Raises:
        UserError: there are no training clips of any of its models.
    """
    rows: list[RowTable[TrainingRow]] = []
    groups = layout.groups
    served = {group: own for group, own in groups.items() if fitted.models_for(group)}
    if not served:  # of an imported model
        raise UserError(
            f"the model is of {', '.join(fitted.machines)}, the training clips are of "
            f"{', '.join(dict.fromkeys(machine for machine, _ in groups))}; import it for that "
            "machine into another --out_dir"
        )
    reporter.start("scoring training clips", len(served))
    for done, (group, indices) in enumerate(served.items(), 1):
        held_out = layout.held_out.get(group, np.zeros(0, int))
        # Systems without training score their training clips by models without their groups.
        left_out = not fitted.config.detector.trains
        setting = int(not len(held_out))
        rows.append(training_rows(fitted, features, group, indices, setting, int(left_out)))
        if len(held_out):
            rows.append(training_rows(fitted, features, group, held_out, 1, 1))
        reporter.advance(done)
    reporter.stop()
    return RowTable.concatenate(rows, TrainingRow)


def training_rows(
    fitted: FittedDetector,
    features: Features,
    group: Group,
    indices: np.ndarray,
    sets_threshold: int,
    unseen: int,
) -> RowTable[TrainingRow]:
    """Rows of some clips of a group, of one seed after another."""
    chosen, trains = fitted.models_for(group), fitted.config.detector.trains
    clips = features.clips[indices]
    labels = np.zeros(len(clips), np.int64)
    for place, own in clips.groups("machine", "section").items():
        labels[own] = fitted.label_of(place)
    held_out = trains and bool(unseen)
    # The fit's own scores are of the clips that it was given, (seeds, clips); or there are none.
    scores = None if held_out else fitted.training_scores(chosen)
    if scores is not None:
        scores = scores[:, : len(clips)]  # the rest is padding
    else:
        states = clips.column("state")
        scores = fitted.model_scores(
            *(chosen, features, indices, labels),
            trained_on=not held_out,
            states=[states.values[code] for code in states.codes.tolist()],
        )
    facts = {name: clips.column(name) for name in ("machine", "section", "domain", "group")}
    parts = [
        RowTable.of_columns(
            TrainingRow,
            len(clips),
            **facts,
            seed=seed,
            clip=clips.names,
            score=np.asarray(row),
            sets_threshold=sets_threshold,
            unseen=unseen,
            by_section=int(fitted.detector.scope == "section"),
        )
        for seed, row in zip(fitted.config.seeds, scores, strict=True)
    ]
    return RowTable.concatenate(parts, TrainingRow)


def score_clips(
    fitted: FittedDetector,
    features: Features,
    reporter: Reporter,
    after: Callable[[str, RowTable[ScoreRow]], None] | None = None,
) -> RowTable[ScoreRow]:
    """Scores test clips by all models that serve their machine and section.

    Args:
        fitted: a fitted system, with thresholds.
        features: of the test clips.
        reporter: shows progress.
        after: called with a machine and its rows, once all of them are there.
    """
    groups = features.clips.groups("machine", "section")
    rows: list[RowTable[ScoreRow]] = []
    own: list[RowTable[ScoreRow]] = []  # of the machine
    before = ""

    def machine_done() -> None:
        if after is not None and own:
            after(before, scored(RowTable.concatenate(own, ScoreRow)))

    reporter.start("scoring", len(groups))
    for done, ((machine, section), indices) in enumerate(sorted(groups.items()), 1):
        if machine != before:
            machine_done()
            before, own = machine, []
        try:
            group = fitted.resolve(machine, section)
        except UserError as error:
            reporter.line(f"{error}; its test clips have no scores")
            continue
        chosen, clips = fitted.models_of(group), features.clips[indices]
        names = clips.names.tolist()
        if line := length_line(fitted, group, names, features.n_frames[indices]):
            reporter.line(line)
        labels = np.full(len(indices), fitted.label_of(group))
        states = states_of(fitted, group, features, indices)
        if lacking := sum(lacks_state(fitted, group, states)):
            reporter.line(
                f"{machine} {section}: {lacking} of {len(states)} test clips have no state; they "
                "are scored whatever it is"
            )
        why = unscored(fitted, group, states)
        is_scored = np.array([not each for each in why], bool)
        # (seeds, clips)
        scores = fitted.model_scores(chosen, features, indices, labels, states=states)
        first = chosen[:: fitted.detector.repeats]  # of each seed's trainings
        for m, row in zip(first, scores, strict=True):
            threshold, seed = float(fitted.thresholds[m]), fitted.models[m].seed
            row = np.where(is_scored, np.asarray(row), np.float32(np.nan))
            decision = np.where(is_scored, row > threshold, NO_DECISION)
            own.append(
                RowTable.of_columns(
                    ScoreRow,
                    len(clips),
                    machine=machine,
                    section=section,
                    domain=clips.column("domain"),
                    seed=seed,
                    clip=clips.names,
                    label=clips.column("label"),
                    score=row,
                    threshold=threshold,
                    decision=decision.astype(int),
                    p_value=p_values(row, fitted.group_reference(group, seed)),
                    state=text_column(states),
                    verdict=text_column(why),
                )
            )
            rows.append(own[-1])
        for line in unscored_lines(own[-1]):
            reporter.line(line)
        reporter.advance(done)
    machine_done()
    reporter.stop()
    return with_verdicts(RowTable.concatenate(rows, ScoreRow))


def states_of(
    fitted: FittedDetector, group: Group, features: Features, indices: np.ndarray
) -> list[str]:
    """The state of each clip, as given, or off or transient by its level."""
    column = features.clips[indices].column("state")
    states = [column.values[code] for code in column.codes.tolist()]
    if not needs_levels(fitted, group):
        return states
    waveforms = fitted.config.detector.hears_waveforms
    levels = [
        segment_levels(frame_levels(blocks, waveforms))
        for _, blocks in read_blocks(features, indices)
    ]
    return found_states(fitted, group, states, levels)
