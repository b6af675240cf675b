"""Runs whose scores come from other runs: combined on a common scale, or chosen by machine.

The run directory has the same result files as any run, and `ensemble.json` in place of a model:
paths of the members, the scale of each one's scores, and thresholds.
"""

import contextlib
import dataclasses
import json
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from asd_jax.config import Config, EnsembleConfig, from_dict
from asd_jax.config.members import ChoiceConfig, MembersConfig
from asd_jax.data import layouts
from asd_jax.data.layouts import DataSource, Scanner, listed_clips
from asd_jax.detectors import config_classes
from asd_jax.errors import UserError
from asd_jax.evaluation.promises import references_of, with_p_values
from asd_jax.evaluation.results import (
    ScoreRow,
    TrainingRow,
    read_training_csv,
    write_training_csv,
)
from asd_jax.evaluation.row_table import RowTable
from asd_jax.evaluation.verdicts import with_verdicts
from asd_jax.fitting.ensemble import FittedChoice, FittedEnsemble
from asd_jax.fitting.fitted import Fitted
from asd_jax.fitting.thresholds import fallback_lines
from asd_jax.runs import page
from asd_jax.runs.aligned import (
    NO_P_VALUES,
    RunScores,
    aligned_scores,
    check_same_data,
    check_there,
    checked,
    groups_of,
    lost_reference,
    of_any_seed,
    score_array,
    that_count,
    unscored_rows,
    widened_line,
    with_common_rows,
)
from asd_jax.runs.clips import of_subset
from asd_jax.runs.directory import RunDirectory, stored_differences
from asd_jax.runs.outcome import RunResult
from asd_jax.runs.places import join_places
from asd_jax.runs.report import finished_run, table, write_results
from asd_jax.runs.versions import adapted_since, current_version
from asd_jax.runtime.arguments import check, check_choice, check_path
from asd_jax.runtime.files import atomic_write
from asd_jax.runtime.progress import Reporter
from asd_jax.scoring.ensemble import combine as combine_scores
from asd_jax.scoring.ensemble import scale_of
from asd_jax.scoring.threshold import Threshold, gamma_threshold

# Folder of the members' run directories, within a run directory.
MEMBERS = "members"
_FORMAT = 1  # of ensemble.json
_CHOOSE = "choose"  # name of a choice in ensemble.json


# Rows of the test and of the training clips, and their entries in `ensemble.json`.
_Combined = tuple[RowTable[ScoreRow], RowTable[TrainingRow], dict[str, Any]]


def combine_runs(
    run_dir: RunDirectory,
    config: MembersConfig,
    runs: Mapping[str, os.PathLike | str],
    data: dict[str, Any],
    reporter: Reporter,
) -> None:
    """Combines finished runs: writes result files, and `ensemble.json` for scoring other clips.

    Nothing is written before the runs are known to fit together.

    Args:
        run_dir: the locked run directory to write.
        config: an ensemble or a choice.
        runs: run directories of the members that are needed, by name.
        data: description of their data, from `check_same_data`.
        reporter: shows a line where a threshold is not the one that was asked for.

    Raises:
        UserError: the runs did not score the same clips by the same seeds, or are damaged.
    """
    scores = {name: RunScores.read(path) for name, path in runs.items()}
    if isinstance(config, ChoiceConfig):
        rows, training, how = _chosen_scores(config, scores)
    else:
        assert isinstance(config, EnsembleConfig)  # the other kind
        rows, training, how = _ensemble_scores(config, scores, reporter.line)
    meta = {
        "format": _FORMAT,
        "members": [*runs],
        "paths": [os.path.relpath(path, run_dir.path) for path in runs.values()],
        "seeds": list(config.seeds),
        **how,
    }
    if any(adapted := [current_version(RunDirectory(path)) for path in runs.values()]):
        meta["versions"] = adapted
    run_dir.claim(config, data)
    write_training_csv(run_dir.training_csv, training)
    with atomic_write(run_dir.ensemble) as file:
        json.dump(meta, file, indent=2)
        file.write("\n")
    run_dir.write_environment()
    every = [with_verdicts(rows), unscored_rows(config, runs)]
    intervals = write_results(run_dir, RowTable.concatenate(every, ScoreRow), data)
    sources = [RunDirectory(path).recordings_csv for path in runs.values()]
    join_places(run_dir.recordings_csv, sources)
    page.write_page(run_dir.path, reporter.line, intervals=intervals)


def load_members(
    path: os.PathLike | str, load_run: Callable[[Path], Fitted]
) -> FittedEnsemble | FittedChoice:
    """Reads an `ensemble.json`, and the members' run directories by `load_run`.

    Raises:
        UserError: it is damaged, or a member was moved.
    """
    path = Path(path)
    try:
        meta = json.loads(path.read_text(encoding="utf-8"))
        places = dict(zip(meta["members"], meta["paths"], strict=True))
        if meta["format"] != _FORMAT or not {"combine", "chosen", "scales"} <= meta.keys():
            raise ValueError("it is of another version")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{path} is damaged ({error}); remove it, and the command that made the run makes it "
            "again"
        ) from error
    members = {
        name: load_run(Path(os.path.normpath(path.parent / place)))
        for name, place in places.items()
    }
    if changed := adapted_since(path):
        raise UserError(
            f"{', '.join(changed)}: adapted or rolled back since {path.parent} was combined; "
            "combine it again by the command that made it, or roll back"
        )
    if meta["combine"] == _CHOOSE:
        return FittedChoice(members, meta["seeds"], meta["chosen"])
    training = path.parent / "training_scores.csv"
    references = references_of(read_training_csv(training)) if training.is_file() else {}
    return FittedEnsemble(members, meta["seeds"], meta["combine"], meta["scales"], references)


