"""The main job: from a folder of recordings to trained models, scores and tables."""

import contextlib
import io
import os
import shutil
import signal
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from asd_jax.config import Config, MembersConfig
from asd_jax.data.layouts import DataSource
from asd_jax.data.manifest import Manifest
from asd_jax.data.own_folders import OwnFolders
from asd_jax.detectors import Detector, make_detector
from asd_jax.detectors.joint import Joint
from asd_jax.errors import UserError
from asd_jax.evaluation.analysis import write_analysis
from asd_jax.evaluation.results import write_training_csv
from asd_jax.features.embeddings import embedder_of
from asd_jax.features.table import Features
from asd_jax.fitting.detector import FittedDetector
from asd_jax.fitting.ensemble import FittedChoice, FittedEnsemble
from asd_jax.fitting.fitting import fit_clips
from asd_jax.fitting.layout import Layout, lay_out, plan_lines
from asd_jax.fitting.normal import with_normal
from asd_jax.fitting.scores import score_clips, score_training
from asd_jax.fitting.thresholds import with_thresholds
from asd_jax.runs import page
from asd_jax.runs.aligned import check_same_data
from asd_jax.runs.bands import empty_band_lines
from asd_jax.runs.classes import labelled, write_classes
from asd_jax.runs.clips import describe_data, find_chosen, status_fingerprint
from asd_jax.runs.directory import RunDirectory, read_config
from asd_jax.runs.ensemble import (
    MEMBERS,
    combine_runs,
    keys_of_member,
    load_members,
    member_keys,
    member_runs,
    members_on,
)
from asd_jax.runs.features import FeatureOptions, features_of
from asd_jax.runs.lengths import check_lengths
from asd_jax.runs.outcome import RunResult
from asd_jax.runs.places import write_places
from asd_jax.runs.plan import plan_run
from asd_jax.runs.report import table, write_results
from asd_jax.runtime import distributed
from asd_jax.runtime.arguments import check, check_choice, check_path
from asd_jax.runtime.files import disk_errors
from asd_jax.runtime.interruption import stop_signals
from asd_jax.runtime.progress import Reporter, Silent
from asd_jax.training import Interrupted
from asd_jax.training.checkpoints import Checkpoints
from asd_jax.training.trainer import check_fit


def run(
    config: Config | MembersConfig,
    data_dir: DataSource,
    out_dir: os.PathLike | str,
    *,
    members_dir: os.PathLike | str | None = None,
    cache_dir: os.PathLike | str | None = None,
    on_bad_clip: str = "stop",
    verify: bool = False,
    reporter: Reporter | None = None,
    width: int | None = None,
) -> RunResult:
    """Trains all models of a run, scores the test clips, evaluates, and writes everything.

    Started again on the same folder, it continues where it stopped and repeats nothing. Several
    processes call this alike; they share the work, and only the first one writes.

    Args:
        config: the configuration.
        data_dir: a folder of recordings in one of the known layouts, folders of one's own, or a
            table of recordings.
        out_dir: the run directory.
        members_dir: folder of the run directories of an ensemble's members, which several
            ensembles may share; `members` in the run directory by default.
        cache_dir: folder of the feature cache; one in the user's cache folder by default.
        on_bad_clip: "stop" at a recording that cannot be used, one that fits no layout among the
            clips included, or "skip" it with a line.
        verify: whether to read every recording again, even one whose size, times and inode have
            not changed since it was read.
        reporter: shows progress.
        width: columns of the terminal that the table is to fit; any by default.

    Returns:
        The run directory with its scores and results as columns; printed, the table.

    Raises:
        UserError: the run cannot be done, with the reason in one line; finished work is kept.
    """
    _check_config(config)
    _check_source(data_dir)
    check_path("out_dir", out_dir)
    check_path("members_dir", members_dir, optional=True)
    check_path("cache_dir", cache_dir, optional=True)
    check_choice("on_bad_clip", on_bad_clip, ("stop", "skip"))
    check("verify", verify, (bool,), "True or False")
    reporter = reporter or Reporter()
    run_dir = RunDirectory(out_dir)
    if isinstance(config, MembersConfig):
        if distributed.several():
            raise UserError(
                "an ensemble is combined by one process: run its members by several, into "
                "--members_dir, then this"
            )
        members_dir = Path(members_dir or run_dir.path / MEMBERS)
        settings = {
            "cache_dir": cache_dir,
            "on_bad_clip": on_bad_clip,
            "verify": verify,
            "reporter": reporter,
        }
        _run_members(config, data_dir, run_dir, members_dir, reporter, settings)
        return RunResult(run_dir.path, table(out_dir, width))
    writes = distributed.is_primary()
    if not writes:
        reporter = Silent()
    detector = make_detector(config)
    clips = find_chosen(detector, data_dir, reporter.line, on_bad_clip)
    detector = detector.settled(clips)
    embedder = embedder_of(config, cache_dir) if config.embedding.pretrained else None
    options = FeatureOptions(embedder, cache_dir, on_bad_clip, verify, reporter)
    with run_dir.lock() if writes else contextlib.nullcontext():
        if writes:
            run_dir.check(config)
        training, test = features_of(detector, clips, options)
        data = describe_data(data_dir, training, test, detector.front_end)
        outdated = writes and run_dir.is_outdated(data)
        if outdated:
            reporter.line(f"{run_dir.path} has scores of other test clips; these are scored anew")
        finished = distributed.any_of(writes and run_dir.finished and not outdated)
        if not finished:
            if isinstance(detector, Joint):
                training = labelled(detector, training, run_dir.classes)
            layout = lay_out(detector, training.clips, training.n_frames)
            if config.detector.trains:
                row_bytes = training.width * training.dtype.itemsize
                check_fit(layout.fleet, layout.settings, row_bytes, detector.kind)
        if writes:
            used = training.clips + test.clips
            run_dir.claim(config, data, lambda: status_fingerprint(used))
            if isinstance(detector, Joint) and not run_dir.classes.is_file() and not finished:
                write_classes(run_dir.classes, detector, training.clips)
        if finished:
            reporter.line(f"{run_dir.path} is finished; nothing to do")
            if writes and not run_dir.report_html.is_file():  # interrupted, or of a version before
                write_places(run_dir.recordings_csv, training.clips + test.clips)
                page.write_page(run_dir.path, reporter.line)
        else:
            fitted = _fit(detector, training, layout, run_dir, reporter)
            rows = score_clips(fitted, test, reporter)
            if writes:
                write_analysis(run_dir.path, rows, test, detector.front_end)
                intervals = write_results(run_dir, rows, data)
                write_places(run_dir.recordings_csv, training.clips + test.clips)
                explain = page.by_features(fitted, test)
                page.write_page(run_dir.path, reporter.line, explain=explain, intervals=intervals)
        reporter.line(f"results are in {run_dir.path}; {run_dir.report_html.name} shows them")
    return RunResult(run_dir.path, table(out_dir, width) if writes else "")


