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
from asd_jax.fitting.ensemble import FORMAT, Group, listed
from asd_jax.runs.clips import of_subset
from asd_jax.runs.directory import RunDirectory, stored_differences
from asd_jax.runs.report import finished_run, table, write_results
from asd_jax.runtime.files import atomic_write
from asd_jax.runtime.progress import Reporter
from asd_jax.scoring.ensemble import combine as combine_scores
from asd_jax.scoring.ensemble import scale_of
from asd_jax.scoring.threshold import gamma_threshold


def combine_runs(
    run_dir: RunDirectory,
    config: EnsembleConfig,
    runs: Mapping[str, os.PathLike | str],
    data: Mapping[str, Any],
) -> None:
    """Writes the result files of an ensemble of finished runs, and what scoring others needs.

    Nothing is written before it is known that the runs can be combined.

    Args:
        run_dir: the ensemble's, locked.
        config: how they are combined.
        runs: run directories of its members by their names; of those that are needed.
        data: what `check_same_data` told of them.

    Raises:
        UserError: runs that did not score the same clips by the same seeds, or that are damaged.
    """
    names, paths = [*runs], [*runs.values()]
    tests = [_by_group(read_scores_csv(RunDirectory(path).scores_csv)) for path in paths]
    trainings = [_by_group(read_training_csv(RunDirectory(path).training_csv)) for path in paths]
    rows: list[ScoreRow] = []
    training: list[TrainingRow] = []
    scales: list[dict[str, Any]] = []
    chosen = {}
    for group in sorted({group for of_run in [*tests, *trainings] for group in of_run}):
        served = range(len(paths))
        if config.combine == "choose":
            name = config.member_for(group[0])
            if name not in names:  # another member was run on more machines than it serves
                continue
            served = [names.index(name)]
            chosen[group[0]] = name
        for of_runs in (tests, trainings):
            _check_there(group, [paths[i] for i in served], [of_runs[i] for i in served])
        found = [_aligned(group, config.seeds, paths[i], tests[i], trainings[i]) for i in served]
        first = found[0]
        if config.combine == "choose":
            rows += [row for seed_rows in first.test for row in seed_rows]
            training += [row for seed_rows in first.training for row in seed_rows]
            continue
        for i, other in zip(served, found, strict=True):
            _check_scored(other, paths[i], group)
            _check_alike(first, other, paths[served[0]], paths[i], group)
        scale = [scale_of(_scores(each.training)) for each in found]
        mean, deviation = (np.stack(part)[:, :, None] for part in zip(*scale, strict=True))
        combined, of_training = (
            combine_scores(np.stack(part), mean, deviation, config.combine)
            for part in (
                [_scores(each.test) for each in found],
                [_scores(each.training) for each in found],
            )
        )
        thresholds = [
            gamma_threshold(scores, config.threshold_quantile).value for scores in of_training
        ]
        of_mean = gamma_threshold(of_training.mean(axis=0), config.threshold_quantile).value
        scales.append(
            {
                "machine": group[0],
                "section": group[1],
                "mean": mean[..., 0].tolist(),
                "deviation": deviation[..., 0].tolist(),
                "thresholds": thresholds,
                "threshold": of_mean,
            }
        )
        for s, threshold in enumerate(thresholds):
            training += [
                row._replace(score=score)
                for row, score in zip(first.training[s], of_training[s], strict=True)
            ]
            rows += [
                row._replace(score=score, threshold=threshold, decision=int(score > threshold))
                for row, score in zip(first.test[s], combined[s], strict=True)
            ]
    meta = {
        "format": FORMAT,
        "combine": config.combine,
        "members": names,
        "paths": [os.path.relpath(path, run_dir.path) for path in paths],
        "chosen": chosen,
        "seeds": list(config.seeds),
        "scales": scales,
    }
    run_dir.claim(config, data)
    write_training_csv(run_dir.training_csv, training)
    with atomic_write(run_dir.ensemble) as file:
        json.dump(meta, file, indent=2)
        file.write("\n")
    run_dir.write_environment()
    write_results(run_dir, rows, data)


