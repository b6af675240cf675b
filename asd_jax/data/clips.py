"""The table of clips: one row a recording, the same for every challenge year."""

import dataclasses
import operator
from array import array
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from typing import Any, overload

import numpy as np

from asd_jax.data.columns import Categorical, Strings, encode

NORMAL, ANOMALY, UNLABELLED = 0, 1, -1


@dataclasses.dataclass(frozen=True, order=True)
class Clip:
    """One recording.

    Attributes:
        machine: machine type, for example "fan".
        section: machine id (2020, MIMII) or section (2021 and later), for example "00".
        split: "train" or "test"; "other" for training clips of a machine that is not itself
            modelled, but that another one's model learns from; "perturbed" for changed copies
            of training clips.
        name: how result files name the clip; unique within a machine's split.
        path: where the file is.
        year: challenge year, 2020 to 2026; 0 for raw MIMII.
        subset: "dev" or "eval".
        domain: "source", "target", or "" where the year has no domains or hides them.
        label: NORMAL, ANOMALY or UNLABELLED.
        attributes: (name, value) pairs of the file name.
        perturbation: how the recording is changed once read, as `audio.perturbation` writes it.
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


# The columns of which many rows have the same value; the others are the name and the path.
_CATEGORICAL = (
    *("machine", "section", "split", "year", "subset", "domain", "label", "attributes"),
    "perturbation",
)

_BLOCK = 1024  # rows that are read together


class ClipTable(Sequence[Clip]):
    """Many clips in columns, of which each row is a `Clip` that is made as it is asked for.

    A clip takes some 15 bytes and its name, where an object takes seven hundred. Rows are got
    as from an array: `table[3]` is a `Clip`; `table[2:9]`, `table[indices]` and `table[mask]` are
    tables, which share the bytes of the names.

    Make one by `ClipTable.of`.
    """

    def __init__(self, columns: Mapping[str, Categorical], folders: Categorical, names: Strings):
        self._columns = columns
        # (text, whether the name follows it): a path is mostly a folder and the name.
        self._folders = folders
        self._names = names

    @classmethod
    def of(cls, clips: Iterable[Clip]) -> "ClipTable":
        """The table of some clips; one that there is already is given back."""
        if isinstance(clips, ClipTable):
            return clips
        columns: dict[str, tuple[dict[Hashable, int], array[int]]] = {
            name: ({}, array("I")) for name in (*_CATEGORICAL, "folder")
        }
        text, lengths = bytearray(), array("I")
        get_fields = operator.attrgetter(*_CATEGORICAL)
        parts = [(*each, each[1].append) for each in columns.values()]
        for clip in clips:
            row = (*get_fields(clip), _folder(clip.path, clip.name))
            for value, (known, _, append) in zip(row, parts, strict=True):
                append(known.setdefault(value, len(known)))
            encoded = encode(clip.name)
            text += encoded
            lengths.append(len(encoded))
        del parts
        built = {}
        for name in (*_CATEGORICAL, "folder"):
            known, codes = columns.pop(name)
            built[name] = Categorical.of(np.asarray(codes), tuple(known))
        folders = built.pop("folder")
        return cls(built, folders, Strings.of(text, np.asarray(lengths)))

    @classmethod
    def concatenate(cls, tables: Iterable[Iterable[Clip]]) -> "ClipTable":
        """One table below the other."""
        found = [cls.of(clips) for clips in tables] or [cls.of(())]
        return cls(
            {
                name: Categorical.concatenate([table._columns[name] for table in found])
                for name in _CATEGORICAL
            },
            Categorical.concatenate([table._folders for table in found]),
            Strings.concatenate([table._names for table in found]),
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
        # Some rows at a time: lists are read faster than arrays, one number after another.
        for first in range(0, len(self), _BLOCK):
            part = self[first : first + _BLOCK]
            columns: dict[str, Iterable[Any]] = {
                name: map(column.values.__getitem__, column.codes.tolist())
                for name, column in part._columns.items()
            }
            names = [part._names.string(row) for row in range(len(part))]
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

    def path(self, row: int) -> str:
        """The path of one clip."""
        folder, has_name = self._folders.values[self._folders.codes[row]]
        return folder + self._names.string(row) if has_name else folder

    def where(self, **wanted: Hashable | list | set) -> np.ndarray:
        """Which clips are of some kind.

        Args:
            **wanted: an attribute of `Clip` other than name and path, and its value, or a list
                or set of values of which it has one.

        Returns:
            (n,) a mask of the clips that are as wanted in every one of them.
        """
        found = np.ones(len(self), bool)
        for name, values in wanted.items():
            values = values if isinstance(values, list | set) else [values]
            found &= self._columns[name].is_in(values)
        return found

    def distinct(self, name: str) -> list:
        """The values of an attribute other than name and path, each once, ascending."""
        return self._columns[name].distinct()

    def places(self, name: str, among: Sequence[Hashable]) -> np.ndarray:
        """(n,) where each clip's value of an attribute is in a list.

        Raises:
            ValueError: a clip's value is not there.
        """
        return self._columns[name].places(among)

    def groups(self, *by: str, rows: np.ndarray | None = None) -> dict[tuple, np.ndarray]:
        """Clips that have the same values of some attributes.

        Args:
            *by: names of attributes other than name and path, or "folder" for what precedes the
                name in the path.
            rows: mask (n,) of the clips that are grouped; None for all.

        Returns:
            Their values → (members,) indices, ascending; in the order of the first ones.
        """
        rows = np.arange(len(self)) if rows is None else np.flatnonzero(rows)
        if not len(rows):
            return {}
        columns = [self._folders if name == "folder" else self._columns[name] for name in by]
        group = np.zeros(len(rows), np.int64)
        for column in columns:
            # Numbered anew each time, so that the number stays below rows times values.
            group = group * len(column.values) + column.codes[rows]
            group = np.unique(group, return_inverse=True)[1]
        order = np.argsort(group, kind="stable")
        parts = np.split(order, np.cumsum(np.bincount(group))[:-1])
        members = [rows[part] for part in sorted(parts, key=lambda part: part[0])]
        return {tuple(c.values[c.codes[each[0]]] for c in columns): each for each in members}

    def replace(self, rows: np.ndarray | None = None, /, **values: Hashable) -> "ClipTable":
        """The same clips with other values.

        Args:
            rows: mask (n,) of the clips that are changed; None for all.
            **values: attributes other than name and path, and their new values.
        """
        rows = np.ones(len(self), bool) if rows is None else rows
        new = {name: self._columns[name].replace(value, rows) for name, value in values.items()}
        return ClipTable({**self._columns, **new}, self._folders, self._names)

    def sorted(self) -> "ClipTable":
        """The clips in ascending order, as `sorted` would put them."""
        order = self._name_order()
        for run in self._runs(order):
            order[run] = sorted(order[run], key=self.__getitem__)
        return self[order]

    def namesakes(self) -> Iterator[np.ndarray]:
        """Indices, ascending, of clips that share machine, section, split and name."""
        order = self._name_order()
        for run in self._runs(order):
            yield np.sort(order[run])

    def _name_keys(self) -> Iterator[np.ndarray]:
        """(n,) at a time, keys of machine, section, split and name, the last of most weight."""
        yield from self._names.sort_keys()
        for name in ("split", "section", "machine"):
            yield self._columns[name].ranks()

    def _name_order(self) -> np.ndarray:
        """(n,) indices that sort the clips by machine, section, split and name."""
        order = np.arange(len(self))
        for key in self._name_keys():
            order = order[np.argsort(key[order], kind="stable")]
        return order

    def _runs(self, order: np.ndarray) -> Iterator[slice]:
        """Parts of `_name_order` whose clips are alike in all that it sorts by."""
        same = np.ones(max(len(self) - 1, 0), bool)
        for key in self._name_keys():
            key = key[order]
            same &= key[1:] == key[:-1]
        edges = np.flatnonzero(np.diff(np.concatenate([[False], same, [False]]).astype(np.int8)))
        for first, last in edges.reshape(-1, 2).tolist():
            yield slice(first, last + 1)


def _folder(path: str, name: str) -> tuple[str, bool]:
    """What a path begins with, and whether the name completes it."""
    if name and path.endswith(name):
        return path[: -len(name)], True
    return path, False
