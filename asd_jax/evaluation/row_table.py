"""Tables of scores: many rows of a named tuple's type, in columns."""

import functools
import itertools
import operator
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Generic, NamedTuple, TypeVar, overload

import numpy as np

from asd_jax.data.columns import (
    Categorical,
    CategoricalBuilder,
    Strings,
    StringsBuilder,
    group_rows,
)

Row = TypeVar("Row", bound=tuple)
Column = Categorical | Strings | np.ndarray

# Fields of mostly distinct texts; other texts and whole numbers have few values.
_NAMES = ("clip", "name")
BLOCK = 16_384  # rows that are objects together


class RowTable(Sequence[Row], Generic[Row]):
    """Many rows in columns; a row becomes an object of its type on demand.

    A line of scores.csv takes some 40 bytes and the clip's name; an object takes six hundred. Rows
    are indexed like those of an array: `table[3]` is a row; `table[2:9]`, `table[indices]` and
    `table[mask]` are tables, which share the bytes of the names.

    Make one by `RowTable.of` or `RowTable.of_columns`.

    Attributes:
        row_type: of the rows, a named tuple's type.
    """

    def __init__(self, row_type: Callable[..., Row], columns: Mapping[str, Column]):
        self.row_type: Any = row_type
        self._columns = columns

    @classmethod
    def of(cls, rows: Iterable[Row], row_type: Callable[..., Row]) -> "RowTable[Row]":
        """Makes a table of some rows; a table is returned as it is.

        Examples:
            >>> from asd_jax.evaluation.results import ScoreRow
            >>> table = RowTable.of([ScoreRow("fan", "00", "", 0, "a", 1, 2.5, 1.0, 1)], ScoreRow)
            >>> table[0].clip, table.numbers("score").tolist()
            ('a', [2.5])
        """
        if isinstance(rows, RowTable):
            return rows
        builder = TableBuilder(row_type)
        rows = iter(rows)
        while block := [*itertools.islice(rows, BLOCK)]:
            builder.extend([*zip(*block, strict=True)])
        return builder.table()

    @classmethod
    def of_columns(cls, row_type: Callable[..., Row], count: int, **values: Any) -> "RowTable[Row]":
        """Makes a table of columns.

        Args:
            row_type: of the rows.
            count: of rows.
            **values: of each field: a column (n,), an array (n,) of numbers, or one value for all;
                of one that is left out, its default.
        """
        kinds: Mapping[str, type] = row_type.__annotations__
        given = {**getattr(row_type, "_field_defaults", {}), **values}
        columns = {name: _column(kinds[name], given[name], count) for name in kinds}
        return cls(row_type, columns)

    @classmethod
    def concatenate(
        cls, tables: Iterable[Iterable[Row]], row_type: Callable[..., Row]
    ) -> "RowTable[Row]":
        """One table below the other."""
        parts = [cls.of(rows, row_type) for rows in tables]
        if len(parts) < 2:
            return parts[0] if parts else cls.of((), row_type)
        columns: dict[str, Column] = {}
        for name in parts[0]._columns:
            own: list[Any] = [part._columns[name] for part in parts]
            if isinstance(own[0], np.ndarray):
                columns[name] = _one_below_another(own)
            else:
                columns[name] = type(own[0]).concatenate(own)
        return cls(row_type, columns)

    def __len__(self) -> int:
        return _length(next(iter(self._columns.values())))

    @overload
    def __getitem__(self, rows: int | np.integer) -> Row: ...

    @overload
    def __getitem__(self, rows: slice | np.ndarray) -> "RowTable[Row]": ...

    def __getitem__(self, rows: Any) -> "Row | RowTable[Row]":
        if isinstance(rows, slice | np.ndarray):
            return RowTable(self.row_type, {n: each[rows] for n, each in self._columns.items()})
        row = operator.index(rows)
        if not -len(self) <= row < len(self):
            raise IndexError(f"no row {row} in a table of {len(self)}")
        row %= len(self)
        (found,) = self[row : row + 1]
        return found

    def __iter__(self) -> Iterator[Row]:
        make = self.row_type._make
        for values in self.blocks():
            yield from map(make, zip(*values, strict=True))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, RowTable | list | tuple):
            return NotImplemented
        return len(self) == len(other) and all(map(operator.eq, self, other))

    __hash__ = None  # type: ignore[assignment]  # how Python says that it has none

    def __repr__(self) -> str:
        return f"<RowTable of {len(self)} {self.row_type.__name__}>"

    def blocks(self) -> Iterator[list[list]]:
        """The values of each field, of some rows at a time."""
        for first in range(0, len(self), BLOCK):
            rows = slice(first, first + BLOCK)
            yield [_values(column[rows]) for column in self._columns.values()]

    def column(self, name: str) -> Any:
        """A field of all rows: `Categorical`, `Strings`, or an array (n,) of floats."""
        return self._columns[name]

    def values(self, name: str) -> list:
        """A field of all rows as objects; for a table of few rows."""
        return _values(self._columns[name])

    def numbers(self, name: str) -> np.ndarray:
        """(n,) a field of numbers."""
        column = self._columns[name]
        if isinstance(column, Categorical):
            return np.array(column.values or (0,))[column.codes]
        assert isinstance(column, np.ndarray)
        return column.astype(np.float64) if column.dtype == object else column

    def where(self, **wanted: Any) -> np.ndarray:
        """(n,) true where every field has its wanted value; fields of few values."""
        mask = np.ones(len(self), bool)
        for name, value in wanted.items():
            mask &= self.column(name).is_in([value])
        return mask

    def groups(self, *by: str, rows: np.ndarray | None = None) -> dict[tuple, np.ndarray]:
        """Groups rows by the values of some fields of few values.

        Args:
            *by: the fields.
            rows: mask (n,) of the rows to group; None for all.

        Returns:
            Values → (members,) indices, ascending; groups are in the order of their first rows.
        """
        chosen = None if rows is None else np.flatnonzero(rows)
        return group_rows([self.column(name) for name in by], chosen)

    def replace(self, **values: Any) -> "RowTable[Row]":
        """The rows with other values of some fields; values as those of `of_columns`."""
        kinds = self.row_type.__annotations__
        new = {name: _column(kinds[name], value, len(self)) for name, value in values.items()}
        return RowTable(self.row_type, {**self._columns, **new})

    @functools.cached_property
    def name_ranks(self) -> np.ndarray:
        """int32 (n,), place of each clip's name among those of its machine and section, ascending.

        Rows of one machine and section are of one clip where it is equal.
        """
        names = self._columns[next(name for name in _NAMES if name in self._columns)]
        ranks = np.empty(len(self), np.int32)
        for rows in self.groups("machine", "section").values():
            ranks[rows] = names[rows].ranks()
        return ranks


