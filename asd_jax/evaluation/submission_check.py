"""Checks a submission to the challenge: the folder `<label>` with result files and description.

Faults are what would keep it from being accepted or evaluated; warnings are what its author should
know. All of them are found, not only the first.
"""

import math
import os
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from asd_jax.data.clips import UNLABELLED
from asd_jax.data.ground_truth import names_of
from asd_jax.data.layouts import DataSource, find_clips
from asd_jax.data.names import official_name
from asd_jax.data.official_sets import n_test_clips, official_sections
from asd_jax.data.years import YEARS
from asd_jax.errors import UserError
from asd_jax.evaluation.challenge import (
    DECISIONS,
    SCORES,
    ResultFile,
    file_suffix,
    parse_result_file,
)
from asd_jax.evaluation.submission_form import check_form, check_label

META = ".meta.yaml"
# Machine, section, and the domain in 2021, where each has files of its own; else "".
Place = tuple[str, str, str]
Expected = Mapping[Place, Collection[str]]  # names of the test clips


class SubmissionCheck(NamedTuple):
    """What is wrong with a submission.

    Attributes:
        folder: the submission.
        year: challenge year that it was checked as; None where it is not known.
        n_clips: clips that have a score.
        faults: lines on what keeps it from being accepted.
        warnings: lines on what may be meant.
    """

    folder: Path
    year: int | None
    n_clips: int
    faults: tuple[str, ...]
    warnings: tuple[str, ...]

    @property
    def accepted(self) -> bool:
        """Whether it would be accepted."""
        return not self.faults


def place_of(machine: str, section: str, domain: str, year: int) -> Place:
    """The place of a clip among a year's result files."""
    return machine, section, domain if year == 2021 else ""


def expected_clips(data_dir: DataSource, year: int | None = None) -> tuple[int, Expected]:
    """Year and test clips of an evaluation set, by its recordings.

    Args:
        data_dir: of the recordings.
        year: challenge year, where their layout does not show it.

    Raises:
        UserError: there is no evaluation set, or test clips have other names than those published.
    """
    clips = find_clips(data_dir, year)
    clips = clips[clips.where(subset="eval", split="test")]
    years = clips.distinct("year")
    if not len(clips) or not set(years) <= {*YEARS}:
        raise UserError(f"{data_dir} has no test clips of an evaluation set of the challenge")
    if len(years) > 1:
        raise UserError(
            f"{data_dir} has evaluation sets of {', '.join(map(str, years))}; give the folder of "
            "one, or --year"
        )
    expected: dict[Place, set[str]] = {}
    for clip in clips:
        check_published_name(clip.name, str(data_dir))
        place = place_of(clip.machine, clip.section, clip.domain, years[0])
        expected.setdefault(place, set()).add(clip.name)
    return years[0], expected


def check_published_name(name: str, where: str) -> None:
    """Raises UserError for a name that was given to a test clip afterwards, with its label."""
    named = official_name(name)
    if named is not None and named.label != UNLABELLED:
        raise UserError(
            f"{where} has test clips that were renamed, as {name}; a submission has the names as "
            "published, so take the recordings without test_rename"
        )


