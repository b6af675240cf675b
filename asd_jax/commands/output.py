"""What commands print: tables for people, records for programs.

Records are CSV, one header and a record a line, or one JSON document. Both have numbers in full:
what reads them back gets the same floats. In JSON, a number that is none is the text "NaN",
"Infinity" or "-Infinity", as in the JSON of protocol buffers; CSV has `nan`, `inf` and `-inf`. What
there is none of is `null`, and an empty cell. Lists and objects in a cell of a CSV are JSON.
"""

import csv
import io
import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from absl import flags

from asd_jax.runtime.plain import plain

FORMATS = ("table", "csv", "json")


PAPER_FORMATS = ("markdown", "latex")


def define_format(values: flags.FlagValues, *, for_papers: bool = False) -> None:
    """Adds --format, with tables for papers where a command has them."""
    papers = "; or as papers print it: Markdown or LaTeX" if for_papers else ""
    flags.DEFINE_enum(
        "format",
        "table",
        (*FORMATS, *PAPER_FORMATS) if for_papers else FORMATS,
        f"a table that fits the terminal; or for programs, with all digits: CSV or JSON{papers}",
        flag_values=values,
    )


def print_csv(fields: Sequence[str], records: Iterable[Mapping[str, Any]]) -> None:
    """Prints records as CSV on standard output.

    Args:
        fields: the columns.
        records: their values by column; a column that one lacks is empty.

    Examples:
        >>> print_csv(["machine", "score"], [{"machine": "fan", "score": 0.1}, {"machine": "a,b"}])
        machine,score
        fan,0.1
        "a,b",
    """
    _in_utf8()
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(fields)
    for record in records:
        writer.writerow([_cell(record.get(field)) for field in fields])


def print_json(document: Mapping[str, Any]) -> None:
    """Prints one JSON document on standard output.

    Examples:
        >>> print_json({"score": float("nan"), "threshold": None})
        {
          "score": "NaN",
          "threshold": null
        }
    """
    json.dump(plain(document), sys.stdout, indent=2, allow_nan=False)
    print()


def print_remarks(lines: Iterable[str]) -> None:
    """Prints lines on standard error, beside records on standard output."""
    for line in lines:
        print(line, file=sys.stderr)


def _in_utf8() -> None:
    """Standard output in UTF-8, whatever the locale; JSON is ASCII."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(encoding="utf-8", errors="backslashreplace")


def _cell(value: Any) -> str:
    """A value's text in a CSV."""
    if isinstance(value, float):
        return repr(float(value))
    value = plain(value)
    if isinstance(value, str):
        return value
    return "" if value is None else json.dumps(value, ensure_ascii=False)
