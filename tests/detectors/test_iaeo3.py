"""IAEO3 against NumPy, scikit-learn and the report's table; runs with and without a network."""

import dataclasses

import jax
import numpy as np
import pytest
from fits import trained_before
from sklearn.decomposition import PCA
from sklearn.mixture import GaussianMixture
from sklearn.preprocessing import StandardScaler

import asd_jax
from asd_jax.audio import FrontEnd
from asd_jax.config import load_config
from asd_jax.data.clips import Clip
from asd_jax.detectors import make_detector
from asd_jax.errors import UserError
from asd_jax.fitting.layout import lay_out

pytestmark = pytest.mark.usefixtures("one_thread")

MELS = 8
SETTINGS = {
    "detector.encoder": "8",
    "detector.trainings": "2",
    "front_end.n_mels": str(MELS),
    "train.epochs": "2",
    "train.batch_size": "64",
    "seeds": "0,1",
}


def small(**more):
    return load_config(
        "iaeo3", {**SETTINGS, **{key.replace("__", "."): text for key, text in more.items()}}
    )


def make_clips(count, seed=0, scale=1.0):
    """Clips of unequal lengths."""
    rng = np.random.default_rng(seed)
    return [rng.normal(0, scale, (n, MELS)).astype(np.float32) for n in rng.integers(12, 64, count)]


def make_embeddings(count, width, seed=0):
    """Of deviations that differ by two orders of magnitude, around values that are not 0."""
    rng = np.random.default_rng(seed)
    around = np.random.default_rng(99).normal(0, 3, width)
    return (around + rng.normal(size=(count, width)) * np.logspace(-1, 1, width)).astype(np.float32)


def errors_of(weights, clip):
    """(frames - 4,) errors of an interpolation autoencoder, layer by layer."""
    found = []
    for i in range(len(clip) - 4):
        x = clip[[i, i + 1, i + 3, i + 4]].astype(np.float64).ravel()
        for layer in range(len(weights)):
            dense = weights[f"Dense_{layer}"]
            x = x @ dense["kernel"].astype(np.float64) + dense["bias"]
            x = np.maximum(x, 0) if layer < len(weights) - 1 else x
        found.append(np.mean((x - clip[i + 2]) ** 2))
    return np.array(found)


def statistics_of(weights, clips):
    rows = []
    for clip in clips:
        errors = errors_of(weights, clip)
        low, high = np.percentile(errors, [25, 75])
        rows.append([errors.mean(), errors.std(), np.median(errors), errors.max(), high - low])
    return np.array(rows)


def mixture_of(calibration, n_values):
    """scikit-learn's mixture with a fitted model's numbers."""
    stored = {name: array.astype(np.float64) for name, array in calibration["mixture"].items()}
    assert stored["means"].shape == (3, n_values)
    mixture = GaussianMixture(3)
    mixture.weights_, mixture.means_ = stored["weights"], stored["means"]
    mixture.precisions_cholesky_ = stored["precisions_cholesky"]
    return mixture


SECTIONS = np.array(["00"] * 40 + ["02"] * 55)


@pytest.fixture(scope="module")
def fitted():
    """Two ids of 40 and 55 clips, embeddings of 6 values of which 4 components count."""
    config = small(embedding="edgel3", detector__principal="4")
    clips, embeddings = make_clips(len(SECTIONS)), make_embeddings(len(SECTIONS), 6)
    return (
        asd_jax.fit(config, clips, machine="fan", sections=SECTIONS, embeddings=embeddings),
        clips,
        embeddings,
    )


def model_of(fitted, section, seed, repeat):
    """Weights and calibration of one model."""
    found = [m for m in fitted.models if (m.section, m.seed, m.repeat) == (section, seed, repeat)]
    place = fitted.models.index(found[0])
    return jax.tree.map(
        lambda leaf: np.asarray(leaf)[place], (fitted.weights["params"], fitted.calibration)
    )


