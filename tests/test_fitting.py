"""Fitting and scoring as a library: what goes in, what is refused."""

import dataclasses

import numpy as np
import pytest

import asd_jax
from asd_jax import UserError
from asd_jax.config import load_config

CONFIG = load_config("dense_ae", {"train.epochs": "2", "train.batch_size": "64", "seeds": "0,1"})
RNG = np.random.default_rng(0)


def clips(count, frames=20):
    return [RNG.normal(size=(frames + i, 128)).astype(np.float32) for i in range(count)]


@pytest.fixture(scope="module")
def fitted():
    return asd_jax.fit(CONFIG, clips(12), machine="fan")


@pytest.fixture(scope="module")
def waveforms():
    return RNG.uniform(-0.5, 0.5, (2, 16000))


def test_integers_are_scaled_to_full_scale(fitted, waveforms):
    """Rounding to 16 bits moves a log-mel of noise at half of full scale by far less than 1 %."""
    integers = np.round(waveforms * 2**15).astype(np.int16)
    np.testing.assert_allclose(
        fitted.score(integers, 16000), fitted.score(waveforms, 16000), rtol=1e-2
    )
    exact = fitted.score(integers / 2.0**15, 16000)
    np.testing.assert_array_equal(fitted.score(integers.astype(np.int32) * 2**16, 16000), exact)


def test_another_rate_is_resampled(fitted, waveforms):
    import librosa

    expected = librosa.resample(waveforms.astype(np.float32), orig_sr=16000, target_sr=16000 // 2)
    np.testing.assert_allclose(
        fitted.score(expected, 8000),
        fitted.score(librosa.resample(expected, orig_sr=8000, target_sr=16000), 16000),
        rtol=1e-5,
    )


@pytest.mark.parametrize(
    ("wrong", "rate", "message"),
    [
        ([np.zeros(16000), np.zeros(8000)], 16000, "unequal lengths"),
        (np.zeros((2, 3, 16000)), 16000, "must be"),
        (np.zeros((0, 16000)), 16000, "must be"),
        (np.zeros((2, 16000), np.uint8), 16000, "must be"),
        (np.full((2, 16000), np.nan), 16000, "NaN"),
        (np.zeros((2, 16000)), 0, "sample_rate"),
        (np.zeros((2, 16000)), 44.1, "sample_rate"),
        (np.zeros((2, 100)), 16000, "needs 5 or more"),
    ],
)
def test_unusable_waveforms_are_one_line(fitted, wrong, rate, message):
    with pytest.raises(UserError, match=message):
        fitted.score(wrong, rate)


def test_sections_and_domains_are_checked():
    for wrong in ({"sections": ["00"]}, {"domains": ["source"] * 3}, {"domains": "sauce"}):
        with pytest.raises(UserError):
            asd_jax.fit(CONFIG, clips(4), **wrong)


def test_a_section_may_be_a_number():
    config = load_config("interpolation_ae", {"train.epochs": "1", "seeds": "0"})
    fitted = asd_jax.fit(config, clips(4), sections=3)
    assert fitted.score_features(clips(2), section=3).shape == (2,)
    with pytest.raises(UserError, match="section 4 was not fitted; there are 3"):
        fitted.score_features(clips(2), section=4)


def test_who_is_meant_must_be_said():
    config = load_config("interpolation_ae", {"train.epochs": "1", "seeds": "0"})
    fitted = asd_jax.fit(config, clips(4), sections=["00", "00", "02", "02"])
    with pytest.raises(UserError, match="of which section .* there are 00, 02"):
        fitted.score_features(clips(2))


@pytest.mark.parametrize("seeds", [[0], (0.5,), ("0",), (), (0, 0), (-1,), (2**40,)])
def test_seeds_are_checked(seeds):
    with pytest.raises(UserError, match="seeds"):
        dataclasses.replace(CONFIG, seeds=seeds)


def test_a_member_without_calibration_does_not_stop_the_others(fitted):
    """Clips that never vary have no covariance: only their machine's scores are not numbers."""
    from asd_jax.clip_features import ArrayFeatures
    from asd_jax.data.clips import NORMAL, Clip
    from asd_jax.fitting import fit_clips
    from asd_jax.progress import Silent

    class Lines(Silent):
        said = []

        def line(self, text):
            self.said.append(text)

    config = load_config(
        "dense_ae",
        {
            "train.epochs": "1",
            "train.batch_size": "64",
            "seeds": "0",
            "detector.score": "mahalanobis",
        },
    )
    silent = [np.zeros((20, 128), np.float32)] * 4
    table = [
        Clip(machine, "00", "train", str(i), "", label=NORMAL)
        for machine in ("fan", "off")
        for i in range(4)
    ]
    both = fit_clips(config, ArrayFeatures(table, clips(4) + silent), reporter=Lines())
    assert any("off seed 0" in line and "not numbers" in line for line in Lines.said)
    assert np.isfinite(both.score_features(clips(2), machine="fan")).all()
    assert np.isnan(both.score_features(clips(2), machine="off")).all()
    with pytest.raises(UserError, match="covariance"):
        asd_jax.fit(config, silent)
    assert "array" not in repr(fitted)
