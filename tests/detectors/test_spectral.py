"""The systems of spectral statistics against NumPy, scikit-learn and refits."""

import dataclasses

import jax
import numpy as np
import pytest
from sklearn.covariance import LedoitWolf

import asd_jax
from asd_jax.config import load_config
from asd_jax.data.clips import Clip
from asd_jax.detectors.spectral import SpectralConfig
from asd_jax.detectors.untrained import state_numbers
from asd_jax.errors import UserError
from asd_jax.runtime.progress import Silent

MELS = 16
SMALL = {"front_end.n_mels": str(MELS)}


def draw(n, seed=0, level=-60.0, spread=1.0):
    """Clips of a tilted spectrum around a level, whose bands vary from clip to clip and in time."""
    rng = np.random.default_rng(seed)
    of_clips = level + rng.normal(size=(n, 1, MELS)) @ MIXING * spread - np.linspace(0, 20, MELS)
    noise = rng.normal(0, 3, (n, 40, MELS))
    return (of_clips + noise).astype(np.float32)


MIXING = np.random.default_rng(100).normal(size=(MELS, MELS)) / 4 + np.eye(MELS)


def spectra_of(clips):
    """Statistics (clips, mels) in float64, by NumPy."""
    clips = np.asarray(clips, np.float64)
    change = np.sqrt((np.diff(clips, axis=1) ** 2).mean(axis=1))
    level, peak = clips.mean(axis=1), clips.max(axis=1)
    return {
        "level": level,
        "change": 20 * np.log10(change + 1e-3),
        "peak": peak,
        "shape": level - level.mean(axis=1, keepdims=True),
        "crest": peak - level,
    }


def training_scores(fitted):
    return fitted.calibration["training_scores"][0]


@pytest.fixture(scope="module")
def fitted():
    return asd_jax.fit(load_config("spectral", SMALL), draw(60))


def test_mel_mahalanobis_is_scikit_learn_s_at_any_level():
    """To 1e-5, of features in float32 from -150 to 20 dB, of unequal lengths too."""
    config = load_config("mel_mahalanobis", SMALL)
    for level in (-150.0, -60.0, 20.0):
        clips = [clip[: 20 + i % 20] for i, clip in enumerate(draw(30, level=level))]
        new = draw(8, seed=1, level=level)
        means = [np.mean(clip, axis=0, dtype=np.float64) for clip in clips]
        sklearns = LedoitWolf().fit(means)
        fitted = asd_jax.fit(config, clips)
        found = fitted.score_features(new)
        expected = sklearns.mahalanobis(new.mean(axis=1, dtype=np.float64))
        np.testing.assert_allclose(found, expected, rtol=1e-5)
        others = np.arange(30) != 7
        refitted = LedoitWolf().fit(np.array(means)[others])
        assert training_scores(fitted)[7] == pytest.approx(
            refitted.mahalanobis(means[7][None])[0], rel=1e-8
        )


@pytest.mark.parametrize("combine", ["mean", "max"])
def test_scores_are_those_of_scikit_learn(combine):
    """Distances in standardised bands over 31 of 30's, by refits' means instead of the formula.

    To a constant for each statistic, which is what generalised cross-validation gives.
    """
    names = ("level", "change", "peak", "shape", "crest")
    settings = SMALL | {"detector.combine": combine, "detector.statistics": ",".join(names)}
    clips, new = draw(30), draw(8, seed=1)
    fitted = asd_jax.fit(load_config("spectral", settings), clips)
    scores = []
    for name in names:
        rows, tested = spectra_of(clips)[name], spectra_of(new)[name]
        mean, scale = rows.mean(axis=0), rows.std(axis=0)
        squared = LedoitWolf().fit((rows - mean) / scale).mahalanobis((tested - mean) / scale)
        expected = fitted.calibration[f"{name}_expected"][0]
        scores.append(squared / expected)
        # What it expects of new clips is what they have, to the sampling of eight.
        assert 0.6 < np.mean(scores[-1]) < 1.6
    combined = np.mean(scores, axis=0) if combine == "mean" else np.max(scores, axis=0)
    np.testing.assert_allclose(fitted.score_features(new), combined, rtol=1e-5)


def test_a_training_clip_s_score_is_that_of_a_fit_without_its_group(fitted):
    """To 1e-6, the rounding of scores to float32; two of ten groups, one across the domains."""
    config, clips = fitted.config, draw(40)
    clips[30:] += 4  # target
    domains = np.where(np.arange(40) < 30, "source", "target")
    groups = np.arange(40) % 10
    found = training_scores(asd_jax.fit(config, clips, domains=domains.tolist(), groups=groups))
    for group in (2, 7):
        others = groups != group
        refitted = asd_jax.fit(
            config,
            clips[others],
            domains=domains[others].tolist(),
            groups=groups[others],
        )
        expected = refitted.score_features(clips[~others])
        np.testing.assert_allclose(found[~others], expected, rtol=1e-6)


