"""Every year's layout, from every folder that a user may point at."""

import errno
import os

import pytest
from recordings import make

from asd_jax.data.clip_paths import parse_clip
from asd_jax.data.clips import ANOMALY, NORMAL, UNLABELLED
from asd_jax.data.layouts import find_clips, scan
from asd_jax.data.years import official_archives
from asd_jax.errors import UserError


def rows(clips):
    return [
        (c.year, c.subset, c.machine, c.section, c.split, c.domain, c.label, c.attributes)
        for c in clips
    ]


LAYOUTS = {
    2020: {
        "dev_data/fan/train/normal_id_02_00000000.wav": ("dev", "02", "train", "", NORMAL, ()),
        "dev_data/fan/test/normal_id_02_00000000.wav": ("dev", "02", "test", "", NORMAL, ()),
        "dev_data/fan/test/anomaly_id_02_00000000.wav": ("dev", "02", "test", "", ANOMALY, ()),
        "eval_data/fan/test/id_05_00000000.wav": ("eval", "05", "test", "", UNLABELLED, ()),
    },
    2021: {
        "dev_data/gearbox/train/section_00_source_train_normal_0000_0_g_25_mm_none.wav": (
            *("dev", "00", "train", "source", NORMAL),
            (("0", "g"), ("25", "mm"), ("none", "")),
        ),
        "dev_data/gearbox/source_test/section_00_source_test_anomaly_0000.wav": (
            *("dev", "00", "test", "source", ANOMALY, ()),
        ),
        "eval_data/gearbox/target_test/section_03_target_test_0000.wav": (
            *("eval", "03", "test", "target", UNLABELLED, ()),
        ),
    },
    2022: {
        "dev_data/ToyCar/train/section_01_target_train_normal_0001_car_A2_spd_28V_mic_1.wav": (
            *("dev", "01", "train", "target", NORMAL),
            (("car", "A2"), ("spd", "28V"), ("mic", "1")),
        ),
        "dev_data/ToyCar/test/section_01_source_test_anomaly_0000_volt_3.0.wav": (
            *("dev", "01", "test", "source", ANOMALY, (("volt", "3.0"),)),
        ),
        "eval_data/ToyCar/test/section_03_0000.wav": ("eval", "03", "test", "", UNLABELLED, ()),
    },
    2023: {
        "dev_data/bearing/train/section_00_source_train_normal_0000_vel_21.wav": (
            *("dev", "00", "train", "source", NORMAL, (("vel", "21"),)),
        ),
        "eval_data/bandsaw/test/section_00_0000.wav": ("eval", "00", "test", "", UNLABELLED, ()),
    },
    2024: {
        "dev_data/bearing/train/section_00_source_train_normal_0000_vel_21.wav": (
            *("dev", "00", "train", "source", NORMAL, (("vel", "21"),)),
        ),
        "dev_data/slider/train/section_00_source_train_normal_0000_noAttribute.wav": (
            *("dev", "00", "train", "source", NORMAL, ()),
        ),
    },
    2025: {
        "eval_data/ToyPet/train/section_00_target_train_normal_0000_noAttribute.wav": (
            *("eval", "00", "train", "target", NORMAL, ()),
        ),
        "eval_data/ToyPet/test/section_00_0000.wav": ("eval", "00", "test", "", UNLABELLED, ()),
    },
    2026: {
        "dev_data/valveEmu/test/section_00_target_test_normal_0000_pat_00.wav": (
            *("dev", "00", "test", "target", NORMAL, (("pat", "00"),)),
        ),
    },
}


