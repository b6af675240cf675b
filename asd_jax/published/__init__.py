"""Published numbers for comparison with results: a CSV for each paper or program, in this folder.

Columns: source, table and row locate the printed number; system is the name of our configuration;
section "mean" is a machine's mean over its sections, machine "mean" one over all machines; metric
is a column of results.csv; percent is the number as printed.

The reports define pAUC by the papers' formula, but print McClish-standardised values: the
baseline's agree with the official program's, which uses scikit-learn, and systems at chance
have a pAUC near 50 % where the formula gives 5 %; some are above their AUC, which the formula
rules out. So their metric is pauc_mcclish.

If a quantity is printed more than once, results are compared with the first one, in the order of
files and lines. So the baseline's numbers that two reports print again are in repeats2020.csv,
which sorts after the fuller tables; and of Kazakova et al. 2022, Table 2 comes before Table 1,
and there the outliers that Table 2 names come first.
"""

import csv
import importlib.resources
import io
from typing import NamedTuple


class Published(NamedTuple):
    """One printed number; the attributes are the columns of the CSVs."""

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


def load_published(system: str | None = None, year: int | None = None) -> tuple[Published, ...]:
    """Loads the published numbers of one system and year.

    Args:
        system: name of a configuration, for example "dense_ae"; None for every system.
        year: challenge year; None for every year.

    Returns:
        The numbers, file by file, also those that several sources print.

    Examples:
        >>> number = load_published("dense_ae", 2020)[0]
        >>> number.machine, number.metric, float(number.percent) > 50
        ('ToyCar', 'auc', True)
    """
    folder = importlib.resources.files(__name__)
    files = sorted((f for f in folder.iterdir() if f.name.endswith(".csv")), key=lambda f: f.name)
    rows = []
    for file in files:
        for line in csv.DictReader(io.StringIO(file.read_text(encoding="utf-8"))):
            rows.append(Published(year=int(line.pop("year")), **line))
    return tuple(row for row in rows if system in (None, row.system) and year in (None, row.year))
