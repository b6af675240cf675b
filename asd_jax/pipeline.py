"""The main job: from a folder of recordings to trained models, scores and tables."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from asd_jax.config import Config, MembersConfig
from asd_jax.config.variants import Variant
from asd_jax.data.clips import ClipTable
from asd_jax.data.layouts import DataSource
from asd_jax.data.manifest import Manifest
from asd_jax.data.own_folders import OwnFolders
from asd_jax.detectors import Detector, make_detector
from asd_jax.errors import UserError
from asd_jax.runs import page
from asd_jax.runs.aligned import check_same_data
from asd_jax.runs.bands import empty_band_lines
from asd_jax.runs.both_sets import BOTH, both_plans, run_both
from asd_jax.runs.channels import check_channels
from asd_jax.runs.clips import find_chosen
from asd_jax.runs.directory import RunDirectory
from asd_jax.runs.ensemble import (
    MEMBERS,
    combine_runs,
    keys_of_member,
    member_keys,
    member_runs,
    members_on,
)
from asd_jax.runs.fleets import fleets_of
from asd_jax.runs.labelled import label_run, truth_of
from asd_jax.runs.lengths import check_lengths
from asd_jax.runs.loading import load as load
from asd_jax.runs.outcome import RunResult
from asd_jax.runs.plan import plan_run
from asd_jax.runs.report import table
from asd_jax.runs.sweep import SweepResult, of_variant, run_variants
from asd_jax.runs.system import RunOptions, run_system
from asd_jax.runs.tensorboard import check_tensorboard
from asd_jax.runs.together import programs_of
from asd_jax.runs.versions import adapted_since
from asd_jax.runtime import distributed
from asd_jax.runtime.arguments import check, check_choice, check_path
from asd_jax.runtime.cores import set_up
from asd_jax.runtime.progress import Reporter, Silent, check_reporter


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
    tensorboard: bool = False,
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
        tensorboard: whether to write TensorBoard's event files, in the folder `tensorboard` of the
            run directory, as the training goes on; needs the extra of that name.
        reporter: shows progress and hears of each epoch, see `asd_jax.Reporter`.
        width: columns of the terminal that the table is to fit; any by default.

    Returns:
        The run directory with its scores and results as columns; printed, the table.

    Raises:
        UserError: the run cannot be done, with the reason in one line; finished work is kept.
    """
    _check_config(config)
    options = _options(
        data_dir,
        out_dir,
        ground_truth,
        members_dir,
        cache_dir,
        on_bad_clip,
        verify,
        tensorboard,
        reporter,
    )
    reporter = reporter or Reporter()
    if config.data.subset == BOTH:
        return run_both(
            run, _check_run, config, data_dir, out_dir, reporter, ground_truth=ground_truth,
            members_dir=members_dir, cache_dir=cache_dir, on_bad_clip=on_bad_clip, verify=verify,
            tensorboard=tensorboard, width=width,
        )  # fmt: skip
    run_dir = RunDirectory(out_dir)
    if isinstance(config, MembersConfig):
        _run_ensemble(config, data_dir, run_dir, members_dir, options, reporter)
        return RunResult(run_dir.path, table(out_dir, width))
    writes = distributed.is_primary()
    run_system(config, data_dir, run_dir, options, reporter if writes else Silent())
    return RunResult(run_dir.path, table(out_dir, width) if writes else "")


