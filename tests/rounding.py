"""Tolerances that follow from the size of what is summed."""

import jax
import numpy as np


def allowed(function, *arguments, draws=8):
    """How far results of float32 may lie from others of the same sums, for each array of them.

    The largest move of its values where the arguments are rounded anew, by up to a unit in their
    last place, times four: it grows with the terms that are summed, and not with what they come
    to, which may be nearly zero, as the gradient of a bias before a normalisation.

    Args:
        function: compiled; takes and gives trees of arrays.
        *arguments: those of float32 are rounded anew.
        draws: how often.

    Returns:
        A tree as the function gives, of floats.
    """
    rng = np.random.default_rng(0)

    def rounded(leaf):
        if leaf.dtype != np.float32:
            return leaf
        return np.asarray(leaf) * (1 + 2.0**-23 * rng.uniform(-1, 1, leaf.shape)).astype(leaf.dtype)

    exact = function(*arguments)
    moves = [
        jax.tree.map(
            lambda a, b: float(np.abs(a - b).max()),
            function(*jax.tree.map(rounded, arguments)),
            exact,
        )
        for _ in range(draws)
    ]
    return jax.tree.map(lambda *of_draws: 4 * max(of_draws), *moves)


def assert_close(found, expected, tolerances, message=""):
    """Each array of a tree to its own tolerance."""
    jax.tree.map(
        lambda a, b, atol: np.testing.assert_allclose(a, b, rtol=0, atol=atol, err_msg=message),
        found,
        expected,
        tolerances,
    )
