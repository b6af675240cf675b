"""Classes that a network learns to tell apart: all that is known of normal clips.

A class is a machine, a section, the attributes of the file names, and the domain. Clips of a
section without attributes can be given classes by how they sound (`with_pseudo_attributes`).
"""

from collections.abc import Iterator, Sequence
from typing import Literal, NamedTuple

import jax.numpy as jnp
import numpy as np

from asd_jax.audio import FrontEnd
from asd_jax.audio.waveform_blocks import samples_of
from asd_jax.data.clips import ClipTable
from asd_jax.data.groups import PSEUDO
from asd_jax.data.recordings import Waveform
from asd_jax.errors import UserError
from asd_jax.features.frames import frame_blocks
from asd_jax.features.table import Features

By = Literal["machine", "section", "attributes", "domain"]

# Clips of a class below which little is learned of it; ten target clips are usual.
_FEW = 5
_READ_TOGETHER = 256  # clips


class Classes(NamedTuple):
    """The classes of some clips.

    Attributes:
        keys: of each class, its values of what classes are told apart by.
        labels: int32 (clips,) index of each clip's class.
    """

    keys: list[tuple]
    labels: np.ndarray


def find_classes(clips: ClipTable, by: Sequence[By]) -> Classes:
    """Numbers the classes of clips, in the order of their names.

    Args:
        clips: the clips.
        by: what tells classes apart.

    Examples:
        >>> from asd_jax.data.clips import Clip
        >>> speeds = [(("speed", speed),) for speed in "2112"]
        >>> clips = [Clip("fan", "00", "train", "", "", attributes=speed) for speed in speeds]
        >>> found = find_classes(ClipTable.of(clips), ("machine", "attributes"))
        >>> found.keys, found.labels.tolist()
        ([('fan', (('speed', '1'),)), ('fan', (('speed', '2'),))], [1, 0, 0, 1])
    """
    groups = clips.groups(*by)
    labels = np.zeros(len(clips), np.int32)
    keys = sorted(groups)
    for number, key in enumerate(keys):
        labels[groups[key]] = number
    return Classes(keys, labels)


def check_several(clips: ClipTable, by: Sequence[By], pseudo_classes: int) -> None:
    """Raises UserError where training clips are all of one class.

    Args:
        clips: the training clips.
        by: what tells classes apart.
        pseudo_classes: of a section without attributes, which are not made yet.
    """
    keys = find_classes(clips, by).keys
    to_come = pseudo_classes and bool(_without(clips))
    if len(keys) > 1 or to_come:
        return
    raise UserError(
        f"all training clips are of one class ({_name(keys[0])}), and a network that tells classes "
        "apart needs two: give recordings of more machines, sections or settings, or tell more "
        "apart (--config.detector.classes, or --config.detector.pseudo_classes=16 by sound)"
    )


def describe_classes(clips: ClipTable, by: Sequence[By], pseudo_classes: int) -> list[str]:
    """Lines about the classes of training clips, and warnings where they are few or small.

    Args:
        clips: the training clips.
        by: what tells classes apart.
        pseudo_classes: of a section without attributes; not made yet where one lacks some.
    """
    classes = find_classes(clips, by)
    counts = np.bincount(classes.labels)
    told = ", ".join(by[:-1]) + " and " * (len(by) > 1) + by[-1]
    lines = [f"classes  {len(counts)}, by {told}, of {describe_span(counts)}"]
    machines = clips.groups("machine")
    width = max(len(machine) for (machine,) in machines)
    for (machine,), rows in sorted(machines.items()):
        own = np.unique(classes.labels[rows])
        sections = len(clips[rows].distinct("section"))
        lines.append(
            f"  {machine:<{width}}  {len(own)} in {sections} section{'s' * (sections > 1)}, of "
            f"{describe_span(counts[own])}"
        )
    if bare := sorted(_without(clips)):
        where = f"{len(bare)} section{'s' * (len(bare) > 1)} without attributes, first " + " ".join(
            bare[0]
        )
        if pseudo_classes:
            lines.append(f"{where}: up to {pseudo_classes} classes each, by their sound")
        elif "attributes" in by:
            lines.append(
                f"{where}: a class each; --config.detector.pseudo_classes=16 makes more, by sound"
            )
    small = np.flatnonzero(counts < _FEW)
    if len(small):
        lines.append(
            f"{len(small)} of {len(counts)} classes have fewer than {_FEW} clips, too few to learn "
            f"much from, first {_name(classes.keys[small[0]])}"
        )
    return lines


