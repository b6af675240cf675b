"""Lists beside the recordings of a synthetic data set: causes, attributes, ground truth."""

import csv
import math
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from asd_jax.data.synthetic.takes import Settings, Take, attributes_of
from asd_jax.runtime import files

GROUND_TRUTH = "ground_truth"  # folder of an evaluation set's


def write_anomalies(path: Path, takes: Sequence[Take], faults: Mapping[str, Any]) -> None:
    """Writes anomalies.csv; values that a fault does not have are empty."""
    with files.atomic_write(path) as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(
            ["path", "machine", "section", "domain", "cause", "level_db", "frequency_hz", "strokes"]
        )
        for take in takes:
            if take.cause is None:
                continue
            fault = faults[take.path]
            level, frequency = (
                "" if math.isnan(value) else f"{value:.2f}"
                for value in (fault.level_db, fault.frequency_hz)
            )
            row = [take.path, take.machine, take.section, take.domain, fault.cause]
            writer.writerow([*row, level, frequency, fault.strokes or ""])


def write_attributes(root: Path, settings: Settings, takes: Sequence[Take]) -> None:
    """Writes the `attributes_NN.csv` of years since 2022, which list labelled clips only."""
    if settings.year < 2022:
        return
    sections: dict[tuple[str, str], list[Take]] = {}
    for take in takes:
        if take.split == "train" or (take.split == "test" and not take.original):
            sections.setdefault((take.machine, take.section), []).append(take)
    for (machine, section), inside in sections.items():
        pairs = len(attributes_of(settings, inside[0]))
        folder = root / inside[0].path.partition("/")[0]
        with files.atomic_write(folder / machine / f"attributes_{section}.csv") as file:
            writer = csv.writer(file, lineterminator="\n")
            header = [f"d{i}{part}" for i in range(1, pairs + 1) for part in "pv"]
            writer.writerow(["file_name", *header])
            for take in inside:
                values = [part for pair in attributes_of(settings, take) for part in pair]
                name = Path(take.path).relative_to(folder.name).as_posix()
                writer.writerow([name, *values])


def write_ground_truth(root: Path, settings: Settings, takes: Sequence[Take]) -> None:
    """Writes labels, domains and original names of unlabelled clips, as the organisers do.

    Of 2020 the baseline's list, of later years the folders of the official evaluator.
    """
    sections: dict[tuple[str, str, str], list[Take]] = {}
    for take in takes:
        if take.original:
            domain = take.domain if settings.year == 2021 else ""
            sections.setdefault((take.machine, take.section, domain), []).append(take)
    tables: dict[str, list[tuple[str, ...]]] = {}
    for (machine, section, domain), inside in sections.items():
        name = f"ground_truth_{machine}_section_{section}{domain and '_' + domain}_test.csv"
        if settings.year == 2020 and (machine,) not in tables.get("eval_data_list.csv", []):
            tables.setdefault("eval_data_list.csv", []).append((machine,))
        for take in sorted(inside, key=lambda take: take.path):
            clip, label = PurePosixPath(take.path).name, str(int(take.cause is not None))
            if settings.year == 2020:
                tables["eval_data_list.csv"].append((clip, take.original, label))
                continue
            tables.setdefault(f"ground_truth_data/{name}", []).append((clip, label))
            if settings.year >= 2022:
                is_target = str(int(take.domain == "target"))
                stem = take.original.removesuffix(".wav")
                tables.setdefault(f"ground_truth_domain/{name}", []).append((clip, is_target))
                tables.setdefault(f"ground_truth_attributes/{name}", []).append((clip, stem))
    for path, rows in tables.items():
        with files.atomic_write(root / GROUND_TRUTH / path) as file:
            csv.writer(file, lineterminator="\n").writerows(rows)