def _chosen_scores(config: ChoiceConfig, runs: Mapping[str, RunScores]) -> _Combined:
    """Takes each machine type's rows from its member; returns them with `ensemble.json`'s part."""
    rows: list[RowTable[ScoreRow]] = []
    training: list[RowTable[TrainingRow]] = []
    chosen = {}
    for group in groups_of(runs.values()):
        name = config.member_for(group[0])
        if name not in runs:  # a member was run on more machines than it serves
            continue
        check_there(group, [runs[name]])
        own = aligned_scores(group, config.seeds, runs[name])
        rows += [RowTable.of(of_seed, ScoreRow) for of_seed in own.test]
        training += [RowTable.of(of_seed, TrainingRow) for of_seed in own.training]
        chosen[group[0]] = name
    return *_tables(rows, training), {"combine": _CHOOSE, "chosen": chosen, "scales": []}


def _ensemble_scores(
    config: EnsembleConfig, runs: Mapping[str, RunScores], report: Callable[[str], None]
) -> _Combined:
    """Combines rows on a common scale; returns them with `ensemble.json`'s part."""
    by_name: dict[str, Threshold] = {}
    rows: list[RowTable[ScoreRow]] = []
    training: list[RowTable[TrainingRow]] = []
    scales: list[dict[str, Any]] = []
    widened: list[str] = []
    for group in groups_of(runs.values()):
        own = checked(group, config.seeds, [*runs.values()])
        setting = [that_count(each.training) for each in own]  # the scale is each member's own
        aligned, found = with_common_rows(own)
        if not found:
            widened.append(
                f"{' '.join(group)}: no clip was held out by all members, so all training clips "
                "set the threshold; networks that learned from some know them too well"
            )
        first = aligned[0]
        if lost_reference(own, aligned):
            widened.append(f"{' '.join(group)}: {NO_P_VALUES}")
        # Mean and deviation of each member and seed: (members, seeds, 1).
        scale = [scale_of(score_array(each)) for each in setting]
        mean, deviation = (np.stack(part)[:, :, None] for part in zip(*scale, strict=True))
        widened += [
            line
            for name, each in zip(runs, setting, strict=True)
            if (line := widened_line(name, group, each))
        ]
        of_test, of_training, of_setting = (  # (seeds, clips) each
            combine_scores(np.stack([*map(score_array, part)]), mean, deviation, config.combine)
            for part in (
                [each.test for each in aligned],
                [each.training for each in aligned],
                [that_count(each.training) for each in aligned],
            )
        )
        quantile = config.threshold_quantile
        thresholds = [gamma_threshold(scores, quantile) for scores in of_setting]
        of_mean = gamma_threshold(of_setting.mean(axis=0), quantile)
        for seed, each in zip(config.seeds, thresholds, strict=True):
            by_name[f"{group[0]} {group[1]} seed {seed}"] = each
        if len(thresholds) > 1:
            by_name[f"{group[0]} {group[1]} mean of the seeds"] = of_mean
        scales.append(
            {
                "machine": group[0],
                "section": group[1],
                "mean": mean[..., 0].tolist(),
                "deviation": deviation[..., 0].tolist(),
                "thresholds": [each.value for each in thresholds],
                "threshold": of_mean.value,
            }
        )
        for s, (threshold, _) in enumerate(thresholds):
            own_training = RowTable.of(first.training[s], TrainingRow)
            training.append(own_training.replace(score=of_training[s]))
            decided = {"threshold": threshold, "decision": (of_test[s] > threshold).astype(int)}
            own_test = RowTable.of(first.test[s], ScoreRow)
            rows.append(own_test.replace(score=of_test[s], **decided))
    for line in [*widened, *fallback_lines(by_name)]:  # when all runs are known to fit together
        report(line)
    how: dict[str, Any] = {"combine": config.combine, "chosen": {}, "scales": scales}
    tests, trainings = _tables(rows, training)
    return with_p_values(tests, trainings), trainings, how


def _tables(
    rows: Sequence[RowTable[ScoreRow]], training: Sequence[RowTable[TrainingRow]]
) -> tuple[RowTable[ScoreRow], RowTable[TrainingRow]]:
    """All rows of the test and of the training clips."""
    return RowTable.concatenate(rows, ScoreRow), RowTable.concatenate(training, TrainingRow)


