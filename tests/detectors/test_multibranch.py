"""The joint network: what it is trained to tell apart, and how clips are compared behind it."""

import dataclasses

import jax
import numpy as np
import pytest
from fits import trained_before
from sklearn.neighbors import NearestNeighbors
from tones import RATE, sound

import asd_jax
from asd_jax.config import load_config
from asd_jax.detectors import make_detector
from asd_jax.errors import UserError
from asd_jax.features.table import ClipInput
from asd_jax.fitting.pooled import take

SMALL = {
    "detector.seconds": "1.25",
    "detector.spectrum": "false",
    "detector.n_ffts": "1024,",
    "detector.width": "8",
    "train.epochs": "2",
    "train.batch_size": "8",
    "train.learning_rate": "0.003",
    "seeds": "0,1",
}
CONFIG = load_config("multibranch", SMALL)
HZ = {"fan": (400, 700), "pump": (1500, 2500)}


MACHINES = ["fan"] * 8 + ["pump"] * 8
SPEEDS = [i % 2 for i in range(16)]
# Some clips are shorter than what the network hears, and are repeated.
WAVEFORMS = [
    sound(HZ[machine][speed], i, 20_000 if i % 3 else 9_000)
    for i, (machine, speed) in enumerate(zip(MACHINES, SPEEDS, strict=True))
]
KNOWN = {
    "machines": MACHINES,
    "sections": ["00", "00", "01", "01"] * 4,
    "domains": ["target" if i % 8 < 3 else "source" for i in range(16)],
}
ATTRIBUTES = [{"speed": speed} for speed in SPEEDS]


def fit(config, **changes):
    known = {**KNOWN, "attributes": ATTRIBUTES, **changes}
    return asd_jax.fit(config, waveforms=WAVEFORMS, sample_rate=RATE, **known)


@pytest.fixture(scope="module")
def fitted():
    return fit(CONFIG)


def embeddings_of(fitted, seed, waveforms):
    """(clips, values) by the network of a seed, clip by clip."""
    detector, weights = fitted.detector, take(fitted.weights, fitted.seeds.index(seed))

    @jax.jit
    def embed(blocks):
        return detector.embed(weights, ClipInput(blocks, len(blocks))).value

    blocks = [np.asarray(detector.front_end.of_padded(each)) for each in waveforms]
    length = detector.views.length
    return np.stack([embed(np.resize(each, (length, each.shape[1]))) for each in blocks])


def test_one_network_a_seed_serves_all_machines(fitted):
    assert [model.name for model in fitted.models] == [
        f"{machine} seed {seed}" for machine in ("fan", "pump") for seed in (0, 1)
    ]
    assert {len(leaf) for leaf in jax.tree.leaves(fitted.weights)} == {2}
    assert fitted.networks_of([0, 1, 2, 3]) == [0, 1, 0, 1]
    # Classes by machine, section, speed and domain.
    assert fitted.weights["params"]["centres"].shape == (2, 8, 14, 16)


@pytest.mark.parametrize("machine", ["fan", "pump"])
def test_a_score_is_the_distance_from_the_nearest_clip_of_its_machine(fitted, machine):
    """As scikit-learn's, of source and target clips.

    To 1e-3: the nearest are 1e-3 apart, by embeddings that other batches round by 1e-7.
    """
    plain = dataclasses.replace(
        CONFIG, detector=dataclasses.replace(CONFIG.detector, oversampling="none")
    )
    with trained_before(fitted.weights):
        without = fit(plain)
    new = np.stack([sound(hz, 100 + hz) for hz in (400, 1500, 3000)])
    own = [i for i, each in enumerate(MACHINES) if each == machine]
    for seed in (0, 1):
        bank = embeddings_of(fitted, seed, [WAVEFORMS[i] for i in own])
        queries = embeddings_of(fitted, seed, new)
        nearest = NearestNeighbors(n_neighbors=1, metric="cosine").fit(bank.astype(np.float64))
        expected = nearest.kneighbors(queries.astype(np.float64))[0][:, 0]
        found = without.score(new, RATE, machine=machine, seed=seed)
        np.testing.assert_allclose(found, expected, rtol=1e-3)
        # More target clips, between others, can only be nearer.
        assert (fitted.score(new, RATE, machine=machine, seed=seed) <= found * 1.001).all()


@pytest.mark.parametrize("machine", ["fan", "pump"])
def test_held_out_clips_are_scored_as_new_ones(fitted, machine):
    """The others are in the bank, and the one held out is the farthest; to float32's cosines."""
    own = [each for each, name in zip(WAVEFORMS, MACHINES, strict=True) if name == machine]
    for m in fitted.models_of(fitted.resolve(machine, "00")):
        seed = fitted.models[m].seed
        scores = np.array([fitted.score(each, RATE, machine=machine, seed=seed) for each in own])
        reference = fitted.reference["scores"][m]
        (found,) = reference[np.isfinite(reference)]
        assert found > 10 * np.median(scores)
        np.testing.assert_allclose(found, scores.max(), atol=3e-7)


def test_sections_apart_have_banks_of_their_own(fitted):
    settings = dataclasses.replace(CONFIG.detector, sections="apart")
    with trained_before(fitted.weights):
        apart = fit(dataclasses.replace(CONFIG, detector=settings))
    assert len(apart.models) == 8
    assert apart.sections_of("fan") == ("00", "01") and fitted.sections_of("fan") is None
    new = sound(400, 5)
    of_sections = [apart.score(new, RATE, machine="fan", section=each) for each in ("00", "01")]
    assert of_sections[0] != of_sections[1]


