"""Streams to be watched: from folders, their subfolders, a table, or standard input."""

import difflib
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from asd_jax.data.csv_lines import csv_lines
from asd_jax.deploy.watch.pcm import STANDARD_INPUT, PcmFormat, format_name, is_pipe
from asd_jax.errors import UserError
from asd_jax.fitting.fitted import Fitted
from asd_jax.fitting.judging import check_states, given_states
from asd_jax.fitting.layout import Group

_COLUMNS = ("stream", "path", "machine", "section", "pcm", "rate", "channels", "state")
# What may stand between a machine and its section in a folder's name, as in fan_id_00.
_BETWEEN = re.compile(r"[ _.-]+(?:id|section)?[ _.-]*", re.IGNORECASE)
STDIN_NAME = "stdin"


class Stream(NamedTuple):
    """A stream: one machine, heard by one microphone or array.

    Attributes:
        name: unique.
        path: of a folder or a named pipe; "-" for standard input.
        group: machine and section, from `Fitted.resolve`.
        pcm: how samples are written; None of a folder of recordings.
        state: of the machine all the time, as in `Clip`; "" for what names or side files of
            recordings say.
    """

    name: str
    path: str
    group: Group
    pcm: PcmFormat | None = None
    state: str = ""


class Named(NamedTuple):
    """What is said of all streams alike: machine, section, and how PCM is written."""

    machine: str | None = None
    section: str | None = None
    pcm: PcmFormat | None = None


def group_of(fitted: Fitted, name: str, machine: str | None, section: str | None) -> Group:
    """Machine and section of a stream, by what is given, else by its name, else the only ones.

    Args:
        fitted: of the run.
        name: of the stream or its folder, as "fan", "fan_00", "fan-id_00" or "line 3/fan_00".
        machine: as given.
        section: as given.

    Raises:
        UserError: nothing says which one it is, or it was not fitted.
    """
    last = name.replace("\\", "/").rsplit("/", 1)[-1]
    if machine is None:
        fits = [each for each in fitted.machines if _starts(last, each)]
        if fits:
            machine = max(fits, key=len)
            section = section or _section(fitted, machine, last[len(machine) :])
    elif section is None and _starts(last, machine):
        section = _section(fitted, machine, last[len(machine) :])
    try:
        return fitted.resolve(machine, section)
    except UserError as error:
        raise UserError(
            f"stream {name}: {error}; name the folder so, as fan_00, or say it in the columns "
            "machine and section of --streams=TABLE.csv"
        ) from None


def _starts(text: str, machine: str) -> bool:
    rest = text[len(machine) :]
    return text.startswith(machine) and (not rest or _BETWEEN.match(rest) is not None)


def _section(fitted: Fitted, machine: str, rest: str) -> str | None:
    """The section that the rest of a name says; None where it says none."""
    sections = fitted.sections_of(machine) if machine in fitted.machines else None
    said = _BETWEEN.sub("", rest, count=1)
    return said if said and sections is not None and said in sections else None


def folder_streams(
    fitted: Fitted, folders: Sequence[str], named: Named, *, subfolders: bool = False
) -> list[Stream]:
    """Streams of folders of recordings.

    Args:
        fitted: of the run.
        folders: paths.
        named: what is said of all of them.
        subfolders: whether each folder has a subfolder a stream.

    Raises:
        UserError: no such folder, or no subfolder; a machine or section is not known.
    """
    streams = []
    for folder in folders:
        if is_pipe(folder):
            streams.append(_pipe(fitted, os.path.basename(folder), folder, named))
            continue
        if not os.path.isdir(folder):
            what = "is a file; give its folder" if os.path.exists(folder) else "does not exist"
            raise UserError(f"{folder} {what}")
        if not subfolders:
            name = os.path.basename(os.path.abspath(folder)) or folder
            group = group_of(fitted, name, named.machine, named.section)
            streams.append(Stream(name, folder, group))
            continue
        names = sorted(
            entry.name
            for entry in os.scandir(folder)
            if entry.is_dir() and not entry.name.startswith(".")
        )
        if not names:
            raise UserError(f"{folder} has no subfolder; without --stream_folders it is a stream")
        for name in names:
            group = group_of(fitted, name, named.machine, named.section)
            streams.append(Stream(name, os.path.join(folder, name), group))
    return streams


def stdin_stream(fitted: Fitted, named: Named) -> Stream:
    """The stream of raw PCM from standard input."""
    return _pipe(fitted, STDIN_NAME, STANDARD_INPUT, named)


