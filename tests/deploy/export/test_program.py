"""The program of a file beside the scores of the fitted system, in this process."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import asd_jax
from asd_jax.audio.views import ViewSpec
from asd_jax.config import load_config
from asd_jax.deploy.export import tflite
from asd_jax.deploy.export.choosing import targets_of
from asd_jax.deploy.export.exporting import in_float32
from asd_jax.deploy.export.program import Program, of_seeds, repeated
from asd_jax.errors import UserError
from asd_jax.features.batches import ClipFrames, clip_batches

RATE = 16_000


def sounds(clips=8, samples=16_000, seed=0):
    return np.random.default_rng(seed).normal(0, 0.1, (clips, samples)).astype(np.float32)


def fitted_to_noise(config, settings):
    config = load_config(config, {"front_end.n_mels": "16", **settings})
    return in_float32(asd_jax.fit(config, waveforms=sounds(), sample_rate=RATE, machine="fan"))


@pytest.mark.parametrize(
    ("config", "settings"),
    [
        ("spectral", {}),
        ("spectral", {"detector.statistics": "shape,crest", "detector.combine": "max"}),
        ("mel_mahalanobis", {}),
        ("mel_knn", {}),
        ("interpolation_ae", {"train.epochs": "1", "detector.encoder": "8,4", "seeds": "0,1"}),
        (
            "dense_ae",
            {"train.epochs": "1", "detector.hidden": "8,", "detector.score": "mahalanobis"},
        ),
    ],
)
@pytest.mark.parametrize("convolutions", [False, True])
def test_scores_are_those_of_the_system(config, settings, convolutions, cached):
    """To 1e-5, a tenth of the files' limit; one clip is a tone 50 dB above the noise in its band.

    Bands 100 dB below a tone without noise are the rounding of either transform.
    """
    fitted = cached(config, settings)
    program = Program(fitted, targets_of(fitted), convolutions=convolutions)
    new = sounds(4, 12_345, seed=1)
    new[3] = np.sin(np.arange(12_345) / 9) + 0.01 * new[3]
    scores, threshold = jax.jit(program)(new)
    np.testing.assert_allclose(scores, fitted.score(new, RATE), rtol=1e-5)
    assert float(threshold) == pytest.approx(fitted.threshold(), rel=1e-6)


@pytest.fixture(scope="module")
def cached():
    known = {}

    def of(config, settings):
        key = config, *settings.items()
        if key not in known:
            known[key] = fitted_to_noise(config, settings)
        return known[key]

    return of


def test_a_clip_shorter_than_a_view_is_repeated(cached):
    fitted = cached("interpolation_ae", {"train.epochs": "1", "detector.encoder": "8,4"})
    views = fitted.detector.views
    features = np.random.default_rng(0).normal(size=(1, 3, 16)).astype(np.float32)
    found = np.asarray(repeated(jnp.asarray(features), views))
    assert found.shape == (1, views.length, 16)
    np.testing.assert_array_equal(found[0], np.resize(features[0], (views.length, 16)))


@pytest.mark.parametrize("frames", [3, 8, 9, 10, 11, 12, 13])
def test_cropped_views_reach_the_end_as_in_scoring(frames):
    """Views of eight frames, two apart, of a clip of so many."""
    spec = ViewSpec(8, 2, fewest_frames=3, crop=True)
    clip = np.arange(frames, dtype=np.float32)[:, None]
    (_, batch), *more = clip_batches([ClipFrames(0, [clip])], spec, 1024)
    assert not more
    n_frames = int(batch.n_frames[0])
    whole = np.asarray(batch.features)[0, :n_frames]
    np.testing.assert_array_equal(repeated(jnp.asarray(clip[None]), spec)[0], whole)


def test_each_machine_has_its_own_models(finished):
    fitted = in_float32(asd_jax.load(finished))
    targets = targets_of(fitted)
    assert [target.name for target in targets] == ["fan", "valve"]
    program, new = jax.jit(Program(fitted, targets)), sounds(2)
    for index, target in enumerate(targets):
        scores, threshold = program(new, np.int32(index))
        expected = fitted.score(new, RATE, machine=target.name)
        np.testing.assert_allclose(scores, expected, rtol=1e-5)
        assert float(threshold) == pytest.approx(fitted.threshold(machine=target.name), rel=1e-6)


def test_features_have_a_reconstruction_as_well(finished):
    fitted = in_float32(asd_jax.load(finished))
    program = Program(fitted, targets_of(fitted, ["valve"]), "features")
    features = fitted.features(sounds(2), RATE)
    scores, _, reconstruction = program(jnp.asarray(features))
    np.testing.assert_allclose(scores, fitted.score_features(features, machine="valve"), rtol=1e-5)
    # Of the first seed: the mean of the squared differences from its input is its score.
    views = np.lib.stride_tricks.sliding_window_view(features, 5, axis=1)
    views = np.swapaxes(views, 2, 3).reshape(2, -1, 5 * 16)
    own = np.mean((views - reconstruction) ** 2, axis=(1, 2))
    expected = fitted.score_features(features, machine="valve", seed=fitted.seeds[0])
    np.testing.assert_allclose(own, expected, rtol=1e-5)


def test_trainings_of_a_seed_and_then_seeds():
    scores = [jnp.array([1.0, jnp.nan]), jnp.array([3.0, 2.0]), jnp.array([5.0, 4.0])]
    np.testing.assert_array_equal(of_seeds(scores, 3), [1.0, 2.0])
    np.testing.assert_array_equal(of_seeds(scores, 1)[0], 3.0)
    np.testing.assert_array_equal(of_seeds([jnp.array([jnp.nan])] * 2, 2), [np.nan])


def test_arrays_that_no_score_reads_are_left_out(cached):
    """Of `spectral`: the training clips' vectors, of which there is one a clip."""
    fitted = cached("spectral", {})
    used = Program(fitted, targets_of(fitted))._used[1]
    assert not used["vectors"] and not used["training_scores"]
    assert used["level_whitening"] and used["level_mean"]


def test_tflite_has_no_sorting(cached):
    """A system of nearest neighbours is refused before a conversion, `spectral` is not."""
    sorts, plain = cached("mel_knn", {}), cached("spectral", {})
    with pytest.raises(UserError, match="mel_knn cannot be exported as tflite: it sorts"):
        tflite.check_convertible(Program(sorts, targets_of(sorts), convolutions=True), (16_000,))
    tflite.check_convertible(Program(plain, targets_of(plain), convolutions=True), (16_000,))


def test_the_shortest_waveform_fills_one_view(cached):
    fitted = cached("dense_ae", {"train.epochs": "1", "detector.hidden": "8,"})
    program = Program(fitted, targets_of(fitted))
    front_end = fitted.detector.front_end
    assert front_end.frames(program.shortest) == 5
    assert front_end.frames(program.shortest - 1) == 4
    uncentred = dataclasses.replace(fitted.config.front_end, center=False, pad_mode="constant")
    assert uncentred.frames(1024 + 4 * 512) == 5
