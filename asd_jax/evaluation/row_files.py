"""CSV files of rows: scores, results and classes of a run."""

import csv
import itertools
import os
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from asd_jax.errors import UserError
from asd_jax.evaluation.row_table import BLOCK, RowTable, TableBuilder
from asd_jax.runtime.files import atomic_write


def number(value: Any) -> str:
    """The shortest text that reads back as the same number of the value's own precision.

    Examples:
        >>> number(0.1), number(np.float32(0.1))
        ('0.1', '0.1')
    """
    return str(value) if isinstance(value, np.floating) else repr(float(value))


def numbers(values: Sequence) -> list[str]:
    """`number` of each value."""
    return [*map(number, values)]


def write_rows(path: os.PathLike | str, row_type: Any, rows: Iterable[Any]) -> None:
    """Writes rows of a named tuple's type as a CSV, whole or not at all.

    Rows are made some at a time, so that a table of ten million needs no more memory than itself.
    """
    kinds = row_type.__annotations__
    floats, empty = [kind is float for kind in kinds.values()], _empty(row_type)
    with atomic_write(path) as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(row_type._fields)
        for columns in _blocks(rows):
            texts = [
                numbers(values) if is_float else _without(values, none)
                for values, is_float, none in zip(columns, floats, empty, strict=True)
            ]
            writer.writerows(zip(*texts, strict=True))


def _empty(row_type: Any) -> list[int | None]:
    """Of each field, the number that is an empty cell; None for none."""
    return [-1 if name == "decision" else None for name in row_type._fields]


def _without(values: Sequence, none: int | None) -> Sequence:
    return values if none is None else ["" if value == none else value for value in values]


def _blocks(rows: Iterable[Any]) -> Iterable[Sequence[Sequence]]:
    """The values of each field, of some rows at a time."""
    if isinstance(rows, RowTable):
        yield from rows.blocks()
        return
    rows = iter(rows)
    while block := [*itertools.islice(rows, BLOCK)]:
        yield [*zip(*block, strict=True)]


def read_table(path: os.PathLike | str, row_type: Any) -> RowTable:
    """Reads what `write_rows` wrote; raises UserError if it is missing or damaged."""
    kinds = row_type.__annotations__
    try:
        with open(path, encoding="utf-8", newline="") as file:
            lines = csv.reader(file)
            header = next(lines)
            # Files of versions before lack the last columns.
            needed = len(row_type._fields) - len(row_type._field_defaults)
            if tuple(header) != row_type._fields[: max(len(header), needed)]:
                raise ValueError(f"its first line is not {','.join(row_type._fields)}")
            builder = TableBuilder(row_type, [*kinds][: len(header)], parse=True)
            while block := [*itertools.islice(lines, BLOCK)]:
                columns = [*zip(*block, strict=True)]
                if len(columns) != len(header):
                    raise ValueError(f"a line has not {len(header)} values")
                for place, none in enumerate(_empty(row_type)[: len(header)]):
                    if none is not None:
                        columns[place] = tuple(cell or f"{none}" for cell in columns[place])
                builder.extend(columns)
            return builder.table()
    except OSError as error:
        raise UserError(
            f"cannot read {path}: {error.strerror}; the command of the run writes it again"
        ) from error
    except (ValueError, StopIteration, csv.Error) as error:
        reason = error if str(error) else "it is empty"
        raise UserError(
            f"{path} is damaged: {reason}; remove it, and the command of the run writes it again"
        ) from error


def read_rows(path: os.PathLike | str, row_type: Any) -> tuple[Any, ...]:
    """Reads what `write_rows` wrote, of few rows; errors as of `read_table`."""
    return tuple(read_table(path, row_type))
