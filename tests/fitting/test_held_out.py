"""Clips that no model is fitted to: what learns from them, and what they promise."""

import numpy as np
import pytest

import asd_jax
from asd_jax.errors import UserError
from asd_jax.scoring.conformal import Reference, conformal_threshold, p_values

MELS = 16
SMALL = {
    "front_end.n_mels": str(MELS),
    "detector.hidden": "16,",
    "train.epochs": "1",
    "train.validation_split": "0.1",
    "train.threshold_split": "0.25",
    "seeds": "0,1",
}


def clips_of(count=24, seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(-40, 5, (count, 12, MELS)).astype(np.float32)


@pytest.fixture(scope="module")
def config():
    return asd_jax.load_config("dense_ae", SMALL | {"threshold": "conformal"})


@pytest.fixture(scope="module")
def fitted(config):
    return asd_jax.fit(config, clips_of(), machine="fan")


def held_out(fitted):
    return np.flatnonzero(np.isfinite(fitted.reference["scores"][0]))


def test_models_are_not_fitted_to_clips_held_out(config, fitted):
    """Other sounds in their place leave weights, and the scores of others, the same bits."""
    assert len(held_out(fitted)) == 6
    changed = clips_of()
    # By their scores: those that the reference has, to 1e-5 for batches of other sizes.
    scores = fitted.score_features(changed, seed=0)
    reference = fitted.reference["scores"][0]
    kept = [i for i in range(24) if np.isclose(scores[i], reference, rtol=1e-5).any()]
    assert len(kept) == 6
    changed[kept] -= 20
    other = asd_jax.fit(config, changed, machine="fan")
    new = clips_of(5, seed=1)
    np.testing.assert_array_equal(fitted.score_features(new), other.score_features(new))
    assert fitted.threshold() < other.threshold()


def test_p_values_thresholds_and_promises_are_by_them(fitted, tmp_path):
    scores = fitted.score_features(clips_of(40, seed=2))
    reference = Reference.of(fitted.reference["scores"].mean(axis=0))
    np.testing.assert_array_equal(fitted.p_values(scores), p_values(scores, reference))
    assert fitted.threshold(false_alarms=0.3) == conformal_threshold(reference, 0.3).value
    assert fitted.promise(false_alarms=0.3).rate == 2 / 7
    one = fitted.score_features(clips_of(40, seed=2), seed=1)
    of_one = Reference.of(fitted.reference["scores"][1])
    np.testing.assert_array_equal(fitted.p_values(one, seed=1), p_values(one, of_one))
    with pytest.raises(UserError, match=r"6 normal clips promise at most 14.3 %.* 0.1429 or more"):
        fitted.threshold(false_alarms=0.1)
    fitted.save(tmp_path / "model.npz")
    loaded = asd_jax.load(tmp_path / "model.npz")
    np.testing.assert_array_equal(loaded.p_values(scores), fitted.p_values(scores))


def test_groups_are_held_out_as_a_whole_and_counted(config):
    groups = np.repeat(["mon", "tue", "wed", "thu", "fri", "sat"], 4)
    fitted = asd_jax.fit(config, clips_of(), machine="fan", groups=groups.tolist())
    own = fitted.reference["groups"][0]
    assert len(held_out(fitted)) == 8 and set(own.tolist()) == {0, 1}
    assert fitted.promise().n_groups == 2
    assert fitted.p_values([1e9]) == [1 / 3]


def test_without_clips_held_out_nothing_is_promised():
    """The threshold is as it was, and who asks for more is told what to do."""
    plain = asd_jax.load_config("dense_ae", SMALL | {"train.threshold_split": "0"})
    fitted = asd_jax.fit(plain, clips_of(), machine="fan")
    assert np.isfinite(fitted.threshold()) and not fitted.reference
    for ask in (
        lambda: fitted.p_values([1.0]),
        lambda: fitted.promise(),
        lambda: fitted.threshold(false_alarms=0.1),
    ):
        with pytest.raises(UserError, match="fan: no normal clip was kept apart from the fit"):
            ask()
    with pytest.raises(UserError, match="train.threshold_split is 0; set it"):
        asd_jax.load_config("dense_ae", {"threshold": "conformal"})
    with pytest.raises(UserError, match="threshold_split is 0.2, which has no effect"):
        asd_jax.load_config("spectral", {"train.threshold_split": "0.2"})


def test_systems_without_training_promise_by_clips_left_out():
    config = asd_jax.load_config("spectral", {"front_end.n_mels": str(MELS)})
    fitted = asd_jax.fit(config, clips_of(), machine="fan")
    assert fitted.promise().n_groups == 24 and fitted.promise().rate <= 0.1
    scores = fitted.calibration["training_scores"][0].astype(np.float32)
    assert fitted.threshold() == conformal_threshold(Reference.of(scores), 0.1).value


@pytest.mark.parametrize("kind", ["quantile", "mean"])
def test_other_kinds_of_thresholds(kind):
    settings = {"front_end.n_mels": str(MELS), "threshold": kind}
    if kind == "mean":
        settings["threshold_deviations"] = "3"
    fitted = asd_jax.fit(asd_jax.load_config("spectral", settings), clips_of(), machine="fan")
    scores = fitted.calibration["training_scores"][0].astype(np.float32).astype(float)
    expected = {
        "quantile": np.quantile(scores, 0.9, method="weibull"),
        "mean": scores.mean() + 3 * scores.std(ddof=1),
    }
    assert fitted.threshold() == pytest.approx(expected[kind], rel=1e-9)
