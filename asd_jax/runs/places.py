"""Where a run's recordings are: `recordings.csv`, so that its page can be made again."""

import csv
import hashlib
import io
import itertools
import os
from collections.abc import Container, Iterable, Iterator, Mapping
from pathlib import Path

from asd_jax.data.clips import HELD_OUT, Clip
from asd_jax.errors import UserError
from asd_jax.runtime.files import atomic_write

_HEADER = ("machine", "section", "split", "clip", "path")
_Key = tuple[str, str, str]
_Row = tuple[str, str, str, str, str]


def write_places(path: os.PathLike | str, clips: Iterable[Clip]) -> None:
    """Writes the paths of training and test clips; changed copies of them are left out."""
    _write(
        path,
        (
            (clip.machine, clip.section, split, clip.name, os.path.abspath(clip.path))
            for clip in clips
            for split in ["train" if clip.split == HELD_OUT else clip.split]
            if split in ("train", "test") and not clip.perturbation
        ),
    )


def join_places(path: os.PathLike | str, sources: Iterable[os.PathLike | str]) -> None:
    """Writes the paths of several runs, each once; UserError if a file is damaged."""
    known: set[bytes] = set()

    def new(row: _Row) -> bool:
        """Whether a line is not there yet; of its text 16 bytes are kept."""
        text = "\0".join(row).encode("utf-8", "surrogateescape")
        count = len(known)
        known.add(hashlib.blake2b(text, digest_size=16).digest())
        return len(known) > count

    _write(path, (row for source in sources for row in _rows(source) if new(row)))


def _write(path: os.PathLike | str, rows: Iterable[_Row]) -> None:
    with atomic_write(path, "wb") as file:
        # Names of files may be of any bytes.
        text = io.TextIOWrapper(file, "utf-8", "surrogateescape", newline="")
        try:
            csv.writer(text, lineterminator="\n").writerows(itertools.chain([_HEADER], rows))
        finally:
            text.detach()  # flushes, and leaves the file open


def read_places(
    path: os.PathLike | str, wanted: Container[_Key] | None = None
) -> tuple[Mapping[_Key, str], Mapping[_Key, str]]:
    """Paths of the training and of the test clips, by machine, section and name.

    Both are empty for a run of a version that did not write them.

    Args:
        path: the file.
        wanted: machine, section and name of the clips to find; all by default.

    Raises:
        UserError: the file is damaged.
    """
    found: dict[str, dict[_Key, str]] = {"train": {}, "test": {}}
    for machine, section, split, name, place in _rows(path):
        if wanted is None or (machine, section, name) in wanted:
            found[split][machine, section, name] = place
    return found["train"], found["test"]


def _rows(path: os.PathLike | str) -> Iterator[_Row]:
    """The lines of a file; none where there is no file."""
    if not Path(path).is_file():
        return
    try:
        with open(path, newline="", encoding="utf-8", errors="surrogateescape") as file:
            lines = csv.reader(file)
            if tuple(next(lines, ())) != _HEADER:
                raise ValueError(f"its first line is not {','.join(_HEADER)}")
            for machine, section, split, name, place in lines:
                if split not in ("train", "test"):
                    raise ValueError(f"there is no split {split!r}")
                yield machine, section, split, name, place
    except (ValueError, csv.Error) as error:
        raise UserError(f"{path} is damaged: {error}; remove it, and the page does without") from (
            error
        )
