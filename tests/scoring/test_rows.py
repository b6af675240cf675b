"""Fits beside each other: LAPACK has one thread while they compute, and as many as before after."""

import jax
import pytest
import threadpoolctl

from asd_jax.scoring import rows


def blas_threads():
    pools = threadpoolctl.ThreadpoolController().select(user_api="blas")
    return [pool["num_threads"] for pool in pools.info()]


def test_lapack_has_one_thread_while_a_fit_computes():
    """In fits side by side, and after the first of them has ended."""
    with rows.float64():
        assert set(blas_threads()) == {1} and jax.config.jax_enable_x64
    before = blas_threads()
    assert not jax.config.jax_enable_x64

    def fit(model):
        with rows.float64():
            assert jax.config.jax_enable_x64
        return model, blas_threads()

    assert rows.side_by_side(fit, 3) == [(model, [1] * len(before)) for model in range(3)]
    assert blas_threads() == before


def test_a_fit_that_fails_ends_all():
    """Its error comes through, and LAPACK has its threads again."""
    before = blas_threads()

    def fit(model):
        with rows.float64():
            if model == 1:
                raise ValueError("model 1")
            return model

    with pytest.raises(ValueError, match="model 1"):
        rows.side_by_side(fit, 3)
    assert rows.side_by_side(fit, 1) == [0]
    assert blas_threads() == before