def ensemble(
    paths: Sequence[os.PathLike | str],
    out_dir: os.PathLike | str,
    *,
    combine: Literal["mean", "max"] = "mean",
    reporter: Reporter | None = None,
) -> RunResult:
    """Combines the scores of finished runs of any systems and settings.

    Args:
        paths: run directories, two or more, on the same data and with the same seeds.
        out_dir: the ensemble's run directory.
        combine: "mean" or "max".
        reporter: shows the path of the results.

    Returns:
        As `asd_jax.run`.

    Raises:
        UserError: the runs cannot be combined, with the reason.
    """
    reporter = reporter or Reporter()
    check("paths", paths, (list, tuple), "a list of run directories")
    for path in paths:
        check_path("a run directory in paths", path)
    check_path("out_dir", out_dir)
    check_choice("combine", combine, ("mean", "max"))
    if len(paths) < 2:
        raise UserError(f"an ensemble needs two runs or more, not {len(paths)}; repeat --run_dir")
    run_dir = RunDirectory(out_dir)
    runs, members, places = {}, {}, set()
    for path in paths:
        _, stored, _ = finished_run(path)
        place = Path(path).resolve()
        if place in places:
            raise UserError(f"{path} is named twice; name each run once")
        places.add(place)
        name = place.name if place.name not in runs else str(place)
        runs[name], members[name] = path, from_dict(stored, config_classes())
    # What trains nothing has the scores of any seed.
    trained = {name: own for name, own in members.items() if not of_any_seed(own)} or members
    first_name, first = next(iter(trained.items()))
    for name, member in trained.items():
        if member.seeds != first.seeds:
            raise UserError(
                f"{first_name} has the seeds {first.seeds} and {name} {member.seeds}; an "
                "ensemble is formed seed by seed, so train both with the same ones"
            )
    config = EnsembleConfig(
        members=members, combine=combine, data=first.data, seeds=first.seeds, name="ensemble"
    )
    data = check_same_data(paths)
    with run_dir.lock():
        run_dir.check(config)
        combine_runs(run_dir, config, runs, data, reporter)
        reporter.line(f"results are in {run_dir.path}")
    return RunResult(run_dir.path, table(out_dir))


def member_runs(
    config: MembersConfig,
    data_dir: DataSource,
    members_dir: Path,
    report: Callable[[str], None],
) -> dict[str, tuple[Path, Config | MembersConfig]]:
    """Run directory and configuration of each needed member, by name."""
    members = config.member_configs()
    if not isinstance(config, ChoiceConfig):
        return {name: (members_dir / name, member) for name, member in members.items()}
    machines = _machines_of(config, data_dir, report)

    def is_done(member: str) -> bool:
        stored = members_dir / member / "config.json"
        return stored.is_file() and not stored_differences(stored, members[member])

    runs = chosen_members(config, machines, is_done)
    return {name: (members_dir / folder, member) for folder, (name, member) in runs.items()}


def chosen_members(
    config: ChoiceConfig, machines: Sequence[str], is_done: Callable[[str], bool]
) -> dict[str, tuple[str, Config | MembersConfig]]:
    """Members that a choice needs, each for the machine types that it serves.

    Args:
        config: the choice.
        machines: machine types of the run.
        is_done: whether a member has a run on all machine types, which is then used.

    Returns:
        Folder of each run → name and configuration of its member.
    """
    runs = {}
    for name, member in config.member_configs().items():
        own = tuple(machine for machine in machines if config.member_for(machine) == name)
        if own and is_done(name):
            runs[name] = name, member
        elif own:
            data = dataclasses.replace(member.data, machines=own)
            runs["-".join([name, *own])] = name, dataclasses.replace(member, data=data)
    return runs


def members_on(
    config: MembersConfig, data_dir: DataSource | None, scan: Scanner | None = None
) -> dict[str, Config | MembersConfig]:
    """Members that a run on a data set needs, by name; all members without a data set.

    Args:
        config: the ensemble or choice.
        data_dir: where the recordings are.
        scan: lists what is there; `layouts.scan` by default.
    """
    if data_dir is None or not isinstance(config, ChoiceConfig):
        return config.member_configs()
    machines = _machines_of(config, data_dir, lambda _: None, scan)
    return dict(chosen_members(config, machines, lambda _: False).values())


@contextlib.contextmanager
def keys_of_member(name: str) -> Iterator[None]:
    """Errors inside name the keys of a member's configuration as those of the ensemble."""
    try:
        yield
    except UserError as error:
        raise UserError(member_keys(str(error), name), error.exit_status) from error


def member_keys(text: str, name: str) -> str:
    """A text with the keys of a member's configuration as those of the ensemble."""
    own = r"--config\.(?=(?:detector|front_end|members)\.)"
    return re.sub(own, lambda _: f"--config.members.{name}.", text)


def _machines_of(
    config: ChoiceConfig,
    data_dir: DataSource,
    report: Callable[[str], None],
    scan: Scanner | None = None,
) -> Sequence[str]:
    """Machine types of a run: those of the settings, else all that have training clips."""
    clips = listed_clips(
        (scan or layouts.scan)(data_dir, config.data.year or None), data_dir, report
    )
    clips = of_subset(config.data.subset, clips, lambda _: None)  # a member's run reports it
    trained = sorted({clip.machine for clip in clips if clip.split == "train"})
    return config.data.machines or trained
