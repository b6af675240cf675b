"""Convolutions and batch normalisation against float64 sums written out in NumPy, and Flax's."""

import itertools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from rounding import allowed, assert_close

from asd_jax.models.layers.batch_norm import BatchNorm
from asd_jax.models.layers.convolution import Convolution, DepthwiseConvolution
from asd_jax.models.layers.operations import convolve, convolve_depthwise

# Height and width, kernel, strides, padding, and the padding of each side as TensorFlow and
# Keras document it: at stride 2 and even sizes the odd row is at the end.
GEOMETRIES = [
    ((6, 8), (3, 3), 1, "SAME", ((1, 1), (1, 1))),
    ((6, 8), (3, 3), 2, "SAME", ((0, 1), (0, 1))),
    ((7, 9), (3, 3), 2, "SAME", ((1, 1), (1, 1))),
    ((6, 9), (3, 3), 2, "VALID", ((0, 0), (0, 0))),
    ((8, 12), (7, 7), 2, 3, ((3, 3), (3, 3))),
    ((9, 8), (5, 5), 2, 2, ((2, 2), (2, 2))),
    ((6, 8), (5, 5), 1, ((2, 2), (1, 3)), ((2, 2), (1, 3))),
    ((6, 8), (1, 1), 1, "SAME", ((0, 0), (0, 0))),
    ((7, 8), (1, 1), 2, "SAME", ((0, 0), (0, 0))),
    ((2, 4), (3, 3), 1, "SAME", ((1, 1), (1, 1))),
    ((1, 2), (3, 3), 2, "SAME", ((1, 1), (0, 1))),
    ((7, 10), (2, 3), (1, 3), "VALID", ((0, 0), (0, 0))),
    ((5, 8), (2, 3), 3, ((4, 0), (5, 1)), ((4, 0), (5, 1))),
    ((5, 6), (3, 3), 1, ((0, 5), (4, 6)), ((0, 5), (4, 6))),
    ((5, 6), (1, 1), 2, ((0, 5), (4, 6)), ((0, 5), (4, 6))),
]


def reference(x, kernel, gradient, strides, pads, depthwise):
    """Output, and gradients of its product with `gradient`, in float64, place by place."""
    x, kernel, gradient = (np.float64(a) for a in (x, kernel, gradient))
    strides = (strides, strides) if isinstance(strides, int) else strides
    padded = np.pad(x, ((0, 0), *pads, (0, 0)))
    of_padded, of_kernel = np.zeros_like(padded), np.zeros_like(kernel)
    taps = kernel.shape[:2]
    places = [
        range(0, n - k + 1, s) for n, k, s in zip(padded.shape[1:3], taps, strides, strict=True)
    ]
    y = np.zeros((len(x), *map(len, places), kernel.shape[-1]))
    for (i, h), (j, w) in itertools.product(*map(enumerate, places)):
        area = (slice(None), slice(h, h + kernel.shape[0]), slice(w, w + kernel.shape[1]))
        g = gradient[:, i, j]
        if depthwise:
            y[:, i, j] = np.einsum("nhwc,hwc->nc", padded[area], kernel[:, :, 0])
            of_padded[area] += np.einsum("nc,hwc->nhwc", g, kernel[:, :, 0])
            of_kernel[:, :, 0] += np.einsum("nhwc,nc->hwc", padded[area], g)
        else:
            y[:, i, j] = np.einsum("nhwi,hwio->no", padded[area], kernel)
            of_padded[area] += np.einsum("no,hwio->nhwi", g, kernel)
            of_kernel += np.einsum("nhwi,no->hwio", padded[area], g)
    (top, _), (left, _) = pads
    return y, of_padded[:, top : top + x.shape[1], left : left + x.shape[2]], of_kernel


