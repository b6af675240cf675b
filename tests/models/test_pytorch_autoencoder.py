"""The dense autoencoder in PyTorch's manner: by hand, and beside PyTorch where it is installed."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tasks import batch_of, drawn, standard, start

from asd_jax.config import load_config
from asd_jax.detectors import make_detector
from asd_jax.models import DenseAutoencoder
from asd_jax.models.layers.batch_norm import BatchNorm
from asd_jax.training.task import count_values

SMALL = {"front_end.n_mels": "4", "detector.hidden": "6,", "detector.latent": "3"}
WIDTHS = (20, 6, 3, 6, 20)
LEARNING_RATE = 1e-3


def detector(name="dense_ae_2023", **settings):
    return make_detector(load_config(name, {**SMALL, **settings}))


def vectors(count=8, seed=0):
    """Views (count, frames, mels) of about the level of log-mels."""
    return np.random.default_rng(seed).normal(-30, 10, (count, 5, 4)).astype(np.float32)


def test_running_statistics_by_hand():
    """Of 1, 2, 3 and 6, and a masked 99: mean 3, variance 3.5, unbiased 14/3."""
    layer = BatchNorm(momentum=0.9, epsilon=1e-5, unbiased=True)
    x = jnp.array([1.0, 2.0, 3.0, 6.0, 99.0])[:, None, None, None]
    mask = jnp.arange(5) < 4
    variables = {
        "params": {"scale": jnp.ones(1), "bias": jnp.zeros(1)},
        "batch_stats": {"mean": jnp.zeros(1), "var": jnp.ones(1)},
    }
    y, updated = layer.apply(variables, x, True, mask, mutable=["batch_stats"])
    # The batch itself is normalised by the variance with n in its denominator.
    expected = (np.array([1, 2, 3, 6]) - 3) / np.sqrt(3.5 + 1e-5)
    np.testing.assert_allclose(y[:4, 0, 0, 0], expected, rtol=1e-6)
    np.testing.assert_allclose(updated["batch_stats"]["mean"], [0.1 * 3], rtol=1e-6)
    np.testing.assert_allclose(updated["batch_stats"]["var"], [0.9 + 0.1 * 14 / 3], rtol=1e-6)
    biased = BatchNorm(momentum=0.9, epsilon=1e-5)
    same, other = biased.apply(variables, x, True, mask, mutable=["batch_stats"])
    np.testing.assert_array_equal(y, same)
    np.testing.assert_allclose(other["batch_stats"]["var"], [0.9 + 0.1 * 3.5], rtol=1e-6)


def test_a_single_row_has_a_finite_running_variance():
    layer = BatchNorm(momentum=0.9, epsilon=1e-5, affine=False, unbiased=True)
    x = jnp.full((1, 1, 1, 2), 7.0)
    start_values = {"batch_stats": {"mean": jnp.zeros(2), "var": jnp.ones(2)}}
    _, updated = layer.apply(start_values, x, True, mutable=["batch_stats"])
    np.testing.assert_allclose(updated["batch_stats"]["var"], [0.9, 0.9], rtol=1e-6)


def test_initial_weights_and_biases_are_within_one_over_the_root_of_the_inputs():
    """Uniform: to the edges, half of the values within half of them; Keras's biases are zero."""
    init = jax.jit(DenseAutoencoder(framework="pytorch").init)
    params = init(jax.random.key(1), jnp.zeros((1, 640)))["params"]
    for number, inputs in enumerate((640, 128, 128, 128, 128, 8, 128, 128, 128, 128)):
        bound = inputs**-0.5
        for name in ("kernel", "bias"):
            values = np.abs(params[f"Dense_{number}"][name])
            assert values.max() <= bound, (number, name)
        kernel = np.abs(params[f"Dense_{number}"]["kernel"])
        # 1,024 values at least: their largest is below 0.98 of the bound in one of 1e9 draws, and
        # the share has a standard deviation of 0.016 at most.
        assert kernel.max() > 0.98 * bound
        assert abs((kernel < bound / 2).mean() - 0.5) < 0.08
    assert np.abs(params["Dense_9"]["bias"]).max() > 0.9 * 128**-0.5
    keras = jax.jit(DenseAutoencoder((6,), 3).init)(jax.random.key(1), jnp.zeros((1, 20)))
    assert not any(keras["params"][f"Dense_{i}"]["bias"].any() for i in range(4))


