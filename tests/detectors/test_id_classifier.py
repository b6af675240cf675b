"""The classifier of machine ids: labels, losses, scores, and machines of different size."""

import functools
import sys

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import log_softmax, rel_entr, softmax
from tasks import drawn

import asd_jax
from asd_jax.config import load_config
from asd_jax.data.clips import Clip
from asd_jax.detectors import id_classifier, make_detector
from asd_jax.errors import UserError
from asd_jax.features.table import ArrayFeatures, ClipInput
from asd_jax.fitting.layout import lay_out, with_perturbed
from asd_jax.models import MobileNetV2
from asd_jax.models.layers.batch_norm import BatchNorm
from asd_jax.training import Batch, TrainingStatistics, variables
from asd_jax.training.task import count_values
from asd_jax.training.windows import training_statistics

MELS = 8
SMALL = {
    "front_end.n_mels": str(MELS),
    "detector.frames": "16",
    "detector.hop": "4",
    "detector.momentum": "0.5",
    "train.epochs": "2",
    "train.batch_size": "8",
    "seeds": "0,1",
}


class SmallNetwork(nn.Module):
    """One layer and one normalisation, with the options of MobileNetV2, in its place.

    What is tested here is what is before and after a network; its own tests are in `models`.
    """

    width: float = 1.0
    momentum: float = 0.999
    stages: tuple = MobileNetV2.stages
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x, train=False, mask=None):
        rows = x.reshape(*x.shape[:2], 1, -1)  # (batch, frames, 1, mels · 3)
        rows = BatchNorm(self.momentum, 1e-3)(nn.Dense(12, use_bias=False)(rows), train, mask)
        return nn.relu(rows).mean(axis=(1, 2))


@pytest.fixture
def small_network(monkeypatch):
    monkeypatch.setitem(id_classifier._NETWORKS, "mobilenet_v2", SmallNetwork)


with_small_network = pytest.mark.usefixtures("small_network")


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


ONES = np.ones(MELS, np.float32)
STATISTICS = TrainingStatistics(-40 * ONES, 8 * ONES, 0 * ONES, ONES, np.int32(3))


class Programs:
    """A detector and its compiled parts; most models have three labels in a fleet of four.

    `augmented` gives the images of a step, their logits, the loss and the state after it; nothing
    of these needs the gradient, which XLA leaves out.
    """

    def __init__(self, settings, of_fleet):
        self.detector = detector = make_detector(config(**settings))
        task = detector.task(of_fleet)

        def augmented(learner, batch, key):
            weights = variables(learner)
            images, partners, own = detector._augment(weights, batch, key)
            embeddings, _ = detector._embed(weights, images.views, batch.mask)
            logits = detector._logits(weights, embeddings)
            stepped, loss = task.step(learner, batch, key)
            return (images, partners, own), logits, loss, stepped["model_state"]

        compiled = jax.jit(augmented)
        self.augmented = lambda *arguments: jax.device_get(compiled(*arguments))
        self.init, self.step = jax.jit(task.init), jax.jit(task.step)
        self.score = jax.jit(detector.score)
        self.learner = drawn(task, STATISTICS)


@functools.cache
def programs(*, of_fleet=4, **settings):
    """Compiled once for all tests that use the same settings."""
    return Programs(settings, of_fleet)


def batch_with_padding(rng):
    views = rng.normal(-40, 8, (8, 16, MELS)).astype(np.float32)
    labels = np.array([0, 1, 2, 0, 1, 2, 0, 0], np.int32)
    return Batch(views, labels, np.arange(8) < 6)


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
    features = ArrayFeatures(clips, [np.zeros((20, MELS))] * 10)
    # Each model knows its own number: two seeds of either machine.
    assert training_statistics(features, layout.fleet).n_labels.tolist() == [3, 3, 2, 2]


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


@with_small_network
def test_one_id_needs_warps_or_speeds():
    clips = [np.random.default_rng(0).normal(size=(20, MELS))] * 4
    with pytest.raises(UserError, match="only one id, 00, and a classifier needs two") as error:
        asd_jax.fit(config(), clips)
    assert "\n" not in str(error.value)
    one_id = clips_of(("fan", 1))
    assert lay_out(make_detector(config(warp=0.3)), one_id, np.full(2, 20)).n_labels == 1


@with_small_network
@pytest.mark.parametrize("score", ["probability", "log_odds", "cosine"])
def test_a_clip_s_score_equals_a_direct_computation(score):
    """To 1e-4 relative: float32; the padding has values that would show."""
    head = "arcface" if score == "cosine" else "softmax"
    made = programs(score=score, head=head, warp=0.3)
    detector = made.detector
    weights = jax.device_get(variables(made.learner))
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
    found = made.score(weights, {}, ClipInput(clip, 30, 2))
    np.testing.assert_allclose(found, expected.mean(), rtol=1e-4, atol=1e-6)
    # The other ids would have other scores.
    assert abs(found - made.score(weights, {}, ClipInput(clip, 30, 1))) > 1e-3