class OverSeeds(NamedTuple):
    """Clips that have a row a seed.

    Attributes:
        rows: (rows,) places in the table.
        clip: (rows,) each one's clip; clips are in the order of their first rows.
        first: (clips,) each one's first row.
        n_rows: (clips,) how many it has.
    """

    rows: np.ndarray
    clip: np.ndarray
    first: np.ndarray
    n_rows: np.ndarray

    def sums(self, values: np.ndarray) -> np.ndarray:
        """(clips,) sums of the values (n,) of a table."""
        return np.bincount(self.clip, values[self.rows], minlength=len(self.first))

    def means(self, values: np.ndarray) -> np.ndarray:
        """(clips,) float64 means of the values (n,) of a table."""
        return self.sums(values) / self.n_rows


def over_seeds(table: RowTable, rows: np.ndarray) -> OverSeeds:
    """Finds the clips of some rows of a table.

    Args:
        table: of scores.
        rows: places of rows of one machine, ascending.
    """
    section = table.column("section").codes[rows].astype(np.int64)
    ranks = table.name_ranks[rows]
    key = section * (int(ranks.max(initial=0)) + 1) + ranks
    _, first, clip, counts = np.unique(
        key, return_index=True, return_inverse=True, return_counts=True
    )
    order = np.argsort(first)
    place = np.empty_like(order)
    place[order] = np.arange(len(order))
    return OverSeeds(rows, place[clip], rows[first[order]], counts[order])


