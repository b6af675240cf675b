"""Operations on constants are done before a converter sees a program."""

import collections

import jax
import jax.numpy as jnp
import numpy as np

from asd_jax.deploy.export.constants import folded

CLIPS = np.random.default_rng(0).normal(size=(2, 3)).astype(np.float32)
SHAPES = [jax.ShapeDtypeStruct((2, 3), jnp.float32), jax.ShapeDtypeStruct((), jnp.int32)]
VARIANCES = np.array([[1, 4, 9], [16, 25, 36]], np.float32)


def operations(function, *arguments):
    found = jax.make_jaxpr(function)(*arguments).jaxpr
    return collections.Counter(equation.primitive.name for equation in found.eqns)


def test_what_depends_on_the_machine_alone_is_one_choice():
    """Of a table that is computed before; calls are put in place."""

    def program(clips, machine):
        scale = jax.lax.rsqrt(jax.lax.dynamic_index_in_dim(VARIANCES, machine, keepdims=False))
        return jax.nn.relu(clips * scale), scale[0]

    found = folded(program, SHAPES, 2)
    arguments = CLIPS, np.int32(0)
    counts = operations(found, *arguments)
    assert not {"rsqrt", "dynamic_slice", "jit", "custom_jvp_call"} & counts.keys()
    assert counts["gather"] == 2  # the scale, and its first value
    for machine in range(2):
        expected = program(CLIPS, np.int32(machine))
        results = jax.jit(found)(CLIPS, np.int32(machine))
        for result, own in zip(results, expected, strict=True):
            np.testing.assert_allclose(result, own, rtol=1e-6)


def test_constants_are_not_written_out_large():
    def program(clips):
        return clips.sum() + jnp.broadcast_to(jnp.float32(2), (100, 100))

    counts = operations(folded(program, SHAPES[:1], 1), CLIPS)
    assert counts["broadcast_in_dim"] == 1


def test_loops_stay():
    def program(clips):
        return jax.lax.scan(lambda x, k: (x * k, x[0, 0]), clips, jnp.arange(3.0) + 1)

    found = folded(program, SHAPES[:1], 1)
    assert operations(found, CLIPS)["scan"] == 1
    product, firsts = jax.jit(found)(CLIPS)
    np.testing.assert_allclose(product, 6 * CLIPS, rtol=1e-6)
    np.testing.assert_allclose(firsts, CLIPS[0, 0] * np.array([1, 1, 2]), rtol=1e-6)
