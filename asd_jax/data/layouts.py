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
import importlib.resources
import io
import os
import re
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypedDict

import numpy as np

from asd_jax.data.clips import ANOMALY, NORMAL, UNLABELLED, Clip, ClipTable
from asd_jax.errors import UserError

YEARS = range(2020, 2027)

EXPECTED = (
    "expected <machine>/train/*.wav and <machine>/test/*.wav named as in DCASE 2020 to 2026, "
    "or <machine>/id_NN/normal/*.wav as in MIMII"
)

_SPLITS = {"train": "train", "test": "test", "source_test": "test", "target_test": "test"}
_LABELS = {"normal": NORMAL, "anomaly": ANOMALY, "abnormal": ANOMALY, None: UNLABELLED}

_ID_NAME = re.compile(r"(?:(?P<label>normal|anomaly)_)?id_(?P<section>\d\d)_\d+")
_SECTION_NAME = re.compile(
    r"section_(?P<section>\d\d)(?:_(?P<domain>source|target))?(?:_(?P<split>train|test))?"
    r"(?:_(?P<label>normal|anomaly))?_\d+(?:_(?P<attributes>.+))?"
)
_ID_FOLDER = re.compile(r"id_(\d\d)")
_SUBSET_FOLDER = re.compile(r"(dev|eval)_\w+")
_YEAR_FOLDER = re.compile(r"dcase[-_ ]?(20\d\d)", re.IGNORECASE)
_NO_ATTRIBUTE = "noAttribute"


@dataclasses.dataclass(frozen=True)
class Archive:
    """One published archive of the challenge: a machine's subset, or a part of it."""

    year: int
    machine: str
    subset: str
    url: str


@dataclasses.dataclass(frozen=True)
class Scan:
    """The wav files under a folder.

    Attributes:
        clips: the clips, sorted.
        strays: paths of wav files that fit no layout, or whose names are not UTF-8.
        supplemental: paths of the supplemental clips of 2025 and later (noise alone or the
            machine alone), neither training nor test clips.
    """

    clips: ClipTable
    strays: tuple[str, ...]
    supplemental: tuple[str, ...]


@functools.cache
def official_archives() -> tuple[Archive, ...]:
    """The challenge's published archives, 2020 to 2026."""
    table = importlib.resources.files("asd_jax.data").joinpath("downloads.csv")
    file = io.StringIO(table.read_text(encoding="utf-8"))
    return tuple(
        Archive(int(row["year"]), row["machine"], row["set"], row["url"])
        for row in csv.DictReader(file)
    )


def find_clips(
    data_dir: os.PathLike | str,
    year: int | None = None,
    report: Callable[[str], None] | None = None,
) -> ClipTable:
    """Lists the clips under a folder.

    Args:
        data_dir: any folder from the root of several data sets down to one machine's folder.
        year: the challenge year of every clip, instead of the one the layout shows.
        report: called with one line if files were left out since they fit no layout.

    Returns:
        The clips, sorted by machine, section, split and name.

    Raises:
        UserError: no such folder, no clip in it, or two clips of one name, as when the folder
            holds the same machine at several signal-to-noise ratios.

    The year of section-named clips is decided for a data set as a whole. A folder named like
    `dcase2023` on the path wins; else `source_test` or `target_test` folders say 2021, a
    section other than 00 says 2022, and section 00 alone says 2023 or later: the year whose
    published machines cover most of those present, the earliest of equals, where a name with
    `noAttribute` excludes the years before 2024 and a `supplemental` folder those before 2025.
    """
    scanned = scan(data_dir, year)
    if not scanned.clips:
        n_files = len(scanned.strays) + len(scanned.supplemental)
        example = (scanned.strays or scanned.supplemental)[0]
        raise UserError(
            f"none of the {n_files} wav files under {data_dir} fits a data set layout, "
            f"for example {example}; {EXPECTED}"
        )
    for first, second in duplicates(scanned.clips):
        raise UserError(
            f"two clips of machine {first.machine}, section {first.section}, are called "
            f"{first.name}: {first.path} and {second.path}; give the folder of one data set"
        )
    if report and scanned.strays:
        report(
            f"{len(scanned.strays)} wav files fit no layout and are left out, for example "
            f"{scanned.strays[0]}"
        )
    return scanned.clips


