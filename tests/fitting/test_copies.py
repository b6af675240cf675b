"""No copy of a clip held out is learned from, be it changed or the same under another name."""

import dataclasses

import numpy as np
import pytest
import soundfile

import asd_jax
from asd_jax.config import load_config
from asd_jax.data.clips import COPY, HELD_OUT, Clip, ClipTable
from asd_jax.data.layouts import find_clips
from asd_jax.detectors import make_detector
from asd_jax.features.compute import compute_features
from asd_jax.features.table import ArrayFeatures
from asd_jax.fitting.copies import with_copies_together
from asd_jax.fitting.layout import lay_out, with_held_out, with_perturbed
from asd_jax.training.models import FleetModel, split_clips

MELS, FRAMES = 8, 70


def clips_of(sections=("00", "02"), count=10, **facts):
    return [
        Clip("fan", section, "train", f"{section}_{i}", f"fan/{section}_{i}", **facts)
        for section in sections
        for i in range(count)
    ]


def detector_of(name, **settings):
    settings = {key.replace("__", "."): str(text) for key, text in settings.items()}
    return make_detector(load_config(name, {"front_end.n_mels": str(MELS)} | settings))


def table_of(clips, copies=()):
    """Noise, in which the second clip of each pair sounds as the first one."""
    rng = np.random.default_rng(0)
    frames = [rng.normal(-40, 5, (FRAMES, MELS)).astype(np.float32) for _ in clips]
    for one, other in copies:
        frames[other] = frames[one].copy()
    return ArrayFeatures(clips, frames)


def learned_and_held(layout, clips, network=0):
    """Recordings that a network is trained on, and those that it is validated by."""
    parts = layout.fleet.training[network], layout.fleet.validation[network]
    return [{clips[i].group or clips[i].path for i in part.clips} for part in parts]


@pytest.mark.parametrize("seed", range(4))
def test_validation_clips_have_no_changed_copies_among_training_clips(seed):
    detector = detector_of("mobilenet_v2_id_resample", train__validation_split="0.2",
                           seeds=f"{seed},")  # fmt: skip
    clips = with_perturbed(detector, clips_of())
    layout = lay_out(detector, clips, np.full(len(clips), FRAMES))
    learned, held = learned_and_held(layout, clips)
    assert len(held) == 4 and len(learned) == 16 and not learned & held
    # Every speed is validated by: a clip's three go together.
    assert len(layout.fleet.validation[0].clips) == 12


def test_pictures_likewise(monkeypatch):
    monkeypatch.setattr("asd_jax.detectors.picture_mobilenet.check_installed", lambda *_: None)
    detector = detector_of("picture_mobilenet", train__validation_split="0.2", seeds="0,",
                           detector__from_scratch="true", detector__frames="16")  # fmt: skip
    others = [dataclasses.replace(clip, machine="valve", split="other", path=f"v{clip.name}")
              for clip in clips_of()]  # fmt: skip
    clips = with_perturbed(detector, ClipTable.of([*clips_of(), *others]))
    layout = lay_out(detector, clips, np.full(len(clips), FRAMES))
    learned, held = learned_and_held(layout, clips)
    assert held and not learned & held


def test_a_machine_s_own_clips_as_outliers_are_of_one_side():
    detector = detector_of("outlier_exposure_ae", train__validation_split="0.2", seeds="0,")
    clips = clips_of()
    layout = lay_out(detector, clips, np.full(len(clips), FRAMES))
    training, validation = layout.fleet.training[0], layout.fleet.validation[0]
    assert not set(training.clips.tolist()) & set(validation.clips.tolist())
    # Each once as itself and once in reverse.
    assert len(validation.clips) == 8 and len(set(validation.clips.tolist())) == 4
    assert sorted(set(validation.labels.tolist())) == [0, 2]


def test_groups_are_validated_by_as_a_whole():
    detector = detector_of("dense_ae", train__validation_split="0.2", seeds="0,")
    clips = [dataclasses.replace(clip, group=f"day{i % 5}") for i, clip in enumerate(clips_of())]
    layout = lay_out(detector, clips, np.full(len(clips), FRAMES))
    learned, held = learned_and_held(layout, clips)
    assert len(held) == 1 and len(learned) == 4


