"""Ground truth in the forms in which the organisers publish it."""

import pytest

from asd_jax.data.clips import ANOMALY, NORMAL
from asd_jax.data.ground_truth import Truth, read_ground_truth
from asd_jax.errors import UserError

FAN = "ground_truth_fan_section_00_test.csv"
ZERO, ONE = "section_00_0000.wav", "section_00_0001.wav"


def written(folder, files):
    for path, text in files.items():
        place = folder / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(text if isinstance(text, bytes) else text.encode())
    return folder


EVALUATOR = {
    f"ground_truth_data/{FAN}": f"{ZERO},0\n{ONE},1\n",
    f"ground_truth_domain/{FAN}": f"{ZERO},1\n{ONE},0\n",
    f"ground_truth_attributes/{FAN}": (
        f"{ZERO},section_00_target_test_normal_0004_vel_3\n"
        f"{ONE},section_00_source_test_anomaly_0007_noAttribute,"
        "section_00_source_test_anomaly_0007_vel_9.wav\n"
    ),
}
EXPECTED = {
    ("fan", "00"): {
        ZERO: Truth(NORMAL, "target", "section_00_target_test_normal_0004_vel_3.wav"),
        ONE: Truth(ANOMALY, "source", "section_00_source_test_anomaly_0007_vel_9.wav"),
    }
}


@pytest.mark.parametrize(
    "place", ["", "ground_truth_data", "ground_truth_domain", "ground_truth_attributes"]
)
def test_an_evaluators_folders(tmp_path, place):
    written(tmp_path, EVALUATOR)
    truth = read_ground_truth(tmp_path / place)
    assert truth.sections == EXPECTED and truth.lines == ()


def test_other_orders_ends_of_lines_and_marks(tmp_path):
    files = dict(EVALUATOR)
    files[f"ground_truth_data/{FAN}"] = f"\ufeff{ONE},1\r\n{ZERO},0\r\n\r\n"
    files[f"ground_truth_domain/{FAN}"] = f"\ufeff{ONE},0\n{ZERO},1"
    assert read_ground_truth(written(tmp_path, files)).sections == EXPECTED


def test_labels_alone_and_original_names_alone(tmp_path):
    labels = written(tmp_path / "labels", {FAN: EVALUATOR[f"ground_truth_data/{FAN}"]})
    assert read_ground_truth(labels).sections["fan", "00"][ONE] == Truth(ANOMALY)
    name = f"ground_truth_attributes/{FAN}"
    names = written(tmp_path / "names", {name: EVALUATOR[name]})
    assert read_ground_truth(names).sections == EXPECTED


def test_the_domains_of_2021_are_in_the_files_names(tmp_path):
    files = {
        f"ground_truth_data/ground_truth_fan_section_03_{domain}_test.csv": (
            f"section_03_{domain}_test_0000.wav,{label}\n"
        )
        for domain, label in (("source", 1), ("target", 0))
    }
    truth = read_ground_truth(written(tmp_path, files))
    assert truth.sections["fan", "03"] == {
        "section_03_source_test_0000.wav": Truth(ANOMALY, "source"),
        "section_03_target_test_0000.wav": Truth(NORMAL, "target"),
    }


LISTS = {
    "datasets/eval_data_list_2020.csv": (
        "fan\nid_01_00000000.wav,normal_id_01_00000098.wav,0\n"
        "ToyCar\nid_05_00000000.wav,anomaly_id_05_00000001.wav,1\n"
    ),
    "datasets/eval_data_list_2021.csv": (
        "fan\r\nsection_03_source_test_0000.wav,section_03_source_test_anomaly_0000.wav\r\n"
    ),
    "datasets/eval_data_list_2023.csv": f"fan,\n{ZERO},section_00_target_test_normal_0004_.wav\n",
}


def test_a_baselines_lists(tmp_path):
    written(tmp_path, LISTS)
    of_2020 = read_ground_truth(tmp_path, 2020).sections
    assert [*of_2020] == [("fan", "01"), ("ToyCar", "05")]
    assert of_2020["ToyCar", "05"]["id_05_00000000.wav"].label == ANOMALY
    assert read_ground_truth(tmp_path / "datasets", 2021).sections["fan", "03"] == {
        "section_03_source_test_0000.wav": Truth(
            ANOMALY, "source", "section_03_source_test_anomaly_0000.wav"
        )
    }
    one = read_ground_truth(tmp_path / "datasets/eval_data_list_2023.csv", 2022)
    assert one.sections["fan", "00"][ZERO].domain == "target"
    with pytest.raises(UserError, match=r"lists of 2020, 2021, 2023 and none of 2022"):
        read_ground_truth(tmp_path, 2022)


def test_labels_that_original_names_do_not_have_are_said(tmp_path):
    files = EVALUATOR | {f"ground_truth_data/{FAN}": f"{ZERO},1\n{ONE},1\n"}
    truth = read_ground_truth(written(tmp_path, files))
    assert truth.sections["fan", "00"][ZERO].label == ANOMALY
    assert "1 labels and 0 domains of fan are not those of the original names" in truth.lines[0]


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({}, "has no ground truth; expected ground_truth_data/"),
        ({f"ground_truth_data/{FAN}": f"{ZERO},2\n"}, f"{ZERO},2 is not a clip's name and 0 or 1"),
        ({f"ground_truth_data/{FAN}": f"{ZERO}\n"}, "is not a clip's name and 0 or 1"),
        ({f"ground_truth_data/{FAN}": f"{ZERO},0\n{ZERO},1\n"}, f"has {ZERO} twice"),
        ({f"ground_truth_data/{FAN}": ""}, "is empty"),
        ({f"ground_truth_data/{FAN}": b"\xff\xfe,0\n"}, "cannot read"),
        (
            EVALUATOR | {f"ground_truth_domain/{FAN}": f"{ZERO},1\n"},
            f"ground_truth_data and ground_truth_domain differ in the clips of fan 00, as {ONE}",
        ),
        ({f"ground_truth_attributes/{FAN}": f"{ZERO}\n"}, f"{ZERO} has no original name"),
        ({f"ground_truth_attributes/{FAN}": f"{ZERO},{ONE}\n"}, "does not say its label"),
        ({"eval_data_list.csv": f"{ZERO},{ONE}\n"}, "is no list of evaluation clips"),
        (
            {"eval_data_list.csv": "fan\nid_01_00000000.wav,normal_id_01_00000098.wav,1\n"},
            "has the label 1, and its original name is normal_id_01_00000098.wav",
        ),
    ],
)
def test_damaged_files_are_one_line(tmp_path, files, message):
    with pytest.raises(UserError, match=message) as error:
        read_ground_truth(written(tmp_path, files), 2023)
    assert "\n" not in str(error.value)


def test_no_such_folder(tmp_path):
    with pytest.raises(UserError, match="no such folder"):
        read_ground_truth(tmp_path / "nowhere")
