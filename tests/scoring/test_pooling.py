"""Pooling over a clip against NumPy and SciPy, whole and from the pools of its pieces."""

import jax
import numpy as np
import pytest
import scipy.stats

from asd_jax.scoring import pooling

COMPILED = jax.jit(pooling.statistics)


@pytest.mark.parametrize("n", [1, 2, 5, 309])
@pytest.mark.parametrize("compute", [COMPILED, pooling.statistics], ids=["jax", "numpy"])
def test_statistics_of_the_frames_that_count(n, compute):
    """To 1e-5: the same definitions in float32."""
    rng = np.random.default_rng(n)
    errors = rng.gamma(2.0, size=(3, 316)).astype(np.float32)
    mask = np.zeros((3, 316), bool)
    for row in mask:
        row[rng.permutation(316)[:n]] = True
    errors[~mask] = 1e6  # what does not count must have no effect
    found = np.asarray(compute(errors, mask))
    for row, kept, result in zip(errors, mask, found, strict=True):
        values = row[kept].astype(np.float64)
        expected = [
            values.mean(),
            values.std(),
            np.median(values),
            values.max(),
            scipy.stats.iqr(values),
        ]
        np.testing.assert_allclose(result, expected, rtol=1e-5, atol=1e-6)
    assert len(pooling.STATISTICS) == found.shape[-1]


def test_statistics_of_a_diverged_model_are_nan_without_a_warning():
    errors = np.array([[1.0, np.nan, 2.0], [1.0, 3.0, np.nan]], np.float32)
    found = pooling.statistics(errors, np.array([[True, True, True], [True, True, False]]))
    assert np.isnan(found[0]).all() and np.isfinite(found[1]).all()


def unit(values):
    mean = values.mean(axis=0)
    return mean / np.linalg.norm(mean)


def deviating(values):
    away = np.linalg.norm(values - values.mean(axis=0), axis=1)
    return np.average(values, axis=0, weights=(1 + away / away.max()) ** 10)


# Kind → (pool of values and mask, what NumPy makes of the values that count).
POOLS = {
    "mean": (pooling.Mean.of, lambda values: values.mean(axis=0)),
    "unit mean": (pooling.UnitMean.of, unit),
    "maximum": (pooling.Maximum.of, lambda values: values.max(axis=0)),
    "mean of logarithms": (
        pooling.LogMean.of,
        lambda values: np.log(np.mean(np.exp(values - 300), axis=0)) + 300,
    ),
    "generalised mean": (
        pooling.GeneralisedMean.of,
        lambda values: np.mean(np.maximum(values, 1e-6) ** 3, axis=0) ** (1 / 3),
    ),
    "relative deviations": (pooling.DeviationMean.of, deviating),
    "statistics": (
        pooling.Statistics,
        lambda values: [
            *(values.mean(), values.std(), np.median(values), values.max()),
            scipy.stats.iqr(values),
        ],
    ),
}
ONE_A_VIEW = ("maximum", "statistics")


@pytest.mark.parametrize("kind", POOLS)
def test_pools_of_pieces_make_that_of_the_clip(kind):
    """Of two models; to 1e-5 for sums of 23 values in float32.

    Logarithms are around 300, whose exponentials float32 does not hold. Padding has no effect,
    nor have a piece's other values.
    """
    pool, expected = POOLS[kind]
    rng = np.random.default_rng(0)
    values = rng.normal(300 if kind == "mean of logarithms" else 1, 2, (2, 23, 4))
    values = values.astype(np.float32)
    if kind in ONE_A_VIEW:
        values = values[..., 0]
    padded = np.concatenate([values, np.full_like(values[:, :5], 1e3)], axis=1)
    mask = np.arange(28) < 23

    of_models = jax.jit(jax.vmap(pool, in_axes=(0, None)))
    whole = of_models(padded, mask)
    parts = [
        jax.tree.map(np.asarray, of_models(part, of_part))
        for part, of_part in zip(np.split(padded, 4, axis=1), np.split(mask, 4), strict=True)
    ]
    merged = type(whole).merge([type(whole).merge(parts[:3]), parts[3]])
    of_whole = jax.jit(lambda pool: pool.value)(whole)
    for model in range(2):
        want = expected(values[model].astype(np.float64))
        np.testing.assert_allclose(of_whole[model], want, rtol=1e-5)
        np.testing.assert_allclose(merged.value[model], want, rtol=1e-5)


def test_deviation_mean_from_the_mean_to_the_farthest():
    values = np.array([[0.0, 0.0], [0.0, 0.0], [3.0, 4.0], [9.0, 9.0]])
    mask = np.array([True, True, True, False])
    # Deviations of a third and two thirds of 5: weights (3/2)^γ, (3/2)^γ, 2^γ.
    for gamma in (0.0, 1.0, 50.0):
        share = 2**gamma / (2 * 1.5**gamma + 2**gamma)
        found = pooling.deviation_mean(values, mask, gamma)
        np.testing.assert_allclose(found, [3 * share, 4 * share], rtol=1e-12)
    # One vector, or equal ones, have no deviation.
    for mask in ([True, False, False, False], [True, True, False, False]):
        np.testing.assert_array_equal(pooling.deviation_mean(values, np.array(mask)), [0, 0])
