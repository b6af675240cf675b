"""Operations that portable programs write out."""

import jax
import jax.numpy as jnp
import numpy as np

from asd_jax.runtime.portable import portable, sigmoid


def test_small_probabilities_keep_their_digits():
    """To the rounding of the exponent, half a unit of float32's last place of up to 80: 8e-6."""
    x = np.linspace(-80, 20, 401, dtype=np.float32)
    with portable(convolutions=True):
        found = jax.jit(sigmoid)(x)
    np.testing.assert_allclose(found, 1 / (1 + np.exp(-x.astype(np.float64))), rtol=8e-6)


def test_the_operation_that_some_runtimes_round_is_in_no_portable_program():
    def operations():
        jaxpr = jax.make_jaxpr(lambda x: sigmoid(x))(jnp.float32(0)).jaxpr
        return {equation.primitive.name for equation in jaxpr.eqns}

    assert operations() == {"logistic"}
    with portable(convolutions=True):
        assert "logistic" not in operations()
