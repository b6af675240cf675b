"""Adapting fitted systems: closed forms against the fit to all clips, networks, what is kept."""

import dataclasses

import numpy as np
import pytest

import asd_jax
from asd_jax.config import load_config
from asd_jax.detectors import config_classes
from asd_jax.errors import UserError
from asd_jax.fitting.arrays import adapt
from asd_jax.fitting.detector import FittedDetector
from asd_jax.fitting.history import BandMeter
from asd_jax.scoring.thinning import thinned

RATE, FIRST, ALL = 16_000, 20, 28
MELS = {"front_end.n_mels": "16"}
SYSTEMS = ("mel_mahalanobis", "spectral", "mel_knn", "spectrum_knn", "twfr_gmm")
SETTINGS = (
    ("mel_mahalanobis", {"detector.states": "attributes"}),
    ("spectral", {"detector.states": "clusters", "detector.level_db": "3"}),
    ("mel_knn", {"detector.centres": "4", "detector.normalisation": "ldn"}),
    ("twfr_gmm", {"detector.oversampling": "smote"}),
)
UNTRAINED = [
    *((name, {}) for name in SYSTEMS),
    *(pytest.param(*each, marks=pytest.mark.slow) for each in SETTINGS),
]


def known(first, last):
    """What is known of some clips: two domains, two speeds, groups of two."""
    return {
        "domains": ["target" if i % 5 == 4 else "source" for i in range(first, last)],
        "attributes": [{"speed": i % 2} for i in range(first, last)],
        "groups": [f"day{i // 2}" for i in range(first, last)],
    }


@pytest.fixture(scope="module")
def features():
    """(12, 16) each; clips of two speeds, and a level that wanders."""
    rng = np.random.default_rng(0)
    tone = np.where(np.arange(16) == 5, 9.0, 0.0)
    return [
        (rng.normal(-50, 2, (12, 16)) + rng.normal() + (i % 2) * tone).astype(np.float32)
        for i in range(ALL)
    ]


def test_every_system_without_training_is_tested():
    untrained = {name for name, system in config_classes().items() if not system.trains}
    assert untrained == {*SYSTEMS}


@pytest.mark.parametrize("name, settings", UNTRAINED, ids=lambda each: str(each))
def test_closed_forms_become_the_fit_to_all_clips(name, settings, features):
    """To the bit: they are computed by the same functions, from the same vectors."""
    config = load_config(name, MELS | settings)
    first = asd_jax.fit(config, features[:FIRST], **known(0, FIRST))
    adapted = adapt(first, features[FIRST:], **known(FIRST, ALL))
    whole = asd_jax.fit(config, features, **known(0, ALL))
    assert adapted.calibration.keys() == whole.calibration.keys()
    for key, leaf in whole.calibration.items():
        np.testing.assert_allclose(adapted.calibration[key], leaf, rtol=1e-9, err_msg=key)
    np.testing.assert_array_equal(adapted.thresholds, whole.thresholds)
    for key, leaf in whole.reference.items():
        np.testing.assert_array_equal(adapted.reference[key], leaf)
    assert adapted.group_thresholds == whole.group_thresholds
    rng = np.random.default_rng(1)
    others = [rng.normal(-48, 3, (12, 16)).astype(np.float32) for _ in range(3)]
    np.testing.assert_allclose(adapted.score_features(others), whole.score_features(others), 1e-6)
    assert (first.score_features(others) != whole.score_features(others)).any()
    (group,) = whole.history.known
    np.testing.assert_array_equal(
        adapted.history.known[group].levels, whole.history.known[group].levels
    )


def test_known_clips_are_not_counted_again(features):
    first = asd_jax.fit(load_config("mel_mahalanobis", MELS), features[:8])
    assert adapt(first, features[:8]) is first
    twice = adapt(first, [*features[6:10], features[9]])
    assert len(twice.history.known["machine", "00"].clips) == 10
    assert adapt(twice, features[5:10]) is twice
    assert [clip.version for clip in twice.history.known["machine", "00"].clips[-3:]] == [0, 1, 1]


def test_only_machines_with_new_clips_change(features):
    config = load_config("spectral", MELS)
    first = asd_jax.fit(config, {"fan": features[:9], "pump": features[9:20]})
    adapted = adapt(first, features[20:], machine="pump")
    assert adapted.group_thresholds["fan/00"] == first.group_thresholds["fan/00"]
    assert adapted.group_thresholds["pump/00"] != first.group_thresholds["pump/00"]
    alone = asd_jax.fit(config, features[9:], machine="pump")
    np.testing.assert_allclose(
        adapted.score_features(features[:3], machine="pump"), alone.score_features(features[:3])
    )
    explained = adapted.explain_features(features[20:21], machine="pump")
    assert explained[0].nearest == "1/00000000"
    for place in ({"machine": "fann"}, {"machine": "fan", "section": "07"}, {}):
        with pytest.raises(UserError, match="fitted"):
            adapt(first, features[20:], **place)