@pytest.mark.parametrize("raw", [False, True], ids=["plain", "raw"])
@pytest.mark.parametrize("year", LAYOUTS)
def test_each_year(tmp_path, year, raw):
    def place(path):
        return path.replace("_data/", "_data/raw/") if raw else path

    make(tmp_path, *map(place, LAYOUTS[year]))
    expected = {
        (year, fields[0], path.split("/")[1], *fields[1:]) for path, fields in LAYOUTS[year].items()
    }
    clips = find_clips(tmp_path)
    assert set(rows(clips)) == expected
    assert list(clips) == sorted(clips)
    assert all(os.path.isfile(clip.path) for clip in clips)
    assert {clip.name for clip in clips} == {path.split("/")[-1] for path in LAYOUTS[year]}


def test_any_folder_may_be_pointed_at(tmp_path, monkeypatch):
    make(
        tmp_path,
        "eval_data/raw/fan/train/normal_id_01_00000000.wav",
        "eval_data/raw/fan/test/id_01_00000000.wav",
    )
    whole = find_clips(tmp_path)
    assert {(c.subset, c.machine) for c in whole} == {("eval", "fan")}
    for folder in ("eval_data", "eval_data/raw", "eval_data/raw/fan"):
        assert find_clips(tmp_path / folder) == whole
    assert find_clips(tmp_path / "eval_data/raw/fan/train") == whole[1:]
    monkeypatch.chdir(tmp_path / "eval_data")
    assert find_clips(".") == find_clips("raw/../raw") == whole


def test_archives_unpacked_each_into_a_folder_of_its_own(tmp_path):
    make(
        tmp_path,
        "dev_bearing/bearing/train/section_00_source_train_normal_0000_vel_1.wav",
        "eval_data_ToyTank_train/ToyTank/train/section_00_source_train_normal_0000_car_1.wav",
    )
    clips = find_clips(tmp_path)
    assert [(c.year, c.subset, c.machine) for c in clips] == [
        (2023, "eval", "ToyTank"),
        (2023, "dev", "bearing"),
    ]


def test_several_data_sets_under_one_root(tmp_path):
    for year in (2020, 2022, 2026):
        make(tmp_path / f"set of {year}", *LAYOUTS[year])
    assert {c.year for c in find_clips(tmp_path)} == {2020, 2022, 2026}


def test_machine_folders_that_are_links(tmp_path):
    make(tmp_path / "disk", "fan/train/normal_id_00_00000000.wav")
    (tmp_path / "data").mkdir()
    (tmp_path / "data/fan").symlink_to(tmp_path / "disk/fan")
    (tmp_path / "data/loop").symlink_to(tmp_path / "data")
    (clip,) = find_clips(tmp_path / "data")
    assert clip.path == str(tmp_path / "data/fan/train/normal_id_00_00000000.wav")


SECTION_00 = "fan/train/section_00_source_train_normal_0000_m-n_W.wav"


@pytest.mark.parametrize(
    ("paths", "year"),
    [
        ([SECTION_00], 2023),
        ([SECTION_00, "fan/train/section_01_source_train_normal_0000_f-n_A.wav"], 2022),
        (["pump/train/section_00_source_train_normal_0000_a_1.wav"], 2021),
        ([SECTION_00, "fan/source_test/section_00_source_test_normal_0000.wav"], 2021),
        ([SECTION_00, "x/train/section_00_source_train_normal_0000_noAttribute.wav"], 2024),
        ([SECTION_00, "fan/supplemental/section_00_noise_0000_noAttribute.wav"], 2025),
        ([SECTION_00, "Polisher/train/section_00_source_train_normal_0000_a_1.wav"], 2025),
        ([f"dcase2025t2/dev_data/raw/{SECTION_00}"], 2025),
        ([f"old/DCASE_2024/{SECTION_00}"], 2024),
        (["mine/train/section_00_source_train_normal_0000_a_1.wav"], 2023),
        (["dcase2024/fan/train/normal_id_00_00000000.wav"], 2020),
    ],
)
def test_year_of_a_data_set(tmp_path, paths, year):
    make(tmp_path, *paths)
    assert {c.year for c in find_clips(tmp_path)} == {year}


