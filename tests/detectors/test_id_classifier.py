"""The classifier of machine ids: labels, losses, scores, and machines of different size."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from fits import fit_table
from scipy.special import log_softmax, rel_entr, softmax

import asd_jax
from asd_jax.config import load_config
from asd_jax.data.clips import Clip
from asd_jax.detectors import make_detector
from asd_jax.errors import UserError
from asd_jax.features.table import ArrayFeatures, ClipInput
from asd_jax.fitting.layout import lay_out, with_perturbed
from asd_jax.models.layers import heads
from asd_jax.training import Batch, TrainingStatistics, variables
from asd_jax.training.task import count_values

MELS = 8
SMALL = {
    "front_end.n_mels": str(MELS),
    "detector.frames": "16",
    "detector.hop": "4",
    "detector.stages": "1",
    "detector.momentum": "0.5",
    "train.epochs": "2",
    "train.batch_size": "8",
    "seeds": "0,1",
}


def config(**detector):
    return load_config(
        "mobilenet_v2_id", SMALL | {f"detector.{k}": str(v) for k, v in detector.items()}
    )


def clips_of(*machines):
    """Machine and number of ids → two training clips of each id."""
    return [
        Clip(machine, f"{2 * i:02}", "train", f"{i}_{k}.wav", f"{machine}{i}_{k}.wav")
        for machine, ids in machines
        for i in range(ids)
        for k in range(2)
    ]


def learner_of(detector, n_labels=3, of_fleet=4):
    """A learner of which no weight is as it starts."""
    rng = np.random.default_rng(0)
    ones = np.ones(MELS, np.float32)
    statistics = TrainingStatistics(-40 * ones, 8 * ones, 0 * ones, ones, np.int32(n_labels))
    learner = jax.jit(detector.task(of_fleet).init)(jax.random.key(0), statistics)
    head = jax.tree.map(
        lambda leaf: rng.normal(0, 0.1, leaf.shape).astype(np.float32), learner["params"]["head"]
    )
    return {**learner, "params": {**learner["params"], "head": head}}


def batch_with_padding(rng):
    views = rng.normal(-40, 8, (8, 16, MELS)).astype(np.float32)
    labels = np.array([0, 1, 2, 0, 1, 2, 0, 0], np.int32)
    return Batch(jnp.asarray(views), jnp.asarray(labels), jnp.arange(8) < 6)


@pytest.mark.parametrize(
    ("name", "count"),
    [
        ("mobilenet_v2_id", 711_348),
        ("mobilenet_v2_baseline", 711_348),
        ("resnet50_id", 23_595_908),
    ],
)
def test_parameters_of_four_ids_are_keras_s(name, count):
    assert count_values(make_detector(load_config(name)).task(4), 128) == count


def test_labels_are_places_of_ids():
    clips = clips_of(("fan", 3), ("pump", 2))
    detector = make_detector(config())
    indices, labels = detector.examples(np.arange(6, 10), clips, 0)
    assert list(indices) == [6, 7, 8, 9] and list(labels) == [0, 0, 1, 1]
    layout = lay_out(detector, clips, np.full(10, 20))
    assert layout.n_labels == 3 and len(layout.fleet.models) == 4


def test_each_speed_makes_a_class_of_every_id():
    found = config(resample="0.9,1.1")
    detector = make_detector(found)
    clips = with_perturbed(detector, clips_of(("fan", 2), ("pump", 2)))
    assert len(clips) == 8 * 3
    assert {clip.perturbation for clip in clips[8:]} == {"resample 0.9", "resample 1.1"}
    assert {clip.split for clip in clips[8:]} == {"perturbed"}
    indices, labels = detector.examples(np.arange(4), clips, 0)
    of_label = {}
    for i, label in zip(indices, labels, strict=True):
        of_label.setdefault(int(label), set()).add((clips[i].section, clips[i].perturbation))
    assert of_label == {
        0: {("00", "")},
        1: {("02", "")},
        2: {("00", "resample 0.9")},
        3: {("02", "resample 0.9")},
        4: {("00", "resample 1.1")},
        5: {("02", "resample 1.1")},
    }
    with pytest.raises(UserError, match="features cannot give"):
        asd_jax.fit(found, [np.zeros((20, MELS))] * 4, sections=["00", "00", "02", "02"])


def test_one_id_needs_warps_or_speeds():
    clips = [np.random.default_rng(0).normal(size=(20, MELS))] * 4
    with pytest.raises(UserError, match="only one id, 00, and a classifier needs two") as error:
        asd_jax.fit(config(), clips)
    assert "\n" not in str(error.value)
    fitted = asd_jax.fit(config(warp=0.3), clips)
    assert np.isfinite(fitted.score_features(clips)).all()


@pytest.mark.parametrize("score", ["probability", "log_odds", "cosine"])
def test_a_clip_s_score_equals_a_direct_computation(score):
    """To 1e-4 relative: float32; the padding has values that would show."""
    head = "arcface" if score == "cosine" else "softmax"
    detector = make_detector(config(score=score, head=head, warp=0.2))
    weights = variables(learner_of(detector))
    clip = np.random.default_rng(1).normal(-40, 8, (40, MELS)).astype(np.float32)
    clip[30:] = 500
    views = np.stack([clip[i : i + 16] for i in range(0, 30 - 16 + 1, 4)])
    images = np.repeat(((views + 40) / 8)[..., None], 3, axis=-1)
    params = weights["params"]
    network = {"params": params["network"], "batch_stats": weights["batch_stats"]}
    embeddings = np.asarray(jax.jit(detector.module.apply)(network, images), np.float64)
    kernel = np.asarray(params["head"]["kernel"], np.float64)
    assert kernel.shape[1] == 8  # four labels in the fleet and their warped ones
    logits = embeddings @ kernel[:, :6] + params["head"]["bias"][:6]
    p = softmax(logits, axis=1)[:, 2]
    norms = np.linalg.norm(embeddings, axis=1) * np.linalg.norm(kernel[:, 2])
    expected = {
        "probability": 1 - p,
        "log_odds": np.log(1 - p) - np.log(p),
        "cosine": -(embeddings @ kernel[:, 2]) / norms,
    }[score]
    found = jax.jit(detector.score)(weights, {}, ClipInput(clip, 30, 2))
    np.testing.assert_allclose(found, expected.mean(), rtol=1e-4, atol=1e-6)
    # The other ids would have other scores.
    assert abs(found - jax.jit(detector.score)(weights, {}, ClipInput(clip, 30, 1))) > 1e-3


@pytest.mark.parametrize("mix", ["none", "power", "both"])
def test_the_loss_is_the_divergence_from_the_proportions(mix):
    """To 1e-4 relative: float32 against SciPy's relative entropy in float64."""
    detector = make_detector(config(mix=mix, warp=0.3))
    learner = learner_of(detector)
    batch, key = batch_with_padding(np.random.default_rng(2)), jax.random.key(3)
    weights = variables(learner)
    images, partners, own = jax.jit(detector._augment)(weights, batch, key)
    embeddings, _ = jax.jit(detector._embed)(weights, images.views, batch.mask)
    q = np.asarray(detector._logits(weights, embeddings), np.float64)[:, :6]
    labels, rows = np.asarray(images.labels), np.arange(8)
    target = np.zeros((8, 6))
    np.add.at(target, (rows, labels), np.asarray(own, np.float64))
    np.add.at(target, (rows, labels[partners]), 1 - np.asarray(own, np.float64))
    expected = rel_entr(target, softmax(q, axis=1)).sum(axis=1)[:6].mean()
    _, loss = jax.jit(detector.task(4).step)(learner, batch, key)
    np.testing.assert_allclose(loss, expected, rtol=1e-4)
    if mix == "none":
        np.testing.assert_array_equal(own, 1)
    else:
        mixed = np.asarray(own)[:6] < 1
        assert 0 < mixed.sum() < 6
        assert set(np.asarray(partners)[:6]) <= set(range(6))


