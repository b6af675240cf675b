"""Banks of normal clips: scores of rows that are left out, against banks made without them."""

import jax
import numpy as np
import pytest
from sklearn.neighbors import NearestNeighbors

from asd_jax.errors import UserError
from asd_jax.scoring.banks import BankSettings, bank_scores, fit_banks
from asd_jax.scoring.neighbours import Bank

pytestmark = pytest.mark.usefixtures("one_thread")

# Float64 on both sides, sums of some dozen terms.
TOLERANCE = 1e-9

N = 31
TARGET = np.arange(N) % 11 == 3  # 3 rows
# In each model, of 27 and 28 source rows: a fifth of them less the target rows; one each. Without
# a group of three source rows the first has one fewer by SMOTE.
SYNTHETIC = {"smote": [2, 2], "memmixup": [3, 3]}
# The first model has ten groups of three rows, the second eleven of two or three.
MASK = np.stack([np.arange(N) < 30, np.ones(N, bool)])
GROUP = np.stack([np.arange(N) % 10, np.arange(N) * 11 // N])
SETTINGS = {
    "LDN": BankSettings(normalisation="ldn"),
    "VarMin": BankSettings(normalisation="varmin", metric="cosine", oversampling="smote"),
    "domains": BankSettings(normalisation="domain", neighbours=2, oversampling="memmixup"),
    "none": BankSettings(neighbours=3),
    "centres": BankSettings(normalisation="ldn_varmin", density_neighbours=2, centres=3),
}


def draw(seed=0):
    """Two models' rows of a dense and a sparse region, and target rows apart from them."""
    rows = np.random.default_rng(seed).normal(2, 1, (2, N, 4))
    return rows * np.where(np.arange(N) % 3 == 0, 4, 1)[:, None] + 3 * TARGET[:, None]


def scores_of(fitted, model, queries, settings):
    with jax.enable_x64(True):
        of_model = jax.tree.map(lambda leaf: leaf[model], fitted)
        scores = jax.jit(bank_scores, static_argnums=2)(of_model, queries, settings)
    return np.asarray(scores)


def without(bank, model, taken):
    """The bank if some rows of one model are taken out; the other model stays."""
    mask = bank.mask.copy()
    mask[model] &= ~taken
    return bank._replace(mask=mask)


# Compile for long; their parts are tested by themselves.
_SLOW = ("VarMin", "domains")


@pytest.mark.parametrize(
    "settings",
    [
        pytest.param(own, id=name, marks=[pytest.mark.slow] * (name in _SLOW))
        for name, own in SETTINGS.items()
    ],
)
def test_rows_are_scored_by_a_bank_without_their_group(settings):
    bank = Bank(draw(), MASK, np.broadcast_to(TARGET, MASK.shape))
    whole, own = fit_banks(bank, GROUP, settings)
    assert (np.isnan(own) == ~MASK).all()
    if settings.oversampling != "none":
        assert whole.mask[:, N:].sum(axis=1).tolist() == SYNTHETIC[settings.oversampling]
    for group in range(10):
        taken = MASK[0] & (GROUP[0] == group)
        fitted, _ = fit_banks(without(bank, 0, taken), GROUP, settings)
        expected = scores_of(fitted, 0, bank.embeddings[0], settings)
        np.testing.assert_allclose(own[0][taken], expected[taken], rtol=TOLERANCE)


def test_parts_of_the_groups_are_left_out_together_where_there_are_many():
    """Eleven groups in ten parts: the first and the last group are one of them."""
    settings = SETTINGS["centres"]
    bank = Bank(draw(), MASK, np.broadcast_to(TARGET, MASK.shape))
    _, own = fit_banks(bank, GROUP, settings)
    taken = GROUP[1] % 10 == 0
    assert set(GROUP[1][taken]) == {0, 10}
    fitted, _ = fit_banks(without(bank, 1, taken), GROUP, settings)
    expected = scores_of(fitted, 1, bank.embeddings[1], settings)
    np.testing.assert_allclose(own[1][taken], expected[taken], rtol=TOLERANCE)


@pytest.mark.parametrize(("metric", "scale"), [("euclidean", 1), ("cosine", 0.5)])
def test_distances_of_the_nearer_domain_are_scikit_learn_s(metric, scale):
    """Its distances of rows of length 1 squared are twice 1 − cos."""
    settings = BankSettings(neighbours=2, metric=metric)
    bank = Bank(draw(), MASK, np.broadcast_to(TARGET, MASK.shape))
    fitted, _ = fit_banks(bank, GROUP, settings)
    queries = np.random.default_rng(1).normal(2, 3, (5, 4))
    domains = []
    for domain in (MASK[0] & ~TARGET, MASK[0] & TARGET):
        search = NearestNeighbors(n_neighbors=2, metric=metric).fit(bank.embeddings[0][domain])
        domains.append(search.kneighbors(queries)[0].mean(axis=1))
    expected = np.minimum(*domains)
    found = scores_of(fitted, 0, queries, settings)
    np.testing.assert_allclose(found, expected, rtol=TOLERANCE)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (BankSettings(neighbours=0), "neighbours is 0; it must be 1 or more"),
        (BankSettings(centres=-1), "centres is -1; it must be 0 or more"),
        (BankSettings(normalisation="lnd"), "normalisation is 'lnd'; there are none, ldn"),
        (BankSettings(metric="l1"), "metric is 'l1'; there are cosine, euclidean"),
    ],
)
def test_settings_that_do_not_exist(settings, message):
    bank = Bank(draw(), MASK, np.broadcast_to(TARGET, MASK.shape))
    with pytest.raises(UserError, match=message):
        fit_banks(bank, GROUP, settings)