def check_same_data(paths: Iterable[os.PathLike | str]) -> dict[str, Any]:
    """What finished runs know of their recordings, which must be of one year.

    Raises:
        UserError: a run is not finished, or their years differ.
    """
    paths = list(paths)
    found = [finished_run(path)[2] for path in paths]
    for path, data in zip(paths, found, strict=True):
        if data["year"] != found[0]["year"]:
            raise UserError(
                f"{paths[0]} is of {found[0]['year']} and {path} of {data['year']}; combine runs "
                "on the same data"
            )
    clips = sorted(data["fingerprint"] for data in found)
    return {
        "year": found[0]["year"],
        "synthetic": any(data["synthetic"] for data in found),
        "n_clips": max(data["n_clips"] for data in found),
        "fingerprint": "+".join(dict.fromkeys(clips)),
    }


class _Aligned(NamedTuple):
    """A run's rows of one machine and section: a list a seed, in the order of the clips."""

    test: list[list[ScoreRow]]
    training: list[list[TrainingRow]]


def _aligned(group: Group, seeds: Sequence[int], path, tests, trainings) -> _Aligned:
    """The rows of a run, in the order of the seeds, which is that of its models.

    Raises:
        UserError: the run has scores of other seeds.
    """
    parts = [of_run.get(group, {}) for of_run in (tests, trainings)]
    for of_seeds in parts:
        if of_seeds and set(of_seeds) != set(seeds):
            raise UserError(
                f"{group[0]}, section {group[1]}: {path} has scores of the seeds "
                f"{listed(sorted(of_seeds))}, not {listed(seeds)}; an ensemble is formed seed by "
                "seed, so train all with the same ones"
            )
    return _Aligned(
        *(
            [sorted(of_seeds.get(seed, []), key=lambda row: row.clip) for seed in seeds]
            for of_seeds in parts
        )
    )


def _by_group(rows) -> dict[Group, dict[int, list]]:
    found: dict[Group, dict[int, list]] = {}
    for row in rows:
        found.setdefault((row.machine, row.section), {}).setdefault(row.seed, []).append(row)
    return found


def _scores(rows: Sequence[Sequence[Any]]) -> np.ndarray:
    """(seeds, clips)."""
    return np.array([[row.score for row in of_seed] for of_seed in rows], np.float64)


def _check_there(group: Group, paths, of_runs) -> None:
    """Raises UserError unless all runs have scores of the machine and section, or none has."""
    if not any(group in of_run for of_run in of_runs):
        return
    for path, of_run in zip(paths, of_runs, strict=True):
        if group not in of_run:
            raise UserError(
                f"{path} has no scores of {group[0]}, section {group[1]}, which another run has; "
                "combine runs on the same data"
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


# The folder of an ensemble's run directory in which its members' run directories are.
MEMBERS = "members"


def member_runs(
    config: EnsembleConfig,
    data_dir: os.PathLike | str,
    members_dir: Path,
    report: Callable[[str], None],
) -> dict[str, tuple[Path, Config]]:
    """Run directory and configuration of each member that is needed, by its name.

    A member that is chosen for some machine types is run on these alone, unless there is a run
    of it on all.
    """
    members = config.member_configs()
    if config.combine != "choose":
        return {name: (members_dir / name, member) for name, member in members.items()}
    wanted = {}
    for name, part in chosen_members(config, data_dir, report).items():
        whole = members_dir / name
        if (whole / "config.json").is_file() and not stored_differences(
            whole / "config.json", members[name]
        ):
            wanted[name] = whole, members[name]
        else:
            wanted[name] = members_dir / "-".join([name, *part.data.machines]), part
    return wanted


def chosen_members(
    config: EnsembleConfig, data_dir: os.PathLike | str, report: Callable[[str], None]
) -> dict[str, Config]:
    """The members that are chosen for some machine types, each of these alone, by name."""
    clips = find_clips(data_dir, config.data.year or None, report)
    clips = of_subset(config.data.subset, clips, lambda _: None)  # a member's run says it
    there = sorted({clip.machine for clip in clips if clip.split == "train"})
    found = {}
    for name, member in config.member_configs().items():
        own = [m for m in config.data.machines or there if config.member_for(m) == name]
        if own:
            data = dataclasses.replace(member.data, machines=tuple(own))
            found[name] = dataclasses.replace(member, data=data)
    return found