def test_arcface_s_loss_is_the_cross_entropy_with_a_margin():
    """To 1e-4 relative, as above."""
    detector = make_detector(config(head="arcface", margin=0.4, scale=12))
    learner = learner_of(detector)
    batch = batch_with_padding(np.random.default_rng(4))
    _, loss = jax.jit(detector.task(4).step)(learner, batch, jax.random.key(0))
    weights = variables(learner)
    embeddings, _ = jax.jit(detector._embed)(weights, batch.views, batch.mask)
    head = heads.Head(**weights["params"]["head"])
    logits = heads.arcface_logits(
        heads.cosines(head, embeddings), batch.labels, 3, margin=0.4, scale=12
    )
    logs = log_softmax(np.asarray(logits, np.float64)[:, :3], axis=1)
    expected = -logs[np.arange(6), np.asarray(batch.labels)[:6]].mean()
    np.testing.assert_allclose(loss, expected, rtol=1e-4)


def test_warped_images_are_classes_after_the_model_s_own():
    detector = make_detector(config(warp=0.3))
    weights = variables(learner_of(detector))
    batch = batch_with_padding(np.random.default_rng(5))
    found, _, _ = jax.jit(detector._augment)(weights, batch, jax.random.key(1))
    warped = np.asarray(found.labels) != np.asarray(batch.labels)
    assert 0 < warped.sum() < 8
    np.testing.assert_array_equal(found.labels - batch.labels, np.where(warped, 3, 0))
    changed = (np.asarray(found.views) != np.asarray(batch.views)).any(axis=(1, 2))
    np.testing.assert_array_equal(changed, warped)
    other, _, _ = jax.jit(detector._augment)(weights, batch, jax.random.key(2))
    assert (np.asarray(other.views) != np.asarray(found.views)).any()


