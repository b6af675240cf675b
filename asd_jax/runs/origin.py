"""Whose recordings a run is of: published numbers stand only beside the challenge's own.

A folder called `fan` may hold anybody's fan. What tells the challenge's sets are machines,
sections, and numbers of training clips:

| year | training clips of a section |
|---|---|
| 2020 | development: those of `data.dcase2020`, each id its own number; evaluation: 300 to 1100 |
| 2021 | about 1000 source and 3 target clips |
| 2022 to 2025 | 990 source and 10 target clips |
| 2026 | 900 to 1100 |

Where a number is exact and met, the recordings are taken to be the challenge's. Where it is not
exact, or up to 2 % of the clips are missing (clips that cannot be used are left out), published
numbers are shown with a note that this is not known. Beside other recordings there are none, but
for synthetic ones, which are known to be that: their tables say so.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from asd_jax.data.dcase2020 import TRAINING_CLIPS
from asd_jax.data.synthetic.takes import machines_of, sections_of
from asd_jax.data.years import YEARS
from asd_jax.evaluation.results import MEAN, TrainingRow
from asd_jax.evaluation.row_table import RowTable, over_seeds
from asd_jax.published import POOLED, Published

SYNTHETIC = "The data is synthetic; published numbers are of the challenge's recordings."
_OF_2022 = {"source": 990, "target": 10}  # training clips by domain
_MISSING = 0.02  # share of a section's training clips
_ABOUT_2021 = range(900, 1101)  # source clips
# Where the numbers are not known, a section's training clips by year and set.
_ABOUT = {
    (2020, "eval"): range(300, 1101),
    (2026, "dev"): _ABOUT_2021,
    (2026, "eval"): _ABOUT_2021,
}


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


def origins(rows: Iterable[TrainingRow], year: int, subset: str = "dev") -> dict[str, Origin]:
    """Finds the machines whose recordings may be those of a challenge's set.

    Args:
        rows: a run's training clips, of any seeds.
        year: challenge year.
        subset: "dev" or "eval".

    Returns:
        Machine → what tells that; without the machines of other recordings.
    """
    table = RowTable.of(rows, TrainingRow)
    counts: dict[str, dict[str, Counter]] = defaultdict(lambda: defaultdict(Counter))
    for (machine, section, domain), own in table.groups("machine", "section", "domain").items():
        counts[machine][section][domain] = len(over_seeds(table, own).first)
    found = {}
    for machine, sections in counts.items():
        if year not in YEARS or machine not in machines_of(year, subset):
            continue
        known = sections_of(year, subset, machine)
        sure = [
            section in known and _is_sure(year, subset, machine, section, own)
            for section, own in sections.items()
        ]
        if None not in sure and set(sections) <= set(known):
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
    named = {machine for row in published for machine in row.machines}
    if data["synthetic"]:
        return Comparison(tuple(published), (SYNTHETIC,))
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
    return Comparison(tuple(row for row in published if _is_of(row, found)), tuple(notes))


def _is_of(number: Published, found: Mapping[str, Origin]) -> bool:
    """Whether a number may be of recordings by machine; a mean or sum needs all its sections."""
    machines = number.machines or machines_of(number.year, "dev")
    single = number.section not in (MEAN, POOLED)
    return all(m in found and (single or found[m].is_whole) for m in machines)


def _is_sure(year: int, subset: str, machine: str, section: str, own: Counter) -> bool | None:
    """Whether a section's numbers of clips by domain are the challenge's; None if they are not."""
    n = own.total()
    if (year, subset) in _ABOUT:
        return False if n in _ABOUT[year, subset] else None
    if year == 2021:
        fits = set(own) <= {"source", "target"} and own["source"] in _ABOUT_2021
        return False if fits and own["target"] in (2, 3) else None
    wanted = {"": TRAINING_CLIPS[machine][0][section]} if year == 2020 else _OF_2022
    if own == Counter(wanted):
        return True
    whole = sum(wanted.values())
    return False if set(own) <= set(wanted) and (1 - _MISSING) * whole <= n <= whole else None
