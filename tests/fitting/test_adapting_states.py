"""Adapting systems that have operating states: equal to the fit to all clips, by given states."""

import numpy as np
import pytest
from reporters import Lines

import asd_jax
from asd_jax.config import load_config
from asd_jax.errors import UserError
from asd_jax.fitting.arrays import adapt
from asd_jax.fitting.detector import FittedDetector
from asd_jax.fitting.judging import judge

MELS = 8
SMALL = {"front_end.n_mels": str(MELS)}
TINY = SMALL | {"detector.hidden": "8,", "train.epochs": "1", "train.batch_size": "64"}
FIRST = 20
SPEEDS = [1.0, 2.0] * 10 + [1.0, 2.0, 3.0, 3.0, 3.0, 4.0]  # 3 is new, and 4 is alone
STATES = [f"speed={speed:g}" for speed in SPEEDS]


def clips(speeds, seed=0):
    """A clip a speed, louder the faster; 0 is off."""
    rng = np.random.default_rng(seed)
    levels = [-60 + 10 * speed if speed else -90 for speed in speeds]
    made = [level + rng.normal(0, 1, MELS) + rng.normal(0, 2, (20, MELS)) for level in levels]
    return [clip.astype(np.float32) for clip in made]


CLIPS = clips(SPEEDS)


@pytest.mark.parametrize("name", ["spectral", "mel_mahalanobis", "mel_knn"])
def test_given_states_become_those_of_the_fit_to_all_clips(name, tmp_path):
    """Relative 1e-5 of the scores; states are equal, a new one among them, and kept by a file."""
    config = load_config(name, SMALL)
    first = asd_jax.fit(config, CLIPS[:FIRST], states=STATES[:FIRST])
    said = Lines()
    adapted = adapt(first, CLIPS[FIRST:], states=STATES[FIRST:], reporter=said)
    whole = asd_jax.fit(config, CLIPS, states=STATES)
    assert said.lines[0] == (
        "machine 00: 5 of 6 new clips are learned from, of speed=1, speed=2, speed=3; not: 1 of "
        "speed=4 with too few others"
    )
    adapted.save(tmp_path / "model.npz")
    adapted = FittedDetector.load(tmp_path / "model.npz")
    assert adapted.operating.spaces == whole.operating.spaces != first.operating.spaces
    assert adapted.calibration.keys() == whole.calibration.keys()
    for key, leaf in whole.calibration.items():
        np.testing.assert_allclose(adapted.calibration[key], leaf, rtol=1e-5, err_msg=key)
    np.testing.assert_allclose(adapted.thresholds, whole.thresholds, rtol=1e-5)
    new, states = clips([1, 2, 3, 4, 1], seed=5), ["speed=1", "speed=2", "speed=3", "speed=4", ""]
    group = whole.resolve(None, None)
    found, wanted = (judge(each, group, new, states) for each in (adapted, whole))
    assert found.verdicts == wanted.verdicts and found.verdicts[3] == "unseen state"
    np.testing.assert_allclose(found.scores, wanted.scores, rtol=1e-5)
    assert judge(first, group, new, states).verdicts[2] == "unseen state"


def test_siblings_lend_what_they_would_in_the_fit_to_all_clips():
    """Three machines, of which one has few clips, and another gets more."""
    config = load_config("spectral", SMALL | {"detector.siblings": "all"})
    rng = np.random.default_rng(3)
    spread = rng.normal(0, 1, (MELS, MELS))
    values = {"fan": 12, "pump": 12, "valve": 2}
    made = {
        machine: [
            (rng.normal(-50, 1, (20, MELS)) + spread @ rng.normal(0, 1, MELS)).astype(np.float32)
            for _ in range(count)
        ]
        for machine, count in values.items()
    }
    before = made | {"pump": made["pump"][:6]}
    adapted = adapt(asd_jax.fit(config, before), made["pump"][6:], machine="pump")
    whole = asd_jax.fit(config, made)
    assert adapted.calibration.keys() == whole.calibration.keys()
    for key, leaf in whole.calibration.items():
        np.testing.assert_allclose(adapted.calibration[key], leaf, rtol=1e-5, err_msg=key)
    for machine in values:
        for name in ("fan", "valve"):
            np.testing.assert_allclose(
                adapted.score_features(made[name][:2], machine=machine),
                whole.score_features(made[name][:2], machine=machine),
                rtol=1e-5,
            )


def test_what_is_off_is_not_learned_from():
    config = load_config("mel_mahalanobis", SMALL)
    first = asd_jax.fit(config, CLIPS[:FIRST], states=STATES[:FIRST])
    said = Lines()
    states = ["off", "transient", "", "speed=1"]
    adapted = adapt(first, clips([0, 1, 1, 1], seed=7), states=states, reporter=said)
    assert said.lines[0].endswith("not: 1 off, 1 transient, 1 without a state")
    assert adapted.calibration["vectors"].shape[1] == FIRST + 1
    assert adapt(first, clips([0], seed=8), states="off") is first
    with pytest.raises(UserError, match="the state 'load=1' has 'load'"):
        adapt(first, clips([1], seed=8), states="load=1")
    without = asd_jax.fit(config, CLIPS[:FIRST])
    with pytest.raises(UserError, match="fitted without states"):
        adapt(without, clips([1], seed=8), states="speed=1")
    assert adapt(without, clips([0], seed=8), states="off") is without


def test_what_is_off_by_its_level_stays_as_it_was_found():
    config = load_config("spectral", SMALL | {"data.learn_off": "true"})
    first = asd_jax.fit(config, clips([1.0] * 15 + [0.0] * 3))
    said = Lines()
    adapted = adapt(first, clips([0.0, 1.0, 1.0], seed=4), reporter=said)
    assert said.lines[0] == "machine 00: 2 of 3 new clips are learned from; not: 1 off"
    assert adapted.operating == first.operating
    assert adapted.calibration["vectors"].shape[1] == 17


def test_a_network_learns_no_other_state():
    config = load_config("dense_ae", TINY)
    first = asd_jax.fit(config, CLIPS[:FIRST], states=STATES[:FIRST])
    said = Lines()
    adapted = adapt(first, CLIPS[FIRST:], states=STATES[FIRST:], reporter=said)
    assert said.lines[0] == (
        "machine: 2 of 6 new clips are learned from, of speed=1, speed=2; not: 3 of speed=3 that "
        "the network was not trained on, 1 of speed=4 that the network was not trained on"
    )
    assert adapted.operating == first.operating


def test_clips_that_change_what_is_a_state_are_refused():
    """Speeds that vary throughout are an operating point, until most clips are of one speed."""
    speeds = np.linspace(1000, 3000, 12)
    states = [f"speed={speed:g}" for speed in speeds]
    config = load_config("mel_mahalanobis", SMALL)
    first = asd_jax.fit(config, clips([1.0] * 12), states=states)
    with pytest.raises(UserError, match="11 of those that are known would be of states of too few"):
        adapt(first, clips([1.0] * 30, seed=2), states="speed=1000")
