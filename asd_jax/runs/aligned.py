"""Aligns scores of several finished runs clip by clip, and checks that the clips are the same."""

import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

import numpy as np

from asd_jax.config import ChoiceConfig, Config, MembersConfig, from_dict
from asd_jax.detectors import config_classes
from asd_jax.errors import UserError
from asd_jax.evaluation.results import (
    ScoreRow,
    TrainingRow,
    read_scores_csv,
    read_training_csv,
)
from asd_jax.evaluation.row_table import RowTable
from asd_jax.evaluation.verdicts import unscored
from asd_jax.fitting.layout import Group
from asd_jax.runs.directory import RunDirectory, read_config
from asd_jax.runs.report import finished_run
from asd_jax.scoring.ensemble import widening

# Members' scores are brought to one scale by the clips that give p-values, so that with few of them
# p-values are too small: by nine clips, 12 % of the normal clips have one of 10 % or less.
_FEWEST_OF_ENSEMBLE = 30
NO_P_VALUES = (
    f"no p-values: fewer than {_FEWEST_OF_ENSEMBLE} clips are unknown to all members and of the "
    "same group in all"
)
# Beyond the usual distributions of scores; a log-normal one of deviation 1 has 2.
_WIDENED = 5.0

_Row = TypeVar("_Row", ScoreRow, TrainingRow)


class RunScores(NamedTuple):
    """Scores from the files of a finished run: by group, then by seed.

    Attributes:
        path: the run directory.
        test: rows of the test clips.
        training: rows of the training clips.
        any_seed: whether its system draws nothing, so that its scores are those of any seed.
    """

    path: os.PathLike | str
    test: dict[Group, dict[int, RowTable[ScoreRow]]]
    training: dict[Group, dict[int, RowTable[TrainingRow]]]
    any_seed: bool = False

    @classmethod
    def read(cls, path: os.PathLike | str) -> "RunScores":
        """Reads the scores of a run directory; UserError where they are damaged."""
        run_dir = RunDirectory(path)
        test, training = (
            read_scores_csv(run_dir.scores_csv),
            read_training_csv(run_dir.training_csv),
        )
        config = from_dict(read_config(run_dir.config), config_classes())
        return cls(path, _by_group(test), _by_group(training), of_any_seed(config))


class AlignedScores(NamedTuple):
    """A run's rows of one machine and section: a list a seed, in the order of the clips."""

    test: list[list[ScoreRow]]
    training: list[list[TrainingRow]]


def of_any_seed(config: Config | MembersConfig) -> bool:
    """Whether a run has one seed that stands for all, as its system draws nothing."""
    return isinstance(config, Config) and not config.detector.trains


def groups_of(runs: Iterable[RunScores]) -> list[Group]:
    """Machines and sections that any of the runs scored, ascending."""
    return sorted({group for run in runs for part in (run.test, run.training) for group in part})


def checked(group: Group, seeds: Sequence[int], runs: Sequence[RunScores]) -> list["AlignedScores"]:
    """Aligned rows of each run; UserError unless all scored the same clips by the same seeds."""
    check_there(group, runs)
    aligned = [aligned_scores(group, seeds, run) for run in runs]
    for run, own in zip(runs, aligned, strict=True):
        _check_scored(own, run.path, group)
        _check_alike(aligned[0], own, runs[0].path, run.path, group)
    return aligned


def with_common_rows(
    aligned: Sequence[AlignedScores],
) -> tuple[list[AlignedScores], bool]:
    """The rows of all runs, of which those set thresholds that do so in each run.

    They are unseen where no run's models were fitted to them and all runs know the same group of
    them, as a run that knows none may have learned from the rest of it; and of sections, as scales
    are.

    Returns:
        The runs, and whether there are such rows; without, all training rows set thresholds.
    """
    kept, unseen = (  # (clips,) each
        np.min([[getattr(row, name) for row in run.training[0]] for run in aligned], axis=0)
        for name in ("sets_threshold", "unseen")
    )
    found = bool(kept.any())
    counts = kept if found else np.ones_like(kept)
    of_runs = [*zip(*([row.group for row in run.training[0]] for run in aligned), strict=True)]
    groups = [names[0] for names in of_runs]
    unseen = unseen * np.array([len(set(names)) == 1 for names in of_runs], int)
    if np.sum(unseen * counts) < _FEWEST_OF_ENSEMBLE:
        unseen = np.zeros_like(unseen)
    facts = [*zip(counts.tolist(), unseen.tolist(), groups, strict=True)]
    flagged = [
        [
            [
                row._replace(sets_threshold=own, unseen=new, group=group, by_section=1)
                for row, (own, new, group) in zip(rows, facts, strict=True)
            ]
            for rows in run.training
        ]
        for run in aligned
    ]
    return [run._replace(training=rows) for run, rows in zip(aligned, flagged, strict=True)], found


def lost_reference(own: Sequence[AlignedScores], common: Sequence[AlignedScores]) -> bool:
    """Whether all members have clips that give p-values, and the ensemble has none."""
    known = [any(row.unseen for row in run.training[0]) for run in own]
    return all(known) and not any(row.unseen for row in common[0].training[0])


