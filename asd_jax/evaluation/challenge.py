"""The challenge's result files: headerless CSVs, `name.wav,value`, one a machine and section."""

import csv
import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from asd_jax.data.years import YEARS
from asd_jax.errors import UserError
from asd_jax.evaluation.results import ScoreRow
from asd_jax.evaluation.row_files import number
from asd_jax.evaluation.row_table import RowTable
from asd_jax.runtime.files import atomic_write, fitting_name

SCORES, DECISIONS = "anomaly_score", "decision_result"
_NAME = re.compile(
    rf"(?P<kind>{SCORES}|{DECISIONS})_(?P<machine>.+)_(?:id_(?P<id>\d\d)"
    r"|section_(?P<section>\d\d)(?:_(?P<domain>source|target))?_test)\.csv"
)


def write_challenge_files(
    folder: os.PathLike | str, rows: Iterable[ScoreRow], year: int
) -> tuple[Path, ...]:
    """Writes the score and decision files for a year's official evaluator.

    An evaluator takes one folder for a system, with the files directly inside. So the files of a
    single seed lie in `folder`. Several seeds have a folder each, `folder/seed_<seed>`, with a
    complete submission: thresholds belong to a seed, so scores are not averaged over seeds.

    Args:
        folder: the folder to write to, for example RUN/scores.
        rows: clip scores; clips are written in the order of their names.
        year: challenge year; 0 (MIMII) is written as 2020, which has no decision files.

    Returns:
        The files written, in order.

    Raises:
        UserError: as `file_suffix`; a clip is scored twice; or the disk fails.
    """
    table = RowTable.of(rows, ScoreRow)
    files: dict[tuple[int, str], list[np.ndarray]] = {}
    by = ("seed", "machine", "section", "domain")
    for (seed, machine, section, domain), own in table.groups(*by).items():
        files.setdefault((seed, file_suffix(machine, section, domain, year)), []).append(own)
    ordered = {key: _by_name(table, np.concatenate(own)) for key, own in sorted(files.items())}
    Path(folder).mkdir(parents=True, exist_ok=True)  # also where no clip was scored
    several = len({seed for seed, _ in files}) > 1
    written = []
    for (seed, suffix), rows_of in ordered.items():
        place = Path(folder) / f"seed_{seed}" if several else Path(folder)
        part = table[rows_of]
        names = part.column("clip").tolist()
        scores = [*zip(names, map(number, part.values("score")), strict=True)]
        written.append(_write(place / fitting_name(f"{SCORES}_{suffix}", ".csv"), scores))
        if year >= 2021:
            decisions = [*zip(names, part.values("decision"), strict=True)]
            written.append(_write(place / fitting_name(f"{DECISIONS}_{suffix}", ".csv"), decisions))
    return tuple(written)


def _by_name(table: RowTable[ScoreRow], rows: np.ndarray) -> np.ndarray:
    """The rows of a file in the order of the clips' names; UserError for two of one clip."""
    ranks = table.column("clip")[rows].ranks()
    order = np.argsort(ranks)
    if (twice := np.diff(ranks[order]) == 0).any():
        row = table[rows[order[np.argmax(twice)]]]
        raise UserError(f"{row.clip} of {row.machine} is scored twice by seed {row.seed}")
    return rows[order]


def file_suffix(machine: str, section: str, domain: str, year: int) -> str:
    """The end of the names of a year's result files.

    Raises:
        UserError: the clips are of 2021 and have no domain.

    Examples:
        >>> file_suffix("fan", "00", "", 2020), file_suffix("fan", "00", "source", 2021)
        ('fan_id_00', 'fan_section_00_source_test')
    """
    if year <= 2020:
        return f"{machine}_id_{section}"
    if year >= 2022:
        return f"{machine}_section_{section}_test"
    if domain not in ("source", "target"):
        raise UserError(
            f"test clips of {machine}, section {section}, have no domain, and the result files "
            "of 2021 are split by domain; keep source_test/ and target_test/ apart in the data"
        )
    return f"{machine}_section_{section}_{domain}_test"


class ResultFile(NamedTuple):
    """What the name of a result file says.

    Attributes:
        kind: `SCORES` or `DECISIONS`.
        machine: machine type.
        section: machine id or section.
        domain: "source" or "target" of 2021, else "".
        years: the years whose files are called so.
    """

    kind: str
    machine: str
    section: str
    domain: str
    years: tuple[int, ...]


def parse_result_file(name: str) -> ResultFile | None:
    """What the name of a result file says; None for another name.

    Examples:
        >>> parse_result_file("decision_result_fan_section_03_source_test.csv")
        ResultFile(kind='decision_result', machine='fan', section='03', domain='source', \
years=(2021,))
        >>> parse_result_file("anomaly_score_fan_id_01.csv").years
        (2020,)
    """
    match = _NAME.fullmatch(name)
    if match is None or (match["id"] and match["kind"] == DECISIONS):
        return None
    years: tuple[int, ...] = (2020,) if match["id"] else tuple(y for y in YEARS if y >= 2022)
    if match["domain"]:
        years = (2021,)
    section = match["id"] or match["section"]
    return ResultFile(match["kind"], match["machine"], section, match["domain"] or "", years)


def _write(path: Path, lines: list[tuple]) -> Path:
    with atomic_write(path) as file:
        csv.writer(file, lineterminator="\n").writerows(lines)
    return path
