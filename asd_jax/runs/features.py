"""Features of the recordings of a run."""

import dataclasses
import os
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from asd_jax.data.clips import OWN, Clip, ClipTable
from asd_jax.data.levels import odd_levels
from asd_jax.detectors import Detector
from asd_jax.errors import UserError
from asd_jax.features.compute import compute_features
from asd_jax.features.cut import cut
from asd_jax.features.embeddings import Embedder, clip_embeddings, embeddings_of
from asd_jax.features.request import ClipFrontEnd
from asd_jax.features.table import ArrayFeatures, Features, FeatureSet
from asd_jax.runs.bands import empty_band_lines
from asd_jax.runs.lengths import too_short
from asd_jax.runtime.progress import Reporter


class FeatureOptions(NamedTuple):
    """Options of computing a run's features.

    Attributes:
        embedder: the pretrained network that the configuration names; None where it names none.
        cache_dir: as in `compute_features`.
        on_bad_clip: as in `compute_features`.
        verify: as in `compute_features`.
        reporter: shows progress.
        meanwhile: as in `compute_features`.
    """

    embedder: Embedder | None
    cache_dir: os.PathLike | str | None
    on_bad_clip: str
    verify: bool
    reporter: Reporter
    meanwhile: Callable[[], None] = lambda: None


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
    report = options.reporter.line
    for line in empty_band_lines(detector.front_end):
        report(line)
    try:
        training = _features_of(detector, clips[~is_test], "training", options)
        test = _features_of(detector, clips[is_test], "test", options)
    except UserError as error:
        short = too_short(detector, clips) if error.exit_status == 2 else None
        if short is not None and short.explains(error):
            raise UserError(short.line) from error
        raise
    for table in (training, test):
        if isinstance(table, FeatureSet):
            own = np.flatnonzero(table.clips.where(perturbation=""))
            for kind, rows in odd_levels(table.clips[own], table.levels[own]).items():
                report(f"{len(rows)} recordings are {kind}, first {table.clips.path(own[rows[0]])}")
    _report_machines(clips, training.clips, test.clips, report)
    _report_known(training, test, report)
    return _cut(detector, training, report), _cut(detector, test, report)


def features_of_new(
    detector: Detector, clips: Sequence[Clip], what: str, options: FeatureOptions
) -> Features:
    """Features of recordings that come after a run, computed and cut as its own.

    Args:
        detector: the system, with the run's configuration.
        clips: the recordings.
        what: they are, for the progress bar.
        options: of the computation.

    Raises:
        UserError: as in `compute_features`.
    """
    table = _features_of(detector, clips, what, options)
    return _cut(detector, table, options.reporter.line)


def _report_known(training: Features, test: Features, report: Callable[[str], None]) -> None:
    """Says which test clips are training clips: their scores say nothing about others."""
    if not (isinstance(training, FeatureSet) and isinstance(test, FeatureSet)):
        return
    learned, tested = (np.ascontiguousarray(each.digests) for each in (training, test))
    # By half of each digest; only where that is known, by the whole.
    halves = [each.view(np.uint64)[::2] for each in (learned, tested)]
    likely = np.flatnonzero(np.isin(halves[1], halves[0]))
    among = {*learned[np.isin(halves[0], halves[1][likely])].tolist()}
    known = [i for i in likely.tolist() if tested[i].tobytes() in among]
    if len(known):
        report(
            f"{len(known)} of the test recordings have the content of training recordings, "
            f"first {test.clips.path(known[0])}"
        )


def _cut(detector: Detector, table: Features, report: Callable[[str], None]) -> Features:
    """Long recordings cut into clips, where the configuration asks for it."""
    seconds = detector.config.data.clip_seconds
    if not seconds or not isinstance(table, FeatureSet):
        return table
    if table.embeddings is not None:
        raise UserError(
            "data.clip_seconds cuts features, and the configuration's embeddings are of whole "
            "recordings; leave it at 0, or set embedding=none"
        )
    pieces = cut(table, detector.front_end, seconds, detector.views.fewest)
    if len(pieces.clips) > len(table.clips) and table.clips.distinct("year") != [OWN]:
        raise UserError(
            f"data.clip_seconds is {seconds:g} and cuts recordings in a challenge's layout, whose "
            "results are by recording; leave it at 0, or give the folders as your own (--normal=…)"
        )
    whole = "1 recording is" if len(table.clips) == 1 else f"{len(table.clips)} recordings are"
    report(f"{whole} cut into {len(pieces.clips)} clips")
    trained = pieces.clips.where(split="train")
    for place, rows in pieces.clips.groups("machine", "section", rows=trained).items():
        own = [pieces.clips[int(row)] for row in rows]
        if len(own) > 1 and len({clip.path for clip in own}) == 1 and not own[0].group:
            report(
                f"{' '.join(place)}: one recording, so its clips stand by themselves, and what is "
                "promised is of more of this recording; give several, of different days"
            )
    return pieces


def _report_machines(
    clips: ClipTable, training: ClipTable, test: ClipTable, report: Callable[[str], None]
) -> None:
    """Says which machines are left out or have no results; UserError where none is left.

    Args:
        clips: all clips of the run.
        training: those training clips that can be used.
        test: those test clips that can be used.
        report: called with each line.
    """
    trained = set(training[training.where(split="train")].distinct("machine"))
    tested = set(test.distinct("machine"))
    to_train = set(clips[clips.where(split="train")].distinct("machine"))
    to_test = set(clips[clips.where(split="test")].distinct("machine"))
    if not trained and to_train:
        raise UserError("no training clip can be used, as said above")
    if not trained:
        raise UserError("no machine has training clips; a train/ folder of normal clips is needed")
    for machine in sorted((to_train | tested) - trained):
        why = (
            "none of its training clips can be used" if machine in to_train else "no training clips"
        )
        report(f"{machine}: {why}; it is left out")
    for machine in sorted(trained - tested):
        why = "none of its test clips can be used" if machine in to_test else "no test clips"
        report(f"{machine}: {why}; it is trained and has no results")


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
        detector.front_end,
        options,
        min_frames=detector.views.fewest,
        fill_frames=detector.views.filled,
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
    reporter = options.reporter
    reporter.start(label, len(clips))
    try:
        return compute_features(
            clips,
            front_end,
            channel=detector.config.channel,
            cache_dir=options.cache_dir,
            on_bad_clip=options.on_bad_clip,
            verify=options.verify,
            report=reporter.line,
            progress=reporter.advance,
            meanwhile=options.meanwhile,
            **settings,
        )
    finally:
        reporter.stop()
