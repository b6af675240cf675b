"""Published numbers for comparison with results: a CSV for each paper or program, in this folder.

Official scores of whole sets, one number a system, are in `published.scores`.

Columns: source, table and row locate the printed number; system is the name of our configuration,
perhaps with a suffix for what is changed in it, see `configuration_of`; percent is the number as
printed. Machine, section and metric:

| value | what |
|---|---|
| section "mean" | the arithmetic mean over a machine's sections |
| section "all" | of the clips of all of a machine's sections together |
| machine "fan+pump" | the arithmetic mean of these machines' means |
| machine "mean" | the arithmetic mean over the sections of all machines |
| "auc", "pauc", "pauc_mcclish" | columns of results.csv |
| "tpr", "fnr" | shares of the anomalies that are called anomalous, or normal |
| "tnr", "fpr" | shares of the normal clips that are called normal, or anomalous |
| "accuracy" | share of right decisions |
| "precision_weighted", "recall_weighted" | of both classes, weighted by their numbers of clips |

The reports define pAUC by the papers' formula, but print McClish-standardised values: the
baseline's agree with the official program's, which uses scikit-learn, and systems at chance
have a pAUC near 50 % where the formula gives 5 %; some are above their AUC, which the formula
rules out. So their metric is pauc_mcclish.

The organisers' baselines of 2023 and 2024 are printed as fractions with all digits; here they are
in percent with two. Their AUC of a domain is that of results.csv, the domain's normal clips against
all anomalies: where both domains have as many normal clips, the AUC of both, which is printed for
some machines, is the mean of the domains'.

If a quantity is printed more than once, results are compared with the first one, in the order of
files and lines. So the baseline's numbers that two reports print again are in repeats2020.csv,
which sorts after the fuller tables; and of Kazakova et al. 2022, Table 2 comes before Table 1,
and there the outliers that Table 2 names come first.

A note that begins with "not clear" says why a printed number may be of another quantity; ours then
has no difference from it.
"""

import csv
import functools
import importlib.resources
import io
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from importlib.resources.abc import Traversable
from typing import NamedTuple

from asd_jax.errors import UserError

POOLED = "all"  # the section of numbers of all sections' clips together
_DOMAINS = ("all", "source", "target")
RATES = ("tpr", "fnr", "tnr", "fpr", "accuracy", "precision_weighted", "recall_weighted")
_METRICS = ("auc", "pauc", "pauc_mcclish", *RATES)
# What a system changes in the configuration of its name, by the name's suffix.
_CHANGES: Mapping[str, Mapping[str, str]] = {
    "mean": {"combine": "mean"},
    "max": {"combine": "max"},
    "clear": {"detector.outlier_weight": "0", "detector.outliers": ""},
}


class Published(NamedTuple):
    """One printed number; the attributes are the columns of the CSVs, and the place in them."""

    source: str
    table: str
    row: str
    system: str
    year: int
    machine: str
    section: str
    domain: str
    metric: str
    percent: str
    note: str
    where: str = ""  # file and line, for messages

    @property
    def machines(self) -> tuple[str, ...]:
        """The machine types that the number is of; empty for all."""
        return () if self.machine == "mean" else tuple(self.machine.split("+"))

    @property
    def is_clear(self) -> bool:
        """Whether it is known of which quantity the number is."""
        return not self.note.startswith("not clear")

    @property
    def outliers(self) -> str:
        """The machine type that served as outliers (Kazakova et al. 2022); "" for none."""
        match = re.match(r"outliers: (\w+)", self.note)
        return match[1] if match else ""


def configuration_of(system: str) -> tuple[str, dict[str, str]]:
    """The name of a system's configuration, and what the system changes in it.

    Args:
        system: as in `Published`.

    Returns:
        The name, and dotted keys with their texts.

    Examples:
        >>> configuration_of("giri2020_system1_max"), configuration_of("dense_ae")
        (('giri2020_system1', {'combine': 'max'}), ('dense_ae', {}))
    """
    name, _, suffix = system.rpartition("_")
    changes = _CHANGES.get(suffix)
    return (system, {}) if changes is None else (name, dict(changes))


def load_published(system: str | None = None, year: int | None = None) -> tuple[Published, ...]:
    """Loads the published numbers of one system and year.

    Args:
        system: name of a configuration, for example "dense_ae"; None for every system.
        year: challenge year; None for every year.

    Returns:
        The numbers, file by file, also those that several sources print.

    Raises:
        UserError: as `read_published`.

    Examples:
        >>> number = load_published("dense_ae", 2020)[0]
        >>> number.machine, number.metric, float(number.percent) > 50
        ('ToyCar', 'auc', True)
    """
    rows = _all_published()
    return tuple(row for row in rows if system in (None, row.system) and year in (None, row.year))


@functools.cache
def _all_published() -> tuple[Published, ...]:
    folder = importlib.resources.files(__name__)
    return tuple(row for file in csv_files(folder) for row in read_published(file))


def read_published(file: Traversable) -> Iterator[Published]:
    """Reads a CSV of published numbers.

    Args:
        file: the CSV, such as a `pathlib.Path`.

    Yields:
        Its numbers, in the order of the lines.

    Raises:
        UserError: a column or a value is missing, too many or wrong; the message names file, line
            and value.
    """
    for where, line in read_lines(file, Published._fields[:-1]):
        if problem := _problem(line):
            raise UserError(f"{where}: {problem}")
        year = int(line.pop("year"))
        yield Published(year=year, where=where, **line)


def read_lines(
    file: Traversable, columns: Sequence[str], folder: str = "published"
) -> Iterator[tuple[str, dict[str, str]]]:
    """Reads a CSV with these columns.

    Args:
        file: the CSV.
        columns: what its first line must be.
        folder: of the file, for messages.

    Yields:
        File and number of each line, for messages, and its values by column.

    Raises:
        UserError: the file is not UTF-8, or has other columns, or a line has too many values or
            too few.
    """
    name = f"{folder}/{file.name}"
    try:
        text = file.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise UserError(f"{name} is not UTF-8: {error}") from error
    reader = csv.DictReader(io.StringIO(text))
    if tuple(reader.fieldnames or ()) != tuple(columns):
        raise UserError(f"{name}:1: the first line must be {','.join(columns)}")
    for line in reader:
        where = f"{name}:{reader.line_num}"
        if None in line or None in line.values():
            raise UserError(f"{where}: a line has {len(columns)} values, as the first one has")
        yield where, line


def csv_files(folder: Traversable) -> list[Traversable]:
    """The CSVs of a folder, sorted by name."""
    return sorted((f for f in folder.iterdir() if f.name.endswith(".csv")), key=lambda f: f.name)


def percent_problem(text: str) -> str | None:
    """What is wrong with a printed number; None for nothing."""
    try:
        percent = float(text)
    except ValueError:
        percent = math.nan
    return None if 0 <= percent <= 100 else f"percent {text!r} is no number from 0 to 100"


def _problem(line: Mapping[str, str]) -> str | None:
    """What is wrong with a line, and what it may be; None for nothing."""
    for name in ("source", "table", "row", "system", "machine", "section"):
        if not line[name].strip():
            return f"{name} is empty"
    if not (line["year"].isascii() and line["year"].isdigit()):
        return f"year {line['year']!r} is no whole number"
    for name, choices in (("domain", _DOMAINS), ("metric", _METRICS)):
        if line[name] not in choices:
            return f"{name} {line[name]!r} is none of {', '.join(choices)}"
    return percent_problem(line["percent"])
