"""A choice and how sure it is, against values by hand and the normal distribution."""

import numpy as np
import pytest
import scipy.stats

from asd_jax.evaluation.pseudo_auc import DRAWS, MachineMeasure
from asd_jax.evaluation.selection import MACHINE_SD, RUN_SD, SLOPE, best_of, choose, true_aucs

# Of a probability by 2000 draws, three standard errors: 3 · √(0.25 / 2000).
DRAWN = 0.034


def machine(auc, alike=0.0, error=0.0):
    auc = np.asarray(auc, float)
    matrix = np.full((len(auc), len(auc)), float(alike))
    np.fill_diagonal(matrix, 1.0)
    noise = np.random.default_rng(3).normal(0, 1, (len(auc), DRAWS))
    return MachineMeasure(
        np.zeros((len(auc), 1, 1)), np.zeros(1, int), auc, auc / 2, auc[:, None] + error * noise,
        matrix,
    )  # fmt: skip


def chosen(measures, names="abc", least=0.5):
    n = len(next(iter(measures.values())).auc)
    return choose(names[:n], measures, least=least, rng=np.random.default_rng(5))


@pytest.mark.parametrize("n_machines", [1, 4])
@pytest.mark.parametrize("alike", [0.0, 0.8])
@pytest.mark.parametrize("error", [0.0, 0.05])
def test_how_sure_it_is_by_the_normal_distribution(n_machines, alike, error):
    measures = {f"m{i}": machine([0.7, 0.8], alike, error) for i in range(n_machines)}
    found = chosen(measures)
    assert found.names == ("b", "a")
    # The difference of two true AUCs: SLOPE · 0.1 and an error of two parts; each machine has the
    # same resamples here, which therefore do not average out.
    variance = 2 * (1 - alike) * (RUN_SD**2 + MACHINE_SD**2 / n_machines) + 2 * (SLOPE * error) ** 2
    expected = scipy.stats.norm.cdf(SLOPE * 0.1 / np.sqrt(variance))
    assert found.sureness[0] == pytest.approx(expected, abs=DRAWN)
    own = 2 * (1 - alike) * (RUN_SD**2 + MACHINE_SD**2) + 2 * (SLOPE * error) ** 2
    expected = scipy.stats.norm.cdf(SLOPE * 0.1 / np.sqrt(own))
    np.testing.assert_allclose(found.sureness_of_machine[0], expected, atol=DRAWN)
    # Mean of a normal distribution's positive part: σ φ(μ/σ) + μ Φ(μ/σ).
    deviation, lead = np.sqrt(variance), SLOPE * 0.1
    z = lead / deviation
    loss = deviation * scipy.stats.norm.pdf(z) - lead * scipy.stats.norm.cdf(-z)
    # Three standard errors of at most 0.13 each draw.
    assert found.regret[0] == pytest.approx(loss, abs=0.009)
    assert found.regret[1] == pytest.approx(loss + lead, abs=0.009)


def test_candidates_are_ranked_by_the_mean_over_machines():
    found = chosen({"fan": machine([0.6, 0.9, 0.7]), "pump": machine([0.9, 0.7, 0.7])}, least=0)
    assert found.names == ("b", "a", "c")
    assert found.chosen == "b" and found.reason == ""
    np.testing.assert_allclose(found.auc, [0.8, 0.75, 0.7])
    np.testing.assert_allclose(found.of_machine, [[0.9, 0.7], [0.6, 0.9], [0.7, 0.7]])
    np.testing.assert_allclose(found.separation_of_all, [0.4, 0.375, 0.35])
    assert found.by_machine == {"fan": "b", "pump": "a"}
    assert found.sureness.sum() == pytest.approx(1)
    # Resamples of two machines are one, the other or both, so the lead over a is of these.
    assert (found.low[1], found.high[1]) == pytest.approx((-0.2, 0.3))
    assert (found.low[0], found.high[0]) == (0, 0)


def test_equal_candidates_share_what_is_sure():
    found = chosen({"fan": machine([0.8, 0.8, 0.6], alike=1.0)})
    # Errors are the same for all, so that only the difference decides.
    np.testing.assert_allclose(found.sureness, [0.5, 0.5, 0], atol=1e-12)
    np.testing.assert_allclose(found.regret, [0, 0, SLOPE * 0.2], atol=1e-8)


def test_it_is_undecided_below_the_limit():
    measures = {"fan": machine([0.7, 0.71])}
    found = chosen(measures, least=0.9)
    assert found.chosen is None
    assert found.reason.startswith("b has the best pseudo-AUC, and is the best by a probability of")
    assert found.reason.endswith("% only, less than 90 %")
    assert chosen(measures, least=0.5).chosen == "b"


def test_it_is_undecided_where_all_machines_saturate():
    nothing = machine([np.nan, np.nan])
    found = chosen({"fan": nothing})
    assert found.chosen is None
    assert found.reason.startswith("all candidates find the pseudo-anomalies, or all miss them")
    assert np.isnan(found.auc).all() and found.by_machine == {"fan": None}
    # Another machine decides alone.
    found = chosen({"fan": nothing, "pump": machine([0.6, 0.9])})
    assert found.chosen == "b" and found.by_machine == {"fan": None, "pump": "b"}
    assert found.auc.tolist() == pytest.approx([0.9, 0.6])
    alone = chosen({"pump": machine([0.6, 0.9])})
    assert found.sureness[0] == pytest.approx(alone.sureness[0], abs=2 * DRAWN)


def test_true_aucs_are_as_alike_as_the_scores():
    matrix = np.array([[1, 0.9, -0.2], [0.9, 1, 0.1], [-0.2, 0.1, 1]])
    found = true_aucs(np.zeros((3, 40_000)), matrix, 4, np.random.default_rng(0))
    variance = RUN_SD**2 + MACHINE_SD**2 / 4
    # Three standard errors of a correlation by 40,000 draws.
    np.testing.assert_allclose(np.cov(found) / variance, matrix, atol=0.03)


def test_shares_of_the_best_by_hand():
    share, regret = best_of(np.array([[3.0, 1.0, 2.0, 2.0], [1.0, 1.0, 2.0, 5.0], [0.0] * 4]))
    assert share.tolist() == [0.5, 0.5, 0]
    assert regret.tolist() == [0.75, 0.5, 2.75]
