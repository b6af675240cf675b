"""A report's results tables from recordings: trains the runs that they need, then fills them.

Each run has its own folder below `runs/`, and goes on or is left as it is as every run is.
"""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from asd_jax import pipeline
from asd_jax.config import (
    ChoiceConfig,
    Config,
    EnsembleConfig,
    MembersConfig,
    difference,
    load_config,
    nearest,
    to_dict,
)
from asd_jax.data.clips import Clip
from asd_jax.data.layouts import find_clips
from asd_jax.detectors import make_detector
from asd_jax.errors import UserError
from asd_jax.evaluation.results import read_results_csv, read_scores_csv
from asd_jax.papers import printing
from asd_jax.papers import tables as paper_tables
from asd_jax.papers.layouts import PAPERS, SCORE_PAPERS
from asd_jax.papers.measures import RunNumbers, with_scores
from asd_jax.papers.recordings import fetch_recordings, plan_recordings
from asd_jax.papers.settings import settings_of, why_not
from asd_jax.published import RATES
from asd_jax.runs.clips import choose_clips
from asd_jax.runs.directory import RunDirectory, read_config
from asd_jax.runs.ensemble import chosen_members
from asd_jax.runs.fleets import fleets_of
from asd_jax.runs.plan import about, describe, plan_clips
from asd_jax.runs.report import comparable
from asd_jax.runtime.cores import set_up
from asd_jax.runtime.files import atomic_write
from asd_jax.runtime.memory import size
from asd_jax.runtime.progress import Reporter


class Outcome(NamedTuple):
    """Result of a reproduction.

    Attributes:
        text: the tables and lines about missing parts; for a dry run, the cost of the runs.
        failed: names of the runs that could not be done.
    """

    text: str
    failed: tuple[str, ...]


class _Ready(NamedTuple):
    """A run that can begin.

    Attributes:
        name: of the run and its folder.
        config: its configuration.
        trainings: what it trains, by the folder's name: itself, or an ensemble's members.
    """

    name: str
    config: Config | MembersConfig
    trainings: "dict[str, _Training]"


class _Training(NamedTuple):
    """A configuration and its clips; None for those of DCASE 2020."""

    config: Config
    clips: Sequence[Clip] | None


class _Prepared(NamedTuple):
    """Runs that can begin, lines about the others and partial ones, and the names of the others."""

    ready: list[_Ready]
    lines: list[str]
    failed: list[str]


def reproduce(
    paper: str,
    data_dir: os.PathLike | str | None,
    out_dir: os.PathLike | str | None,
    *,
    overrides: Mapping[str, str] | None = None,
    cache_dir: os.PathLike | str | None = None,
    on_bad_clip: str = "stop",
    reporter: Reporter | None = None,
    dry_run: bool = False,
    download: bool = False,
    mirror: str | None = None,
) -> Outcome:
    """Trains and evaluates the runs of a report's tables, and fills the tables.

    Writes `tables.md` and `tables.csv` in `out_dir` after every run, so that they exist if a later
    run is stopped. The same call continues an interrupted reproduction.

    Args:
        paper: one of `layouts.PAPERS`; those of `layouts.SCORE_PAPERS` have `score_runs`.
        data_dir: recordings of the report's year; machines that it lacks are left out.
        out_dir: folder of the runs and the tables; not used by a dry run.
        overrides: dotted key to text, as in {"train.epochs": "5"}, for every run that has the
            key; or with the name of a run, or of an ensemble's member, before the key for that
            one alone.
        cache_dir: as in `pipeline.run`.
        on_bad_clip: as in `pipeline.run`.
        reporter: shows progress.
        dry_run: only report the runs and their cost. Without `data_dir`, as if on DCASE 2020, for
            reports of that year.
        download: whether to fetch published recordings that `data_dir` lacks; a dry run says which.
        mirror: scheme and host to fetch from in place of the published ones.

    Raises:
        UserError: before any work, an unknown report or key, a wrong value, recordings of
            another year, or a folder with other runs; later, a signal or the disk. A run that
            cannot be done for another reason is named in the outcome and the others go on.
    """
    if paper not in PAPERS:
        raise UserError(
            f"--paper={paper}: no such report{nearest(paper, [*PAPERS, *SCORE_PAPERS])}; there are "
            f"{', '.join([*PAPERS, *SCORE_PAPERS])}"
        )
    reporter = reporter or Reporter()
    if (data_dir is None or out_dir is None) and not dry_run:
        raise UserError(f"{paper} needs --data_dir= and --out_dir=; only a dry run does without")
    if download and dry_run:
        return _plan_with_download(paper, data_dir, overrides or {}, mirror)
    if download:
        assert data_dir is not None
        fetch_recordings(paper, data_dir, overrides or {}, reporter, mirror)
    prepared = _prepare(paper, data_dir, overrides or {})
    if dry_run:
        return Outcome(_plan(data_dir, prepared), tuple(prepared.failed))
    assert data_dir is not None and out_dir is not None
    out_dir = Path(out_dir)
    runs = out_dir / "runs"
    for run in prepared.ready:
        of_folders = {name: training.config for name, training in run.trainings.items()}
        for name, config in {**of_folders, run.name: run.config}.items():
            if (runs / name).is_dir():
                RunDirectory(runs / name).check(config)
    lines, failed = list(prepared.lines), list(prepared.failed)
    for line in lines:
        reporter.line(line)
    changed = " ".join(f"--config.{key}={text}" for key, text in (overrides or {}).items())
    settings = [f"Ours is with {changed}."] * bool(changed)
    set_up(fleets_of((run.config for run in prepared.ready), data_dir))
    results: dict[str, RunNumbers] = {}
    remarks: dict[str, None] = {}
    for count, run in enumerate(prepared.ready, 1):
        reporter.line(f"run {count} of {len(prepared.ready)}: {run.name}")
        try:
            pipeline.run(
                run.config,
                data_dir,
                runs / run.name,
                cache_dir=cache_dir,
                on_bad_clip=on_bad_clip,
                reporter=reporter,
                members_dir=runs,  # what is trained for one ensemble is there for the next
            )
        except UserError as error:
            if error.exit_status != 2:  # stopped, or the disk: the next would fare no better
                raise
            lines.append(why_not(run.name, error))
            failed.append(run.name)
            reporter.line(lines[-1])
            continue
        run_dir = RunDirectory(runs / run.name)
        results[run.name], notes = _numbers(paper, run_dir, run.name)
        remarks |= dict.fromkeys(notes)
        _write(paper, out_dir, results, [*settings, *lines, *remarks])
    if not results:
        raise UserError(f"none of the runs of {paper} could be done: {'; '.join(lines)}")
    text = _write(paper, out_dir, results, [*settings, *lines, *remarks])
    return Outcome(text, tuple(failed))


