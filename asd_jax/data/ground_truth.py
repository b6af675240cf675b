"""Ground truth of the challenge's evaluation sets, as the organisers publish it afterwards.

| file | years | lines |
|---|---|---|
| `ground_truth_data/ground_truth_<machine>_section_NN_test.csv` | 2021 on | name, 1 if anomalous |
| `ground_truth_domain/…`, the same names | 2022 on | name, 1 if of the target domain |
| `ground_truth_attributes/…`, the same names | 2023 on | name, …, original name |
| `ground_truth_attributes/<machine>/attributes_NN.csv` | 2022 | its last column, original name |
| `eval_data_list.csv`, `eval_data_list_20XX.csv` | 2020 on | machine; name, original name, label |

The first four are those of the official evaluators, none with a heading; of 2021 the names end in
`_source_test.csv` or `_target_test.csv`. The lists are the baselines': a line with a machine's name
precedes its clips, and only that of 2020 has labels. An original name is one of the development
set's kind, which says label, domain and attributes. `ground_truth_data` and `ground_truth_domain`
are what the evaluators compute with, so they decide where an original name says otherwise, and a
line says so: of 2022, 608 labels of ToyCar and ToyTrain differ.
"""

import csv
import dataclasses
import os
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple, TypeVar

from asd_jax.data.clips import ANOMALY, NORMAL, UNLABELLED
from asd_jax.data.names import official_name
from asd_jax.errors import UserError

_LABELS = {"0": NORMAL, "1": ANOMALY}
_DOMAINS = {"0": "source", "1": "target"}
_FILE = re.compile(
    r"ground_truth_(?P<machine>.+)_(?:section|id)_(?P<section>\d\d)"
    r"(?:_(?P<domain>source|target))?_test\.csv"
)
_ATTRIBUTES_FILE = re.compile(r"attributes_(?P<section>\d\d)\.csv")
_LIST = re.compile(r"eval_data_list(?:_(?P<year>20\d\d))?\.csv")
_LABELS_FOLDER, _DOMAINS_FOLDER, _NAMES_FOLDER = (
    f"ground_truth_{kind}" for kind in ("data", "domain", "attributes")
)

Section = tuple[str, str]  # machine, section
_T = TypeVar("_T")
_EXPECTED = (
    f"expected {_LABELS_FOLDER}/ground_truth_<machine>_section_NN_test.csv as in the official "
    "evaluators, or eval_data_list_20XX.csv"
)


class Truth(NamedTuple):
    """What is known of a clip.

    Attributes:
        label: `NORMAL` or `ANOMALY`.
        domain: "source", "target", or "" where it is not known.
        original: its original name; "" where it is not known.
    """

    label: int
    domain: str = ""
    original: str = ""


@dataclasses.dataclass(frozen=True)
class GroundTruth:
    """Ground truth of an evaluation set.

    Attributes:
        source: the folder or file that it was read from.
        sections: truth of each clip by its name, of each machine and section.
        lines: what was decided, for the user.
    """

    source: Path
    sections: Mapping[Section, Mapping[str, Truth]]
    lines: tuple[str, ...] = ()


def read_ground_truth(path: os.PathLike | str, year: int | None = None) -> GroundTruth:
    """Reads the ground truth of an evaluation set.

    Args:
        path: a folder laid out as an official evaluator's; one with the baselines' lists, or with
            these in `datasets/`; or one list.
        year: challenge year of the list to choose, where there are several.

    Returns:
        The ground truth. Lines may end in any way, be in any order, and begin with a byte-order
        mark.

    Raises:
        UserError: there is none, or none of the year; or a file is damaged.
    """
    path = Path(path)
    if path.is_file():
        return GroundTruth(path, _listed(path))
    if not path.is_dir():
        raise UserError(f"--ground_truth={path}: no such folder; {_EXPECTED}")
    folder = path.parent if path.name in (_LABELS_FOLDER, _DOMAINS_FOLDER, _NAMES_FOLDER) else path
    if folders := [f for f in (_LABELS_FOLDER, _NAMES_FOLDER) if _has_files(folder / f)]:
        return _of_evaluator(folder, folders[0] == _LABELS_FOLDER)
    if _has_files(path):
        return GroundTruth(path, _labels(path))
    return _of_lists(path, year)


