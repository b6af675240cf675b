"""Distances from the nearest mean spectra: against scikit-learn, and against refits."""

import numpy as np
import pytest
from sklearn.neighbors import NearestNeighbors

import asd_jax
from asd_jax.audio import FrontEnd
from asd_jax.audio.frontend import spectrogram
from asd_jax.config import load_config
from asd_jax.errors import UserError

MELS = {"front_end.n_mels": "6"}
DOMAINS = np.array(["source"] * 25 + ["target"] * 3)
FRAMES = 7  # as many in each clip, so that few programs are compiled


def make_clips(level, n=28, seed=0):
    """Clips of a tilted spectrum around a level in dB; the target ones are steeper."""
    rng = np.random.default_rng(seed)
    tilts = np.where(np.arange(n) < 25, 1, 3)[:, None] * np.linspace(0, 4, 6)
    spread = rng.normal(0, 1, (n, FRAMES, 6))
    return list((level + tilts[:, None] + spread).astype(np.float32))


def magnitudes(clips):
    return np.mean(10 ** (np.asarray(clips, np.float64) / 20), axis=1)


@pytest.mark.parametrize(
    ("metric", "level"), [("cosine", -150), ("cosine", 20), ("euclidean", -150), ("euclidean", -60)]
)
def test_scores_are_scikit_learn_s(metric, level):
    """Of the nearer domain, to 1e-5."""
    settings = {"detector.metric": metric, "detector.oversampling": "none"}
    config = load_config("mel_knn", {**MELS, **settings})
    clips, new = make_clips(level), make_clips(level, 5, seed=1)
    fitted = asd_jax.fit(config, clips, domains=DOMAINS)
    rows = magnitudes(clips)
    searches = [
        NearestNeighbors(n_neighbors=1, metric=metric).fit(rows[domain == DOMAINS])
        for domain in ("source", "target")
    ]
    queries = magnitudes(new)
    expected = np.min([search.kneighbors(queries)[0][:, 0] for search in searches], axis=0)
    found = fitted.score_features(new)
    np.testing.assert_allclose(found, expected, rtol=1e-5)


@pytest.mark.slow  # the banks' own tests have every setting
def test_training_scores_are_those_of_fits_without_the_group():
    """By densities with a fitted weight, and with clips that SMOTE adds; to float32's 1e-5.

    Two source clips of a group have a synthetic clip taken with them; a target clip, its own.
    """
    settings = {"detector.normalisation": "varmin", "detector.metric": "euclidean"}
    config = load_config("mel_knn", {**MELS, **settings})
    clips = make_clips(-60)
    groups = np.arange(28) % 14
    fitted = asd_jax.fit(config, clips, domains=DOMAINS, groups=groups)
    (own,) = fitted.training_scores([0])
    assert fitted.calibration["mask"].sum() == 28 + 2  # 5 target clips, a fifth of the source's
    for group in (2, 12):  # the second has a target clip
        stays = groups != group
        rest = [clip for clip, kept in zip(clips, stays, strict=True) if kept]
        without = asd_jax.fit(config, rest, domains=DOMAINS[stays], groups=groups[stays])
        assert without.calibration["mask"].sum() == {2: 26 + 1, 12: 26 + 2}[group]
        left = [clip for clip, kept in zip(clips, stays, strict=True) if not kept]
        np.testing.assert_allclose(own[~stays], without.score_features(left), rtol=1e-5)


def test_the_bands_of_spectrum_knn_are_the_frequencies_of_the_transform():
    """All but the lowest and the highest; to 1e-5, in float32."""
    front_end = load_config("spectrum_knn").front_end
    assert isinstance(front_end, FrontEnd)
    noise = np.random.default_rng(0).normal(0, 0.1, 4000).astype(np.float32)
    expected = np.asarray(spectrogram(noise, power=1.0))[:, 1:-1]
    found = 10 ** (np.asarray(front_end(noise), np.float64) / 20)
    np.testing.assert_allclose(found, expected, rtol=1e-5)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"normalisation": "ldn", "neighbours": "2"}, "detector.neighbours is 2, which has no"),
        ({"density_neighbours": "2"}, "detector.density_neighbours is 2, which has no effect"),
        ({"states": "attributes"}, "detector.states is attributes, which has no effect"),
        ({"neighbours": "0"}, "detector.neighbours is 0; it must be 1 or more"),
        ({"centres": "-2"}, "detector.centres is -2; it must be 0 or more"),
        ({"metric": "l1"}, "detector.metric=l1: must be one of cosine, euclidean"),
    ],
)
def test_settings_that_make_no_sense(settings, message):
    with pytest.raises(UserError, match=message):
        load_config("mel_knn", {f"detector.{name}": text for name, text in settings.items()})


def test_equal_clips_are_one_line():
    with pytest.raises(UserError, match="28 training clips, all equal"):
        asd_jax.fit(load_config("mel_knn", MELS), [make_clips(-60)[0]] * 28)
