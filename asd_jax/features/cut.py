"""Long recordings cut into clips of one length, by their features."""

import dataclasses
import re

import numpy as np

from asd_jax.data.clips import HELD_OUT, Clip, ClipTable
from asd_jax.errors import UserError
from asd_jax.features.request import ClipFrontEnd
from asd_jax.features.table import FeatureSet


def n_pieces(
    n_frames: np.ndarray, front_end: ClipFrontEnd, seconds: float, min_frames: int
) -> np.ndarray:
    """Clips that recordings are cut into, of about so many seconds each.

    All clips of a recording are equally long, and nothing of it is left over: a recording of 26 s
    makes three clips of 8.7 s where 10 are asked for, and one of 14 s stays whole.

    Args:
        n_frames: (recordings,) frames of each.
        front_end: what made them.
        seconds: of a clip.
        min_frames: frames that a clip needs.

    Returns:
        int (recordings,), at least 1.

    Raises:
        UserError: clips of so many seconds are too short.
    """
    frames = seconds * front_end.sample_rate / front_end.hop_length
    if frames < min_frames:
        raise UserError(
            f"data.clip_seconds is {seconds:g}, and the system needs clips of "
            f"{min_frames * front_end.hop_length / front_end.sample_rate:.2g} s; raise it"
        )
    n_frames = np.asarray(n_frames)
    pieces = np.minimum(np.rint(n_frames / frames), n_frames // min_frames)
    return np.maximum(1, pieces).astype(np.int64)


def cut(
    features: FeatureSet, front_end: ClipFrontEnd, seconds: float, min_frames: int
) -> FeatureSet:
    """Cuts recordings into clips of about so many seconds, by `n_pieces`.

    Clips of one recording are a group, as they resemble each other; a machine that has one normal
    recording only is left without groups.

    Args:
        features: of whole recordings.
        front_end: what made them.
        seconds: of a clip.
        min_frames: frames that a clip needs.

    Returns:
        The same frames, of more clips. A clip's name is that of its recording and its time, as
        "monday.flac@120-130s".

    Raises:
        UserError: clips would be too short.
    """
    pieces = n_pieces(features.n_frames, front_end, seconds, min_frames)
    rows = np.repeat(np.arange(len(pieces)), pieces)  # (clips,) recording of each clip
    number = np.arange(len(rows)) - np.repeat(np.cumsum(pieces) - pieces, pieces)
    n_frames = features.n_frames[rows].astype(np.int64)
    first, last = (place * n_frames // pieces[rows] for place in (number, number + 1))
    frame = front_end.hop_length / front_end.sample_rate
    single = _single(features.clips)
    clips = [
        _piece(clip, a * frame, b * frame, alone) if several else clip
        for clip, a, b, alone, several in zip(
            features.clips[rows],
            first.tolist(),
            last.tolist(),
            single[rows].tolist(),
            (pieces[rows] > 1).tolist(),
            strict=True,
        )
    ]
    return dataclasses.replace(
        features,
        clips=ClipTable.of(clips),
        n_frames=(last - first).astype(features.n_frames.dtype),
        digests=features.digests[rows],
        levels=features.levels[rows],
        _entry=features._entry[rows],
        _rows=features._rows[rows] + first,
    )


def _piece(clip: Clip, start: float, stop: float, alone: bool) -> Clip:
    group = clip.group or ("" if alone else clip.path)
    name = piece_name(clip.name, start, stop)
    return dataclasses.replace(clip, name=name, start=round(start, 3), group=group)


def piece_name(name: str, start: float, stop: float) -> str:
    """The name of a clip that is cut from a recording, by its time in seconds.

    Examples:
        >>> piece_name("monday.flac", 119.98, 130.02)
        'monday.flac@120-130s'
    """
    digits = 1 if stop - start >= 1 else 3
    return f"{name}@{round(start, digits):g}-{round(stop, digits):g}s"


def span_of(name: str) -> tuple[float, float] | None:
    """Start and end in seconds of a clip that was cut from a recording; None of a whole one.

    Examples:
        >>> span_of("monday.flac@120-130s"), span_of("monday.flac")
        ((120.0, 130.0), None)
    """
    match = re.search(r"@([0-9.]+)-([0-9.]+)s$", name)
    return (float(match[1]), float(match[2])) if match else None


def _single(clips: ClipTable) -> np.ndarray:
    """bool (recordings,), true of the only normal one of its machine."""
    single = np.zeros(len(clips), bool)
    normal = clips.where(split=["train", HELD_OUT])
    for rows in clips.groups("machine", rows=normal).values():
        single[rows] = len(rows) == 1
    return single