def _numbers(paper: str, run_dir: RunDirectory, name: str) -> tuple[RunNumbers, tuple[str, ...]]:
    """The numbers of a finished run, and remarks on them."""
    results = read_results_csv(run_dir.results_csv)
    published, remarks = comparable(run_dir, name, results)
    numbers = RunNumbers(results)
    if max_fpr := PAPERS[paper].max_fpr:
        numbers = with_scores(numbers, read_scores_csv(run_dir.scores_csv), max_fpr)
        if different := paper_tables.decided_otherwise(paper, name, read_config(run_dir.config)):
            published = tuple(number for number in published if number.metric not in RATES)
            remarks += (f"{name}: no differences of rates of decisions: {different}.",)
    return numbers._replace(comparable=frozenset(published)), remarks


def _write(
    paper: str,
    out_dir: Path,
    results: Mapping[str, RunNumbers],
    lines: Sequence[str],
) -> str:
    """Writes the tables; gives them as text."""
    tables = paper_tables.fill(paper_tables.tables_of(paper), results)
    with atomic_write(out_dir / "tables.md") as file:
        file.write(f"# {PAPERS[paper].source}\n\n{printing.as_markdown(tables)}")
        file.writelines(f"\n{note}\n" for note in lines)
    with atomic_write(out_dir / "tables.csv") as file:
        file.write(printing.as_csv(tables))
    return "\n".join([printing.as_text(tables), *lines])


def _prepare(
    paper: str, data_dir: os.PathLike | str | None, overrides: Mapping[str, str]
) -> _Prepared:
    """Checks all that can be known before any work."""
    prepared = _Prepared([], [], [])
    known: dict[int, Sequence[Clip]] = {}
    earlier: dict[str, _Training] = {}
    needed = paper_tables.needed(paper)
    settings = settings_of(paper, needed, overrides)
    for run in needed:
        config = load_config(run.configuration, settings[run.name])
        year, clips, there = config.data.year, None, set(run.machines)
        if data_dir is not None:
            if year not in known:
                known[year] = _clips(paper, data_dir, year)
            clips = known[year]
            there = {clip.machine for clip in clips if clip.split == "train"}
        elif PAPERS[paper].year != 2020:
            raise UserError(f"{paper} needs --data_dir=, also to say what it would take")
        machines, lacking = [], []
        for machine, other in sorted(run.machines.items()):
            if config.data.machines and machine not in config.data.machines:
                continue
            if machine not in there:
                lacking.append(machine)
            elif other and other not in there:
                lacking.append(f"{machine} (needs {other})")
            else:
                machines.append(machine)
        if not machines:
            prepared.lines.append(f"{run.name} is not run: the data has none of its machines")
            continue
        if lacking:
            prepared.lines.append(
                f"{run.name}: without {', '.join(lacking)}; no training clips in the data"
            )
        chosen = {**settings[run.name], "data.machines": ",".join(machines)}
        config = load_config(run.configuration, chosen)
        try:
            trainings = _trainings(run.name, config, clips, earlier)
        except UserError as error:
            prepared.lines.append(why_not(run.name, error))
            prepared.failed.append(run.name)
            continue
        prepared.ready.append(_Ready(run.name, config, trainings))
        earlier |= trainings
    _check_folders(prepared.ready)
    return prepared