@pytest.mark.parametrize("kind", [pytest.param("knn", marks=pytest.mark.slow), "mahalanobis"])
def test_another_back_end_has_scores_of_its_own(fitted, kind):
    backend = dataclasses.replace(CONFIG.backend, kind=kind)
    with trained_before(fitted.weights):
        other = fit(dataclasses.replace(CONFIG, backend=backend))
    new = np.stack([sound(hz, 50 + hz) for hz in (400, 3000)])
    scores = other.score(new, RATE, machine="fan")
    assert np.isfinite(other.threshold(machine="fan")) and scores[1] > scores[0]
    if kind == "mahalanobis":
        assert (scores != fitted.score(new, RATE, machine="fan")).all()


def test_a_long_recording_is_heard_to_its_end(fitted):
    usual = np.concatenate([sound(400, seed) for seed in range(5)])
    late = usual.copy()
    late[-20_000:] += sound(3300, 9)
    assert fitted.score(late, RATE, machine="fan") != fitted.score(usual, RATE, machine="fan")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"detector.seconds": "2", "detector.spectrum": "true"}, "the branch of spectrum needs 4."),
        ({"detector.seconds": "1"}, "the branch of n_ffts 1024 needs 1.12 at 16000 Hz"),
        ({"detector.n_ffts": "1000,"}, "different powers of two"),
        ({"detector.n_ffts": "64,"}, "32 frequencies are from 200 to 8000 Hz"),
        ({"detector.classes": "machine,id"}, "some of machine,section,attributes,domain"),
        ({"detector.pseudo_classes": "1"}, "0 .off., or 2 or more"),
        ({"detector.exchange": "0.5"}, "needs two branches"),
        ({"detector.classes": "machine,section", "detector.pseudo_classes": "4"}, "has no effect"),
        (
            {"detector.fmin": "5000", "front_end.sample_rate": "8000", "detector.seconds": "3"},
            "0 frequencies are from 5000 to 8000 Hz at 8000 Hz",
        ),
        ({"detector.seconds": "inf"}, "detector.seconds is inf; it must be 0"),
        ({"backend": "knn", "detector.normalisation": "ldn"}, "has no effect: backend is knn"),
        ({"front_end.n_mels": "64"}, "front_end.n_mels is 64, which has no effect"),
        ({"detector.normalisation": "ldn", "detector.neighbours": "2"}, "has no effect"),
    ],
)
def test_settings_that_cannot_be_are_one_line(settings, message):
    with pytest.raises(UserError, match=message):
        make_detector(load_config("multibranch", {**SMALL, **settings}))


def test_other_arguments_are_one_line(fitted):
    with pytest.raises(UserError, match="hears waveforms, not features: give waveforms="):
        asd_jax.fit(CONFIG, [np.zeros((40, 128))] * 4)
    with pytest.raises(UserError, match="hears waveforms, not features; use `score`"):
        fitted.score_features([np.zeros((40, 501))], machine="fan")
    with pytest.raises(UserError, match="give either features, or waveforms"):
        asd_jax.fit(CONFIG)
    with pytest.raises(UserError, match="need their sample_rate"):
        asd_jax.fit(CONFIG, waveforms=WAVEFORMS)
    with pytest.raises(UserError, match=r"waveforms\[1\]: too short: 0.1 s have 3 frames where 4"):
        asd_jax.fit(CONFIG, waveforms=[WAVEFORMS[0], WAVEFORMS[1][:1600]], sample_rate=RATE)
    with pytest.raises(UserError, match=r"waveforms\[0\] has shape \(2, 20000\)"):
        asd_jax.fit(CONFIG, waveforms=[np.zeros((2, 20_000))] * 2, sample_rate=RATE)
    with pytest.raises(UserError, match="16 clips, but 3 machines"):
        fit(CONFIG, machines=["fan"] * 3)
    with pytest.raises(UserError, match="a clip's attributes is 3 .int."):
        fit(CONFIG, attributes=[3] * 16)
    with pytest.raises(UserError, match="too short: 0.1 s have 3 frames where 4 are needed"):
        fitted.score(np.zeros(1600, np.float32), RATE, machine="fan")


@pytest.mark.slow
def test_all_options_of_direct_act_train(fitted):
    """Subspaces, exchanged parts and dynamic scales, which are what each step makes of the last."""
    small = {
        "detector.seconds": "4.5",
        "detector.width": "8",
        "detector.values": "8",
        "detector.sub_centres": "2",
        "train.epochs": "3",
        "train.batch_size": "8",
        "train.threshold_split": "0",  # all eight clips of a machine are needed
        "seeds": "0,",
    }
    direct = fit(load_config("direct_act", small))
    scales = direct.weights["scales"]
    assert {*scales} == {"centres", "exchanged"} and np.isfinite(scales["centres"]).all()
    first = direct.detector._first_scale(8)
    assert scales["centres"] != first
    # 8 classes without domains, fixed; three blocks of them for exchanged parts, learned.
    assert direct.weights["fixed"]["centres"].shape == (1, 8, 2, 16)
    assert direct.weights["params"]["exchanged"].shape == (1, 24, 2, 16)
    scores = direct.score(np.stack([sound(400, 50), sound(3300, 51)]), RATE, machine="fan")
    assert np.isfinite(scores).all() and scores[1] > scores[0]
