"""Multibranch beside ASDKit's in PyTorch, whose numbers a script has written."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import parity_draws as draws
import pytest
from flax.traverse_util import flatten_dict, unflatten_dict

from asd_jax.audio.spectra import Spectrogram, magnitude_spectrum
from asd_jax.losses import angular
from asd_jax.models.multibranch import Multibranch

CLASSES, SUB_CENTRES = 5, 16
# Relative to the largest value, or to a branch's gradient: both compute in float64. In float32 they
# differ by up to 1e-4, where a value of few is the largest, or above 0, in one of them only.
TOLERANCE = 1e-8


@pytest.fixture(scope="module")
def theirs():
    with np.load(Path(__file__).with_name("multibranch_parity.npz")) as file:
        return dict(file)


def spectra(waveforms, n_ffts=(256, 1024, 4096)):
    return magnitude_spectrum(waveforms), [Spectrogram(n_fft)(waveforms) for n_fft in n_ffts]


@pytest.fixture(scope="module")
def variables():
    """Parameters by name, drawn, and the initial statistics."""
    inputs = spectra(jnp.asarray(draws.waveforms()))
    shapes = jax.eval_shape(Multibranch().init, jax.random.key(0), *inputs)
    drawn = {
        name: draws.array(name, leaf.shape)
        for name, leaf in flatten_dict(shapes["params"], sep="/").items()
    }
    statistics = {
        name: np.full(leaf.shape, name.endswith("/var"), np.float32)
        for name, leaf in flatten_dict(shapes["batch_stats"], sep="/").items()
    }
    return drawn, unflatten_dict(statistics, sep="/")


@pytest.mark.slow
def test_embeddings_loss_and_gradients_are_those_of_asdkit(variables, theirs):
    drawn, statistics = variables
    waveforms = draws.waveforms().astype(np.float64)
    labels = draws.labels(len(waveforms), CLASSES)

    def loss(parameters):
        centres = parameters["centres"].reshape(512, CLASSES, SUB_CENTRES)
        own = {name: leaf for name, leaf in parameters.items() if name != "centres"}
        embeddings, _ = Multibranch(dtype=jnp.float64).apply(
            {"params": unflatten_dict(own, sep="/"), "batch_stats": statistics},
            *spectra(waveforms),
            train=True,
            mutable="batch_stats",
        )
        scale = angular.adacos_scale(CLASSES * SUB_CENTRES)
        cosines = angular.centre_cosines(embeddings, centres)
        log_p = angular.sub_centre_log_probabilities(cosines, scale)
        return angular.soft_cross_entropy(log_p, labels).mean(), embeddings

    parameters = drawn | {"centres": draws.array("centres", (512, CLASSES * SUB_CENTRES))}
    with jax.enable_x64(True):
        step = jax.jit(jax.value_and_grad(loss, has_aux=True))
        doubles = {name: leaf.astype(np.float64) for name, leaf in parameters.items()}
        found = step(doubles)
        (value, embeddings), gradients = jax.tree.map(np.asarray, found)
    _equal(embeddings, theirs["embeddings"])
    assert float(value) == pytest.approx(float(theirs["loss"]), rel=TOLERANCE)

    names = theirs["parameters"].tolist()
    assert set(names) == set(gradients)
    branch = np.array([name.split("/")[0] for name in names])
    norm, along = theirs["gradients"].T
    whole = np.array([np.linalg.norm(norm[branch == own]) for own in branch])
    found = [np.linalg.norm(gradients[name]) for name in names]
    np.testing.assert_allclose(found / whole, norm / whole, rtol=0, atol=TOLERANCE)
    found = [
        np.sum(gradients[name] * draws.array(f"along {name}", gradients[name].shape))
        for name in names
    ]
    np.testing.assert_allclose(found / whole, along / whole, rtol=0, atol=TOLERANCE)


@pytest.mark.slow
def test_by_running_statistics_it_is_that_of_asdkit(variables, theirs):
    drawn, statistics = variables
    variables = {"params": unflatten_dict(drawn, sep="/"), "batch_stats": statistics}
    ours = jax.jit(Multibranch().apply)(variables, *spectra(jnp.asarray(draws.waveforms())))
    largest = np.abs(theirs["evaluated"]).max()
    np.testing.assert_allclose(ours, theirs["evaluated"], rtol=0, atol=1e-5 * largest)  # float32


def _equal(ours, theirs):
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=TOLERANCE * np.abs(theirs).max())


def test_parameters_are_as_many_as_published():
    """Of one and of three spectrograms, at 10 s: 2.50 and 5.00 million."""
    for n_ffts, published in (((1024,), 2.50), ((256, 1024, 4096), 5.00)):
        inputs = jax.eval_shape(lambda x, n=n_ffts: spectra(x, n), jnp.zeros((1, 160_000)))
        shapes = jax.eval_shape(Multibranch().init, jax.random.key(0), *inputs)
        count = sum(leaf.size for leaf in jax.tree.leaves(shapes["params"]))
        assert count / 1e6 == pytest.approx(published, abs=0.005)


def test_rows_that_do_not_count_do_not_change_the_others():
    """Normalised by the marked rows alone, in both kinds of branch."""
    network = Multibranch(width=16)
    waveforms = np.random.default_rng(0).normal(size=(4, 70_400)).astype(np.float32)
    inputs = jax.eval_shape(lambda x: spectra(x, (256,)), waveforms)
    shapes = jax.eval_shape(network.init, jax.random.key(0), *inputs)
    variables = jax.tree.map(lambda leaf: np.full(leaf.shape, 0.1, np.float32), shapes)
    mask = np.array([True, True, True, False])

    @jax.jit
    def embed(waveforms):
        inputs = spectra(waveforms, (256,))
        return network.apply(variables, *inputs, True, mask, mutable="batch_stats")

    one, statistics = embed(waveforms)
    other, others = embed(waveforms * np.array([1, 1, 1, 50], np.float32)[:, None])
    assert one.shape == (4, 32)
    np.testing.assert_array_equal(one[:3], other[:3])
    jax.tree.map(np.testing.assert_array_equal, statistics, others)


@pytest.mark.parametrize(
    ("bins", "frames", "message"),
    [
        (35_007, 36, "a spectrum of 35007 bins; its branch needs 35008"),
        (35_008, 35, "35 frames and 40 bins; its branch needs 36 of both"),
        (35_008, 36, None),
    ],
)
def test_what_is_too_short_is_refused(bins, frames, message):
    def init():
        inputs = jnp.zeros((1, bins)), [jnp.zeros((1, frames, 40))]
        return Multibranch().init(jax.random.key(0), *inputs)

    if message is None:
        jax.eval_shape(init)
        return
    with pytest.raises(ValueError, match=message):
        jax.eval_shape(init)
