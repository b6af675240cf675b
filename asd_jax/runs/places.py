"""Where a run's recordings are: `recordings.csv`, so that its page can be made again."""

import csv
import io
import os
from collections.abc import Iterable, Mapping
from pathlib import Path

from asd_jax.data.clips import HELD_OUT, Clip
from asd_jax.errors import UserError
from asd_jax.runtime.files import atomic_write

_HEADER = ("machine", "section", "split", "clip", "path")
_Key = tuple[str, str, str]


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
    found: dict[tuple[str, ...], None] = {}
    for source in sources:
        for split, places in zip(("train", "test"), read_places(source), strict=True):
            found |= {(*key[:2], split, key[2], place): None for key, place in places.items()}
    _write(path, found)


def _write(path: os.PathLike | str, rows: Iterable[tuple[str, ...]]) -> None:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([_HEADER, *rows])
    with atomic_write(path, "wb") as file:
        file.write(text.getvalue().encode("utf-8", "surrogateescape"))


def read_places(path: os.PathLike | str) -> tuple[Mapping[_Key, str], Mapping[_Key, str]]:
    """Paths of the training and of the test clips, by machine, section and name.

    Both are empty for a run of a version that did not write them.

    Raises:
        UserError: the file is damaged.
    """
    found: dict[str, dict[_Key, str]] = {"train": {}, "test": {}}
    if not Path(path).is_file():
        return found["train"], found["test"]
    try:
        # Names of files may be of any bytes.
        with open(path, newline="", encoding="utf-8", errors="surrogateescape") as file:
            header, *lines = csv.reader(file)
            if tuple(header) != _HEADER:
                raise ValueError(f"its first line is not {','.join(_HEADER)}")
            for machine, section, split, name, place in lines:
                found[split][machine, section, name] = place
    except (ValueError, KeyError, csv.Error) as error:
        raise UserError(f"{path} is damaged: {error}; remove it, and the page does without") from (
            error
        )
    return found["train"], found["test"]
