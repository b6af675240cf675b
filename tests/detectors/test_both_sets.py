"""Systems with a network a machine that also learns from the set that is not run (Giri et al.)."""

import dataclasses
import re

import numpy as np
import pytest
from shared_runs import rows_of, run_to_its_end

from asd_jax import pipeline
from asd_jax.config import from_dict, load_config, to_dict
from asd_jax.data.clips import Clip
from asd_jax.data.synthetic import synthesize
from asd_jax.detectors import config_classes, make_detector
from asd_jax.fitting.layout import groups_of, lay_out, plan_lines
from asd_jax.runs.clips import choose_clips
from asd_jax.runtime.progress import Silent

CLASSIFIERS = (
    *("mobilenet_v2_id", "mobilenet_v2_id_mix", "mobilenet_v2_id_warp"),
    *("mobilenet_v2_id_resample", "resnet50_id", "mobilenet_v2_arcface"),
)


def clips_of(*places, subset="dev", split="train", count=3):
    """Clips of machines and ids."""
    return [
        Clip(machine, section, split, f"{section}_{i}.wav", f"{machine}/{subset}/{section}_{i}",
             year=2020, subset=subset)
        for machine, section in places
        for i in range(count)
    ]  # fmt: skip


DEV = clips_of(("fan", "00"), ("fan", "02"), ("valve", "04"), ("valve", "06"))
EVAL = clips_of(("fan", "01"), ("fan", "03"), ("pump", "01"), subset="eval")
TEST = clips_of(("fan", "00"), ("valve", "04"), split="test", count=1)


def chosen(name, clips, lines=None, **settings):
    settings = {key.replace("__", "."): text for key, text in settings.items()}
    config = load_config(name, {"data.subset": "dev", "seeds": "0,"} | settings)
    detector = make_detector(config)
    report = (lambda line: None) if lines is None else lines.append
    return detector, choose_clips(detector, clips, report)


def layout_of(name, clips, **settings):
    detector, clips = chosen(name, clips, **settings)
    return lay_out(detector, clips, np.full(len(clips), 100)), clips


def test_what_the_report_trains_on_both_sets_does_by_default():
    for name in (*CLASSIFIERS, "group_made"):
        assert load_config(name).detector.both_sets, name
    for system in range(1, 5):
        members = load_config(f"giri2020_system{system}").member_configs().values()
        assert all(member.detector.both_sets for member in members)
    assert not load_config("mobilenet_v2_baseline").detector.both_sets


@pytest.mark.parametrize("name", ["mobilenet_v2_id", "group_made"])
def test_a_stored_configuration_without_the_setting_is_of_one_set(name):
    stored = to_dict(load_config(name))
    del stored["detector"]["both_sets"]
    read = from_dict(stored, config_classes())
    assert read == load_config(name, {"detector.both_sets": "false"})


def test_ids_of_both_sets_are_classes_and_own_ones_keep_their_labels():
    lines = []
    detector, clips = chosen("mobilenet_v2_id", [*DEV, *TEST, *EVAL], lines)
    assert lines == [
        "6 training clips of the eval set are learned from as well; "
        "--config.detector.both_sets=false leaves them out"
    ]
    # There are no pumps to score.
    assert clips[clips.where(split="other")].distinct("machine") == ["fan"]
    assert plan_lines(detector, clips)[0] == (
        "fan: classes are its ids 00, 02 and, of the other set, 01, 03"
    )
    layout = lay_out(detector, clips, np.full(len(clips), 100))
    fan, valve = layout.fleet.training
    of_ids = {(clips[i].section, label) for i, label in zip(*fan, strict=True)}
    assert of_ids == {("00", 0), ("02", 1), ("01", 2), ("03", 3)}
    assert len(fan.clips) == 12 and len(valve.clips) == 6
    assert {clips[i].section for i in valve.clips} == {"04", "06"}
    # What is scored, and sets thresholds, are the set's own ids.
    assert layout.sections == {"fan": ("00", "02"), "valve": ("04", "06")}
    assert [len(rows) for rows in layout.groups.values()] == [6, 6]
    assert {clips[i].subset for rows in layout.groups.values() for i in rows} == {"dev"}


def test_the_other_way_round_the_development_set_is_the_other_one():
    layout, clips = layout_of("mobilenet_v2_id", [*DEV, *EVAL], data__subset="eval",
                              data__machines="fan,")  # fmt: skip
    (fan,) = layout.fleet.training
    of_ids = {(clips[i].section, label) for i, label in zip(*fan, strict=True)}
    assert of_ids == {("01", 0), ("03", 1), ("00", 2), ("02", 3)}


