"""The challenge's folder layouts, 2020 to 2026, and raw MIMII: from paths to clips.

| year | clip, below the folder of its machine |
|---|---|
| 2020 | `train/normal_id_01_00000000.wav`, `test/anomaly_id_01_…`, hidden `test/id_05_…` |
| 2021 | `train/section_00_source_train_normal_0000_<attributes>.wav`, `{source,target}_test/…` |
| 2022 on | as 2021 with one `test/`; hidden `test/section_03_0000.wav`; `attributes_00.csv` |
| MIMII | `id_00/normal/00000000.wav`, `id_00/abnormal/00000000.wav` |

A path is parsed from its right end, so that any folder can be given: from the root of several
data sets down to a single machine's folder, with or without a `raw/` level.
"""

import csv
import dataclasses
import functools
import itertools
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from asd_jax.data.audio_files import inspect
from asd_jax.data.clip_paths import clip_in, holds_clips, place_of_folder
from asd_jax.data.clips import ANOMALY, NORMAL, UNLABELLED, Clip, ClipTable
from asd_jax.data.folders import EXPECTED, RENAMED, is_recording, is_wav, walk_folders
from asd_jax.data.manifest import Manifest, manifest_clips
from asd_jax.data.names import NO_ATTRIBUTES
from asd_jax.data.own_folders import OwnFolders, own_clips
from asd_jax.data.years import YEARS, with_years
from asd_jax.errors import UserError

# Where recordings are.
DataSource = os.PathLike | str | OwnFolders | Manifest
# (where they are, challenge year or None) → what is there: `scan`, or one that remembers.
Scanner = Callable[[DataSource, int | None], "Scan"]


@dataclasses.dataclass(frozen=True)
class Scan:
    """The recordings under a folder.

    Attributes:
        clips: the clips, sorted.
        strays: paths of files that fit no layout: wav files, and other recordings where training
            or test clips are.
        supplemental: paths of the supplemental clips of 2025 and later (noise alone or the
            machine alone), neither training nor test clips.
        lines: what was decided about the data and why, for the user.
        lost: the strays that are recordings among the training or test clips of a machine.
        others: paths of files among training or test clips that are no recordings.
        skipped: paths of folders that were not walked: hidden ones, bins and snapshots.
    """

    clips: ClipTable
    strays: tuple[str, ...]
    supplemental: tuple[str, ...]
    lines: tuple[str, ...]
    lost: "tuple[LostRecording, ...]" = ()
    others: tuple[str, ...] = ()
    skipped: tuple[str, ...] = ()


class LostRecording(NamedTuple):
    """A recording among a machine's clips that fits no layout; attributes as those of `Clip`."""

    path: str
    machine: str
    subset: str


def find_clips(
    data_dir: DataSource,
    year: int | None = None,
    report: Callable[[str], None] | None = None,
) -> ClipTable:
    """Lists the clips under a folder.

    Args:
        data_dir: any folder from the root of several data sets down to one machine's folder; or
            folders of one's own.
        year: the challenge year of every clip, instead of the one the layout shows.
        report: called with a line if files were left out since they fit no layout, and with one
            for what was decided about the data, such as its year.

    Returns:
        The clips, sorted by machine, section, split and name.

    Raises:
        UserError: no such folder, no clip in it, or two clips of one name, as when the folder
            holds the same machine at several signal-to-noise ratios.

    The year of section-named clips is decided for a data set as a whole, by `years.with_years`.
    """
    return listed_clips(scan(data_dir, year), data_dir, report)


