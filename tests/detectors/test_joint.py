"""What joint networks learn from: classes, supplemental clips, the other set, a length."""

import dataclasses

import jax
import numpy as np
import pytest
import soundfile
from tasks import batch_of, drawn, standard
from tones import RATE, sound

from asd_jax.config import load_config
from asd_jax.data.clips import HELD_OUT, Clip, ClipTable
from asd_jax.data.groups import PSEUDO, hold_out
from asd_jax.data.supplemental import supplemental_clips
from asd_jax.detectors import make_detector
from asd_jax.detectors.classes import find_classes
from asd_jax.errors import UserError
from asd_jax.features.table import ArrayFeatures
from asd_jax.fitting.layout import lay_out, plan_lines, with_held_out
from asd_jax.runs.clips import choose_clips, find_chosen

SMALL = {
    "detector.seconds": "1.25",
    "detector.spectrum": "false",
    "detector.n_ffts": "1024,",
    "detector.width": "8",
    "seeds": "0,1",
}
CONFIG = load_config("multibranch", SMALL)


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
    assert len(lines) == 6
    lines = plan_lines(detector, with_held_out(detector, [*clips, *pumps]))
    assert lines[6:] == ["thresholds by 1 clip of each machine, held out from training"]
    none = {**SMALL, "train.threshold_split": "0", "detector.sections": "apart"}
    detector = make_detector(load_config("multibranch", none))
    (line,) = plan_lines(detector, with_held_out(detector, [*clips, *pumps]))[6:]
    assert line.startswith("thresholds by clips that the models learn from")


def table_of(counts):
    """Clips of machines and speeds, as many as their counts, in a drawn order."""
    clips = [
        Clip(machine, "00", "train", f"{i}", "", attributes=(("speed", speed),))
        for (machine, speed), count in counts.items()
        for i in range(count)
    ]
    order = np.random.default_rng(0).permutation(len(clips))
    return ClipTable.of([clips[i] for i in order])


SHARE = {**SMALL, "train.threshold_split": "0.1"}
COUNTS = {
    ("fan", "1"): 40,
    ("fan", "2"): 20,
    ("fan", "3"): 1,
    ("pump", "1"): 30,
    ("slider", "1"): 3,
}


def held_out_of(clips, **settings):
    """Names of the clips that a system holds out, with their machines."""
    changed = {**SHARE, **{key.replace("__", "."): value for key, value in settings.items()}}
    config = load_config(changed.pop("system", "multibranch"), changed)
    clips = with_held_out(make_detector(config), clips)
    held = clips[clips.where(split=HELD_OUT)]
    return {(clip.machine, clip.attributes, clip.name) for clip in held}


def test_held_out_clips_are_of_all_sections_and_attributes():
    clips = table_of({**COUNTS, ("valve", "1"): 1, ("valve", "2"): 1})
    other = dataclasses.replace(clips[0], split="other", machine="gearbox")
    clips = ClipTable.concatenate([clips, ClipTable.of([other] * 10)])
    detector = make_detector(load_config("multibranch", SHARE))
    clips = with_held_out(detector, clips)
    layout = lay_out(detector, clips, np.full(len(clips), 40))
    held = np.concatenate([*layout.held_out.values()])
    for training in layout.fleet.training:
        assert not {*training.clips} & {*held}
        assert len(training.clips) == len(clips) - len(held)
    counts = {
        (machine, dict(attributes)["speed"]): len(rows)
        for (machine, attributes), rows in clips[held].groups("machine", "attributes").items()
    }
    # 6 of the fan's 61, a third of them of its slower speed; none of the valve's two classes.
    assert counts == {("fan", "1"): 4, ("fan", "2"): 2, ("pump", "1"): 3, ("slider", "1"): 1}
    assert ("valve", "") in layout.groups
    assert ("valve", "") not in layout.held_out
    lines = plan_lines(detector, clips)[-2:]
    assert lines[0] == "thresholds by 1 to 6 clips of each machine, held out from training"
    assert lines[1].startswith("valve: too few clips to hold one out; ")


def test_the_choice_of_held_out_clips_depends_on_the_clips_alone():
    """Not on seeds, other machines, or what classes are told apart by."""
    clips = table_of(COUNTS)
    held = held_out_of(clips)
    assert held == held_out_of(clips, seeds="5") == held_out_of(clips, seeds="0,1,2")
    assert held == held_out_of(clips, detector__sections="apart")
    assert held == held_out_of(clips, detector__classes="machine,section")
    assert held <= held_out_of(clips, train__threshold_split="0.2")
    fans = clips[clips.where(machine="fan")]
    assert {clip for clip in held if clip[0] == "fan"} == held_out_of(fans)


@pytest.mark.parametrize("share", [0.0, 0.3, 0.5, 0.99])
def test_the_last_clip_of_a_class_is_not_held_out(share):
    clips = table_of(COUNTS)
    labels = find_classes(clips, ("machine", "attributes")).labels
    held = hold_out(clips, labels, share)
    assert set(labels[~held]) == set(labels)
    for rows in clips.groups("machine").values():
        wanted = share and max(1, round(share * len(rows)))
        # One or more of a class may be spared.
        assert wanted - len(set(labels[rows])) <= held[rows].sum() <= wanted


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
    settings = {**SMALL, "detector.noise": noise, "train.threshold_split": "0"}
    detector = make_detector(load_config("multibranch", settings))
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
        assert [len(rows) for rows in layout.groups.values()] == [3]
        assert len(layout.fleet.training[0].clips) == 11
        # One of what is scored is held out, none of the others.
        assert {group: len(rows) for group, rows in layout.held_out.items()} == {("fan", ""): 1}
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


def test_noise_is_added_to_others_and_does_not_count():
    """To about half of the other rows; without a key, as in validation, to none."""
    detector = make_detector(load_config("multibranch", {**SMALL, "detector.noise": "mix"}))
    sounds = np.random.default_rng(0).normal(0, 0.1, (64, 500)).astype(np.float32)
    labels = np.tile([0, 1, 2, 2], 16)  # the last one is that of noise
    batch = batch_of(np.zeros((64, 1, 501)), labels)
    counted, noisy = detector.with_noise(jax.random.key(0), batch, sounds, 3)
    np.testing.assert_array_equal(counted.mask, labels < 2)
    changed = np.any(np.asarray(noisy) != sounds, axis=1)
    assert not changed[labels == 2].any() and 0.2 < changed[labels < 2].mean() < 0.8
    counted, same = detector.with_noise(None, batch, sounds, 3)
    np.testing.assert_array_equal(counted.mask, labels < 2)
    np.testing.assert_array_equal(same, sounds)
    alone, _ = detector.with_noise(None, batch_of(np.zeros((64, 1, 501)), [2] * 64), sounds, 3)
    assert np.all(alone.mask)  # rather than a batch without rows


@pytest.mark.slow
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