def test_year_may_be_given(tmp_path):
    make(tmp_path, SECTION_00)
    assert find_clips(tmp_path, year=2025)[0].year == 2025
    with pytest.raises(UserError, match="year 1999.*2020 to 2026"):
        find_clips(tmp_path, year=1999)


def test_mimii_split(tmp_path):
    # Three abnormal clips would take three of the four normals: half of them is the most.
    tree = "6_dB_fan/fan"
    make(
        tmp_path,
        *(f"{tree}/id_00/normal/{i:08}.wav" for i in range(4)),
        *(f"{tree}/id_00/abnormal/{i:08}.wav" for i in range(3)),
        *(f"{tree}/id_02/normal/{i:08}.wav" for i in range(5)),
        *(f"{tree}/id_02/abnormal/{i:08}.wav" for i in range(1)),
    )
    clips = find_clips(tmp_path)
    assert {(c.machine, c.year, c.subset, c.domain) for c in clips} == {("fan", 0, "dev", "")}

    def names(section, split, label):
        return [c.name for c in clips if (c.section, c.split, c.label) == (section, split, label)]

    assert names("00", "test", NORMAL) == ["normal/00000000.wav", "normal/00000001.wav"]
    assert names("00", "train", NORMAL) == ["normal/00000002.wav", "normal/00000003.wav"]
    assert names("00", "test", ANOMALY) == [f"abnormal/{i:08}.wav" for i in range(3)]
    assert names("02", "test", NORMAL) == ["normal/00000000.wav"]
    assert len(names("02", "train", NORMAL)) == 4
    assert find_clips(tmp_path / tree / "id_02") == tuple(c for c in clips if c.section == "02")


def test_one_machine_at_two_noise_levels_is_refused(tmp_path):
    make(tmp_path, "6_dB_fan/fan/id_00/normal/0.wav", "0_dB_fan/fan/id_00/normal/0.wav")
    with pytest.raises(UserError, match="two clips of machine fan.*0_dB_fan.*6_dB_fan"):
        find_clips(tmp_path)
    assert len(scan(tmp_path).clips) == 2


@pytest.mark.parametrize(
    "path",
    [
        "normal_id_00_00000000.wav",  # neither machine nor split
        "dev_data/train/normal_id_00_00000000.wav",  # no machine
        "fan/other/normal_id_00_00000000.wav",
        "fan/train/recording.wav",
        "fan/train/normal_id_0_00000000.wav",
        "fan/source_test/normal_id_00_00000000.wav",
        "fan/test/section_00_source_train_normal_0000.wav",  # name against folder
        "fan/source_test/section_00_target_test_normal_0000.wav",
        "fan/id_00/anomaly/00000000.wav",
        "fan/train/._normal_id_00_00000000.wav",
    ],
)
def test_strays(tmp_path, path):
    make(tmp_path, path)
    assert parse_clip(path, tmp_path) is None
    assert scan(tmp_path).strays == (str(tmp_path / path),)
    with pytest.raises(UserError, match=f"none of the 1 sound files.*{os.path.basename(path)}"):
        find_clips(tmp_path)


def test_strays_among_clips_are_said(tmp_path):
    make(tmp_path, SECTION_00, "fan/train/x.wav")
    (tmp_path / "fan/train/notes.txt").write_text("no sound")
    said = []
    assert len(find_clips(tmp_path, report=said.append)) == 1
    assert len(said) == 2 and "is read as data of 2023" in said[0]
    assert said[1].startswith("1 sound files fit no layout")
    assert said[1].endswith("fan/train/x.wav")


def test_supplemental_clips_are_set_apart(tmp_path):
    extra = "bearing/supplemental/section_00_machine_source_0000_noAttribute.wav"
    make(tmp_path, SECTION_00, extra)
    found = scan(tmp_path)
    assert (len(found.clips), found.strays) == (1, ())
    assert found.supplemental == (str(tmp_path / extra),)


