"""Which recordings have a place among published official scores, and what is said of others."""

import json

import pytest
from command_line import run_cli
from ensemble_runs import write_run

from asd_jax.config import load_config, to_dict
from asd_jax.data.synthetic.takes import machines_of, sections_of
from asd_jax.evaluation.results import (
    ResultRow,
    ScoreRow,
    TrainingRow,
    write_training_csv,
)
from asd_jax.metrics import domains_of
from asd_jax.runs.directory import RunDirectory
from asd_jax.runs.report import write_results
from asd_jax.runs.standing import official_set, standing_of

DATA = {"year": 2023, "synthetic": False}


def results_of(year, subset, auc=0.6):
    """Results of every section of a set."""
    return [
        ResultRow(machine, section, domain, 0, 50, 50, auc, auc, auc, 0.5, 0.5, 0.5)
        for machine in machines_of(year, subset)
        for section in sections_of(year, subset, machine)
        for domain in domains_of(year)
    ]


def training_of(results, source=990, target=10):
    return [
        TrainingRow(machine, section, domain, 0, f"{domain}{i}", 1.0)
        for machine, section in dict.fromkeys((r.machine, r.section) for r in results)
        for domain, count in (("source", source), ("target", target))
        for i in range(count)
    ]


def without_some(rows, machine=None):
    """Training clips without a tenth of a machine's, or of all."""
    return [r for r in rows if r.machine != (machine or r.machine) or r.clip[-1] != "1"]


@pytest.mark.parametrize("subset", ["dev", "eval"])
@pytest.mark.parametrize("year", range(2020, 2027))
def test_a_whole_set_is_known(year, subset):
    found = official_set(results_of(year, subset), year)
    assert found[:4] == (year, subset, (), ()) and found.n_missing == 0
    assert (
        found.n_sections
        == {2020: (23, 18), 2021: (21, 21), 2022: (21, 21)}.get(
            year, (7, {2024: 9, 2025: 8, 2026: 5}.get(year, 7))
        )[subset == "eval"]
    )


def test_what_a_set_lacks_is_named():
    rows = [r for r in results_of(2020, "dev") if r.machine != "pump"]
    rows = [r for r in rows if (r.machine, r.section) != ("fan", "02")]
    rows.append(rows[0]._replace(machine="blender"))
    found = official_set(rows, 2020)
    assert found == (2020, "dev", ("fan 02", "pump"), ("blender",), 23, 5)
    # Without labels, or without a domain, a section has no number.
    rows = results_of(2023, "dev")
    rows[0] = rows[0]._replace(pauc_mcclish=float("nan"))
    assert official_set(rows, 2023).missing == (rows[0].machine,)
    rows = [r for r in results_of(2021, "eval") if (r.machine, r.domain) != ("fan", "target")]
    assert official_set(rows, 2021).missing == ("fan",)
    assert official_set([rows[0]._replace(machine="blender")], 2021) is None
    assert official_set(results_of(2020, "dev"), 0) is None


def test_a_run_of_a_whole_set_has_a_place():
    stored = to_dict(load_config("mel_knn"))
    results = results_of(2023, "dev")
    found = standing_of(stored, DATA, results, lambda: training_of(results))
    # Between raw_beats (60.11) and OpenL3's (60.3).
    assert found.line.startswith("official score of DCASE 2023's development set, %: 60.00 (ch")
    assert found.line.endswith("place 15 beside 17 published")
    assert found.notes == () and "THIS RUN" in found.markdown
    assert [line for line in found.table if "(this run's)" in line] == [
        line for line in found.table if "raw_spec" in line
    ]


