"""The table of clips: one row a recording, the same for every challenge year."""

import dataclasses
import itertools
import operator
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from typing import Any, overload

import numpy as np

from asd_jax.data.columns import (
    Categorical,
    CategoricalBuilder,
    Strings,
    StringsBuilder,
    group_rows,
    sorted_order,
)

NORMAL, ANOMALY, UNLABELLED = 0, 1, -1
HELD_OUT = "held out"  # a split
UNFITTED = "unfitted"  # a split: of clips whose state nothing is learned from
COPY = "copy"  # a split: of clips of which nothing is learned, as their originals are held out
OWN = -1  # the year of recordings in folders of one's own


@dataclasses.dataclass(frozen=True, order=True)
class Clip:
    """One recording.

    Attributes:
        machine: machine type, for example "fan".
        section: machine id (2020, MIMII) or section (2021 and later), for example "00".
        split: "train" or "test"; "other" for training clips of a machine without a model of its
            own, from which another machine's model learns; "perturbed" for changed copies of
            training clips; `HELD_OUT` for normal clips that no model is fitted to, for thresholds;
            "supplemental" for the noise around a machine, or it without noise; `COPY` for copies of
            clips held out; `UNFITTED` for normal clips that are off, or of a state of too few.
        name: the clip's name in result files; unique within a machine's section and split.
        path: of the file.
        year: challenge year, 2020 to 2026; 0 for raw MIMII, `OWN` for folders of one's own.
        subset: "dev" or "eval".
        domain: "source", "target", or "" where the year has no domains or hides them.
        label: NORMAL, ANOMALY or UNLABELLED.
        attributes: (name, value) pairs of the file name.
        perturbation: change of the recording after it is read, as in `audio.perturbation`.
        group: what it was recorded with, as the session or the day; "" for a clip by itself.
        start: where it begins in its recording, in seconds.
        state: of the machine, as "speed=6 load=2", "off" or "transient", see `asd_jax.data.states`;
            "" where it is not known.
    """

    machine: str
    section: str
    split: str
    name: str
    path: str
    year: int = 0
    subset: str = "dev"
    domain: str = ""
    label: int = UNLABELLED
    attributes: tuple[tuple[str, str], ...] = ()
    perturbation: str = ""
    group: str = ""
    start: float = 0.0
    state: str = ""


# Columns with few distinct values; the others are the name and the path.
_CATEGORICAL = (
    *("machine", "section", "split", "year", "subset", "domain", "label", "attributes"),
    *("perturbation", "group", "start", "state"),
)

_BLOCK = 1024  # rows that are read together


