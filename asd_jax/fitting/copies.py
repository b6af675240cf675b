"""Recordings that are there more than once, under other names: no copy of a clip tells of it.

Copies are one group: held out, left out and counted together (`Clip.group`). Where one of them is
held out for thresholds, models learn from none of the others, nor from changed copies of them.
"""

from collections.abc import Callable, Hashable, Iterable
from typing import Any

import numpy as np
import xxhash

from asd_jax.data.clips import COPY, HELD_OUT, ClipTable
from asd_jax.data.groups import members_of
from asd_jax.data.levels import Level
from asd_jax.detectors import Detector
from asd_jax.detectors.classes import find_classes
from asd_jax.features.table import Features, FeatureSet
from asd_jax.fitting.layout import groups_of

_LEVEL_DB = 0.01  # beyond the rounding of a level that is summed in other blocks
_NORMAL = ["train", HELD_OUT, "other"]


def with_copies_together(
    detector: Detector, features: Features, report: Callable[[str], None]
) -> Features:
    """The training clips, of which copies have one group and are held out together.

    Where a machine, a section or a class would have nothing left to learn from, its clips are not
    held out.

    Args:
        detector: the system, with the run's configuration.
        features: of the training clips.
        report: called with a line about copies.

    Returns:
        The same features of clips with other groups and splits; without copies, as they are.
    """
    clips = features.clips
    copies = _copies(features, np.flatnonzero(clips.where(split=_NORMAL, perturbation="")))
    if not copies:
        return features
    parts = _merged(clips, copies)
    settled = _Settled.of(detector, clips)
    groups, splits = np.full(len(clips), "", object), np.full(len(clips), "", object)
    moved = 0
    changed = clips.where(split="perturbed")
    for rows in parts:
        # Systems without training score a clip by a fit without its group: others must be left.
        if not detector.config.detector.trains and not settled.can_be_one(rows):
            continue
        first = clips[int(rows[0])]
        names = sorted({clip.group for clip in clips[rows]} - {""})
        groups[rows] = names[0] if names else f"copies of {first.name}"
        is_held = clips[rows].where(split=HELD_OUT)
        if not is_held.any() or is_held.all():
            continue
        own = rows[clips[rows].where(split="train")]
        if settled.can_do_without(own):
            splits[own] = HELD_OUT
            splits[rows[clips[rows].where(split="other")]] = COPY
            moved += len(rows) - int(is_held.sum())
        else:
            splits[rows[is_held]] = "train"
    if changed.any():
        _follow(clips, np.flatnonzero(changed), groups, splits)
    alike = [rows for rows in copies if groups[rows[0]]]
    if not alike:
        return features
    count = sum(map(len, alike)) - len(alike)
    one, other = (clips.path(row) or clips[row].name for row in alike[0][:2].tolist())
    line = (
        f"{count} of the training recordings {'is a copy' if count == 1 else 'are copies'} of "
        f"another one, first {other} of {one}; copies are held out, left out and counted together"
    )
    if moved:
        line += f", {moved} of them with clips held out for thresholds"
    report(line)
    return features.with_clips(_with(_with(clips, "group", groups), "split", splits))


class _Settled:
    """What is learned from: rows of each model's, section's and class's clips."""

    def __init__(self, sets: Iterable[np.ndarray], trained: np.ndarray):
        self._of_row: dict[int, list[int]] = {}
        self._sizes: list[int] = []
        self._left: list[int] = []
        self._trained = trained
        for number, rows in enumerate(sets):
            self._sizes.append(len(rows))
            self._left.append(int(trained[rows].sum()))
            for row in rows.tolist():
                self._of_row.setdefault(row, []).append(number)

    @classmethod
    def of(cls, detector: Detector, clips: ClipTable) -> "_Settled":
        """Of the training clips of a run."""
        own = np.flatnonzero(clips.where(split=["train", HELD_OUT]))
        sets = members_of(find_classes(clips[own], detector.by).labels, own)
        whole, held = groups_of(detector, clips), groups_of(detector, clips, HELD_OUT)
        sets += [np.append(rows, held.get(of, np.zeros(0, int))) for of, rows in whole.items()]
        return cls(sets, clips.where(split="train"))

    def can_be_one(self, rows: np.ndarray) -> bool:
        """Whether no model's clips are all among these, and so a single group."""
        return all(count < self._sizes[i] for i, count in self._counts(rows).items())

    def can_do_without(self, rows: np.ndarray) -> bool:
        """Whether training clips are left everywhere without these, which are taken then."""
        counts = self._counts(rows[self._trained[rows]])
        if any(count >= self._left[i] for i, count in counts.items()):
            return False
        for i, count in counts.items():
            self._left[i] -= count
        return True

    def _counts(self, rows: np.ndarray) -> dict[int, int]:
        counts: dict[int, int] = {}
        for row in rows.tolist():
            for number in self._of_row.get(row, ()):
                counts[number] = counts.get(number, 0) + 1
        return counts