def _run_ensemble(
    config: MembersConfig,
    data_dir: DataSource,
    run_dir: RunDirectory,
    members_dir: os.PathLike | str | None,
    options: RunOptions,
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
        changed = adapted_since(run_dir.ensemble)
        if changed:
            reporter.line(f"{', '.join(changed)}: adapted or rolled back since; combined anew")
        if run_dir.finished and not changed and not run_dir.is_outdated(data):
            run_dir.claim(config, data)
            reporter.line(f"{run_dir.path} is finished; nothing to do")
            if not run_dir.report_html.is_file():
                page.write_page(run_dir.path, reporter.line)
        else:
            combine_runs(run_dir, config, paths, data, reporter)
        reporter.line(f"results are in {run_dir.path}; {run_dir.report_html.name} shows them")


def sweep(
    variants: Sequence[Variant],
    data_dir: DataSource,
    out_dir: os.PathLike | str,
    *,
    ground_truth: os.PathLike | str | None = None,
    members_dir: os.PathLike | str | None = None,
    cache_dir: os.PathLike | str | None = None,
    on_bad_clip: str = "stop",
    verify: bool = False,
    tensorboard: bool = False,
    reporter: Reporter | None = None,
    width: int | None = None,
) -> SweepResult:
    """Runs variants of a configuration, each into a run directory of its own, named by its values.

    Those that differ in numbers which can be arrays of a training step are one fleet, trained by
    one program; others follow one another. A variant is what `run` gives for its configuration
    alone. Started again, a sweep goes on; other values add variants, and none is repeated.

    Args:
        variants: from `load_variants`.
        data_dir: as of `run`, like all that follow.
        out_dir: folder of the run directories.
        ground_truth: as of `run`.
        members_dir: as of `run`.
        cache_dir: as of `run`.
        on_bad_clip: as of `run`.
        verify: as of `run`.
        tensorboard: as of `run`.
        reporter: as of `run`.
        width: as of `run`.

    Raises:
        UserError: as `run`, for any of the variants, before one is begun.
    """
    check("variants", variants, (list, tuple), "a list, as load_variants gives it")
    for variant in variants:
        check("a variant", variant, (Variant,), "one of load_variants")
        _check_config(variant.config)
    if not all(variant.name for variant in variants) or not variants:
        raise UserError("no key has several values; asd_jax.run takes one configuration")
    options = _options(
        data_dir,
        out_dir,
        ground_truth,
        members_dir,
        cache_dir,
        on_bad_clip,
        verify,
        tensorboard,
        reporter,
    )
    return run_variants(
        *(run, _check_run, variants, data_dir, out_dir, options, reporter or Reporter()),
        members_dir=members_dir,
        width=width,
    )


def dry_sweep(
    variants: Sequence[Variant],
    data_dir: DataSource | None = None,
    *,
    ground_truth: os.PathLike | str | None = None,
    on_bad_clip: str = "stop",
) -> str:
    """Variants of a configuration, which are one program, and the cost of each program.

    Args:
        variants: from `load_variants`.
        data_dir: as of `dry_run`, like all that follow.
        ground_truth: as of `dry_run`.
        on_bad_clip: as of `dry_run`.

    Raises:
        UserError: as `sweep`, for what the names of the recordings and their headers show.
    """
    programs = programs_of(variants)
    blocks = [f"{len(variants)} variants in {len(programs)} programs, one after another"]
    for number, program in enumerate(programs, 1):
        with of_variant(program[0]):
            plan = dry_run(
                program[0].config,
                data_dir,
                ground_truth=ground_truth,
                on_bad_clip=on_bad_clip,
                variants=len(program),
            )
        names = "\n".join(f"  {variant.name}" for variant in program)
        one = f"program {number}: {len(program)} variants as one fleet"
        heading = one if len(program) > 1 else f"program {number}"
        blocks.append(f"{heading}\n{names}\n{plan}")
    return "\n\n".join(blocks)


def dry_run(
    config: Config | MembersConfig,
    data_dir: DataSource | None = None,
    *,
    ground_truth: os.PathLike | str | None = None,
    on_bad_clip: str = "stop",
    variants: int = 1,
) -> str:
    """Estimates the cost of `run` as lines of text; nothing is started or written.

    Args:
        config: the configuration.
        data_dir: as in `run`; the development set of DCASE 2020 is assumed by default.
        ground_truth: as in `run`.
        on_bad_clip: as in `run`.
        variants: runs like this one that are trained as one fleet, see `sweep`.

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
        lines = [plan_run(detector, None, variants), *empty_band_lines(detector.front_end)]
        return "\n".join(lines)
    detector, clips, lines = _checked(config, data_dir, ground_truth, on_bad_clip)
    return "\n".join([plan_run(detector, clips, variants), *lines])


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


def _options(
    data_dir: Any,
    out_dir: Any,
    ground_truth: Any,
    members_dir: Any,
    cache_dir: Any,
    on_bad_clip: Any,
    verify: Any,
    tensorboard: Any,
    reporter: Any,
) -> RunOptions:
    """The options of a run; UserError where an argument is of another type."""
    _check_source(data_dir)
    check_path("out_dir", out_dir)
    check_path("ground_truth", ground_truth, optional=True)
    check_path("members_dir", members_dir, optional=True)
    check_path("cache_dir", cache_dir, optional=True)
    check_choice("on_bad_clip", on_bad_clip, ("stop", "skip"))
    check("verify", verify, (bool,), "True or False")
    check("tensorboard", tensorboard, (bool,), "True or False")
    check_reporter(reporter)
    if tensorboard:
        check_tensorboard()
    return RunOptions(ground_truth, cache_dir, on_bad_clip, verify, tensorboard)


def _check_source(data_dir: Any) -> None:
    kinds = (str, os.PathLike, OwnFolders, Manifest)
    check("data_dir", data_dir, kinds, "a path, OwnFolders, or a Manifest")


def _check_config(config: Any) -> None:
    wanted = "a configuration, as load_config gives it"
    check("config", config, (Config, MembersConfig), wanted)
