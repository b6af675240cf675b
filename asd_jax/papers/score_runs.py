"""A table of official scores from recordings of several years: runs the systems that we have.

Under the folder of the data, each year's development and evaluation set is looked for. A system is
run on every set that the table has a number of it for; the quickest systems come first. Each run
has its own folder below `runs/`, and goes on or is left as it is as every run is.
"""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from asd_jax import pipeline
from asd_jax.config import Config, MembersConfig, load_config
from asd_jax.data.clips import UNLABELLED
from asd_jax.data.layouts import scan
from asd_jax.data.official_sets import subset_of
from asd_jax.data.years import set_folder
from asd_jax.detectors import holds_out_for_thresholds
from asd_jax.errors import UserError
from asd_jax.evaluation.results import ResultRow, read_results_csv
from asd_jax.evaluation.standing import SETS
from asd_jax.papers import printing, scores
from asd_jax.papers.layouts import SCORE_PAPERS
from asd_jax.papers.reproduce import Outcome
from asd_jax.papers.scores import Set, System
from asd_jax.papers.settings import settings_of, why_not
from asd_jax.papers.tables import NeededRun
from asd_jax.runs.directory import RunDirectory, read_config
from asd_jax.runs.fleets import fleets_of
from asd_jax.runs.origin import SYNTHETIC
from asd_jax.runs.report import standing_in
from asd_jax.runtime.cores import set_up
from asd_jax.runtime.files import atomic_write
from asd_jax.runtime.progress import Reporter

_NOTE = (
    "A mean over sets is filled where all of them are there and whole. Joint networks learn "
    "from both sets of a year where both are there. Chance is 50."
)


class FoundSet(NamedTuple):
    """A set of the challenge under the folder of the data.

    Attributes:
        folder: to run on.
        called: the set by the folders' names, which `data.subset` chooses by.
        problem: why it cannot be used; "" for nothing.
        hidden: whether its test clips have no labels, so that it needs a ground truth.
    """

    folder: Path
    called: str
    problem: str = ""
    hidden: bool = False


class _Run(NamedTuple):
    """A run that can begin: its name, system, configuration, recordings and their ground truth."""

    name: str
    system: str
    config: Config | MembersConfig
    folder: Path
    ground_truth: os.PathLike | str | None = None


def find_sets(data_dir: os.PathLike | str, year: int = 0) -> dict[Set, FoundSet]:
    """Finds the challenge's sets under a folder, by machines and sections.

    Args:
        data_dir: the folder, of one set or of several years.
        year: of all recordings; 0 for what their layout shows.

    Raises:
        UserError: as `scan`.
    """
    clips = scan(data_dir, year or None).clips
    parts: dict[tuple[Path, int, str], list[np.ndarray]] = {}
    for (_, of_year, called), rows in clips.groups("folder", "year", "subset").items():
        folder = set_folder(clips.path(rows[0]))
        parts.setdefault((folder, of_year, called), []).append(rows)
    found: dict[Set, FoundSet] = {}
    for (folder, of_year, called), groups in parts.items():
        own = clips[np.sort(np.concatenate(groups))]
        subset = subset_of({*own.groups("machine", "section")}, of_year)
        if subset is None:
            continue
        key = of_year, subset
        if key in found:
            both = f"it is in {found[key].folder} and in {folder}; give a folder with one"
            found[key] = found[key]._replace(problem=both)
        else:
            test = own[own.where(split="test")]
            trained = bool(own.where(split="train").any())
            hidden = bool(test.where(label=UNLABELLED).all())
            found[key] = FoundSet(
                folder, called, "" if trained else "it has no training clips", hidden
            )
    return found


def _problem(found: FoundSet, ground_truth: os.PathLike | str | None) -> str:
    """Why a set cannot be used; "" for nothing."""
    if not found.problem and found.hidden and ground_truth is None:
        return (
            "it has no labelled test clips; give --ground_truth=, or labels in the clips' names, "
            "as in test_rename"
        )
    return found.problem


