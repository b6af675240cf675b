"""Published numbers are of one score; other settings of a system give another."""

import json

import pytest
from command_line import run_cli
from ensemble_runs import given, write_run

from asd_jax import config as configs
from asd_jax.config import load_config, to_dict
from asd_jax.data.dcase2020 import TRAINING_CLIPS
from asd_jax.data.synthetic.takes import machines_of, sections_of
from asd_jax.evaluation.results import ResultRow, TrainingRow, write_results_csv, write_training_csv
from asd_jax.metrics import domains_of
from asd_jax.published import load_published
from asd_jax.runs.same_score import published_of


def found(name, year=2020, **changes):
    overrides = {key.replace("__", "."): text for key, text in changes.items()}
    return published_of(to_dict(load_config(name, overrides)), year)


@pytest.mark.parametrize("name", sorted({p.system for p in load_published()}))
def test_every_system_has_its_numbers(name):
    """As it is shipped, and with all that is a run's own."""
    from asd_jax.published import configuration_of

    configuration, changes = configuration_of(name)
    year = min(p.year for p in load_published(name))
    config = to_dict(load_config(configuration, changes))
    printed = load_published(name, year)
    mine = {p for p in published_of(config, year).published if p.system == name}
    if name != "outlier_exposure_ae":
        assert mine == set(printed)
    else:  # of each machine, those with its outliers
        assert {(p.machine, p.outliers) for p in mine} == {
            tuple(pair.split(":")) for pair in config["detector"]["outliers"]
        }
    assert {p.system for p in published_of(config, year).published} == {name}
    config["seeds"], config["name"] = [5], configuration
    config["data"]["machines"] = ["fan"]
    config["train"]["epochs"] = 3
    assert {*published_of(config, year).published} == mine


@pytest.mark.parametrize(
    ("name", "changes", "note"),
    [
        ("dense_ae", {"detector__score": "mahalanobis"}, "detector.score is mse with them and mah"),
        ("dense_ae", {"backend": "knn"}, "backend.kind is own with them and knn here."),
        ("dense_ae", {"front_end__n_mels": "64"}, "front_end.n_mels is 128 with them and 64 here."),
        ("iaeo3", {"embedding": "none"}, "embedding.kind is openl3_mel256 with them and none here"),
        ("group_made", {"backend": "mahalanobis"}, "backend.kind is own"),
        ("lstm_ae", {"detector__frames": "5"}, "detector.frames is 15 with them and 5 here."),
    ],
)
def test_another_score_has_none_and_the_note_names_what_differs(name, changes, note):
    numbers, why = found(name, **changes)
    assert numbers == ()
    assert why.startswith(f"Published numbers of {name} are of another score: {note}")


@pytest.mark.parametrize(
    "changes",
    [
        {"threshold": "mean"},
        {"train__epochs": "3", "train__batch_size": "9"},
        {"front_end__pad_mode": "reflect"},
        {"precision": "bfloat16"},
    ],
)
def test_training_and_decisions_are_a_run_s_own(changes):
    assert found("dense_ae", **changes) == found("dense_ae") and found("dense_ae").published


def test_an_ensemble_s_numbers_are_those_of_its_combination():
    for how in ("mean", "max"):
        numbers = found("giri2020_system2", combine=how).published
        assert {p.system for p in numbers} == {f"giri2020_system2_{how}"}
    numbers, note = found("giri2020_system2", members__group_made__detector__components="2")
    assert numbers == () and "members.group_made.detector.components is " in note


def test_outliers_are_compared_by_machine():
    """The first table has the fan with several; without exposure it is another system."""
    numbers = found("outlier_exposure_ae", 2022, detector__outliers="fan:gearbox").published
    assert {(p.row, p.machine) for p in numbers} == {("OE (Gearbox)", "fan")}
    numbers = found("outlier_exposure_ae", 2022, detector__outlier_weight="0").published
    assert {p.row for p in numbers} == {"clear AE"} and len(numbers) == 5


