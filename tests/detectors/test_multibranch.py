"""The joint network: what it is trained to tell apart, and how clips are compared behind it."""

import dataclasses

import jax
import numpy as np
import pytest
import soundfile
from fits import trained_before
from sklearn.neighbors import NearestNeighbors
from tasks import batch_of, drawn, standard

import asd_jax
from asd_jax.config import load_config
from asd_jax.data.clips import Clip, ClipTable
from asd_jax.data.supplemental import supplemental_clips
from asd_jax.detectors import make_detector
from asd_jax.detectors.classes import PSEUDO
from asd_jax.errors import UserError
from asd_jax.features.table import ArrayFeatures, ClipInput
from asd_jax.fitting.layout import lay_out
from asd_jax.fitting.pooled import take
from asd_jax.runs.clips import choose_clips, find_chosen

RATE = 16_000
SMALL = {
    "detector.seconds": "1.25",
    "detector.spectrum": "false",
    "detector.n_ffts": "1024,",
    "detector.width": "8",
    "train.epochs": "2",
    "train.batch_size": "8",
    "train.learning_rate": "0.003",
    "seeds": "0,1",
}
CONFIG = load_config("multibranch", SMALL)
HZ = {"fan": (400, 700), "pump": (1500, 2500)}


def sound(hz, seed, samples=20_000):
    """A tone in noise."""
    noise = np.random.default_rng(seed).normal(0, 0.02, samples)
    return (noise + 0.1 * np.sin(2 * np.pi * hz * np.arange(samples) / RATE)).astype(np.float32)


MACHINES = ["fan"] * 8 + ["pump"] * 8
SPEEDS = [i % 2 for i in range(16)]
# Some clips are shorter than what the network hears, and are repeated.
WAVEFORMS = [
    sound(HZ[machine][speed], i, 20_000 if i % 3 else 9_000)
    for i, (machine, speed) in enumerate(zip(MACHINES, SPEEDS, strict=True))
]
KNOWN = {
    "machines": MACHINES,
    "sections": ["00", "00", "01", "01"] * 4,
    "domains": ["target" if i % 8 < 3 else "source" for i in range(16)],
}
ATTRIBUTES = [{"speed": speed} for speed in SPEEDS]


def fit(config, **changes):
    known = {**KNOWN, "attributes": ATTRIBUTES, **changes}
    return asd_jax.fit(config, waveforms=WAVEFORMS, sample_rate=RATE, **known)


@pytest.fixture(scope="module")
def fitted():
    return fit(CONFIG)


def embeddings_of(fitted, seed, waveforms):
    """(clips, values) by the network of a seed, clip by clip."""
    detector, weights = fitted.detector, take(fitted.weights, fitted.seeds.index(seed))

    @jax.jit
    def embed(blocks):
        return detector.embed(weights, ClipInput(blocks, len(blocks))).value

    blocks = [np.asarray(detector.front_end.of_padded(each)) for each in waveforms]
    length = detector.views.length
    return np.stack([embed(np.resize(each, (length, each.shape[1]))) for each in blocks])


def test_one_network_a_seed_serves_all_machines(fitted):
    assert [model.name for model in fitted.models] == [
        f"{machine} seed {seed}" for machine in ("fan", "pump") for seed in (0, 1)
    ]
    assert {len(leaf) for leaf in jax.tree.leaves(fitted.weights)} == {2}
    assert fitted.networks_of([0, 1, 2, 3]) == [0, 1, 0, 1]
    # Classes by machine, section, speed and domain.
    assert fitted.weights["params"]["centres"].shape == (2, 8, 14, 16)


