"""Group MADE: its size, what each frame sees, its density, Keras with the same weights."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from keras_models import call, no_initial_values

from asd_jax.models.group_made import GroupMADE, MaskedDense, log_density

REPORT = (0, 1, 3, 4, 2)


def random_variables(module, mels, seed=0):
    """Weights of deviation 1 / √inputs and biases of 0.5: none is as it starts."""
    empty = jnp.zeros((1, len(module.order), mels))
    rng = np.random.default_rng(seed)

    def draw(leaf):
        scale = leaf.shape[0] ** -0.5 if leaf.ndim == 2 else 0.5
        return rng.normal(0, scale, leaf.shape).astype(np.float32)

    return jax.tree.map(draw, jax.eval_shape(module.init, jax.random.key(seed), empty))


def test_layers_and_count_are_the_report_s():
    """A dense layer has inputs · units + units values; 640 · 10 · 3 = 19,200 outputs.

    640·128+128 + 3·(128·128+128) + 128·32+32 + 32·128+128 + 3·(128·128+128)
    + 128·19,200+19,200 = 82,048 + 49,536 + 4,128 + 4,224 + 49,536 + 2,476,800.
    """
    module = GroupMADE()
    outputs, variables = jax.eval_shape(
        lambda: module.init_with_output(jax.random.key(0), jnp.zeros((2, 5, 128)))
    )
    assert [output.shape for output in outputs] == [(2, 5, 128, 10)] * 3
    params = variables["params"]
    shapes = [params[f"MaskedDense_{i}"]["kernel"].shape for i in range(10)]
    widths = [640, 128, 128, 128, 128, 32, 128, 128, 128, 128, 19_200]
    assert shapes == list(itertools.pairwise(widths))
    assert len(params) == 10
    assert sum(leaf.size for leaf in jax.tree.leaves(params)) == 2_666_272


@pytest.mark.parametrize(
    ("order", "hidden"),
    [
        ((2, 0, 1), (4, 2, 5)),
        (REPORT, (7, 4, 8)),
        ((1, 0), (1, 1)),
    ],
)
def test_a_frame_sees_those_before_it_and_no_others(order, hidden):
    """Exactly 0 where forbidden and nowhere else: positive weights keep every unit awake."""
    frames, mels = len(order), 2
    module = GroupMADE(hidden, 3, order)
    variables = jax.tree.map(lambda leaf: abs(leaf) / 2, random_variables(module, mels))
    x = jnp.asarray(np.random.default_rng(1).uniform(0.5, 1, (frames, mels)), jnp.float32)
    jacobians = jax.jit(jax.jacobian(lambda x: module.apply(variables, x[None])))(x)
    for jacobian in jacobians:  # logits, means, log variances: (1, frames, mels, 3, frames, mels)
        assert jacobian.shape == (1, frames, mels, 3, frames, mels)
        for target, source in itertools.product(range(frames), repeat=2):
            block = np.abs(jacobian[0, target, :, :, source])
            if order.index(source) < order.index(target):
                assert (block > 0).all(), (target, source)
            else:
                assert (block == 0).all(), (target, source)


def test_the_density_integrates_to_one():
    """Over ±15 in steps of 0.1, a third of the smallest deviation or less.

    To 1e-4: the rule's error and what lies outside are far below, and float32 densities are
    right to about 1e-6.
    """
    order = (1, 0)
    module = GroupMADE((4, 3), 3, order)
    variables = jax.tree.map(lambda leaf: 0.6 * leaf, random_variables(module, mels=1))
    axis = np.arange(-15, 15.01, 0.1, dtype=np.float32)
    x = np.stack(np.meshgrid(axis, axis, indexing="ij"), axis=-1).reshape(-1, 2, 1)

    @jax.jit
    def run(x):
        outputs = module.apply(variables, x)
        return outputs, log_density(x, *outputs)

    outputs, densities = run(x)
    assert np.exp(np.min(outputs[2]) / 2) > 0.3
    assert densities.shape == (len(x), 2)
    joint = np.exp(np.asarray(densities, np.float64).sum(axis=-1)).reshape(len(axis), -1)
    assert max(joint[[0, -1]].max(), joint[:, [0, -1]].max()) < 1e-7
    np.testing.assert_allclose(joint.sum() * 0.1**2, 1, atol=1e-4)
    # The order's second frame does depend on the first.
    assert np.ptp(np.asarray(outputs[1])[:, order[1]]) > 0.1


def test_the_density_is_that_of_scipy_s_normal_distributions():
    """To 1e-5 relative of values of order 10: float32 sums of a few terms."""
    stats = pytest.importorskip("scipy.stats")
    rng = np.random.default_rng(2)
    x = rng.normal(size=(3, 2, 4)).astype(np.float32)
    logits, means, log_variances = rng.normal(size=(3, 3, 2, 4, 5)).astype(np.float32)
    odds = np.exp(logits.astype(np.float64))
    weights = odds / odds.sum(axis=-1, keepdims=True)
    normal = stats.norm.pdf(x[..., None], means, np.exp(log_variances / 2))
    expected = np.log((weights * normal).sum(axis=-1)).sum(axis=-1)
    found = jax.jit(log_density)(x, logits, means, log_variances)
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_weights_start_by_the_number_of_their_connections():
    """Deviation √(2 / connections): of 20,000 draws or more, to 3 %, four standard errors."""
    mask = np.arange(400)[:, None] < np.repeat([400, 100], 50)
    layer = MaskedDense(gain=2)
    variables = jax.jit(lambda key: layer.init(key, jnp.zeros((1, 400)), mask))(jax.random.key(0))
    kernel = np.asarray(variables["params"]["kernel"])
    np.testing.assert_allclose(kernel[:, :50].std(), (2 / 400) ** 0.5, rtol=0.03)
    np.testing.assert_allclose(kernel[:, 50:].std(), (2 / 100) ** 0.5, rtol=0.03)


def test_components_start_apart_and_nothing_else_has_a_bias():
    """At quantiles 1/6, 1/2 and 5/6 of a standard normal distribution: ±0.967422 and 0."""

    @jax.jit
    def start(key):
        networks = {n: GroupMADE((4,), n, (1, 0)) for n in (1, 3)}
        empty = jnp.zeros((1, 2, 2))
        return {n: made.init_with_output(key, empty)[0] for n, made in networks.items()}

    starts = start(jax.random.key(0))
    logits, means, log_variances = (np.asarray(output)[0, 1] for output in starts[3])
    np.testing.assert_allclose(means, [[-0.967422, 0, 0.967422]] * 2, atol=1e-5)
    assert not logits.any()
    assert not log_variances.any()
    assert not np.asarray(starts[1][1])[0, 1].any()


def keras_masks(hidden, order, mels, components):
    """Masks of a network, connection by connection: unit u of a layer has degree u mod G − 1."""
    frames = len(order)
    layers = [[order.index(frame) for frame in range(frames) for _ in range(mels)]]
    layers += [[unit % (frames - 1) for unit in range(width)] for width in hidden]
    masks = [
        np.array([[float(below <= degree) for degree in above] for below in lower])
        for lower, above in itertools.pairwise(layers)
    ]
    outputs = [order.index(f) for f in range(frames) for _ in range(mels * 3 * components)]
    masks.append(np.array([[float(d < position) for position in outputs] for d in layers[-1]]))
    return masks


@pytest.mark.parametrize(
    ("order", "hidden", "mels", "components"),
    [(REPORT, (16, 8, 15), 6, 4), ((2, 0, 1), (7, 2), 4, 1)],
)
def test_output_equals_keras(keras, order, hidden, mels, components):
    """To 1e-5 of outputs of order 1: float32 sums in another order."""
    frames = len(order)
    module = GroupMADE(hidden, components, order)
    variables = random_variables(module, mels)
    with no_initial_values(keras):
        model = keras.Sequential(
            [
                keras.Input((frames * mels,)),
                *[keras.layers.Dense(width, activation="relu") for width in hidden],
                keras.layers.Dense(frames * mels * 3 * components),
            ]
        )
    masks = keras_masks(hidden, order, mels, components)
    for i, (layer, mask) in enumerate(zip(model.layers, masks, strict=True)):
        p = variables["params"][f"MaskedDense_{i}"]
        layer.set_weights([np.asarray(p["kernel"]) * mask, np.asarray(p["bias"])])
    x = np.random.default_rng(3).normal(size=(20, frames, mels)).astype(np.float32)
    raw, _ = call(model, x.reshape(20, -1))
    raw = np.asarray(raw).reshape(20, frames, mels, 3, components)
    logits, means, log_variances = jax.jit(module.apply)(variables, x)
    assert np.ptp(means, axis=0).max() > 0.1
    for ours, expected in [
        (logits, raw[..., 0, :]),
        (means, raw[..., 1, :]),
        (log_variances, 7 * np.tanh(raw[..., 2, :] / 7)),
    ]:
        np.testing.assert_allclose(ours, expected, atol=1e-5, rtol=1e-5)