def test_other_settings_are_not_the_published_configuration():
    results = results_of(2020, "eval")
    rows = training_of(results, 900, 0)
    data = {"year": 2020, "synthetic": False}
    for settings, system in (
        ({"seeds": "5,"}, "dis_multispec_scac_trainable"),
        ({"detector.n_ffts": "1024,"}, "dis_spec_scac_trainable"),
        ({"train.epochs": "1"}, None),
        ({"train.threshold_split": "0"}, "dis_multispec_scac_trainable"),
        ({"train.threshold_split": "0.9"}, None),
    ):
        stored = to_dict(load_config("multibranch", settings))
        found = standing_of(stored, data, results, lambda: rows)
        own = [line for line in found.table if "(this run's)" in line]
        assert [system in line for line in own] == [True] * (system is not None)
        assert "whether they are its recordings is not known" in found.notes[0]


@pytest.mark.parametrize(
    ("change", "line"),
    [
        (
            lambda results, rows: (results[3:], rows),
            "no place beside published official scores of DCASE 2023's development set: without "
            "ToyCar",
        ),
        (
            lambda results, rows: (results, without_some(rows, "fan")),
            "no place beside published official scores of DCASE 2023's development set: fan: not "
            "of it, by sections and training clips",
        ),
        (
            lambda results, rows: (
                [*results, *(r._replace(machine="blender") for r in results[:3])],
                [*rows, *(r._replace(machine="blender") for r in rows[:1000])],
            ),
            "no place beside published official scores of DCASE 2023's development set: blender: "
            "not of it, by sections and training clips",
        ),
        (lambda results, rows: (results, without_some(rows)), ""),  # somebody's own machines
    ],
)  # fmt: skip
def test_why_there_is_no_place(change, line):
    results = results_of(2023, "dev")
    results, rows = change(results, training_of(results))
    found = standing_of(to_dict(load_config("mel_knn")), DATA, results, lambda: rows)
    assert found == (line, (), (), "")


def test_synthetic_data_have_none():
    data, results = {"year": 2023, "synthetic": True}, results_of(2023, "dev")
    found = standing_of({}, data, results, lambda: pytest.fail("training clips are not read"))
    assert found == ("", (), (), "")


def test_a_run_directory_and_its_report(tmp_path, capsys):
    path = write_run(tmp_path / "run", [], year=2023, seeds=(0,))
    run_dir = RunDirectory(path)
    write_training_csv(run_dir.training_csv, training_of(results_of(2023, "dev")))
    scores = [
        ScoreRow(
            machine, "00", domain, 0, f"{domain}_{i}.wav", i % 2, 2.0 * (i % 2) + i / 7, 0.0, 0
        )
        for machine in machines_of(2023, "dev")
        for domain in ("source", "target")
        for i in range(40)
    ]
    write_results(run_dir, scores, json.loads(run_dir.data.read_text()))
    published = run_dir.published_md.read_text()
    line = published.splitlines()[2].removeprefix("This run: ").rstrip(".")
    assert line.startswith("official score of DCASE 2023's development set, %: ")
    assert line in run_dir.results_md.read_text().splitlines()
    status, out, _ = run_cli(capsys, "report", path)
    lines = out.splitlines()
    at = lines.index(line)
    assert status == 0 and lines[at + 1].split() == [
        "place", "system", "configuration", "here", "pretrained", "score"
    ]  # fmt: skip
    assert lines[-1] == f"{path}/published.md has all, with sources."
    assert any("THIS RUN" in row for row in lines[at:])
    # Its seeds are others than the configuration's.
    assert [row.split()[1] for row in lines if "dense_ae (this run's)" in row] == ["ae"]
    status, out, _ = run_cli(capsys, "report", path, path)
    assert f"{path}: {line}" in out.splitlines()
    # Results of other test clips take the table with them.
    run_dir._remove_results()
    assert not run_dir.published_md.exists() and run_dir.training_csv.exists()


def test_a_seed_without_scores_has_no_place():
    results = results_of(2023, "dev")
    lost = [row._replace(seed=1, auc=float("nan"), pauc_mcclish=float("nan")) for row in results]
    stored = to_dict(load_config("mel_knn"))
    found = standing_of(stored, DATA, [*results, *lost], lambda: training_of(results))
    assert found.line.startswith("no place beside published official scores of DCASE 2023's")
    assert "a seed has scores that are no numbers" in found.line and not found.table
