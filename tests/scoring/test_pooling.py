"""Pooling over a clip against NumPy and SciPy."""

import jax
import numpy as np
import pytest
import scipy.stats

from asd_jax.scoring import pooling

COMPILED = jax.jit(
    lambda errors, mask: [
        function(errors, mask) for function in (pooling.statistics, pooling.mean, pooling.maximum)
    ]
)


@pytest.mark.parametrize("n", [1, 2, 5, 309])
def test_statistics_of_the_frames_that_count(n):
    """To 1e-5: the same definitions in float32."""
    rng = np.random.default_rng(n)
    errors = rng.gamma(2.0, size=(3, 316)).astype(np.float32)
    mask = np.zeros((3, 316), bool)
    for row in mask:
        row[rng.permutation(316)[:n]] = True
    errors[~mask] = 1e6  # what does not count must have no effect
    found, means, maxima = jax.device_get(COMPILED(errors, mask))
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
    np.testing.assert_array_equal(means, found[:, 0])
    np.testing.assert_array_equal(maxima, found[:, 3])