def scan(data_dir: os.PathLike | str, year: int | None = None) -> Scan:
    """Lists all wav files under a folder; arguments as in `find_clips`.

    Raises:
        UserError: no such folder, no wav file in it, or no permission to read it.
    """
    if year is not None and year not in YEARS:
        raise UserError(f"year {year}: the challenge years are {YEARS[0]} to {YEARS[-1]}")
    strays: list[str] = []
    supplemental: list[str] = []
    clips = ClipTable.of(_found_clips(Path(data_dir), strays, supplemental))
    if not (clips or strays or supplemental):
        raise UserError(f"no wav file under {data_dir}; {EXPECTED}")
    clips = _with_mimii_split(clips)
    clips = _with_year(clips, supplemental) if year is None else clips.replace(year=year)
    return Scan(clips.sorted(), tuple(sorted(strays)), tuple(sorted(supplemental)))


def _found_clips(data_dir: Path, strays: list[str], supplemental: list[str]) -> Iterator[Clip]:
    """Yields the clips under a folder, and adds other wav files to the lists."""
    # Clips come folder by folder and section by section, so few tables are in use at once.
    read_attributes = functools.lru_cache(maxsize=8)(_read_attribute_file)
    for path in _wav_files(data_dir):
        # Result files are UTF-8, so the names of clips must be.
        printable = os.fsencode(path).decode(errors="backslashreplace")
        if printable != str(path):
            strays.append(printable)
        elif clip := parse_clip(path, data_dir):
            if not clip.attributes and clip.year >= 2022:
                table = read_attributes(path.parents[1] / f"attributes_{clip.section}.csv")
                clip = dataclasses.replace(clip, attributes=table.get(path.stem, ()))
            yield clip
        elif path.parent.name == "supplemental":
            supplemental.append(str(path))
        else:
            strays.append(str(path))


def parse_clip(path: os.PathLike | str, root: os.PathLike | str = ".") -> Clip | None:
    """Parses one clip's place in the data set from its path alone.

    Args:
        path: the file, absolute or relative to `root`.
        root: the folder of the data.

    Returns:
        The clip, or None if the path fits no layout. Fields that depend on the whole data set
        are provisional: 2022 stands for 2022 and later, and MIMII's normal clips are "train".
    """
    path = Path(os.path.abspath(Path(root, path)))
    if path.suffix.lower() != ".wav":
        return None
    folder = path.parent
    if (match := _ID_FOLDER.fullmatch(folder.parent.name)) and folder.name in _LABELS:
        fields = _place(folder.parent.parent)
        if fields is None or folder.name == "anomaly":
            return None
        return Clip(
            section=match[1],
            split="train" if folder.name == "normal" else "test",
            name=f"{folder.name}/{path.name}",
            path=str(path),
            year=0,
            label=_LABELS[folder.name],
            **fields,
        )

    split = _SPLITS.get(folder.name)
    fields = _place(folder.parent)
    if split is None or fields is None:
        return None
    if match := _ID_NAME.fullmatch(path.stem):
        if folder.name not in ("train", "test"):
            return None
        year, domain = 2020, ""
        attributes: tuple[tuple[str, str], ...] = ()
    elif match := _SECTION_NAME.fullmatch(path.stem):
        domain = match["domain"] or ""
        by_folder = folder.name.removesuffix(split).rstrip("_")
        if match["split"] not in (None, split) or (by_folder and by_folder != domain):
            return None
        year = 2021 if by_folder else 2022
        attributes = _attributes(match["attributes"])
    else:
        return None
    label = _LABELS[match["label"]]
    return Clip(
        section=match["section"],
        split=split,
        name=path.name,
        path=str(path),
        year=year,
        domain=domain,
        # Training clips are normal by the rules of the challenge, even if the name omits it.
        label=NORMAL if split == "train" and label == UNLABELLED else label,
        attributes=attributes,
        **fields,
    )


def duplicates(clips: ClipTable) -> Iterator[tuple[Clip, Clip]]:
    """Pairs of clips that a result file cannot distinguish; the first of that name comes first."""
    pairs = [(other, rows[0]) for rows in clips.namesakes() for other in rows[1:]]
    return ((clips[first], clips[other]) for other, first in sorted(pairs))


def _wav_files(data_dir: Path) -> Iterator[Path]:
    if not data_dir.exists():
        raise UserError(f"no folder {data_dir}; {EXPECTED}")
    if not data_dir.is_dir():
        raise UserError(f"{data_dir} is a file; give the folder of the data set")

    def fail(error: OSError) -> None:
        raise UserError(f"cannot read the folder {error.filename}: {error.strerror}") from error

    # Data sets are often assembled from links to other disks; each folder is walked once, so
    # that a link to a parent causes no endless loop.
    walked = set()
    for folder, folders, files in os.walk(
        os.path.abspath(data_dir), followlinks=True, onerror=fail
    ):
        if (real := os.path.realpath(folder)) in walked:
            folders.clear()
            continue
        walked.add(real)
        folders.sort()
        yield from (Path(folder, name) for name in sorted(files) if name.lower().endswith(".wav"))


