"""Columns of tables: few distinct values as codes, strings in one buffer of bytes."""

import dataclasses
from array import array
from collections.abc import Callable, Collection, Hashable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np

_WORD = 8  # bytes that are compared at a time
_SPARSE = 4  # bytes between selected strings, for each of theirs, up to which all are decoded


@dataclasses.dataclass(frozen=True, eq=False)
class Categorical:
    """A column of few distinct values.

    Attributes:
        codes: (n,) unsigned, each row's place in `values`.
        values: distinct, in no order; some may occur in no row.
    """

    codes: np.ndarray
    values: tuple[Any, ...]

    @classmethod
    def of(cls, codes: np.ndarray, values: Sequence[Hashable]) -> "Categorical":
        """Makes a column with the codes in their smallest dtype."""
        return cls(codes.astype(np.min_scalar_type(max(len(values) - 1, 0))), tuple(values))

    @classmethod
    def concatenate(cls, columns: Sequence["Categorical"]) -> "Categorical":
        """One column below the other."""
        known: dict[Hashable, int] = {}
        codes = [column.translate(known)[column.codes] for column in columns]
        return cls.of(np.concatenate(codes), tuple(known))

    def __getitem__(self, rows: Any) -> "Categorical":
        return Categorical(self.codes[rows], self.values)

    def translate(self, known: dict[Hashable, int]) -> np.ndarray:
        """(values,) codes in another list of values, to which missing values are added."""
        codes = [known.setdefault(value, len(known)) for value in self.values]
        return np.array(codes, np.min_scalar_type(len(known)))

    def renamed(self, values: Sequence[Hashable]) -> "Categorical":
        """Returns the column with (values,) other values, of which some may be equal."""
        known: dict[Hashable, int] = {}
        codes = np.array([known.setdefault(value, len(known)) for value in values], np.int64)
        return Categorical.of(codes[self.codes], tuple(known))

    def is_in(self, wanted: Collection[Hashable]) -> np.ndarray:
        """(n,) mask of the rows with a wanted value."""
        return np.array([value in wanted for value in self.values], bool)[self.codes]

    def places(self, among: Sequence[Hashable]) -> np.ndarray:
        """(n,) int64 index of each row's value in a list; ValueError where the list lacks it."""
        places = np.zeros(len(self.values), np.int64)
        for code in np.unique(self.codes):
            places[code] = among.index(self.values[code])
        return places[self.codes]

    def ranks(self) -> np.ndarray:
        """(n,) rank of each row's value among the sorted values."""
        ranks = np.empty(len(self.values), self.codes.dtype)
        order = sorted(range(len(self.values)), key=lambda code: self.values[code])
        ranks[order] = np.arange(len(order))
        return ranks[self.codes]

    def distinct(self) -> list:
        """The distinct values of all rows, ascending."""
        counts = np.bincount(self.codes, minlength=len(self.values))
        return sorted(self.values[code] for code in np.flatnonzero(counts))

    def replace(self, value: Hashable, rows: np.ndarray) -> "Categorical":
        """Returns the column with another value in the rows of a mask (n,)."""
        known = {each: code for code, each in enumerate(self.values)}
        code = known.setdefault(value, len(known))
        return Categorical.of(np.where(rows, code, self.codes), tuple(known))


