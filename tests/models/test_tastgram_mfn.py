"""TASTgram-MFN beside Noisy-ArcMix's in PyTorch, whose numbers a script has written."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import parity_draws as draws
import pytest
from flax.traverse_util import flatten_dict, unflatten_dict

from asd_jax.losses import centre_cosines, margin_cross_entropies, noisy_arcmix
from asd_jax.models import TASTgramMFN

CLASSES, SHARE, PARTNERS = 5, 0.3, np.array([2, 0, 3, 1])
LABELS = np.arange(4)
ARCFACE = {"margin": 0.7, "scale": 30.0}
# Relative to the largest value, or to the gradient of all parameters: both compute in float64.
TOLERANCE = 1e-8


@pytest.fixture(scope="module")
def theirs():
    with np.load(Path(__file__).with_name("tastgram_parity.npz")) as file:
        return dict(file)


@pytest.fixture(scope="module")
def variables():
    """Parameters by name, drawn, and the initial statistics."""
    inputs = jnp.zeros((1, 160_000)), jnp.zeros((1, 313, 128))
    shapes = jax.eval_shape(TASTgramMFN().init, jax.random.key(0), *inputs)
    drawn = {
        name: draws.array(name, leaf.shape)
        for name, leaf in flatten_dict(shapes["params"], sep="/").items()
    }
    statistics = {
        name: np.full(leaf.shape, name.endswith("/var"), np.float32)
        for name, leaf in flatten_dict(shapes["batch_stats"], sep="/").items()
    }
    return drawn, unflatten_dict(statistics, sep="/")


def cosines_of(embeddings, centres):
    """(batch, classes) of centres (inputs, classes)."""
    return centre_cosines(embeddings, centres[..., None])[..., 0]


@pytest.mark.slow
def test_embeddings_loss_and_gradients_are_those_of_noisy_arcmix(variables, theirs):
    drawn, statistics = variables

    def loss(parameters):
        own = {name: leaf for name, leaf in parameters.items() if name != "centres"}
        sounds, log_mels = (
            SHARE * each + (1 - SHARE) * each[PARTNERS]
            for each in (draws.long_waveforms().astype(float), draws.log_mels().astype(float))
        )
        embeddings, _ = TASTgramMFN(dtype=jnp.float64).apply(
            {"params": unflatten_dict(own, sep="/"), "batch_stats": statistics},
            *(sounds, log_mels, True),
            mutable="batch_stats",
        )
        cosines = cosines_of(embeddings, parameters["centres"])
        value = noisy_arcmix(cosines, LABELS, LABELS[PARTNERS], SHARE, **ARCFACE)
        return value.mean(), embeddings

    parameters = drawn | {"centres": draws.array("centres", (128, CLASSES))}
    with jax.enable_x64(True):
        step = jax.jit(jax.value_and_grad(loss, has_aux=True))
        doubles = {name: leaf.astype(np.float64) for name, leaf in parameters.items()}
        (value, embeddings), gradients = jax.tree.map(np.asarray, step(doubles))
    _equal(embeddings, theirs["embeddings"])
    assert float(value) == pytest.approx(float(theirs["loss"]), rel=TOLERANCE)

    names = theirs["parameters"].tolist()
    assert set(names) == set(gradients)
    norm, along = theirs["gradients"].T
    whole = np.linalg.norm(norm)
    found = [np.linalg.norm(gradients[name]) for name in names]
    np.testing.assert_allclose(found / whole, norm / whole, rtol=0, atol=TOLERANCE)
    found = [
        np.sum(gradients[name] * draws.array(f"along {name}", gradients[name].shape))
        for name in names
    ]
    np.testing.assert_allclose(found / whole, along / whole, rtol=0, atol=TOLERANCE)


def test_by_running_statistics_it_is_that_of_noisy_arcmix(variables, theirs):
    """In float32, to 1e-4 of the largest value."""
    drawn, statistics = variables
    variables = {"params": unflatten_dict(drawn, sep="/"), "batch_stats": statistics}
    inputs = draws.long_waveforms(), draws.log_mels()
    ours = jax.jit(TASTgramMFN().apply)(variables, *inputs)
    largest = np.abs(theirs["evaluated"]).max()
    np.testing.assert_allclose(ours, theirs["evaluated"], rtol=0, atol=1e-4 * largest)


def test_losses_of_embeddings_are_those_of_noisy_arcmix(theirs):
    """Of mixed sounds, and the scores, which are losses for the right class; to 1e-5 in float32."""

    @jax.jit
    def losses(mixed, evaluated):
        centres = draws.array("centres", (128, CLASSES))
        cosines = cosines_of(mixed, centres)
        value = noisy_arcmix(cosines, LABELS, LABELS[PARTNERS], SHARE, **ARCFACE).mean()
        return value, margin_cross_entropies(cosines_of(evaluated, centres), **ARCFACE)

    embeddings = [theirs[name].astype(np.float32) for name in ("embeddings", "evaluated")]
    value, scores = losses(*embeddings)
    assert float(value) == pytest.approx(float(theirs["loss"]), rel=1e-5)
    np.testing.assert_allclose(scores[LABELS, LABELS], theirs["scores"], rtol=1e-5)


def _equal(ours, theirs):
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=TOLERANCE * np.abs(theirs).max())


def test_parameters_are_those_of_noisy_arcmix(theirs, variables):
    """All but the linear layer for a softmax, which nothing uses; 0.28 and 0.87 million."""
    drawn, _ = variables
    assert {*drawn, "centres"} == set(theirs["parameters"].tolist())
    counts = [
        sum(leaf.size for name, leaf in drawn.items() if name.startswith(part))
        for part in ("tgram/", "network/")
    ]
    assert counts == [280_406, 870_912]


@pytest.mark.parametrize(
    ("seconds", "last"), [(2, (4, 8)), (4, (8, 8)), (10, (20, 8)), (11, (22, 8)), (0.5, (1, 8))]
)
def test_the_last_kernel_is_as_large_as_what_it_sees(seconds, last):
    """As the reference's comments have it for 2, 4 and 10 s."""
    samples = round(seconds * 16_000)
    inputs = jnp.zeros((1, samples)), jnp.zeros((1, samples // 512 + 1, 128))
    init = TASTgramMFN().init_with_output
    embeddings, found = jax.eval_shape(init, jax.random.key(0), *inputs)
    assert embeddings.shape == (1, 128)
    assert found["params"]["network"]["sum"].shape == (*last, 1, 512)


def test_rows_that_do_not_count_do_not_change_the_others():
    """Normalised by the marked rows alone; a tiny network, whose layers are of the same kinds."""
    network = TASTgramMFN(width=8, stages=1)
    rng = np.random.default_rng(0)
    waveforms = rng.normal(size=(4, 8192)).astype(np.float32)
    log_mels = rng.normal(0, 10, (4, 17, 16)).astype(np.float32)
    shapes = jax.eval_shape(network.init, jax.random.key(0), waveforms, log_mels)
    variables = jax.tree.map(lambda leaf: rng.normal(size=leaf.shape).astype(np.float32), shapes)
    mask = np.array([True, True, True, False])

    @jax.jit
    def embed(waveforms, log_mels):
        inputs = waveforms, log_mels, True, mask
        return network.apply(variables, *inputs, mutable="batch_stats")

    one, statistics = embed(waveforms, log_mels)
    strange = np.array([1, 1, 1, 50], np.float32)
    other, others = embed(waveforms * strange[:, None], log_mels * strange[:, None, None])
    assert one.shape == (4, 8)
    np.testing.assert_array_equal(one[:3], other[:3])
    jax.tree.map(np.testing.assert_array_equal, statistics, others)
