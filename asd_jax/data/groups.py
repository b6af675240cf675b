"""Groups of clips that were recorded together, and the clips that are kept apart from a fit."""

import contextlib
import dataclasses
import hashlib
import json
import os
import re
from collections.abc import Hashable, Sequence
from pathlib import Path

import numpy as np

from asd_jax.data.clips import Clip, ClipTable
from asd_jax.errors import UserError

GROUP_FILE = "group.json"  # beside recordings that are one group, which it names
PSEUDO = "pseudo"  # attribute of clips whose class is by their sound


def with_groups(clips: ClipTable, group: str) -> ClipTable:
    """The clips, of which the training clips have the names of their groups.

    Args:
        clips: the clips.
        group: `DataConfig.group`.

    Raises:
        UserError: the name or the attributes of a training clip do not tell its group.

    Examples:
        >>> names = ("day1_0.wav", "day1_1.wav", "day2_0.wav")
        >>> clips = ClipTable.of([Clip("fan", "00", "train", name, "") for name in names])
        >>> [clip.group for clip in with_groups(clips, "day([0-9])_")]
        ['1', '1', '2']
    """
    if not group:
        return clips
    return ClipTable.of(
        dataclasses.replace(clip, group=_group_of(clip, group)) if clip.split == "train" else clip
        for clip in clips
    )


def _group_of(clip: Clip, group: str) -> str:
    if "(" in group:
        match = re.search(group, clip.path or clip.name)
        own, known = match[1] if match else None, ""
    else:
        own = dict(clip.attributes).get(group)
        known = f"; its attributes: {', '.join(name for name, _ in clip.attributes) or 'none'}"
    if not own:
        raise UserError(
            f"data.group={group}: {clip.path or clip.name} does not tell its group{known}"
        )
    return own


def group_beside(path: os.PathLike | str) -> str:
    """The name of the group of all recordings in a folder, by `GROUP_FILE` in it; "" without one.

    Args:
        path: of a recording.
    """
    with contextlib.suppress(OSError, ValueError):
        known = json.loads((Path(path).parent / GROUP_FILE).read_text(encoding="utf-8"))
        if isinstance(known, dict) and isinstance(known.get("group"), str):
            return known["group"]
    return ""


def group_numbers(clips: Sequence[Clip]) -> np.ndarray:
    """int (clips,) from 0, equal for clips of one group; a clip without a group is by itself.

    Examples:
        >>> clips = [Clip("fan", "00", "train", "", "", group=own) for own in ("b", "", "b", "")]
        >>> group_numbers(clips).tolist()
        [0, 1, 0, 2]
    """
    numbers: dict[Hashable, int] = {}
    names = [clip.group or (i,) for i, clip in enumerate(clips)]
    return np.array([numbers.setdefault(name, len(numbers)) for name in names], np.int64)


def recording_numbers(clips: ClipTable) -> np.ndarray:
    """int (clips,) from 0, equal for clips of one group or one recording, as its changed copies.

    Examples:
        >>> clip = Clip("fan", "00", "train", "a.wav", "fan/a.wav")
        >>> faster = dataclasses.replace(clip, split="perturbed", perturbation="resample 1.1")
        >>> other = dataclasses.replace(clip, name="b.wav", path="fan/b.wav")
        >>> recording_numbers(ClipTable.of([clip, other, faster])).tolist()
        [0, 1, 0]
    """
    groups = clips.column("group")
    changed = clips.distinct("perturbation") != [""]
    if not changed and groups.distinct() == [""]:
        return np.arange(len(clips))
    numbers: dict[Hashable, int] = {}
    names: list[Hashable] = [groups.values[code] for code in groups.codes.tolist()]
    starts = clips.column("start")
    for row in np.flatnonzero(clips.where(group="")).tolist():
        path = clips.path(row) if changed else ""
        names[row] = (path, starts.values[starts.codes[row]]) if path else row
    return np.array([numbers.setdefault(name, len(numbers)) for name in names], np.int64)


