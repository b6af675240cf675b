"""Recordings among a machine's clips that fit no layout, and machines with decomposed names."""

import shutil
import unicodedata

import pytest
from command_line import run_cli
from recordings import make

from asd_jax.config import ChoiceConfig, DataConfig, load_config, override
from asd_jax.detectors import make_detector
from asd_jax.detectors.outlier_exposure_ae import OutlierExposureConfig
from asd_jax.detectors.picture_mobilenet import PictureMobileNetConfig
from asd_jax.errors import UserError
from asd_jax.runs.clips import find_chosen


def chosen(folder, on_bad_clip="stop", said=None, **data):
    config = load_config("dense_ae", {f"data.{key}": text for key, text in data.items()})
    report = [].append if said is None else said.append
    return find_chosen(make_detector(config), folder, report, on_bad_clip)


@pytest.fixture
def folder(tmp_path):
    return make(
        tmp_path,
        "dev_data/fan/train/normal_id_00_00000000.wav",
        "dev_data/pump/train/normal_id_00_00000000.wav",
        "eval_data/fan/train/normal_id_01_00000000.wav",
    )


@pytest.mark.parametrize("name", ["train/x.wav", "train/x.flac", "test/x.bin"])
def test_they_stop_a_run_as_unusable_ones_do(folder, name):
    make(folder, f"dev_data/fan/{name}")
    message = f"^1 recordings among the clips of fan fit no layout and .*, first .*/fan/{name};"
    with pytest.raises(UserError, match=message):
        chosen(folder)
    said = []
    assert chosen(folder, "skip", said).distinct("machine") == ["fan", "pump"]
    (line,) = [line for line in said if "no layout" in line]
    assert line.endswith(f"are no clips, for example {folder}/dev_data/fan/{name}")


def test_a_machine_of_them_alone_stops_a_run_of_all_machines(folder):
    make(folder, "dev_data/valve/train/x.wav")
    with pytest.raises(UserError, match="among the clips of valve fit no layout"):
        chosen(folder)


def test_those_of_what_is_not_run_do_not_stop_it(folder):
    make(folder, "dev_data/pump/train/x.wav", "eval_data/fan/train/x.wav", "dev_data/x.wav")
    (folder / "dev_data/fan/train/notes.txt").write_text("no sound")
    assert len(chosen(folder, machines="fan,")) == 1
    with pytest.raises(UserError, match="among the clips of fan .*eval_data"):
        chosen(folder, machines="fan,", subset="eval")


def test_a_subset_that_the_data_lacks_is_said(tmp_path):
    make(tmp_path, "dev_data/fan/train/normal_id_00_00000000.wav")
    with pytest.raises(UserError, match="data.subset is eval, but the data has dev"):
        chosen(tmp_path, subset="eval")


def test_a_run_and_its_plan_say_the_same(single, tmp_path, capsys):
    data = shutil.copytree(single, tmp_path / "data")
    (first, *_) = sorted(data.glob("**/train/*.wav"))
    first.rename(first.with_name("renamed.wav"))
    command = ("run", "--config=dense_ae", f"--data_dir={data}")
    causes = set()
    for more in ((f"--out_dir={tmp_path / 'run'}",), ("--dry_run",)):
        status, _, err = run_cli(capsys, *command, *more)
        causes.add(err.splitlines()[-1])
        assert status == 2
    (cause,) = causes
    assert "1 recordings among the clips of fan fit no layout" in cause
    assert not (tmp_path / "run").exists()
    status, out, err = run_cli(capsys, *command, "--dry_run", "--on_bad_clip=skip")
    assert (status, err) == (0, "") and "1 sound files fit no layout and are no clips" in out


COMPOSED, DECOMPOSED = (unicodedata.normalize(form, "Gerät") for form in ("NFC", "NFD"))


@pytest.mark.parametrize("stored", [COMPOSED, DECOMPOSED])
@pytest.mark.parametrize("asked", [COMPOSED, DECOMPOSED])
def test_a_machine_is_found_by_either_form_of_its_name(tmp_path, stored, asked):
    make(tmp_path, f"{stored}/train/normal_id_00_00000000.wav")
    assert chosen(tmp_path, machines=f"{asked},").distinct("machine") == [COMPOSED]


def test_settings_name_machines_composed():
    assert DataConfig(machines=(DECOMPOSED,)) == DataConfig(machines=(COMPOSED,))
    members = {"a": load_config("dense_ae"), "b": load_config("dense_ae")}
    choice = ChoiceConfig(members, choices=(f"{DECOMPOSED}:a",), default="b")
    assert choice.member_for(COMPOSED) == choice.member_for(DECOMPOSED) == "a"
    exposed = override(
        load_config("outlier_exposure_ae"), {"detector.outliers": f"{DECOMPOSED}:fan"}
    )
    assert exposed.detector.outliers == (f"{COMPOSED}:fan",)
    for settings in (OutlierExposureConfig, PictureMobileNetConfig):
        assert settings(outliers=(f"{DECOMPOSED}:fan",)).outliers == (f"{COMPOSED}:fan",)
    with pytest.raises(UserError, match="data.machines is 'fan'; give a tuple of names"):
        DataConfig(machines="fan")


def test_the_machine_whose_clips_are_outliers_is_named(folder):
    """A pair of the settings that the data lacks gives way to another one."""
    config = load_config("outlier_exposure_ae", {"detector.outliers": "fan:valve,"})
    said = []
    find_chosen(make_detector(config), folder, said.append, "stop")
    assert "fan: normal clips of pump serve as outliers" in said
    assert "pump: normal clips of fan serve as outliers" in said
