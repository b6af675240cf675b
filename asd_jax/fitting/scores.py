"""Scores of the training clips, of those held out, and of the test clips."""

from collections.abc import Iterator

import numpy as np

from asd_jax.errors import UserError
from asd_jax.evaluation.results import ScoreRow, TrainingRow
from asd_jax.features.table import Features
from asd_jax.fitting.detector import FittedDetector
from asd_jax.fitting.layout import Group, Layout
from asd_jax.fitting.lengths import length_line
from asd_jax.runtime.progress import Reporter
from asd_jax.scoring.conformal import p_values


def score_training(
    fitted: FittedDetector,
    features: Features,
    layout: Layout,
    reporter: Reporter,
) -> list[TrainingRow]:
    """Scores the training clips by the models that serve them.

    Args:
        fitted: a fitted system, with or without thresholds.
        features: a table with its training clips; other clips are left out.
        layout: of these clips.
        reporter: shows progress.

    Raises:
        UserError: there are no training clips of any of its models.
    """
    rows: list[TrainingRow] = []
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
        rows += _rows(fitted, features, group, indices, int(not len(held_out)), int(left_out))
        if len(held_out):
            rows += _rows(fitted, features, group, held_out, 1, 1)
        reporter.advance(done)
    reporter.stop()
    return rows


def _rows(
    fitted: FittedDetector,
    features: Features,
    group: Group,
    indices: np.ndarray,
    sets_threshold: int,
    unseen: int,
) -> Iterator[TrainingRow]:
    """Rows of some clips of a group, of one seed after another."""
    chosen, trains = fitted.models_for(group), fitted.config.detector.trains
    clips = [*features.clips[indices]]
    labels = np.array([fitted.label_of((clip.machine, clip.section)) for clip in clips])
    held_out = trains and bool(unseen)
    # The fit's own scores are of the clips that it was given, (seeds, clips); or there are none.
    scores = None if held_out else fitted.training_scores(chosen)
    if scores is not None:
        scores = scores[:, : len(clips)]  # the rest is padding
    else:
        scores = fitted.model_scores(chosen, features, indices, labels, trained_on=not held_out)
    by_section = int(fitted.detector.scope == "section")
    for seed, row in zip(fitted.config.seeds, scores, strict=True):
        for clip, score in zip(clips, row, strict=True):
            place = clip.machine, clip.section, clip.domain, seed, clip.name
            yield TrainingRow(*place, score, sets_threshold, unseen, clip.group, by_section)


def score_clips(fitted: FittedDetector, features: Features, reporter: Reporter) -> list[ScoreRow]:
    """Scores test clips by all models that serve their machine and section."""
    groups = features.clips.groups("machine", "section")
    rows: list[ScoreRow] = []
    reporter.start("scoring", len(groups))
    for done, ((machine, section), indices) in enumerate(sorted(groups.items()), 1):
        try:
            group = fitted.resolve(machine, section)
        except UserError as error:
            reporter.line(f"{error}; its test clips have no scores")
            continue
        chosen, clips = fitted.models_of(group), [*features.clips[indices]]
        names = [clip.name for clip in clips]
        if line := length_line(fitted, group, names, features.n_frames[indices]):
            reporter.line(line)
        labels = np.full(len(indices), fitted.label_of(group))
        scores = fitted.model_scores(chosen, features, indices, labels)  # (seeds, clips)
        first = chosen[:: fitted.detector.repeats]  # of each seed's trainings
        for m, row in zip(first, scores, strict=True):
            threshold, seed = float(fitted.thresholds[m]), fitted.models[m].seed
            rates = p_values(row, fitted.group_reference(group, seed)).tolist()
            for clip, score, p_value in zip(clips, row, rates, strict=True):
                rows.append(
                    ScoreRow(
                        machine=machine,
                        section=section,
                        domain=clip.domain,
                        seed=seed,
                        clip=clip.name,
                        label=clip.label,
                        score=score,
                        threshold=threshold,
                        decision=int(score > threshold),
                        p_value=p_value,
                    )
                )
        reporter.advance(done)
    reporter.stop()
    return rows