@dataclasses.dataclass(frozen=True, eq=False)
class Strings:
    """A column of mostly distinct strings.

    Selected rows share its buffer. The bytes are UTF-8, with surrogates encoded like characters:
    every string survives, even one for undecodable bytes of a file name, and bytes are ordered
    like characters.

    Attributes:
        buffer: uint8, the bytes of the strings, followed by a word of padding.
        starts: (n,) unsigned, each string's first byte.
        lengths: (n,) unsigned, in bytes.
    """

    buffer: np.ndarray
    starts: np.ndarray
    lengths: np.ndarray

    @classmethod
    def of(cls, text: bytes, lengths: np.ndarray) -> "Strings":
        """Makes a column of encoded strings, end to end and followed by a word, and lengths."""
        starts = np.cumsum(lengths, dtype=np.int64) - lengths
        return cls(np.frombuffer(text, np.uint8), *_narrow(starts, lengths))

    @classmethod
    def concatenate(cls, columns: Sequence["Strings"]) -> "Strings":
        """One column below the other; columns that share a buffer still do."""
        buffers = {id(column.buffer): column.buffer for column in columns}
        sizes = [len(buffer) for buffer in buffers.values()]
        shifts = dict(zip(buffers, np.cumsum([0, *sizes[:-1]]).tolist(), strict=True))
        starts = [column.starts.astype(np.int64) + shifts[id(column.buffer)] for column in columns]
        (buffer,) = (
            buffers.values() if len(buffers) == 1 else (np.concatenate([*buffers.values()]),)
        )
        lengths = np.concatenate([column.lengths for column in columns])
        return cls(buffer, *_narrow(np.concatenate(starts), lengths))

    def __getitem__(self, rows: Any) -> "Strings":
        return Strings(self.buffer, self.starts[rows], self.lengths[rows])

    def tolist(self) -> list[str]:
        """All strings; for a block of rows, as they need several times the memory of the column."""
        if not len(self.starts):
            return []
        starts = self.starts.astype(np.int64)
        ends = starts + self.lengths
        first, last = int(starts.min()), int(ends.max())
        if last - first > _SPARSE * int(self.lengths.sum(dtype=np.int64)) + _WORD:
            return [self.string(row) for row in range(len(starts))]
        text = self.buffer[first:last].tobytes()
        pairs = zip((starts - first).tolist(), (ends - first).tolist(), strict=True)
        return [text[start:end].decode("utf-8", "surrogatepass") for start, end in pairs]

    def ranks(self) -> np.ndarray:
        """(n,) int64, each row's place among the distinct strings in ascending order."""
        order, same = sorted_order([*self.sort_keys()])
        ranks = np.empty(len(order), np.int64)
        ranks[order] = np.cumsum(np.concatenate([[False], ~same])[: len(order)])
        return ranks

    def string(self, row: int) -> str:
        """The string of one row."""
        start = int(self.starts[row])
        return decode(self.buffer[start : start + int(self.lengths[row])])

    def sort_keys(self) -> Iterator[np.ndarray]:
        """Sort keys (n,), unsigned, the least significant first."""
        yield self.lengths  # "a" before "a\0", whose words are equal
        most = int(self.lengths.max(initial=0))
        # A big-endian word starts at each byte of the buffer.
        shape = (len(self.buffer) - _WORD + 1,)
        words = np.ndarray(shape, ">u8", buffer=self.buffer, strides=(1,))
        for first in range(most // _WORD * _WORD, -1, -_WORD):
            there = np.clip(self.lengths.astype(np.int64) - first, 0, _WORD)  # bytes of the word
            word = words[np.where(there, self.starts.astype(np.int64) + first, 0)].astype(np.uint64)
            too_many = (8 * (_WORD - there)).astype(np.uint64)
            # Clear the bytes past the string. A shift by all 64 bits is undefined, hence `% 64`.
            yield np.where(there, word >> (too_many % 64) << (too_many % 64), 0)


class CategoricalBuilder:
    """Collects the values of a `Categorical`, some at a time.

    Args:
        parse: makes a value of what is added; by default it is the value.

    Examples:
        >>> builder = CategoricalBuilder(int)
        >>> builder.extend(["1", "0", "1"])
        >>> builder.column().values, builder.column().codes.tolist()
        ((1, 0), [0, 1, 0])
    """

    def __init__(self, parse: Callable[[Any], Hashable] | None = None):
        self._known = _Codes(parse)
        self._codes = array("I")

    def extend(self, values: Iterable[Hashable]) -> None:
        """Adds values at the end."""
        self._codes.extend(map(self._known.__getitem__, values))

    def column(self) -> Categorical:
        """The column of all values so far."""
        return Categorical.of(np.array(self._codes, np.uint32), tuple(self._known.values_of))


class _Codes(dict):
    """Codes of values by what they are parsed from; unknown ones are added as they are asked for.

    Attributes:
        values_of: value → code; several texts may be one number.
    """

    def __init__(self, parse: Callable[[Any], Hashable] | None):
        self._parse = parse
        self.values_of: dict[Hashable, int] = {}

    def __missing__(self, given: Hashable) -> int:
        value = given if self._parse is None else self._parse(given)
        self[given] = code = self.values_of.setdefault(value, len(self.values_of))
        return code


class StringsBuilder:
    """Collects the strings of a `Strings`, some at a time.

    Examples:
        >>> builder = StringsBuilder()
        >>> builder.extend(["ä", "b"])
        >>> builder.column().tolist()
        ['ä', 'b']
    """

    def __init__(self) -> None:
        self._blocks: list[bytes] = []
        self._lengths = array("I")

    def extend(self, strings: Iterable[str]) -> None:
        """Adds strings at the end."""
        encoded = [*map(encode, strings)]
        self._blocks.append(b"".join(encoded))
        self._lengths.extend(map(len, encoded))

    def column(self) -> Strings:
        """The column of all strings so far."""
        text = b"".join([*self._blocks, bytes(_WORD)])
        return Strings.of(text, np.array(self._lengths, np.uint32))


def group_rows(
    columns: Sequence[Categorical], rows: np.ndarray | None = None
) -> dict[tuple, np.ndarray]:
    """Groups rows by the values of some columns.

    Args:
        columns: of one length; without any, all rows are one group.
        rows: indices (m,) of the rows to group, ascending; all rows of the columns by default.

    Returns:
        Values → (members,) indices, ascending; groups are in the order of their first rows.

    Examples:
        >>> column = Categorical(np.array([1, 0, 1], np.uint8), ("a", "b"))
        >>> {key: rows.tolist() for key, rows in group_rows([column]).items()}
        {('b',): [0, 2], ('a',): [1]}
    """
    if rows is None:
        rows = np.arange(len(columns[0].codes))
    if not len(rows):
        return {}
    group = np.zeros(len(rows), np.int64)  # without columns, all are one group
    for column in columns:
        # Renumbered for each column, so that numbers stay below rows times values.
        group = _renumbered(group * len(column.values) + column.codes[rows])
    counts = np.bincount(group)
    # NumPy sorts numbers of two bytes by counting, in linear time.
    order = np.argsort(group.astype(np.min_scalar_type(len(counts) - 1)), kind="stable")
    parts = np.split(order, np.cumsum(counts)[:-1])
    members = [rows[part] for part in sorted(parts, key=lambda part: part[0])]
    return {tuple(c.values[c.codes[each[0]]] for c in columns): each for each in members}


def _renumbered(numbers: np.ndarray) -> np.ndarray:
    """(n,) places of numbers among the distinct ones, ascending."""
    if int(numbers.max()) > 4 * len(numbers) + 1024:
        return np.unique(numbers, return_inverse=True)[1]
    there = np.bincount(numbers) > 0  # without sorting, in linear time
    return (np.cumsum(there) - 1)[numbers]


def sorted_order(keys: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Sorts rows by several keys.

    Args:
        keys: (n,) each, the least significant first; one or more.

    Returns:
        (n,) indices that sort the rows, equal ones in their order; and (n − 1,) whether each
        sorted row equals the next one.
    """
    n = len(keys[0])
    # Names have long beginnings in common, which order nothing.
    keys = [key for key in keys if n and (key != key[0]).any()]
    order = np.arange(n)
    for key in keys:
        order = order[np.argsort(key[order], kind="stable")]
    same = np.ones(max(n - 1, 0), bool)
    for key in keys:
        key = key[order]
        same &= key[1:] == key[:-1]
    return order, same


def encode(string: str) -> bytes:
    """Encodes a string for `Strings`."""
    return string.encode("utf-8", "surrogatepass")


def decode(text: bytes | np.ndarray) -> str:
    """Decodes bytes from `encode`."""
    return bytes(text).decode("utf-8", "surrogatepass")


def _narrow(*columns: np.ndarray) -> list[np.ndarray]:
    """Converts each column to the smallest unsigned dtype that holds its largest number."""
    return [
        column.astype(np.min_scalar_type(int(column.max(initial=0))), copy=False)
        for column in columns
    ]
