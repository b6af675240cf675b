"""The joint classifier of machine ids: what it is trained on, and what its scores are."""

import dataclasses
from typing import Any

import jax
import numpy as np
import pytest
from fits import fit_table, layout_of, trained_before
from tasks import batch_of, drawn, standard

import asd_jax
from asd_jax.config import BackendConfig, load_config
from asd_jax.data.clips import Clip
from asd_jax.detectors import make_detector
from asd_jax.detectors.base import TrainingClips
from asd_jax.detectors.tastgram_mfn import _draw_mix
from asd_jax.errors import UserError
from asd_jax.features.table import ArrayFeatures, ClipFacts
from asd_jax.fitting.layout import plan_lines, with_held_out
from asd_jax.losses import arcface_logits

RATE, SAMPLES, EPOCHS = 16_000, 8000, 12
SECTIONS = [("fan", "00"), ("fan", "02"), ("pump", "00")]
TONES = {("fan", "00"): 400, ("fan", "02"): 900, ("pump", "00"): 2000}
CLIPS = [section for section in SECTIONS for _ in range(10)]
SMALL = {
    **{"detector.seconds": "0.5", "detector.n_mels": "16", "detector.width": "16"},
    **{"detector.stages": "0", "detector.warm_up": "4", "seeds": "0,"},
    **{"train.epochs": f"{EPOCHS}", "train.patience": f"{EPOCHS}", "train.batch_size": "30"},
    **{"train.learning_rate": "1e-2", "train.validation_split": "0.2"},
}


def small(**settings):
    """The shipped configuration, small, with other settings of the detector."""
    own = {f"detector.{name}": text for name, text in settings.items()}
    return load_config("tastgram_mfn", SMALL | own)


def sounds(sections, seed=0):
    """(clips, samples): the tone of each section, in noise."""
    rng = np.random.default_rng(seed)
    time = np.arange(SAMPLES) / RATE
    tones = np.sin(2 * np.pi * np.array([TONES[each] for each in sections])[:, None] * time)
    return (0.1 * tones + rng.normal(0, 0.02, (len(sections), SAMPLES))).astype(np.float32)


@pytest.fixture(scope="module")
def trained() -> tuple[Any, Any, list[dict[str, Any]]]:
    """A fitted detector, the layout of its clips, and the log of its epochs.

    Its rate stays high, so that the last epoch is not the best one.
    """
    config, log = small(last_rate="1"), []
    config = dataclasses.replace(
        config, train=dataclasses.replace(config.train, learning_rate=0.05)
    )
    clips = [
        Clip(machine, section, "train", f"{i}.wav", "")
        for i, (machine, section) in enumerate(CLIPS)
    ]
    front_end = make_detector(config).front_end
    blocks = [np.asarray(front_end.of_padded(sound)) for sound in sounds(CLIPS)]
    features = ArrayFeatures(clips, blocks)
    fitted = fit_table(config, features, log=log.append)
    return fitted, layout_of(config, features), log


def cross_entropy(fitted, waveforms, labels, margin):
    """By NumPy in float64, from the network's embeddings."""
    detector, weights = fitted.detector, jax.tree.map(lambda leaf: leaf[0], fitted.weights)
    program = jax.jit(lambda weights, x: detector._embed(weights, x, detector._log_mels(x))[0])
    embeddings = np.asarray(program(weights, waveforms), np.float64)
    centres = np.asarray(weights["params"]["centres"], np.float64)
    lengths = np.linalg.norm(embeddings, axis=1)[:, None] * np.linalg.norm(centres, axis=0)
    cosines, rows = embeddings @ centres / lengths, np.arange(len(labels))
    angles = np.arccos(cosines[rows, labels])
    assert (angles + margin < np.pi).all()
    cosines[rows, labels] = np.cos(angles + margin)
    return np.log(np.exp(30 * cosines).sum(axis=1)) - 30 * cosines[rows, labels]


def test_scores_are_cross_entropies_of_the_own_class_with_the_margin(trained):
    """To 1e-3 of values of about 1 to 20: float32, times a scale of 30."""
    fitted, _, _ = trained
    waveforms = sounds([("fan", "02")] * 8, seed=1)
    for label, (machine, section) in enumerate(SECTIONS):
        found = fitted.score(waveforms, RATE, machine=machine, section=section)
        expected = cross_entropy(fitted, waveforms, np.full(8, label), 0.7)
        np.testing.assert_allclose(found, expected, atol=1e-3)