def test_systems_and_years_without_numbers_need_no_note():
    assert found("spectral") == found("dense_ae", 2023) == found("dense_ae", -1) == ((), "")
    assert found("dense_ae", 2023, backend="knn") == ((), "")


def finished(path, changes, *, year=2020, subset="dev", machines=("fan",), own=False):
    """A run that is finished, on the challenge's recordings or on a few of one's own."""
    run = write_run(path, [given([1.0] * 9, [0.1, 0.9])], year=year)
    (run / "config.json").write_text(configs.to_json(load_config("dense_ae", changes)))
    places = [(m, s) for m in machines for s in sections_of(year, subset, m)]
    rows = [
        ResultRow(*place, domain, 0, 5, 5, 0.5, 0.5, 0.6, 0.5, 0.5, 0.5)
        for place in places
        for domain in domains_of(year)
    ]
    write_results_csv(run / "results.csv", rows)
    domains = {"": 9} if own or year == 2020 else {"source": 990, "target": 10}
    training = [
        TrainingRow(*place, domain, 0, f"{domain}{i}", 1.0)
        for place in places
        for domain, count in domains.items()
        for i in range(count if own or year != 2020 else TRAINING_CLIPS[place[0]][0][place[1]])
    ]
    write_training_csv(run / "training_scores.csv", training)
    return run


def test_a_report_leaves_out_the_numbers_of_another_score(tmp_path, capsys):
    run = finished(tmp_path / "run", {})
    other = finished(tmp_path / "other", {"detector.score": "mahalanobis"})
    status, out, _ = run_cli(capsys, "report", run)
    assert status == 0 and "54.41 [1]" in out and "65.83 [1]" in out
    status, out, _ = run_cli(capsys, "report", other)
    assert status == 0 and "54.41" not in out and "published  " not in out
    assert "Published numbers of dense_ae are of another score: detector.score is mse" in out
    status, out, _ = run_cli(capsys, "report", run, other)
    assert "run published" in out and "other published" not in out and out.count("54.41") == 1
    status, out, _ = run_cli(capsys, "report", other, "--format=json")
    assert {each["published_percent"] for each in json.loads(out)["results"]} == {None}


def test_the_baseline_in_a_paper_s_table_is_on_the_same_recordings(tmp_path, capsys):
    def table(*runs):
        status, out, _ = run_cli(capsys, "report", *runs, "--format=markdown")
        assert status == 0
        return out

    run = finished(tmp_path / "run", {}, machines=("fan", "pump"))
    out = table(run)
    assert "| challenge baseline | AUC | **65.8** | **72.9** |  |" in out
    # A machine that one of the runs has a part of.
    part = finished(tmp_path / "part", {}, machines=("fan", "pump"))
    rows = (part / "results.csv").read_text().splitlines(keepends=True)
    (part / "results.csv").write_text("".join(row for row in rows if "fan,02" not in row))
    out = table(run, part)
    assert "| challenge baseline | AUC |  | **72.9** |  |" in out
    assert "has no place beside fan: not all of their sections, or other recordings." in out
    own = finished(tmp_path / "own", {}, own=True)
    out = table(own)
    assert "| challenge baseline |" not in out and "has no place beside fan" in out


def test_the_baseline_s_score_stands_beside_runs_on_its_whole_set(tmp_path, capsys):
    machines = machines_of(2023, "eval")
    whole = finished(tmp_path / "whole", {}, year=2023, subset="eval", machines=machines)
    status, out, _ = run_cli(capsys, "report", whole, "--format=markdown")
    assert status == 0 and "| challenge baseline (MSE) | AUC (source) |" in out
    assert out.replace("**", "").count("| 61.05 |") == 1
    part = finished(tmp_path / "part", {}, year=2023, subset="eval", machines=machines[1:])
    status, out, _ = run_cli(capsys, "report", whole, part, "--format=markdown")
    assert status == 0 and "| challenge baseline (MSE) | AUC (source) |" in out
    assert "61.05" not in out
