"""A table of recordings in a CSV file: any paths, and what is known of each recording."""

import dataclasses
import difflib
import functools
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from asd_jax.data.clips import ANOMALY, NORMAL, OWN, UNLABELLED, Clip, ClipTable
from asd_jax.data.csv_lines import csv_lines
from asd_jax.data.own_folders import SECTION, Found, described
from asd_jax.errors import UserError
from asd_jax.runtime.arguments import check_path, composed

_COLUMNS = ("path", "machine", "section", "domain", "attributes", "group", "split", "label")
_LABELS = {"normal": NORMAL, "0": NORMAL, "anomaly": ANOMALY, "anomalous": ANOMALY, "1": ANOMALY}


@dataclasses.dataclass(frozen=True)
class Manifest:
    """A CSV file with a line a recording.

    Attributes:
        path: of the file. Its first line names the columns, in any order, with commas, semicolons
            or tabs between them:

            - path: of the recording, as it is or from the file's folder on; the only one needed.
            - machine, section: "machine" and "00" by default.
            - domain: "source", "target" or empty.
            - attributes: as in "speed=6 load=2".
            - group: what the recording was made with, as the session or the day.
            - split: "train" or "test". Empty: a recording that is labelled anomalous, or not
              labelled in a file that labels others, is scored; others are learned from.
            - label: "normal" or 0, "anomaly" or 1; empty where it is not known.
        columns: names of other columns, whose values are attributes as well.

    Examples:
        >>> str(Manifest("pumps.csv"))
        'pumps.csv'
    """

    path: os.PathLike | str
    columns: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check_path("the manifest", self.path)

    def __str__(self) -> str:
        return os.fspath(self.path)


def manifest_clips(manifest: Manifest) -> Found:
    """Lists the recordings of a manifest.

    Raises:
        UserError: the file is missing or is no such table, with the line and what is wrong.
    """
    others = tuple(name for name in manifest.columns if name not in _COLUMNS)
    rows = _rows(Path(manifest.path), others)
    labelled = any(row["label"] for row in rows.values())
    clips: list[Clip] = []
    seen: dict[str, int] = {}
    for line, row in rows.items():
        clip = _clip(manifest, line, row, labelled, others)
        if clip.path in seen:
            raise UserError(
                f"{manifest}, line {line}: {row['path']} is in line {seen[clip.path]} as well; a "
                "recording is learned from or scored once"
            )
        seen[clip.path] = line
        clips.append(clip)
    table = ClipTable.of(clips)
    lines = [described(table, machine) for machine in table.distinct("machine")]
    return Found(table, lines, [], [], [])


def _rows(path: Path, others: Sequence[str]) -> dict[int, dict[str, str]]:
    """The lines of the file by their numbers, with a text for each known column and the others."""
    rows = dict(csv_lines(path, functools.partial(_check_columns, path, others)))
    if not rows:
        raise UserError(f"{path} lists no recording")
    return {
        line: {name: row.get(name, "") for name in (*_COLUMNS, *others)}
        for line, row in rows.items()
    }


def _check_columns(path: Path, others: Sequence[str], names: Sequence[str]) -> None:
    for name in names:
        if name not in _COLUMNS and name not in others:
            near = difflib.get_close_matches(name, _COLUMNS, n=1)
            hint = f"; did you mean {near[0]}?" if near else ";"
            raise UserError(
                f"{path}: there is no column {name!r}{hint} known are {', '.join(_COLUMNS)}, and "
                f"states that data.state names (--config.data.state={name},)"
            )
    if "path" not in names:
        raise UserError(f"{path} has no column 'path'; its first line must name the columns")


def _clip(
    manifest: Manifest, line: int, row: Mapping[str, str], labelled: bool, others: Sequence[str]
) -> Clip:
    """The recording of a line."""

    def refuse(what: str) -> UserError:
        return UserError(f"{manifest}, line {line}: {what}")

    if not row["path"]:
        raise refuse("the path is empty")
    path = os.path.abspath(os.path.join(os.path.dirname(manifest.path), row["path"]))
    if not os.path.isfile(path):
        raise refuse(f"there is no file {path}")
    label = _LABELS.get(row["label"].lower(), UNLABELLED)
    if row["label"] and label == UNLABELLED:
        raise refuse(f"the label is {row['label']!r}; it must be normal, anomaly or empty")
    if row["domain"] not in ("", "source", "target"):
        raise refuse(f"the domain is {row['domain']!r}; it must be source, target or empty")
    if row["split"] not in ("", "train", "test"):
        raise refuse(f"the split is {row['split']!r}; it must be train, test or empty")
    is_scored = label == ANOMALY or (labelled and label == UNLABELLED)
    split = row["split"] or ("test" if is_scored else "train")
    for name in ("machine", "section"):
        if set(row[name]) & set("/\\") or row[name] in (".", ".."):
            raise refuse(f"the {name} is {row[name]!r}; give a name without slashes")
    return Clip(
        composed(row["machine"]) or "machine",
        row["section"] or SECTION,
        split,
        row["path"].replace("\\", "/"),
        path,
        year=OWN,
        domain=row["domain"],
        label=NORMAL if split == "train" and label == UNLABELLED else label,
        attributes=_attributes(row["attributes"], {name: row[name] for name in others}),
        group=row["group"],
    )


def _attributes(text: str, others: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    """Pairs of "speed=6 load=2" and of other columns, in the order of the names.

    A text without "=" is one value.
    """
    pairs = [part.split("=", 1) for part in text.replace(";", " ").split()]
    if not all(len(pair) == 2 for pair in pairs):
        pairs = [["attributes", text]]
    own = [(name, value) for name, value in pairs if not others.get(name)]
    return tuple(sorted([*own, *((name, value) for name, value in others.items() if value)]))
