"""Fits without some clips are those that these clips never had been in."""

import numpy as np
import pytest

import asd_jax
from asd_jax.evaluation.results import TrainingRow
from asd_jax.fitting.ensemble import FittedChoice, FittedEnsemble
from asd_jax.fitting.folds import FoldScorer, can_leave_out, folds_of, leave_out, leaves

RATE, GROUP = 16_000, ("fan", "00")
RNG = np.random.default_rng(0)
LEVELS = np.linspace(0.8, 1.2, 18)[:, None]
SOUNDS = (LEVELS * RNG.normal(0, 0.1, (18, RATE))).astype(np.float32)
NEW = RNG.normal(0, 0.1, (4, RATE)).astype(np.float32)
DOMAINS = np.array(["source"] * 13 + ["target"] * 5)
FOLDS = np.arange(18) % 3
NAMES = [f"{i}" for i in range(18)]


def fit(name, kept=slice(None), **options):
    return asd_jax.fit(
        name, waveforms=SOUNDS[kept], sample_rate=RATE, machine="fan",
        domains=DOMAINS[kept].tolist(), **options,
    )  # fmt: skip


@pytest.fixture(scope="module")
def fitted():
    return {name: fit(name) for name in ("mel_mahalanobis", "mel_knn")}


@pytest.fixture(scope="module")
def apart():
    """Fits that never saw a fold."""
    names = ("mel_mahalanobis", "mel_knn")
    return {name: [fit(name, fold != FOLDS) for fold in range(3)] for name in names}


@pytest.mark.parametrize("name", ["mel_mahalanobis", "mel_knn"])
def test_a_fit_without_clips_is_one_of_the_others(fitted, apart, name):
    assert can_leave_out(fitted[name])
    fits = leave_out(fitted[name], GROUP, [fold == FOLDS for fold in range(3)])
    for own, other in zip(fits, apart[name], strict=True):
        # The same program on the same numbers.
        np.testing.assert_allclose(own.score(NEW, RATE), other.score(NEW, RATE), rtol=1e-12)
    # A clip is further off for the fit that does not know it.
    knowing = fitted[name].score(SOUNDS[FOLDS == 0], RATE)
    assert np.all(fits[0].score(SOUNDS[FOLDS == 0], RATE) > knowing)


@pytest.mark.parametrize(
    "name",
    [
        "spectral",
        pytest.param("twfr_gmm", marks=pytest.mark.slow),
        pytest.param("spectrum_knn", marks=pytest.mark.slow),
    ],
)
def test_of_other_systems_as_well(name):
    whole, part = fit(name), fit(name, FOLDS > 0)
    (own,) = leave_out(whole, GROUP, [FOLDS == 0])
    np.testing.assert_allclose(own.score(NEW, RATE), part.score(NEW, RATE), rtol=1e-12)


def test_groups_stay_groups():
    groups = [f"{i // 3}" for i in range(18)]
    whole = fit("mel_knn", groups=groups)
    left = np.arange(18) < 6  # the first two groups
    part = fit("mel_knn", ~left, groups=groups[6:])
    (own,) = leave_out(whole, GROUP, [left])
    np.testing.assert_allclose(own.score(NEW, RATE), part.score(NEW, RATE), rtol=1e-12)
    assert leave_out(whole, GROUP, [np.arange(18) >= 3]) is None  # one group is left


def test_too_few_clips_are_no_fit(fitted):
    assert leave_out(fitted["mel_knn"], GROUP, [np.arange(18) > 0]) is None
    assert leave_out(fitted["mel_knn"], GROUP, [np.arange(18) > 1]) is not None


def test_each_clip_is_scored_by_the_fit_without_its_fold(fitted, apart):
    place = dict(zip(NAMES, FOLDS.tolist(), strict=True))
    scorer = FoldScorer.of(fitted["mel_knn"], GROUP, place, lambda leaf: NAMES)
    assert scorer.complete
    folds = np.array([2, 0, 1, 0])
    shared = {}
    scores = scorer(NEW, RATE, folds, shared)
    for i, fold in enumerate(folds):
        expected = apart["mel_knn"][fold].score(NEW[i], RATE)
        np.testing.assert_allclose(scores[i], expected[0], rtol=1e-12)
    # Features are made once for all systems of one front end.
    (features,) = shared.values()
    shared = {key: features for key in shared}
    np.testing.assert_array_equal(scorer(None, RATE, folds, shared), scores)