def test_a_sound_of_another_section_scores_higher(trained):
    fitted, _, _ = trained
    own, other = sounds([("fan", "00")] * 8, seed=2), sounds([("fan", "02")] * 8, seed=2)
    scores = [fitted.score(each, RATE, machine="fan", section="00") for each in (own, other)]
    assert scores[0].max() < scores[1].min()


def test_the_epoch_of_the_lowest_validation_loss_is_kept(trained):
    """Its loss is the mean score of the clips held out, with the full margin, in any epoch."""
    fitted, layout, log = trained
    losses = [next(iter(entry["validation_loss"].values())) for entry in log]
    assert len(losses) == EPOCHS and min(losses) < 0.95 * losses[-1]  # it could be another one
    (held,) = layout.fleet.validation
    assert len(held.clips) == 6
    waveforms = sounds(CLIPS)[held.clips]
    scores = [
        fitted.score(waveforms[i : i + 1], RATE, machine=machine, section=section)[0]
        for i, (machine, section) in enumerate(CLIPS[clip] for clip in held.clips)
    ]
    assert np.mean(scores) == pytest.approx(min(losses), rel=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["knn", "mahalanobis"])
def test_its_embedding_serves_the_back_ends(trained, kind):
    """Distances from the clips of the section alone, of the same network."""
    fitted, _, _ = trained
    config = dataclasses.replace(fitted.config, backend=BackendConfig(kind))
    machines, sections = zip(*CLIPS, strict=True)
    with trained_before(fitted.weights):
        by_distance = asd_jax.fit(
            config, waveforms=sounds(CLIPS), sample_rate=RATE, machines=machines, sections=sections
        )
    own, other = (sounds([("fan", name)] * 4, seed=3) for name in ("00", "02"))
    scores = [by_distance.score(each, RATE, machine="fan", section="00") for each in (own, other)]
    assert scores[0].max() < scores[1].min()


def test_the_margin_rises_in_the_first_epochs():
    detector = make_detector(small())
    margins = [float(detector.margin(epoch)) for epoch in (0, 1, 2, 4, 100)]
    np.testing.assert_allclose(margins, [0, 0.175, 0.35, 0.7, 0.7], rtol=1e-6)
    assert float(detector.margin(None)) == pytest.approx(0.7)
    assert float(make_detector(small(warm_up="0")).margin(0)) == pytest.approx(0.7)


