"""Numbers of test clips of the challenge's evaluation sets."""

import pytest

from asd_jax.data.official_sets import n_test_clips
from asd_jax.data.synthetic.takes import machines_of, sections_of


@pytest.mark.parametrize(
    ("year", "total"),
    [(2020, 7103), (2021, 8635), (2022, 4200), (2023, 1400), (2024, 1800), (2025, 1600)],
)
def test_clips_of_a_year(year, total):
    """Lines with a clip in the baselines' list of the year's evaluation set."""
    domains = ("source", "target") if year == 2021 else ("",)
    counts = [
        n_test_clips(year, machine, section, domain)
        for machine in machines_of(year, "eval")
        for section in sections_of(year, "eval", machine)
        for domain in domains
    ]
    assert sum(counts) == total
