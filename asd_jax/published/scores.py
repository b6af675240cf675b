"""Published official scores: one number a system for a year's development or evaluation set.

Each CSV in `score_tables` has one source or several. Columns: source and table locate the printed
number; system is the published name; configuration is ours of that system, where there is one
(or will be), with its settings, keys and values apart from each other by blanks; weights says
whether it has pretrained weights ("yes", "no", or nothing where the source does not say); years is
a year or a range of them; subset is dev, eval or all; percent is the number as printed.

Metrics:

| metric | what |
|---|---|
| score | the official score of a set |
| auc, pauc | means over the machine ids of a set of 2020 |
| min_auc | mean over its machines of the least AUC of an id |
| auc_source, auc_target, pauc | means over the sections of a set of 2022 or later |
| amean, hmean | arithmetic and harmonic mean of the scores of all sets of several years |

The official score of 2020 is here the mean of AUC and pAUC, first over a machine's ids, then over
machines, as ASDKit's program has it; since 2021 it is the harmonic mean that the challenge ranks
by, see `metrics.official_score`. pAUC is McClish-standardised, so chance is 50 for all of them.
"""

import functools
import importlib.resources
import re
from collections.abc import Iterator, Mapping
from importlib.resources.abc import Traversable
from typing import NamedTuple

from asd_jax.errors import UserError
from asd_jax.published import csv_files, percent_problem, read_lines

FOLDER = "score_tables"
MEANS = ("amean", "hmean")
_METRICS = ("score", "auc", "pauc", "min_auc", "auc_source", "auc_target")
_WEIGHTS = ("yes", "no", "")
_YEARS = re.compile(r"(20\d\d)(?:-(20\d\d))?", re.ASCII)
_SETTING = re.compile(r"[\w.]+=\S+")


class Score(NamedTuple):
    """One printed number of a system; the attributes are the columns of the CSVs, and the place."""

    source: str
    table: str
    system: str
    configuration: str
    settings: str
    weights: str
    years: str
    subset: str
    metric: str
    percent: str
    note: str
    where: str = ""  # file and line, for messages

    @property
    def year(self) -> int:
        """The year; 0 for a mean over several."""
        return 0 if self.metric in MEANS else int(self.years)

    @property
    def overrides(self) -> dict[str, str]:
        """What the system changes in its configuration: dotted keys and texts."""
        return dict(setting.split("=", 1) for setting in self.settings.split())


def load_scores(year: int | None = None, subset: str | None = None) -> tuple[Score, ...]:
    """Loads the published scores of a year's set.

    Args:
        year: challenge year; None for every year and for means over several.
        subset: "dev" or "eval"; None for both, and for means.

    Returns:
        The numbers, file by file, also those that several sources print.

    Raises:
        UserError: as `read_scores`.

    Examples:
        >>> numbers = load_scores(2023, "dev")
        >>> [number.percent for number in numbers if number.configuration == "mel_knn"]
        ['54.75']
    """
    return tuple(
        row
        for row in _all_scores()
        if (year is None or row.year == year) and subset in (None, row.subset)
    )


@functools.cache
def _all_scores() -> tuple[Score, ...]:
    folder = importlib.resources.files("asd_jax.published").joinpath(FOLDER)
    return tuple(row for file in csv_files(folder) for row in read_scores(file))


def read_scores(file: Traversable) -> Iterator[Score]:
    """Reads a CSV of published scores.

    Args:
        file: the CSV, such as a `pathlib.Path`.

    Yields:
        Its numbers, in the order of the lines.

    Raises:
        UserError: a column or a value is missing, too many or wrong, or a number is there twice;
            the message names file, line and value.
    """
    before: dict[tuple[str, ...], str] = {}
    for where, line in read_lines(file, Score._fields[:-1], f"published/{FOLDER}"):
        if problem := _problem(line):
            raise UserError(f"{where}: {problem}")
        score = Score(where=where, **line)
        key = (score.source, score.table, score.system, score.years, score.subset, score.metric)
        if key in before:
            raise UserError(f"{where}: {', '.join(key[2:])} is in {before[key]} already")
        before[key] = where
        yield score


def _problem(line: Mapping[str, str]) -> str | None:
    """What is wrong with a line, and what it may be; None for nothing."""
    for name in ("source", "table", "system"):
        if not line[name].strip():
            return f"{name} is empty"
    if line["settings"] and not line["configuration"]:
        return "settings without a configuration"
    for setting in line["settings"].split():
        if not _SETTING.fullmatch(setting):
            return f"settings {setting!r} is no key=value"
    if line["weights"] not in _WEIGHTS:
        return f"weights {line['weights']!r} is none of yes, no, and nothing"
    years = _YEARS.fullmatch(line["years"])
    if not years or (years[2] and years[2] <= years[1]):
        return f"years {line['years']!r} is no year or range of years, as 2020 or 2020-2024"
    if line["metric"] not in (*_METRICS, *MEANS):
        return f"metric {line['metric']!r} is none of {', '.join((*_METRICS, *MEANS))}"
    if line["metric"] in MEANS:
        if not years[2] or line["subset"] != "all":
            return f"{line['metric']} is over a range of years and the subset all"
    elif years[2] or line["subset"] not in ("dev", "eval"):
        return f"{line['metric']} is of one year and of dev or eval"
    return percent_problem(line["percent"])