def _of_evaluator(folder: Path, has_labels: bool) -> GroundTruth:
    """The ground truth of an evaluator's folders."""
    original = _originals(folder / _NAMES_FOLDER)
    domains = {
        section: {name: domain for name, (domain, _) in own.items()}
        for section, own in _columns(folder / _DOMAINS_FOLDER, _DOMAINS).items()
    }
    if not has_labels:
        named = {
            section: {name: _of_original(old, folder, name) for name, old in own.items()}
            for section, own in original.items()
        }
        return GroundTruth(folder, named)
    sections = _labels(folder / _LABELS_FOLDER)
    for section, own in sections.items():
        for of, what in ((domains, _DOMAINS_FOLDER), (original, _NAMES_FOLDER)):
            if section in of and own.keys() != of[section].keys():
                odd = sorted(own.keys() ^ of[section].keys())
                raise UserError(
                    f"{folder}: {_LABELS_FOLDER} and {what} differ in the clips of "
                    f"{' '.join(section)}, as {odd[0]}; fetch them again"
                )
    joined = {
        section: {
            name: Truth(
                truth.label,
                truth.domain or domains.get(section, {}).get(name, ""),
                original.get(section, {}).get(name, ""),
            )
            for name, truth in own.items()
        }
        for section, own in sections.items()
    }
    return GroundTruth(folder, joined, tuple(_disagreements(folder, joined)))


def _disagreements(folder: Path, sections: Mapping[Section, Mapping[str, Truth]]) -> Iterator[str]:
    """Lines on labels and domains that original names do not have."""
    labels, domains = Counter[str](), Counter[str]()
    for (machine, _), own in sections.items():
        for truth in own.values():
            parsed = official_name(truth.original) if truth.original else None
            if parsed:
                labels[machine] += parsed.label != truth.label
                domains[machine] += parsed.domain != truth.domain
    if odd := sorted(machine for machine in labels if labels[machine] + domains[machine]):
        yield (
            f"{folder}: {labels.total()} labels and {domains.total()} domains of "
            f"{', '.join(odd)} are not those of the original names; {_LABELS_FOLDER} and "
            f"{_DOMAINS_FOLDER} are taken, as the official evaluator takes them"
        )


def _columns(folder: Path, values: Mapping[str, _T]) -> dict[Section, dict[str, tuple[_T, str]]]:
    """Each clip's value in the files of a folder, and the domain that 2021's files are named by."""
    sections: dict[Section, dict[str, tuple[_T, str]]] = {}
    for path, match in _files(folder):
        section = sections.setdefault((match["machine"], match["section"]), {})
        for row in _rows(path):
            if len(row) != 2 or not row[0] or row[1] not in values:
                raise UserError(
                    f"{path}: {','.join(row)} is not a clip's name and 0 or 1; fetch it again"
                )
            _add(section, row[0], (values[row[1]], match["domain"] or ""), path)
    return sections


def _labels(folder: Path) -> dict[Section, dict[str, Truth]]:
    """Labels of the clips of a folder's files."""
    return {
        section: {name: Truth(*value) for name, value in own.items()}
        for section, own in _columns(folder, _LABELS).items()
    }