def numpy_step(params, stats, x, settings):
    """Loss, weights and running statistics after one step, in float64: all derived by hand."""
    p = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), params)
    x = np.asarray(x, np.float64)
    n, saved, y = len(x), [], x
    moved = {}
    for i in range(3):
        pre = y @ p[f"Dense_{i}"]["kernel"] + p[f"Dense_{i}"]["bias"]
        mean, var = pre.mean(axis=0), pre.var(axis=0)
        root = np.sqrt(var + settings.epsilon)
        normal = (pre - mean) / root
        affine = normal * p[f"BatchNorm_{i}"]["scale"] + p[f"BatchNorm_{i}"]["bias"]
        saved.append((y, normal, root, affine))
        y = np.maximum(affine, 0)
        weight, old = settings.momentum, stats[f"BatchNorm_{i}"]
        moved[f"BatchNorm_{i}"] = {
            "mean": weight * old["mean"] + (1 - weight) * mean,
            "var": weight * old["var"] + (1 - weight) * var * n / (n - 1),
        }
    output = y @ p["Dense_3"]["kernel"] + p["Dense_3"]["bias"]
    back = 2 * (output - x) / x.size
    gradients = {"Dense_3": {"kernel": y.T @ back, "bias": back.sum(axis=0)}}
    back = back @ p["Dense_3"]["kernel"].T
    for i in reversed(range(3)):
        inputs, normal, root, affine = saved[i]
        back = back * (affine > 0)
        gradients[f"BatchNorm_{i}"] = {
            "scale": (back * normal).sum(axis=0),
            "bias": back.sum(axis=0),
        }
        of_normal = back * p[f"BatchNorm_{i}"]["scale"]
        share = of_normal.mean(axis=0) + normal * (of_normal * normal).mean(axis=0)
        back = (of_normal - share) / root
        # The bias has no gradient: the normalisation takes it off.
        gradients[f"Dense_{i}"] = {"kernel": inputs.T @ back, "bias": 0 * back.sum(axis=0)}
        back = back @ p[f"Dense_{i}"]["kernel"].T

    # Adam's first step: both moments without their bias are the gradient and its square.
    after = jax.tree.map(
        lambda value, gradient: value - LEARNING_RATE * gradient / (np.abs(gradient) + 1e-8),
        p,
        {name: gradients[name] for name in p},
    )
    return ((output - x) ** 2).mean(), after, moved


@pytest.mark.parametrize(
    "settings", [{}, {"detector.momentum": "0.9", "detector.epsilon": "1e-5"}], ids=["own", "torch"]
)
def test_a_training_step_by_numpy(settings):
    """Losses and statistics to 1e-5 of their values; weights to a hundredth of a step.

    Adam's step has the size of the learning rate whatever the gradient's; its sign and size are
    those of float64 where the gradient is above float32's rounding.
    """
    found = detector(**settings)
    task = found.task()
    learner = drawn(task, standard(4))
    views = vectors(16)
    before = jax.device_get(learner)
    loss, after, moved = numpy_step(
        before["params"],
        before["model_state"]["batch_stats"],
        views.reshape(16, 20),
        found.settings,
    )
    learner, ours = jax.device_get(jax.jit(task.step)(learner, batch_of(views), jax.random.key(0)))
    np.testing.assert_allclose(ours, loss, rtol=1e-5)
    jax.tree.map(
        functools.partial(np.testing.assert_allclose, atol=LEARNING_RATE / 100),
        learner["params"],
        after,
    )
    jax.tree.map(
        functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-5),
        learner["model_state"]["batch_stats"],
        moved,
    )