def test_banks_stay_within_a_bound(features):
    config = load_config("mel_knn", MELS)
    first = asd_jax.fit(config, features[:FIRST])
    bounded = adapt(first, features[FIRST:], max_bank=FIRST)
    vectors = bounded.calibration["vectors"][0]
    assert vectors.shape[0] == FIRST == len(bounded.history.known["machine", "00"].clips)
    # It is the fit to the clips that are left.
    whole = np.concatenate(
        [each.calibration["vectors"][0] for each in (first, asd_jax.fit(config, features[8:]))]
    )
    whole = np.concatenate([whole[:FIRST], whole[-8:]])
    left = [i for i, vector in enumerate(whole) if (vectors == vector).all(axis=1).any()]
    again = asd_jax.fit(config, [features[i] for i in left])
    np.testing.assert_allclose(
        bounded.score_features(features[:4]), again.score_features(features[:4]), rtol=1e-6
    )
    assert bounded.normal.clips["machine", "00"].names == tuple(
        f"{i:08}" if i < FIRST else f"1/{i - FIRST:08}" for i in left
    )
    with pytest.raises(UserError, match="mel_mahalanobis has no such bank"):
        adapt(asd_jax.fit(load_config("mel_mahalanobis", MELS), features[:8]), features, max_bank=4)


def test_of_two_alike_the_older_leaves():
    """By hand: 0 and 3 are 0.1 apart, then 1 and 2 are 1 apart; domains are not mixed."""
    values = np.array([[0.0], [5.0], [6.0], [0.1], [20.0], [20.0]])
    domain = np.array([0, 0, 0, 0, 0, 1])
    assert np.flatnonzero(thinned(values, domain, 5)).tolist() == [1, 2, 3, 4, 5]
    assert np.flatnonzero(thinned(values, domain, 4)).tolist() == [2, 3, 4, 5]
    assert thinned(values, domain, 6).all()
    assert thinned(values, domain, 1).sum() == 1


@pytest.fixture(scope="module")
def network(features):
    """A small trained autoencoder, its thresholds by clips that are held out."""
    settings = {"train.epochs": "1", "detector.hidden": "8,", "seeds": "0,1"}
    config = load_config("dense_ae", MELS | settings | {"train.threshold_split": "0.3"})
    return asd_jax.fit(config, features[:FIRST])


def test_networks_keep_their_weights_and_get_thresholds(network, features):
    new = [clip - 9 for clip in features[FIRST:]]
    adapted = adapt(network, new)
    assert adapted.weights is network.weights
    scores = np.stack([network.score_features(new, seed=seed) for seed in (0, 1)])
    held_out = network.reference["scores"].shape[1]
    assert held_out == 6 and adapted.reference["scores"].shape == (2, 6 + len(new))
    np.testing.assert_array_equal(adapted.reference["scores"][:, :6], network.reference["scores"])
    np.testing.assert_allclose(adapted.reference["scores"][:, 6:], scores, rtol=1e-6)
    assert (adapted.thresholds > network.thresholds).all()
    # The new normal is no longer unusual.
    assert network.p_values(scores.mean(axis=0)).max() < 0.2
    assert adapted.p_values(scores.mean(axis=0)).max() > 0.5


def test_few_new_clips_do_not_set_a_threshold(features, network):
    config = dataclasses.replace(
        network.config, train=dataclasses.replace(network.config.train, threshold_split=0.0)
    )
    fitted = asd_jax.fit(config, features[:FIRST])
    assert not fitted.reference
    few = adapt(fitted, features[FIRST : FIRST + 4])
    np.testing.assert_array_equal(few.thresholds, fitted.thresholds)
    assert few.group_thresholds == fitted.group_thresholds and not few.reference
    enough = adapt(fitted, [clip + 1 for clip in features[:12]])
    assert enough.reference["scores"].shape == (2, 12)
    assert (enough.thresholds != fitted.thresholds).all()


def test_what_is_known_is_kept_in_the_file(features, network, tmp_path):
    for fitted in (network, adapt(network, features[FIRST:], **known(FIRST, ALL))):
        fitted.save(tmp_path / "model.npz")
        read = FittedDetector.load(tmp_path / "model.npz")
        assert read.history.known.keys() == fitted.history.known.keys()
        for group, own in fitted.history.known.items():
            assert read.history.known[group].clips == own.clips
            np.testing.assert_array_equal(read.history.known[group].levels, own.levels)
    before = dataclasses.replace(network, history=None)
    before.save(tmp_path / "before.npz")
    assert FittedDetector.load(tmp_path / "before.npz").history is None
    with pytest.raises(UserError, match="earlier version"):
        adapt(before, features[FIRST:])


def test_levels_are_those_of_all_frames():
    """In blocks of any size, and of long clips by every second frame."""
    frames = np.random.default_rng(0).normal(-50, 5, (5000, 3))
    meter = BandMeter()
    for block in np.array_split(frames, 7):
        meter.add(block)
    expected = np.stack([frames.mean(axis=0), *np.percentile(frames, [10, 90], axis=0)])
    np.testing.assert_allclose(meter.levels()[0], expected[0], rtol=1e-12)
    # 1250 of 5000 frames: percentiles of a Gaussian with a deviation of 5 are off by 0.24.
    np.testing.assert_allclose(meter.levels()[1:], expected[1:], atol=1.0)
    assert meter.n_frames == 5000