def test_rows_that_fill_a_batch_change_nothing():
    """To 1e-5: sums over other numbers of zeros may group otherwise."""
    detector = make_detector(config(mix="power", warp=0.2))
    learner = learner_of(detector)
    batch = batch_with_padding(np.random.default_rng(6))
    other = batch._replace(views=batch.views.at[6:].set(77.0), labels=batch.labels.at[6:].set(2))
    step = jax.jit(detector.task(4).step)
    (one, loss), (two, same) = (step(learner, b, jax.random.key(1)) for b in (batch, other))
    np.testing.assert_allclose(loss, same, rtol=1e-6)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6),
        one["model_state"],
        two["model_state"],
    )


def test_a_machine_of_fewer_ids_is_what_it_is_alone():
    """To 1e-5: the spare columns of the larger fleet's arrays take no part."""
    rng = np.random.default_rng(7)
    clips = clips_of(("fan", 3), ("pump", 2))
    arrays = [rng.normal(-40, 8, (30, MELS)).astype(np.float32) for _ in clips]
    settings = config(warp=0.2, mix="log")
    settings = dataclasses.replace(settings, seeds=(0,))
    together = fit_table(settings, ArrayFeatures(clips, arrays))
    alone = fit_table(settings, ArrayFeatures(clips[6:], arrays[6:]))
    for section in ("00", "02"):
        np.testing.assert_allclose(
            together.score_features(arrays, machine="pump", section=section),
            alone.score_features(arrays, section=section),
            rtol=1e-5,
        )
    with pytest.raises(UserError, match="pump: section 04 was not fitted; there are 00, 02"):
        together.score_features(arrays, machine="pump", section="04")
    with pytest.raises(UserError, match="several sections of fan"):
        together.score_features(arrays, machine="fan")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"width": 0}, "detector.width is 0.0; it must be above 0"),
        ({"stages": 9}, "detector.stages is 9; it must be 0 to 7"),
        ({"momentum": 1}, "detector.momentum"),
        ({"frames": 0}, "detector.frames"),
        ({"hop": 0}, "detector.hop"),
        ({"margin": 4}, "detector.margin"),
        ({"scale": 0}, "detector.scale"),
        ({"warp": 1}, "detector.warp"),
        ({"resample": "1.1,1.1"}, "detector.resample"),
        ({"resample": "1.0"}, "detector.resample"),
        ({"score": "cosine"}, "detector.score=cosine needs detector.head=arcface"),
        ({"mix": "dB"}, "must be one of none, power, log, both"),
    ],
)
def test_settings_that_make_no_sense(settings, message):
    with pytest.raises(UserError, match=message) as error:
        config(**settings)
    assert "\n" not in str(error.value)
