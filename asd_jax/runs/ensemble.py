"""Runs whose scores come from other runs: combined on a common scale, or chosen by machine.

An ensemble's run directory has the result files of every run, and `ensemble.json` in place of a
model: where its members are, the scale of each one's scores, and thresholds.
"""

import dataclasses
import json
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from asd_jax.config import Config, EnsembleConfig, from_dict
from asd_jax.config.types import ChoiceConfig, MembersConfig
from asd_jax.data.layouts import find_clips
from asd_jax.detectors import registry
from asd_jax.errors import UserError
from asd_jax.evaluation.results import (
    ScoreRow,
    TrainingRow,
    read_scores_csv,
    read_training_csv,
    write_training_csv,
)
from asd_jax.fitting.ensemble import FittedChoice, FittedEnsemble
from asd_jax.fitting.fitted import Fitted
from asd_jax.fitting.layout import Group
from asd_jax.runs.clips import of_subset
from asd_jax.runs.directory import RunDirectory, stored_differences
from asd_jax.runs.report import finished_run, table, write_results
from asd_jax.runtime.files import atomic_write
from asd_jax.runtime.progress import Reporter
from asd_jax.scoring.ensemble import combine as combine_scores
from asd_jax.scoring.ensemble import scale_of
from asd_jax.scoring.threshold import gamma_threshold

# The folder of a run directory in which the run directories of its members are.
MEMBERS = "members"
_FORMAT = 1  # of ensemble.json
_CHOOSE = "choose"  # how ensemble.json calls a choice


def combine_runs(
    run_dir: RunDirectory,
    config: MembersConfig,
    runs: Mapping[str, os.PathLike | str],
    data: Mapping[str, Any],
) -> None:
    """Writes the result files of finished runs combined, and what scoring other clips needs.

    Nothing is written before it is known that the runs can be combined.

    Args:
        run_dir: where to write, locked.
        config: how they are combined: an ensemble or a choice.
        runs: run directories of its members by their names; of those that are needed.
        data: description of their data, by `check_same_data`.

    Raises:
        UserError: runs that did not score the same clips by the same seeds, or that are damaged.
    """
    combine = _chosen_scores if isinstance(config, ChoiceConfig) else _ensemble_scores
    rows, training, meta = combine(config, {name: _Scores.read(p) for name, p in runs.items()})
    meta = {
        "format": _FORMAT,
        "members": [*runs],
        "paths": [os.path.relpath(path, run_dir.path) for path in runs.values()],
        "seeds": list(config.seeds),
        **meta,
    }
    run_dir.claim(config, data)
    write_training_csv(run_dir.training_csv, training)
    with atomic_write(run_dir.ensemble) as file:
        json.dump(meta, file, indent=2)
        file.write("\n")
    run_dir.write_environment()
    write_results(run_dir, rows, data)