def _pipe(fitted: Fitted, name: str, path: str, named: Named) -> Stream:
    if named.pcm is None:
        raise UserError(f"{path} is a named pipe; say how its samples are written: --pcm=s16le …")
    return Stream(name, path, group_of(fitted, name, named.machine, named.section), named.pcm)


def table_streams(fitted: Fitted, path: str, named: Named) -> list[Stream]:
    """Streams of a CSV file, whose first line names its columns.

    - path: of a folder of recordings or of a named pipe, from the table's folder on; "-" for
      standard input. The only column that is needed.
    - stream: its name; the last part of the path by default.
    - machine, section: by default as the stream's name says.
    - pcm, rate, channels: how samples of a pipe are written; as --pcm, --rate, --channels by
      default.
    - state: of the machine all the time, as speed=1500,load=2; by default as names or side files
      of recordings say.

    Raises:
        UserError: the file is missing or no such table; with the line and what is wrong.
    """
    streams = []
    for line, row in _rows(Path(path)).items():
        try:
            streams.append(_of_row(fitted, Path(path).parent, row, named))
        except UserError as error:
            raise UserError(f"{path}, line {line}: {error}") from None
    return streams


def _of_row(fitted: Fitted, folder: Path, row: Mapping[str, str], named: Named) -> Stream:
    if not row["path"]:
        raise UserError("the path is empty")
    standard = row["path"] == STANDARD_INPUT
    place = row["path"] if standard else os.path.join(folder, os.path.expanduser(row["path"]))
    default = STDIN_NAME if standard else os.path.basename(os.path.abspath(place))
    name = row["stream"] or default
    group = group_of(fitted, name, row["machine"] or named.machine, row["section"] or named.section)
    (state,) = given_states(row["state"], 1)
    check_states(fitted, group, [state])
    written = [row["pcm"], row["rate"], row["channels"]]
    if not standard and not is_pipe(place) and not any(written):
        if os.path.isfile(place):
            raise UserError(f"{place} is a file; give its folder, or a named pipe")
        return Stream(name, place, group, state=state)
    if os.path.isdir(place):
        raise UserError(f"{place} is a folder, for which pcm, rate and channels have no use")
    return Stream(name, place, group, _format_of(row, named.pcm), state)


def _format_of(row: Mapping[str, str], default: PcmFormat | None) -> PcmFormat:
    """How samples of a row's pipe are written."""
    numbers = {}
    for column, own in (("rate", "sample_rate"), ("channels", "channels")):
        text = row[column]
        if text and not (text.isdecimal() and int(text) > 0):
            raise UserError(f"{column} is {text!r}; it must be a whole number above 0")
        numbers[own] = int(text) if text else getattr(default, own, None)
    name = format_name(row["pcm"]) if row["pcm"] else getattr(default, "name", None)
    if name is None or numbers["sample_rate"] is None:
        raise UserError("a pipe needs pcm and rate, in the table or as --pcm and --rate")
    return PcmFormat(name, numbers["sample_rate"], numbers["channels"] or 1)


def _rows(path: Path) -> dict[int, dict[str, str]]:
    """The lines of a table by their numbers, with a text for each known column."""

    def check(names: Sequence[str]) -> None:
        for name in names:
            if name not in _COLUMNS:
                near = difflib.get_close_matches(name, _COLUMNS, n=1)
                hint = f"; did you mean {near[0]}?" if near else ";"
                raise UserError(
                    f"{path}: there is no column {name!r}{hint} known are {', '.join(_COLUMNS)}"
                )
        if "path" not in names:
            raise UserError(f"{path} has no column 'path'; its first line must name the columns")

    rows = dict(csv_lines(path, check))
    if not rows:
        raise UserError(f"{path} lists no stream")
    return {line: {name: row.get(name, "") for name in _COLUMNS} for line, row in rows.items()}


def check_names(streams: Sequence[Stream]) -> None:
    """Raises UserError for two streams of one name, or of one path, or too many on stdin."""
    for what, values in (
        ("name", [stream.name for stream in streams]),
        ("path", [os.path.abspath(s.path) if s.path != "-" else "-" for s in streams]),
    ):
        twice = [value for value in dict.fromkeys(values) if values.count(value) > 1]
        if twice:
            raise UserError(f"two streams have the {what} {twice[0]}; give each its own")
