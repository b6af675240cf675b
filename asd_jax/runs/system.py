"""The run of one system, from a folder of recordings to its results, in steps.

`Found` is what names and headers of recordings say, `Heard` has their features, `Begun` is a run
directory that is claimed, with the layout of its training. Variants of a run share the first two.
"""

import contextlib
import os
from typing import Any, NamedTuple

from asd_jax.config import Config
from asd_jax.data.clips import ClipTable
from asd_jax.data.ground_truth import GroundTruth
from asd_jax.data.layouts import DataSource
from asd_jax.detectors import Detector, make_detector
from asd_jax.detectors.joint import Joint
from asd_jax.features.embeddings import Embedder, embedder_of
from asd_jax.features.table import Features
from asd_jax.fitting.copies import with_copies_together
from asd_jax.fitting.layout import Layout, fleet_of, lay_out
from asd_jax.fitting.operating import Operating, fitted_states, with_given_states
from asd_jax.runs.agreeing import found_alike
from asd_jax.runs.ahead import CompiledAhead
from asd_jax.runs.channels import check_channels
from asd_jax.runs.classes import with_classes, write_classes
from asd_jax.runs.clips import describe_data, find_chosen, status_fingerprint
from asd_jax.runs.directory import RunDirectory
from asd_jax.runs.evaluating import complete, score_and_evaluate
from asd_jax.runs.features import FeatureOptions, features_of
from asd_jax.runs.labelled import truth_of
from asd_jax.runs.tensorboard import write_events
from asd_jax.runs.training import fit_run
from asd_jax.runs.versions import current_version, settle
from asd_jax.runtime import distributed
from asd_jax.runtime.cores import set_up
from asd_jax.runtime.progress import Reporter
from asd_jax.training.trainer import check_fit


class RunOptions(NamedTuple):
    """Arguments of `pipeline.run` that concern recordings, and the log."""

    ground_truth: os.PathLike | str | None = None
    cache_dir: os.PathLike | str | None = None
    on_bad_clip: str = "stop"
    verify: bool = False
    tensorboard: bool = False


class Found(NamedTuple):
    """A run's system and clips, before any recording is read.

    Attributes:
        config: the configuration.
        detector: the system, settled by the clips.
        clips: training and test clips.
        truth: labels of an evaluation set.
        embedder: the pretrained network that the configuration names.
        data_dir: where the recordings are.
        options: of the run.
    """

    config: Config
    detector: Detector
    clips: ClipTable
    truth: GroundTruth | None
    embedder: Embedder | None
    data_dir: DataSource
    options: RunOptions

    def of_variant(self, config: Config) -> "Found":
        """The same of a configuration that differs in nothing which concerns recordings."""
        return self._replace(config=config, detector=self._settled(config))

    def _settled(self, config: Config) -> Detector:
        detector = make_detector(config)
        detector.cache_dir = self.options.cache_dir
        return detector.settled(self.clips)


class Heard(NamedTuple):
    """Features of a run's clips.

    Attributes:
        training: of the training clips.
        test: of the test clips.
        data: what was recorded, see `describe_data`.
    """

    training: Features
    test: Features
    data: dict[str, Any]


class Begun(NamedTuple):
    """A run whose directory is claimed.

    Attributes:
        run_dir: its directory, locked by the caller.
        training: features of the training clips, as the system learns from them; None where the run
            is finished.
        layout: of its training; likewise.
        operating: states of its training clips; likewise.
    """

    run_dir: RunDirectory
    training: Features | None
    layout: Layout | None
    operating: Operating | None


def run_system(
    config: Config,
    data_dir: DataSource,
    run_dir: RunDirectory,
    options: RunOptions,
    reporter: Reporter,
) -> None:
    """Runs one system, in this process or in several, of which the first one writes."""
    found = find(config, data_dir, options, reporter)
    ahead = CompiledAhead(found.detector, found.clips)
    with run_dir.lock(reporter.line) if distributed.is_primary() else contextlib.nullcontext():
        if distributed.is_primary():
            run_dir.check(config)
            _settled_version(run_dir, reporter)
        heard = hear(found, reporter, None if distributed.several() else ahead)
        begun = begin(found, heard, run_dir, reporter, ahead)
        finish(found, heard, begun, reporter, ahead)


def _settled_version(run_dir: RunDirectory, reporter: Reporter) -> None:
    """Ends what an interrupted `adapt` left, and says whose test scores are missing."""
    settle(run_dir)
    if (number := current_version(run_dir)) and not run_dir.finished:
        reporter.line(
            f"{run_dir.path} was adapted (version {number}); its test clips are scored by "
            "the adapted system, which also knows normal clips beside the training clips"
        )