def test_an_ensemble_and_a_choice_score_by_the_fits_of_their_members(fitted, apart):
    scales = [
        {"machine": "fan", "section": "00", "mean": [[1.0], [0.1]], "deviation": [[2.0], [0.5]]}
    ]
    ensemble = FittedEnsemble(fitted, (0,), "mean", scales)
    choice = FittedChoice(fitted, (0,), {"fan": "mel_knn"})
    assert leaves(ensemble, GROUP) == [*fitted.values()]
    assert leaves(choice, GROUP) == [fitted["mel_knn"]]
    place, folds = dict(zip(NAMES, FOLDS.tolist(), strict=True)), np.zeros(4, int)
    one, two = (apart[name][0].score(NEW, RATE) for name in fitted)
    scorer = FoldScorer.of(ensemble, GROUP, place, lambda leaf: NAMES)
    expected = ((one - 1) / 2 + (two - 0.1) / 0.5) / 2
    # Scores are float32, whose rounding is 6e-8 of their size.
    np.testing.assert_allclose(scorer(NEW, RATE, folds, {}), expected, rtol=1e-5)
    scorer = FoldScorer.of(choice, GROUP, place, lambda leaf: NAMES)
    np.testing.assert_allclose(scorer(NEW, RATE, folds, {}), two, rtol=1e-12)


@pytest.mark.slow  # trains
def test_a_network_is_not_fitted_again():
    config = asd_jax.load_config(
        "dense_ae",
        {"train.epochs": "1", "detector.hidden": "4,", "front_end.n_mels": "16", "seeds": "0,1"},
    )
    network = fit(config)
    assert not can_leave_out(network)
    scorer = FoldScorer.of(network, GROUP, dict.fromkeys(NAMES, 0), lambda leaf: NAMES)
    expected = network.score(NEW, RATE, machine="fan", section="00")
    np.testing.assert_allclose(scorer(NEW, RATE, np.zeros(4, int), {}), expected, rtol=1e-6)


def test_folds_have_whole_groups():
    rows = [TrainingRow("fan", "00", "", 0, f"{i}", 0.0, group=f"{i // 4}") for i in range(20)]
    folds = folds_of(rows, 3)
    assert folds.tolist() == [0] * 4 + [1] * 4 + [2] * 4 + [0] * 4 + [1] * 4
    assert folds_of(rows, 9).max() == 4
    assert folds_of(rows, 1).tolist() == [0] * 20
    alone = [row._replace(group="") for row in rows]
    assert folds_of(alone, 5).tolist() == [i % 5 for i in range(20)]


def test_clips_are_compared_in_their_states():
    """As by fits that never knew the clip, whose state is given; a run's own states are by name."""
    states = [f"speed={1 + i % 2}" for i in range(18)]
    loud = np.where(np.arange(18) % 2, 1.0, 4.0)[:, None]
    sounds = (SOUNDS * loud).astype(np.float32)

    def fit_in_states(kept):
        chosen = [state for state, own in zip(states, kept, strict=True) if own]
        return asd_jax.fit("mel_mahalanobis", waveforms=sounds[kept], sample_rate=RATE,
                           machine="fan", states=chosen)  # fmt: skip

    whole = fit_in_states(np.ones(18, bool))
    place = dict(zip(NAMES, FOLDS.tolist(), strict=True))
    scorer = FoldScorer.of(whole, GROUP, place, lambda leaf: NAMES)
    own = [0, 3, 6]  # of fold 0, of both states
    names = [NAMES[i] for i in own]
    found = scorer(sounds[own], RATE, np.zeros(3, int), {}, names)
    part = fit_in_states(FOLDS != 0)
    wanted = part.score(sounds[own], RATE, state=[states[i] for i in own])
    np.testing.assert_allclose(found, wanted, rtol=1e-9)
    # In the other state they are far from normal.
    others = scorer(sounds[own], RATE, np.zeros(3, int), {}, [NAMES[i + 1] for i in own])
    assert (others > 2 * found).all()