def load_members(
    path: os.PathLike | str, load_run: Callable[[Path], Fitted]
) -> FittedEnsemble | FittedChoice:
    """Reads an `ensemble.json`, and the members' run directories by `load_run`.

    Raises:
        UserError: it is damaged, or a member is not where it was.
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
    if meta["combine"] == _CHOOSE:
        return FittedChoice(members, meta["seeds"], meta["chosen"])
    return FittedEnsemble(members, meta["seeds"], meta["combine"], meta["scales"])


class _Scores(NamedTuple):
    """The scores that a finished run has in its files: by group, then by seed."""

    path: os.PathLike | str
    test: dict[Group, dict[int, list[ScoreRow]]]
    training: dict[Group, dict[int, list[TrainingRow]]]

    @classmethod
    def read(cls, path: os.PathLike | str) -> "_Scores":
        run_dir = RunDirectory(path)
        test, training = (
            read_scores_csv(run_dir.scores_csv),
            read_training_csv(run_dir.training_csv),
        )
        return cls(path, _by_group(test), _by_group(training))


def _groups_of(runs: Iterable[_Scores]) -> list[Group]:
    return sorted({group for run in runs for part in (run.test, run.training) for group in part})


def _chosen_scores(config: ChoiceConfig, runs: Mapping[str, _Scores]):
    """Rows of the test and of the training clips, and what `ensemble.json` says of a choice."""
    rows: list[ScoreRow] = []
    training: list[TrainingRow] = []
    chosen = {}
    for group in _groups_of(runs.values()):
        name = config.member_for(group[0])
        if name not in runs:  # another member was run on more machines than it serves
            continue
        _check_there(group, [runs[name]])
        own = _aligned(group, config.seeds, runs[name])
        rows += [row for seed_rows in own.test for row in seed_rows]
        training += [row for seed_rows in own.training for row in seed_rows]
        chosen[group[0]] = name
    return rows, training, {"combine": _CHOOSE, "chosen": chosen, "scales": []}


def _ensemble_scores(config: EnsembleConfig, runs: Mapping[str, _Scores]):
    """Rows of the test and of the training clips, and what `ensemble.json` says of an ensemble."""
    rows: list[ScoreRow] = []
    training: list[TrainingRow] = []
    scales: list[dict[str, Any]] = []
    for group in _groups_of(runs.values()):
        aligned = _checked(group, config.seeds, [*runs.values()])
        first = aligned[0]
        scale = [scale_of(_scores(each.training)) for each in aligned]
        mean, deviation = (np.stack(part)[:, :, None] for part in zip(*scale, strict=True))
        of_test, of_training = (  # (seeds, clips) each
            combine_scores(np.stack(part), mean, deviation, config.combine)
            for part in (
                [_scores(each.test) for each in aligned],
                [_scores(each.training) for each in aligned],
            )
        )
        quantile = config.threshold_quantile
        thresholds = [gamma_threshold(scores, quantile).value for scores in of_training]
        scales.append(
            {
                "machine": group[0],
                "section": group[1],
                "mean": mean[..., 0].tolist(),
                "deviation": deviation[..., 0].tolist(),
                "thresholds": thresholds,
                "threshold": gamma_threshold(of_training.mean(axis=0), quantile).value,
            }
        )
        for s, threshold in enumerate(thresholds):
            training += [
                row._replace(score=score)
                for row, score in zip(first.training[s], of_training[s], strict=True)
            ]
            rows += [
                row._replace(score=score, threshold=threshold, decision=int(score > threshold))
                for row, score in zip(first.test[s], of_test[s], strict=True)
            ]
    return rows, training, {"combine": config.combine, "chosen": {}, "scales": scales}


def _checked(group: Group, seeds: Sequence[int], runs: Sequence[_Scores]) -> list["_Aligned"]:
    """The rows of each run; UserError unless all scored the same clips by the same seeds."""
    _check_there(group, runs)
    aligned = [_aligned(group, seeds, run) for run in runs]
    for run, own in zip(runs, aligned, strict=True):
        _check_scored(own, run.path, group)
        _check_alike(aligned[0], own, runs[0].path, run.path, group)
    return aligned


def check_same_data(paths: Iterable[os.PathLike | str]) -> dict[str, Any]:
    """The data description common to finished runs, which must be of one year.

    Raises:
        UserError: a run is not finished, or their years differ.
    """
    paths = list(paths)
    descriptions = [finished_run(path)[2] for path in paths]
    year = descriptions[0]["year"]
    for path, data in zip(paths, descriptions, strict=True):
        if data["year"] != year:
            raise UserError(
                f"{paths[0]} is of {year} and {path} of {data['year']}; combine runs on the same "
                "data"
            )
    clips = sorted(data["fingerprint"] for data in descriptions)
    return {
        "year": year,
        "synthetic": any(data["synthetic"] for data in descriptions),
        "n_clips": max(data["n_clips"] for data in descriptions),
        "fingerprint": "+".join(dict.fromkeys(clips)),
    }


class _Aligned(NamedTuple):
    """A run's rows of one machine and section: a list a seed, in the order of the clips."""

    test: list[list[ScoreRow]]
    training: list[list[TrainingRow]]


def _aligned(group: Group, seeds: Sequence[int], run: _Scores) -> _Aligned:
    """The rows of a run, in the order of the seeds, which is that of its models.

    Raises:
        UserError: the run has scores of other seeds.
    """
    parts = [part.get(group, {}) for part in (run.test, run.training)]
    for of_seeds in parts:
        if of_seeds and set(of_seeds) != set(seeds):
            raise UserError(
                f"{group[0]}, section {group[1]}: {run.path} has scores of the seeds "
                f"{_listed(sorted(of_seeds))}, not {_listed(seeds)}; an ensemble is formed seed by "
                "seed, so train all with the same ones"
            )
    return _Aligned(
        *(
            [sorted(of_seeds.get(seed, []), key=lambda row: row.clip) for seed in seeds]
            for of_seeds in parts
        )
    )


def _by_group(rows) -> dict[Group, dict[int, list]]:
    groups: dict[Group, dict[int, list]] = {}
    for row in rows:
        groups.setdefault((row.machine, row.section), {}).setdefault(row.seed, []).append(row)
    return groups


def _listed(values: Sequence[Any]) -> str:
    return ", ".join(map(str, values))


def _scores(rows: Sequence[Sequence[Any]]) -> np.ndarray:
    """(seeds, clips)."""
    return np.array([[row.score for row in of_seed] for of_seed in rows], np.float64)