def test_sessions_that_differ_raise_the_threshold():
    """Ten sessions of six clips, each with a spectrum of its own.

    By single clips, the threshold of 5 % is one that half of the clips of new sessions exceed.
    """
    config = dataclasses.replace(load_config("spectral", SMALL), threshold_quantile=0.95)
    sessions = np.repeat(np.arange(10), 6)

    def of_sessions(seed, which):
        own = draw(which.max() + 1, seed=seed, spread=2.0).mean(axis=1, keepdims=True)
        return draw(len(which), seed=seed + 1, level=0.0) + own[which]

    clips, new = of_sessions(2, sessions), of_sessions(4, np.repeat(np.arange(50), 2))
    alarms = {}
    for groups in (None, sessions):
        fitted = asd_jax.fit(config, clips, groups=groups)
        alarms[groups is None] = np.mean(fitted.score_features(new) > fitted.threshold())
    assert alarms[False] <= 0.08 < 0.2 < alarms[True]


def test_ten_target_clips_are_enough():
    """Of normal clips of either domain, whose centres are apart, as many exceed the threshold."""
    config = dataclasses.replace(load_config("spectral", SMALL), threshold_quantile=0.95)
    offset = 8 * np.cos(np.arange(MELS))
    domains = ["source"] * 190 + ["target"] * 10
    clips = np.concatenate([draw(190), draw(10, seed=1) + offset]).astype(np.float32)
    fitted = asd_jax.fit(config, clips, domains=domains)
    new = draw(300, seed=2)
    for moved in (new, (new + offset).astype(np.float32)):
        assert np.mean(fitted.score_features(moved) > fitted.threshold()) < 0.09


def test_a_gain_changes_what_says_so_and_nothing_else(fitted):
    """Of 6 dB: change, shape and crest ignore it; with level_db=3 it is two deviations."""
    clips, new = draw(60), draw(10, seed=1)
    free = SMALL | {"detector.statistics": "change,shape,crest"}
    of_free = asd_jax.fit(load_config("spectral", free), clips)
    for gain in (-6, 6):
        scores = of_free.score_features(new + np.float32(gain))
        np.testing.assert_allclose(scores, of_free.score_features(new), rtol=1e-4)
    forgiving = asd_jax.fit(load_config("spectral", SMALL | {"detector.level_db": "3.0"}), clips)
    rise = [own.score_features(new + 6) - own.score_features(new) for own in (fitted, forgiving)]
    # Two thirds of (z + 2)² − z² over 16 bands, with z up to 2.
    assert np.max(rise[1]) < 2 / 3 * 12 / MELS < np.min(rise[0])


def test_odd_training_clips_are_not_fitted_to(fitted):
    clips, new = draw(60), draw(20, seed=1)
    clips[3], clips[40], clips[50] = -156.5, clips[40] + 40, clips[50][:, ::-1] * 2
    odd = asd_jax.fit(fitted.config, clips)
    usual = asd_jax.fit(fitted.config, np.delete(clips, [3, 40, 50], axis=0))
    np.testing.assert_allclose(odd.score_features(new), usual.score_features(new), rtol=1e-6)
    assert (training_scores(odd)[[3, 40, 50]] > 5 * np.median(training_scores(odd))).all()


@pytest.mark.parametrize(
    ("name", "first"),
    [
        ("spectral", "level"),
        ("mel_mahalanobis", "level"),
        ("mel_knn", "spectrum"),
        pytest.param("spectrum_knn", "spectrum", marks=pytest.mark.slow),
        pytest.param("twfr_gmm", "r=0", marks=pytest.mark.slow),
    ],
)
def test_an_explanation_names_the_band(name, first):
    """Its parts add up to the score; the whine of +12 dB in band 5 is its largest share."""
    config = load_config(name, SMALL)
    detector = asd_jax.fit(config, draw(60))
    whine = draw(2, seed=1)
    whine[1, :, 5] += 12
    scores, found = detector.score_features(whine), detector.explain_features(whine)
    for score, explanation in zip(scores, found, strict=True):
        parts = [part.score for part in explanation.parts]
        assert explanation.score == pytest.approx(float(score), rel=1e-6)
        assert np.mean(parts) == pytest.approx(float(score), rel=1e-6)
        for part in explanation.parts:
            assert part.share.sum() == pytest.approx(part.score, rel=1e-9)
            assert (part.share * np.sign(part.score) >= 0).all()
    level = found[1].parts[0]
    assert level.name == first and level.share.argmax() == 5
    # A nearest clip, of sixty, has more of band 5 itself.
    assert level.deviation[5] == pytest.approx(12, abs=5 if first == "spectrum" else 3)
    low, high = found[1].hz[5]
    line = next(line for line in found[1].lines() if line.startswith(first))
    assert f"{low:.0f} to {high:.0f} Hz +" in line