class ClipTable(Sequence[Clip]):
    """Many clips in columns; a row becomes a `Clip` on demand.

    A clip takes some 15 bytes and its name; an object takes seven hundred. Rows are indexed like
    those of an array: `table[3]` is a `Clip`; `table[2:9]`, `table[indices]` and `table[mask]` are
    tables, which share the bytes of the names.

    Make one by `ClipTable.of`.
    """

    def __init__(self, columns: Mapping[str, Categorical], folders: Categorical, names: Strings):
        self._columns = columns
        # (text, whether the name follows it): most paths are a folder followed by the name.
        self._folders = folders
        self._names = names

    @classmethod
    def of(cls, clips: Iterable[Clip]) -> "ClipTable":
        """Makes a table of some clips; a table is returned as it is."""
        if isinstance(clips, ClipTable):
            return clips
        builders = {name: CategoricalBuilder() for name in (*_CATEGORICAL, "folder")}
        names = StringsBuilder()
        get_fields = operator.attrgetter(*_CATEGORICAL)
        clips = iter(clips)
        while block := [*itertools.islice(clips, _BLOCK)]:
            for builder, values in zip(
                builders.values(), zip(*map(get_fields, block), strict=True), strict=False
            ):
                builder.extend(values)
            builders["folder"].extend(_folder(clip.path, clip.name) for clip in block)
            names.extend(clip.name for clip in block)
        columns = {name: builders.pop(name).column() for name in [*builders]}
        folders = columns.pop("folder")
        return cls(columns, folders, names.column())

    @classmethod
    def concatenate(cls, tables: Iterable[Iterable[Clip]]) -> "ClipTable":
        """One table below the other."""
        parts = [cls.of(clips) for clips in tables] or [cls.of(())]
        return cls(
            {
                name: Categorical.concatenate([part._columns[name] for part in parts])
                for name in _CATEGORICAL
            },
            Categorical.concatenate([part._folders for part in parts]),
            Strings.concatenate([part._names for part in parts]),
        )

    def __len__(self) -> int:
        return len(self._names.starts)

    @overload
    def __getitem__(self, rows: int | np.integer) -> Clip: ...

    @overload
    def __getitem__(self, rows: slice | np.ndarray | Sequence[int]) -> "ClipTable": ...

    def __getitem__(self, rows: Any) -> "Clip | ClipTable":
        if not isinstance(rows, slice | np.ndarray | Sequence):
            row = operator.index(rows)
            if not -len(self) <= row < len(self):
                raise IndexError(f"no clip {row} in a table of {len(self)}")
            fields = {
                name: column.values[column.codes[row]] for name, column in self._columns.items()
            }
            return Clip(name=self._names.string(row), path=self.path(row), **fields)
        if not isinstance(rows, slice):
            rows = np.asarray(rows, None if len(rows) else np.int64)
        columns = {name: column[rows] for name, column in self._columns.items()}
        return ClipTable(columns, self._folders[rows], self._names[rows])

    def __iter__(self) -> Iterator[Clip]:
        # Block by block through lists, whose items Python reads faster than those of arrays.
        for first in range(0, len(self), _BLOCK):
            part = self[first : first + _BLOCK]
            columns: dict[str, Iterable[Any]] = {
                name: map(column.values.__getitem__, column.codes.tolist())
                for name, column in part._columns.items()
            }
            names = part._names.tolist()
            folders = map(part._folders.values.__getitem__, part._folders.codes.tolist())
            columns["name"] = names
            columns["path"] = [
                folder + name if has_name else folder
                for (folder, has_name), name in zip(folders, names, strict=True)
            ]
            yield from map(Clip, *(columns[field.name] for field in dataclasses.fields(Clip)))

    def __add__(self, others: Iterable[Clip]) -> "ClipTable":
        return ClipTable.concatenate([self, others])

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, ClipTable | list | tuple):
            return NotImplemented
        return len(self) == len(other) and all(map(operator.eq, self, other))

    __hash__ = None  # type: ignore[assignment]  # how Python says that it has none

    def __repr__(self) -> str:
        return f"<ClipTable of {len(self)} clips>"

    @property
    def names(self) -> Strings:
        """The column of names."""
        return self._names

    def column(self, name: str) -> Categorical:
        """The column of an attribute other than name and path."""
        return self._columns[name]

    def path(self, row: int) -> str:
        """The path of one clip."""
        folder, has_name = self._folders.values[self._folders.codes[row]]
        return folder + self._names.string(row) if has_name else folder

    def where(self, **wanted: Hashable | list | set) -> np.ndarray:
        """Mask of the clips with wanted attributes.

        Args:
            **wanted: attributes of `Clip` other than name and path; each with its value, or with
                a list or set of accepted values.

        Returns:
            (n,) true where every attribute has a wanted value.
        """
        mask = np.ones(len(self), bool)
        for name, values in wanted.items():
            values = values if isinstance(values, list | set) else [values]
            mask &= self._columns[name].is_in(values)
        return mask

    def distinct(self, name: str) -> list:
        """The values of an attribute other than name and path, each once, ascending."""
        return self._columns[name].distinct()

    def places(self, name: str, among: Sequence[Hashable]) -> np.ndarray:
        """(n,) index of each clip's value of an attribute in a list.

        Raises:
            ValueError: the list lacks a clip's value.
        """
        return self._columns[name].places(among)

    def groups(self, *by: str, rows: np.ndarray | None = None) -> dict[tuple, np.ndarray]:
        """Groups clips by the values of some attributes.

        Args:
            *by: names of attributes other than name and path, or "folder" for what precedes the
                name in the path.
            rows: mask (n,) of the clips to group; None for all.

        Returns:
            Values → (members,) indices, ascending; groups are in the order of their first clips.
        """
        rows = np.arange(len(self)) if rows is None else np.flatnonzero(rows)
        columns = [self._folders if name == "folder" else self._columns[name] for name in by]
        return group_rows(columns, rows)

    def replace(self, rows: np.ndarray | None = None, /, **values: Hashable) -> "ClipTable":
        """Returns the clips with other values of some attributes.

        Args:
            rows: mask (n,) of the clips to change; None for all.
            **values: attributes other than name and path, and their new values.
        """
        rows = np.ones(len(self), bool) if rows is None else rows
        new = {name: self._columns[name].replace(value, rows) for name, value in values.items()}
        return ClipTable({**self._columns, **new}, self._folders, self._names)

    def sorted(self) -> "ClipTable":
        """The clips in ascending order, that of the built-in `sorted`."""
        order, runs = self._name_order()
        for run in runs:
            order[run] = sorted(order[run], key=self.__getitem__)
        return self[order]

    def namesakes(self) -> Iterator[np.ndarray]:
        """Indices, ascending, of clips that share machine, section, split and name."""
        order, runs = self._name_order()
        for run in runs:
            yield np.sort(order[run])

    def _name_keys(self) -> Iterator[np.ndarray]:
        """Sort keys (n,) of machine, section, split and name, the least significant first."""
        yield from self._names.sort_keys()
        for name in ("split", "section", "machine"):
            yield self._columns[name].ranks()

    def _name_order(self) -> tuple[np.ndarray, list[slice]]:
        """Sorts the clips by machine, section, split and name.

        Returns:
            (n,) indices, and slices of them whose clips share all four.
        """
        order, same = sorted_order([*self._name_keys()])
        edges = np.flatnonzero(np.diff(np.concatenate([[False], same, [False]]).astype(np.int8)))
        return order, [slice(first, last + 1) for first, last in edges.reshape(-1, 2).tolist()]


def _folder(path: str, name: str) -> tuple[str, bool]:
    """Splits a path: its beginning, and whether the name completes it."""
    if name and path.endswith(name):
        return path[: -len(name)], True
    return path, False
