"""Decision thresholds and references of a fitted system, from the scores of normal clips."""

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from asd_jax.config import Config
from asd_jax.evaluation.promises import References, numbered, references_of
from asd_jax.evaluation.results import TrainingRow
from asd_jax.evaluation.row_table import RowTable
from asd_jax.features.table import Features
from asd_jax.fitting.detector import FittedDetector
from asd_jax.fitting.layout import Layout, group_name
from asd_jax.fitting.moved import states_of_rows, with_moved_scores
from asd_jax.fitting.scores import score_training
from asd_jax.runtime.progress import Reporter
from asd_jax.scoring.conformal import Reference, conformal_threshold
from asd_jax.scoring.threshold import (
    Threshold,
    gamma_threshold,
    mean_threshold,
    quantile_threshold,
)

# Clips held out, of which a quantile says little.
_FEW = 10


def with_training_scores(
    fitted: FittedDetector, features: Features, layout: Layout, reporter: Reporter
) -> tuple[FittedDetector, RowTable[TrainingRow]]:
    """Scores the training clips, and gives the system what it learns from their scores.

    Args:
        fitted: a system that was just fitted.
        features: as of `score_training`.
        layout: of these clips.
        reporter: as of `with_thresholds`.

    Returns:
        The system with thresholds, and what given states move in its scores; and the scores.
    """
    # One whose scores were lost knows already.
    plain = dataclasses.replace(fitted, operating=fitted.operating._replace(moved={}))
    rows = score_training(plain, features, layout, reporter)
    fitted, rows = with_moved_scores(plain, rows, states_of_rows(rows, features.clips))
    return with_thresholds(fitted, rows, reporter), rows


def with_thresholds(
    fitted: FittedDetector, rows: Iterable[TrainingRow], reporter: Reporter
) -> FittedDetector:
    """The fitted system with decision thresholds from the scores of its training clips.

    Args:
        fitted: the system.
        rows: from `score_training`.
        reporter: shows a line where a threshold is not the one that the configuration asks for.
    """
    table = RowTable.of(rows, TrainingRow)
    by_section = fitted.detector.scope == "section"
    by = ("machine", "section") if by_section else ("machine",)
    setting = table.where(sets_threshold=1)
    of_group = {(*own, "")[:2]: rows_of for own, rows_of in table.groups(*by, rows=setting).items()}
    thresholds, group_thresholds = np.full(len(fitted.models), np.nan), {}
    by_name: dict[str, Threshold] = {}
    n_seeds = len(fitted.config.seeds)
    for group, rows_of in of_group.items():
        # (seeds, clips), and the models of the group
        seeds = table.column("seed")[rows_of].places(fitted.config.seeds)
        of_seeds = rows_of[np.argsort(seeds, kind="stable")].reshape(n_seeds, -1)
        scores = table.numbers("score")[of_seeds].astype(np.float32)
        # Clips that models were fitted to have no groups that a rate could be promised by.
        unseen = bool(table.column("unseen")[of_seeds[0]].is_in([1]).all())
        groups = numbered(table.column("group")[of_seeds[0]]) if unseen else None
        chosen = fitted.models_for(group)
        for m in chosen:
            of_seed = scores[fitted.config.seeds.index(fitted.models[m].seed)]
            threshold = threshold_of(fitted.config, of_seed, groups)
            thresholds[m] = threshold.value
            if not fitted.models[m].repeat:
                by_name[fitted.models[m].name] = threshold
        of_mean = threshold_of(fitted.config, scores.mean(axis=0), groups)
        group_thresholds[group_name(fitted.models[chosen[0]])] = of_mean.value
        if len(scores) > 1:
            by_name[" ".join(filter(None, [*group, "mean of the seeds"]))] = of_mean
    for line in fallback_lines(by_name):
        reporter.line(line)
    held_out_of = {(*own, "")[:2] for own in table.groups(*by, rows=~setting)}
    few = [
        " ".join(filter(None, name))
        for name in held_out_of & of_group.keys()  # others keep what they have
        if len(of_group[name]) < _FEW * n_seeds
    ]
    if few:
        reporter.line(
            f"{', '.join(sorted(few))}: fewer than {_FEW} clips were held out for the threshold; a "
            "larger --config.train.threshold_split makes it more reliable"
        )
    return dataclasses.replace(
        fitted,
        thresholds=thresholds,
        group_thresholds=group_thresholds,
        reference=_reference_arrays(fitted, references_of(table)),
    )


def _reference_arrays(
    fitted: FittedDetector, references: Mapping[tuple[str, str], References]
) -> dict[str, np.ndarray]:
    """`FittedDetector.reference`; empty where no machine has one."""
    if not references:
        return {}
    most = max(own.scores.shape[1] for own in references.values())
    scores = np.full((len(fitted.models), most), np.nan, np.float32)
    groups = np.full((len(fitted.models), most), -1, np.int32)
    sequences = groups.copy()
    for m, model in enumerate(fitted.models):
        own = references.get((model.machine, model.section))
        if own is not None:
            count = own.scores.shape[1]
            scores[m, :count] = own.scores[own.seeds.index(model.seed)]
            groups[m, :count] = np.unique(numbered(own.groups), return_inverse=True)[1]
            sequences[m, :count] = own.sequences
    return {"scores": scores, "groups": groups, "sequences": sequences}


def fallback_lines(thresholds: Mapping[str, Threshold]) -> list[str]:
    """A line for each threshold, by name, that is not the one that was asked for."""
    return [
        f"{name}: threshold {threshold.value:.6g} instead: {threshold.fallback}"
        for name, threshold in thresholds.items()
        if threshold.fallback
    ]


def threshold_of(config: Config, scores: np.ndarray, groups: Any = None) -> Threshold:
    """The decision threshold that a configuration asks for.

    Args:
        config: the configuration.
        scores: (clips,) of normal clips.
        groups: (clips,) numbers, equal for clips that were recorded together; None where models
            were fitted to the clips.
    """
    if config.threshold == "zero" and config.backend.kind == "own":
        return Threshold(0.0)
    if config.threshold == "mean":
        return mean_threshold(scores, config.threshold_deviations)
    if config.threshold == "quantile":
        return quantile_threshold(scores, config.threshold_quantile)
    if config.threshold == "conformal" and groups is not None:
        false_alarms = 1 - config.threshold_quantile
        return conformal_threshold(Reference.of(scores, groups), false_alarms)
    threshold = gamma_threshold(scores, config.threshold_quantile)
    if config.threshold == "conformal":
        return Threshold(threshold.value, "no clip was held out, so no rate can be promised")
    return threshold
