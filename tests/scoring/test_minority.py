"""Synthetic target rows and reduced sources: on segments, by prefix, and against scikit-learn."""

import warnings

import jax
import numpy as np
import pytest
from sklearn.cluster import KMeans

from asd_jax.errors import UserError
from asd_jax.scoring.minority import memmixup, reduced, smote
from asd_jax.scoring.neighbours import Bank

pytestmark = pytest.mark.usefixtures("one_thread")

N, D = 60, 3
KEY = jax.random.key(3)


def draw(n_target=4, seed=0):
    """The last source row does not count and is NaN; target rows lie far off, at every fifth."""
    rows = np.random.default_rng(seed).normal(size=(N, D)).astype(np.float32)
    target = np.zeros(N, bool)
    target[5 : 5 * n_target + 1 : 5] = True
    rows[target] += 20
    mask = np.ones(N, bool)
    rows[-1], mask[-1] = np.nan, False
    return Bank(rows, mask, target)


_grow = jax.jit(lambda key, bank: smote(key, bank, share=0.25, k=2, size=20))
_mix = jax.jit(lambda bank: memmixup(bank, size=4))


def grow(key, bank):
    return jax.tree.map(np.asarray, _grow(key, bank))


def mix(bank):
    return jax.tree.map(np.asarray, _mix(bank))


def test_children_lie_between_near_target_rows():
    bank = draw()
    grown = grow(KEY, bank)
    np.testing.assert_array_equal(grown.embeddings[:N], bank.embeddings)
    # 55 source rows count, of which a quarter is 13.
    np.testing.assert_array_equal(grown.mask[N:], np.arange(20) < 13 - 4)
    assert grown.target[N:].all()
    parents = bank.embeddings[bank.target].astype(np.float64)
    near = np.argsort(np.linalg.norm(parents[:, None] - parents, axis=-1), axis=1)[:, 1:3]
    segments = [(parents[a], parents[b]) for a in range(4) for b in near[a]]
    used, shares = set(), []
    for child in grown.embeddings[N:][grown.mask[N:]].astype(np.float64):
        along = [np.dot(child - a, b - a) / np.dot(b - a, b - a) for a, b in segments]
        off = [
            np.linalg.norm(a + u * (b - a) - child)
            for u, (a, b) in zip(along, segments, strict=True)
        ]
        # Coordinates around 20 in float32.
        assert min(off) < 1e-5 and 0 <= along[np.argmin(off)] <= 1
        used.add(int(np.argmin(off)))
        shares.append(along[np.argmin(off)])
    assert len(used) > 3 and np.ptp(shares) > 0.5  # parents and shares are drawn anew


def test_fewer_children_are_the_first_of_more():
    bank = draw()
    grown = grow(KEY, bank)
    # Which rows there are is known when this is compiled, and so the number of children.
    fewer = jax.jit(lambda rows: smote(KEY, bank._replace(embeddings=rows), share=0.2))(
        bank.embeddings
    )
    assert fewer.mask.shape == (N + 11 - 4,)  # as many places as are wanted
    np.testing.assert_allclose(
        np.asarray(fewer.embeddings)[N:], grown.embeddings[N : N + 7], rtol=1e-6
    )
    other = grow(jax.random.key(4), bank)
    assert np.abs(other.embeddings[N:] - grown.embeddings[N:]).max() > 0.1


def test_without_two_target_rows_there_are_no_children():
    for n_target in (0, 1):
        assert not grow(KEY, draw(n_target)).mask[N:].any()
    # Enough target rows already: nothing to append.
    bank = draw()
    assert smote(KEY, bank, share=0.05) is bank


def test_mixtures_with_the_nearest_source_row():
    """Of two banks at once, of four and of one target row."""
    first, second = draw(), draw(1, seed=1)
    bank = Bank(*(np.stack(leaves) for leaves in zip(first, second, strict=True)))
    mixed = mix(bank)
    np.testing.assert_array_equal(mixed.mask[:, N:], [[True] * 4, [True] + [False] * 3])
    assert mixed.target[:, N:].all()
    for model, n in enumerate((4, 1)):
        rows, target = bank.embeddings[model], bank.target[model]
        source = rows[bank.mask[model] & ~target]
        for row, found in zip(rows[target], mixed.embeddings[model, N : N + n], strict=True):
            near = source[np.argmin(np.linalg.norm(source - row, axis=1))]
            np.testing.assert_allclose(found, 0.9 * row + 0.1 * near, rtol=1e-6)
    # Nothing to mix, and nothing to mix with.
    empty = draw(0)
    assert memmixup(empty) is empty
    no_source = Bank(*(np.stack([leaf] * 2) for leaf in (first[0], first[2], first[2])))
    assert not mix(no_source).mask[:, N:].any()


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
def test_centres_are_sklearns(metric):
    bank = draw()
    found = reduced(bank, 5, seed=7, metric=metric)
    source = bank.embeddings[bank.mask & ~bank.target]
    if metric == "cosine":
        source = source / np.linalg.norm(source, axis=1, keepdims=True)
    expected = KMeans(5, random_state=7).fit(source).cluster_centers_
    # The lengths of rows are divided out in another order.
    np.testing.assert_allclose(found.embeddings[:5], expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(found.embeddings[5:], bank.embeddings[bank.target])
    assert found.mask.all() and found.target.tolist() == [False] * 5 + [True] * 4
    again = reduced(bank, 5, seed=7, metric=metric)
    np.testing.assert_array_equal(again.embeddings, found.embeddings)


def test_few_rows_stay_as_they_are():
    first = draw()
    counts = first.mask & ((np.arange(N) < 7) | first.target)
    few = Bank(first.embeddings, counts, first.target)  # 6 source rows
    assert reduced(few, 6) is few
    equal = Bank(np.where(first.target[:, None], first.embeddings, 1), first.mask, first.target)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # scikit-learn's, of fewer clusters than centres
        assert reduced(equal, 2) is equal
    # Beside a model that is reduced, in its places.
    both = Bank(*(np.stack(leaves) for leaves in zip(first, few, strict=True)))
    found = reduced(both, 6)
    assert found.mask.shape == (2, 10) and found.mask.all()
    np.testing.assert_array_equal(found.embeddings[1, :6], few.embeddings[counts & ~few.target])
    assert found.target.tolist() == [[False] * 6 + [True] * 4] * 2


def test_bad_arguments():
    bank = draw()
    for share in (-0.1, np.nan):
        with pytest.raises(UserError, match="share of the source rows must be 0 or more"):
            smote(KEY, bank, share=share)
    with pytest.raises(UserError, match="neighbours must be at least 1, not 0"):
        smote(KEY, bank, k=0)
    with pytest.raises(UserError, match="places for new rows must be 0 or more, not -1"):
        smote(KEY, bank, size=-1)
    with pytest.raises(UserError, match=r"from 0 to 1, not 1\.1"):
        memmixup(bank, weight=1.1)
    with pytest.raises(UserError, match="no metric 'l1'"):
        reduced(bank, metric="l1")
    with pytest.raises(UserError, match="centres must be at least 1, not 0"):
        reduced(bank, 0)
    with pytest.raises(UserError, match="not finite; mask them"):
        reduced(bank._replace(mask=np.ones(N, bool)))
