"""Clips from their paths: what a file's folders and its name say, in any of the layouts."""

import functools
import os
import re
from pathlib import Path
from typing import NamedTuple, TypedDict

from asd_jax.data.clips import NORMAL, UNLABELLED, Clip
from asd_jax.data.folders import RENAMED, SPLITS
from asd_jax.data.names import LABELS, official_name
from asd_jax.data.years import SUBSET_FOLDER
from asd_jax.runtime.arguments import composed

_ID_FOLDER = re.compile(r"id_(\d\d)")
_ID_SPLITS = ("normal", "abnormal")


class Place(TypedDict):
    """Attributes of a `Clip` that the folder of its machine says."""

    machine: str
    subset: str


@functools.lru_cache(maxsize=1024)  # thousands of clips share a machine's folder
def _place(machine_folder: Path) -> Place | None:
    """Machine and subset, from the folder of the machine."""
    machine = composed(machine_folder.name)
    if machine in ("", "raw", "dev_data", "eval_data"):
        return None
    subsets = (SUBSET_FOLDER.fullmatch(parent.name) for parent in machine_folder.parents)
    nearest = next(filter(None, subsets), None)
    return {"machine": machine, "subset": nearest[1] if nearest else "dev"}


def holds_clips(folder: Path) -> bool:
    """Whether a folder is one of training or test clips."""
    is_of_id = folder.name in _ID_SPLITS and _ID_FOLDER.fullmatch(folder.parent.name)
    return folder.name in SPLITS or bool(is_of_id)


def place_of_folder(folder: Path) -> Place | None:
    """Machine and subset of a folder of training or test clips; None for another folder."""
    if not holds_clips(folder):
        return None
    return _place(folder.parent if folder.name in SPLITS else folder.parent.parent)


def parse_clip(path: os.PathLike | str, root: os.PathLike | str = ".") -> Clip | None:
    """Parses one clip's place in the data set from its path alone.

    Args:
        path: the file, absolute or relative to `root`.
        root: the folder of the data.

    Returns:
        The clip, or None if the path fits no layout. Fields that depend on the whole data set
        are provisional: 2022 stands for 2022 and later, and MIMII's normal clips are "train".
    """
    return clip_in(*os.path.split(os.path.abspath(os.path.join(root, path))))


class _Folder(NamedTuple):
    """What the path of a folder says of the recordings in it.

    Attributes:
        name: the folder's own.
        machine_id: of a MIMII folder of normal or abnormal clips, else None.
        split: of the folders of the challenge, else None.
        place: machine and subset; None where the path does not say them.
    """

    name: str
    machine_id: str | None
    split: str | None
    place: Place | None


@functools.lru_cache(maxsize=1024)  # thousands of clips share a folder
def _folder_of(folder: str) -> _Folder:
    path = Path(folder)
    if (match := _ID_FOLDER.fullmatch(path.parent.name)) and path.name in LABELS:
        place = None if path.name == "anomaly" else _place(path.parent.parent)
        return _Folder(path.name, match[1], None, place)
    return _Folder(path.name, None, SPLITS.get(path.name), _place(path.parent))


def clip_in(folder: str, name: str) -> Clip | None:
    """`parse_clip` of a file's name in a folder, which is absolute."""
    if os.path.splitext(name)[1].lower() != ".wav":
        return None
    its_name, machine_id, split, place = _folder_of(folder)
    if place is None:
        return None
    path = os.path.join(folder, name)
    if machine_id is not None:
        return Clip(
            section=machine_id,
            split="train" if its_name == "normal" else "test",
            name=f"{its_name}/{name}",
            path=path,
            year=0,
            label=LABELS[its_name],
            **place,
        )
    if split is None:
        return None
    named = official_name(name)
    if named is None:
        return None
    if named.by_id:
        if its_name not in ("train", "test", RENAMED):
            return None
        year = 2020
    else:
        by_folder = "" if its_name == RENAMED else its_name.removesuffix(split).rstrip("_")
        if named.split not in (None, split) or (by_folder and by_folder != named.domain):
            return None
        year = 2021 if by_folder else 2022
    return Clip(
        section=named.section,
        split=split,
        name=name,
        path=path,
        year=year,
        domain=named.domain,
        # Training clips are normal by the rules of the challenge, even if the name omits it.
        label=NORMAL if split == "train" and named.label == UNLABELLED else named.label,
        attributes=named.attributes,
        **place,
    )
