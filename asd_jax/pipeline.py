"""The main job: from a folder of recordings to trained models, scores and tables."""

import contextlib
import os
from pathlib import Path
from typing import Any, NamedTuple

from asd_jax.config import Config, MembersConfig
from asd_jax.data.clips import ClipTable
from asd_jax.data.layouts import DataSource
from asd_jax.data.manifest import Manifest
from asd_jax.data.own_folders import OwnFolders
from asd_jax.detectors import Detector, make_detector
from asd_jax.detectors.joint import Joint
from asd_jax.errors import UserError
from asd_jax.features.embeddings import embedder_of
from asd_jax.features.table import Features
from asd_jax.fitting.copies import with_copies_together
from asd_jax.fitting.layout import Layout, fleet_of, lay_out
from asd_jax.fitting.operating import fitted_states, with_given_states
from asd_jax.runs import page
from asd_jax.runs.agreeing import found_alike
from asd_jax.runs.ahead import CompiledAhead
from asd_jax.runs.aligned import check_same_data
from asd_jax.runs.bands import empty_band_lines
from asd_jax.runs.both_sets import BOTH, both_plans, run_both
from asd_jax.runs.channels import check_channels
from asd_jax.runs.classes import with_classes, write_classes
from asd_jax.runs.clips import describe_data, find_chosen, status_fingerprint
from asd_jax.runs.directory import RunDirectory
from asd_jax.runs.ensemble import (
    MEMBERS,
    combine_runs,
    keys_of_member,
    member_keys,
    member_runs,
    members_on,
)
from asd_jax.runs.evaluating import complete, score_and_evaluate
from asd_jax.runs.features import FeatureOptions, features_of
from asd_jax.runs.fleets import fleets_of
from asd_jax.runs.labelled import label_run, truth_of
from asd_jax.runs.lengths import check_lengths
from asd_jax.runs.loading import load as load
from asd_jax.runs.outcome import RunResult
from asd_jax.runs.plan import plan_run
from asd_jax.runs.report import table
from asd_jax.runs.training import fit_run
from asd_jax.runtime import distributed
from asd_jax.runtime.arguments import check, check_choice, check_path
from asd_jax.runtime.cores import set_up
from asd_jax.runtime.progress import Reporter, Silent
from asd_jax.training.trainer import check_fit


