"""The challenge's sets: their machines and sections, and the evaluation sets' numbers of clips.

| year | test clips of a section of the evaluation set |
|---|---|
| 2020 | 213 to 555, each machine its own numbers |
| 2021 | about 200 of each domain, in a folder of each |
| 2022 to 2025 | 200 |
| 2026 | not known here |

Counted in the lists of evaluation clips that the organisers' baselines have (`eval_data_list.csv`,
`eval_data_list_20XX.csv`): 7103, 8635, 4200, 1400, 1800 and 1600 clips from 2020 to 2025.
"""

from asd_jax.data.synthetic.takes import machines_of, sections_of
from asd_jax.data.years import YEARS

# Machine → test clips of its ids, ascending.
_OF_2020 = {
    "ToyCar": (515, 515, 515),
    "ToyConveyor": (555, 555, 555),
    "fan": (426, 458, 458),
    "pump": (216, 213, 348),
    "slider": (278, 278, 278),
    "valve": (220, 220, 500),
}
_OF_2021 = {  # machine and section → source and target clips, where they are not 200 each
    ("gearbox", "03"): (234, 286),
    ("gearbox", "04"): (252, 234),
    ("gearbox", "05"): (210, 212),
    ("slider", "05"): (204, 203),
}
_USUAL = 200


def official_sections(year: int, subset: str) -> set[tuple[str, str]]:
    """Machine and section of every section of a challenge's set."""
    return {(m, s) for m in machines_of(year, subset) for s in sections_of(year, subset, m)}


def subset_of(sections: set[tuple[str, str]], year: int) -> str | None:
    """Which of a year's sets has more of these sections; None if neither has one.

    Examples:
        >>> subset_of({("fan", "03")}, 2021), subset_of({("blender", "03")}, 2021)
        ('eval', None)
    """
    if year not in YEARS:
        return None
    common = {s: len(official_sections(year, s) & sections) for s in ("dev", "eval")}
    best = max(common, key=lambda subset: common[subset])
    return best if common[best] else None


def n_test_clips(year: int, machine: str, section: str, domain: str = "") -> int | None:
    """Test clips of a section of a year's evaluation set, which must have the section.

    Args:
        year: challenge year.
        machine: machine type.
        section: machine id or section.
        domain: "source" or "target" of 2021, whose clips are apart; else "".

    Returns:
        The number; None where it is not known.

    Examples:
        >>> n_test_clips(2020, "fan", "01"), n_test_clips(2021, "gearbox", "03", "target")
        (426, 286)
        >>> n_test_clips(2024, "Scanner", "00"), n_test_clips(2026, "Sander", "00")
        (200, None)
    """
    if year == 2020:
        return _OF_2020[machine][sections_of(2020, "eval", machine).index(section)]
    if year == 2021:
        source, target = _OF_2021.get((machine, section), (_USUAL, _USUAL))
        return {"source": source, "target": target}[domain]
    return _USUAL if year <= 2025 else None