def with_pseudo_attributes(features: Features, pseudo_classes: int, sample_rate: int) -> Features:
    """Gives clips of sections without attributes one: the cluster of their mean log-mel spectrum.

    Clusters are by k-means with scikit-learn's draws of seed 0, of standardised bands.

    Args:
        features: blocks of samples of the training clips.
        pseudo_classes: clusters of a section, at most one for two clips.
        sample_rate: in Hz.
    """
    from sklearn.cluster import KMeans  # slow to import

    clips = features.clips
    sounds = np.full(len(clips), "", object)
    for rows in _without(clips).values():
        count = max(1, min(pseudo_classes, len(rows) // 2))
        spectra = _mean_spectra(features, rows, sample_rate)  # (clips, bands)
        scaled = (spectra - spectra.mean(axis=0)) / np.maximum(spectra.std(axis=0), 1e-3)
        found = KMeans(count, n_init=10, random_state=0).fit(scaled).labels_
        sounds[rows] = [f"{cluster:02}" for cluster in found]
    return features.with_clips(with_sounds(clips, sounds))


def with_sounds(clips: ClipTable, sounds: np.ndarray) -> ClipTable:
    """The clips, of which those with a class by sound have it as their attribute.

    Args:
        clips: the clips.
        sounds: (clips,) text of each class by sound; "" for none.
    """
    for sound in np.unique(sounds[sounds != ""].astype(str)).tolist():
        clips = clips.replace(sounds == sound, attributes=((PSEUDO, sound),))
    return clips


def sounds_of(clips: ClipTable) -> list[str]:
    """The class by sound of each clip; "" for none."""
    return [dict(clip.attributes).get(PSEUDO, "") for clip in clips]


def class_names(clips: ClipTable, by: Sequence[By]) -> list[str]:
    """The name of each clip's class, as in "fan 00 speed=2 target"."""
    keys, labels = find_classes(clips, by)
    names = [_name(key) for key in keys]
    return [names[label] for label in labels.tolist()]


def _without(clips: ClipTable) -> dict[tuple, np.ndarray]:
    """Rows of the clips of each machine and section that has no attributes."""
    groups = clips.groups("machine", "section", rows=clips.where(split=["train", "other"]))
    return {
        section: rows
        for section, rows in groups.items()
        if clips[rows].distinct("attributes") == [()]
    }


def _mean_spectra(features: Features, rows: np.ndarray, sample_rate: int) -> np.ndarray:
    """(clips, bands) mean over time of each clip's log-mels, in dB."""
    front_end = FrontEnd(sample_rate)

    def waveforms() -> Iterator[tuple[int, Waveform]]:
        for first in range(0, len(rows), _READ_TOGETHER):
            part = rows[first : first + _READ_TOGETHER]
            for i, blocks in enumerate(features.read_clips(part)):
                yield first + i, Waveform.of(np.asarray(samples_of(jnp.asarray(blocks))))

    means = [
        np.concatenate([*blocks]).mean(axis=0) for _, blocks in frame_blocks(waveforms(), front_end)
    ]
    return np.stack(means).astype(np.float64)


def _name(key: tuple) -> str:
    """A class in words: "fan 00 speed=2 target"."""
    words = []
    for value in key:
        if isinstance(value, tuple):
            words += [f"{name}={own}" for name, own in value]
        else:
            words.append(value)
    return " ".join(filter(None, words))


def describe_span(counts: np.ndarray) -> str:
    """Numbers of clips in words: "3 to 10 clips"."""
    low, high = int(counts.min()), int(counts.max())
    return f"{low} clip{'s' * (low != 1)}" if low == high else f"{low} to {high} clips"