@pytest.mark.parametrize("machine", ["fan", "pump"])
def test_a_score_is_the_distance_from_the_nearest_clip_of_its_machine(fitted, machine):
    """As scikit-learn's, of source and target clips.

    To 1e-3: the nearest are 1e-3 apart, by embeddings that other batches round by 1e-7.
    """
    plain = dataclasses.replace(
        CONFIG, detector=dataclasses.replace(CONFIG.detector, oversampling="none")
    )
    with trained_before(fitted.weights):
        without = fit(plain)
    new = np.stack([sound(hz, 100 + hz) for hz in (400, 1500, 3000)])
    own = [i for i, each in enumerate(MACHINES) if each == machine]
    for seed in (0, 1):
        bank = embeddings_of(fitted, seed, [WAVEFORMS[i] for i in own])
        queries = embeddings_of(fitted, seed, new)
        nearest = NearestNeighbors(n_neighbors=1, metric="cosine").fit(bank.astype(np.float64))
        expected = nearest.kneighbors(queries.astype(np.float64))[0][:, 0]
        found = without.score(new, RATE, machine=machine, seed=seed)
        np.testing.assert_allclose(found, expected, rtol=1e-3)
        # More target clips, between others, can only be nearer.
        assert (fitted.score(new, RATE, machine=machine, seed=seed) <= found * 1.001).all()


def test_sections_apart_have_banks_of_their_own(fitted):
    settings = dataclasses.replace(CONFIG.detector, sections="apart")
    with trained_before(fitted.weights):
        apart = fit(dataclasses.replace(CONFIG, detector=settings))
    assert len(apart.models) == 8
    assert apart.sections_of("fan") == ("00", "01") and fitted.sections_of("fan") is None
    new = sound(400, 5)
    of_sections = [apart.score(new, RATE, machine="fan", section=each) for each in ("00", "01")]
    assert of_sections[0] != of_sections[1]


@pytest.mark.parametrize("kind", ["knn", "mahalanobis"])
def test_another_back_end_has_scores_of_its_own(fitted, kind):
    backend = dataclasses.replace(CONFIG.backend, kind=kind)
    with trained_before(fitted.weights):
        other = fit(dataclasses.replace(CONFIG, backend=backend))
    new = np.stack([sound(hz, 50 + hz) for hz in (400, 3000)])
    scores = other.score(new, RATE, machine="fan")
    assert np.isfinite(other.threshold(machine="fan")) and scores[1] > scores[0]
    if kind == "mahalanobis":
        assert (scores != fitted.score(new, RATE, machine="fan")).all()


def test_a_long_recording_is_heard_to_its_end(fitted):
    usual = np.concatenate([sound(400, seed) for seed in range(5)])
    late = usual.copy()
    late[-20_000:] += sound(3300, 9)
    assert fitted.score(late, RATE, machine="fan") != fitted.score(usual, RATE, machine="fan")


def clips_of(attributes=(), count=12):
    return [Clip("fan", "00", "train", f"{i}", "", attributes=attributes) for i in range(count)]


def test_sections_without_attributes_get_classes_by_their_sound():
    """Two tones are two clusters; a section that has attributes keeps them."""
    detector = make_detector(load_config("multibranch", {**SMALL, "detector.pseudo_classes": "2"}))
    known = dataclasses.replace(clips_of((("speed", "1"),), 1)[0], section="01")
    sounds = [sound(hz, i) for i, hz in enumerate([400, 400, 900, 400, 900, 900, 400, 400])]
    blocks = [np.asarray(detector.front_end.of_padded(each)) for each in sounds]
    features = ArrayFeatures([*clips_of(count=7), known], blocks)
    labelled = detector.labelled(features).clips
    found = [dict(clip.attributes).get(PSEUDO) for clip in labelled]
    assert found[7] is None and labelled[7].attributes == known.attributes
    (low,), (high,) = {found[i] for i in (0, 1, 3, 6)}, {found[i] for i in (2, 4, 5)}
    assert {low, high} == {"00", "01"}
    _, labels = detector.examples(np.arange(8), labelled, 0)
    assert len(set(labels.tolist())) == 3


def test_the_classes_are_shown_with_what_is_little_to_learn_from():
    detector = make_detector(CONFIG)
    clips = clips_of((("speed", "1"),), 10) + clips_of((("speed", "2"),), 3)
    pumps = [dataclasses.replace(clip, machine="pump") for clip in clips_of(count=6)]
    lines = detector.plan([*clips, *pumps])
    assert lines[0] == "classes  3, by machine, section, attributes and domain, of 3 to 10 clips"
    assert lines[1:3] == [
        "  fan   2 in 1 section, of 3 to 10 clips",
        "  pump  1 in 1 section, of 6 clips",
    ]
    assert "1 section without attributes, first pump 00: a class each" in lines[3]
    assert lines[4].endswith("too few to learn much from, first fan 00 speed=2")
    assert lines[5] == "hears 1.25 s of a recording; a shorter one is repeated"