def test_what_is_by_itself_is_drawn_as_before():
    """A permutation of the clips by the model's seed, of which the first are held out."""
    model, clips = FleetModel("fan", "", 3), np.arange(5, 45)
    order = np.random.default_rng(model.entropy).permutation(40)
    kept, held = split_clips(model, clips, 0.1)
    assert held.tolist() == sorted(clips[order[:4]].tolist())
    for together in (np.arange(40), np.arange(40)[::-1], 7 * np.arange(40)):
        again = split_clips(model, clips, 0.1, together)
        assert again[0].tolist() == kept.tolist() and again[1].tolist() == held.tolist()
    assert [len(part) for part in split_clips(model, clips, 0.1, np.zeros(40))] == [40, 0]
    assert [len(part) for part in split_clips(model, clips[:0], 0.1)] == [0, 0]


def held_out_table(name, copies_of_held, **settings):
    """Clips with some held out; each of the first ones of these has a copy among the others."""
    detector = detector_of(name, train__threshold_split="0.2", seeds="0,", **settings)
    clips = with_perturbed(detector, with_held_out(detector, ClipTable.of(clips_of())))
    held = np.flatnonzero(clips.where(split=HELD_OUT))[:copies_of_held]
    trained = np.flatnonzero(clips.where(split="train"))[:copies_of_held]
    pairs = [*zip(held.tolist(), trained.tolist(), strict=True)]
    return detector, table_of(clips, pairs), pairs


@pytest.mark.parametrize("name", ["dense_ae", "mobilenet_v2_id_resample"])
def test_copies_of_clips_held_out_for_thresholds_are_held_out(name):
    detector, table, pairs = held_out_table(name, 2)
    lines = []
    together = with_copies_together(detector, table, lines.append)
    clips = together.clips
    for one, other in pairs:
        assert clips[one].split == clips[other].split == HELD_OUT
        assert clips[one].group == clips[other].group != ""
        changed = [clip for clip in clips if clip.perturbation and clip.path == clips[other].path]
        assert all(clip.split == COPY for clip in changed)
        assert len(changed) == (2 if "resample" in name else 0)
    assert len(lines) == 1 and lines[0].startswith("2 of the training recordings are copies of")
    assert lines[0].endswith("2 of them with clips held out for thresholds")
    layout = lay_out(detector, clips, together.n_frames)
    for part in (*layout.fleet.training, *layout.fleet.validation):
        assert {clips[i].split for i in part.clips} <= {"train", "perturbed"}
        assert not {clips[i].path for i in part.clips} & {clips[o].path for _, o in pairs}
    # Others are as they were.
    rest = [i for i in range(len(clips)) if not clips[i].group]
    assert [clips[i] for i in rest] == [table.clips[i] for i in rest]


def test_without_copies_the_table_is_the_same():
    detector, table, _ = held_out_table("dense_ae", 0)
    lines = []
    assert with_copies_together(detector, table, lines.append) is table and not lines


def test_where_nothing_would_be_left_nothing_is_held_out():
    """All clips of an id sound alike: one held out would be known from the others."""
    detector = detector_of("dense_ae", train__threshold_split="0.2", seeds="0,")
    clips = with_held_out(detector, ClipTable.of(clips_of()))
    table = table_of(clips, [(0, i) for i in range(1, 10)])
    together = with_copies_together(detector, table, lambda line: None).clips
    assert {clip.split for clip in together[:10]} == {"train"}
    assert {clip.split for clip in together[10:]} == {"train", HELD_OUT}


