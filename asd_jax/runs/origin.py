"""Whose recordings a run is of: published numbers stand only beside the challenge's own.

A folder called `fan` may hold anybody's fan. What tells the challenge's development sets, which all
published numbers are of, are machines, sections, and numbers of training clips:

| year | training clips of a section |
|---|---|
| 2020 | those of `data.dcase2020`, each id its own number |
| 2021 | about 1000 source and 3 target clips |
| 2022 | 990 source and 10 target clips |

Where a number is exact and met, the recordings are taken to be the challenge's. Where it is not
exact, or up to 2 % of the clips are missing (clips that cannot be used are left out), published
numbers are shown with a note that this is not known. Beside other recordings there are none, but
for synthetic ones, which are known to be that: their tables say so.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from asd_jax.data.dcase2020 import TRAINING_CLIPS
from asd_jax.data.years import official_archives
from asd_jax.evaluation.results import MEAN, TrainingRow
from asd_jax.published import Published

_SECTIONS = ("00", "01", "02")  # of the development sets of 2021 and 2022
_OF_2022 = {"source": 990, "target": 10}  # training clips by domain
_MISSING = 0.02  # share of a section's training clips
_ABOUT_2021 = range(900, 1101)  # source clips


class Origin(NamedTuple):
    """What tells that a machine's recordings are the challenge's.

    Attributes:
        is_sure: whether the numbers of clips are those of the challenge.
        is_whole: whether the machine has all of its sections.
    """

    is_sure: bool
    is_whole: bool


class Comparison(NamedTuple):
    """Published numbers that may stand beside a run's results, and notes on them."""

    published: tuple[Published, ...]
    notes: tuple[str, ...]


def origins(rows: Iterable[TrainingRow], year: int) -> dict[str, Origin]:
    """Finds the machines whose recordings may be those of a challenge's development set.

    Args:
        rows: a run's training clips, of any seeds.
        year: challenge year.

    Returns:
        Machine → what tells that; without the machines of other recordings.
    """
    clips = {(row.machine, row.section, row.domain, row.clip) for row in rows}
    counts: dict[str, dict[str, Counter]] = defaultdict(lambda: defaultdict(Counter))
    for machine, section, domain, _ in clips:
        counts[machine][section][domain] += 1
    found = {}
    for machine, sections in counts.items():
        known = _sections(year, machine)
        sure = [_is_sure(year, machine, section, own) for section, own in sections.items()]
        if known and None not in sure:
            found[machine] = Origin(all(sure), set(sections) == set(known))
    return found


def compare(
    published: Sequence[Published],
    machines: Iterable[str],
    rows: Iterable[TrainingRow],
    data: Mapping,
) -> Comparison:
    """Chooses the published numbers that may stand beside a run's results.

    Args:
        published: numbers of the run's system and year.
        machines: machine types of the results.
        rows: the run's training clips.
        data: the run directory's description of its recordings.
    """
    machines = sorted(set(machines))
    named = {row.machine for row in published}
    if data["synthetic"]:
        note = "The data is synthetic; published numbers are of the challenge's recordings."
        return Comparison(tuple(published), (note,))
    if not named & set(machines):
        return Comparison((), ())
    year, found = data["year"], origins(rows, data["year"])
    notes = []
    unsure = [m for m in machines if m in named and m in found and not found[m].is_sure]
    others = [m for m in machines if m in named and m not in found]
    if unsure:
        notes.append(
            f"{', '.join(unsure)}: names and numbers are like those of DCASE {year}'s development "
            "set; whether they are its recordings is not known."
        )
    if others:
        notes.append(
            f"{', '.join(others)}: without published numbers, as sections and numbers of training "
            f"clips are not those of DCASE {year}'s development set."
        )
    shown = (
        row
        for row in published
        if row.machine in found and (row.section != MEAN or found[row.machine].is_whole)
    )
    return Comparison(tuple(shown), tuple(notes))


def _sections(year: int, machine: str) -> tuple[str, ...]:
    """Sections of a machine in a development set that numbers were published of; () for none."""
    if year == 2020:
        return tuple(TRAINING_CLIPS.get(machine, ({}, 0))[0])
    there = {
        each.machine for each in official_archives() if (each.year, each.subset) == (year, "dev")
    }
    return _SECTIONS if year in (2021, 2022) and machine in there else ()


def _is_sure(year: int, machine: str, section: str, own: Counter) -> bool | None:
    """Whether a section's numbers of clips by domain are the challenge's; None if they are not."""
    if section not in _sections(year, machine):
        return None
    if year == 2021:
        fits = set(own) <= {"source", "target"} and own["source"] in _ABOUT_2021
        return False if fits and own["target"] in (2, 3) else None
    wanted = {"": TRAINING_CLIPS[machine][0][section]} if year == 2020 else _OF_2022
    if own == Counter(wanted):
        return True
    n, whole = own.total(), sum(wanted.values())
    return False if set(own) <= set(wanted) and (1 - _MISSING) * whole <= n <= whole else None