def test_one_class_is_refused_unless_more_are_made():
    with pytest.raises(UserError, match=r"all training clips are of one class \(fan 00\)"):
        make_detector(CONFIG).examples(np.arange(12), clips_of(), 0)
    pseudo = load_config("multibranch", {**SMALL, "detector.pseudo_classes": "4"})
    make_detector(pseudo).examples(np.arange(12), clips_of(), 0)


NAMES = {
    "train": "section_00_source_train_normal_{:04}_spd_1.wav",
    "test": "section_00_source_test_normal_{:04}_spd_1.wav",
    "supplemental": "section_00_noise_{:04}.wav",
}


@pytest.fixture(scope="module")
def data_of_2025(tmp_path_factory):
    """Two machines with supplemental clips: of noise, and one without it."""
    root = tmp_path_factory.mktemp("data")
    for machine in ("bearing", "fan"):
        for split, name in NAMES.items():
            folder = root / "dev_data" / machine / split
            folder.mkdir(parents=True)
            for i in range(3):
                soundfile.write(folder / name.format(i), sound(500, i), RATE)
    soundfile.write(folder / "section_00_clean_0000.wav", sound(500, 9), RATE)
    return root


@pytest.mark.parametrize(
    ("noise", "labels"),
    [
        ("none", [0, 0, 0, 1, 1, 1]),
        ("mix", [0, 0, 0, 1, 1, 1, *[2] * 6]),
        # The bearing's noise, the fan's clip without noise, the fan's noise.
        ("class", [0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 4, 4, 4]),
    ],
)
def test_supplemental_clips_are_mixed_in_or_told_apart(data_of_2025, noise, labels):
    detector = make_detector(load_config("multibranch", {**SMALL, "detector.noise": noise}))
    clips = find_chosen(detector, data_of_2025, lambda line: None, "stop")
    assert clips.distinct("year") == [2025]
    rows, found = detector.examples(np.flatnonzero(clips.where(split="train")), clips, 0)
    order = np.argsort(found, kind="stable")
    assert found[order].tolist() == labels
    supplemental = clips[rows[order]].where(split="supplemental")
    assert supplemental.tolist() == [label > 1 for label in labels]
    if noise != "none":
        (line,) = [line for line in detector.plan(clips) if "supplemental" in line]
        what = {"mix": "are mixed with others; 1 others are not", "class": "have classes of their"}
        assert line.startswith(f"6 supplemental clips of noise {what[noise]}")


def test_the_other_set_s_training_clips_are_learned_from_as_well():
    """As classes of the network; what is scored are the machines of the set that is run."""
    dev = clips_of(count=4)
    test = [dataclasses.replace(clip, split="test", label=0) for clip in dev]
    more = [
        dataclasses.replace(clip, machine=machine, section=section, subset="eval")
        for clip in dev
        for machine, section in (("fan", "01"), ("pump", "00"))
    ]
    for both, count in (("true", 3), ("false", None)):
        settings = {**SMALL, "data.subset": "dev", "detector.both_sets": both}
        detector, lines = make_detector(load_config("multibranch", settings)), []
        if count is None:
            with pytest.raises(UserError, match="all training clips are of one class"):
                choose_clips(detector, [*dev, *test, *more], lines.append)
            continue
        clips = choose_clips(detector, [*dev, *test, *more], lines.append)
        assert len(lines) == 1 and lines[0].startswith("8 training clips of the eval set are")
        layout = lay_out(detector, clips, np.full(len(clips), 40))
        assert layout.n_labels == count
        assert [model.machine for model in layout.models] == ["fan", "fan"]
        assert [len(rows) for rows in layout.groups.values()] == [4]
        assert len(layout.fleet.training[0].clips) == 12
    other_year = [dataclasses.replace(clip, year=2024) for clip in more]
    pumps = load_config("multibranch", {**SMALL, "data.machines": "pump,fan"})
    fans = load_config("multibranch", {**SMALL, "data.machines": "fan"})
    pump = dataclasses.replace(dev[0], machine="pump")
    for config, others, machines in (
        (pumps, more, ["fan", "pump"]),
        (fans, more, ["fan"]),
        (pumps, other_year, []),
    ):
        clips = choose_clips(make_detector(config), [*dev, pump, *test, *others], str)
        assert clips[clips.where(split="other")].distinct("machine") == machines


