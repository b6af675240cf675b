"""Nearest neighbours against scikit-learn's, near duplicates and domains included."""

import functools

import jax
import numpy as np
import pytest
from sklearn.neighbors import NearestNeighbors

from asd_jax.errors import UserError
from asd_jax.scoring import neighbours as module
from asd_jax.scoring.neighbours import METRICS, Bank, knn_distance

pytestmark = pytest.mark.usefixtures("one_thread")

# Sums of 16 to 512 squared differences in float32, relative to the distance.
TOLERANCE = 1e-5

JITTED = jax.jit(knn_distance, static_argnames=("k", "metric"))


# Most tests compare so many, so that they share programs.
QUERIES, CLIPS = 70, 150


def _embeddings(n, d=16, seed=0, offset=1.0):
    return (np.random.default_rng(seed).normal(size=(n, d)) + offset).astype(np.float32)


def _bank(embeddings, target=None):
    shape = embeddings.shape[:-1]
    return Bank(
        embeddings, np.ones(shape, bool), np.zeros(shape, bool) if target is None else target
    )


def _sklearn(queries, embeddings, k, metric):
    model = NearestNeighbors(n_neighbors=min(k, len(embeddings)), metric=metric, algorithm="brute")
    model.fit(embeddings.astype(np.float64))
    return model.kneighbors(queries.astype(np.float64))[0].mean(axis=-1)


@pytest.mark.parametrize(
    ("k", "d", "metric"),
    [
        (1, 16, "cosine"),
        (1, 16, "euclidean"),
        (4, 16, "cosine"),
        (4, 16, "euclidean"),
        (2, 512, "cosine"),
        (200, 16, "euclidean"),  # more than there are
    ],
)
def test_equals_sklearn(metric, k, d):
    queries, embeddings = _embeddings(QUERIES, d, seed=1), _embeddings(CLIPS, d)
    found = JITTED(queries, _bank(embeddings), k=k, metric=metric)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, _sklearn(queries, embeddings, k, metric), rtol=TOLERANCE)


@pytest.mark.parametrize("metric", METRICS)
def test_near_duplicates_far_from_zero(metric):
    # Products of such vectors are 1e5 and rounded by 1e-2; these neighbours are 1e-3 apart.
    embeddings = _embeddings(CLIPS, offset=80.0)
    queries = embeddings[:QUERIES].copy()
    queries[:10, 0] += 2e-3
    found = np.asarray(JITTED(queries, _bank(embeddings), k=1, metric=metric))
    assert (found >= 0).all()
    np.testing.assert_allclose(found[10:], 0, atol=1e-13)
    if metric == "euclidean":
        np.testing.assert_array_equal(found[10:], 0)
        step = queries[:10, 0].astype(np.float64) - embeddings[:10, 0]
        np.testing.assert_allclose(found[:10], step, rtol=TOLERANCE)
    else:
        # Unit vectors are rounded by 1e-7, the directions differ by 6e-6: squares to a tenth.
        expected = [
            1 - np.dot(a, b) / np.sqrt(np.dot(a, a) * np.dot(b, b))
            for a, b in zip(
                *(x[:10].astype(np.longdouble) for x in (queries, embeddings)), strict=True
            )
        ]
        np.testing.assert_allclose(found[:10], np.array(expected, float), rtol=0.1)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("k", [1, 4])
def test_the_nearer_domain_decides(metric, k):
    embeddings = _embeddings(CLIPS)
    target = np.arange(CLIPS) % 60 == 0  # 3 clips
    embeddings[target] += np.float32(2) * np.eye(16, dtype=np.float32)[0] - 3
    queries = np.concatenate([_embeddings(QUERIES - 2, seed=1), embeddings[target][:2] + 0.1])
    found = JITTED(queries, _bank(embeddings, target), k=k, metric=metric)
    by_domain = [_sklearn(queries, embeddings[rows], k, metric) for rows in (~target, target)]
    np.testing.assert_allclose(found, np.minimum(*by_domain), rtol=TOLERANCE)
    assert (by_domain[1] < by_domain[0])[-2:].all() and (by_domain[0] < by_domain[1])[:-2].any()
    # All of one domain, whichever: plain neighbours.
    for alone in (np.zeros(CLIPS, bool), np.ones(CLIPS, bool)):
        plain = JITTED(queries, _bank(embeddings, alone), k=k, metric=metric)
        expected = _sklearn(queries, embeddings, k, metric)
        np.testing.assert_allclose(plain, expected, rtol=TOLERANCE)


@pytest.mark.parametrize("metric", METRICS)
def test_rows_that_do_not_count_and_leading_axes(metric):
    embeddings = np.stack([_embeddings(40, seed=i) for i in range(3)])
    mask = np.arange(40) < np.array([[40], [11], [0]])
    mask[0, ::2] = False
    target = np.tile(np.arange(40) % 10 == 1, (3, 1))
    holed = np.where(mask[..., None], embeddings, np.nan)
    queries = _embeddings(6, seed=9)
    found = np.asarray(JITTED(queries, Bank(holed, mask, target), k=3, metric=metric))
    assert found.shape == (3, 6)
    for i in range(2):
        rows = [embeddings[i][mask[i] & (target[i] == side)] for side in (False, True)]
        expected = np.minimum(*(_sklearn(queries, part, 3, metric) for part in rows))
        np.testing.assert_allclose(found[i], expected, rtol=TOLERANCE)
    assert np.isposinf(found[2]).all()  # nothing to compare with


def test_vectors_without_direction():
    embeddings = _embeddings(CLIPS)
    embeddings[3] = 0
    queries = np.stack([np.zeros(16), embeddings[0] * 1e-25, embeddings[1] * 1e30])
    queries = np.resize(queries, (QUERIES, 16)).astype(np.float32)
    found = np.asarray(JITTED(queries, _bank(embeddings), k=1, metric="cosine"))
    # scikit-learn's distance of a zero vector is 1; lengths do not matter otherwise.
    assert found[0] == 1
    np.testing.assert_allclose(found[1:3], 0, atol=1e-12)
    zeros = _bank(np.zeros_like(embeddings))
    alone = JITTED(_embeddings(QUERIES), zeros, k=1, metric="cosine")
    np.testing.assert_array_equal(alone, 1)


def test_long_lists_go_in_blocks(monkeypatch):
    queries, bank = _embeddings(QUERIES, seed=1), _bank(_embeddings(CLIPS))
    whole = JITTED(queries, bank, k=1, metric="cosine")
    monkeypatch.setattr(module, "_BLOCK", CLIPS * 16)  # four blocks and a part of one
    in_blocks = jax.jit(functools.partial(knn_distance, k=1, metric="cosine"))(queries, bank)
    np.testing.assert_allclose(in_blocks, whole, rtol=1e-6)


def test_bad_arguments():
    queries, bank = np.ones((3, 4)), _bank(np.ones((5, 4), np.float32))
    with pytest.raises(UserError, match="no metric 'l1'; there are cosine, euclidean"):
        knn_distance(queries, bank, metric="l1")
    with pytest.raises(UserError, match="neighbours must be at least 1, not 0"):
        knn_distance(queries, bank, k=0)
    with pytest.raises(UserError, match="queries have 3 columns, the bank has 4"):
        knn_distance(np.ones((3, 3)), bank)
