"""Systems fitted with states: what is fitted to, what is scored, and what is answered."""

import dataclasses

import numpy as np
import pytest
from reporters import Lines

import asd_jax
from asd_jax.config import load_config
from asd_jax.errors import UserError
from asd_jax.fitting.detector import FittedDetector
from asd_jax.fitting.judging import judge

MELS = 16
SMALL = {"front_end.n_mels": str(MELS)}
TINY = SMALL | {"detector.hidden": "8,", "train.epochs": "2", "train.batch_size": "64"}
SHAPE = 12 * np.sin(np.arange(MELS))


def clips(speeds, seed=0):
    """A clip a speed, in thousands: louder, and of another spectrum, the faster; 0 is off."""
    rng = np.random.default_rng(seed)
    found = []
    for speed in speeds:
        level = -60 + 10 * speed + SHAPE * speed if speed else np.full(MELS, -90.0)
        found.append(level + rng.normal(0, 1, MELS) + rng.normal(0, 2, (40, MELS)))
    return [clip.astype(np.float32) for clip in found]


SPEEDS = [*[1.0] * 15, *[2.0] * 15, 3.0, 0.0, 0.0]
STATES = [{"speed": speed} if speed else "off" for speed in SPEEDS]


@pytest.fixture(scope="module")
def said():
    return Lines()


@pytest.fixture(scope="module")
def fitted(said):
    config = load_config("spectral", SMALL)
    return asd_jax.fit(config, clips(SPEEDS), machine="pump", states=STATES, reporter=said)


def test_off_and_lonely_states_are_not_fitted_to(fitted, said):
    assert fitted.calibration["vectors"].shape[1] == 30
    (line,) = [line for line in said.lines if "are fitted to" in line]
    assert line == (
        "pump 00: 30 of 33 training clips are fitted to, of speed=1, speed=2; not: 2 off, "
        "1 of speed=3 with too few others"
    )


def test_a_clip_is_compared_with_its_own_state(fitted, tmp_path):
    """What is normal at one speed is a fault at another; other states have answers of their own."""
    new = clips([1.0, 2.0, 1.0, 3.0, 0.0, 1.0], seed=9)
    states = ["speed=1", {"speed": 2}, "speed=2", "speed=3", "off", "transient"]
    group = fitted.resolve(None, None)
    found = judge(fitted, group, new, states)
    assert found.verdicts[2:] == ("anomalous", "unseen state", "off", "transient")
    assert found.scores[2] > 10 * found.scores[:2].max()
    assert np.isnan(found.scores).tolist() == [False] * 3 + [True] * 3
    # Without a state, the one that it sounds like.
    unknown = judge(fitted, group, new[:3]).scores
    np.testing.assert_allclose(unknown[:2], found.scores[:2], rtol=1e-6)
    assert unknown[2] < found.scores[2] / 5
    fitted.save(tmp_path / "model.npz")
    again = judge(FittedDetector.load(tmp_path / "model.npz"), group, new, states)
    np.testing.assert_array_equal(again.scores, found.scores)
    assert again.verdicts == found.verdicts


def test_the_scores_are_those_of_clips_of_one_speed(fitted):
    """Each state moved by its own amount leaves the scores as they are, to rounding."""
    moved = [
        clip + np.float32(20 * (speed == 2.0))
        for clip, speed in zip(clips(SPEEDS), SPEEDS, strict=True)
    ]
    other = asd_jax.fit(load_config("spectral", SMALL), moved, states=STATES)
    new, group = clips([2.0] * 3, seed=4), other.resolve(None, None)
    one = judge(fitted, fitted.resolve(None, None), new, "speed=2").scores
    two = judge(other, group, [clip + np.float32(20) for clip in new], "speed=2").scores
    np.testing.assert_allclose(one, two, rtol=1e-4)