def find(
    config: Config,
    data_dir: DataSource,
    options: RunOptions,
    reporter: Reporter,
    variants: int = 1,
) -> Found:
    """Finds the recordings, by their names and headers, and sets up JAX's devices.

    Args:
        config: of the run.
        data_dir: where the recordings are.
        options: of the run.
        reporter: shows lines.
        variants: runs that are trained as one fleet.
    """
    detector = make_detector(config)
    detector.cache_dir = options.cache_dir
    clips = found_alike(lambda: find_chosen(detector, data_dir, reporter.line, options.on_bad_clip))
    truth = None
    if options.ground_truth is not None:
        truth = truth_of(
            options.ground_truth, clips, reporter.line, on_bad_clip=options.on_bad_clip
        )
    # One that is skipped is named when it is read.
    check_channels(config, clips, options.on_bad_clip)
    detector = detector.settled(clips)
    fleet = fleet_of(detector, clips)
    set_up([fleet._replace(models=fleet.models * variants)])
    # Whose weights are read before anything is written.
    pretrained = config.embedding.pretrained
    embedder = embedder_of(config, options.cache_dir) if pretrained else None
    return Found(config, detector, clips, truth, embedder, data_dir, options)


def hear(found: Found, reporter: Reporter, ahead: CompiledAhead | None) -> Heard:
    """Computes the features, or finds them in the cache; meanwhile programs are compiled."""
    options = found.options
    training, test = features_of(
        found.detector,
        found.clips,
        FeatureOptions(
            *(found.embedder, options.cache_dir, options.on_bad_clip, options.verify, reporter),
            ahead.start if ahead else lambda: None,
        ),
    )
    # Side files are read here, where clips have their lengths.
    training = with_given_states(found.detector, training, reporter.line)
    test = with_given_states(found.detector, test, reporter.line)
    data = describe_data(found.data_dir, training, test, found.detector.front_end)
    return Heard(training, test, data)


def begin(
    found: Found,
    heard: Heard,
    run_dir: RunDirectory,
    reporter: Reporter,
    ahead: CompiledAhead | None = None,
) -> Begun:
    """Claims the run directory, and lays the training out where it is not finished.

    Args:
        found: system and recordings.
        heard: their features.
        run_dir: its directory, locked by the caller.
        reporter: shows lines.
        ahead: compiles meanwhile.
    """
    writes, data, detector = distributed.is_primary(), heard.data, found.detector
    outdated = writes and run_dir.is_outdated(data)
    if outdated:
        reporter.line(f"{run_dir.path} has scores of other test clips; these are scored anew")
    finished = distributed.any_of(writes and run_dir.finished and not outdated)
    training = layout = operating = None
    if not finished:
        training = with_copies_together(detector, heard.training, reporter.line)
        training, operating = fitted_states(detector, training, reporter.line)
        if isinstance(detector, Joint):
            training = with_classes(detector, training, run_dir.classes)
        layout = _fitting_layout(detector, training, run_dir, ahead)
    learned = heard.training if training is None else training
    if writes:
        used = learned.clips + heard.test.clips
        run_dir.claim(found.config, data, lambda: status_fingerprint(used))
        if isinstance(detector, Joint) and not run_dir.classes.is_file() and not finished:
            write_classes(run_dir.classes, detector, learned.clips)
    return Begun(run_dir, training, layout, operating)


def finish(
    found: Found,
    heard: Heard,
    begun: Begun,
    reporter: Reporter,
    ahead: CompiledAhead | None = None,
    weights: Any = None,
) -> None:
    """Trains, calibrates, scores and evaluates, where that is not done.

    Args:
        found: the recordings.
        heard: their features.
        begun: the run.
        reporter: shows progress.
        ahead: has compiled meanwhile.
        weights: of the networks, where they are trained already.
    """
    run_dir, training = begun.run_dir, begun.training
    learned = heard.training if training is None else training
    used = learned.clips + heard.test.clips
    if training is not None:
        assert begun.layout is not None  # as it has features to learn from
        programs = ahead.programs(begun.layout, reporter) if ahead else None
        fitted = fit_run(
            *(found.detector, training, begun.layout, run_dir, reporter, programs, weights),
            tensorboard=found.options.tensorboard,
            operating=begun.operating,
        )
        score_and_evaluate(fitted, heard.test, run_dir, heard.data, used, found.truth, reporter)
    elif distributed.is_primary():
        complete(run_dir, used, found.truth, found.options.on_bad_clip, reporter)
    if found.options.tensorboard and distributed.is_primary():
        write_events(run_dir)
    reporter.line(f"results are in {run_dir.path}; {run_dir.report_html.name} shows them")


def _fitting_layout(
    detector: Detector, training: Features, run_dir: RunDirectory, ahead: CompiledAhead | None
) -> Layout:
    """The layout of the training, which fits into memory; its programs begin to be compiled."""
    layout = lay_out(detector, training.clips, training.n_frames)
    if detector.config.detector.trains:
        row_bytes = training.width * training.dtype.itemsize
        check_fit(layout.fleet, layout.settings, row_bytes, detector.kind)
        if ahead and not distributed.several() and not run_dir.model.is_file():
            ahead.start(layout)
    return layout