def _copies(features: Features, rows: np.ndarray) -> list[np.ndarray]:
    """Rows of each sound that several clips have, ascending: by their files, or sample by sample.

    Clips of the same length and level are compared frame by frame, so that a copy in another format
    is found as well.
    """
    found: dict[Hashable, list[int]] = {}
    if not isinstance(features, FeatureSet):
        for row in rows.tolist():
            (frames,) = features.read_clips([row])
            found.setdefault(_sound_of(frames), []).append(row)
        return [np.array(own) for own in found.values() if len(own) > 1]
    starts = features.clips.column("start")
    level = Level(*features.levels[rows].T)
    candidates = np.zeros(len(rows), bool)
    for shift in (0.0, _LEVEL_DB / 2):  # two that a limit between steps parts are of one step here
        step = np.floor((np.nan_to_num(level.rms_db) + shift) / _LEVEL_DB)
        facts = np.column_stack([features.n_frames[rows], starts.codes[rows], level.peak, step])
        _, alike = np.unique(facts, axis=0, return_inverse=True)
        candidates |= np.bincount(alike.ravel())[alike.ravel()] > 1
    of_file: dict[Hashable, Hashable] = {}
    for row in rows[candidates].tolist():
        (frames,) = features.read_clips([row])
        start = int(starts.codes[row])
        # Copies of a file may differ by rounding, as frames are computed in batches.
        file = start, features.digests[row].tobytes()
        sound = of_file.setdefault(file, (start, _sound_of(frames)))
        found.setdefault(sound, []).append(row)
    return [np.array(own) for own in found.values() if len(own) > 1]


def _sound_of(frames: np.ndarray) -> Hashable:
    """What tells (frames, width) apart from others."""
    return frames.shape, xxhash.xxh3_128_digest(np.ascontiguousarray(frames).tobytes())


def _merged(clips: ClipTable, copies: list[np.ndarray]) -> list[np.ndarray]:
    """Rows of what belongs together: copies, and what is of one group with them, ascending."""
    members = {name: rows for (name,), rows in clips.groups("group").items() if name}
    normal = clips.where(split=_NORMAL)
    parent: dict[Any, Any] = {}

    def root(node: Any) -> Any:
        while parent.setdefault(node, node) != node:
            node = parent[node]
        return node

    for number, rows in enumerate(copies):
        for row in rows.tolist():
            name = clips[row].group
            parent[root(("group", name) if name else ("row", row))] = root(("sound", number))
    parts: dict[Any, list[int]] = {}
    for node in [*parent]:
        kind, value = node
        own = [value] if kind == "row" else members[value].tolist() if kind == "group" else []
        parts.setdefault(root(node), []).extend(row for row in own if normal[row])
    return [np.sort(np.array(rows)) for rows in parts.values()]


def _follow(clips: ClipTable, changed: np.ndarray, groups: np.ndarray, splits: np.ndarray) -> None:
    """Gives changed copies of clips the group of these; those of clips held out are left."""
    concerned = {clips.path(row): row for row in np.flatnonzero(groups != "").tolist()}
    for row in changed.tolist():
        original = concerned.get(clips.path(row))
        if original is not None:
            groups[row] = groups[original]
            if splits[original] in (HELD_OUT, COPY):
                splits[row] = COPY


def _with(clips: ClipTable, name: str, values: np.ndarray) -> ClipTable:
    """The clips with other values of an attribute; "" leaves it."""
    for value in np.unique(values[values != ""].astype(str)).tolist():
        clips = clips.replace(values == value, **{name: value})
    return clips