def test_an_operating_point_is_interpolated():
    speeds = np.random.default_rng(3).uniform(1, 3, 60).round(4)
    states = [{"speed": speed} for speed in speeds]
    fitted = asd_jax.fit(load_config("mel_mahalanobis", SMALL), clips(speeds), states=states)
    group = fitted.resolve(None, None)
    found = judge(
        fitted, group, clips([1.5, 2.5, 1.5, 2.0], seed=5), [{"speed": s} for s in (1.5, 2.5, 2, 9)]
    )
    assert found.scores[2] > 3 * found.scores[:2].max() and found.verdicts[3] == "unseen state"


def test_networks_learn_of_running_clips_alone_and_answer_of_states():
    config = load_config("dense_ae", TINY)
    network = asd_jax.fit(config, clips(SPEEDS), states=STATES)
    plain = asd_jax.fit(config, clips(SPEEDS[:30]))
    new, group = clips([1.0, 3.0, 0.0], seed=7), network.resolve(None, None)
    found = judge(network, group, new, ["speed=1", "speed=3", "off"])
    assert found.verdicts[1:] == ("unseen state", "off") and found.verdicts[0]
    unmoved = dataclasses.replace(network, operating=network.operating._replace(moved={}))
    assert unmoved.score_features(new[:1])[0] == plain.score_features(new[:1])[0]


@pytest.mark.parametrize("name", ["mel_knn", "dense_ae"])
def test_scores_of_all_states_are_on_one_scale_though_clips_are_compared_with_all(name, tmp_path):
    """The faster state's error is half as large again; then one threshold serves both."""
    settings = TINY | {"train.threshold_split": "0.5"} if name == "dense_ae" else SMALL
    speeds = [1.0, 2.0] * 20
    states = [f"speed={speed:g}" for speed in speeds]
    fitted = asd_jax.fit(load_config(name, settings), clips(speeds), states=states)
    group = fitted.resolve(None, None)
    new, states = clips(speeds * 5, seed=5), states * 5
    scores = judge(fitted, group, new, states).scores
    unmoved = dataclasses.replace(fitted, operating=fitted.operating._replace(moved={}))
    raw = judge(unmoved, group, new, states).scores

    def apart(scores):
        return abs(np.diff(np.log([scores[::2].mean(), scores[1::2].mean()]))[0])

    assert apart(raw) > 0.2 and apart(scores) < apart(raw) / 2
    reference = fitted.group_reference(group, None).scores
    # The median of 20 such scores is uncertain by an eighth.
    assert abs(np.log(np.median(reference) / np.median(scores))) < 0.4
    fitted.save(tmp_path / "model.npz")
    again = judge(FittedDetector.load(tmp_path / "model.npz"), group, new, states)
    np.testing.assert_array_equal(again.scores, scores)


def test_what_is_off_is_learned_by_request():
    """Two of twenty-two normal clips are 40 dB below; a clip that stops half-way is transient."""
    speeds = [*[1.0] * 20, 0.0, 0.0]
    new = clips([1.0, 0.0, 1.0], seed=6)
    new[2][20:] = clips([0.0], seed=8)[0][20:]
    learned = load_config("spectral", SMALL | {"data.learn_off": "True"})
    lines = Lines()
    fitted = asd_jax.fit(learned, clips(speeds), reporter=lines)
    group = fitted.resolve(None, None)
    assert judge(fitted, group, new).verdicts[1:] == ("off", "transient")
    assert any("20 of 22 training clips are fitted to; not: 2 off" in own for own in lines.lines)
    plain = asd_jax.fit(load_config("spectral", SMALL), clips(speeds[:20]))
    assert judge(plain, plain.resolve(None, None), new).verdicts[1:] == ("anomalous", "anomalous")


