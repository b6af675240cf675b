"""Supplemental clips of 2025: the noise around a machine without the machine, or it without noise.

They lie in a folder `supplemental` beside a machine's `train`.
"""

import re
from collections.abc import Sequence
from pathlib import Path

from asd_jax.data.clips import NORMAL, Clip, ClipTable
from asd_jax.runtime.arguments import composed

SPLIT = "supplemental"
_SECTION = re.compile(r"section_(\d+)")


def supplemental_clips(paths: Sequence[str], clips: ClipTable) -> ClipTable:
    """Makes clips of supplemental recordings, with "supplemental" as their split.

    Args:
        paths: of the recordings, from `layouts.scan`.
        clips: of the data set; recordings of other machines than theirs are left out.
    """
    of_machines = clips.groups("machine", "subset")
    found = []
    for path in paths:
        machine = composed(Path(path).parents[1].name)
        section = _SECTION.search(Path(path).name)
        for (name, subset), rows in of_machines.items():
            if name == machine and Path(clips.path(rows[0])).parents[1] == Path(path).parents[1]:
                year = clips[rows[0]].year
                number = section[1] if section else ""
                found.append(
                    Clip(
                        *(machine, number, SPLIT, Path(path).name, path),
                        year=year,
                        subset=subset,
                        label=NORMAL,
                    )
                )
    return ClipTable.of(found)