@pytest.mark.parametrize("section", ["00", "02"])
def test_scores_are_those_of_numpy_and_scikit_learn(fitted, section):
    """In float64 from the weights and the mixture's numbers on; the scores to 1e-4.

    Errors, components and densities are float32 there: of values of some units a ten-thousandth
    is left of seven digits where the precisions of nine dimensions magnify them.
    """
    fitted, clips, embeddings = fitted
    own = section == SECTIONS
    new, embedded = make_clips(7, seed=1, scale=1.2), make_embeddings(7, 6, seed=1)
    scaler = StandardScaler().fit(embeddings[own].astype(np.float64))
    pca = PCA(4, svd_solver="full").fit(scaler.transform(embeddings[own].astype(np.float64)))
    principal = pca.transform(scaler.transform(embedded.astype(np.float64)))
    for seed in (0, 1):
        scores = []
        for repeat in (0, 1):
            weights, calibration = model_of(fitted, section, seed, repeat)
            rows = np.hstack([principal, statistics_of(weights, new)])
            scores.append(-mixture_of(calibration, 9).score_samples(rows))
        assert (np.abs(scores[0] - scores[1]) > 1e-2).any()
        found = fitted.score_features(new, section=section, seed=seed, embeddings=embedded)
        np.testing.assert_allclose(found, np.min(scores, axis=0), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("section", ["00", "02"])
def test_the_mixture_is_fitted_to_the_training_clips_of_its_own_id(fitted, section):
    """A further step of scikit-learn's gains less than its tolerance, 1e-3, in log-likelihood.

    From rows of the other id, or without the standardisation, it gains more.
    """
    fitted, clips, embeddings = fitted

    def gain(own, scaled=True):
        values = embeddings[own].astype(np.float64)
        values = StandardScaler().fit_transform(values) if scaled else values
        principal = PCA(4, svd_solver="full").fit_transform(values)
        weights, calibration = model_of(fitted, section, 0, 1)
        mine = [clip for clip, chosen in zip(clips, own, strict=True) if chosen]
        rows = np.hstack([principal, statistics_of(weights, mine)])
        mixture = mixture_of(calibration, 9)
        roots = mixture.precisions_cholesky_
        step = GaussianMixture(
            3,
            weights_init=mixture.weights_ / mixture.weights_.sum(),
            means_init=mixture.means_,
            precisions_init=roots @ np.swapaxes(roots, 1, 2),
            max_iter=2,
            tol=0,
        )
        with pytest.warns(UserWarning, match="did not converge"):
            step.fit(rows)
        return step.score(rows) - mixture.score(rows)

    own = section == SECTIONS
    assert abs(gain(own)) < 2e-3  # two steps
    assert gain(~own) > 0.1
    assert gain(own, scaled=False) > 0.1


def test_components_past_the_clips_rank_are_nothing(fitted):
    """12 clips have 11 components; the others of 20 are 0 in training clips and new ones."""
    config = small(
        embedding="edgel3", detector__principal="20", detector__trainings="1", seeds="0,"
    )
    clips, embeddings = make_clips(12), make_embeddings(12, 64)
    with trained_before(jax.tree.map(lambda leaf: leaf[:1], fitted[0].weights)):
        fitted = asd_jax.fit(config, clips, machine="fan", embeddings=embeddings)
    weights, calibration = model_of(fitted, "00", 0, 0)
    assert calibration["projection"]["components"].shape == (20, 64)
    scaler = StandardScaler().fit(embeddings)
    pca = PCA(11, svd_solver="full").fit(scaler.transform(embeddings))
    new, embedded = make_clips(5, seed=1), make_embeddings(5, 64, seed=1)
    rows = np.zeros((5, 25))
    rows[:, :11] = pca.transform(scaler.transform(embedded))
    rows[:, 20:] = statistics_of(weights, new)
    expected = -mixture_of(calibration, 25).score_samples(rows)
    found = fitted.score_features(new, embeddings=embedded)
    # Four clips a component leave directions of the floor's variance, 1e-6, in which a new clip
    # is a thousand deviations away.
    assert np.median(expected) > 1e5
    np.testing.assert_allclose(found, expected, rtol=1e-3)


@pytest.mark.slow
def test_a_seed_of_an_id_in_a_fleet_is_that_alone(fitted):
    """Where it is not padded to the clips of another id, to 1e-4: rounding by other shapes.

    With the weights of the fleet; that training has no part in others is tested in `training`.
    """
    both, clips, embeddings = fitted
    own = np.flatnonzero(SECTIONS == "00")
    mine = [i for i, m in enumerate(both.models) if (m.section, m.seed) == ("00", 1)]
    with trained_before(jax.tree.map(lambda leaf: leaf[mine], both.weights)):
        alone = asd_jax.fit(
            dataclasses.replace(both.config, seeds=(1,)),
            [clips[i] for i in own],
            machine="fan",
            embeddings=embeddings[own],
        )
    new, embedded = make_clips(5, seed=4), make_embeddings(5, 6, seed=4)
    np.testing.assert_allclose(
        both.score_features(new, section="00", seed=1, embeddings=embedded),
        alone.score_features(new, embeddings=embedded),
        rtol=1e-4,
    )
    assert alone.threshold() == pytest.approx(both.threshold(section="00", seed=1), rel=1e-3)


def test_trainings_differ(fitted):
    kernels = fitted[0].weights["params"]["Dense_0"]["kernel"]
    assert len(kernels) == 2 * 2 * 2
    for i, kernel in enumerate(kernels):
        assert all(np.abs(kernel - other).max() > 1e-2 for other in kernels[:i])


def test_the_largest_error_alone(fitted):
    config = small(embedding="none", detector__predictor="max")
    with trained_before(jax.tree.map(lambda leaf: leaf[:4], fitted[0].weights)):
        found = asd_jax.fit(config, make_clips(12), machine="valve")
    assert not found.calibration
    new = make_clips(9, seed=1)
    for seed in (0, 1):
        largest = [
            [errors_of(model_of(found, "00", seed, repeat)[0], clip).max() for clip in new]
            for repeat in (0, 1)
        ]
        scores = found.score_features(new, seed=seed)
        np.testing.assert_allclose(scores, np.min(largest, axis=0), rtol=1e-5)


def test_the_first_of_several_trainings_is_that_of_a_single_one():
    """It has the same random numbers and clips; no other model of a fleet has a part in it."""
    clips = [Clip("fan", section, "train", str(i), "") for i, section in enumerate(SECTIONS)]
    several, single = (
        lay_out(
            make_detector(small(embedding="edgel3", detector__trainings=trainings)),
            clips,
            np.full(len(clips), 20),
        ).fleet
        for trainings in ("2", "1")
    )
    assert (len(several.models), len(single.models)) == (8, 4)
    entropies = [model.entropy for model in several.models]
    assert entropies[::2] == [model.entropy for model in single.models]
    assert len(set(entropies)) == 8
    for part in ("training", "validation"):
        for a, b in zip(getattr(several, part)[::2], getattr(single, part), strict=True):
            np.testing.assert_array_equal(a.clips, b.clips)


def test_a_diverged_training_does_not_stop_the_others(fitted):
    """Weights that are not finite are of one id: the other's scores are those without them."""
    expected, clips, embeddings = fitted
    diverged = np.array([model.section == "00" for model in expected.models])

    def without(leaf):
        return np.where(diverged.reshape(-1, *[1] * (leaf.ndim - 1)), np.float32(np.nan), leaf)

    with trained_before(jax.tree.map(without, expected.weights)):
        found = asd_jax.fit(
            expected.config, clips, machine="fan", sections=SECTIONS, embeddings=embeddings
        )
    new, embedded = make_clips(3, seed=1), make_embeddings(3, 6, seed=1)
    scores = {
        section: found.score_features(new, section=section, embeddings=embedded)
        for section in ("00", "02")
    }
    assert np.isnan(scores["00"]).all() and np.isnan(found.threshold(section="00"))
    np.testing.assert_array_equal(
        scores["02"], expected.score_features(new, section="02", embeddings=embedded)
    )
    assert found.threshold(section="02") == expected.threshold(section="02")


def test_the_optimised_settings_are_those_of_table_1():
    """FFT, hop, mels, rate in kHz, encoder, whether there are embeddings."""
    general = (1024, 512, 128, 16, (256, 128, 64, 32), True)
    expected = {
        "ToyCar": general,
        "ToyConveyor": (512, 256, 128, 16, (256, 128, 64, 32), True),
        "fan": (1024, 512, 256, 4, (128, 64, 32), True),
        "pump": (2048, 1024, 128, 16, (256, 128, 64, 32), True),
        "slider": general,
        "valve": (1024, 512, 128, 16, (256, 128, 64, 32), False),
    }
    optimised = load_config("iaeo3_opt")
    members = optimised.member_configs()
    assert {optimised.member_for(machine) for machine in expected} == set(members)
    for machine, row in expected.items():
        own = members[optimised.member_for(machine)]
        front_end, detector = own.front_end, own.detector
        assert (
            front_end.n_fft,
            front_end.hop_length,
            front_end.n_mels,
            front_end.sample_rate / 1000,
            detector.encoder,
            own.embedding.kind == "openl3_mel256",
        ) == row, machine
        assert detector.predictor == ("max" if machine == "valve" else "mixture")
        assert (detector.trainings, detector.principal, detector.components) == (5, 50, 3)
        assert own.embedding.size == 512
    slider = members[optimised.member_for("slider")]
    assert dataclasses.replace(slider, name="iaeo3") == load_config("iaeo3")
    assert FrontEnd(pad_mode="reflect") == slider.front_end


def test_another_embedding_is_for_the_members_that_have_one():
    members = load_config("iaeo3_opt", {"embedding": "log_mel"}).member_configs()
    kinds = {name: member.embedding.kind for name, member in members.items()}
    assert kinds.pop("iaeo3_valve") == "none" and set(kinds.values()) == {"log_mel"}
    for member_config in members.values():
        make_detector(member_config)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"detector.trainings": "0"}, "detector.trainings is 0"),
        ({"detector.principal": "0"}, "detector.principal is 0"),
        ({"detector.components": "0"}, "detector.components is 0"),
        ({"detector.frames": "4"}, "detector.frames is 4"),
        ({"detector.encoder": ""}, "detector.encoder"),
        ({"detector.predictor": "max"}, "no use for embeddings .openl3_mel256.*embedding=none"),
        ({"embedding": "none", "backend": "knn"}, "embedding=KIND"),
        ({"embedding": "none", "backend": "mahalanobis"}, "embedding=KIND"),
    ],
)
def test_settings_that_make_no_sense(settings, message):
    with pytest.raises(UserError, match=message) as error:
        make_detector(load_config("iaeo3", settings))
    assert "\n" not in str(error.value)


def test_a_system_without_use_for_an_embedding_refuses_it():
    for name in ("dense_ae", "interpolation_ae"):
        with pytest.raises(UserError, match=f"embedding is log_mel, which {name} does not use"):
            make_detector(load_config(name, {"embedding": "log_mel"}))


def test_embeddings_that_are_missing_are_asked_for(fitted):
    fitted, clips, _ = fitted
    for call in (
        lambda: fitted.score_features(clips[:1], section="00"),
        lambda: asd_jax.fit(fitted.config, clips),
    ):
        with pytest.raises(UserError, match=r"edgel3 embeddings .* missing; .*embedding=none"):
            call()