def test_parse_clip_takes_absolute_and_relative_paths(tmp_path):
    path = "fan/test/anomaly_id_04_00000007.WAV"
    clip = parse_clip(path, tmp_path)
    assert clip == parse_clip(tmp_path / path)
    assert (clip.machine, clip.section, clip.label) == ("fan", "04", ANOMALY)
    assert parse_clip("fan/test/anomaly_id_04_00000007.txt", tmp_path) is None


def test_attribute_file_fills_what_names_lack(tmp_path):
    make(
        tmp_path,
        "fan/train/section_00_source_train_normal_0000.wav",
        "fan/train/section_00_source_train_normal_0001_own_1.wav",
        "fan/test/section_00_source_test_normal_0000.wav",
        "fan/test/section_00_0000.wav",
    )
    (tmp_path / "fan/attributes_00.csv").write_text(
        "file_name,d1p,d1v,d2p,d2v\n"
        "fan/train/section_00_source_train_normal_0000.wav,vel,21,loc,A\n"
        "fan/train/section_00_source_train_normal_0001_own_1.wav,own,2,,\n"
        "fan/test/section_00_source_test_normal_0000.wav,noAttribute,,,\n"
    )
    assert {c.name[:-4]: c.attributes for c in find_clips(tmp_path)} == {
        "section_00_source_train_normal_0000": (("vel", "21"), ("loc", "A")),
        "section_00_source_train_normal_0001_own_1": (("own", "1"),),
        "section_00_source_test_normal_0000": (),
        "section_00_0000": (),
    }
    for damage in (b"file,d1p\nx,y\n", b"\xff\xfe\x00"):
        (tmp_path / "fan/attributes_00.csv").write_bytes(damage)
        with pytest.raises(UserError, match="attributes_00.csv.*restore or remove"):
            find_clips(tmp_path)


def test_folders_that_will_not_do(tmp_path):
    with pytest.raises(UserError, match="no folder .*nowhere; expected <machine>/train"):
        find_clips(tmp_path / "nowhere")
    (tmp_path / "a.wav").touch()
    with pytest.raises(UserError, match="a.wav is a file"):
        find_clips(tmp_path / "a.wav")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="no wav file under .*empty; expected"):
        find_clips(tmp_path / "empty")


def test_folder_that_may_not_be_read(tmp_path, monkeypatch):
    make(tmp_path, SECTION_00)
    scandir = os.scandir

    def forbidding(path):  # a mode of 0 would not stop a test run by root
        if str(path).endswith("train"):
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", forbidding)
    with pytest.raises(UserError, match="fan/train: Permission denied"):
        find_clips(tmp_path)


def test_official_archives():
    archives = official_archives()
    assert {a.year for a in archives} == set(range(2020, 2027))
    assert {a.subset for a in archives} == {"dev", "eval"}
    assert len({a.url for a in archives}) == len(archives)
    # The machine lists of the first two years, as the challenge names them.
    machines = {year: {a.machine for a in archives if a.year == year} for year in (2020, 2021)}
    assert machines[2020] == {"ToyCar", "ToyConveyor", "fan", "pump", "slider", "valve"}
    assert machines[2021] == {"fan", "gearbox", "pump", "slider", "ToyCar", "ToyTrain", "valve"}


def test_real_layouts(shared):
    faults = find_clips(shared / "data/mimii_faults")
    assert {(c.year, c.machine, c.section) for c in faults} == {(2020, "fan", "00")}
    counts = [sum((c.split, c.label) == k for c in faults) for k in
              (("train", NORMAL), ("test", NORMAL), ("test", ANOMALY))]  # fmt: skip
    assert counts == [41, 15, 20]
    raw = find_clips(shared / "data/mimii_8ch")
    assert [(c.machine, c.section, c.name) for c in raw] == [
        ("valve", "06", "abnormal/00000008.wav"),
        ("valve", "06", "normal/00000048.wav"),
    ]
    with pytest.raises(UserError, match="none of the 76 sound files"):
        find_clips(shared / "data/mimii_id00")