def listed_clips(
    scanned: Scan, data_dir: DataSource, report: Callable[[str], None] | None = None
) -> ClipTable:
    """The clips of a scan; arguments, lines and errors as those of `find_clips`."""
    if not scanned.clips:
        n_files = len(scanned.strays) + len(scanned.supplemental)
        example = (scanned.strays or scanned.supplemental)[0]
        raise UserError(
            f"none of the {n_files} sound files under {data_dir} fits a data set layout, "
            f"for example {example}; {EXPECTED}"
        )
    for first, second in duplicates(scanned.clips):
        raise UserError(
            f"two clips of machine {first.machine}, section {first.section}, are called "
            f"{first.name}: {first.path} and {second.path}; give the folder of one data set"
        )
    if report:
        for line in scanned.lines:
            report(line)
    if report and scanned.strays:
        report(
            f"{len(scanned.strays)} sound files fit no layout and are no clips, for example "
            f"{scanned.strays[0]}"
        )
    return scanned.clips


def scan(data_dir: DataSource, year: int | None = None) -> Scan:
    """Lists all recordings under a folder; arguments as in `find_clips`.

    Raises:
        UserError: no such folder, no wav file in it, or no permission to read it.
    """
    if year is not None and year not in YEARS:
        raise UserError(f"year {year}: the challenge years are {YEARS[0]} to {YEARS[-1]}")
    if isinstance(data_dir, OwnFolders | Manifest):
        return _scan_own(data_dir, year)
    found = _Found([], [], [], [], [])
    clips = ClipTable.of(_found_clips(Path(data_dir), found))
    if not (clips or found.strays or found.supplemental):
        raise UserError(f"no wav file under {data_dir}; {EXPECTED}")
    clips = _with_mimii_split(_without_links(clips))
    clips, lines = _with_renamed(clips)
    if year is None:
        clips, reasons = with_years(clips, found.supplemental)
        lines += reasons
    else:
        clips = clips.replace(year=year)
    return Scan(
        clips.sorted(),
        tuple(sorted(found.strays)),
        tuple(sorted(found.supplemental)),
        tuple(lines),
        tuple(sorted(found.lost)),
        tuple(sorted(found.others)),
        tuple(sorted(found.skipped)),
    )


def _scan_own(source: OwnFolders | Manifest, year: int | None) -> Scan:
    """The recordings in folders of one's own, or in a table of one's own."""
    if year is not None:
        raise UserError(f"year {year}: your own recordings are of no challenge year; leave it out")
    found = manifest_clips(source) if isinstance(source, Manifest) else own_clips(source)
    lost = [LostRecording(path, str(Path(path).parent), "dev") for path in sorted(found.strays)]
    return Scan(
        found.clips.sorted(),
        tuple(sorted(found.strays)),
        (),
        tuple(found.lines),
        tuple(lost),
        tuple(sorted(found.others)),
        tuple(sorted(found.skipped)),
    )


class _Found(NamedTuple):
    """Lists of a scan that fill as folders are walked; see `Scan`."""

    strays: list[str]
    supplemental: list[str]
    lost: list[LostRecording]
    others: list[str]
    skipped: list[str]


def _found_clips(data_dir: Path, found: _Found) -> Iterator[Clip]:
    """Yields the clips under a folder, and adds other files to the lists."""
    # Clips come folder by folder and section by section, so few tables are in use at once.
    read_attributes = functools.lru_cache(maxsize=8)(_read_attribute_file)
    for folder, names in walk_folders(data_dir, found.skipped):
        for name in names:
            # Result files are UTF-8, so the names of clips must be.
            is_clean = not name.startswith(".") and _is_printable(folder) and _is_printable(name)
            if is_clean and (clip := clip_in(folder, name)):
                if not clip.attributes and clip.year >= 2022:
                    table = read_attributes(folder, clip.section)
                    attributes = table.get(os.path.splitext(name)[0], ())
                    clip = dataclasses.replace(clip, attributes=attributes)
                yield clip
            else:
                _add_other(Path(folder, name), is_clean, found)


def _add_other(path: Path, is_clean: bool, found: _Found) -> None:
    """Adds a file that is no clip to the lists."""
    printable = os.fsencode(path).decode(errors="backslashreplace")
    if is_clean and is_wav(path) and path.parent.name == "supplemental":
        found.supplemental.append(str(path))
    elif is_wav(path) or (holds_clips(path.parent) and is_recording(path)):
        found.strays.append(printable)
        # Hidden ones, such as AppleDouble's, are no recordings.
        place = None if path.name.startswith(".") else place_of_folder(path.parent)
        if place is not None:
            found.lost.append(LostRecording(printable, **place))
    elif holds_clips(path.parent):
        found.others.append(printable)