def run(
    config: Config | MembersConfig,
    data_dir: DataSource,
    out_dir: os.PathLike | str,
    *,
    ground_truth: os.PathLike | str | None = None,
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
        ground_truth: where labels and domains of an evaluation set are, see
            `asd_jax.data.ground_truth`; scores are evaluated by it, nothing is trained by it.
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
    check_path("ground_truth", ground_truth, optional=True)
    check_path("members_dir", members_dir, optional=True)
    check_path("cache_dir", cache_dir, optional=True)
    check_choice("on_bad_clip", on_bad_clip, ("stop", "skip"))
    check("verify", verify, (bool,), "True or False")
    reporter = reporter or Reporter()
    if config.data.subset == BOTH:
        return run_both(
            run, _check_run, config, data_dir, out_dir, reporter, ground_truth=ground_truth,
            members_dir=members_dir, cache_dir=cache_dir, on_bad_clip=on_bad_clip, verify=verify,
            width=width,
        )  # fmt: skip
    run_dir = RunDirectory(out_dir)
    options = _Options(ground_truth, cache_dir, on_bad_clip, verify)
    if isinstance(config, MembersConfig):
        _run_ensemble(config, data_dir, run_dir, members_dir, options, reporter)
        return RunResult(run_dir.path, table(out_dir, width))
    writes = distributed.is_primary()
    _run_system(config, data_dir, run_dir, options, reporter if writes else Silent())
    return RunResult(run_dir.path, table(out_dir, width) if writes else "")


class _Options(NamedTuple):
    """Arguments of `run` that concern recordings."""

    ground_truth: os.PathLike | str | None
    cache_dir: os.PathLike | str | None
    on_bad_clip: str
    verify: bool


def _run_system(
    config: Config,
    data_dir: DataSource,
    run_dir: RunDirectory,
    options: _Options,
    reporter: Reporter,
) -> None:
    """Runs one system, in this process or in several, of which the first one writes."""
    writes = distributed.is_primary()
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
    set_up([fleet_of(detector, clips)])
    # Whose weights are read before anything is written.
    pretrained = config.embedding.pretrained
    embedder = embedder_of(config, options.cache_dir) if pretrained else None
    ahead = CompiledAhead(detector, clips)
    meanwhile = (lambda: None) if distributed.several() else ahead.start
    with run_dir.lock(reporter.line) if writes else contextlib.nullcontext():
        if writes:
            run_dir.check(config)
        training, test = features_of(
            detector,
            clips,
            FeatureOptions(
                *(embedder, options.cache_dir, options.on_bad_clip, options.verify),
                *(reporter, meanwhile),
            ),
        )
        # Side files are read here, where clips have their lengths.
        training = with_given_states(detector, training, reporter.line)
        test = with_given_states(detector, test, reporter.line)
        data = describe_data(data_dir, training, test, detector.front_end)
        outdated = writes and run_dir.is_outdated(data)
        if outdated:
            reporter.line(f"{run_dir.path} has scores of other test clips; these are scored anew")
        finished = distributed.any_of(writes and run_dir.finished and not outdated)
        if not finished:
            training = with_copies_together(detector, training, reporter.line)
            training, operating = fitted_states(detector, training, reporter.line)
            if isinstance(detector, Joint):
                training = with_classes(detector, training, run_dir.classes)
            layout = _fitting_layout(detector, training, run_dir, ahead)
        used = training.clips + test.clips
        if writes:
            run_dir.claim(config, data, lambda: status_fingerprint(used))
            if isinstance(detector, Joint) and not run_dir.classes.is_file() and not finished:
                write_classes(run_dir.classes, detector, training.clips)
        if not finished:
            programs = ahead.programs(layout, reporter)
            fitted = fit_run(detector, training, layout, run_dir, reporter, programs, operating)
            score_and_evaluate(fitted, test, run_dir, data, used, truth, reporter)
        elif writes:
            complete(run_dir, used, truth, options.on_bad_clip, reporter)
        reporter.line(f"results are in {run_dir.path}; {run_dir.report_html.name} shows them")


def _fitting_layout(
    detector: Detector, training: Features, run_dir: RunDirectory, ahead: CompiledAhead
) -> Layout:
    """The layout of the training, which fits into memory; its programs begin to be compiled."""
    layout = lay_out(detector, training.clips, training.n_frames)
    if detector.config.detector.trains:
        row_bytes = training.width * training.dtype.itemsize
        check_fit(layout.fleet, layout.settings, row_bytes, detector.kind)
        if not distributed.several() and not run_dir.model.is_file():
            ahead.start(layout)
    return layout


def _run_ensemble(
    config: MembersConfig,
    data_dir: DataSource,
    run_dir: RunDirectory,
    members_dir: os.PathLike | str | None,
    options: _Options,
    reporter: Reporter,
) -> None:
    """Runs an ensemble's members, combines them, and evaluates by labels."""
    if distributed.several():
        raise UserError(
            "an ensemble is combined by one process: run its members by several, into "
            "--members_dir, then this"
        )
    folder = Path(members_dir or run_dir.path / MEMBERS)
    settings = {**options._asdict(), "reporter": reporter}
    _run_members(config, data_dir, run_dir, folder, reporter, settings)
    if options.ground_truth is not None:
        with run_dir.lock():
            label_run(
                run_dir.path, options.ground_truth, lambda _: None, on_bad_clip=options.on_bad_clip
            )


def _run_members(
    config: MembersConfig,
    data_dir: DataSource,
    run_dir: RunDirectory,
    members_dir: Path,
    reporter: Reporter,
    options: dict[str, Any],
) -> None:
    """Runs the unfinished members, then combines all."""
    with run_dir.lock(reporter.line):
        run_dir.check(config, but_for=(MEMBERS,))
        wanted = member_runs(config, data_dir, members_dir, reporter.line)
        set_up(fleets_of((member for _, member in wanted.values()), data_dir))
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
    ground_truth: os.PathLike | str | None = None,
    on_bad_clip: str = "stop",
) -> str:
    """Estimates the cost of `run` as lines of text; nothing is started or written.

    Args:
        config: the configuration.
        data_dir: as in `run`; the development set of DCASE 2020 is assumed by default.
        ground_truth: as in `run`.
        on_bad_clip: as in `run`.

    Raises:
        UserError: as `run`, for what the names of the recordings and their headers show.
    """
    _check_config(config)
    if data_dir is not None:
        _check_source(data_dir)
    check_choice("on_bad_clip", on_bad_clip, ("stop", "skip"))
    if data_dir is not None and config.data.subset == BOTH:
        return both_plans(
            dry_run, config, data_dir, ground_truth=ground_truth, on_bad_clip=on_bad_clip
        )
    if isinstance(config, MembersConfig):
        blocks = []
        for name, member in members_on(config, data_dir).items():
            with keys_of_member(name):
                plan = dry_run(member, data_dir, ground_truth=ground_truth, on_bad_clip=on_bad_clip)
            blocks.append(f"member {name}\n{member_keys(plan, name)}")
        return "\n\n".join(blocks)
    if data_dir is None:
        detector = make_detector(config)
        lines = [plan_run(detector, None), *empty_band_lines(detector.front_end)]
        return "\n".join(lines)
    detector, clips, lines = _checked(config, data_dir, ground_truth, on_bad_clip)
    return "\n".join([plan_run(detector, clips), *lines])


def _checked(
    config: Config,
    data_dir: DataSource,
    ground_truth: os.PathLike | str | None,
    on_bad_clip: str,
) -> tuple[Detector, ClipTable, list[str]]:
    """A run's system and clips, and lines about them; UserError for what their headers show."""
    detector = make_detector(config)
    lines = empty_band_lines(detector.front_end)
    clips = find_chosen(detector, data_dir, lines.append, on_bad_clip)
    if ground_truth is not None:
        truth_of(ground_truth, clips, lines.append, on_bad_clip=on_bad_clip)
    detector = detector.settled(clips)
    lines += check_channels(config, clips, on_bad_clip)
    lines += check_lengths(detector, clips, on_bad_clip)
    return detector, clips, lines


def _check_run(
    config: Config | MembersConfig,
    data_dir: DataSource,
    *,
    ground_truth: os.PathLike | str | None,
    on_bad_clip: str,
) -> None:
    """Raises what `dry_run` raises, without its estimates, for which a step is compiled."""
    if not isinstance(config, MembersConfig):
        _checked(config, data_dir, ground_truth, on_bad_clip)
        return
    for name, member in members_on(config, data_dir).items():
        with keys_of_member(name):
            _check_run(member, data_dir, ground_truth=ground_truth, on_bad_clip=on_bad_clip)


def _check_source(data_dir: Any) -> None:
    kinds = (str, os.PathLike, OwnFolders, Manifest)
    check("data_dir", data_dir, kinds, "a path, OwnFolders, or a Manifest")


def _check_config(config: Any) -> None:
    wanted = "a configuration, as load_config gives it"
    check("config", config, (Config, MembersConfig), wanted)
