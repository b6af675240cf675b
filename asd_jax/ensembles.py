"""Runs whose scores come from other runs: combined on a common scale, or chosen by machine.

An ensemble's run directory has the result files of every run, and `ensemble.json` in place of a
model: where its members are, the scale of each one's scores, and thresholds.
"""

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from asd_jax.config import EnsembleConfig, nearest
from asd_jax.errors import UserError
from asd_jax.files import atomic_write
from asd_jax.fitted import FittedDetector
from asd_jax.reporting import finished_run, write_results
from asd_jax.results import (
    ScoreRow,
    TrainingRow,
    read_scores_csv,
    read_training_csv,
    write_training_csv,
)
from asd_jax.run_dir import RunDirectory
from asd_jax.scoring import ensemble
from asd_jax.scoring.threshold import gamma_threshold

Group = tuple[str, str]  # machine and section
_FORMAT = 1


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
        scale = [ensemble.scale_of(_scores(each.training)) for each in found]
        mean, deviation = (np.stack(part)[:, :, None] for part in zip(*scale, strict=True))
        combined, of_training = (
            ensemble.combine(np.stack(part), mean, deviation, config.combine)
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
        "format": _FORMAT,
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


def _listed(values: Sequence[Any]) -> str:
    return ", ".join(map(str, values))


class FittedEnsemble:
    """A finished ensemble, ready to score other recordings.

    Args:
        members: the fitted systems by their names.
        meta: what `combine_runs` wrote.

    Attributes:
        members: as given.
        machines: machine types it can score.
    """

    def __init__(
        self, members: Mapping[str, "FittedDetector | FittedEnsemble"], meta: Mapping[str, Any]
    ):
        self.members = dict(members)
        self._meta = meta
        self._scales = {(s["machine"], s["section"]): s for s in meta["scales"]}
        if meta["combine"] == "choose":
            self.machines = tuple(meta["chosen"])
        else:
            self.machines = tuple(dict.fromkeys(machine for machine, _ in self._scales))

    @classmethod
    def load(cls, path: os.PathLike | str, load_run) -> "FittedEnsemble":
        """Reads `ensemble.json` of a run directory, and its members by `load_run(path)`.

        Raises:
            UserError: it is damaged, or a member is not where it was.
        """
        run_dir = RunDirectory(path)
        try:
            meta = json.loads(run_dir.ensemble.read_text(encoding="utf-8"))
            members = dict(zip(meta["members"], meta["paths"], strict=True))
            if meta["format"] != _FORMAT or not {"combine", "chosen", "scales"} <= meta.keys():
                raise ValueError("it is of another version")
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UserError(
                f"{run_dir.ensemble} is damaged ({error}); remove it, and the command that made "
                "the run makes it again"
            ) from error
        return cls(
            {
                name: load_run(Path(os.path.normpath(run_dir.path / p)))
                for name, p in members.items()
            },
            meta,
        )

    def resolve(self, machine: str | None, section: str | int | None) -> Group:
        """Machine and section of recordings by their names, as in `FittedDetector.score`.

        Raises:
            UserError: they are not told, or not served.
        """
        if machine is None and len(self.machines) == 1:
            machine = self.machines[0]
        if machine not in self.machines:
            said = "is not told" if machine is None else f"{machine!r} was not fitted"
            raise UserError(
                f"the machine of the recordings {said} (machine=, --machine=)"
                f"{nearest(machine or '', self.machines)}; there are "
                f"{_listed(self.machines)}"
            )
        if self._meta["combine"] == "choose":
            return self.members[self.serving(machine)[0]].resolve(machine, section)
        sections = [s for m, s in self._scales if m == machine]
        if section is None and len(sections) == 1:
            section = sections[0]
        if section is None or str(section) not in sections:
            said = "is not told" if section is None else f"{section} was not fitted"
            raise UserError(
                f"{machine}: the section of the recordings {said} (section=, --section=); there "
                f"are {_listed(sections)}"
            )
        return machine, str(section)

    def serving(self, machine: str) -> list[str]:
        """Names of the members that score a machine type's recordings."""
        if self._meta["combine"] == "choose":
            return [self._meta["chosen"][machine]]
        return [*self.members]

    def combined(self, scores: Sequence[np.ndarray], group: Group) -> np.ndarray:
        """(seeds, clips) from the same of each member that serves the group, in their order."""
        if self._meta["combine"] == "choose":
            return np.asarray(scores[0])
        scale = self._scales[group]
        mean, deviation = (np.array(scale[name])[..., None] for name in ("mean", "deviation"))
        return ensemble.combine(np.stack(scores), mean, deviation, self._meta["combine"])

    def seed_scores_of(
        self, waveforms: np.ndarray, sample_rate: int, machine: str | None, section: str | None
    ) -> np.ndarray:
        """(seeds, clips) scores of each seed; arguments as in `score`."""
        group = self.resolve(machine, section)
        served = [self.members[name] for name in self.serving(group[0])]
        scores = [
            member.seed_scores_of(waveforms, sample_rate, group[0], group[1] or None)
            for member in served
        ]
        return self.combined(scores, group)

    def score(
        self,
        waveforms: np.ndarray,
        sample_rate: int,
        *,
        machine: str | None = None,
        section: str | int | None = None,
        seed: int | None = None,
    ) -> np.ndarray:
        """Scores recordings; arguments and result as in `FittedDetector.score`."""
        scores = self.seed_scores_of(waveforms, sample_rate, machine, section)
        return scores.mean(axis=0) if seed is None else scores[self._seed(seed)]

    def threshold(
        self,
        *,
        machine: str | None = None,
        section: str | int | None = None,
        seed: int | None = None,
    ) -> float:
        """The score above which a clip is decided to be anomalous; arguments as in `score`."""
        group = self.resolve(machine, section)
        if self._meta["combine"] == "choose":
            member = self.members[self.serving(group[0])[0]]
            return member.threshold(machine=group[0], section=group[1] or None, seed=seed)
        scale = self._scales[group]
        return scale["threshold"] if seed is None else scale["thresholds"][self._seed(seed)]

    def _seed(self, seed: int) -> int:
        if seed not in self._meta["seeds"]:
            raise UserError(f"seed {seed} was not fitted; there are {_listed(self._meta['seeds'])}")
        return self._meta["seeds"].index(seed)
