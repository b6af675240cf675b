"""The challenge's result files: headerless CSVs, `name.wav,value`, one a machine and section."""

import csv
import os
from collections.abc import Iterable
from pathlib import Path

from asd_jax.errors import UserError
from asd_jax.evaluation.results import ScoreRow, number
from asd_jax.runtime.files import atomic_write, fitting_name


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
    files: dict[tuple[int, str], dict[str, ScoreRow]] = {}
    for row in rows:
        suffix = file_suffix(row.machine, row.section, row.domain, year)
        clips = files.setdefault((row.seed, suffix), {})
        if row.clip in clips:
            raise UserError(f"{row.clip} of {row.machine} is scored twice by seed {row.seed}")
        clips[row.clip] = row
    Path(folder).mkdir(parents=True, exist_ok=True)  # also where no clip was scored
    several = len({seed for seed, _ in files}) > 1
    written = []
    for (seed, suffix), clips in sorted(files.items()):
        place = Path(folder) / f"seed_{seed}" if several else Path(folder)
        ordered = [clips[name] for name in sorted(clips)]
        scores = [(row.clip, number(row.score)) for row in ordered]
        written.append(_write(place / fitting_name(f"anomaly_score_{suffix}", ".csv"), scores))
        if year >= 2021:
            decisions = [(row.clip, int(row.decision)) for row in ordered]
            written.append(
                _write(place / fitting_name(f"decision_result_{suffix}", ".csv"), decisions)
            )
    return tuple(written)


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


def _write(path: Path, lines: list[tuple]) -> Path:
    with atomic_write(path) as file:
        csv.writer(file, lineterminator="\n").writerows(lines)
    return path
