"""The file of a run's classes: written once, and what a continued run goes on with."""

import dataclasses

import numpy as np
import pytest
from tones import sound

from asd_jax.config import load_config
from asd_jax.data.clips import Clip, ClipTable
from asd_jax.detectors import make_detector
from asd_jax.errors import UserError
from asd_jax.features.table import ArrayFeatures
from asd_jax.runs.classes import with_classes, write_classes

SETTINGS = {
    "detector.seconds": "1.25",
    "detector.spectrum": "false",
    "detector.n_ffts": "1024,",
    "detector.pseudo_classes": "2",
}
HZ = [400, 900, 400, 900, 900]
SPEED = (("speed", "1"),)


@pytest.fixture(scope="module")
def detector():
    return make_detector(load_config("multibranch", SETTINGS))


@pytest.fixture(scope="module")
def features(detector):
    """Tones of a fan; a pump with attributes, and supplemental noise, which has no class."""
    clips = [Clip("fan", "00", "train", f"{i}.wav", "") for i in range(len(HZ))]
    clips.append(Clip("pump", "00", "train", "0.wav", "", domain="target", attributes=SPEED))
    clips.append(Clip("fan", "00", "supplemental", "noise.wav", ""))
    sounds = [sound(hz, i) for i, hz in enumerate([*HZ, 700, 700])]
    blocks = [np.asarray(detector.front_end.of_padded(each)) for each in sounds]
    return ArrayFeatures(clips, blocks)


def test_a_continued_run_has_the_classes_of_its_file(detector, features, tmp_path):
    path = tmp_path / "classes.csv"
    found = with_classes(detector, features, path)
    assert not path.exists() and len(found.clips.distinct("attributes")) == 4
    write_classes(path, detector, found.clips)
    lines = path.read_text().splitlines()
    assert lines[0] == "machine,section,domain,clip,by_sound,class_name"
    assert lines[6:] == ["pump,00,target,0.wav,,pump 00 speed=1 target"]
    assert len({line.split(",")[4] for line in lines[1:6]}) == 2
    assert with_classes(detector, features, path).clips == found.clips
    # As another machine's arithmetic may have it.
    (old,) = {line.split(",")[4] for line in lines if line.startswith("fan,00,,0.wav")}
    moved = lines[1].replace(f".wav,{old},", ".wav,07,").replace(f"pseudo={old}", "pseudo=07")
    path.write_text("\n".join([lines[0], moved, *lines[2:]]) + "\n")
    again = with_classes(detector, features, path).clips
    assert dict(again[0].attributes) == {"pseudo": "07"}
    assert [*again[1:]] == [*found.clips[1:]]


def test_a_file_of_other_classes_or_a_damaged_one_is_a_line(detector, features, tmp_path):
    path = tmp_path / "classes.csv"
    found = with_classes(detector, features, path)
    write_classes(path, detector, found.clips[1:])
    with pytest.raises(UserError, match=r"other classes, first of fan 00 1.wav"):
        with_classes(detector, features, path)
    write_classes(path, detector, found.clips)
    faster = [dataclasses.replace(clip) for clip in features.clips]
    faster[5] = dataclasses.replace(faster[5], attributes=(("speed", "2"),))
    other = features.with_clips(ClipTable.of(faster))
    with pytest.raises(UserError, match=r"pump 00 0.wav \(pump 00 speed=1 target there, pump 00 s"):
        with_classes(detector, other, path)
    path.write_text("machine,clip\nfan,0.wav\n")
    with pytest.raises(UserError, match=r"classes\.csv is damaged: its first line is not machine"):
        with_classes(detector, features, path)
