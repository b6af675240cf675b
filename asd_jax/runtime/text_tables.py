"""Aligned text tables: as wide as they need, or folded into the width of a terminal."""

import itertools
import shutil
import sys
import textwrap
from collections.abc import Collection, Sequence

from asd_jax.runtime.progress import is_terminal

Rows = Sequence[Sequence[str]]

_GAP = 2  # blanks between columns
# Columns up to this width, such as a mean with its interval, are broken into lines only where the
# terminal is narrower.
_WHOLE = 28
# In fewer columns the terminal breaks lines better.
_NARROWEST = 40


def aligned(
    rows: Rows,
    headings: int = 1,
    *,
    width: int | None = None,
    keys: int = 1,
    right: Collection[int] = (),
) -> list[str]:
    """Formats a table as lines, with a rule below the first `headings` rows.

    A table that is too wide is folded: words of long cells go to further lines, and columns that
    do not fit beside the others to further tables below, which repeat the key columns.

    Args:
        rows: cells of every row, headings first.
        headings: number of heading rows; 0 for neither headings nor a rule.
        width: columns of the terminal; None leaves every row on one line.
        keys: number of first columns that say what a row is about.
        right: numbers of the columns that are flush right.

    Examples:
        >>> aligned([["machine", "AUC"], ["fan", "90.00"]])
        ['machine  AUC', '-------  -----', 'fan      90.00']
        >>> folded = aligned([["machine", "AUC", "pAUC"], ["fan", "90.00", "70.00"]], width=16)
        >>> folded[:2], folded[4:]
        (['machine  AUC', '-------  -----'], ['machine  pAUC', '-------  -----', 'fan      70.00'])
    """
    lines = _plain(rows, headings, right)
    if width is None or max(map(columns_of, lines), default=0) <= width:
        return lines
    columns = list(zip(*rows, strict=True))
    least = [_least(column) for column in columns]
    blocks = _blocks(least, min(keys, len(columns) - 1), width)
    folded = []
    for number, block in enumerate(blocks):
        part = [[row[i] for i in block] for row in rows]
        of_block = {block.index(i) for i in right if i in block}
        lines = _plain(part, headings, of_block)
        if max(map(columns_of, lines)) > width:
            lines = _folded(part, headings, of_block, [least[i] for i in block], width)
        folded += [*[""] * bool(number), *lines]
    return folded


def filled(text: str, width: int | None, indent: int = 0) -> list[str]:
    """Fills lines of a width with a text's words, all but the first indented; None for one line.

    Examples:
        >>> filled("from  Kapka et al. 2020", 20, indent=6)
        ['from  Kapka et al.', '      2020']
    """
    if width is None or columns_of(text) <= width:
        return [text]
    return textwrap.wrap(
        text,
        max(width, indent + 10),
        subsequent_indent=" " * indent,
        break_long_words=False,
        break_on_hyphens=False,
    )


def terminal_width() -> int | None:
    """Columns of the terminal that standard output is; None where it is a file or a pipe."""
    if not is_terminal(sys.stdout):
        return None
    return max(shutil.get_terminal_size().columns, _NARROWEST)


def columns_of(text: str) -> int:
    """Columns of a terminal that a text takes: East Asian characters take two."""
    from rich.cells import cell_len

    return len(text) if text.isascii() else cell_len(text)


def _plain(rows: Rows, headings: int, right: Collection[int]) -> list[str]:
    widths = [max(map(columns_of, column)) for column in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        blanks = [" " * (width - columns_of(cell)) for cell, width in zip(row, widths, strict=True)]
        cells = [
            blank + cell if i in right else cell + blank
            for i, (cell, blank) in enumerate(zip(row, blanks, strict=True))
        ]
        lines.append((" " * _GAP).join(cells).rstrip())
    rule = (" " * _GAP).join("-" * width for width in widths)
    return [*lines[:headings], *[rule] * bool(headings), *lines[headings:]]


def _least(column: Sequence[str]) -> int:
    """The least width of a column: its own, or that of its words where it is wide."""
    own = max(map(columns_of, column))
    if own <= _WHOLE:
        return own
    words = max(columns_of(word) for cell in column for word in cell.split())
    return min(words, _WHOLE)


def _blocks(least: Sequence[int], keys: int, width: int) -> list[list[int]]:
    """Numbers of the columns that fit beside one another, each time behind the key columns."""
    key_columns = list(range(keys))
    blocks: list[list[int]] = []
    left = 0
    for column in range(keys, len(least)):
        left -= _GAP + least[column]
        if not blocks or left < 0:
            taken = sum(least[:keys]) + _GAP * keys
            left = width - taken - least[column]
            blocks.append([*key_columns])
        blocks[-1].append(column)
    return blocks


def _folded(
    rows: Rows, headings: int, right: Collection[int], least: Sequence[int], width: int
) -> list[str]:
    """Lines of a table whose wide cells have several."""
    from rich.console import Console
    from rich.text import Text

    own = [max(map(columns_of, column)) for column in zip(*rows, strict=True)]
    widths = _shared(least, own, width - _GAP * (len(own) - 1))
    console = Console(color_system=None, legacy_windows=False)
    lines: list[list[str]] = []
    for number, row in enumerate(rows):
        if number == headings > 0:
            lines.append(["-" * width for width in widths])
        cells = [
            [cell]
            if columns_of(cell) <= width
            else [line.plain.rstrip() for line in Text(cell).wrap(console, width, overflow="fold")]
            for cell, width in zip(row, widths, strict=True)
        ]
        lines += map(list, itertools.zip_longest(*cells, fillvalue=""))
    return _plain(lines, 0, right)


def _shared(least: Sequence[int], own: Sequence[int], available: int) -> list[int]:
    """Widths of columns: the least, and what is left in proportion to what each lacks.

    Where there is less than the least, the widest columns give way.
    """
    widths, spare = list(least), available - sum(least)
    lacking = [wanted - least for wanted, least in zip(own, least, strict=True)]
    if spare >= 0:
        total = sum(lacking) or 1
        return [
            low + min(lack, spare * lack // total)
            for low, lack in zip(widths, lacking, strict=True)
        ]
    for _ in range(-spare):
        widest = widths.index(max(widths))
        widths[widest] = max(widths[widest] - 1, 1)
    return widths