def test_a_run_without_training_clips_is_one_line():
    """Those of the other set have no machine that is scored."""
    more = [dataclasses.replace(clip, machine="pump", subset="eval") for clip in clips_of()]
    test = [dataclasses.replace(clip, split="test", label=0) for clip in clips_of()]
    settings = {**SMALL, "data.subset": "dev"}
    with pytest.raises(UserError, match="no machine has training clips"):
        choose_clips(make_detector(load_config("multibranch", settings)), [*test, *more], str)


def test_supplemental_clips_are_found_where_test_clips_lie_elsewhere():
    train = [dataclasses.replace(clip, path=f"eval_a/fan/train/{clip.name}") for clip in clips_of()]
    test = [
        dataclasses.replace(clip, path=f"eval_b/fan/test/{clip.name}", split="test")
        for clip in clips_of()
    ]
    paths = ["eval_a/fan/supplemental/section_03_noise.wav", "eval_a/pump/supplemental/x.wav"]
    (found,) = supplemental_clips(paths, ClipTable.of([*test, *train]))
    assert (found.machine, found.section, found.split) == ("fan", "03", "supplemental")


def test_noise_that_is_not_there_is_one_line(data_of_2025):
    settings = {**SMALL, "detector.noise": "mix"}
    with pytest.raises(UserError, match="have no supplemental clips"):
        make_detector(load_config("multibranch", settings)).examples(
            np.arange(13), [*clips_of(), dataclasses.replace(clips_of()[0], machine="pump")], 0
        )
    named = make_detector(load_config("multibranch", {**settings, "detector.noise_names": "hiss"}))
    with pytest.raises(UserError, match="no supplemental clip has 'hiss' in its name, as section_"):
        find_chosen(named, data_of_2025, lambda line: None, "stop")
    with pytest.raises(UserError, match="which is no regular expression"):
        load_config("multibranch", {**settings, "detector.noise_names": "("})


def test_noise_in_the_step_is_no_class_of_its_own():
    """The loss is of the other clips alone; a batch of noise has none, and no NaN."""
    detector = make_detector(load_config("multibranch", {**SMALL, "detector.noise": "mix"}))
    task = detector.task(3)
    learner = drawn(task, standard(501))
    assert learner["params"]["centres"].shape == (8, 2, 16)
    sounds = [sound(hz, i) for i, hz in enumerate((400, 900, 3000, 3000))]
    views = np.stack([np.asarray(detector.front_end.of_padded(each)) for each in sounds])
    step = jax.jit(task.step)

    def after(labels):
        learned, loss = step(learner, batch_of(views, labels), jax.random.key(0))
        assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(learned))
        return float(loss)

    assert after([0, 1, 2, 2]) > 0
    assert after([2, 2, 2, 2]) == 0


