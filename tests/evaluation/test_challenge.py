"""The challenge's CSVs: names and contents, derived by hand from the official evaluators."""

import numpy as np
import pytest

from asd_jax.errors import UserError
from asd_jax.evaluation.challenge import write_challenge_files
from asd_jax.evaluation.results import ScoreRow


def _row(name, section, domain, score, decision, seed=0, machine="fan"):
    return ScoreRow(machine, section, domain, seed, name, -1, score, 0.5, decision)


def _contents(folder):
    return {str(p.relative_to(folder)): p.read_text() for p in folder.rglob("*.csv")}


def test_2020_has_score_files_only(tmp_path):
    rows = [
        _row("id_05_00000001.wav", "05", "", np.float32(0.1), 0),
        _row("id_05_00000000.wav", "05", "", 2.5, 1),
        _row("id_01_00000000.wav", "01", "", 1e-7, 0, machine="ToyCar"),
    ]
    for year, folder in ((2020, tmp_path / "a"), (0, tmp_path / "b")):
        written = write_challenge_files(folder, rows, year)
        assert _contents(folder) == {
            "anomaly_score_fan_id_05.csv": "id_05_00000000.wav,2.5\nid_05_00000001.wav,0.1\n",
            "anomaly_score_ToyCar_id_01.csv": "id_01_00000000.wav,1e-07\n",
        }
        assert sorted(written) == sorted(folder.iterdir())


def test_2021_is_split_by_domain(tmp_path):
    rows = [
        _row("section_03_source_test_0000.wav", "03", "source", 1.5, 1),
        _row("section_03_target_test_0000.wav", "03", "target", 0.5, np.int8(0)),
    ]
    write_challenge_files(tmp_path, rows, 2021)
    assert _contents(tmp_path) == {
        "anomaly_score_fan_section_03_source_test.csv": "section_03_source_test_0000.wav,1.5\n",
        "anomaly_score_fan_section_03_target_test.csv": "section_03_target_test_0000.wav,0.5\n",
        "decision_result_fan_section_03_source_test.csv": "section_03_source_test_0000.wav,1\n",
        "decision_result_fan_section_03_target_test.csv": "section_03_target_test_0000.wav,0\n",
    }
    with pytest.raises(UserError, match="test clips of fan, section 03, have no domain"):
        write_challenge_files(tmp_path, [_row("x.wav", "03", "", 1.0, 1)], 2021)


@pytest.mark.parametrize("year", [2022, 2023, 2026])
def test_later_years_join_the_domains(tmp_path, year):
    rows = [
        _row("section_00_0001.wav", "00", "target", 1.5, 1),
        _row("section_00_0000.wav", "00", "", 0.5, 0),
    ]
    write_challenge_files(tmp_path, rows, year)
    assert _contents(tmp_path) == {
        "anomaly_score_fan_section_00_test.csv": (
            "section_00_0000.wav,0.5\nsection_00_0001.wav,1.5\n"
        ),
        "decision_result_fan_section_00_test.csv": (
            "section_00_0000.wav,0\nsection_00_0001.wav,1\n"
        ),
    }


def test_several_seeds_have_a_folder_each(tmp_path):
    rows = [_row("a.wav", "00", "", float(seed), seed % 2, seed=seed) for seed in (0, 3)]
    write_challenge_files(tmp_path, rows, 2022)
    for seed in (0, 3):
        path = tmp_path / f"seed_{seed}/anomaly_score_fan_section_00_test.csv"
        assert path.read_text() == f"a.wav,{float(seed)}\n"
    assert not list(tmp_path.glob("*.csv"))


def test_a_clip_scored_twice(tmp_path):
    rows = [_row("a.wav", "00", "", 1.0, 1)] * 2
    with pytest.raises(UserError, match="a.wav of fan is scored twice by seed 0"):
        write_challenge_files(tmp_path, rows, 2022)
    assert not list(tmp_path.iterdir())


def test_a_machine_s_name_of_any_length(tmp_path):
    """Two of them that begin alike have files of their own."""
    rows = [
        ScoreRow(250 * "m" + end, "00", "source", 0, "a.wav", 0, 1.0, 0.5, 1) for end in ("x", "y")
    ]
    files = write_challenge_files(tmp_path, rows, 2022)
    assert len({*files}) == 4 and all(len(file.name) <= 240 for file in files)
