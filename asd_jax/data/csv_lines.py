"""CSV files that people write: their first line names the columns, in any order."""

import csv
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from asd_jax.errors import UserError

_DELIMITERS = ",;\t"


def csv_lines(
    path: Path, check: Callable[[Sequence[str]], None]
) -> Iterator[tuple[int, dict[str, str]]]:
    """Reads the lines of a file in UTF-8, separated by commas, semicolons or tabs.

    Args:
        path: of the file.
        check: called with the names of the columns, which are all different.

    Yields:
        The number of each line, and the text of each column, without blanks around it.

    Raises:
        UserError: the file cannot be read, is no CSV, or a line has other columns than the first.

    Examples:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Path(folder) / "table.csv"
        ...     characters = path.write_text("path; speed\\na.wav;6\\n")
        ...     print([*csv_lines(path, print)])
        ['path', 'speed']
        [(2, {'path': 'a.wav', 'speed': '6'})]
    """
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            head = file.readline()
            delimiter = max(_DELIMITERS, key=head.count)
            file.seek(0)
            reader = csv.DictReader(file, delimiter=delimiter, strict=True)
            reader.fieldnames = names = [name.strip() for name in reader.fieldnames or ()]
            if twice := [name for name in names if names.count(name) > 1]:
                raise UserError(f"{path} has the column {twice[0]!r} twice")
            check(names)
            for row in reader:
                if None in row or None in row.values():
                    raise UserError(
                        f"{path}, line {reader.line_num}: the first line has {len(names)} columns, "
                        f"this one has {'more' if None in row else 'fewer'}"
                    )
                yield reader.line_num, {name: text.strip() for name, text in row.items()}
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path} is no CSV file in UTF-8: {error}") from error
