"""Exchanged parts of embeddings: where each part is from, and what the labels say."""

import jax
import numpy as np
import pytest

from asd_jax.losses import exchange_parts

ROWS, PARTS, VALUES, CLASSES = 300, 3, 4, 5


def test_labels_say_where_each_part_is_from():
    """Rows are told by their values; their labels differ from row to row."""
    rng = np.random.default_rng(0)
    embeddings = np.repeat(np.arange(ROWS), PARTS * VALUES).reshape(ROWS, -1).astype(np.float32)
    embeddings += 0.1 * np.arange(PARTS * VALUES, dtype=np.float32) / (PARTS * VALUES)
    labels = rng.dirichlet(np.ones(CLASSES), ROWS).astype(np.float32)
    mask = np.arange(ROWS) < ROWS - 10
    exchange = jax.jit(exchange_parts, static_argnames=("parts", "probability"))
    found, shares = map(
        np.asarray, exchange(jax.random.key(1), embeddings, labels, mask, parts=PARTS)
    )
    sources = np.floor(found).astype(int).reshape(ROWS, PARTS, VALUES)
    assert (sources == sources[..., :1]).all()  # a part is of one row
    sources = sources[..., 0]  # (rows, parts)
    place = (embeddings - np.arange(ROWS)[:, None])[0]
    np.testing.assert_allclose(found - np.floor(found), np.tile(place, (ROWS, 1)), atol=1e-4)
    assert (sources[:, 0] == np.arange(ROWS)).all()
    exchanged = (sources[:, 1:] != np.arange(ROWS)[:, None]).all(axis=1)
    kept = (sources == np.arange(ROWS)[:, None]).all(axis=1)
    assert (exchanged | kept).all() and kept[~mask].all()
    assert sources[mask].max() < mask.sum()
    assert abs(exchanged[mask].mean() - 0.5) < 4 * np.sqrt(0.25 / mask.sum())
    assert (sources[exchanged, 1] != sources[exchanged, 2]).mean() > 0.9  # drawn apart
    expected = np.zeros((ROWS, 1 + PARTS, CLASSES), np.float32)
    expected[kept, 0] = labels[kept]
    expected[exchanged, 1:] = labels[sources[exchanged]] / PARTS
    np.testing.assert_allclose(shares, expected.reshape(ROWS, -1), atol=1e-6)


@pytest.mark.parametrize("parts", [1, 5])
def test_parts_that_embeddings_have_not(parts):
    with pytest.raises(ValueError, match=f"12 values cannot be exchanged in {parts} parts"):
        exchange_parts(jax.random.key(0), np.zeros((2, 12)), np.eye(2), parts=parts)