def _is_printable(text: str) -> bool:
    """Whether a file's name is of characters, and not of other bytes."""
    return text.isascii() or os.fsencode(text).decode(errors="backslashreplace") == text


def duplicates(clips: ClipTable) -> Iterator[tuple[Clip, Clip]]:
    """Pairs of clips that a result file cannot distinguish; the first of that name comes first."""
    pairs = [(other, rows[0]) for rows in clips.namesakes() for other in rows[1:]]
    return ((clips[first], clips[other]) for other, first in sorted(pairs))


def _without_links(clips: ClipTable) -> ClipTable:
    """Leaves out second paths to one recording, as links beside their targets make them."""
    kept = np.ones(len(clips), bool)
    for rows in clips.namesakes():
        seen = set()
        for row in rows.tolist():
            real = os.path.realpath(clips.path(row))
            kept[row] = real not in seen
            seen.add(real)
    return clips if kept.all() else clips[kept]


def _with_renamed(clips: ClipTable) -> tuple[ClipTable, list[str]]:
    """Leaves out test clips without labels whose machine has labelled ones of them beside."""
    kept, lines = np.ones(len(clips), bool), []
    labelled = {
        str(Path(clips.path(rows[0])).parents[1])
        for (folder,), rows in clips.groups("folder").items()
        if Path(clips.path(rows[0])).parent.name == RENAMED
    }
    for rows in clips.groups("folder", rows=clips.where(split="test", label=UNLABELLED)).values():
        folder = Path(clips.path(rows[0])).parent
        if str(folder.parent) in labelled and folder.name != RENAMED:
            kept[rows] = False
            lines.append(f"{folder.parent / RENAMED} has labels and takes the place of {folder}")
    return (clips if kept.all() else clips[kept]), lines


def _with_mimii_split(clips: ClipTable) -> ClipTable:
    """Moves normal clips of MIMII to the test set: as many as abnormal ones, as in its baseline.

    They are the first by name that can be used, and at most half of the normal clips, so that some
    are left to train on.
    """
    test = np.zeros(len(clips), bool)

    def usable(rows: np.ndarray) -> Iterator[int]:
        return (row for row in rows.tolist() if inspect(clips.path(row)).problem is None)

    # What precedes the name, "normal/00000000.wav", is the folder of a machine id.
    abnormal = clips.groups("folder", rows=clips.where(year=0, label=ANOMALY))
    for folder, members in clips.groups("folder", rows=clips.where(year=0, label=NORMAL)).items():
        n_abnormal = sum(1 for _ in usable(abnormal.get(folder, np.zeros(0, np.int64))))
        n_test = min(n_abnormal, len(members) // 2)
        # In the order of names: `walk` sorts a folder.
        test[[*itertools.islice(usable(members), n_test)]] = True
    return clips.replace(test, split="test")


def _read_attribute_file(folder: str, section: str) -> dict[str, tuple[tuple[str, str], ...]]:
    """Reads attributes by file name without folder and ending; empty without such a file.

    It lies beside the folder of the clips; its columns are file_name, d1p, d1v, d2p, …
    """
    path = Path(folder).parent / f"attributes_{section}.csv"
    if not path.is_file():
        return {}
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"cannot read {path}: {error}; restore or remove it") from error
    attributes = {}
    for row in rows:
        if not row.get("file_name"):
            raise UserError(f"{path} has a row without a file_name; restore or remove it")
        names = [key for key in row if key and re.fullmatch(r"d\d+p", key)]
        pairs = ((row[name], row.get(f"{name[:-1]}v") or "") for name in names)
        stem = Path(row["file_name"]).stem
        attributes[stem] = tuple(p for p in pairs if p[0] and p[0] not in NO_ATTRIBUTES)
    return attributes
