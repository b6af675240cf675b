"""Bootstrap intervals of machines that come one after another."""

import numpy as np
import pytest

from asd_jax.evaluation import bootstrap
from asd_jax.evaluation.intervals import ByMachine, bootstrap_results
from asd_jax.evaluation.results import ScoreRow


def make_rows(year, machine, sections, clips=8):
    """Scores of two seeds, of as many normal clips as anomalies."""
    rng = np.random.default_rng([year, *machine.encode()])
    domains = [""] if year == 2020 else ["source", "target"]
    return [
        ScoreRow(
            machine, f"{section:02}", domains[clip % len(domains)], seed, f"{clip:02}.wav",
            label, label + float(rng.normal()), 0.5, 0,
        )
        for section in range(sections)
        for seed in (0, 1)
        for clip, label in enumerate([0, 0, 1, 1] * (clips // 4))
    ]  # fmt: skip


@pytest.fixture(params=[2020, 2021, 2023])
def year(request):
    return request.param


def machines_of(year):
    return [make_rows(year, "fan", 1), make_rows(year, "pump", 3), make_rows(year, "valve", 2, 12)]


def assert_same(found, expected):
    assert [*found] == [*expected]
    for key, values in expected.items():
        for one, other in zip(found[key], values, strict=True):
            np.testing.assert_array_equal(one, other)


def added(year, longest, machines):
    by_machine = ByMachine(year, longest)
    for rows in machines:
        by_machine.add(rows)
    return by_machine


def test_machine_by_machine_is_all_at_once(year):
    machines = machines_of(year)
    rows = sum(machines, [])
    assert_same(added(year, 12, machines).of(rows), bootstrap_results(rows, year))


def test_a_machine_that_was_not_added_is_not_missing(year):
    machines = machines_of(year)
    rows = sum(machines, [])
    assert_same(added(year, 12, machines[:2]).of(rows), bootstrap_results(rows, year))


def test_another_longest_section_draws_as_all_at_once(year, monkeypatch):
    monkeypatch.setattr(bootstrap, "_BLOCK", 6000)  # 500 resamples of 12 clips at a time
    machines = machines_of(year)
    rows = sum(machines, [])
    expected = bootstrap_results(rows, year)
    assert_same(added(year, 12, machines).of(rows), expected)
    assert_same(added(year, 40, machines).of(rows), expected)


def test_nothing_scored_has_no_intervals(year):
    assert ByMachine(year, 0).of([]) == {}