def _run_members(
    config: MembersConfig,
    data_dir: DataSource,
    run_dir: RunDirectory,
    members_dir: Path,
    reporter: Reporter,
    options: dict[str, Any],
) -> None:
    """Runs the unfinished members, then combines all."""
    with run_dir.lock():
        run_dir.check(config, but_for=(MEMBERS,))
        wanted = member_runs(config, data_dir, members_dir, reporter.line)
        for name, (path, member) in wanted.items():
            reporter.line(f"member {path}")
            with keys_of_member(name):
                run(member, data_dir, path, **options)
        paths = {name: path for name, (path, _) in wanted.items()}
        data = check_same_data(paths.values())
        if run_dir.finished and not run_dir.is_outdated(data):
            run_dir.claim(config, data)
            reporter.line(f"{run_dir.path} is finished; nothing to do")
            if not run_dir.report_html.is_file():
                page.write_page(run_dir.path, reporter.line)
        else:
            combine_runs(run_dir, config, paths, data, reporter)
        reporter.line(f"results are in {run_dir.path}; {run_dir.report_html.name} shows them")


def dry_run(
    config: Config | MembersConfig,
    data_dir: DataSource | None = None,
    *,
    on_bad_clip: str = "stop",
) -> str:
    """Estimates the cost of `run` as lines of text; nothing is started or written.

    Args:
        config: the configuration.
        data_dir: as in `run`; the development set of DCASE 2020 is assumed by default.
        on_bad_clip: as in `run`.

    Raises:
        UserError: as `run`, for what the names of the recordings and their headers show.
    """
    _check_config(config)
    if data_dir is not None:
        _check_source(data_dir)
    check_choice("on_bad_clip", on_bad_clip, ("stop", "skip"))
    if isinstance(config, MembersConfig):
        blocks = []
        for name, member in members_on(config, data_dir).items():
            with keys_of_member(name):
                plan = dry_run(member, data_dir, on_bad_clip=on_bad_clip)
            blocks.append(f"member {name}\n{member_keys(plan, name)}")
        return "\n\n".join(blocks)
    detector = make_detector(config)
    lines = empty_band_lines(detector.front_end)
    if data_dir is None:
        return "\n".join([plan_run(detector, None), *lines])
    clips = find_chosen(detector, data_dir, lines.append, on_bad_clip)
    detector = detector.settled(clips)
    lines += check_lengths(detector, clips, on_bad_clip)
    return "\n".join([plan_run(detector, clips), *lines])