def test_random_biases_before_a_normalisation_stay_and_change_nothing():
    """In training the same outputs, to rounding, whatever they are."""
    module = detector().module
    variables = jax.jit(module.init)(jax.random.key(0), jnp.zeros((1, 20)))
    x = vectors(16).reshape(16, 20)
    other = jax.tree_util.tree_map_with_path(
        lambda path, leaf: (
            leaf + 3 if path[-1].key == "bias" and path[-2].key in ("Dense_0", "Dense_2") else leaf
        ),
        variables,
    )
    apply = jax.jit(functools.partial(module.apply, train=True, mutable=["batch_stats"]))
    one, two = (apply(v, x)[0] for v in (variables, other))
    np.testing.assert_allclose(one, two, atol=1e-4)
    task = detector().task()
    before = start(task, n_mels=4)
    after, _ = jax.jit(task.step)(before, batch_of(vectors()), jax.random.key(0))
    for number in range(3):
        bias = before["params"][f"Dense_{number}"]["bias"]
        assert np.all(bias != 0)
        np.testing.assert_array_equal(bias, after["params"][f"Dense_{number}"]["bias"])


def test_the_framework_of_each_configuration():
    for name in ("dense_ae_2023", "mahalanobis_2023", "outlier_exposure_ae"):
        config = load_config(name)
        assert config.detector.framework == "pytorch", name
        assert count_values(make_detector(config).task(), 128) == 269_992
    baseline, exposed = load_config("dense_ae_2023"), load_config("outlier_exposure_ae").detector
    assert baseline.train.batch_size == 256 and baseline.front_end.pad_mode == "constant"
    assert (baseline.detector.momentum, baseline.detector.epsilon) == (0.99, 1e-3)
    assert (exposed.momentum, exposed.epsilon) == (0.9, 1e-5)
    assert load_config("dense_ae").detector.framework == "keras"
    score = {"detector.score": "mahalanobis"}
    assert load_config("mahalanobis_2023").detector == load_config("dense_ae_2023", score).detector


def torch_network(torch, params, stats, settings):
    """PyTorch's own layers, with our values."""
    nn, layers = torch.nn, []
    for i, (inputs, outputs) in enumerate(zip(WIDTHS, WIDTHS[1:], strict=False)):
        dense = nn.Linear(inputs, outputs)
        p = params[f"Dense_{i}"]
        dense.weight.data, dense.bias.data = torch.tensor(p["kernel"].T), torch.tensor(p["bias"])
        layers.append(dense)
        if f"BatchNorm_{i}" in params:
            layer = nn.BatchNorm1d(outputs, settings.epsilon, 1 - settings.momentum)
            p, s = params[f"BatchNorm_{i}"], stats[f"BatchNorm_{i}"]
            layer.weight.data, layer.bias.data = torch.tensor(p["scale"]), torch.tensor(p["bias"])
            layer.running_mean, layer.running_var = torch.tensor(s["mean"]), torch.tensor(s["var"])
            layers += [layer, nn.ReLU()]
    return nn.Sequential(*layers)


def test_training_and_outputs_equal_pytorch():
    """Ten steps' losses to 1e-3 of their values, as PyTorch's biases move by rounding alone."""
    torch = pytest.importorskip("torch")
    found = detector()
    task = found.task()
    learner = jax.device_get(start(task, n_mels=4))
    stats = learner["model_state"]["batch_stats"]
    model = torch_network(torch, learner["params"], stats, found.settings)
    optimizer = torch.optim.Adam(model.parameters(), LEARNING_RATE)
    step = jax.jit(task.step)
    for seed in range(10):
        views = vectors(16, seed)
        x = torch.tensor(views.reshape(16, 20))
        learner, loss = step(learner, batch_of(views), jax.random.key(0))
        theirs = torch.nn.functional.mse_loss(model(x), x)
        optimizer.zero_grad()
        theirs.backward()
        optimizer.step()
        np.testing.assert_allclose(loss, theirs.item(), rtol=1e-3)
    for i, layer in enumerate(m for m in model if isinstance(m, torch.nn.BatchNorm1d)):
        ours = learner["model_state"]["batch_stats"][f"BatchNorm_{i}"]
        np.testing.assert_allclose(ours["var"], layer.running_var, rtol=1e-2)


def test_pytorch_draws_from_the_same_ranges():
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    layer = torch.nn.Linear(128, 128)
    bound = 128**-0.5
    for values in (layer.weight, layer.bias):
        largest = values.detach().abs().max().item()
        assert 0.9 * bound < largest <= bound