class TableBuilder(Generic[Row]):
    """Collects the rows of a `RowTable`, some at a time.

    Args:
        row_type: of the rows.
        fields: that are given; others have their defaults.
        parse: whether values are texts, of which numbers are made.
    """

    def __init__(
        self,
        row_type: Callable[..., Row],
        fields: Sequence[str] | None = None,
        parse: bool = False,
    ):
        self._row_type: Any = row_type
        kinds: dict[str, type] = row_type.__annotations__
        self._fields = [*kinds] if fields is None else [*fields]
        self._builders: list[Any] = []
        for name in self._fields:
            if name in _NAMES:
                self._builders.append(StringsBuilder())
            elif kinds[name] is float:
                self._builders.append(_FloatBuilder(parse))
            else:
                parsed = parse and kinds[name] is not str
                self._builders.append(CategoricalBuilder(kinds[name] if parsed else None))
        self._count = 0

    def extend(self, columns: Sequence[Sequence]) -> None:
        """Adds the values of each field; ValueError for a text that is no number."""
        for builder, values in zip(self._builders, columns, strict=True):
            builder.extend(values)
        self._count += len(columns[0]) if columns else 0

    def table(self) -> "RowTable[Row]":
        """The table of all rows."""
        values = dict(self._row_type._field_defaults)
        for name in self._fields:  # one after another, so that each is freed before the next
            values[name] = self._builders.pop(0).column()
        return RowTable.of_columns(self._row_type, self._count, **values)


class _FloatBuilder:
    """Collects floats; of several precisions, as objects that keep theirs."""

    def __init__(self, parse: bool):
        self._parse = parse
        self._parts: list[np.ndarray] = []

    def extend(self, values: Sequence) -> None:
        if self._parse:
            self._parts.append(np.fromiter(map(float, values), np.float64, len(values)))
            return
        kinds = {float if isinstance(value, float | int) else type(value) for value in values}
        self._parts.append(np.array(values, kinds.pop() if len(kinds) == 1 else object))

    def column(self) -> np.ndarray:
        return _one_below_another(self._parts) if self._parts else np.zeros(0)


def _one_below_another(parts: Sequence[np.ndarray]) -> np.ndarray:
    """Floats of several arrays, as objects where their precisions differ."""
    if len({part.dtype for part in parts}) > 1:
        values = [value for part in parts for value in _values(part)]
        parts = [np.array(values, object)]
    return np.concatenate(parts)


def _column(kind: type, value: Any, count: int) -> Column:
    """A column of a field's kind, from a column, numbers or one value for all rows."""
    if isinstance(value, Categorical | Strings):
        return value
    if kind is float:
        return value if isinstance(value, np.ndarray) else np.full(count, value, np.float64)
    if isinstance(value, np.ndarray):
        found, codes = np.unique(value, return_inverse=True)
        return Categorical.of(codes, tuple(map(kind, found.tolist())))
    return Categorical(np.zeros(count, np.uint8), (value,))


def text_column(texts: Iterable[str]) -> Categorical:
    """A column of texts with few distinct values."""
    builder = CategoricalBuilder()
    builder.extend(texts)
    return builder.column()


def _length(column: Column) -> int:
    if isinstance(column, Categorical):
        return len(column.codes)
    return len(column.starts) if isinstance(column, Strings) else len(column)


def _values(column: Column) -> list:
    """The values of some rows, floats of less than double precision as NumPy's."""
    if isinstance(column, Categorical):
        return [*map(column.values.__getitem__, column.codes.tolist())]
    if isinstance(column, np.ndarray):
        return column.tolist() if column.dtype == np.float64 else [*column]
    return column.tolist()