def out_shape(size, taps, strides, pads):
    strides = (strides, strides) if isinstance(strides, int) else strides
    return [(n + sum(p) - k) // s + 1 for n, k, s, p in zip(size, taps, strides, pads, strict=True)]


def check(geometry, depthwise, outputs=4, tolerance=1e-5):
    """Output and gradients, by default to 1e-5: float32 sums of up to 200 products of order 1."""
    size, taps, strides, padding, pads = geometry
    rng = np.random.default_rng(0)
    x = rng.normal(size=(3, *size, 2)).astype(np.float32)
    kernel = rng.normal(size=(*taps, *((1, 2) if depthwise else (2, outputs)))).astype(np.float32)
    gradient = rng.normal(size=(3, *out_shape(size, taps, strides, pads), kernel.shape[-1]))
    gradient = gradient.astype(np.float32)

    def run(x, kernel, gradient):
        function = convolve_depthwise if depthwise else convolve
        y, backward = jax.vjp(lambda *args: function(*args, strides, padding), x, kernel)
        return y, *backward(gradient)

    found = jax.jit(run)(x, kernel, gradient)
    expected = reference(x, kernel, gradient, strides, pads, depthwise)
    for ours, theirs in zip(found, expected, strict=True):
        assert ours.shape == theirs.shape
        np.testing.assert_allclose(ours, theirs, atol=tolerance, rtol=tolerance)


# Paddings are worked out by the same lines for dense and depthwise kernels.
CASES = [(geometry, False) for i, geometry in enumerate(GEOMETRIES) if i != 5]
CASES += [(GEOMETRIES[i], True) for i in (0, 1, 6, 10, 11, 12, 13)]


@pytest.mark.parametrize(("geometry", "depthwise"), CASES)
def test_values_and_gradients(geometry, depthwise):
    check(geometry, depthwise)


@pytest.mark.parametrize("geometry", [GEOMETRIES[i] for i in (5, 12)])
def test_values_and_gradients_of_many_outputs(geometry):
    """To 1e-4: the input's gradient sums up to 6,400 products."""
    check(geometry, depthwise=False, outputs=256, tolerance=1e-4)


@pytest.mark.parametrize("depthwise", [False, True])
@pytest.mark.parametrize("geometry", [GEOMETRIES[1], GEOMETRIES[6], GEOMETRIES[11]])
def test_values_and_gradients_by_the_means_of_other_backends(monkeypatch, geometry, depthwise):
    """Run here: whether XLA's convolution gets the right arguments does not depend on where."""
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    check(geometry, depthwise)


@pytest.mark.parametrize("options", [{"strides": 2, "padding": ((1, 0), (2, 1))}, {}])
def test_modules_have_the_parameters_of_flax(options):
    """The same tree, and with the same values the same output; to 1e-5, as above."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2, 6, 8, 4)).astype(np.float32)
    pairs = [
        (Convolution(8, (3, 3), **options), nn.Conv(8, (3, 3), **options)),
        (Convolution(8, (1, 1), use_bias=False), nn.Conv(8, (1, 1), use_bias=False)),
        (DepthwiseConvolution(**options), nn.Conv(4, (3, 3), feature_group_count=4, **options)),
    ]
    for ours, flax_s in pairs:
        shapes = jax.eval_shape(flax_s.init, jax.random.key(1), x)
        assert jax.eval_shape(ours.init, jax.random.key(1), x) == shapes
        variables = jax.tree.map(lambda v: rng.normal(size=v.shape).astype(np.float32), shapes)
        np.testing.assert_allclose(
            jax.jit(ours.apply)(variables, x),
            jax.jit(flax_s.apply)(variables, x),
            atol=1e-5,
            rtol=1e-5,
        )


def test_initial_kernels_follow_keras_s_law():
    """Glorot's bound from Keras's fans; largest of thousands of draws, to a hundredth of it."""
    x = jnp.zeros((1, 4, 4, 512))
    kernel = jax.jit(DepthwiseConvolution().init)(jax.random.key(0), x)["params"]["kernel"]
    bound = np.sqrt(6 / (9 * 512 + 9 * 1))  # Keras's kernel is (3, 3, 512, 1)
    np.testing.assert_allclose([kernel.max(), -kernel.min()], bound, rtol=0.01)
    kernel = jax.jit(Convolution(64, (3, 3)).init)(jax.random.key(0), x[..., :32])["params"][
        "kernel"
    ]
    np.testing.assert_allclose(
        [kernel.max(), -kernel.min()], np.sqrt(6 / (9 * (32 + 64))), rtol=0.01
    )


class Small(nn.Module):
    """One of each kind, with strides, and normalisation."""

    @nn.compact
    def __call__(self, x, train=False, mask=None):
        x = nn.relu6(BatchNorm(0.9, 1e-3)(Convolution(4, (3, 3), 2)(x), train, mask))
        x = nn.relu(BatchNorm(0.9, 1e-3)(DepthwiseConvolution(strides=2)(x), train))
        return Convolution(2, (1, 1))(x)


def test_members_and_steps_in_loops_equal_lone_ones():
    """Gradients under vmap and lax.scan, to what rounding makes of lone ones."""
    module = Small()
    rng = np.random.default_rng(0)
    x = rng.normal(size=(3, 4, 9, 8, 2)).astype(np.float32)
    shapes = jax.eval_shape(module.init, jax.random.key(0), x[0])
    stacked = jax.tree.map(
        lambda leaf: rng.uniform(0.1, 0.5, (3, *leaf.shape)).astype(np.float32), shapes
    )
    models = [jax.tree.map(lambda leaf, m=m: leaf[m], stacked) for m in range(3)]

    masks = np.array([[True, True, False, True]] * 2 + [[True] * 4])

    def step(variables, x, mask):
        def loss(params):
            options = {"train": True, "mask": mask, "mutable": ["batch_stats"]}
            y, updates = module.apply({**variables, "params": params}, x, **options)
            return jnp.sum(y**2), updates

        gradients, updates = jax.grad(loss, has_aux=True)(variables["params"])
        return {"params": gradients, **updates}

    compiled = jax.jit(step)
    each = [*zip(models, x, masks, strict=True)]
    expected = jax.tree.map(lambda *leaves: np.stack(leaves), *(compiled(*one) for one in each))
    tolerances = jax.tree.map(lambda *leaves: max(leaves), *(allowed(compiled, *e) for e in each))
    # Tight enough to see a step that is another model's, or a row that counts and should not.
    assert max(jax.tree.leaves(tolerances)) < 1e-3
    ways = {
        "vmap": jax.vmap(step),
        "scan": lambda *args: jax.lax.scan(lambda n, one: (n + 1, step(*one)), 0, args)[1],
    }
    for name, way in ways.items():
        assert_close(jax.jit(way)(stacked, x, masks), expected, tolerances, name)


@pytest.mark.parametrize("backend", ["cpu", "gpu"])
@pytest.mark.parametrize("masked", [False, True])
def test_batch_norm_equals_flax(monkeypatch, masked, backend):
    """Output, gradients and running statistics, with and without a mask, in either mode.

    To 1e-5 of values of order 1: float32 sums in another order.
    """
    monkeypatch.setattr(jax, "default_backend", lambda: backend)
    rng = np.random.default_rng(1)
    x = (2 * rng.normal(size=(5, 3, 4, 6)) + rng.normal(size=6)).astype(np.float32)
    weights = rng.normal(size=x.shape).astype(np.float32)
    mask = np.array([True, False, True, True, False]) if masked else None
    variables = {
        "params": {"scale": rng.uniform(0.5, 2, 6), "bias": rng.normal(size=6)},
        "batch_stats": {"mean": rng.normal(size=6), "var": rng.uniform(0.5, 2, 6)},
    }
    variables = jax.tree.map(jnp.float32, variables)
    ours = BatchNorm(0.9, 1e-3)

    def flax_s(train):
        return nn.BatchNorm(not train, momentum=0.9, epsilon=1e-3, use_fast_variance=False)

    def ours_in_training(variables, x):
        return ours.apply(variables, x, True, mask, mutable=["batch_stats"])

    def flax_s_in_training(variables, x):
        rows = None if mask is None else mask[:, None, None, None]
        return flax_s(True).apply(variables, x, mask=rows, mutable=["batch_stats"])

    def all_of(function):
        def loss(params, x):
            y, updates = function({**variables, "params": params}, x)
            return jnp.sum(y * weights), (y, updates)

        return jax.jit(jax.grad(loss, argnums=(0, 1), has_aux=True))(variables["params"], x)

    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5, rtol=1e-5),
        all_of(ours_in_training),
        all_of(flax_s_in_training),
    )
    found, expected = jax.jit(lambda *args: (ours.apply(*args), flax_s(False).apply(*args)))(
        variables, x
    )
    np.testing.assert_allclose(found, expected, atol=1e-5, rtol=1e-5)


def test_variance_far_from_zero_is_not_lost():
    """To 1e-4 of NumPy's float64, as images are rounded to 1e-4 of the deviation.

    As mean square less squared mean it would be off by more than a tenth.
    """
    x = np.random.default_rng(2).normal(1000, 1, (8, 16, 16, 3)).astype(np.float32)
    module = BatchNorm(0.0, 1e-3)
    variables = jax.jit(module.init)(jax.random.key(0), x)
    run = jax.jit(lambda x: module.apply(variables, x, True, mutable=["batch_stats"]))
    found = run(x)[1]["batch_stats"]
    np.testing.assert_allclose(found["mean"], x.mean((0, 1, 2), np.float64), rtol=1e-5)
    np.testing.assert_allclose(found["var"], np.float64(x).var((0, 1, 2)), rtol=1e-4)
    fast = np.square(x).mean((0, 1, 2)) - np.square(x.mean((0, 1, 2)))
    assert np.abs(fast - 1).max() > 0.1


@pytest.mark.parametrize("learn_bias", [True, False])
def test_a_bias_that_is_not_learned_is_added_and_has_no_gradient(learn_bias):
    layer = Convolution(3, (3, 3), bias_init=nn.initializers.ones, learn_bias=learn_bias)
    images = jnp.ones((2, 4, 5, 2))
    weights = layer.init(jax.random.key(0), images)
    without = jax.tree.map(jnp.zeros_like, weights["params"]["bias"])
    shifted = layer.apply(weights, images) - layer.apply(
        {"params": {**weights["params"], "bias": without}}, images
    )
    np.testing.assert_allclose(shifted, 1, rtol=1e-5)
    gradient = jax.grad(lambda weights: layer.apply(weights, images).sum())(weights)["params"]
    np.testing.assert_allclose(gradient["bias"], 40 * learn_bias)
    assert (np.abs(gradient["kernel"]) > 0).all()
