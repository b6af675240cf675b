"""Direct-ACT's branches beside a plain PyTorch program of the published layers, in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict, unflatten_dict

from asd_jax.audio.spectra import Spectrogram
from asd_jax.models.multibranch import FEWEST_BINS, Multibranch

torch = pytest.importorskip("torch")
functional = torch.nn.functional

WIDTH, VALUES = 16, 24
# Both compute in float64; relative to the largest value.
TOLERANCE = 1e-9


def normalised(x):
    """By the batch, each of the channels on axis 1."""
    return functional.batch_norm(x, None, None, training=True, eps=1e-5)


def convolution(x, kernel, stride=1):
    """TensorFlow's "SAME": the odd row or column of zeros is at the end."""
    taps = kernel.shape[2]
    pads = []
    for size in x.shape[:1:-1]:
        total = max((-(-size // stride) - 1) * stride + taps - size, 0)
        pads += [total // 2, total - total // 2]
    return functional.conv2d(functional.pad(x, pads), kernel, stride=stride)


def spectrogram_branch(x, weights):
    """(batch, frames, bins) by the layers of Direct-ACT's branch of a spectrogram."""

    def kernel(name):
        return weights[f"spectrogram_0/{name}/kernel"].permute(3, 2, 0, 1)

    x = normalised(x.permute(0, 2, 1)).permute(0, 2, 1)[:, None]
    x = torch.relu(normalised(convolution(x, kernel("first"), 2)))
    x = functional.max_pool2d(x, 3, 2)
    for stage in range(4):
        stride, name = (2 if stage else 1), f"stage_{stage}_"
        if stage:
            x = normalised(x)
        y = convolution(torch.relu(x), kernel(name + "convolution_0"), stride)
        y = convolution(torch.relu(normalised(y)), kernel(name + "convolution_1"))
        if stage:
            x = convolution(x[:, :, ::2, ::2], kernel(name + "shortcut"))
        x = normalised(x + y)
        y = convolution(torch.relu(x), kernel(name + "convolution_2"))
        x = x + convolution(torch.relu(normalised(y)), kernel(name + "convolution_3"))
    x = normalised(x.amax(dim=2).flatten(1))
    return x @ weights["spectrogram_0/embedding/kernel"]


def spectrum_branch(x, weights):
    """(batch, bins) by the layers of Direct-ACT's branch of the spectrum."""
    x = x[:, None]
    for number, (taps, stride) in enumerate(((256, 64), (64, 32), (16, 4))):
        kernel = weights[f"spectrum/convolution_{number}/kernel"]
        kernel = kernel.reshape(taps, -1, WIDTH).permute(2, 1, 0)
        x = torch.relu(functional.conv1d(x, kernel, stride=stride))
    x = x.flatten(1)
    for number in range(4):
        x = torch.relu(normalised(x @ weights[f"spectrum/linear_{number}/kernel"]))
    return x @ weights["spectrum/embedding/kernel"]


def test_embeddings_and_gradients_are_those_of_pytorch():
    network = Multibranch(WIDTH, VALUES, double=True, dtype=jnp.float64)
    rng = np.random.default_rng(0)
    inputs = rng.uniform(size=(5, FEWEST_BINS)), [rng.uniform(size=(5, 41, 60))]
    along = rng.normal(size=(5, 2 * VALUES))
    shapes = jax.eval_shape(network.init, jax.random.key(0), *inputs)
    flat = flatten_dict(shapes["params"], sep="/")
    weights = {
        name: rng.normal(0, np.prod(leaf.shape[:-1]) ** -0.5, leaf.shape)
        for name, leaf in flat.items()
    }
    statistics = jax.tree.map(lambda leaf: np.zeros(leaf.shape), shapes["batch_stats"])

    def value(weights):
        variables = {"params": unflatten_dict(weights, sep="/"), "batch_stats": statistics}
        embeddings, _ = network.apply(variables, *inputs, train=True, mutable="batch_stats")
        return jnp.sum(embeddings * along), embeddings

    with jax.enable_x64(True):
        found = jax.jit(jax.value_and_grad(value, has_aux=True))(weights)
        (_, embeddings), gradients = jax.tree.map(np.asarray, found)

    theirs = {name: torch.tensor(leaf, requires_grad=True) for name, leaf in weights.items()}
    spectrum, (spectrogram,) = inputs
    branches = (
        spectrum_branch(torch.tensor(spectrum), theirs),
        spectrogram_branch(torch.tensor(spectrogram), theirs),
    )
    expected = torch.cat(branches, dim=1)
    (expected * torch.tensor(along)).sum().backward()
    _equal(embeddings, expected.detach().numpy())
    for name, leaf in theirs.items():
        _equal(gradients[name], leaf.grad.numpy())


def _equal(ours, theirs):
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=TOLERANCE * np.abs(theirs).max())


def test_a_spectrogram_has_no_mean_over_time_and_no_padding():
    sound = np.random.default_rng(0).normal(size=(2, 8_000)).astype(np.float32)
    settings = {"n_fft": 256, "fmin": 0.0, "center": False}
    plain = np.asarray(Spectrogram(**settings)(sound))
    window = torch.hann_window(256, dtype=torch.float64)
    spectrum = torch.stft(
        torch.tensor(sound).double(), 256, 128, window=window, center=False, return_complex=True
    )
    expected = (spectrum.abs() / window.square().sum().sqrt()).permute(0, 2, 1).numpy()
    # In float32, to 1e-5 of the largest magnitude.
    np.testing.assert_allclose(plain, expected, rtol=0, atol=1e-5 * expected.max())
    without = np.asarray(Spectrogram(**settings, subtract_mean=True)(sound))
    np.testing.assert_allclose(without, plain - plain.mean(axis=1, keepdims=True), atol=1e-6)