@pytest.mark.slow
def test_a_step_has_the_margin_and_the_rate_of_its_epoch_and_no_padding():
    """Without mixing, the loss is ArcFace's; an update is along the cosine, to a tenth."""
    detector = make_detector(small(mix="false"))
    task, rows = detector.task(3), [*range(5, 20), 27]
    statistics = standard()._replace(n_labels=3)
    learner = jax.jit(task.init)(jax.random.key(0), statistics)
    waveforms = sounds(CLIPS)[rows]
    views = np.array(detector.front_end.of_padded(waveforms))
    labels = np.array([SECTIONS.index(CLIPS[row]) for row in rows])
    batch = batch_of(views, labels)._replace(mask=np.arange(16) < 15)
    step = jax.jit(task.step)

    def stepped(epoch, batch=batch):
        return step(learner, batch._replace(epoch=np.int32(epoch)), jax.random.key(1))

    def moved(after):
        change = jax.tree.map(lambda a, b: np.asarray(a - b), after["params"], learner["params"])
        return np.concatenate([leaf.ravel() for leaf in jax.tree.leaves(change)])

    x = waveforms[:15], detector._log_mels(waveforms[:15])
    weights = {"params": learner["params"], **learner["model_state"]}
    embeddings, _ = detector._embed(weights, *x, np.ones(15, bool))
    cosines = detector._cosines(weights, embeddings)
    for epoch, margin in ((0, 0.0), (2, 0.35), (EPOCHS, 0.7)):
        logits = arcface_logits(cosines, labels[:15], margin=margin, scale=30.0)
        expected = -jax.nn.log_softmax(logits)[np.arange(15), labels[:15]].mean()
        assert float(stepped(epoch)[1]) == pytest.approx(float(expected), rel=1e-4)
    # By AdamW's first step, of a size that does not depend on the gradient's.
    first, last = moved(stepped(EPOCHS // 2)[0]), moved(stepped(EPOCHS)[0])
    np.testing.assert_allclose(np.abs(last).mean() / np.abs(first).mean(), 0.1 / 0.55, rtol=1e-3)

    views[15] = views[0][::-1] // 2
    other = stepped(2, batch._replace(views=views, labels=np.append(labels[:15], 0)))
    jax.tree.map(np.testing.assert_array_equal, other, stepped(2))


def test_proportions_are_those_of_the_arcsine_law_and_partners_are_others():
    """Beta(1/2, 1/2) has mean 1/2 and variance 1/8, and a third of it is below 1/4."""
    mask = np.arange(6) < 5
    keys = jax.random.split(jax.random.key(0), 4000)
    partners, shares = jax.jit(jax.vmap(lambda key: _draw_mix(key, mask)))(keys)
    assert shares.shape == (4000,)
    moments = [shares.mean(), shares.var(), (shares < 0.25).mean()]
    np.testing.assert_allclose(moments, [1 / 2, 1 / 8, 1 / 3], atol=0.02)
    assert (np.asarray(partners)[:, :5] != np.arange(5)).all()
    assert (np.asarray(partners)[:, 5] == 5).all()


def test_a_section_of_several_classes_has_the_smallest_cross_entropy():
    """Numbers of classes are those of its clips; a section with fewer is padded with NaN."""
    detector = make_detector(small(classes="machine,section,attributes"))
    clips = TrainingClips([None] * 4, None, labels=np.array([2, 4, 2, 4], np.int32))
    calibration = detector.calibrate(clips)
    assert calibration["classes"].tolist() == [2, 4]
    padded = {"classes": np.array([3, np.nan], np.float32)}
    pooled = np.array([0.0, 1.0, 7.0, 9.0, 5.0], np.float32)
    scores = [
        float(detector.score_pooled(each, pooled, ClipFacts())) for each in (calibration, padded)
    ]
    assert scores == [5.0, 9.0]
    assert np.isnan(detector.score_pooled(padded, pooled * np.nan, ClipFacts()))


def test_one_class_is_refused_in_one_line():
    with pytest.raises(UserError) as refused:
        asd_jax.fit(small(), waveforms=sounds([("fan", "00")] * 3), sample_rate=RATE)
    assert str(refused.value).startswith(
        "all training clips are of one class (machine 00), and a network that tells classes apart "
        "needs two: give recordings of more machines, sections or settings, or tell more apart"
    )


def test_the_plan_names_the_classes():
    clips = [
        Clip(machine, section, "train", f"{i}", "") for i, (machine, section) in enumerate(CLIPS)
    ]
    detector = make_detector(small())
    assert plan_lines(detector, with_held_out(detector, clips)) == [
        "classes  3, by machine and section, of 9 clips",
        "  fan   2 in 2 sections, of 9 clips",
        "  pump  1 in 1 section, of 9 clips",
        "hears 0.5 s of a recording; a shorter one is repeated",
        "thresholds by 1 clip of each section, held out from training",
    ]


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("seconds", "0.1", "detector.seconds is 0.1; a frame of 2048 samples needs 0.128"),
        ("classes", "machine,id", "it must be some of machine,section,attributes,domain"),
        ("margin", "4", "detector.margin is 4.0; it must be 0 or more, below π"),
        ("stages", "4", "detector.stages is 4; it must be 0 or more, at most 3"),
    ],
)
def test_settings_out_of_range_are_one_line(name, value, message):
    with pytest.raises(UserError, match=message):
        make_detector(small(**{name: value}))


def test_noise_has_no_loss_in_training_nor_in_validation():
    """The losses are those of the other clips, and 0 of a batch of noise alone."""
    detector = make_detector(small(noise="mix"))
    task = detector.task(3)
    learner = drawn(task, standard(501))
    blocks = [np.asarray(detector.front_end.of_padded(each)) for each in sounds(CLIPS[:4])]
    views = np.stack([each[: detector.views.length] for each in blocks])
    loss, step = jax.jit(task.loss), jax.jit(task.step)
    whole = batch_of(views, [0, 1, 2, 2])
    others = whole._replace(mask=np.array([True, True, False, False]))
    assert float(loss(learner, whole)) == pytest.approx(float(loss(learner, others)), rel=1e-5)
    noise = batch_of(views, [2, 2, 2, 2])
    assert float(loss(learner, noise)) == 0
    for batch in (whole, noise):
        learned, value = step(learner, batch, jax.random.key(0))
        assert np.isfinite(value)
        assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(learned))
