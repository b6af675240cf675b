"""The picture network: pictures, what it learns from, threshold and score."""

import dataclasses

import jax
import numpy as np
import pytest
from fits import trained_before
from scipy.special import logit, softmax
from tasks import batch_of, drawn, standard

import asd_jax
from asd_jax.config import load_config
from asd_jax.data.clips import Clip
from asd_jax.detectors import make_detector
from asd_jax.errors import UserError
from asd_jax.fitting.layout import with_perturbed
from asd_jax.training import variables
from asd_jax.training.task import count_values

BANDS = 12
SMALL = {
    "front_end.n_mels": str(BANDS),
    "detector.from_scratch": "true",
    "detector.frames": "10",
    "detector.size": "16",
    "detector.stages": "1",
    "detector.momentum": "0.5",
    "train.epochs": "2",
    "seeds": "0,1",
}


def config(**detector):
    return load_config(
        "picture_mobilenet", SMALL | {f"detector.{k}": str(v) for k, v in detector.items()}
    )


def test_parameters_are_keras_s_with_two_classes():
    assert count_values(make_detector(load_config("picture_mobilenet")).task(), 320) == 2_260_546


def test_the_window_is_256_ms_that_overlap_by_half_and_a_picture_10_s():
    found = load_config("picture_mobilenet")
    assert found.front_end.n_fft == 0.256 * 16000 and found.front_end.hop_length == 0.128 * 16000
    assert found.front_end.frames(160_000) == found.detector.frames
    assert (found.detector.size, found.front_end.n_mels) == (320, 320)


def test_the_table_of_the_report_is_the_default():
    machines = ["ToyCar", "ToyTrain", "bearing", "fan", "gearbox", "slider", "valve"]
    detector = make_detector(config())
    found = [detector.other_machine(machine, machines) for machine in machines]
    assert found == ["gearbox", "slider", "gearbox", "gearbox", "fan", "valve", "slider"]


def test_pictures_are_80_db_over_the_picture_s_range_low_frequencies_below():
    """Where nothing is resized; to 1e-6, float32 of values up to 1."""
    detector = make_detector(config(frames=BANDS, size=BANDS))
    views = np.random.default_rng(0).normal(-60, 30, (3, BANDS, BANDS)).astype(np.float32)
    views[0, 3, 2] = -500  # more than 80 dB below the rest
    pictures = jax.jit(detector.pictures)
    found = np.asarray(pictures(views))
    assert found.shape == (3, BANDS, BANDS, 3)
    for view, picture in zip(views, found, strict=True):
        kept = np.maximum(view, view.max() - 80)
        grey = 2 * (kept - kept.min()) / (kept.max() - kept.min()) - 1
        for channel in range(3):
            np.testing.assert_allclose(picture[..., channel], grey.T[::-1], atol=1e-6)
    silence = pictures(np.zeros_like(views))
    np.testing.assert_array_equal(silence, -1)


def test_a_picture_is_enlarged_by_linear_interpolation():
    """To 1e-5: against NumPy's interpolation along one axis, then the other."""
    detector = make_detector(config(frames=4, size=32))
    view = np.linspace(0, 50, 4)[:, None] + np.linspace(0, 20, BANDS)
    found = np.asarray(jax.jit(detector.pictures)(view[None].astype(np.float32)))[0, ..., 0]
    grey = (2 * view / 70 - 1).T[::-1]

    def resized(row):  # pixels lie in the middle of their cells
        return np.interp((np.arange(32) + 0.5) * len(row) / 32 - 0.5, np.arange(len(row)), row)

    expected = np.apply_along_axis(resized, 0, np.apply_along_axis(resized, 1, grey))
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_each_seed_draws_its_clips_and_changes_each_of_them():
    settings = config(clips=3)
    clips = [Clip("fan", "00", "train", f"{i}.wav", f"fan{i}") for i in range(12)]
    clips += [Clip("valve", "00", "train", f"{i}.wav", f"valve{i}") for i in range(20)]
    detector, drawn = make_detector(settings), []
    table = with_perturbed(detector, clips)
    assert len(table) == 32 + 2 * 2 * 3 * 2  # machines, seeds, clips, copies
    assert len({clip.perturbation for clip in table[32:]}) == 24
    for seed in (0, 1):
        indices, labels = detector.examples(np.arange(12), table, seed)
        own, other = indices[labels == 0], indices[labels == 1]
        assert len(own) == len(other) == 9
        paths = [table[i].path for i in own]
        assert sorted(paths) == sorted(3 * paths[:3])  # each as it is and twice changed
        assert [table[i].split for i in own] == ["train"] * 3 + ["perturbed"] * 6
        assert all(table[i].perturbation.startswith("pitch_and_stretch ") for i in own[3:])
        assert {table[i].machine for i in other} == {"valve"}
        assert {table[i].split for i in other} == {"train"}
        drawn.append(paths[:3])
    assert drawn[0] != drawn[1]


