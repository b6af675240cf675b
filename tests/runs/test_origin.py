"""Published numbers stand only beside recordings that may be the challenge's."""

import json

import pytest
from command_line import run_cli
from ensemble_runs import given, write_run

from asd_jax.data.dcase2020 import TRAINING_CLIPS
from asd_jax.evaluation.results import ResultRow, TrainingRow, write_results_csv
from asd_jax.published import load_published
from asd_jax.runs.origin import Origin, compare, origins

FAN = TRAINING_CLIPS["fan"][0]  # of 2020
SYNTHETIC = "The data is synthetic; published numbers are of the challenge's recordings."


def rows_of(machine="fan", domain="", **counts):
    """Training clips by section, each scored by two seeds."""
    return [
        TrainingRow(machine, section.removeprefix("id"), domain, seed, f"{domain}{i}", 1.0)
        for section, count in counts.items()
        for seed in (0, 1)
        for i in range(count)
    ]


def domains(source, target, sections=("00", "01", "02")):
    return [
        row
        for domain, count in (("source", source), ("target", target))
        for row in rows_of(domain=domain, **dict.fromkeys(sections, count))
    ]


@pytest.mark.parametrize(
    ("year", "rows", "origin"),
    [
        (2020, rows_of(**FAN), Origin(True, True)),
        (2020, rows_of(**{"00": FAN["00"], "02": FAN["02"]}), Origin(True, False)),
        (2020, rows_of(**{**FAN, "06": FAN["06"] - 3}), Origin(False, True)),
        (2020, rows_of(**{**FAN, "06": FAN["06"] - 30}), None),
        (2020, rows_of(**{**FAN, "06": FAN["06"] + 1}), None),
        (2020, rows_of(**{**FAN, "07": 900}), None),  # no section of the challenge's
        (2020, rows_of(**{"00": 30}), None),
        (2020, rows_of("blender", **FAN), None),
        (0, rows_of(**FAN), None),
        (2023, rows_of(**FAN), None),
        (2022, domains(990, 10), Origin(True, True)),
        (2022, domains(990, 9, ["01"]), Origin(False, False)),
        (2022, domains(990, 10, ["03", "04", "05"]), None),  # of the evaluation set
        (2022, domains(200, 10), None),
        (2021, domains(1003, 3), Origin(False, True)),  # numbers that are not known exactly
        (2021, domains(1000, 0), None),
        (2021, rows_of(**{"00": 1000}), None),
    ],
)
def test_what_tells_the_challenge_s_recordings(year, rows, origin):
    found = origins(rows, year)
    assert list(found.values()) == ([] if origin is None else [origin])


@pytest.mark.parametrize(
    ("rows", "shown", "note"),
    [
        (rows_of(**FAN), {"00", "02", "04", "06", "mean", "all"}, None),
        (rows_of(**{"00": FAN["00"]}), {"00", "02", "04", "06"}, None),  # no mean of all sections
        (
            rows_of(**{**FAN, "00": FAN["00"] - 1}),
            {"00", "02", "04", "06", "mean", "all"},
            "fan: names and numbers are like those of DCASE 2020's development set; whether they "
            "are its recordings is not known.",
        ),
        (
            rows_of(**{"00": 40}),
            set(),
            "fan: without published numbers, as sections and numbers of training clips are not "
            "those of DCASE 2020's development set.",
        ),
    ],
)
def test_the_numbers_and_notes_beside_a_machine_s_results(rows, shown, note):
    found = compare(
        load_published("lstm_ae", 2020), {"fan"}, rows, {"year": 2020, "synthetic": False}
    )
    assert {row.section for row in found.published} == shown
    assert found.notes == ((note,) if note else ())
    assert {row.machine for row in found.published} <= {"fan"}


def test_machines_without_published_numbers_need_no_note():
    data = {"year": 2020, "synthetic": False}
    found = compare(load_published("lstm_ae", 2020), {"blender"}, rows_of("blender", id00=9), data)
    assert found == ((), ())


def own_fan(path, synthetic):
    """A finished run on forty clips of somebody's fan."""
    run = write_run(path, [given([1.0] * 40, [0.1, 0.2, 0.8, 0.9])])
    rows = [ResultRow("fan", "00", "all", 0, 2, 2, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0)]
    write_results_csv(run / "results.csv", rows)
    data = json.loads((run / "data.json").read_text())
    (run / "data.json").write_text(json.dumps({**data, "synthetic": synthetic}))
    return run


def test_no_published_numbers_beside_a_fan_of_one_s_own(tmp_path, capsys):
    run = own_fan(tmp_path / "run", False)
    status, out, _ = run_cli(capsys, "report", run)
    assert status == 0 and "published  " not in out and "54.41" not in out
    assert out.rstrip().endswith(
        "fan: without published numbers, as sections and numbers of training clips are not those "
        "of DCASE 2020's development set."
    )
    made = own_fan(tmp_path / "made", True)
    status, out, _ = run_cli(capsys, "report", made)
    assert "54.41 [1]" in out and SYNTHETIC in out
    status, out, _ = run_cli(capsys, "report", run, made)
    assert status == 0 and "54.41 [1]" in out and SYNTHETIC in out
    assert "run: fan: without published numbers" in out