def check_submission(
    folder: os.PathLike | str, *, year: int | None = None, expected: Expected | None = None
) -> SubmissionCheck:
    """Finds what is wrong with a submission.

    Args:
        folder: the folder of one system, named by its label.
        year: challenge year; by default the files' names tell it.
        expected: test clips of the recordings that it is of; by default those of the official
            evaluation set, of which numbers are known.

    Raises:
        UserError: there is no such folder.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise UserError(f"{folder} is no folder; give the one with the result files of a system")
    label = folder.resolve().name
    inside = [path for path in folder.iterdir() if (path / f"{path.name}{META}").is_file()]
    if inside and not (folder / f"{label}{META}").is_file():
        raise UserError(f"{folder} is a folder of submissions; name one of them, as {min(inside)}")
    faults, warnings = check_label(label), list[str]()
    files: dict[str, ResultFile] = {}
    for path in sorted(folder.iterdir()):
        parsed = parse_result_file(path.name)
        if parsed is not None and path.is_file():
            files[path.name] = parsed
        elif path.name != label + META:
            kind = "folder" if path.is_dir() else "file"
            faults.append(f"{path.name}: no {kind} of a submission; remove it")
    form = folder / f"{label}{META}"
    if form.is_file():
        faults += [f"{form.name} {line}" for line in check_form(form.read_bytes(), label)]
    else:
        faults.append(f"{form.name} is missing")
    if not files:
        faults.append(f"there are no result files, as {SCORES}_<machine>_section_00_test.csv")
        return SubmissionCheck(folder, year, 0, tuple(faults), ())
    year = year or _year_of([*files.values()])
    if year is None:
        machines = sorted({file.machine for file in files.values()})
        faults.append(
            f"{', '.join(machines)}: of no evaluation set of 2022 to {YEARS[-1]}; --year says of "
            "which year the files are"
        )
        return SubmissionCheck(folder, None, 0, tuple(faults), ())
    example = file_suffix("<machine>", "NN", "source", year)
    for name in [name for name, file in files.items() if year not in file.years]:
        del files[name]
        faults.append(f"{name}: not a name of {year}, as {SCORES}_{example}.csv")
    found: dict[Place, dict[str, _Content]] = {}
    for name, file in files.items():
        place = place_of(file.machine, file.section, file.domain, year)
        content = _read(folder / name, file, year)
        found.setdefault(place, {})[file.kind] = content
        faults += [f"{name}: {line}" for line in content.faults]
    for place, contents in sorted(found.items()):
        own_faults, own_warnings = _check_place(place, contents, year)
        faults, warnings = faults + own_faults, warnings + own_warnings
    own = {place: _names(contents) for place, contents in found.items()}
    if expected is None:
        faults += _check_official(own, year, of="the files")
    else:
        faults += _check_expected(own, expected, year)
        warnings += _check_official(expected, year, of="the recordings")
    n_clips = sum(len(names) for names in own.values())
    return SubmissionCheck(folder, year, n_clips, tuple(faults), tuple(warnings))


def _year_of(files: Sequence[ResultFile]) -> int | None:
    """The year that the names of most files are of; None where they are of no known set."""
    (years, _), *_ = Counter(file.years for file in files).most_common(1)
    if len(years) == 1:
        return years[0]
    sections = {(file.machine, file.section) for file in files if file.years == years}
    common = {year: len(sections & official_sections(year, "eval")) for year in years}
    best = max(common, key=lambda year: common[year])
    return best if common[best] else None


class _Content(NamedTuple):
    """What a result file has.

    Attributes:
        values: text of each clip's value; of a clip that is there twice the first one.
        faults: of its form and of single lines.
    """

    values: Mapping[str, str]
    faults: Sequence[str]


def _read(path: Path, file: ResultFile, year: int) -> _Content:
    content, faults = path.read_bytes(), []
    if content.startswith(b"\xef\xbb\xbf"):
        faults.append("begins with a byte-order mark; save it as UTF-8 without one")
        content = content[3:]
    if b"\r" in content:
        faults.append("has line ends of Windows (CRLF); save it with those of Unix (LF)")
        content = content.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    try:
        lines = content.decode("utf-8").split("\n")
    except UnicodeDecodeError as error:
        return _Content({}, [*faults, f"is no UTF-8, at byte {error.start}"])
    if lines[-1] == "":
        lines.pop()
    if not lines:
        return _Content({}, [*faults, "is empty"])
    is_value, wanted = (
        (_is_score, "finite numbers") if file.kind == SCORES else (_is_decision, "0 or 1")
    )
    values: dict[str, str] = {}
    odd: dict[str, list[str]] = {}  # what is wrong → lines in which it is
    for number, line in enumerate(lines, 1):
        name, comma, value = line.partition(",")
        shown = f"line {number}: {line[:60]}"
        if number == 1 and not name.endswith(".wav") and not _is_score(value):
            faults.append(f"has a heading, {line[:60]}; remove it")
            continue
        if not comma or "," in value:
            odd.setdefault("lines that are not a name and a value", []).append(shown)
            continue
        if not _is_name(name, file, year):
            what = f"names that are not of test clips of section {file.section} in {year}"
            odd.setdefault(what, []).append(shown)
        if not is_value(value):
            odd.setdefault(f"values that are not {wanted}", []).append(shown)
        if name in values:
            odd.setdefault("clips that are there twice", []).append(shown)
        values.setdefault(name, value)
    faults += [f"{what} ({len(own)}), first {own[0]}" for what, own in odd.items()]
    return _Content(values, faults)


def _is_score(text: str) -> bool:
    """Whether a text is a finite number; Python's reading of 1_000 is not everybody's."""
    try:
        return math.isfinite(float(text)) and "_" not in text
    except ValueError:
        return False


def _is_decision(text: str) -> bool:
    return text in ("0", "1")


def _is_name(name: str, file: ResultFile, year: int) -> bool:
    """Whether a name is one of a test clip as published, without its label."""
    named = official_name(name)
    return (
        named is not None
        and name.endswith(".wav")
        and named.by_id == (year == 2020)
        and named.section == file.section
        and named.label == UNLABELLED
        and not named.attributes
        and named.domain == file.domain
        and named.split == ("test" if year == 2021 else None)
    )


def _check_place(
    place: Place, contents: Mapping[str, _Content], year: int
) -> tuple[list[str], list[str]]:
    """Faults and warnings of the files of a section, beside each other."""
    suffix = file_suffix(*place, year)
    kinds = (SCORES, DECISIONS) if year >= 2021 else (SCORES,)
    faults = [f"{kind}_{suffix}.csv is missing" for kind in kinds if kind not in contents]
    warnings = []
    if not faults and year >= 2021:
        scored, decided = (contents[kind].values.keys() for kind in kinds)
        for names, what in ((scored - decided, "a score only"), (decided - scored, "no score")):
            if names:
                faults.append(
                    f"{suffix}: clips with {what} ({len(names)}): {names_of(sorted(names))}"
                )
    scores = [value for value in contents.get(SCORES, _Content({}, ())).values.values()]
    numbers = {float(value) for value in scores if _is_score(value)}
    if len(scores) > 1 and len(numbers) == 1:
        warnings.append(f"{SCORES}_{suffix}.csv: all {len(scores)} scores are {scores[0]}")
    return faults, warnings


def _names(contents: Mapping[str, _Content]) -> Collection[str]:
    """The clips of a section, those with a score if there are such."""
    kind = SCORES if SCORES in contents else DECISIONS
    return contents[kind].values.keys()


def _check_expected(own: Expected, expected: Expected, year: int) -> list[str]:
    """Faults beside the test clips of the recordings."""
    faults = []
    if missing := expected.keys() - own.keys():
        faults.append(f"there are no files of {_places(missing)}, which the recordings have")
    if others := own.keys() - expected.keys():
        faults.append(f"there are files of {_places(others)}, which the recordings do not have")
    for place in sorted(own.keys() & expected.keys()):
        theirs, here = {*expected[place]}, {*own[place]}
        for names, what in (
            (theirs - here, "lack clips of the recordings"),
            (here - theirs, "have clips that are no recordings"),
        ):
            if names:
                faults.append(
                    f"{file_suffix(*place, year)}: the files {what} ({len(names)}): "
                    f"{names_of(sorted(names))}"
                )
    return faults


def _check_official(own: Expected, year: int, of: str) -> list[str]:
    """Lines on machines, sections and numbers of clips that are not the evaluation set's."""
    domains: tuple[str, ...] = ("source", "target") if year == 2021 else ("",)
    wanted = {
        (*section, domain) for section in official_sections(year, "eval") for domain in domains
    }
    where = f"the evaluation set of {year}"
    lines = []
    if missing := wanted - own.keys():
        lines.append(f"{of} lack {_places(missing)} of {where}")
    if others := own.keys() - wanted:
        lines.append(f"{of} have {_places(others)}, which {where} does not have")
    differing = [
        f"{' '.join(filter(None, place))} {len(own[place])} of {count}"
        for place in sorted(wanted & own.keys())
        if (count := n_test_clips(year, *place)) not in (None, len(own[place]))
    ]
    if differing:
        lines.append(f"{of} have other numbers of clips than {where}: {', '.join(differing)}")
    return lines


def _places(places: Collection[Place]) -> str:
    """Places by machine.

    Examples:
        >>> _places({("fan", "03", ""), ("fan", "04", ""), ("pump", "03", "source")})
        'fan 03 04, pump 03 source'
    """
    of_machines: dict[str, list[str]] = {}
    for machine, *rest in sorted(places):
        of_machines.setdefault(machine, []).append(" ".join(filter(None, rest)))
    return ", ".join(" ".join([machine, *own]) for machine, own in of_machines.items())