def widened_line(name: str, group: Group, training: Sequence[Sequence[TrainingRow]]) -> str:
    """A line where few training clips make a member's scale wide; "" for none.

    Args:
        name: the member's.
        group: machine and section.
        training: (seeds, clips).
    """
    scores = score_array(training)  # (seeds, clips)
    ratios = widening(scores)
    if not np.any(ratios > _WIDENED):
        return ""
    worst = int(np.nanargmax(ratios))
    own = scores[worst]
    clip = training[worst][int(np.argmax(np.abs(own - np.median(own))))]
    low, high = np.quantile(own, (0.25, 0.75))
    return (
        f"member {name}, {' '.join(filter(None, group))}: outlying training clips make the scale "
        f"of its scores {ratios[worst]:.3g} times as wide, so it counts for that much less; first "
        f"{clip.clip}: score {clip.score:.6g}, where half of all are from {low:.6g} to {high:.6g}; "
        "look at the recording, and remove it if the machine was not running as usual"
    )


def that_count(rows: Sequence[Sequence[TrainingRow]]) -> list[list[TrainingRow]]:
    """The rows of each seed that set thresholds."""
    return [[row for row in of_seed if row.sets_threshold] for of_seed in rows]


def aligned_scores(group: Group, seeds: Sequence[int], run: RunScores) -> AlignedScores:
    """Rows of a run's group, in the order of the seeds.

    Raises:
        UserError: the run has scores of other seeds.
    """
    parts: list[dict[int, Any]] = [run.test.get(group, {}), run.training.get(group, {})]
    if run.any_seed:
        parts = [_of_seeds(of_seeds, seeds) for of_seeds in parts]
    for of_seeds in parts:
        if of_seeds and set(of_seeds) != set(seeds):
            raise UserError(
                f"{group[0]}, section {group[1]}: {run.path} has scores of the seeds "
                f"{_listed(sorted(of_seeds))}, not {_listed(seeds)}; an ensemble is formed seed by "
                "seed, so train all with the same ones"
            )
    test, training = (
        [sorted(of_seeds.get(seed, []), key=lambda row: row.clip) for seed in seeds]
        for of_seeds in parts
    )
    return AlignedScores(test, training)


def _of_seeds(only: dict[int, Any], seeds: Sequence[int]) -> dict[int, list[Any]]:
    """The rows of the only seed as those of each seed."""
    rows = [row for own in only.values() for row in own]
    return {seed: [row._replace(seed=seed) for row in rows] for seed in seeds if rows}


def _by_group(table: RowTable[_Row]) -> dict[Group, dict[int, RowTable[_Row]]]:
    groups: dict[Group, dict[int, RowTable[_Row]]] = {}
    for (machine, section, seed), own in table.groups("machine", "section", "seed").items():
        groups.setdefault((machine, section), {})[seed] = table[own]
    return groups


def _listed(values: Sequence[Any]) -> str:
    return ", ".join(map(str, values))


def score_array(rows: Sequence[Sequence[Any]]) -> np.ndarray:
    """(seeds, clips) scores of the rows."""
    return np.array([[row.score for row in of_seed] for of_seed in rows], np.float64)


def check_there(group: Group, runs: Sequence[RunScores]) -> None:
    """Raises UserError unless all runs have scores of the machine and section, or none has."""
    for part in ("test", "training"):
        has = [group in getattr(run, part) for run in runs]
        if any(has) and not all(has):
            raise UserError(
                f"{runs[has.index(False)].path} has no scores of {group[0]}, section {group[1]}, "
                "which another run has; combine runs on the same data"
            )


def _check_scored(run: AlignedScores, path: os.PathLike | str, group: Group) -> None:
    """Raises UserError unless there are scores of training clips."""
    if not run.training[0]:
        raise UserError(
            f"{group[0]}, section {group[1]}: {path} has no scores of training clips, by which "
            "scores are brought to one scale; leave that section out of the data"
        )


def _check_alike(
    one: AlignedScores,
    other: AlignedScores,
    here: os.PathLike | str,
    there: os.PathLike | str,
    group: Group,
) -> None:
    """Raises UserError unless all seeds of both runs scored the same clips with equal labels."""

    def clips(rows: Sequence[Any]) -> list[tuple[str, str, int | None]]:
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


def check_same_data(paths: Iterable[os.PathLike | str]) -> dict[str, Any]:
    """Data description common to finished runs, which must share a challenge year.

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
    # Runs of before know their clips by the fingerprint alone.
    known = all("training" in data for data in descriptions)
    digests = ("fingerprint", "training", "test") if known else ("fingerprint",)
    return {
        "year": year,
        "synthetic": any(data["synthetic"] for data in descriptions),
        "n_clips": max(data["n_clips"] for data in descriptions),
        "clip_seconds": max(data.get("clip_seconds", 0.0) for data in descriptions),
        **{key: "+".join(sorted({data[key] for data in descriptions})) for key in digests},
    }


def unscored_rows(
    config: MembersConfig, runs: Mapping[str, os.PathLike | str]
) -> RowTable[ScoreRow]:
    """Rows of the clips that members do not score, each once a seed."""
    found: dict[tuple[str, str, str], ScoreRow] = {}
    for name, path in runs.items():
        for row in unscored(read_scores_csv(RunDirectory(path).scores_csv, every=True)):
            if isinstance(config, ChoiceConfig) and config.member_for(row.machine) != name:
                continue
            found.setdefault((row.machine, row.section, row.clip), row)
    rows = [row._replace(seed=seed) for row in found.values() for seed in config.seeds]
    return RowTable.of(rows, ScoreRow)
