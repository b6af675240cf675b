"""Supplemental clips of 2025: the noise around a machine without the machine, or it without noise.

They lie in a folder `supplemental` beside a machine's `train`.
"""

import re
from collections.abc import Sequence
from pathlib import Path

from asd_jax.data.clips import NORMAL, Clip, ClipTable

SPLIT = "supplemental"
NOISE = "noise"  # in the names of clips of the noise alone
_SECTION = re.compile(r"section_(\d+)")


def is_noise(clip: Clip) -> bool:
    """Whether the name of a supplemental clip says that it is of the noise alone."""
    return NOISE in clip.name.lower()


def supplemental_clips(paths: Sequence[str], clips: ClipTable) -> ClipTable:
    """Makes clips of supplemental recordings, with "supplemental" as their split.

    Args:
        paths: of the recordings, from `layouts.scan`.
        clips: of the data set; recordings of other machines than theirs are left out.
    """
    # The folder of a machine, from one of its training clips.
    of_folders = {}
    for rows in clips.groups(
        "machine", "subset", "folder", rows=clips.where(split="train")
    ).values():
        of_folders[Path(clips.path(rows[0])).parents[1]] = clips[rows[0]]
    found = []
    for path in map(Path, paths):
        own = of_folders.get(path.parents[1])
        if own is None:
            continue
        section = _SECTION.search(path.name)
        found.append(
            Clip(
                *(own.machine, section[1] if section else "", SPLIT, path.name, str(path)),
                year=own.year,
                subset=own.subset,
                label=NORMAL,
            )
        )
    return ClipTable.of(found)