@pytest.mark.parametrize("name", ["spectral", "mel_mahalanobis"])
def test_an_explanation_is_of_the_nearest_centre(name):
    """Of the target's centre, 20 dB above the source's."""
    config = load_config(name, SMALL)
    whine = draw(2, seed=1)
    whine[1, :, 5] += 12
    clips = np.concatenate([draw(50), draw(10, seed=2) + 20])
    domains = ["source"] * 50 + ["target"] * 10
    both = asd_jax.fit(config, clips, domains=domains)
    moved = whine + 20
    (normal, strange), scores = both.explain_features(moved), both.score_features(moved)
    assert normal.score == pytest.approx(float(scores[0]), rel=1e-6)
    assert strange.parts[0].deviation[5] == pytest.approx(12, abs=3)


def test_few_equal_and_constant_clips():
    """Finite scores, or one line: one clip, equal ones, two, constant bands, twins."""
    config = load_config("spectral", SMALL)
    clips = draw(12)
    with pytest.raises(UserError, match="1 training clip; spectral needs 2"):
        asd_jax.fit(config, clips[:1])
    with pytest.raises(UserError, match="12 training clips, all equal"):
        asd_jax.fit(config, [clips[0]] * 12)
    three = asd_jax.fit(config, clips[:3])
    assert np.isfinite(training_scores(three)).all() and 0 < three.threshold() < 100
    two = asd_jax.fit(config, clips[:2])
    assert np.isfinite(two.score_features(clips)).all() and np.isnan(two.threshold())
    clips[:, :, 3] = -156.5
    clips[4] = clips[5]
    fitted = asd_jax.fit(config, clips)
    assert np.isfinite(fitted.score_features(clips)).all()
    assert np.isfinite(training_scores(fitted)).all() and np.isfinite(fitted.threshold())
    sounding = clips[:1].copy()
    sounding[0, :, 3] = -100
    scores = fitted.score_features(np.concatenate([clips[:1], sounding]))
    assert np.isfinite(scores).all() and scores[1] > 10 * scores[0]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"statistics": "level"}, "detector.statistics is 'level'; name one or more of level"),
        ({"statistics": ()}, "name one or more"),
        ({"statistics": ("level", "mean")}, "'mean'; there are level, change"),
        ({"statistics": ("level", "level")}, "names one twice"),
        ({"level_db": -1.0}, "detector.level_db is -1.0; it must be 0 or more"),
        ({"level_db": 3.0, "statistics": ("change",)}, "3.0, which has no effect"),
    ],
)
def test_settings_that_make_no_sense(settings, message):
    with pytest.raises(UserError) as found:
        SpectralConfig(**settings)
    assert message in str(found.value)


def test_it_is_scored_in_float64_without_leaving_it_on(fitted):
    fitted.score_features(draw(2))
    assert not jax.config.jax_enable_x64
    assert fitted.calibration["vectors"].dtype == np.float64


def test_states_are_told_by_attributes_or_by_clusters(data_of_states):
    """A machine of two speeds: its centres are told apart, and the smaller state is normal."""
    clips, attributes, new = data_of_states
    one = asd_jax.fit(load_config("spectral", SMALL), clips)
    two = asd_jax.fit(load_config("spectral", SMALL | {"detector.states": "clusters"}), clips)
    assert one.calibration["level_n_clips"].tolist() == [[50]]
    assert two.calibration["level_n_clips"].tolist() == [[35, 15]]
    named = _numbers(attributes)
    assert named.tolist() == two.calibration["state"][0].tolist()
    between = (new[0] + new[1]) / 2  # a clip that is of neither state
    scores = two.score_features(np.stack([*new, between]))
    assert scores[2] > 3 * scores[:2].max()
    assert one.score_features(between[None])[0] < scores[2]


def _numbers(attributes):
    clips = [
        Clip("fan", "00", "train", str(i), "", attributes=(("speed", own),), group=str(i))
        for i, own in enumerate(attributes)
    ]
    return state_numbers(clips, np.zeros((len(clips), 1)), "attributes")


