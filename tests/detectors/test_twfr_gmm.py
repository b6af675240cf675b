"""Mixtures of ranked bands: against NumPy's loop, scikit-learn, and refits."""

import jax
import numpy as np
import pytest
from sklearn.mixture import GaussianMixture

import asd_jax
from asd_jax.config import load_config
from asd_jax.detectors import make_detector
from asd_jax.detectors.untrained import Vectors
from asd_jax.errors import UserError
from asd_jax.scoring.ranking import RankedMeans

BANDS = 4
MELS = {"front_end.n_mels": str(BANDS)}
R = (0.0, 0.5, 0.98, 1.0)
FRAMES = 9  # as many in each clip, so that few programs are compiled


def make_clips(level, n=40, seed=0):
    """Clips of two loads around a level in dB, far enough apart that any start finds them."""
    rng = np.random.default_rng(seed)
    loads = np.where(np.arange(n) % 2, 20, 0)[:, None, None] * np.array([1, 1, -1, 0])
    of_clips = rng.normal(0, 1, (n, 1, BANDS))
    frames = level + loads + of_clips + rng.normal(0, 1, (n, FRAMES, BANDS))
    return list(frames.astype(np.float32))


def ranked(frames, r):
    """(bands,) weighted ranking pooling of (frames, bands), value by value."""
    pooled = []
    for band in np.asarray(frames, np.float64).T:
        ordered = sorted(band, reverse=True)
        weights = [r**n for n in range(len(ordered))]
        pooled.append(np.dot(weights, ordered) / np.sum(weights))
    return np.array(pooled)


def test_pooling_is_a_loop_s_in_one_piece_and_in_several():
    """In float64, to 1e-9; of the float32 values, in a piece on the device, to 1e-5."""
    frames = np.random.default_rng(0).normal(-60, 9, (50, BANDS)).astype(np.float32)
    expected = np.concatenate([ranked(frames, r) for r in R])
    mask = np.arange(60) < 50  # the last views are padding
    padded = np.pad(frames, ((0, 10), (0, 0)))
    with jax.enable_x64(True):
        whole = RankedMeans.of(padded, mask, R)
        parts = [RankedMeans.of(padded[i : i + 20], mask[i : i + 20], R) for i in (0, 20, 40)]
        pooled = np.asarray(whole.value)
    np.testing.assert_allclose(pooled, expected, rtol=1e-5)
    on_host = [RankedMeans(*map(np.asarray, part)) for part in parts]
    merged = RankedMeans.merge([RankedMeans.merge(on_host[:2]), on_host[2]])
    np.testing.assert_allclose(merged.value, expected, rtol=1e-9)


@pytest.mark.parametrize(("r", "kept"), [((0.0, 1.0), 1), ((1.0,), 0), ((0.5, 1.0), 30)])
def test_of_many_values_the_largest_are_kept(r, kept):
    """What is not kept weighs less than 1e-9 of the rest."""
    frames = np.random.default_rng(1).normal(-60, 9, (200, BANDS)).astype(np.float32)
    parts = [
        RankedMeans(*map(np.asarray, RankedMeans.of(half, np.ones(100, bool), r)))
        for half in (frames[:100], frames[100:])
    ]
    merged = RankedMeans.merge(parts)
    assert merged.values.shape == (kept, BANDS)
    expected = np.concatenate([ranked(frames, each) for each in r])
    # The mean in float32 sums: 100 of them lose a digit.
    np.testing.assert_allclose(merged.value, expected, rtol=1e-6)


def surprise(mixture, values):
    """−max ln N without the weights."""
    weighted = mixture._estimate_weighted_log_prob(values)
    return -np.max(weighted - np.log(mixture.weights_), axis=1)


@pytest.mark.parametrize("level", [-150, -60, 20])
def test_scores_of_one_r_are_scikit_learn_s(level):
    """To 1e-5 of the scores."""
    config = load_config("twfr_gmm", {**MELS, "detector.r": "0.5,"})
    clips, new = make_clips(level), make_clips(level, 6, seed=1)
    new[0] = new[0] + 8  # no state that the machine was in
    fitted = asd_jax.fit(config, clips)
    rows, queries = (np.stack([ranked(clip, 0.5) for clip in each]) for each in (clips, new))
    mixture = GaussianMixture(2, tol=1e-6, reg_covar=1e-6, random_state=0).fit(rows)
    expected = surprise(mixture, queries)
    assert expected.max() > 5 * np.median(expected)
    np.testing.assert_allclose(fitted.score_features(new), expected, rtol=1e-5)


def test_training_scores_are_those_of_fits_without_the_part():
    """With SMOTE; those of two r are standardised by the other parts' quartiles, and averaged.

    To 1e-9, in float64. Eleven groups in ten parts: the first and the last are of one.
    """
    rng = np.random.default_rng(0)
    target, group = np.arange(42) >= 39, np.arange(42) // 4
    values = rng.normal(-60, 1, (42, 2 * BANDS)) + 20 * (np.arange(42) % 2)[:, None]
    whole = Vectors(values[None], np.ones((1, 42), bool), target[None].astype(int), group[None])

    def fit(r, vectors):
        settings = {"detector.r": r, "detector.oversampling": "smote"}
        detector = make_detector(load_config("twfr_gmm", {**MELS, **settings}))
        return detector, detector.fit(vectors)

    halves = [whole._replace(values=half) for half in np.split(whole.values, 2, axis=-1)]
    single = np.concatenate([fit("0.5,", half)[1]["training_scores"] for half in halves])
    both = fit("0.0,1.0", whole)[1]["training_scores"][0]
    for part in (0, 9):
        left = group % 10 == part
        detector, without = fit("0.5,", halves[0]._replace(mask=~left[None]))
        calibration = {name: leaf[0] for name, leaf in without.items()}
        with jax.enable_x64(True):
            rows = halves[0].values[0, left]
            scores = [detector.score_pooled(calibration, row, None) for row in rows]
        np.testing.assert_allclose(single[0, left], scores, rtol=1e-9)
        others = single[:, ~left]
        low, middle, high = np.quantile(others, [0.25, 0.5, 0.75], axis=1)[..., None]
        z = 1.349 * (single[:, left] - middle) / (high - low)
        np.testing.assert_allclose(both[left], z.mean(axis=0), rtol=1e-9)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"r": "0.5,1.5"}, r"detector.r is \(0.5, 1.5\); each must be 0 or more, at most 1"),
        ({"r": "0.5,0.5"}, r"detector.r is \(0.5, 0.5\); they must differ"),
        ({"r": ""}, "detector.r"),
        ({"components": "0"}, "detector.components is 0; it must be 1 or more"),
        ({"states": "attributes"}, "detector.states is attributes, which has no effect"),
    ],
)
def test_settings_that_make_no_sense(settings, message):
    with pytest.raises(UserError, match=message):
        load_config("twfr_gmm", {f"detector.{name}": text for name, text in settings.items()})