def test_without_weights_it_says_so():
    clips = [np.random.default_rng(0).normal(size=(10, BANDS))] * 4
    with pytest.raises(UserError, match="--config.detector.weights=FILE.*from_scratch") as error:
        asd_jax.fit(config(copies=0, from_scratch="false"), clips)
    assert "\n" not in str(error.value)
    with pytest.raises(UserError, match="no/such.npz: there is no such file of weights"):
        asd_jax.fit(config(copies=0, weights="no/such.npz", stages=0, from_scratch="false"), clips)
    with pytest.raises(UserError, match="features cannot give"):
        asd_jax.fit(config(), clips)


def test_threshold_and_score():
    """By the network's outputs in float64; to 1e-4 of log odds of order 1, float32."""
    settings = dataclasses.replace(config(copies=0, alpha=0.1, clips=4), seeds=(0,))
    rng = np.random.default_rng(1)
    clips = [rng.normal(-40, 10, (25, BANDS)).astype(np.float32) for _ in range(4)]
    detector = make_detector(settings)
    weights = variables(drawn(detector.task(), standard(BANDS)))
    with trained_before(jax.tree.map(lambda leaf: leaf[None], weights)):
        fitted = asd_jax.fit(settings, clips)

    logits_of = jax.jit(lambda views: detector.module.apply(weights, detector.pictures(views)))

    def probability(clip):  # 25 frames have two pictures of 10
        logits = logits_of(np.stack([clip[:10], clip[10:20]]))
        return softmax(np.asarray(logits, np.float64), axis=1)[:, 1].mean()

    threshold = 0.9 * np.mean([probability(clip) for clip in clips])
    new = rng.normal(-40, 10, (25, BANDS)).astype(np.float32)
    np.testing.assert_allclose(
        fitted.score_features([new])[0], logit(threshold) - logit(probability(new)), atol=1e-4
    )
    assert fitted.threshold() == 0


def test_its_own_pictures_upside_down_serve_where_there_is_no_other_machine():
    detector = make_detector(config())
    table = [Clip("fan", "00", "train", f"{i}.wav", f"fan{i}") for i in range(4)]
    indices, labels = detector.examples(np.arange(4), table, 0)
    assert sorted(indices) == [0, 0, 1, 1, 2, 2, 3, 3] and list(labels) == [0] * 4 + [2] * 4
    task = detector.task()
    learner = drawn(task, standard(BANDS))
    views = np.random.default_rng(2).normal(-40, 10, (6, 10, BANDS)).astype(np.float32)
    loss = jax.jit(task.loss)
    upside_down = loss(learner, batch_of(views, np.full(6, 2)))
    turned = loss(learner, batch_of(views[..., ::-1], np.ones(6, int)))
    np.testing.assert_allclose(upside_down, turned, rtol=1e-6)
    network = jax.jit(
        lambda views: detector.module.apply(variables(learner), detector.pictures(views))
    )
    logits = network(views)
    expected = -np.log(softmax(np.asarray(logits, np.float64), axis=1)[:, 1]).mean()
    np.testing.assert_allclose(
        loss(learner, batch_of(views, np.zeros(6, int))), expected, rtol=1e-4
    )


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"frames": 0}, "detector.frames"),
        ({"size": 0}, "detector.size"),
        ({"clips": 0}, "detector.clips"),
        ({"copies": -1}, "detector.copies"),
        ({"alpha": 1}, "detector.alpha"),
        ({"width": 0}, "detector.width"),
        ({"momentum": 1}, "detector.momentum"),
        ({"stages": 8}, r"detector.stages is 8; it must be 0 \(all\) or more, at most 7"),
        ({"weights": "x.npz"}, "leave detector.width and detector.stages"),
        ({"outliers": "fan:fan"}, "two different types"),
    ],
)
def test_settings_that_make_no_sense(settings, message):
    with pytest.raises(UserError, match=message) as error:
        config(**settings)
    assert "\n" not in str(error.value)
