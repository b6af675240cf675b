"""Columns of a table of clips: few distinct values as codes, strings in one buffer of bytes."""

import dataclasses
from collections.abc import Collection, Hashable, Iterator, Sequence
from typing import Any

import numpy as np

_WORD = 8  # bytes that are compared at a time


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
    def of(cls, text: bytearray, lengths: np.ndarray) -> "Strings":
        """Makes a column of encoded strings, end to end, and their lengths; takes over `text`."""
        starts = np.cumsum(lengths, dtype=np.int64) - lengths
        text += bytes(_WORD)
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
