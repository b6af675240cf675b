"""Scores of the training and of the test clips, and the thresholds between them."""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from asd_jax.config import Config
from asd_jax.errors import UserError
from asd_jax.evaluation.results import (
    ScoreRow,
    TrainingRow,
)
from asd_jax.features.table import (
    Features,
)
from asd_jax.fitting.detector import FittedDetector
from asd_jax.fitting.layout import Layout, group_name, sets_thresholds
from asd_jax.fitting.lengths import length_line
from asd_jax.runtime.progress import Reporter
from asd_jax.scoring.threshold import Threshold, gamma_threshold, mean_threshold

# Clips held out, of which a quantile says little.
_FEW = 10


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
    rows = []
    groups, counts = layout.groups, sets_thresholds(fitted.detector, layout)
    served = {group: own for group, own in groups.items() if _models_of(fitted, group)}
    if not served:  # of an imported model
        raise UserError(
            f"the model is of {', '.join(fitted.machines)}, the training clips are of "
            f"{', '.join(dict.fromkeys(machine for machine, _ in groups))}; import it for that "
            "machine into another --out_dir"
        )
    reporter.start("scoring training clips", len(served))
    for done, (group, indices) in enumerate(served.items(), 1):
        chosen = _models_of(fitted, group)
        clips = [*features.clips[indices]]
        labels = np.array([fitted.label_of((clip.machine, clip.section)) for clip in clips])
        scores = fitted.training_scores(chosen)  # (seeds, clips), or None
        if scores is not None:
            scores = scores[:, : len(clips)]  # the rest is padding
        else:
            scores = fitted.model_scores(chosen, features, indices, labels, trained_on=True)
        for seed, row in zip(fitted.config.seeds, scores, strict=True):
            for clip, score, own in zip(clips, row, counts[indices].tolist(), strict=True):
                place = clip.machine, clip.section, clip.domain, seed, clip.name
                rows.append(TrainingRow(*place, score, int(own)))
        reporter.advance(done)
    reporter.stop()
    return rows


def with_thresholds(
    fitted: FittedDetector, rows: Sequence[TrainingRow], reporter: Reporter
) -> FittedDetector:
    """The fitted system with decision thresholds from the scores of its training clips.

    Args:
        fitted: the system.
        rows: from `score_training`.
        reporter: shows a line where a threshold is not the one that the configuration asks for.
    """
    of_group: dict[tuple[str, str], list[list[float]]] = {}
    by_section = fitted.detector.scope == "section"
    for row in rows:
        if not row.sets_threshold:
            continue
        group = row.machine, row.section if by_section else ""
        of_seeds = of_group.setdefault(group, [[] for _ in fitted.config.seeds])
        of_seeds[fitted.config.seeds.index(row.seed)].append(row.score)
    thresholds, group_thresholds = np.full(len(fitted.models), np.nan), {}
    by_name: dict[str, Threshold] = {}
    for group, lists in of_group.items():
        # (seeds, clips), and the models of the group
        scores, chosen = np.array(lists, np.float32), _models_of(fitted, group)
        for m in chosen:
            of_seed = scores[fitted.config.seeds.index(fitted.models[m].seed)]
            threshold = threshold_of(fitted.config, of_seed)
            thresholds[m] = threshold.value
            if not fitted.models[m].repeat:
                by_name[fitted.models[m].name] = threshold
        of_mean = threshold_of(fitted.config, scores.mean(axis=0))
        group_thresholds[group_name(fitted.models[chosen[0]])] = of_mean.value
        if len(scores) > 1:
            by_name[" ".join(filter(None, [*group, "mean of the seeds"]))] = of_mean
    for line in fallback_lines(by_name):
        reporter.line(line)
    held_out_of = {
        (row.machine, row.section if by_section else "") for row in rows if not row.sets_threshold
    }
    few = [" ".join(filter(None, name)) for name in held_out_of if len(of_group[name][0]) < _FEW]
    if few:
        reporter.line(
            f"{', '.join(sorted(few))}: fewer than {_FEW} clips were held out for the threshold; a "
            "larger --config.train.validation_split makes it more reliable"
        )
    return dataclasses.replace(fitted, thresholds=thresholds, group_thresholds=group_thresholds)


def fallback_lines(thresholds: Mapping[str, Threshold]) -> list[str]:
    """A line for each threshold, by name, that is not the one that was asked for."""
    return [
        f"{name}: threshold {threshold.value:.6g} instead: {threshold.fallback}"
        for name, threshold in thresholds.items()
        if threshold.fallback
    ]


def threshold_of(config: Config, scores: np.ndarray) -> Threshold:
    """The decision threshold that a configuration asks for, from (clips,) training scores."""
    if config.threshold == "zero" and config.backend.kind == "own":
        return Threshold(0.0)
    if config.threshold == "mean":
        return mean_threshold(scores)
    return gamma_threshold(scores, config.threshold_quantile)


def _models_of(fitted: FittedDetector, group: tuple[str, str]) -> list[int]:
    return [m for m, model in enumerate(fitted.models) if (model.machine, model.section) == group]


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
            threshold = float(fitted.thresholds[m])
            for clip, score in zip(clips, row, strict=True):
                rows.append(
                    ScoreRow(
                        machine=machine,
                        section=section,
                        domain=clip.domain,
                        seed=fitted.models[m].seed,
                        clip=clip.name,
                        label=clip.label,
                        score=score,
                        threshold=threshold,
                        decision=int(score > threshold),
                    )
                )
        reporter.advance(done)
    reporter.stop()
    return rows