@pytest.fixture
def data_of_states():
    """Clips, the attribute of each, and a new clip of each of two states."""
    fast = np.arange(50) % 10 >= 7
    shape = 12 * np.sin(np.arange(MELS)).astype(np.float32)
    clips = draw(50) + fast[:, None, None] * shape
    new = draw(2, seed=3)
    return clips, np.where(fast, "fast", "slow").tolist(), [new[0], new[1] + shape]


def test_a_run_names_the_clips_that_it_does_not_fit_to():
    said = []
    clips = draw(40)
    clips[[4, 30]] = -156.5

    class Lines(Silent):
        def line(self, text):
            said.append(text)

    asd_jax.fit(load_config("spectral", SMALL), clips, machine="pump", reporter=Lines())
    odd = [line for line in said if "not fitted to" in line]
    assert len(odd) == 1
    assert odd[0].startswith("pump 00: 2 of 40 training clips are unlike all others")
    assert "first 00000004;" in odd[0]


@pytest.mark.parametrize("name", ["spectral", "mel_knn", "twfr_gmm"])
def test_the_order_of_clips_is_of_no_account(name):
    """To 1e-5, for sums in another order; also of draws, by k-means and of synthetic clips."""
    config = load_config(name, SMALL)
    clips, new = np.concatenate([draw(50), draw(10, seed=1) + 3]), draw(8, seed=2)
    domains = np.repeat(["source", "target"], [50, 10])
    one = asd_jax.fit(config, clips, domains=domains.tolist())
    order = np.random.default_rng(0).permutation(60)
    other = asd_jax.fit(config, clips[order], domains=domains[order].tolist())
    np.testing.assert_allclose(one.score_features(new), other.score_features(new), rtol=1e-5)
    np.testing.assert_allclose(training_scores(one)[order], training_scores(other), rtol=1e-5)
    assert one.threshold() == pytest.approx(other.threshold(), rel=1e-5)


def test_groups_and_states_that_cannot_be_are_one_line():
    config, clips = load_config("spectral", SMALL), draw(12)
    with pytest.raises(UserError, match="all 12 training clips are of one group, 'a'"):
        asd_jax.fit(config, clips, groups=["a"] * 12)
    by_name = load_config("spectral", SMALL | {"data.group": "day([0-9])"})
    with pytest.raises(UserError, match="leave one of them out"):
        asd_jax.fit(by_name, clips, groups=list(range(12)))
    with pytest.raises(UserError, match="does not tell its group$"):
        asd_jax.fit(by_name, clips)
    with pytest.raises(UserError, match="outliers are given, which spectral does not learn from"):
        asd_jax.fit(config, clips, outliers=clips)
    by_attribute = load_config("spectral", SMALL | {"detector.states": "attributes"})
    with pytest.raises(UserError, match="no clip has attributes"):
        asd_jax.fit(by_attribute, clips, groups=list(range(12)))
    named = [
        Clip("fan", "00", "train", str(i), "", attributes=(("day", str(i % 3)), ("speed", "1")))
        for i in range(12)
    ]
    assert not state_numbers(named, np.zeros((12, 1)), "attributes", "day").any()


def test_a_domain_of_one_group_is_said():
    said = []

    class Lines(Silent):
        def line(self, text):
            said.append(text)

    clips, domains = draw(40), ["source"] * 34 + ["target"] * 6
    groups = [*range(34)] + ["one session"] * 6
    config = load_config("spectral", SMALL)
    asd_jax.fit(config, clips, domains=domains, groups=groups, reporter=Lines())
    assert "all 6 training clips of the target domain are of one group" in "\n".join(said)


@pytest.mark.parametrize(
    "name",
    [
        "spectral",
        pytest.param("mel_knn", marks=pytest.mark.slow),
        pytest.param("twfr_gmm", marks=pytest.mark.slow),
    ],
)
def test_what_could_not_be_fitted_is_not_explained(name):
    """A section of one clip beside another: NaN, and a line that says so."""
    config, clips = load_config(name, SMALL), draw(30)
    fitted = asd_jax.fit(config, clips, sections=["00"] * 29 + ["02"])
    assert np.isnan(fitted.score_features(clips[:2], section="02")).all()
    (found,) = fitted.explain_features(clips[:1], section="02")
    assert np.isnan(found.score)
    assert all("nothing normal to compare with" in line for line in found.lines())
    assert np.isfinite(fitted.score_features(clips[:2], section="00")).all()
