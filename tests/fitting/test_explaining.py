"""Explanations of fitted systems: their files, old ones included, seeds, long recordings."""

import dataclasses

import numpy as np
import pytest
import soundfile

import asd_jax
from asd_jax.config import load_config
from asd_jax.fitting.detector import FittedDetector
from asd_jax.fitting.recordings import explain_file

SMALL = {"front_end.n_mels": "16"}
RATE = 16_000


def draw(clips, seed=0, frames=60):
    return np.random.default_rng(seed).normal(-40, 5, (clips, frames, 16)).astype(np.float32)


@pytest.fixture(scope="module")
def fitted():
    settings = {**SMALL, "detector.encoder": "8,4", "seeds": "0,1", "train.epochs": "2"}
    return asd_jax.fit(load_config("interpolation_ae", settings), draw(12))


def test_its_file_keeps_what_explanations_compare_with(fitted, tmp_path):
    fitted.save(tmp_path / "model.npz")
    again = FittedDetector.load(tmp_path / "model.npz")
    before, after = (each.explain_features(draw(1, seed=1))[0] for each in (fitted, again))
    np.testing.assert_array_equal(before.map, after.map)
    assert before.nearest == after.nearest and before.nearest in {f"{i:08}" for i in range(12)}


def test_a_file_of_an_earlier_version_compares_a_clip_with_itself(fitted, tmp_path):
    """It has no usual cells, no names, no spectra: there is a map, and no nearest clip."""
    dataclasses.replace(fitted, normal=None).save(tmp_path / "model.npz")
    with np.load(tmp_path / "model.npz") as arrays:
        assert not [name for name in arrays if name.startswith("normal")]
        assert "normal" not in str(arrays["meta"])
    clip = draw(1, seed=1)
    clip[0, 30:33, 4] += 40
    (found,) = FittedDetector.load(tmp_path / "model.npz").explain_features(clip)
    assert found.nearest is None
    # In so short a clip it widens its own usual deviations; eleven frames of sixty are 18 %.
    assert found.map[26:37].sum() > 0.5 and found.map.sum(axis=0).argmax() == 4


def test_the_nearest_clip_is_by_its_mean_levels(fitted):
    """Of a training clip itself, it is that clip; with noise of 0.1 dB, too."""
    clips = draw(12)
    found = fitted.explain_features(clips[[3, 8]] + draw(2, seed=2) * 0.02 + 0.8)
    assert [each.nearest for each in found] == ["00000003", "00000008"]


@pytest.mark.parametrize("name", ["spectral", "mel_knn"])
def test_the_nearest_clip_is_by_own_vectors(name):
    clips = draw(12)
    found = asd_jax.fit(load_config(name, SMALL), clips).explain_features(clips[[3, 8]])
    assert [each.nearest for each in found] == ["00000003", "00000008"]


def test_a_click_in_a_recording_is_found_where_it_is(tmp_path):
    """In a file of another name, by a path: 2 kHz at 1.5 s."""
    rng = np.random.default_rng(0)
    sounds = rng.normal(0, 0.01, (8, 2 * RATE))
    fitted = asd_jax.fit("mel_mahalanobis", waveforms=sounds, sample_rate=RATE)
    seconds = np.arange(2 * RATE) / RATE
    click = (np.abs(seconds - 1.5) < 0.02) * np.sin(2 * np.pi * 2000 * seconds)
    path = tmp_path / "Prüfling 1.wav"
    soundfile.write(path, rng.normal(0, 0.01, 2 * RATE) + 0.2 * click, RATE)
    found = explain_file(fitted, path)
    (begin, end, share), (low, high, own) = found.when()[0], found.which_hz()[0]
    assert 1.4 < begin < 1.5 < end < 1.6 and share > 0.6
    assert 1700 < low < 2000 < high < 2300 and own > 0.6


def test_a_clip_in_pieces_has_the_map_of_the_whole():
    """The same frames in a long clip and in a short one, far from its ends, to 1e-6.

    Of one seed: each one's map is divided by its own sum before the mean.
    """
    settings = {**SMALL, "detector.encoder": "8,4", "seeds": "0,", "train.epochs": "1"}
    fitted = asd_jax.fit(load_config("interpolation_ae", settings), draw(4))
    long = draw(1, seed=5, frames=500)
    long[0, 240:243, 4] += 40
    (whole,) = fitted.explain_features(long)
    (part,) = fitted.explain_features(long[:, 100:400])
    inside = whole.map[150:350] / whole.map[150:350].sum()
    own = part.map[50:250] / part.map[50:250].sum()
    np.testing.assert_allclose(inside, own, atol=1e-6)
