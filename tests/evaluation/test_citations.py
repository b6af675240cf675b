"""Which published numbers may stand beside a run's lines."""

import pytest

from asd_jax.data.synthetic.takes import sections_of
from asd_jax.evaluation.citations import agree, beside
from asd_jax.evaluation.results import MEAN, ResultRow
from asd_jax.published import Published, load_published


def rows_of(machine, sections, domain="all", counts=(5, 5)):
    return [
        ResultRow(machine, section, domain, 0, *counts, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5)
        for section in sections
    ]


def number(year, machine, section, domain="all", percent="60.0"):
    return Published(
        "Paper", "Table 1", "a", "dense_ae", year, machine, section, domain, "auc", percent, ""
    )


@pytest.mark.parametrize(
    ("year", "machine", "sections", "shown"),
    [
        (2020, "fan", ("00", "02", "04", "06"), True),
        (2020, "fan", ("00", "02"), False),  # a part
        (2020, "fan", ("00", "02", "04", "06", "01"), False),  # and more
        (2020, "ToyConveyor", ("01", "02", "03"), True),
        (2020, "fan", sections_of(2020, "eval", "fan"), False),
        (2022, "fan", ("00", "01", "02"), False),  # ours is harmonic, theirs arithmetic
        (2021, "fan", ("00", "01", "02"), False),
        (2023, "fan", ("00",), True),  # of one section both are the same
        (2023, "shaker", ("00",), True),  # a machine of the evaluation set
    ],
)
def test_a_mean_stands_beside_the_same_mean(year, machine, sections, shown):
    numbers = [number(year, machine, MEAN), number(year, machine, sections[0])]
    found = beside(numbers, rows_of(machine, sections), year)
    places = [line[1] for line, _ in found]
    assert places == [MEAN] * shown + [sections[0]]


def test_sections_without_labels_are_not_in_a_mean():
    rows = rows_of("fan", ("00", "02", "04")) + rows_of("fan", ("06",), counts=(0, 0))
    numbers = [number(2020, "fan", section) for section in (MEAN, "00", "06")]
    assert [line[1] for line, _ in beside(numbers, rows, 2020)] == ["00"]


def test_year_domain_and_machine_are_those_of_the_line_and_the_first_counts():
    rows = rows_of("fan", ("00",), "source")
    others = [
        number(2021, "fan", "00", "target"),
        number(2022, "fan", "00", "source"),
        number(2021, "pump", "00", "source"),
        number(2021, "fan", "01", "source"),
    ]
    assert beside(others, rows, 2021) == {}
    first, second = (number(2021, "fan", "00", "source", percent) for percent in ("60", "61"))
    found = beside([*others, first, second], rows, 2021)
    assert found == {(("fan", "00", "source"), "auc"): first}


def test_no_mean_of_kazakova_stands_beside_harmonic_ones():
    rows = rows_of("fan", ("00", "01", "02")) + rows_of("ToyCar", ("00", "01", "02"))
    found = beside(load_published("outlier_exposure_ae", 2022), rows, 2022)
    assert {line[1] for line, _ in found} == {"00", "01", "02"}


def test_when_runs_share_a_column():
    line, mean = ("fan", "00", "all"), ("fan", MEAN, "all")
    one, other = {(line, "auc"): number(2020, "fan", "00")}, {}
    assert agree([one, one], [[line], [line, mean]])
    assert agree([one, other], [[line], [mean]])  # the second has no such line
    assert not agree([one, other], [[line], [line]])
