"""The classes of a run's training clips, kept as a file: what a joint network learns to tell apart.

Classes by sound are found once. A run that is continued, also on another machine, whose arithmetic
may put a clip into another cluster, goes on with those of the file.
"""

import json
import os
from typing import NamedTuple

import numpy as np

from asd_jax.data.clips import ClipTable
from asd_jax.detectors.classes import class_names, sounds_of, with_sounds
from asd_jax.detectors.joint import Joint
from asd_jax.evaluation.results import read_rows, write_rows
from asd_jax.features.table import Features
from asd_jax.runtime import distributed


class ClassRow(NamedTuple):
    """The class of one training clip; a line of classes.csv.

    Attributes:
        machine: machine type.
        section: machine id or section.
        domain: "source", "target", or "" where the data has no domains.
        clip: file name.
        by_sound: number of its class by sound; "" where its class is by what is known of it.
        class_name: of its class.
    """

    machine: str
    section: str
    domain: str
    clip: str
    by_sound: str
    class_name: str


def labelled(detector: Joint, training: Features, path: os.PathLike | str) -> Features:
    """The training clips with their classes by sound: those of the file, or else found anew.

    Args:
        detector: of the run.
        training: features of its training clips.
        path: of the first process's classes.csv, which may be missing.

    Raises:
        UserError: the file is damaged.
    """

    def stored() -> bytes:
        if not os.path.isfile(path):
            return b""
        rows = read_rows(path, ClassRow)
        return json.dumps(
            [(row.machine, row.section, row.clip, row.by_sound) for row in rows]
        ).encode()

    if data := distributed.from_primary(stored):
        rows, learned = json.loads(data), _learned(training.clips)
        here = [[clip.machine, clip.section, clip.name] for clip in training.clips[learned]]
        if [place for *place, _ in rows] == here:
            sounds = np.full(len(training.clips), "", object)
            sounds[learned] = [sound for *_, sound in rows]
            return training.with_clips(with_sounds(training.clips, sounds))
    return detector.labelled(training)


def write_classes(path: os.PathLike | str, detector: Joint, clips: ClipTable) -> None:
    """Writes classes.csv."""
    own = clips[_learned(clips)]
    parts = zip(own, sounds_of(own), class_names(own, detector.by), strict=True)
    rows = (
        ClassRow(clip.machine, clip.section, clip.domain, clip.name, sound, name)
        for clip, sound, name in parts
    )
    write_rows(path, ClassRow, rows)


def _learned(clips: ClipTable) -> np.ndarray:
    """Indices of the clips that have classes: all but supplemental ones."""
    return np.flatnonzero(clips.where(split=["train", "other"]))