def test_recordings_have_verdicts():
    rng = np.random.default_rng(0)
    sounds = rng.normal(0, 0.1, (12, 16_000)) * np.repeat([1, 3], 6)[:, None]
    states = np.repeat(["load=low", "load=high"], 6).tolist()
    config = load_config("mel_mahalanobis", SMALL)
    fitted = asd_jax.fit(config, waveforms=sounds, sample_rate=16_000, states=states)
    given = ["load=low", "load=high", "off"]
    assert fitted.verdicts(sounds[[0, 0, 0]], 16_000, state=given)[1:] == ("anomalous", "off")
    scores = fitted.score(sounds[[0, 0, 0]], 16_000, state=given)
    assert scores[1] > scores[0] and np.isnan(scores[2])
    assert fitted.score(sounds[0], 16_000, state={"load": "low"})[0] == scores[0]


def test_states_that_cannot_be_are_one_line(fitted):
    config, group = load_config("spectral", SMALL), fitted.resolve(None, None)
    new = clips([1.0])
    for states, message in (
        ("load=1", "the state 'load=1' has 'load'; the normal clips have speed"),
        (["speed=1"] * 2, "1 clips, but 2 states"),
        ("fast", "the state is 'fast'; write name=value"),
        ([3], "a state is 3; give a text"),
    ):
        with pytest.raises(UserError, match=message):
            judge(fitted, group, new, states)
    with pytest.raises(UserError, match="0 of 12 training clips are fitted to; not: 12 off"):
        asd_jax.fit(config, clips([0.0] * 12), states="off")
    with pytest.raises(UserError, match="without states"):
        plain = asd_jax.fit(load_config("mel_mahalanobis", SMALL), clips([1.0] * 9))
        judge(plain, plain.resolve(None, None), new, "speed=1")
    named = load_config("spectral", SMALL | {"data.state": "speed,"})
    with pytest.raises(UserError, match="leave one of them out"):
        asd_jax.fit(named, clips([1.0] * 12), states="speed=1")
    with pytest.raises(UserError, match="name each column once"):
        load_config("spectral", {"data.state": "speed,speed"})
    with pytest.raises(UserError, match="data.state_log is beside, which has no effect"):
        load_config("spectral", {"data.state_log": "beside"})


@pytest.mark.parametrize(
    "name", ["mel_mahalanobis", pytest.param("spectral", marks=pytest.mark.slow)]
)
def test_three_clips_and_siblings_are_worth_more_than_three_clips(name):
    """A fault in a direction in which no machine varies; the mean of three new machines."""
    mixing = np.random.default_rng(1).normal(size=(MELS, MELS)) / 2 + np.eye(MELS)

    def draw(rng, count, centre):
        of_clips = centre + rng.normal(size=(count, 1, MELS)) @ mixing
        return (of_clips + rng.normal(0, 1, (count, 40, MELS))).astype(np.float32)

    rates = {}
    for siblings in ("none", "machine"):
        config = load_config(name, SMALL | {"detector.siblings": siblings})
        rng, found = np.random.default_rng(2), []
        for _ in range(3):
            centres = rng.normal(-60, 5, (4, MELS))
            counts = (3, 40, 40, 40)
            known = [draw(rng, n, c) for n, c in zip(counts, centres, strict=True)]
            sections = np.repeat([*"0123"], counts).tolist()
            fitted = asd_jax.fit(config, [*np.concatenate(known)], sections=sections)
            normal, faulty = draw(rng, 40, centres[0]), draw(rng, 40, centres[0]) + 2.0 * SHAPE / 12
            scores = [fitted.score_features(each, section="0") for each in (normal, faulty)]
            found.append((scores[1][:, None] > scores[0]).mean())
        rates[siblings] = np.mean(found)
    assert rates["machine"] > rates["none"] + 0.05, rates


def test_one_clip_needs_siblings():
    own = load_config("spectral", SMALL | {"detector.siblings": "machine"})
    with pytest.raises(UserError, match="00: one training clip, and no siblings to borrow"):
        asd_jax.fit(own, clips([1.0]))
    fitted = asd_jax.fit(own, clips([1.0] * 21), sections=["01"] + ["02"] * 20)
    scores = fitted.score_features(clips([1.0, 3.0], seed=3), section="01")
    assert np.isfinite(scores).all() and scores[1] > 10 * scores[0]