class _Place(TypedDict):
    machine: str
    subset: str


@functools.lru_cache(maxsize=1024)  # thousands of clips share a machine's folder
def _place(machine_folder: Path) -> _Place | None:
    """Machine and subset, from the folder of the machine."""
    machine = machine_folder.name
    if not machine or machine == "raw" or _SUBSET_FOLDER.fullmatch(machine):
        return None
    subsets = (_SUBSET_FOLDER.fullmatch(parent.name) for parent in machine_folder.parents)
    nearest = next(filter(None, subsets), None)
    return {"machine": machine, "subset": nearest[1] if nearest else "dev"}


def _attributes(text: str | None) -> tuple[tuple[str, str], ...]:
    """Parses (name, value) pairs; a last name without a value has the value ""."""
    if text is None or text == _NO_ATTRIBUTE:
        return ()
    tokens = text.split("_")
    return tuple(zip(tokens[::2], [*tokens[1::2], ""], strict=False))


def _with_mimii_split(clips: ClipTable) -> ClipTable:
    """Moves normal clips of MIMII to the test set: as many as abnormal ones, as in its baseline.

    They are the first by name, and at most half of the normal clips, so that some are left to
    train on.
    """
    test = np.zeros(len(clips), bool)
    # What precedes the name, "normal/00000000.wav", is the folder of a machine id.
    abnormal = clips.groups("folder", rows=clips.where(year=0, label=ANOMALY))
    for folder, members in clips.groups("folder", rows=clips.where(year=0, label=NORMAL)).items():
        n_test = min(len(abnormal.get(folder, ())), len(members) // 2)
        test[members[:n_test]] = True  # in the order of names: `_wav_files` sorts a folder
    return clips.replace(test, split="test")


def _read_attribute_file(path: Path) -> dict[str, tuple[tuple[str, str], ...]]:
    """Reads attributes by file name without folder and ending; empty without such a file.

    Its columns are file_name, d1p, d1v, d2p, …
    """
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
        attributes[stem] = tuple(p for p in pairs if p[0] and p[0] != _NO_ATTRIBUTE)
    return attributes


def _with_year(clips: ClipTable, supplemental: list[str]) -> ClipTable:
    """Infers the year of section-named clips, one data set at a time."""
    sets = defaultdict(list)
    for rows in clips.groups("folder", rows=clips.where(year=[2021, 2022])).values():
        sets[_set_folder(clips.path(rows[0]))].append(rows)
    has_supplemental = {_set_folder(path) for path in supplemental}
    settled = clips
    for folder, parts in sets.items():
        mask = np.zeros(len(clips), bool)
        mask[np.concatenate(parts)] = True
        year = _year(folder, clips[mask], folder in has_supplemental)
        settled = settled.replace(mask, year=year)
    return settled


def _set_folder(path: str) -> Path:
    """Folder of both subsets of a clip's data set."""
    folder = Path(os.path.abspath(path)).parents[2]
    while folder.name == "raw" or _SUBSET_FOLDER.fullmatch(folder.name):
        folder = folder.parent
    return folder


def _year(folder: Path, clips: ClipTable, has_supplemental: bool) -> int:
    named = (_YEAR_FOLDER.search(part) for part in reversed(folder.parts))
    nearest = next(filter(None, named), None)
    if nearest and int(nearest[1]) in YEARS:
        return int(nearest[1])
    if 2021 in clips.distinct("year"):
        return 2021
    if clips.distinct("section") != ["00"]:
        candidates: tuple[int, ...] = (2022, 2021)
    elif has_supplemental:
        candidates = (2025, 2026)
    elif any(os.path.splitext(c.name)[0].endswith(f"_{_NO_ATTRIBUTE}") for c in clips):
        candidates = (2024, 2025, 2026)
    else:
        candidates = (2023, 2024, 2025, 2026, 2022, 2021)
    present = set(clips.distinct("machine"))
    published = defaultdict(set)
    for archive in official_archives():
        published[archive.year].add(archive.machine)
    return max(candidates, key=lambda year: len(present & published[year]))