def test_the_other_set_s_copies_are_left_out():
    detector = detector_of("group_made", train__threshold_split="0.2", seeds="0,")
    more = [
        dataclasses.replace(clip, split="other", subset="eval", path=f"eval/{clip.name}")
        for clip in clips_of(("01",), 3)
    ]
    clips = with_held_out(detector, ClipTable.of([*clips_of(), *more]))
    held = int(np.flatnonzero(clips.where(split=HELD_OUT))[0])
    together = with_copies_together(detector, table_of(clips, [(held, 21)]), lambda line: None)
    assert [clip.split for clip in together.clips[20:]] == ["other", COPY, "other"]
    layout = lay_out(detector, together.clips, together.n_frames)
    assert 21 not in layout.fleet.training[0].clips


def test_validation_clips_have_no_copies_under_other_names():
    for seed in range(6):
        detector = detector_of("dense_ae", train__validation_split="0.3", seeds=f"{seed},")
        table = table_of(clips_of(), [(i, i + 10) for i in range(10)])  # each in both ids
        together = with_copies_together(detector, table, lambda line: None)
        layout = lay_out(detector, together.clips, together.n_frames)
        learned, held = learned_and_held(layout, together.clips)
        assert held and not learned & held


def test_groups_with_copies_are_one():
    detector = detector_of("spectral")
    clips = [dataclasses.replace(clip, group=f"day{i % 5}") for i, clip in enumerate(clips_of())]
    table = table_of(clips, [(0, 1), (1, 7)])
    together = with_copies_together(detector, table, lambda line: None).clips
    assert together.distinct("group") == ["day0", "day3", "day4"]
    assert sum(clip.group == "day0" for clip in together) == 12


def test_scores_of_training_clips_do_not_know_their_copies():
    """A system without training scores a clip by others: with its copy there it was at 0."""
    rng = np.random.default_rng(1)
    sounds = rng.normal(-40, 5, (12, FRAMES, MELS)).astype(np.float32)
    sounds[7] = sounds[2]
    settings = {"front_end.n_mels": str(MELS)}
    config = load_config("mel_knn", settings)
    scores = asd_jax.fit(config, sounds, machine="fan").calibration["training_scores"][0]
    apart = [i for i in range(12) if i != 7]
    alone = asd_jax.fit(config, sounds[apart], machine="fan").calibration["training_scores"][0]
    np.testing.assert_allclose(scores[2], alone[2], rtol=1e-6)
    np.testing.assert_allclose(scores[7], alone[2], rtol=1e-6)
    assert scores[2] > 1e-6
    # All equal but one: others must be left.
    sounds[:11] = sounds[0]
    assert np.isfinite(asd_jax.fit(config, sounds, machine="fan").threshold())


def test_files_are_compared_by_samples_not_by_names_or_formats(tmp_path):
    """The same samples in more bits and a file with more in its header are copies."""
    folder = tmp_path / "dev_data" / "fan" / "train"
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for i in range(6):
        sound = (rng.normal(0, 0.1, 16_000) * 2**15).astype(np.int16)
        soundfile.write(folder / f"normal_id_00_{i:08}.wav", sound, 16_000)
        if i == 0:
            soundfile.write(folder / "normal_id_00_00000010.wav", sound, 16_000, "PCM_24")
        if i == 1:
            data = (folder / "normal_id_00_00000001.wav").read_bytes()
            (folder / "normal_id_00_00000011.wav").write_bytes(data)
        if i == 2:
            with soundfile.SoundFile(
                folder / "normal_id_00_00000012.wav", "w", 16_000, 1, "PCM_16"
            ) as file:
                file.title = "again"
                file.write(sound)
    detector = detector_of("dense_ae")
    table = compute_features(find_clips(tmp_path), detector.front_end, cache_dir=tmp_path / "cache")
    assert len({digest.tobytes() for digest in table.digests}) == 8
    lines = []
    together = with_copies_together(detector, table, lines.append).clips
    of_groups = {rows.tobytes(): [clip.name for clip in together[rows]]
                 for (name,), rows in together.groups("group").items() if name}  # fmt: skip
    numbers = sorted(sorted(name[-12:].split(".")[0][-2:] for name in own)
                     for own in of_groups.values())  # fmt: skip
    assert numbers == [["00", "10"], ["01", "11"], ["02", "12"]]
    assert lines[0].startswith("3 of the training recordings are copies of another one, first ")
