"""Finished runs as candidates of a choice: what each learned from, and that it is the same."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from asd_jax.errors import UserError
from asd_jax.evaluation.results import TrainingRow, read_training_csv
from asd_jax.fitting.detector import FittedDetector
from asd_jax.fitting.fitted import Fitted
from asd_jax.fitting.folds import leaves
from asd_jax.fitting.layout import Group
from asd_jax.runs.directory import RunDirectory
from asd_jax.runs.ensemble import load_members
from asd_jax.runs.places import read_places
from asd_jax.runs.report import finished_run, named

Rows = Mapping[Group, Sequence[TrainingRow]]
Places = Mapping[tuple[str, str, str], str]


class Candidate(NamedTuple):
    """A finished run.

    Attributes:
        name: as tables show it.
        fitted: its fitted system.
        rows: its training clips by machine and section, those held out included.
        members: likewise those of each fitted detector that it is made of, by its identity.
        places: paths of its training recordings, by machine, section and name.
        digest: of their names and contents; "" of a run of before.
    """

    name: str
    fitted: Fitted
    rows: Rows
    members: Mapping[int, Rows]
    places: Places
    digest: str

    @property
    def leaves(self) -> list[FittedDetector]:
        """The fitted detectors that it is made of."""
        return [leaf for group in self.rows for leaf in leaves(self.fitted, group)]

    def learned(self, group: Group) -> set[str]:
        """Names of the clips that networks of it learned from, and cannot forget."""
        names: set[str] = set()
        for leaf in leaves(self.fitted, group):
            if leaf.config.detector.trains:
                own = self.members[id(leaf)].get(group, ())
                names |= {row.clip for row in own} - _held_out(own)
        return names


def load_candidates(paths: Sequence[os.PathLike | str]) -> list[Candidate]:
    """Loads finished runs, which must have learned from the same recordings.

    Raises:
        UserError: fewer than two runs, one named twice, unfinished or damaged, or runs on other
            data.
    """
    if len(paths) < 2:
        raise UserError(f"a choice needs two runs or more, not {len(paths)}")
    seen: set[Path] = set()
    for path in paths:
        place = Path(path).resolve()
        if place in seen:
            raise UserError(f"{path} is named twice; name each run once")
        seen.add(place)
    candidates = [_candidate(path, name) for path, name in named(paths)]
    for other in candidates[1:]:
        _check_same_clips(candidates[0], other)
        _check_same_clips(other, candidates[0])
        _check_same_recordings(candidates[0], other)
    return candidates


def rate_of(candidates: Sequence[Candidate]) -> int:
    """Sample rate at which recordings are read, in Hz: the highest of all candidates."""
    return max(leaf.detector.front_end.sample_rate for each in candidates for leaf in each.leaves)


def by_channel(candidates: Sequence[Candidate]) -> dict[int | str, list[int]]:
    """Places of the candidates that hear each channel, as `asd_jax.data.read` takes it.

    Raises:
        UserError: the members of an ensemble hear different ones.
    """
    found: dict[int | str, list[int]] = {}
    for place, candidate in enumerate(candidates):
        channels = {leaf.config.channel for leaf in candidate.leaves}
        if len(channels) > 1:
            raise UserError(
                f"members of {candidate.name} hear several channels of a recording (data.channel, "
                "front_end.canceller); choose among runs that hear one each"
            )
        found.setdefault(channels.pop(), []).append(place)
    return found


def _candidate(path: os.PathLike | str, name: str) -> Candidate:
    run_dir, _, data = finished_run(path)
    members: dict[int, Rows] = {}
    fitted = _load(run_dir, members)
    rows = _rows_of(run_dir)
    places, _ = read_places(run_dir.recordings_csv)
    for group, own in rows.items():
        for row in own:
            if (*group, row.clip) not in places:
                raise UserError(
                    f"{name} does not say where {row.clip} of {title_of(group)} is "
                    "(recordings.csv); its command writes that once report.html is removed"
                )
    return Candidate(name, fitted, rows, members, places, data.get("training", ""))


def _load(run_dir: RunDirectory, members: dict[int, Rows]) -> Fitted:
    """The fitted system; notes the training clips of each fitted detector in it."""
    if run_dir.ensemble.is_file():
        return load_members(run_dir.ensemble, lambda path: _load(finished_run(path)[0], members))
    fitted = FittedDetector.load(run_dir.model)
    members[id(fitted)] = _rows_of(run_dir)
    return fitted


def _rows_of(run_dir: RunDirectory) -> Rows:
    """Training rows of the first seed by machine and section."""
    rows: dict[Group, list[TrainingRow]] = {}
    for row in read_training_csv(run_dir.training_csv):
        own = rows.setdefault((row.machine, row.section), [])
        if not own or row.seed == own[0].seed:
            own.append(row)
    if not rows:
        raise UserError(f"{run_dir.path} has no scores of training clips, by which to choose")
    return dict(sorted(rows.items()))


def _held_out(rows: Sequence[TrainingRow]) -> set[str]:
    """Names of the clips of a network that it was not fitted to."""
    # Runs of before have no `unseen`; where some clips set no threshold, the others are held out.
    some = any(not row.sets_threshold for row in rows)
    return {row.clip for row in rows if row.unseen or (some and row.sets_threshold)}


def _check_same_clips(one: Candidate, other: Candidate) -> None:
    """Raises UserError unless the other has all machines, sections and clips of the one."""
    for group, rows in one.rows.items():
        if group not in other.rows:
            raise UserError(
                f"{other.name} has no clips of {title_of(group)}, which {one.name} has; choose "
                "among runs on the same data"
            )
        lacks = {row.clip for row in rows} - {row.clip for row in other.rows[group]}
        if lacks:
            raise UserError(
                f"{other.name} has no training clip {min(lacks)} of {title_of(group)}, which "
                f"{one.name} has; choose among runs on the same data"
            )


def _check_same_recordings(one: Candidate, other: Candidate) -> None:
    """Raises UserError unless clips of one name are of one content, or at one place."""
    # Digests also differ by clips of other machines that a network learned from.
    if one.digest and one.digest == other.digest:
        return
    for group, rows in one.rows.items():
        for row in rows:
            key = (*group, row.clip)
            if one.places[key] != other.places[key]:
                raise UserError(
                    f"{one.name} learned from {one.places[key]} and {other.name} from "
                    f"{other.places[key]}; choose among runs on the same data"
                )


def title_of(group: Group) -> str:
    """Machine and section, as lines name them."""
    return " ".join(filter(None, group))
