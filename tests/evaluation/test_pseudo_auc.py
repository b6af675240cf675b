"""Pseudo-AUC and the bound against scikit-learn and values by hand, and which strengths count."""

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from asd_jax.evaluation.pseudo_auc import (
    AIM,
    DRAWS,
    SectionScores,
    measure,
    normal_weights,
    separation,
    strengths_of,
    weighted_auc,
)

RNG = np.random.default_rng(0)


def test_the_weighted_auc_is_that_of_scikit_learn_with_ties():
    normal, pseudo = RNG.integers(0, 9, (2, 3, 20)).astype(float)
    pseudo = pseudo[:, :13] + 2
    of_normal, of_pseudo = RNG.random((5, 20)), RNG.integers(0, 4, (5, 13)).astype(float)
    found = weighted_auc(normal, pseudo, of_normal, of_pseudo)  # (3, 5)
    labels = np.repeat([0, 1], (20, 13))
    for c in range(3):
        scores = np.concatenate([normal[c], pseudo[c]])
        for d in range(5):
            weights = np.concatenate([of_normal[d], of_pseudo[d]])
            # Both are sums of 260 products of float64.
            assert found[c, d] == pytest.approx(
                roc_auc_score(labels, scores, sample_weight=weights), abs=1e-12
            )
        assert weighted_auc(normal[c], pseudo[c]) == pytest.approx(roc_auc_score(labels, scores))


def test_scores_that_are_none_have_no_auc():
    normal, pseudo = np.array([[0.0, np.nan], [0.0, 1.0]]), np.ones((2, 2))
    assert np.isnan(weighted_auc(normal, pseudo)).tolist() == [True, False]
    assert np.isnan(weighted_auc(normal[1], pseudo[1], np.zeros((1, 2)))).all()


def test_the_bound_by_hand():
    # Means 1 and 4, variances 1 and 1: 9 / (1 + 1 + 9).
    assert separation(np.array([0.0, 2.0]), np.array([3.0, 5.0])) == pytest.approx(9 / 11)
    # It does not depend on the scale, and is 0 where pseudo-anomalies score lower, or all equal.
    assert separation(np.array([0.0, 20.0]), np.array([30.0, 50.0])) == pytest.approx(9 / 11)
    assert separation(np.array([3.0, 5.0]), np.array([0.0, 2.0])) == 0
    assert separation(np.ones(2), np.ones(3)) == 0
    assert np.isnan(separation(np.array([np.nan, 1.0]), np.ones(3)))


def test_weights_of_the_domains_give_the_mean_of_their_aucs():
    normal, pseudo = RNG.normal(size=50), RNG.normal(1, 1, 20)
    target = np.arange(50) < 5
    labels = [0] * 50 + [1] * 20
    own = [
        roc_auc_score([*[0] * domain.sum(), *[1] * 20], [*normal[domain], *pseudo])
        for domain in (target, ~target)
    ]
    found = weighted_auc(normal, pseudo, normal_weights(target)[None])[0]
    assert found == pytest.approx(np.mean(own), abs=1e-12)
    few = weighted_auc(normal, pseudo, normal_weights(np.arange(50) < 4)[None])[0]
    assert few == pytest.approx(roc_auc_score(labels, [*normal, *pseudo]), abs=1e-12)


def section(shifts, n_normal=40, n_pseudo=30, group=None, target=None):
    """Normal scores; pseudo-anomalies are shifted by (candidates, kinds, strengths)."""
    shifts = np.asarray(shifts, float)
    rng = np.random.default_rng(1)
    normal = rng.normal(size=(len(shifts), n_normal))
    kind = np.arange(n_pseudo) % shifts.shape[1]
    noise = rng.normal(size=(len(shifts), n_pseudo))
    pseudo = noise[:, None] + np.moveaxis(shifts[:, kind], 1, 2)
    return SectionScores(
        normal,
        np.arange(n_normal) if group is None else group,
        np.zeros(n_normal, bool) if target is None else target,
        pseudo,
        kind,
        np.arange(n_pseudo) % n_normal,
    )