@with_small_network
def test_log_odds_have_the_baseline_s_floor():
    """To 1e-6 relative, float32: by the logits alone, as every image has the same.

    Of two classes with the logits 0 and b, log(1 − p) − log(p) is b for the first; beyond
    52 log 2, one of the probabilities is below 2^-52.
    """
    made = programs(score="log_odds", of_fleet=2)
    weights = jax.device_get(variables(made.learner))
    clip = ClipInput(np.zeros((16, MELS), np.float32), 16, 0)
    largest = 52 * np.log(2)
    for bias, expected in ((0, 0), (20, 20), (36, 36), (37, largest), (500, largest)):
        for sign in (1, -1):
            head = {**weights["params"]["head"], "bias": np.array([0, sign * bias], np.float32)}
            head["kernel"] = 0 * head["kernel"]
            labels = {"count": np.int32(2)}
            moved = {**weights, "params": {**weights["params"], "head": head}, "labels": labels}
            found = made.score(moved, {}, clip)
            np.testing.assert_allclose(found, sign * expected, rtol=1e-6)
            # As the baseline's program writes it, but for the rounding of 1 − p.
            p, rest = (1 / (1 + np.exp(np.float64(s * bias))) for s in (sign, -sign))
            eps = sys.float_info.epsilon
            written = np.log(max(rest, eps)) - np.log(max(p, eps))
            np.testing.assert_allclose(found, written, rtol=1e-6, atol=1e-12)


@with_small_network
@pytest.mark.parametrize("mix", ["none", "power", "both"])
def test_the_loss_is_the_divergence_from_the_proportions(mix):
    """To 1e-4 relative: float32 against SciPy's relative entropy in float64."""
    made = programs(mix=mix, warp=0.3)
    batch, key = batch_with_padding(np.random.default_rng(2)), jax.random.key(3)
    (images, partners, own), logits, loss, _ = made.augmented(made.learner, batch, key)
    q = logits.astype(np.float64)[:, :6]
    labels, rows = images.labels, np.arange(8)
    target = np.zeros((8, 6))
    np.add.at(target, (rows, labels), np.float64(own))
    np.add.at(target, (rows, labels[partners]), 1 - np.float64(own))
    expected = rel_entr(target, softmax(q, axis=1)).sum(axis=1)[:6].mean()
    np.testing.assert_allclose(loss, expected, rtol=1e-4)
    if mix == "none":
        np.testing.assert_array_equal(own, 1)
    else:
        mixed = own[:6] < 1
        assert 0 < mixed.sum() < 6
        assert set(partners[:6]) <= set(range(6))


@with_small_network
def test_arcface_s_loss_is_the_cross_entropy_with_a_margin():
    """To 1e-4 relative, as above."""
    made = programs(head="arcface", margin=0.4, scale=12)
    batch = batch_with_padding(np.random.default_rng(4))
    _, scaled, loss, _ = made.augmented(made.learner, batch, jax.random.key(0))
    cosines, rows = scaled.astype(np.float64)[:, :3] / 12, np.arange(8)
    own = np.arccos(cosines[rows, batch.labels])
    cosines[rows, batch.labels] = np.cos(own + 0.4)
    logs = log_softmax(12 * cosines, axis=1)
    expected = -logs[rows, batch.labels][:6].mean()
    np.testing.assert_allclose(loss, expected, rtol=1e-4)


@with_small_network
def test_warped_images_are_classes_after_the_model_s_own():
    made = programs(mix="none", warp=0.3)
    batch = batch_with_padding(np.random.default_rng(5))
    (found, _, _), *_ = made.augmented(made.learner, batch, jax.random.key(1))
    warped = found.labels != batch.labels
    assert 0 < warped.sum() < 8
    np.testing.assert_array_equal(found.labels - batch.labels, np.where(warped, 3, 0))
    changed = (found.views != batch.views).any(axis=(1, 2))
    np.testing.assert_array_equal(changed, warped)
    (other, _, _), *_ = made.augmented(made.learner, batch, jax.random.key(2))
    assert (other.views != found.views).any()


@with_small_network
def test_rows_that_fill_a_batch_change_nothing():
    """To 1e-5: sums over other numbers of zeros may group otherwise."""
    made = programs(mix="power", warp=0.3)
    batch = batch_with_padding(np.random.default_rng(6))
    other = batch._replace(
        views=np.where(batch.mask[:, None, None], batch.views, np.float32(77)),
        labels=np.where(batch.mask, batch.labels, 2),
    )
    (*_, loss, one), (*_, same, two) = (
        made.augmented(made.learner, each, jax.random.key(1)) for each in (batch, other)
    )
    np.testing.assert_allclose(loss, same, rtol=1e-6)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), one, two)


@pytest.mark.slow
@with_small_network
def test_a_machine_of_fewer_ids_is_what_it_is_alone():
    """To 1e-5: the spare columns of the larger fleet's arrays take no part."""
    together, alone = (programs(of_fleet=n, mix="none", warp=0.3) for n in (4, 3))
    rng, key = np.random.default_rng(7), jax.random.key(0)
    clip = ClipInput(rng.normal(-40, 8, (40, MELS)).astype(np.float32), 40, 2)
    learners = [made.init(key, STATISTICS) for made in (together, alone)]
    for turn in range(4):
        spare, kernel = (np.asarray(each["params"]["head"]["kernel"]) for each in learners)
        assert (spare.shape[1], kernel.shape[1]) == (8, 6)
        np.testing.assert_allclose(spare[:, :6], kernel, rtol=1e-5, atol=1e-7)
        found, expected = (
            float(made.score(variables(learner), {}, clip))
            for made, learner in zip((together, alone), learners, strict=True)
        )
        assert found == pytest.approx(expected, rel=1e-5)
        batch = batch_with_padding(rng)
        steps = [
            made.step(learner, batch, jax.random.key(turn))
            for made, learner in zip((together, alone), learners, strict=True)
        ]
        learners = [learner for learner, _ in steps]
        assert float(steps[0][1]) == pytest.approx(float(steps[1][1]), rel=1e-5)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"width": 0}, "detector.width is 0.0; it must be above 0"),
        ({"stages": 9}, r"detector.stages is 9; it must be 0 \(all\) or more, at most 7"),
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