def hold_out(
    clips: ClipTable, labels: np.ndarray, share: float, together: Sequence[str] = ("machine",)
) -> np.ndarray:
    """Chooses clips that no model is fitted to, evenly of all that is known of them.

    A clip's turn comes by its place among those of its machine, section, attributes and domain, in
    the order of a digest of its number within the section. So the choice does not depend on other
    machines, on seeds, on names, or on what a network tells apart, and a larger share holds out the
    same clips and more. Groups are chosen as a whole, among all that a network learns from.

    Args:
        clips: training clips.
        labels: int (clips,), of which some clips stay each.
        share: of each section, at least one clip; where clips have groups, of all that a network
            learns from, at least one group; 0 for none.
        together: attributes that clips of one network share: with its groups named, a group is held
            out of all sections, or machines, that are learned together.

    Returns:
        bool (clips,).

    Examples:
        >>> names = map(str, range(20))
        >>> clips = ClipTable.of([Clip("fan", "00", "train", name, "") for name in names])
        >>> tenth, fifth = (hold_out(clips, np.zeros(20, int), share) for share in (0.1, 0.2))
        >>> int(tenth.sum()), int(fifth.sum()), bool(np.all(fifth[tenth]))
        (2, 4, True)
    """
    held = np.zeros(len(clips), bool)
    if not share:
        return held
    turns = np.zeros(len(clips))
    of_clip = np.zeros(len(clips), np.int64)  # each clip's group, among all
    n_groups = 0
    has_groups = any(clips.distinct("group"))
    for rows in clips.groups(*(together if has_groups else ("machine", "section"))).values():
        numbers = group_numbers(clips[rows])
        of_clip[rows] = numbers + n_groups
        groups = members_of(numbers, rows)
        n_groups += len(groups)
        digests = [hashlib.sha256(f"{number}".encode()).digest() for number in range(len(groups))]
        firsts = [*clips[np.array([own[0] for own in groups])]]
        alike: dict[Hashable, list[int]] = {}
        for number in sorted(range(len(groups)), key=digests.__getitem__):
            first = firsts[number]
            # Classes by sound come later, and may be others elsewhere.
            known = (pair for pair in first.attributes if pair[0] != PSEUDO)
            facts = first.machine, first.section, first.domain, *known
            alike.setdefault(facts, []).append(number)
        turn = np.zeros(len(groups))
        for own in alike.values():
            turn[own] = (np.arange(len(own)) + 0.5) / len(own)
        turns[rows] = turn[numbers]
        wanted, count = max(1, round(share * len(rows))), 0
        for number in sorted(range(len(groups)), key=lambda i: (turn[i], digests[i])):
            if count >= wanted:
                break
            held[groups[number]] = True
            count += len(groups[number])
    by_group = np.argsort(of_clip, kind="stable")
    sizes = np.bincount(of_clip)
    ends = np.cumsum(sizes)
    for of_label in members_of(np.unique(labels, return_inverse=True)[1]):
        if held[of_label].all():
            group = of_clip[of_label[np.argmax(turns[of_label])]]
            held[by_group[ends[group] - sizes[group] : ends[group]]] = False
    return held


def members_of(numbers: np.ndarray, rows: np.ndarray | None = None) -> list[np.ndarray]:
    """The members of each group, ascending.

    Args:
        numbers: int (clips,) from 0, each clip's group; none is without a clip.
        rows: (clips,) what is given of each clip, ascending; by default its place.

    Examples:
        >>> [own.tolist() for own in members_of(np.array([1, 0, 1]))]
        [[1], [0, 2]]
    """
    if not len(numbers):
        return []
    order = np.argsort(numbers, kind="stable")
    ordered = order if rows is None else rows[order]
    return np.split(ordered, np.cumsum(np.bincount(numbers))[:-1])