def test_the_strength_nearest_to_the_aim_counts():
    ladder = np.zeros((2, 3, 3))  # (candidates, kinds, strengths)
    ladder[0] = [[0.5, AIM - 0.1, 1.0], [1.0, 1.0, 1.0], [0.5, 0.5, 0.5]]
    ladder[1] = [[0.5, AIM + 0.1, 1.0], [0.5, 0.9, 1.0], [0.5, 0.5, 1.0]]
    # Means of 0.5, 0.8, 1; of 0.75, 0.95, 1; and of 0.5, 0.5, 0.75.
    assert strengths_of(ladder).tolist() == [1, 0, 2]
    assert strengths_of(np.full((2, 1, 3), 0.99)).tolist() == [-1]
    assert strengths_of(np.full((2, 1, 3), 0.51)).tolist() == [-1]
    assert strengths_of(np.full((2, 1, 3), np.nan)).tolist() == [-1]


def test_the_measure_is_the_mean_over_the_kinds_that_count_and_sections():
    shifts = [[[0, 1, 9], [9, 9, 9]], [[0, 1.5, 9], [9, 9, 9]]]
    one, two = section(shifts), section(shifts, n_normal=25)
    found = measure([one, two], 3, np.random.default_rng(0))
    assert found.strength.tolist() == [1, -1, -1]  # of the third kind there are none
    for c in range(2):
        own = [
            roc_auc_score(
                [*[0] * s.normal.shape[1], *[1] * 15],
                [*s.normal[c], *s.pseudo[c, 1, s.kind == 0]],
            )
            for s in (one, two)
        ]
        assert found.auc[c] == pytest.approx(np.mean(own), abs=1e-12)
        bounds = [separation(s.normal[c], s.pseudo[c, 1, s.kind == 0]) for s in (one, two)]
        assert found.separation[c] == pytest.approx(np.mean(bounds), abs=1e-12)
    assert np.isnan(found.ladder[:, 2]).all()
    assert found.drawn.shape == (2, DRAWS)
    # Of 2000 resamples of a mean with an error of some 0.04.
    np.testing.assert_allclose(found.drawn.mean(axis=1), found.auc, atol=0.01)


def test_kinds_that_may_not_count_do_not():
    own = section([[[0, 1, 9], [0, 2, 9]], [[0, 1.5, 9], [0, 1, 9]]])
    rng = np.random.default_rng
    both, one = measure([own], 2, rng(0)), measure([own], 2, rng(0), counted=[1])
    assert both.strength.tolist() == [1, 1] and one.strength.tolist() == [-1, 1]
    np.testing.assert_array_equal(one.ladder, both.ladder)
    np.testing.assert_allclose(one.auc, both.ladder[:, 1, 1], rtol=1e-12)
    np.testing.assert_allclose(both.auc, both.ladder[:, :, 1].mean(axis=1), rtol=1e-12)


def test_resamples_draw_groups_as_a_whole():
    shifts = [[[1.0]]]
    apart = measure([section(shifts)], 1, np.random.default_rng(0))
    together = measure([section(shifts, group=np.arange(40) // 20)], 1, np.random.default_rng(0))
    assert together.auc == apart.auc
    # Two groups have three resamples: one twice, the other twice, and both.
    assert len(np.unique(together.drawn.round(9))) == 3
    assert len(np.unique(apart.drawn.round(9))) > 100


def test_a_saturated_machine_has_no_measure():
    found = measure([section([[[9, 9]], [[9, 9]]])], 1, np.random.default_rng(0))
    assert found.strength.tolist() == [-1]
    for values in (found.auc, found.separation, found.drawn):
        assert np.isnan(values).all()


def test_scores_are_alike_by_their_ranks():
    own = section([[[1.0, 2.0]]] * 3)
    pseudo = own.pseudo.copy()
    normal = own.normal.copy()
    normal[1], pseudo[1] = np.exp(normal[0]), np.exp(pseudo[0])  # the same order
    normal[2], pseudo[2] = -normal[0], -pseudo[0]
    alike = measure([own._replace(normal=normal, pseudo=pseudo)], 1, np.random.default_rng(0)).alike
    np.testing.assert_allclose(alike, [[1, 1, -1], [1, 1, -1], [-1, -1, 1]], atol=1e-12)
