"""The classes of a run's training clips, kept as a file: what a joint network learns to tell apart.

Classes by sound are found once. A run that is continued, also on another machine, whose arithmetic
may put a clip into another cluster, goes on with those of the file.
"""

import itertools
import json
import os
from typing import NamedTuple

import numpy as np

from asd_jax.data.clips import ClipTable
from asd_jax.detectors.classes import class_names, sounds_of, with_sounds
from asd_jax.detectors.joint import Joint
from asd_jax.errors import UserError
from asd_jax.evaluation.row_files import read_rows, write_rows
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


def with_classes(detector: Joint, training: Features, path: os.PathLike | str) -> Features:
    """The training clips with their classes by sound: those of the file, or else found now.

    Several processes call this alike; the first one reads, or finds, what all have.

    Args:
        detector: of the run.
        training: features of its training clips.
        path: of the first process's classes.csv, which may be missing.

    Raises:
        UserError: the file is damaged, or the run was begun with other classes.
    """

    def rows() -> bytes:
        there = os.path.isfile(path)
        found = (
            read_rows(path, ClassRow)
            if there
            else _rows(detector, detector.labelled(training).clips)
        )
        return json.dumps(found).encode()

    begun = [ClassRow(*row) for row in json.loads(distributed.from_primary(rows))]
    learned = _learned(training.clips)
    sounds = np.full(len(training.clips), "", object)
    if len(begun) == len(learned):
        sounds[learned] = [row.by_sound for row in begun]
    here = training.with_clips(with_sounds(training.clips, sounds))
    for old, new in itertools.zip_longest(begun, _rows(detector, here.clips)):
        if old != new:
            first = old or new
            raise UserError(
                f"{path}: the run was begun with other classes, first of {first.machine} "
                f"{first.section} {first.clip} ({old.class_name if old else 'none'} there, "
                f"{new.class_name if new else 'none'} here); choose another --out_dir"
            )
    return here


def write_classes(path: os.PathLike | str, detector: Joint, clips: ClipTable) -> None:
    """Writes classes.csv of training clips, from `with_classes`."""
    write_rows(path, ClassRow, _rows(detector, clips))


def _rows(detector: Joint, clips: ClipTable) -> list[ClassRow]:
    own = clips[_learned(clips)]
    parts = zip(own, sounds_of(own), class_names(own, detector.by), strict=True)
    return [
        ClassRow(clip.machine, clip.section, clip.domain, clip.name, sound, name)
        for clip, sound, name in parts
    ]


def _learned(clips: ClipTable) -> np.ndarray:
    """Indices of the clips that have classes: all but supplemental ones."""
    return np.flatnonzero(clips.where(split=["train", "other"]))