def reproduce_scores(
    paper: str,
    data_dir: os.PathLike | str | None,
    out_dir: os.PathLike | str | None,
    *,
    overrides: Mapping[str, str] | None = None,
    ground_truth: os.PathLike | str | None = None,
    cache_dir: os.PathLike | str | None = None,
    on_bad_clip: str = "stop",
    reporter: Reporter | None = None,
    dry_run: bool = False,
) -> Outcome:
    """Runs the systems of a table of official scores that we have, and fills the table.

    Arguments, files and errors are those of `reproduce.reproduce`, but that `data_dir` may hold
    several years, a dry run needs it, and the name before a key is that of a system.
    `ground_truth` is as in `pipeline.run`, for the sets whose names do not say labels.

    Raises:
        UserError: before any work, an unknown key, a wrong value, no set of the table, or a folder
            with other runs; later, a signal or the disk.
    """
    if data_dir is None or (out_dir is None and not dry_run):
        raise UserError(f"{paper} needs --data_dir= and --out_dir=; a dry run only the first")
    reporter = reporter or Reporter()
    runs, lines = _prepare(paper, data_dir, overrides or {}, ground_truth)
    if dry_run or out_dir is None:
        return Outcome(_plan(runs, lines, on_bad_clip), ())
    out_dir = Path(out_dir)
    for run in runs:
        if (out_dir / "runs" / run.name).is_dir():
            RunDirectory(out_dir / "runs" / run.name).check(run.config)
    for line in lines:
        reporter.line(line)
    changed = " ".join(f"--config.{key}={text}" for key, text in (overrides or {}).items())
    notes = [_NOTE, *[f"Ours is with {changed}."] * bool(changed)]
    options: dict[str, Any] = dict(cache_dir=cache_dir, on_bad_clip=on_bad_clip, reporter=reporter)
    results: dict[str, Sequence[ResultRow]] = {}
    remarks: dict[str, None] = {}
    failed = []
    if runs:
        set_up(fleets_of((run.config for run in runs), runs[0].folder))
    for count, run in enumerate(runs, 1):
        reporter.line(f"run {count} of {len(runs)}: {run.name}")
        path = out_dir / "runs" / run.name
        try:
            pipeline.run(run.config, run.folder, path, ground_truth=run.ground_truth, **options)
        except UserError as error:
            if error.exit_status != 2:  # stopped, or the disk: the next would fare no better
                raise
            lines.append(why_not(run.name, error, run.system))
            failed.append(run.name)
            reporter.line(lines[-1])
            continue
        results[run.name] = read_results_csv(path / "results.csv")
        remarks |= dict.fromkeys(_remarks(path, results[run.name]))
        _write(paper, out_dir, results, [*notes, *lines, *remarks])
    if not results:
        raise UserError(f"none of the runs of {paper} could be done: {'; '.join(lines)}")
    text = _write(paper, out_dir, results, [*notes, *lines, *remarks])
    return Outcome(text, tuple(failed))


def _prepare(
    paper: str,
    data_dir: os.PathLike | str,
    overrides: Mapping[str, str],
    ground_truth: os.PathLike | str | None,
) -> tuple[list[_Run], list[str]]:
    """The runs that can begin, quick ones first, and lines about what there is not."""
    systems = scores.systems_of(paper)
    there = [system for system in systems if system.exists]
    lines = [
        f"{system.name}: not available, as this version has no configuration {system.configuration}"
        for system in systems
        if not system.exists
    ]
    needed = []
    for system in there:
        fixed = {**system.overrides, **_learning_from_all(system)}
        if fixed:
            changed = " ".join(f"--config.{key}={text}" for key, text in fixed.items())
            lines.append(f"{system.name} is {system.configuration} with {changed}")
        # The set of a run is the table's.
        fixed["data.subset"] = "of its column"
        needed.append(NeededRun(system.name, system.configuration, fixed, {}))
    settings = settings_of(paper, needed, overrides)
    configs: dict[str, Config | MembersConfig] = {}
    for system in there:
        del settings[system.name]["data.subset"]
        configs[system.name] = load_config(system.configuration, settings[system.name])
    years = {config.data.year for config in configs.values()}
    found = find_sets(data_dir, max(years, default=0))
    wanted = sorted({key for system in systems for key in system.sets})
    if not {*wanted} & {*found}:
        raise UserError(
            f"{paper} is about {_sets(wanted)}, and {data_dir} has {_sets(sorted(found))}"
        )
    if missing := [key for key in wanted if key not in found]:
        lines.append(f"without {_sets(missing)}: no recordings of them in {data_dir}")
    problems = {key: _problem(own, ground_truth) for key, own in found.items()}
    for key in wanted:
        if problems.get(key):
            lines.append(f"without {_sets([key])}: {problems[key]}")
    runs = []
    for system in sorted(there, key=lambda system: _cost(system, configs[system.name])):
        for key in system.sets:
            if key in found and not problems[key]:
                chosen = {**settings[system.name], "data.subset": found[key].called}
                config = load_config(system.configuration, chosen)
                name = scores.run_name(system.name, *key)
                truth = ground_truth if found[key].hidden else None
                runs.append(_Run(name, system.name, config, found[key].folder, truth))
    return runs, lines


