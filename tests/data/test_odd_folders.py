"""Folders as people have them: strays, bins, links, renamed files, odd names, years unsaid."""

import unicodedata

import pytest
from recordings import make

from asd_jax.data.clips import ANOMALY, NORMAL, UNLABELLED
from asd_jax.data.layouts import find_clips, scan


def test_unusable_recordings_take_no_place_in_the_test_set(tmp_path):
    """Of MIMII: neither AppleDouble's files nor empty ones stand for normal or abnormal clips."""
    names = [f"fan/id_00/normal/{i:08}.wav" for i in range(8)]
    make(tmp_path, *names, *(f"fan/id_00/abnormal/{i:08}.wav" for i in range(4)))
    make(tmp_path, *(f"fan/id_00/normal/._{i:08}.wav" for i in range(8)))
    for name in (*names[:3], "fan/id_00/abnormal/00000003.wav"):
        (tmp_path / name).write_bytes(b"")
    found = scan(tmp_path)
    assert len(found.strays) == 8 and len(found.clips) == 12
    normal = found.clips[found.clips.where(split="test", label=NORMAL)]
    assert [clip.name for clip in normal] == [f"normal/{i:08}.wav" for i in (3, 4, 5)]


def test_bins_and_snapshots_are_not_walked(tmp_path):
    clip = "fan/train/normal_id_00_00000000.wav"
    hidden = (".Trash-1000/files", ".snapshot/daily", "__MACOSX", "@eaDir", ".git")
    make(tmp_path, clip, *(f"{folder}/{clip}" for folder in hidden))
    make(tmp_path, ".hidden/train/normal_id_00_00000000.wav")
    found = scan(tmp_path)
    assert [clip.machine for clip in found.clips] == [".hidden", "fan"] and found.strays == ()
    folders = sorted(folder.split("/")[0] for folder in hidden)
    assert found.skipped == tuple(str(tmp_path / folder) for folder in folders)


def test_recordings_among_the_clips_that_fit_no_layout_are_lost(tmp_path):
    """By their names or their content; what is no recording is only listed."""
    clip = "fan/train/normal_id_00_00000000.wav"
    lost = (
        "eval_data/raw/pump/test/x.wav",
        "fan/test/00000000.wav",
        "fan/train/normal_id_00_00000001.bin",  # a wav file, whatever it is called
        "fan/train/normal_id_00_00000002.flac",
        "mimii/id_00/abnormal/x.mp3",
        "mimii/id_00/normal/x.MP3",
    )
    elsewhere = (
        "fan/x.wav",
        "fan/other/x.wav",
        "dev_data/train/x.wav",
    )  # of no machine or no split
    make(tmp_path, clip, *lost, *elsewhere, "fan/train/._normal_id_00_00000000.wav", "a.flac")
    notes = ("fan/train/notes.txt", "mimii/id_00/normal/list.csv")
    for path in (*notes, "fan/readme.md"):
        (tmp_path / path).write_text("no sound")
    found = scan(tmp_path)
    assert [each.path for each in found.lost] == [str(tmp_path / path) for path in lost]
    machines = {(each.machine, each.subset) for each in found.lost}
    assert machines == {("pump", "eval"), ("fan", "dev"), ("mimii", "dev")}
    assert found.others == tuple(str(tmp_path / path) for path in notes)
    assert len(found.strays) == len(lost) + len(elsewhere) + 1 and len(found.clips) == 1


def test_two_links_to_one_folder_are_two_machines(tmp_path):
    make(tmp_path, "store/train/normal_id_00_00000000.wav")
    (tmp_path / "data").mkdir()
    for name in ("fanA", "fanB"):
        (tmp_path / "data" / name).symlink_to(tmp_path / "store")
    (tmp_path / "store/up").symlink_to(tmp_path / "data")  # an endless loop
    assert [clip.machine for clip in find_clips(tmp_path / "data")] == ["fanA", "fanB"]


def test_a_link_beside_its_target_counts_once(tmp_path):
    make(tmp_path, "v1/fan/train/normal_id_00_00000000.wav")
    (tmp_path / "latest").symlink_to(tmp_path / "v1")
    assert len(find_clips(tmp_path)) == 1


def test_labelled_evaluation_clips_take_the_place_of_hidden_ones(tmp_path):
    """As the challenge's tool renames them, in a folder beside test/."""
    fan = "dcase2023/eval_data/raw/fan"
    make(
        tmp_path,
        f"{fan}/train/section_00_source_train_normal_0000_vel_1.wav",
        f"{fan}/test/section_00_0000.wav",
        f"{fan}/test/section_00_0001.wav",
        f"{fan}/test_rename/section_00_source_test_normal_0000_vel_1.wav",
        f"{fan}/test_rename/section_00_target_test_anomaly_0001_vel_2.wav",
        "dcase2023/eval_data/raw/pump/train/section_00_source_train_normal_0000_vel_1.wav",
        "dcase2023/eval_data/raw/pump/test/section_00_0000.wav",
    )
    said = []
    clips = find_clips(tmp_path, report=said.append)
    test = clips[clips.where(split="test")]
    found = [(c.machine, c.domain, c.label, c.subset) for c in test]
    assert found == [
        ("fan", "source", NORMAL, "eval"),
        ("fan", "target", ANOMALY, "eval"),
        ("pump", "", UNLABELLED, "eval"),
    ]
    assert any("test_rename has labels and takes the place of" in line for line in said)


def test_machines_may_be_called_like_a_subset_or_decomposed(tmp_path):
    decomposed = unicodedata.normalize("NFD", "Gerät")
    for name in ("eval_line", "dev_pump", decomposed):
        make(tmp_path, f"{name}/train/normal_id_00_00000000.wav")
    assert find_clips(tmp_path).distinct("machine") == ["Gerät", "dev_pump", "eval_line"]


def test_anomalies_called_abnormal_are_anomalies(tmp_path):
    make(tmp_path, "fan/test/abnormal_id_00_00000000.wav", "fan/train/normal_id_00_00000000.wav")
    clips = find_clips(tmp_path)
    assert [clip.label for clip in clips[clips.where(split="test")]] == [ANOMALY]


@pytest.mark.parametrize(
    ("folder", "year", "why"),
    [
        ("dcase2021/mine", 2021, "so its folder dcase2021 is called"),
        ("mine", 2023, "it has section 00 alone, and 1 of its 1 machines are of that year"),
    ],
)
def test_the_year_and_why_are_said(tmp_path, folder, year, why):
    make(tmp_path, f"{folder}/fan/train/section_00_source_train_normal_0000.wav")
    said = []
    assert find_clips(tmp_path / folder, report=said.append)[0].year == year
    (line,) = said
    assert f"{tmp_path / folder} is read as data of {year}: {why}" in line


def test_synthetic_data_knows_its_year(tmp_path):
    make(tmp_path, "dev_data/raw/fan/train/section_00_source_train_normal_0000.wav")
    (tmp_path / "synthetic.json").write_text('{"year": 2025}')
    assert find_clips(tmp_path)[0].year == find_clips(tmp_path / "dev_data/raw/fan")[0].year == 2025