def _originals(folder: Path) -> dict[Section, dict[str, str]]:
    """Original names of the files of a folder, which may lack."""
    sections: dict[Section, dict[str, str]] = {}
    for path, match in _files(folder):
        section = sections.setdefault((match["machine"], match["section"]), {})
        for row in _rows(path):
            if len(row) < 2:
                raise UserError(f"{path}: {row[0]} has no original name; fetch it again")
            _add(section, row[0], _stem(row[-1]) + ".wav", path)
    for path in sorted(folder.glob("*/attributes_*.csv")):  # of 2022
        of_section = _ATTRIBUTES_FILE.fullmatch(path.name)
        heading, *rows = _rows(path)
        if of_section and heading[-1].startswith("file_name_with"):
            section = sections.setdefault((path.parent.name, of_section["section"]), {})
            for row in rows:
                _add(section, PurePosixPath(row[0]).name, _stem(row[-1]) + ".wav", path)
    return sections


def _stem(name: str) -> str:
    return PurePosixPath(name).name.removesuffix(".wav")


def _has_files(folder: Path) -> bool:
    return any(_files(folder)) or any(folder.glob("*/attributes_*.csv"))


def _files(folder: Path) -> Iterator[tuple[Path, re.Match[str]]]:
    """Files of ground truth in a folder."""
    if folder.is_dir():
        for path in sorted(folder.iterdir()):
            if match := _FILE.fullmatch(path.name):
                yield path, match


def _of_lists(folder: Path, year: int | None) -> GroundTruth:
    """The ground truth of the list of a year in a folder."""
    found: dict[int | None, Path] = {}
    for place in (folder / "datasets", folder):
        for path in sorted(place.iterdir()) if place.is_dir() else ():
            if match := _LIST.fullmatch(path.name):
                found[int(match["year"]) if match["year"] else None] = path
    if not found:
        raise UserError(f"--ground_truth={folder} has no ground truth; {_EXPECTED}")
    chosen = found.get(year) or found.get(None)
    if chosen is None and year is None and len(found) == 1:
        (chosen,) = found.values()
    if chosen is None:
        years = ", ".join(str(own) for own in sorted(filter(None, found)))
        raise UserError(
            f"--ground_truth={folder} has lists of {years} and none of {year}, the run's year"
        )
    return GroundTruth(chosen, _listed(chosen))


def _listed(path: Path) -> dict[Section, dict[str, Truth]]:
    """The truth of a baseline's list."""
    sections: dict[Section, dict[str, Truth]] = {}
    machine = ""
    for row in _rows(path):
        cells = [cell for cell in row if cell]
        if len(cells) == 1:
            machine = cells[0]
            continue
        name, original = cells[0], cells[1]
        parsed = official_name(name)
        if not machine or parsed is None or len(cells) > 3:
            raise UserError(
                f"{path} is no list of evaluation clips: {','.join(row)} is neither a machine's "
                "name nor a clip of a machine with its original name"
            )
        truth = _of_original(original, path, name)
        if len(cells) == 3 and cells[2] != str(truth.label):
            raise UserError(
                f"{path}: {name} of {machine} has the label {cells[2]}, and its original name is "
                f"{original}; one of them is wrong"
            )
        _add(sections.setdefault((machine, parsed.section), {}), name, truth, path)
    return sections


def _of_original(original: str, path: Path, name: str) -> Truth:
    parsed = official_name(original)
    if parsed is None or parsed.label == UNLABELLED:
        raise UserError(f"{path}: the original name of {name}, {original}, does not say its label")
    return Truth(parsed.label, parsed.domain, original)


def _rows(path: Path) -> list[list[str]]:
    """Rows of a CSV file without the empty ones."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = [[cell.strip() for cell in row] for row in csv.reader(file)]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"cannot read {path}: {error}") from error
    rows = [row for row in rows if any(row)]
    if not rows:
        raise UserError(f"{path} is empty; fetch it again")
    return rows


def _add(section: dict, name: str, value: object, path: Path) -> None:
    if name in section:
        raise UserError(f"{path} has {name} twice; fetch it again")
    section[name] = value


def names_of(names: Sequence[str], most: int = 3) -> str:
    """The first of some names, and how many more there are.

    Examples:
        >>> names_of(["a.wav", "b.wav", "c.wav"], 2)
        'a.wav, b.wav and 1 more'
    """
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
