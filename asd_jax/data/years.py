"""The challenge's years: what was published, and of which year a data set is."""

import csv
import dataclasses
import functools
import importlib.resources
import io
import json
import os
import re
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from asd_jax.data.clips import ClipTable
from asd_jax.data.names import NO_ATTRIBUTES

YEARS = range(2020, 2027)
SUBSET_FOLDER = re.compile(r"(dev|eval)_\w+")
# Settings and year of a data set that `asd-jax synth` made.
SETTINGS_FILE = "synthetic.json"
_YEAR_FOLDER = re.compile(r"dcase[-_ ]?(20\d\d)", re.IGNORECASE)


@dataclasses.dataclass(frozen=True)
class Archive:
    """One published archive of the challenge: a machine's subset, or a part of it."""

    year: int
    machine: str
    subset: str
    url: str


@functools.cache
def official_archives() -> tuple[Archive, ...]:
    """The challenge's published archives, 2020 to 2026."""
    table = importlib.resources.files("asd_jax.data").joinpath("downloads.csv")
    file = io.StringIO(table.read_text(encoding="utf-8"))
    return tuple(
        Archive(int(row["year"]), row["machine"], row["set"], row["url"])
        for row in csv.DictReader(file)
    )


def with_years(clips: ClipTable, supplemental: Sequence[str]) -> tuple[ClipTable, list[str]]:
    """Infers the year of section-named clips, one data set at a time.

    A folder named like `dcase2023` on the path wins, then what `asd-jax synth` noted; else
    `source_test` or `target_test` folders say 2021, a section other than 00 says 2022, and section
    00 alone says 2023 or later: the year whose published machines cover most of those present, the
    earliest of equals, where a name with `noAttribute` excludes the years before 2024 and a
    `supplemental` folder those before 2025.

    Args:
        clips: clips with provisional years.
        supplemental: paths of the supplemental clips.

    Returns:
        The clips with their years, and a line a data set that says the year and why.
    """
    sets = defaultdict(list)
    for rows in clips.groups("folder", rows=clips.where(year=[2021, 2022])).values():
        sets[set_folder(clips.path(rows[0]))].append(rows)
    has_supplemental = {set_folder(path) for path in supplemental}
    settled, lines = clips, []
    for folder, parts in sets.items():
        mask = np.zeros(len(clips), bool)
        mask[np.concatenate(parts)] = True
        year, reason = _year(folder, clips[mask], folder in has_supplemental)
        settled = settled.replace(mask, year=year)
        lines.append(f"{folder} is read as data of {year}: {reason}")
    return settled, lines


def set_folder(path: str) -> Path:
    """Folder of both subsets of a clip's data set."""
    folder = Path(os.path.abspath(path)).parents[2]
    while folder.name == "raw" or SUBSET_FOLDER.fullmatch(folder.name):
        folder = folder.parent
    return folder


def _year(folder: Path, clips: ClipTable, has_supplemental: bool) -> tuple[int, str]:
    """The year of a data set, and why it is that one."""
    for part in reversed(folder.parts):
        named = _YEAR_FOLDER.search(part)
        if named and int(named[1]) in YEARS:
            return int(named[1]), f"so its folder {part} is called"
    for place in (folder, *folder.parents[:2]):
        if (year := _synthetic_year(place / SETTINGS_FILE)) is not None:
            return year, f"so {SETTINGS_FILE} says"
    if 2021 in clips.distinct("year"):
        return 2021, "it has test folders by domain"
    candidates: tuple[int, ...]
    hidden = tuple(f"_{text}" for text in NO_ATTRIBUTES)
    if clips.distinct("section") != ["00"]:
        candidates, why = (2022, 2021), "it has sections beside 00"
    elif has_supplemental:
        candidates, why = (2025, 2026), "it has supplemental clips"
    elif any(os.path.splitext(c.name)[0].endswith(hidden) for c in clips):
        candidates, why = (2024, 2025, 2026), "it has names with noAttribute"
    else:
        candidates, why = (2023, 2024, 2025, 2026, 2022, 2021), "it has section 00 alone"
    present = set(clips.distinct("machine"))
    published = defaultdict(set)
    for archive in official_archives():
        published[archive.year].add(archive.machine)
    year = max(candidates, key=lambda year: len(present & published[year]))
    known = len(present & published[year])
    which = f"{known} of its {len(present)} machines are of that year" if known else "the earliest"
    return year, f"{why}, and {which}; --config.data.year or --year takes another"


def _synthetic_year(path: Path) -> int | None:
    """The year that `asd-jax synth` noted; None without a note."""
    try:
        year = json.loads(path.read_text(encoding="utf-8"))["year"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return year if year in YEARS else None
