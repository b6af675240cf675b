"""Attributes that names hide, from the files that the organisers publish after a challenge.

Since 2024 some machines' names have `noAttribute` in place of attributes. What they were is in
`<set>_data/<machine>/attributes_NN_{train,test}_correspondence.csv`: below a heading, original and
published names.
"""

import csv
import dataclasses
import os
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from asd_jax.data.clips import Clip, ClipTable
from asd_jax.data.names import official_name
from asd_jax.errors import UserError

_FILE = re.compile(r"attributes_(\d\d)_(?:train|test)_correspondence\.csv")
_YEAR = re.compile(r"dcase(20\d\d)", re.IGNORECASE)
_HEADING = ["source_file_name", "target_file_name"]

_Key = tuple[str, str]  # machine, published name
_Attributes = tuple[tuple[str, str], ...]


def with_hidden_attributes(
    clips: Sequence[Clip], folder: os.PathLike | str, report: Callable[[str], None]
) -> ClipTable:
    """Gives clips without attributes those that were hidden.

    Args:
        clips: the clips.
        folder: has the files, at any depth; of a year where a folder is called `dcase20XX…`.
        report: called with a line on whose attributes are known.

    Raises:
        UserError: there are no such files, none of these clips' machines, or a damaged one.
    """
    clips = ClipTable.of(clips)
    (year, *_) = clips.distinct("year") or [0]
    known = _read(Path(folder), year)
    machines: dict[str, int] = {}

    def found() -> Iterator[Clip]:
        for clip in clips:
            attributes = known.get((clip.machine, clip.name), ())
            if attributes and not clip.attributes:
                clip = dataclasses.replace(clip, attributes=attributes)
                machines[clip.machine] = machines.get(clip.machine, 0) + 1
            yield clip

    table = ClipTable.of(found())
    if not machines:
        raise UserError(
            f"data.hidden_attributes: {folder} has no attributes of these recordings; it has "
            f"{', '.join(sorted({machine for machine, _ in known})) or 'none'}"
        )
    said = ", ".join(f"{count} clips of {machine}" for machine, count in sorted(machines.items()))
    report(f"{folder} says the attributes that the names of {said} hide")
    return table


def _read(folder: Path, year: int) -> dict[_Key, _Attributes]:
    """Attributes by machine and published name."""
    if not folder.is_dir():
        raise UserError(f"data.hidden_attributes: no folder {folder}")
    paths = [path for path in sorted(folder.rglob("*.csv")) if _FILE.fullmatch(path.name)]
    if not paths:
        raise UserError(
            f"data.hidden_attributes: {folder} has no attributes_NN_train_correspondence.csv"
        )
    known: dict[_Key, _Attributes] = {}
    for path in paths:
        of_year = _YEAR.search(str(path.relative_to(folder.parent)))
        if of_year and int(of_year[1]) != year:
            continue
        for original, published in _rows(path):
            parsed = official_name(original)
            if parsed is None or official_name(published) is None:
                raise UserError(f"{path}: {original},{published} are not two names of a clip")
            key = path.parent.name, published
            if known.setdefault(key, parsed.attributes) != parsed.attributes:
                raise UserError(
                    f"{path}: {published} has other attributes than in another file under "
                    f"{folder}; name the folder of one year"
                )
    return known


def _rows(path: Path) -> list[list[str]]:
    """The lines below the heading."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            heading, *rows = [row for row in csv.reader(file) if any(row)] or [[]]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"cannot read {path}: {error}") from error
    if heading != _HEADING or any(len(row) != 2 for row in rows):
        raise UserError(f"{path} is damaged: its lines are not {','.join(_HEADING)}")
    return rows
