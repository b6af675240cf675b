"""Distances normalised by density: by hand, against scikit-learn, and against loops over refits."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.spatial.distance import cdist
from sklearn.neighbors import NearestNeighbors

from asd_jax.errors import UserError
from asd_jax.scoring.neighbourhoods import distances
from asd_jax.scoring.neighbours import METRICS
from asd_jax.scoring.normalisation import (
    FORMS,
    Density,
    density,
    leave_out,
    normalised_distance,
    varmin_alpha,
)

pytestmark = pytest.mark.usefixtures("one_thread")

# Float64 on both sides, sums of two dozen terms.
TOLERANCE = 1e-8

N = 24
TARGET = np.arange(N) % 5 == 1  # 5 rows, 4 of them count
MASK = np.arange(N) < 20
# Of one to four rows. Without group 1 there is one target row left, which has no others.
GROUP = np.arange(N) // 2 + 40
GROUP[[1, 6, 11]] = 1
GROUP[[17, 18, 19]] = 2

SETTINGS = {
    "domain by domain": {"k": 3, "k_target": 2, "form": "log"},
    "all neighbours": {"r": 0.8, "form": "difference"},
    "LDN and VarMin": {"form": "log", "alpha": None},
}
FIT = ("k", "k_target", "r")


def in_float64(function, *arguments):
    with jax.enable_x64(True):
        return jax.tree.map(np.asarray, jax.jit(function)(*arguments))


def draw(n=N, d=4, seed=0):
    """Rows of a dense and a sparse region."""
    values = np.random.default_rng(seed).normal(size=(n, d))
    return values * np.where(np.arange(n) % 3 == 0, 5, 1)[:, None]


def line(*places):
    rows = np.array(places, np.float32)[:, None]
    return np.abs(rows - rows.T)


def within_and_between():
    rows = draw()
    return cdist(rows, rows), cdist(draw(7, seed=1), rows)


def densities_by_hand(within, target, k=1, k_target=None, r=None):
    found = []
    for row in range(len(within)):
        others = [other for other in range(len(within)) if other != row]
        if k_target is not None:
            others = [other for other in others if target[other] == target[row]] or others
        near = np.sort(within[row, others])
        if r is None:
            found.append(near[: k_target if k_target and target[row] else k].mean())
        else:
            found.append(np.average(near, weights=r ** np.arange(len(near))))
    return np.array(found)


def scores_by_hand(between, within, target, form="ratio", alpha=1.0, **settings):
    """Scores of queries by a bank whose rows all count, in a loop."""
    sparse = densities_by_hand(within, target, **settings)
    change = (lambda x: x) if form == "difference" else np.log
    if alpha is None:
        apart = within + np.diag(np.full(len(within), np.inf))
        u, v = change(apart.min(axis=1)), change(sparse[apart.argmin(axis=1)])
        alpha = np.cov(u, v, bias=True)[0, 1] / v.var()
    scores = np.min(change(between) - alpha * change(sparse), axis=1)
    return np.exp(scores) if form == "ratio" else scores


WEIGHTS = {"none": 0.0, "one": 1.0, "varmin": None}


OUT = (("ratio", "one"), ("difference", "varmin"), ("log", "varmin"))


@jax.jit
def _every_form(within, between, mask):
    """Densities; α and scores of queries, by form and weight; scores of rows left out, of some."""
    known = density(within, mask, k_target=2)  # no row is of the target domain
    found = {}
    for form in FORMS:
        for name, weight in WEIGHTS.items():
            alpha = varmin_alpha(within, known, mask, form=form) if weight is None else weight
            scores = normalised_distance(between, known, mask, form=form, alpha=alpha)
            found[form, name] = (jnp.asarray(alpha), scores)
    out = {
        (form, name): leave_out(within, mask, form=form, alpha=WEIGHTS[name]) for form, name in OUT
    }
    return known, found, out


def every_form(*arguments):
    return jax.tree.map(np.asarray, _every_form(*arguments))


ALL, NO = np.ones(4, bool), np.zeros(4, bool)
QUERY = np.array([[4.0, 3.0, 1.0, 3.0]], np.float32)  # at 4, of rows at 0, 1, 3, 7


def test_by_hand_on_four_rows():
    known, found, out = every_form(line(0, 1, 3, 7), QUERY, ALL)
    np.testing.assert_array_equal(known.value, [1, 1, 2, 4])
    np.testing.assert_allclose(known.least, 2e-3, rtol=1e-6)
    scores = {form: float(found[form, "one"][1][0]) for form in FORMS}
    assert scores == pytest.approx({"ratio": 0.5, "difference": -1, "log": np.log(0.5)}, rel=1e-6)
    # Nearest others 1, 0, 1, 3 at 1, 1, 2, 4, of densities 1, 1, 1, 2: α = 0.5 / 0.1875.
    alpha, varied = found["difference", "varmin"]
    assert float(alpha) == pytest.approx(8 / 3, rel=1e-6)
    assert float(varied[0]) == pytest.approx(3 - 4 * 8 / 3, rel=1e-5)
    # Without the row at 7: densities 1, 1, 2 at distances of 7, 6, 4.
    np.testing.assert_allclose(out["ratio", "one"], [0.5, 1 / 3, 2 / 3, 2], rtol=1e-6)
    # Without a weight, the nearest row decides.
    plain = [float(found[form, "none"][1][0]) for form in FORMS]
    assert plain == pytest.approx([1, 1, 0], abs=1e-6)
    # Of equal densities, no weight varies anything.
    _, even, _ = every_form(line(0, 1, 2, 3), QUERY, ALL)
    assert float(even["difference", "varmin"][0]) == float(even["log", "varmin"][0]) == 0


def test_ratios_have_no_unit():
    one, seven = (every_form(line(0, 1, 3, 7) * u, QUERY * u, ALL)[1:] for u in (1, 7))
    for key, unit in ((("ratio", "one"), 1), (("difference", "varmin"), 7)):
        np.testing.assert_allclose(seven[0][key][1], unit * one[0][key][1], rtol=1e-5)
        np.testing.assert_allclose(seven[1][key], unit * one[1][key], rtol=1e-5)


def test_duplicates():
    within, between = line(0, 0, 5, 7), np.array([[0.5, 0.5, 4.5, 6.5]], np.float32)
    known, found, out = every_form(within, between, ALL)
    np.testing.assert_array_equal(known.value, [0, 0, 2, 2])
    assert float(found["ratio", "one"][1][0]) == pytest.approx(4.5 / 2)  # not 0.5 / 0
    same = every_form(within, within[:1], ALL)[1]
    assert float(same["ratio", "one"][1][0]) == 0
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves((found, out, same)))
    # All rows equal: there is no density to compare with.
    found = every_form(np.zeros((4, 4), np.float32), between, ALL)[1]
    scores = [float(found[form, name][1][0]) for form in FORMS for name in WEIGHTS]
    assert scores == pytest.approx([0.5] * 6 + [np.log(0.5)] * 3)


def test_a_bank_of_one_row_or_none():
    within, one = line(0, 1, 3, 7), np.arange(4) == 1
    holed = np.where(one & one[:, None], within, np.nan)
    _, found, out = every_form(holed, QUERY, one)
    for form, plain in (("ratio", 3), ("difference", 3), ("log", np.log(3))):
        assert float(found[form, "varmin"][0]) == 0
        for name in WEIGHTS:
            assert float(found[form, name][1][0]) == pytest.approx(plain)
    for each in out.values():
        assert np.isposinf(each[1]) and np.isnan(each[[0, 2, 3]]).all()
    found = every_form(within, QUERY, NO)[1]
    assert all(np.isposinf(found[form, name][1]).all() for form in FORMS for name in WEIGHTS)


@jax.jit
def by_metric(rows):
    within = {metric: distances(rows, rows, metric=metric) for metric in METRICS}
    return {metric: (each, density(each, k=4).value) for metric, each in within.items()}


def test_densities_equal_sklearns():
    rows = draw().astype(np.float32) + 3
    for metric, (within, found) in by_metric(rows).items():
        np.testing.assert_allclose(within, cdist(rows, rows, metric), rtol=1e-4, atol=1e-6)
        np.testing.assert_array_equal(np.diag(within), 0)
        np.testing.assert_array_equal(within, np.transpose(within))
        model = NearestNeighbors(n_neighbors=4, metric=metric, algorithm="brute")
        near, _ = model.fit(rows.astype(np.float64)).kneighbors()  # of each row without itself
        # float32: differences of coordinates around 3, squared.
        np.testing.assert_allclose(found, near.mean(axis=-1), rtol=1e-5)


def assert_refits(out, within, settings):
    """Scores of rows that are left out are those of banks without their group."""
    for label in np.unique(GROUP[MASK]):
        stays, gone = MASK & (label != GROUP), MASK & (label == GROUP)
        expected = scores_by_hand(
            within[np.ix_(gone, stays)], within[np.ix_(stays, stays)], TARGET[stays], **settings
        )
        np.testing.assert_allclose(out[gone], expected, rtol=TOLERANCE, err_msg=str(label))


@pytest.mark.parametrize("name", SETTINGS)
def test_equals_loops_with_and_without_a_group(name):
    """Rows that do not count are NaN, and have a label that others have, too."""
    settings = SETTINGS[name]
    within, between = within_and_between()
    holed = np.where(MASK & MASK[:, None], within, np.nan)
    fit = {key: settings[key] for key in FIT if key in settings}

    def both(within, between, mask, target):
        known = density(within, mask, target, **fit)
        form, alpha = settings.get("form", "ratio"), settings.get("alpha", 1.0)
        if alpha is None:
            alpha = varmin_alpha(within, known, mask, form=form)
        scores = normalised_distance(between, known, mask, form=form, alpha=alpha)
        return scores, leave_out(within, mask, target, GROUP, **settings)

    found, out = in_float64(both, holed, np.where(MASK, between, np.nan), MASK, TARGET)
    part = within[np.ix_(MASK, MASK)]
    expected = scores_by_hand(between[:, MASK], part, TARGET[MASK], **settings)
    np.testing.assert_allclose(found, expected, rtol=TOLERANCE)

    assert np.isnan(out[~MASK]).all()
    assert_refits(out, within, settings)


def test_traced_labels_leading_axes_and_vmap():
    """Of traced labels the largest group is not known; two banks at once are those banks."""
    within, _ = within_and_between()
    both = np.stack([within, within[::-1, ::-1] * 2])[:, None]  # (2, 1, n, n)
    masks, groups = np.stack([MASK, MASK[::-1]]), np.stack([GROUP, GROUP[::-1]])
    settings = {"k": 4, "form": "difference", "alpha": None}  # VarMin

    def of(within, mask, group):
        return leave_out(within, mask, None, group, **settings)

    found = in_float64(jax.vmap(of), both, masks, groups)[:, 0]
    # Differences have the unit of the distances.
    np.testing.assert_allclose(found[1], 2 * found[0][::-1], rtol=TOLERANCE)
    assert_refits(found[0], within, settings)


def test_bad_arguments():
    within = np.zeros((3, 3), np.float32)
    known = Density(np.ones(3), np.ones(()))
    with pytest.raises(UserError, match=r"have the shape \(..., n, n\), not \(3, 4\)"):
        density(np.zeros((3, 4)))
    with pytest.raises(UserError, match="at least 1, not 0 and None"):
        density(within, k=0)
    with pytest.raises(UserError, match="at least 1, not 1 and 0"):
        leave_out(within, k_target=0)
    with pytest.raises(UserError, match=r"r, must be from 0 to 1, not 1\.5"):
        density(within, r=1.5)
    with pytest.raises(UserError, match="no form 'sum'; there are ratio, difference, log"):
        normalised_distance(within, known, form="sum")
    with pytest.raises(UserError, match="no form 'sum'"):
        leave_out(within, form="sum")
    with pytest.raises(UserError, match="no metric 'l1'"):
        distances(within, within, metric="l1")
    with pytest.raises(UserError, match="queries have 2 columns, the rows have 3"):
        distances(within[:, :2], within)