def _learning_from_all(system: System) -> dict[str, str]:
    """The setting by which no clip is held out, of a system that holds some out for thresholds."""
    if holds_out_for_thresholds(load_config(system.configuration)):
        return {"train.threshold_split": "0"}
    return {}


def _cost(system: System, config: Config | MembersConfig) -> tuple[bool, bool, int]:
    """Sorts systems from quick to slow: without training, one network for each machine, joint ones.

    Of one configuration, those with more settings are parts of the whole.
    """
    trains = isinstance(config, MembersConfig) or config.detector.trains
    return trains, system.configuration != "dense_ae", -len(system.overrides)


def _sets(keys: Sequence[Set]) -> str:
    """Names of sets, as in "DCASE 2020 (dev, eval), DCASE 2021 (dev)"."""
    subsets: dict[int, list[str]] = {}
    for year, subset in keys:
        subsets.setdefault(year, []).append(subset)
    names = [f"DCASE {year} ({', '.join(own)})" for year, own in subsets.items()]
    return ", ".join(names) or f"none of the challenge's {' and '.join(SETS.values())}s"


def _remarks(path: Path, results: Sequence[ResultRow]) -> list[str]:
    """What is to be known about a run's recordings."""
    run_dir = RunDirectory(path)
    data = run_dir.read_data()
    if data["synthetic"]:
        return [SYNTHETIC]
    standing = standing_in(run_dir, read_config(run_dir.config), data, results)
    if standing.markdown:
        return list(standing.notes)
    return [standing.line or f"{path.name}: numbers of training clips are not the challenge's"]


def _write(
    paper: str, out_dir: Path, results: Mapping[str, Sequence[ResultRow]], lines: Sequence[str]
) -> str:
    """Writes the table; gives it as text."""
    filled = [scores.fill(scores.table_of(paper), results)]
    with atomic_write(out_dir / "tables.md") as file:
        file.write(f"# {SCORE_PAPERS[paper].source}\n\n{printing.as_markdown(filled)}")
        file.writelines(f"\n{line}\n" for line in lines)
    with atomic_write(out_dir / "tables.csv") as file:
        file.write(printing.as_csv(filled))
    return "\n".join([printing.as_text(filled), *lines])


def _plan(runs: Sequence[_Run], lines: Sequence[str], on_bad_clip: str) -> str:
    """What the runs would take; of a system's sets the first one, as a step is compiled for it."""
    blocks = []
    of_system: dict[str, list[_Run]] = {}
    for run in runs:
        of_system.setdefault(run.system, []).append(run)
    for first, *others in of_system.values():
        cost = pipeline.dry_run(
            first.config, first.folder, ground_truth=first.ground_truth, on_bad_clip=on_bad_clip
        )
        names = [f"likewise {run.name}" for run in others]
        blocks.append("\n  ".join([first.name, *cost.splitlines(), *names]))
    return "\n\n".join([*blocks, "\n".join([*lines, f"{len(runs)} runs; nothing was started."])])