def _trainings(
    name: str,
    config: Config | MembersConfig,
    clips: Sequence[Clip] | None,
    earlier: Mapping[str, _Training],
) -> dict[str, _Training]:
    """What a run trains, by folder as `pipeline.run` names them.

    Raises:
        UserError: a system cannot learn from the clips.
    """
    configs: Mapping[str, Config | MembersConfig]
    if isinstance(config, Config):
        configs = {name: config}
    elif not isinstance(config, ChoiceConfig):
        configs = config.member_configs()
    else:
        members = config.member_configs()

        def is_done(member: str) -> bool:
            return member in earlier and earlier[member].config == members[member]

        runs = chosen_members(config, config.data.machines, is_done)
        configs = {folder: member for folder, (_, member) in runs.items()}
    trainings = {}
    for folder, member in configs.items():
        assert isinstance(member, Config)  # the reports have no ensembles of ensembles
        chosen = None
        if clips is not None:
            chosen = choose_clips(make_detector(member), clips, lambda line: None)
        trainings[folder] = _Training(member, chosen)
    return trainings


def _check_folders(ready: Sequence[_Ready]) -> None:
    """Raises UserError where two runs would train different models in one folder."""
    found: dict[str, dict] = {}
    for run in ready:
        for name, training in run.trainings.items():
            config = to_dict(training.config)
            differences = difference(config, found.setdefault(name, config))
            if differences:
                raise UserError(
                    f"{name} is a run of its own and of {run.name}, with different settings: "
                    f"{differences[0]}; set them for both"
                )


def _clips(paper: str, data_dir: os.PathLike | str, year: int) -> Sequence[Clip]:
    """The recordings, of the report's year."""
    clips = find_clips(data_dir, year or None)
    wanted = PAPERS[paper].year
    years = sorted({clip.year for clip in clips})
    if wanted not in years:
        raise UserError(
            f"{paper} is about recordings of DCASE {wanted}, and {data_dir} looks like "
            f"{', '.join(map(str, years))}; give others, or --config.data.year={wanted} if they "
            "are"
        )
    return clips


def _plan_with_download(
    paper: str,
    data_dir: os.PathLike | str | None,
    overrides: Mapping[str, str],
    mirror: str | None,
) -> Outcome:
    """What would be fetched; and what the runs take, as far as that can be known before."""
    if data_dir is None:
        raise UserError("--download needs --data_dir=, a folder for the recordings")
    lines = plan_recordings(paper, data_dir, overrides, mirror)
    # A single line says that nothing is missing.
    there: os.PathLike | str | None = data_dir if len(lines) == 1 else None
    if there is None and PAPERS[paper].year != 2020:
        lines.append("what the runs take is said once these are there; nothing was started")
        return Outcome("\n".join(lines), ())
    prepared = _prepare(paper, there, overrides)
    return Outcome("\n".join([*lines, "", _plan(there, prepared)]), tuple(prepared.failed))


def _plan(data_dir: os.PathLike | str | None, prepared: _Prepared) -> str:
    """What the runs would take."""
    blocks, plans = [], {}
    for run in prepared.ready:
        for name, training in run.trainings.items():
            if name not in plans:
                plans[name] = plan_clips(make_detector(training.config), training.clips, timed=True)
                cost = "\n".join(f"  {line}" for line in describe(plans[name]).splitlines())
                machines = ", ".join(training.config.data.machines)
                blocks.append(f"{name} ({machines})\n{cost}")
        if isinstance(run.config, MembersConfig):
            how = "one for each machine"
            if isinstance(run.config, EnsembleConfig):
                how = f"the {run.config.combine}"
            blocks.append(f"{run.name}: of {', '.join(run.trainings)}, {how}")
    where = "as if on the development set of DCASE 2020, without --data_dir"
    if data_dir is not None:
        where = "by the headers of the recordings"
    lines = [*prepared.lines, f"{len(plans)} trainings, {where}; nothing was started."]
    if plans:
        seconds = sum(plan.seconds or 0.0 for plan in plans.values())
        most = max(plan.total_bytes for plan in plans.values())
        lines += [
            f"In all at most {about(seconds)} of training on this device, in at most {size(most)}.",
            "Times are extrapolated from a few timed steps on made-up views; features and "
            "scoring come on top, early stopping takes off.",
        ]
    return "\n\n".join([*blocks, "\n".join(lines)])
