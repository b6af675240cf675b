"""Folders of one's own: which recordings are normal and which are to be scored, by folder alone.

Names, formats and depth are free. A recording's name in result files is its path below its folder,
behind the folder's part: "normal/monday/0001.flac".
"""

import dataclasses
import os
from pathlib import Path
from typing import NamedTuple

import numpy as np

from asd_jax.data.clips import ANOMALY, NORMAL, OWN, UNLABELLED, Clip, ClipTable
from asd_jax.data.folders import is_recording, is_wav, walk
from asd_jax.errors import UserError
from asd_jax.runtime.arguments import check, check_machine, check_path, composed

SECTION = "00"
# Of the normal recordings at most such a part is scored beside the anomalous ones.
_SCORED_SHARE = 1 / 3


@dataclasses.dataclass(frozen=True)
class OwnFolders:
    """Folders of recordings in no data set's layout.

    Attributes:
        normal: of normal recordings, to learn from.
        test: of recordings to score, of which nothing is known; None for none.
        anomalous: of recordings to score that are known to be anomalous; None for none. As many
            normal ones, at most a third, spread over their names, are then scored beside them and
            not learned from, so that there are figures.
        machine: the machine that all recordings are of.
        machine_folders: whether each folder has a subfolder for each machine, of its name, in place
            of `machine`.

    Examples:
        >>> OwnFolders("healthy", "doubtful", machine="pump").machine
        'pump'
    """

    normal: os.PathLike | str
    test: os.PathLike | str | None = None
    anomalous: os.PathLike | str | None = None
    machine: str = "machine"
    machine_folders: bool = False

    def __post_init__(self) -> None:
        check_path("normal", self.normal)
        check_path("test", self.test, optional=True)
        check_path("anomalous", self.anomalous, optional=True)
        check_machine(self.machine)
        check("machine_folders", self.machine_folders, (bool,), "True or False")
        if not self.machine or set(self.machine) & set("/\\"):
            raise UserError(f"machine is {self.machine!r}; give a name, without slashes")
        if self.machine_folders and self.machine != "machine":
            raise UserError(
                f"machine is {self.machine}, but the subfolders name the machines; leave one out"
            )

    def __str__(self) -> str:
        return ", ".join(str(folder) for _, folder, _, _ in self.parts())

    def parts(self) -> "list[_Part]":
        """The folders that are given."""
        parts = [
            _Part("normal", self.normal, "train", NORMAL),
            _Part("test", self.test, "test", UNLABELLED),
            _Part("anomalous", self.anomalous, "test", ANOMALY),
        ]
        return [part for part in parts if part.folder is not None]


class _Part(NamedTuple):
    """One of the folders: its name, path, and the split and label of its recordings."""

    name: str
    folder: os.PathLike | str | None
    split: str
    label: int


class Found(NamedTuple):
    """What the folders hold.

    Attributes:
        clips: the recordings.
        lines: what was understood, for the user.
        strays: paths of recordings that have no place.
        others: paths of files that are no recordings.
        skipped: paths of folders that were not walked.
    """

    clips: ClipTable
    lines: list[str]
    strays: list[str]
    others: list[str]
    skipped: list[str]


def own_clips(folders: OwnFolders) -> Found:
    """Lists the recordings of folders of one's own.

    Raises:
        UserError: a folder is missing, has no recording, or lies in another one.
    """
    _check_apart(folders)
    clips: list[Clip] = []
    found = Found(ClipTable.of([]), [], [], [], [])
    for part in folders.parts():
        own = _clips_of(part, folders, found)
        if not own:
            what = "subfolders of machines with recordings" * folders.machine_folders
            raise UserError(f"--{part.name}={part.folder} has no {what or 'recordings'}")
        clips += own
    table = ClipTable.of(clips)
    table = _with_scored(table) if folders.anomalous is not None else table
    lines = [described(table, machine) for machine in table.distinct("machine")]
    return found._replace(clips=table, lines=lines)


def _check_apart(folders: OwnFolders) -> None:
    real = [(part, Path(os.path.realpath(str(part.folder)))) for part in folders.parts()]
    for part, path in real:
        for other, place in real:
            if part is not other and path.is_relative_to(place):
                raise UserError(
                    f"--{part.name}={part.folder} lies in --{other.name}={other.folder}; give "
                    "folders apart, as a recording is learned from or scored"
                )


def _clips_of(part: _Part, folders: OwnFolders, found: Found) -> list[Clip]:
    """The recordings of a folder; files without a place go to the lists."""
    root = Path(os.path.abspath(str(part.folder)))
    if not root.is_dir():
        what = "is a file" if root.exists() else "does not exist"
        raise UserError(f"--{part.name}={part.folder} {what}; give a folder of recordings")
    clips = []
    for path in walk(root, found.skipped):
        printable = os.fsencode(path).decode(errors="backslashreplace")
        inside = path.relative_to(root)
        if path.name.startswith(".") or not (is_wav(path) or is_recording(path)):
            found.others.append(printable)
        elif printable != str(path) or (folders.machine_folders and len(inside.parts) < 2):
            found.strays.append(printable)
        else:
            machine = composed(inside.parts[0]) if folders.machine_folders else folders.machine
            name = f"{part.name}/{inside.as_posix()}"
            place = machine, SECTION, part.split, name, str(path)
            clips.append(Clip(*place, year=OWN, label=part.label))
    return clips


def _with_scored(clips: ClipTable) -> ClipTable:
    """Moves normal recordings to the test set, beside the anomalous ones of each machine."""
    scored = np.zeros(len(clips), bool)
    anomalous = clips.groups("machine", rows=clips.where(label=ANOMALY))
    for machine, rows in clips.groups("machine", rows=clips.where(label=NORMAL)).items():
        count = min(len(anomalous.get(machine, ())), int(_SCORED_SHARE * len(rows)))
        rows = rows[np.argsort([clips[row].name for row in rows], kind="stable")]
        scored[rows[((np.arange(count) + 0.5) * len(rows) / max(count, 1)).astype(int)]] = True
    return clips.replace(scored, split="test")


def described(clips: ClipTable, machine: str) -> str:
    """How many recordings of a machine are learned from and scored."""
    own = clips.where(machine=machine)
    counts = {
        "normal to learn from": own & clips.where(split="train"),
        "normal to score": own & clips.where(split="test", label=NORMAL),
        "unknown to score": own & clips.where(label=UNLABELLED),
        "anomalous to score": own & clips.where(label=ANOMALY),
    }
    said = [f"{rows.sum()} {what}" for what, rows in counts.items() if rows.any()]
    return f"{machine}: {', '.join(said)}"
