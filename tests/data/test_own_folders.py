"""Folders of one's own: any names, formats and depth; what is normal is said by folder."""

import numpy as np
import pytest
import soundfile

from asd_jax.data import ANOMALY, NORMAL, UNLABELLED, OwnFolders, find_clips, scan
from asd_jax.data.clips import OWN
from asd_jax.errors import UserError


def write(folder, *names, rate=16_000, channels=1):
    for i, name in enumerate(names):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        sound = np.random.default_rng(i).normal(0, 0.1, (rate // 4, channels))
        soundfile.write(path, sound, rate)


def test_recordings_of_any_name_format_and_depth_are_found(tmp_path):
    write(tmp_path / "gut", "Prüfstand 1/größer.flac", "a b.wav", "c.ogg", rate=44_100, channels=2)
    write(tmp_path / "neu", "x.aiff", "deep/er/x.wav")
    for odd in ("gut/notes.txt", "gut/.hidden.wav", "gut/.git/config"):
        (tmp_path / odd).parent.mkdir(exist_ok=True)
        (tmp_path / odd).write_text("no sound")
    lines = []
    folders = OwnFolders(tmp_path / "gut", tmp_path / "neu", machine="Pumpe")
    clips = find_clips(folders, report=lines.append)
    assert [(clip.split, clip.label, clip.name) for clip in clips] == [
        ("test", UNLABELLED, "test/deep/er/x.wav"),
        ("test", UNLABELLED, "test/x.aiff"),
        ("train", NORMAL, "normal/Prüfstand 1/größer.flac"),
        ("train", NORMAL, "normal/a b.wav"),
        ("train", NORMAL, "normal/c.ogg"),
    ]
    assert {(clip.machine, clip.section, clip.year) for clip in clips} == {("Pumpe", "00", OWN)}
    assert lines == ["Pumpe: 3 normal to learn from, 2 unknown to score"]
    found = scan(folders)
    assert [name.rsplit("/", 1)[1] for name in found.others] == [".hidden.wav", "notes.txt"]
    assert found.skipped and not found.strays


def test_normal_recordings_are_scored_beside_anomalous_ones(tmp_path):
    """As many, at most a third, spread over their names."""
    write(tmp_path / "good", *(f"{i:02}.wav" for i in range(12)))
    write(tmp_path / "bad", "a.wav", "b.wav")
    lines = []
    clips = find_clips(OwnFolders(tmp_path / "good", None, tmp_path / "bad"), report=lines.append)
    assert lines == ["machine: 10 normal to learn from, 2 normal to score, 2 anomalous to score"]
    tested = [clip.name for clip in clips if clip.split == "test"]
    assert tested == ["anomalous/a.wav", "anomalous/b.wav", "normal/03.wav", "normal/09.wav"]
    assert {clip.label for clip in clips if clip.name.startswith("anomalous")} == {ANOMALY}
    write(tmp_path / "bad", *(f"{i}.wav" for i in range(20)))
    clips = find_clips(OwnFolders(tmp_path / "good", None, tmp_path / "bad"))
    assert int(clips.where(split="test", label=NORMAL).sum()) == 4


def test_subfolders_can_be_machines(tmp_path):
    write(tmp_path / "good", "fan/a.wav", "pump/x/b.wav")
    write(tmp_path / "new", "pump/c.wav")
    folders = OwnFolders(tmp_path / "good", tmp_path / "new", machine_folders=True)
    clips = find_clips(folders)
    assert [(clip.machine, clip.name) for clip in clips] == [
        ("fan", "normal/fan/a.wav"),
        ("pump", "test/pump/c.wav"),
        ("pump", "normal/pump/x/b.wav"),
    ]
    write(tmp_path / "good", "loose.wav")
    assert [lost.path for lost in scan(folders).lost] == [str(tmp_path / "good/loose.wav")]


def test_what_cannot_be_is_a_line(tmp_path):
    write(tmp_path / "good", "a.wav", "inside/b.wav")
    (tmp_path / "empty").mkdir()
    good = tmp_path / "good"
    for make, message in (
        (lambda: OwnFolders(tmp_path / "none"), "--normal=.*/none does not exist; give a folder"),
        (lambda: OwnFolders(good / "a.wav"), "--normal=.*a.wav is a file; give a folder"),
        (lambda: OwnFolders(good, tmp_path / "empty"), "--test=.*/empty has no recordings"),
        (lambda: OwnFolders(good, good / "inside"), "--test=.*/inside lies in --normal="),
        (lambda: OwnFolders(good, None, good), "lies in --"),
        (lambda: OwnFolders(good, machine="a/b"), "machine is 'a/b'; give a name"),
        (lambda: OwnFolders(good, machine="fan", machine_folders=True), "subfolders name the mach"),
        (lambda: OwnFolders(None), "normal is None; it must be a path"),
    ):
        with pytest.raises(UserError, match=message):
            find_clips(make())
    with pytest.raises(UserError, match="year 2023: your own recordings are of no challenge year"):
        find_clips(OwnFolders(good), 2023)
