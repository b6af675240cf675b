"""Features of the recordings of a run."""

import dataclasses
import os
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from asd_jax.data.clips import Clip, ClipTable
from asd_jax.data.levels import odd_levels
from asd_jax.detectors import Detector
from asd_jax.errors import UserError
from asd_jax.features.compute import compute_features
from asd_jax.features.embeddings import Embedder, clip_embeddings, embeddings_of
from asd_jax.features.request import ClipFrontEnd
from asd_jax.features.table import ArrayFeatures, Features, FeatureSet
from asd_jax.runtime.progress import Reporter


class FeatureOptions(NamedTuple):
    """Options of computing a run's features.

    Attributes:
        embedder: the pretrained network that the configuration names; None where it names none.
        cache_dir: as in `compute_features`.
        on_bad_clip: as in `compute_features`.
        verify: as in `compute_features`.
        reporter: shows progress.
    """

    embedder: Embedder | None
    cache_dir: os.PathLike | str | None
    on_bad_clip: str
    verify: bool
    reporter: Reporter


def features_of(
    detector: Detector, clips: Sequence[Clip], options: FeatureOptions
) -> tuple[Features, Features]:
    """Computes features of the training and of the test clips.

    A clip that cannot be used is reported and left out, or ends the run (`on_bad_clip`).

    Args:
        detector: the system, with the run's configuration.
        clips: the clips of the run.
        options: of the computation.

    Raises:
        UserError: no machine has training clips, or as in `compute_features`.
    """
    clips = ClipTable.of(clips)
    is_test = clips.where(split="test")
    training = _features_of(detector, clips[~is_test], "training", options)
    test = _features_of(detector, clips[is_test], "test", options)
    report = options.reporter.line
    trained = set(training.clips[training.clips.where(split="train")].distinct("machine"))
    tested = set(test.clips.distinct("machine"))
    if not trained:
        raise UserError("no machine has training clips; a train/ folder of normal clips is needed")
    for table in (training, test):
        if isinstance(table, FeatureSet):
            own = np.flatnonzero(table.clips.where(perturbation=""))
            for kind, rows in odd_levels(table.clips[own], table.levels[own]).items():
                report(f"{len(rows)} recordings are {kind}, first {table.clips.path(own[rows[0]])}")
    for machine in sorted(tested - trained):
        report(f"{machine}: no training clips; it is left out")
    for machine in sorted(trained - tested):
        report(f"{machine}: no test clips; it is trained and has no results")
    return training, test


def _features_of(
    detector: Detector, clips: Sequence[Clip], label: str, options: FeatureOptions
) -> Features:
    """Features of some clips, with their embeddings where the configuration asks for some."""
    config, embedder = detector.config, options.embedder
    if not clips:
        return ArrayFeatures([], [])
    embeddings: dict[Clip, np.ndarray] = {}
    if embedder is not None:
        windows = _compute(detector, f"embeddings of {label} clips", clips, embedder, options)
        clips = windows.clips
        embeddings = dict(zip(clips, clip_embeddings(windows), strict=True))
    table = _compute(
        detector,
        f"features of {label} clips",
        clips,
        config.front_end,
        options,
        min_frames=detector.views.fewest,
        fill_frames=detector.views.length,
    )
    if embedder is not None:
        values: np.ndarray | None = np.array([embeddings[clip] for clip in table.clips])
    else:
        values = embeddings_of(config, table)
    return dataclasses.replace(table, embeddings=values)


def _compute(
    detector: Detector,
    label: str,
    clips: Sequence[Clip],
    front_end: ClipFrontEnd,
    options: FeatureOptions,
    **settings: Any,
) -> FeatureSet:
    """`compute_features` with a progress bar."""
    channel = detector.config.data.channel
    reporter = options.reporter
    reporter.start(label, len(clips))
    try:
        return compute_features(
            clips,
            front_end,
            channel=None if channel < 0 else channel,
            cache_dir=options.cache_dir,
            on_bad_clip=options.on_bad_clip,
            verify=options.verify,
            report=reporter.line,
            progress=reporter.advance,
            **settings,
        )
    finally:
        reporter.stop()
