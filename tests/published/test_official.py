"""The organisers' baselines since 2023: printed means are those of their parts."""

import numpy as np
import pytest

from asd_jax.data.synthetic.takes import machines_of
from asd_jax.evaluation.results import ScoreRow, evaluate
from asd_jax.metrics import harmonic_mean, official_score
from asd_jax.published import load_published
from asd_jax.published.scores import load_scores

SETS = [(system, year) for system in ("dense_ae_2023", "mahalanobis_2023") for year in (2023, 2024)]
# Half a unit of the last digit of a mean, and as much of its parts, in percent.
ROUNDING = 0.01


def numbers(system, year):
    rows = load_published(system, year)
    return {(r.machine, r.domain, r.metric): float(r.percent) for r in rows}


@pytest.mark.parametrize(("system", "year"), SETS)
def test_means_over_the_machines_are_harmonic(system, year):
    found = numbers(system, year)
    machines = machines_of(year, "eval")
    assert {machine for machine, *_ in found} == {*machines, "mean"}
    for key in (("source", "auc"), ("target", "auc"), ("all", "pauc_mcclish")):
        own = [found[machine, *key] for machine in machines]
        assert found["mean", *key] == pytest.approx(float(harmonic_mean(own)), abs=ROUNDING)


@pytest.mark.parametrize(("system", "year"), SETS)
def test_the_official_score_is_that_of_the_machines(system, year):
    """As `metrics.official_score` computes it, so that ours is the same quantity."""
    found = {key: value / 100 for key, value in numbers(system, year).items() if key[0] != "mean"}
    domains, aucs, paucs = [], [], []
    for machine in machines_of(year, "eval"):
        for domain in ("all", "source", "target"):
            domains.append(domain)
            aucs.append(found.get((machine, domain, "auc"), np.nan))
            paucs.append(found.get((machine, domain, "pauc_mcclish"), np.nan))
    expected = float(official_score(year, domains, aucs, paucs)["official score"])
    (printed,) = [
        n.percent
        for n in load_scores(year, "eval")
        if n.configuration == system and n.metric == "score"
    ]
    assert float(printed) == pytest.approx(100 * expected, abs=ROUNDING)


def test_a_domain_s_normal_clips_stand_against_all_anomalies():
    """Then, of as many normal clips, the AUC of both domains is the mean of the domains'.

    Against a domain's own anomalies alone it would not be. The shaker's domains have unequal
    numbers of normal clips, and its AUC of both is between the domains'.
    """
    for year, machine in ((2023, "ToyDrone"), (2024, "3DPrinter"), (2024, "ToyCircuit")):
        found = numbers("dense_ae_2023", year)
        both, *each = (found[machine, domain, "auc"] for domain in ("all", "source", "target"))
        assert both == pytest.approx(np.mean(each), abs=ROUNDING), machine
    found = numbers("dense_ae_2023", 2023)
    low, both, high = (found["shaker", domain, "auc"] for domain in ("target", "all", "source"))
    assert low < both < high and abs(both - (low + high) / 2) > 0.1


def test_our_domains_are_the_same_quantity():
    """Of as many normal clips, though the anomalies of the domains differ in number and level."""
    rng = np.random.default_rng(0)
    rows = [
        ScoreRow("fan", "00", domain, 0, f"{domain}{label}{i}", label, score, 0.0, 0)
        for domain, label, level, count in (
            ("source", 0, 0, 20),
            ("target", 0, 1, 20),
            ("source", 1, 2, 30),
            ("target", 1, 0.5, 10),
        )
        for i, score in enumerate(rng.normal(level, 1, count))
    ]
    found = {row.domain: row.auc for row in evaluate(rows, 2024)}
    assert found["all"] == pytest.approx((found["source"] + found["target"]) / 2, abs=1e-12)
    assert abs(found["source"] - found["target"]) > 0.05


def test_the_report_of_kazakova_averages_sections_arithmetically():
    """To 0.01; the harmonic mean is below what is printed by 0.25 at least."""
    rows = [r for r in load_published(year=2022) if r.table == "Table 1" and r.metric == "auc"]
    checked = 0
    for name in dict.fromkeys(row.row for row in rows):
        own = {r.section: float(r.percent) for r in rows if r.row == name}
        sections = [own[section] for section in ("00", "01", "02")]
        if name != "clear AE":  # 49.19, as its note says
            assert own["mean"] == pytest.approx(np.mean(sections), abs=0.0101), name
            assert float(harmonic_mean(sections)) < own["mean"] - 0.24, name
            checked += 1
    assert checked == 6