def test_speeds_of_the_other_set_s_ids_are_classes_as_well():
    layout, clips = layout_of("mobilenet_v2_id_resample", [*DEV, *EVAL])
    fan = layout.fleet.training[0]
    of_ids = {
        (clips[i].perturbation, clips[i].section, label) for i, label in zip(*fan, strict=True)
    }
    assert len(of_ids) == 12 == layout.n_labels
    assert {own for own in of_ids if own[2] in (0, 3, 6, 11)} == {
        ("", "00", 0), ("", "03", 3), ("resample 0.9", "01", 6), ("resample 1.1", "03", 11),
    }  # fmt: skip


def test_group_made_has_them_in_one_density():
    layout, clips = layout_of("group_made", [*DEV, *EVAL])
    fan, valve = layout.fleet.training
    assert {clips[i].section for i in fan.clips} == {"00", "01", "02", "03"}
    assert set(fan.labels.tolist()) == {0} and len(valve.clips) == 6


@pytest.mark.parametrize("name", ["mobilenet_v2_id", "mobilenet_v2_id_resample", "group_made"])
@pytest.mark.parametrize("held", ["0", "0.34"])
def test_without_another_set_nothing_changes(name, held):
    share = {"train__validation_split": held, "train__threshold_split": held}
    both, clips = layout_of(name, [*DEV, *TEST], detector__both_sets="true", **share)
    one, same = layout_of(name, [*DEV, *TEST], detector__both_sets="false", **share)
    assert clips == same
    for part in ("training", "validation"):
        for own, other in zip(getattr(both.fleet, part), getattr(one.fleet, part), strict=True):
            np.testing.assert_array_equal(own.clips, other.clips)
            np.testing.assert_array_equal(own.labels, other.labels)
    assert both.n_labels == one.n_labels and both.sections == one.sections


def test_one_id_a_set_is_enough_for_a_classifier():
    layout, _ = layout_of("mobilenet_v2_id", [*DEV[:3], *EVAL[:3]])
    assert layout.n_labels == 2


def test_anomalies_and_other_years_are_not_learned_from():
    bad = [dataclasses.replace(clip, label=1) for clip in EVAL]
    later = [dataclasses.replace(clip, year=2021) for clip in EVAL]
    _, clips = chosen("group_made", [*DEV, *bad, *later])
    assert not clips.where(split="other").any()


def test_held_out_clips_are_of_the_set_s_own_ids():
    detector, clips = chosen("group_made", [*DEV, *EVAL], train__threshold_split="0.34")
    held = groups_of(detector, clips, "held out")
    assert {clips[i].subset for rows in held.values() for i in rows} == {"dev"}
    assert clips[clips.where(split="other")].distinct("section") == ["01", "03"]


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Both sets of 2020: development's and evaluation's ids of one machine."""
    folder = tmp_path_factory.mktemp("both") / "data"
    synthesize(folder, year=2020, subset="both", machines=["fan"], sections=2, clips=5,
               duration=2.0)  # fmt: skip
    return folder


TINY = {
    "front_end.n_mels": "8",
    "detector.hidden": "8,",
    "detector.components": "2",
    "train.epochs": "1",
    "seeds": "0,",
}


@pytest.mark.usefixtures("no_pictures")
def test_a_run_learns_from_both_and_scores_one(root, tmp_path):
    def run(name, data_dir, **more):
        config = load_config("group_made", TINY | more)
        pipeline.run(config, data_dir, tmp_path / name, reporter=Silent())
        return (tmp_path / name / "scores.csv").read_bytes()

    plan = pipeline.dry_run(load_config("group_made", TINY), root)
    assert "10 training clips of the eval set are learned from as well" in plan
    assert re.search("^training clips +20$", plan, re.MULTILINE)
    both = run("both", root)
    scored = {row["section"] for row in rows_of(tmp_path / "both" / "scores.csv")}
    learned = {row["section"] for row in rows_of(tmp_path / "both" / "training_scores.csv")}
    assert scored == learned == {"00", "02"}
    # The development set alone, with the setting and by it, to the bit.
    alone = run("alone", root / "dev_data")
    assert alone == run("left_out", root, **{"detector.both_sets": "false"})
    assert alone != both
    # The same command continues the run.
    settings = [f"--config.{key}={text}" for key, text in TINY.items()]
    command = ["run", "--config=group_made", f"--data_dir={root}", f"--out_dir={tmp_path}/both"]
    run_to_its_end([*command, *settings])
    assert both == (tmp_path / "both" / "scores.csv").read_bytes()