def _check_there(group: Group, runs: Sequence[_Scores]) -> None:
    """Raises UserError unless all runs have scores of the machine and section, or none has."""
    for part in ("test", "training"):
        has = [group in getattr(run, part) for run in runs]
        if any(has) and not all(has):
            raise UserError(
                f"{runs[has.index(False)].path} has no scores of {group[0]}, section {group[1]}, "
                "which another run has; combine runs on the same data"
            )


def _check_scored(run: _Aligned, path, group: Group) -> None:
    """Raises UserError unless there are scores of training clips."""
    if not run.training[0]:
        raise UserError(
            f"{group[0]}, section {group[1]}: {path} has no scores of training clips, by which "
            "scores are brought to one scale; leave that section out of the data"
        )


def _check_alike(one: _Aligned, other: _Aligned, here, there, group: Group) -> None:
    """Raises UserError unless all seeds of both scored the same clips, of the same labels."""

    def clips(rows):
        return [(row.clip, row.domain, getattr(row, "label", None)) for row in rows]

    for part in one._fields:
        first = clips(getattr(one, part)[0])
        for rows in (*getattr(one, part), *getattr(other, part)):
            if clips(rows) != first:
                raise UserError(
                    f"{group[0]}, section {group[1]}: {here} and {there} did not score the same "
                    f"{part} clips ({len(first)} and {len(rows)}, or others, or with other "
                    "labels); combine runs on the same data"
                )


def ensemble(
    paths: Sequence[os.PathLike | str],
    out_dir: os.PathLike | str,
    *,
    combine: str = "mean",
    reporter: Reporter | None = None,
) -> str:
    """Combines the scores of finished runs, of whatever systems and settings.

    Args:
        paths: run directories, two or more, on the same data and with the same seeds.
        out_dir: the ensemble's run directory.
        combine: "mean" or "max".
        reporter: tells people where the results are.

    Returns:
        The table of results.

    Raises:
        UserError: the runs cannot be combined; why.
    """
    reporter = reporter or Reporter()
    if len(paths) < 2:
        raise UserError(f"an ensemble needs two runs or more, not {len(paths)}; repeat --run_dir")
    run_dir = RunDirectory(out_dir)
    kinds = {name: kind.Config for name, kind in registry().items()}
    runs, members, places = {}, {}, set()
    for path in paths:
        _, stored, _ = finished_run(path)
        place = Path(path).resolve()
        if place in places:
            raise UserError(f"{path} is named twice; name each run once")
        places.add(place)
        name = place.name if place.name not in runs else str(place)
        runs[name], members[name] = path, from_dict(stored, kinds)
    first = next(iter(members.values()))
    for name, member in members.items():
        if member.seeds != first.seeds:
            raise UserError(
                f"{next(iter(runs))} has the seeds {first.seeds} and {name} {member.seeds}; an "
                "ensemble is formed seed by seed, so train both with the same ones"
            )
    config = EnsembleConfig(
        members=members, combine=combine, data=first.data, seeds=first.seeds, name="ensemble"
    )
    data = check_same_data(paths)
    with run_dir.lock():
        run_dir.check(config)
        combine_runs(run_dir, config, runs, data)
        reporter.line(f"results are in {run_dir.path}")
    return table(out_dir)


def member_runs(
    config: MembersConfig,
    data_dir: os.PathLike | str,
    members_dir: Path,
    report: Callable[[str], None],
) -> dict[str, tuple[Path, Config | MembersConfig]]:
    """Run directory and configuration of each member that is needed, by its name."""
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
    """The members that a choice needs, each on the machine types that it serves alone.

    Args:
        config: the choice.
        machines: machine types of the run.
        is_done: whether there is a run of a member on all machine types, which then serves.

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
    config: MembersConfig, data_dir: os.PathLike | str | None
) -> dict[str, Config | MembersConfig]:
    """The members that a run on a data set needs, by name; all of them without a data set."""
    if data_dir is None or not isinstance(config, ChoiceConfig):
        return config.member_configs()
    machines = _machines_of(config, data_dir, lambda _: None)
    return dict(chosen_members(config, machines, lambda _: False).values())


def _machines_of(
    config: ChoiceConfig, data_dir: os.PathLike | str, report: Callable[[str], None]
) -> Sequence[str]:
    """Machine types of a run: those of the settings, else all that have training clips."""
    clips = find_clips(data_dir, config.data.year or None, report)
    clips = of_subset(config.data.subset, clips, lambda _: None)  # a member's run reports it
    trained = sorted({clip.machine for clip in clips if clip.split == "train"})
    return config.data.machines or trained