def _check_source(data_dir: Any) -> None:
    kinds = (str, os.PathLike, OwnFolders, Manifest)
    check("data_dir", data_dir, kinds, "a path, OwnFolders, or a Manifest")


def _check_config(config: Any) -> None:
    wanted = "a configuration, as load_config gives it"
    check("config", config, (Config, MembersConfig), wanted)


def _fit(
    detector: Detector,
    training: Features,
    layout: Layout,
    run_dir: RunDirectory,
    reporter: Reporter,
) -> FittedDetector:
    """Loads the fitted detector with its thresholds, or computes the missing parts.

    The first of several processes reads and writes the files, and sends their content to the
    others.
    """
    writes = distributed.is_primary()

    def stored() -> bytes:
        return run_dir.model.read_bytes() if run_dir.model.is_file() else b""

    if data := distributed.from_primary(stored):
        fitted = FittedDetector.load(run_dir.model if writes else io.BytesIO(data))
    else:
        for line in plan_lines(detector, training.clips):
            reporter.line(line)
        fit = _train if detector.config.detector.trains else _fit_untrained
        fitted = fit(detector, training, layout, run_dir, reporter)
    # A model that was trained anew after its loss, or imported, has no thresholds yet.
    lost = writes and not run_dir.training_csv.is_file()
    if np.isnan(fitted.thresholds).all() or distributed.any_of(lost):
        rows = score_training(fitted, training, layout, reporter)
        fitted = with_thresholds(fitted, rows, reporter)
        if writes:
            fitted = with_normal(fitted, training, layout)
            fitted.save(run_dir.model)
            write_training_csv(run_dir.training_csv, rows)
    return fitted


def _train(
    detector: Detector,
    training: Features,
    layout: Layout,
    run_dir: RunDirectory,
    reporter: Reporter,
) -> FittedDetector:
    """Continues training from the last checkpoint, and saves the model."""
    if not distributed.is_primary():
        with stop_signals() as received, _stopped_by(received):
            return fit_clips(detector, training, layout, should_stop=lambda: bool(received))
    run_dir.write_environment()
    checkpoints = Checkpoints(run_dir.checkpoints)
    log = run_dir.open_log(keep_epochs=checkpoints.latest or 0)
    try:
        with stop_signals() as received, _stopped_by(received):
            fitted = fit_clips(
                detector,
                training,
                layout,
                reporter=reporter,
                checkpoints=checkpoints,
                log=log,
                should_stop=lambda: bool(received),
            )
    finally:
        log.close()
        with contextlib.suppress(UserError):  # the error that ended the training is the one to show
            checkpoints.close()
    fitted.save(run_dir.model)
    if received:  # too late to interrupt the training
        raise UserError(
            f"stopped by {received[0].name} after training, which is saved; the same command "
            "continues from there",
            exit_status=128 + received[0],
        )
    return fitted


def _fit_untrained(
    detector: Detector,
    training: Features,
    layout: Layout,
    run_dir: RunDirectory,
    reporter: Reporter,
) -> FittedDetector:
    """Fits a system that has no network, which takes one pass over the features.

    Vectors of the machines that were gone through are kept until the model is, which has them all.
    """
    if not distributed.is_primary():
        return fit_clips(detector, training, layout)
    run_dir.write_environment()
    with disk_errors(run_dir.vectors):
        run_dir.vectors.mkdir(exist_ok=True)
    fitted = fit_clips(detector, training, layout, reporter=reporter, kept_dir=run_dir.vectors)
    fitted.save(run_dir.model)
    shutil.rmtree(run_dir.vectors, ignore_errors=True)
    return fitted


@contextlib.contextmanager
def _stopped_by(received: Sequence[signal.Signals]) -> Iterator[None]:
    """Turns an interruption of training into a line with its epoch and signal."""
    try:
        yield
    except Interrupted as interrupted:
        # A signal to one of several processes stops them all.
        number = received[0] if received else signal.SIGTERM
        of = "" if received else " to another process"
        raise UserError(
            f"stopped by {number.name}{of} after epoch {interrupted.epoch}, which is saved; the "
            "same command continues from there",
            exit_status=128 + number,
        ) from None


def load(path: os.PathLike | str) -> FittedDetector | FittedEnsemble | FittedChoice:
    """Loads the fitted system of a run directory, or of an .npz that `FittedDetector.save` wrote.

    Raises:
        UserError: no run directory, or training has not finished; or no such file.
    """
    check_path("the run directory", path)
    if Path(path).suffix == ".npz" and Path(path).is_file():
        return FittedDetector.load(path)
    run_dir = RunDirectory(path)
    read_config(run_dir.config)
    if run_dir.ensemble.is_file():
        return load_members(run_dir.ensemble, load)
    return FittedDetector.load(run_dir.model)