def test_the_length_is_that_of_the_challenge_s_year():
    detector = make_detector(load_config("multibranch"))
    for year, seconds in ((2020, 11), (2022, 10), (2023, 18), (2024, 12), (0, 10)):
        clips = ClipTable.of([dataclasses.replace(clips_of()[0], year=year)])
        views = detector.settled(clips).views
        assert views.length * 500 == seconds * RATE
    of_two_years = [dataclasses.replace(clips_of()[0], year=year) for year in (2020, 2023)]
    assert detector.settled(of_two_years).views.length * 500 == 10 * RATE
    named = make_detector(CONFIG)
    assert named.settled(of_two_years) is named


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"detector.seconds": "2", "detector.spectrum": "true"}, "the branch of spectrum needs 4."),
        ({"detector.seconds": "1"}, "the branch of n_ffts 1024 needs 1.12 at 16000 Hz"),
        ({"detector.n_ffts": "1000,"}, "different powers of two"),
        ({"detector.n_ffts": "64,"}, "32 frequencies are from 200 to 8000 Hz"),
        ({"detector.classes": "machine,id"}, "some of machine,section,attributes,domain"),
        ({"detector.pseudo_classes": "1"}, "0 .off., or 2 or more"),
        ({"detector.exchange": "0.5"}, "needs two branches"),
        ({"detector.classes": "machine,section", "detector.pseudo_classes": "4"}, "has no effect"),
        (
            {"detector.fmin": "5000", "front_end.sample_rate": "8000", "detector.seconds": "3"},
            "0 frequencies are from 5000 to 8000 Hz at 8000 Hz",
        ),
        ({"detector.seconds": "inf"}, "detector.seconds is inf; it must be 0"),
        ({"backend": "knn", "detector.normalisation": "ldn"}, "has no effect: backend is knn"),
        ({"front_end.n_mels": "64"}, "front_end.n_mels is 64, which has no effect"),
        ({"detector.normalisation": "ldn", "detector.neighbours": "2"}, "has no effect"),
    ],
)
def test_settings_that_cannot_be_are_one_line(settings, message):
    with pytest.raises(UserError, match=message):
        make_detector(load_config("multibranch", {**SMALL, **settings}))


def test_other_arguments_are_one_line(fitted):
    with pytest.raises(UserError, match="hears waveforms, not features: give waveforms="):
        asd_jax.fit(CONFIG, [np.zeros((40, 128))] * 4)
    with pytest.raises(UserError, match="hears waveforms, not features; use `score`"):
        fitted.score_features([np.zeros((40, 501))], machine="fan")
    with pytest.raises(UserError, match="give either features, or waveforms"):
        asd_jax.fit(CONFIG)
    with pytest.raises(UserError, match="need their sample_rate"):
        asd_jax.fit(CONFIG, waveforms=WAVEFORMS)
    with pytest.raises(UserError, match=r"waveforms\[1\]: too short: 0.1 s have 3 frames where 4"):
        asd_jax.fit(CONFIG, waveforms=[WAVEFORMS[0], WAVEFORMS[1][:1600]], sample_rate=RATE)
    with pytest.raises(UserError, match=r"waveforms\[0\] has shape \(2, 20000\)"):
        asd_jax.fit(CONFIG, waveforms=[np.zeros((2, 20_000))] * 2, sample_rate=RATE)
    with pytest.raises(UserError, match="16 clips, but 3 machines"):
        fit(CONFIG, machines=["fan"] * 3)
    with pytest.raises(UserError, match="a clip's attributes is 3 .int."):
        fit(CONFIG, attributes=[3] * 16)
    with pytest.raises(UserError, match="too short: 0.1 s have 3 frames where 4 are needed"):
        fitted.score(np.zeros(1600, np.float32), RATE, machine="fan")
    with pytest.raises(UserError, match="gives a score without an explanation"):
        fitted.explain(WAVEFORMS[1], RATE, machine="fan")


@pytest.mark.slow
def test_all_options_of_direct_act_train(fitted):
    """Subspaces, exchanged parts and dynamic scales, which are what each step makes of the last."""
    small = {
        "detector.seconds": "4.5",
        "detector.width": "8",
        "detector.values": "8",
        "detector.sub_centres": "2",
        "train.epochs": "3",
        "train.batch_size": "8",
        "seeds": "0,",
    }
    direct = fit(load_config("direct_act", small))
    scales = direct.weights["scales"]
    assert {*scales} == {"centres", "exchanged"} and np.isfinite(scales["centres"]).all()
    first = direct.detector._first_scale(8)
    assert scales["centres"] != first
    # 8 classes without domains, fixed; three blocks of them for exchanged parts, learned.
    assert direct.weights["fixed"]["centres"].shape == (1, 8, 2, 16)
    assert direct.weights["params"]["exchanged"].shape == (1, 24, 2, 16)
    scores = direct.score(np.stack([sound(400, 50), sound(3300, 51)]), RATE, machine="fan")
    assert np.isfinite(scores).all() and scores[1] > scores[0]
