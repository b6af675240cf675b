"""What commands print for programs reads back to the same numbers, and for people fits."""

import csv
import io
import json
import math
import os
import shutil

import numpy as np
import pytest
from command_line import run_cli
from shared_runs import rows_of

import asd_jax
from asd_jax.commands import listing
from asd_jax.commands.output import print_csv, print_json
from asd_jax.config import load_config
from asd_jax.config.reference import as_text, reference
from asd_jax.data.index import index
from asd_jax.fitting.recordings import FileScore
from asd_jax.fitting.score_records import SCORE_FIELDS, score_record
from asd_jax.published import load_published
from asd_jax.runs import report
from asd_jax.runs.report import report_records
from asd_jax.runs.same_score import OfScore
from asd_jax.runtime import text_tables

pytestmark = pytest.mark.usefixtures("no_pictures")


def refuse(constant):
    raise AssertionError(f"{constant} is no JSON")


def as_json(text):
    """Read as strictly as the standard has it: Python alone takes NaN."""
    assert text.isascii()
    return json.loads(text, parse_constant=refuse)


def as_csv(text):
    return [*csv.DictReader(io.StringIO(text, newline=""))]


def numbers_of(values):
    """The numbers of a document, of which some are texts."""
    return [None if value is None else float(value) for value in values]


def both(capsys, *arguments):
    """The JSON document and the rows of CSV of a command, and what it says beside them."""
    capsys.readouterr()
    status, text, said = run_cli(capsys, *arguments, "--format=json")
    assert status == 0, said
    status, lines, also_said = run_cli(capsys, *arguments, "--format=csv")
    assert status == 0 and also_said == said
    return as_json(text), as_csv(lines), said


@pytest.mark.parametrize(
    "value",
    [0.1, 1 / 3, 5e-324, 1.7976931348623157e308, -0.0, math.pi * 1e-9, float(np.float32(0.1))],
)
def test_every_digit_of_a_number_is_there(value, capsys):
    print_json({"value": value, "array": np.array([value])})
    document = as_json(capsys.readouterr().out)
    print_csv(["value"], [{"value": value}])
    row = as_csv(capsys.readouterr().out)[0]
    for read in (document["value"], document["array"][0], float(row["value"])):
        assert read == value and math.copysign(1, read) == math.copysign(1, value)


def test_numbers_that_are_none_and_odd_texts(capsys):
    values = {"nan": math.nan, "inf": math.inf, "low": np.float32(-np.inf), "none": None}
    odd = {
        "text": 'a "b",\nc; Lüfter 風扇',
        "surrogate": os.fsdecode(b"caf\xe9"),
        "list": [1, None],
    }
    print_json({**values, **odd, "yes": True, "count": np.int64(3)})
    document = as_json(capsys.readouterr().out)
    assert document["nan"] == "NaN" and document["inf"] == "Infinity"
    assert document["low"] == "-Infinity" and document["none"] is None
    assert {name: document[name] for name in odd} == odd
    assert (document["yes"], document["count"]) == (True, 3)
    del odd["surrogate"]
    print_csv([*values, *odd], [{**values, **odd}])
    (row,) = as_csv(capsys.readouterr().out)
    assert math.isnan(float(row["nan"])) and float(row["low"]) == -math.inf
    assert (row["none"], row["text"], json.loads(row["list"])) == ("", odd["text"], odd["list"])


def test_report_has_the_numbers_of_the_run_s_files(finished, capsys, monkeypatch):
    """As if the small system of the run were the one that the published numbers are of."""
    of_score = OfScore(load_published("dense_ae", 2020))
    monkeypatch.setattr(report, "published_of", lambda stored, year: of_score)
    document, rows, said = both(capsys, "report", finished)
    assert len(rows) == len(document["results"]) and "synthetic" in said
    assert document["notes"] == said.splitlines()
    results = rows_of(finished / "results.csv")
    printed = load_published("dense_ae", 2020)
    seen = 0
    for record, row in zip(document["results"], rows, strict=True):
        names = ("mean", "std", "low", "high", "published_percent")
        numbers = numbers_of(record[name] for name in names)
        read = [None if row[name] == "" else float(row[name]) for name in names]
        assert repr(read) == repr(numbers)
        assert json.loads(row["values"]) == record["values"]
        own = [
            float(each[record["metric"]])
            for each in results
            if all(each[k] == record[k] for k in ("machine", "section", "domain"))
        ]
        if own:
            seen += 1
            assert repr(numbers_of(record["values"])) == repr(own) and record["seeds"] == [0, 1]
            assert read[0] == pytest.approx(np.mean(own), abs=1e-12, nan_ok=True)
        if own and not np.isnan(own).any():
            assert read[1] == pytest.approx(np.std(own, ddof=1), abs=1e-12)
            assert read[2] - 1e-6 <= read[0] <= read[3] + 1e-6  # intervals are float32
        place = [record[k] for k in ("machine", "section", "domain", "metric")]
        if "mean" in place[:2]:  # printed means are over all of a machine's ids, and all machines
            place = []
        first = [p for p in printed if [p.machine, p.section, p.domain, p.metric] == place][:1]
        assert record["published_percent"] == next((float(p.percent) for p in first), None)
    assert seen == 3 * 2 * 2
    (auc,) = [
        each for each in document["results"] if (each["machine"], each["metric"]) == ("mean", "auc")
    ]
    by_seed = [
        np.mean([float(row["auc"]) for row in results if row["seed"] == seed]) for seed in "01"
    ]
    assert auc["values"] == pytest.approx(by_seed, abs=1e-12) and auc["low"] is None
    table = run_cli(capsys, "report", finished)[1]
    assert f"mean over all machine ids, AUC %: {100 * auc['mean']:.2f} ±" in table


def test_report_of_two_runs_names_them_apart(copied, tmp_path, capsys):
    other = shutil.copytree(copied, tmp_path / "Lüfter")
    document, rows, _ = both(capsys, "report", copied, other)
    assert [*dict.fromkeys(row["run"] for row in rows)] == ["run", "Lüfter"]
    half = len(rows) // 2
    for first, second in zip(document["results"][:half], document["results"][half:], strict=True):
        assert {**first, "run": ""} == {**second, "run": ""}
    assert report_records([copied])[0][0].run == "run"


def test_score_has_the_numbers_of_python(finished, data, capsys):
    folder = next(data.glob("**/fan/test"))
    document, rows, _ = both(capsys, "score", finished, folder)
    files = sorted(folder.glob("*.wav"))
    assert [row["file"] for row in rows] == [str(file) for file in files]
    fitted = asd_jax.load(finished)
    for record, row in zip(document["recordings"], rows, strict=True):
        assert (record["score"], record["threshold"]) == (
            float(row["score"]),
            float(row["threshold"]),
        )
        assert record["threshold"] == fitted.threshold(machine="fan")
        assert record["decision"] == int(record["score"] > record["threshold"])
        assert row["decision"] == str(record["decision"]) and "explanation" not in row
    lines = run_cli(capsys, "score", finished, folder)[1].splitlines()
    for line, record in zip(lines, document["recordings"], strict=True):
        assert f"score {record['score']:.6g}  threshold {record['threshold']:.6g}" in line


def test_without_a_number_there_is_no_decision(monkeypatch, capsys, tmp_path):
    rows = [
        FileScore("a.wav", "fan", math.nan, 1.0, 0),
        FileScore("b.wav", "fan", 2.0, math.nan, 0),
        FileScore("c.wav", "fan", math.inf, 1.0, 1),
    ]
    monkeypatch.setattr("asd_jax.fitting.recordings.score_files", lambda *a, **k: rows)
    monkeypatch.setattr("asd_jax.pipeline.load", lambda path: None)
    document, lines, _ = both(capsys, "score", tmp_path, "x.wav")
    assert [each["score"] for each in document["recordings"]] == ["NaN", 2.0, "Infinity"]
    assert [each["threshold"] for each in document["recordings"]] == [1.0, None, 1.0]
    assert [each["decision"] for each in document["recordings"]] == [None, None, 1]
    assert [row["score"] for row in lines] == ["nan", "2.0", "inf"]
    assert [row["decision"] for row in lines] == ["", "", "1"]
    table = run_cli(capsys, "score", tmp_path, "x.wav")[1].splitlines()
    assert table[0].endswith("no score, so no decision") and "normal" not in table[0]
    assert table[1].endswith("no threshold, so no decision") and table[2].endswith("anomalous")


def test_an_explanation_adds_up_to_the_score(data, tmp_path, capsys):
    """Shares of a part's bands sum to its score, to 1e-9 in float64."""
    out = tmp_path / "run"
    config = load_config("spectral", {"front_end.n_mels": "16"})
    asd_jax.run(config, data, out, cache_dir=tmp_path / "cache")
    wav = next(data.glob("**/fan/test/*.wav"))
    document, rows, _ = both(capsys, "score", out, wav, "--explain")
    (record,) = document["recordings"]
    explained = json.loads(rows[0]["explanation"])
    assert explained == record["explanation"] and len(explained["hz"]) == 16
    for part in explained["parts"]:
        assert len(part["deviation_db"]) == len(part["share"]) == 16
        assert sum(part["share"]) == pytest.approx(part["score"], rel=1e-9)
    assert [part["name"] for part in explained["parts"]] == ["level", "change", "peak"]


def test_index_has_counts_problems_and_paths(data, tmp_path, capsys):
    spoiled = shutil.copytree(data, tmp_path / "mit Leerzeichen, und Ümlaut")
    broken = next(spoiled.glob("**/fan/train/*.wav"))
    broken.write_bytes(b"")
    document, rows, said = both(capsys, "index", f"--data_dir={spoiled}")
    assert "recordings" in said
    summary = index(spoiled)
    clips = [row for row in rows if row["record"] == "clips"]
    assert len(clips) == len(document["clips"]) == len(summary.rows)
    for row, record, own in zip(clips, document["clips"], summary.rows, strict=True):
        assert float(row["seconds"]) == record["seconds"] == own.seconds
        assert int(row["train"]) == record["train"] == own.train
        assert [record[k] for k in ("year", "machine", "section")] == [
            own.key[i] for i in (0, 2, 3)
        ]
    problems = [(row["problem"], row["where"]) for row in rows if row["record"] == "problem"]
    assert problems == [(p["problem"], w) for p in document["problems"] for w in p["where"]]
    assert str(broken) in [where for _, where in problems]
    assert document["usable"] == summary.usable == len(list(spoiled.rglob("*.wav"))) - 1


def test_list_has_systems_configurations_and_their_sizes(capsys, monkeypatch):
    shown = ["dense_ae", "spectral", "giri2020_system2"]
    monkeypatch.setattr(listing, "shown", lambda: shown)
    document, rows, said = both(capsys, "list")
    assert said == ""
    by_name = {row["configuration"]: row for row in rows}
    assert by_name["dense_ae"]["parameters"] == "269992"
    assert by_name["spectral"]["parameters"] == "0"
    assert json.loads(by_name["giri2020_system2"]["members"]) == [
        "mobilenet_v2_id_mix",
        "group_made",
    ]
    found = {each.get("configuration"): each for each in document["configurations"]}
    assert found["dense_ae"]["scope"] == "machine" and found["dense_ae"]["parameters"] == 269992
    assert {each["system"] for each in document["configurations"]} == {
        *asd_jax.list_detectors(),
        "ensemble",
    }


def test_list_of_keys_has_the_values_of_the_configuration(capsys):
    arguments = ("list", "--config=dense_ae", "--config.train.epochs=7", "--config.seeds=4,2")
    document, rows, _ = both(capsys, *arguments)
    config = load_config("dense_ae", {"train.epochs": "7", "seeds": "4,2"})
    expected = {key.key: key for key in reference(config)}
    assert [row["key"] for row in rows] == [each["key"] for each in document["keys"]] == [*expected]
    for row, record in zip(rows, document["keys"], strict=True):
        key = expected[row["key"]]
        assert row["value"] == as_text(key.value) and row["meaning"] == key.meaning
        value = tuple(record["value"]) if isinstance(record["value"], list) else record["value"]
        assert value == key.value and type(value) is type(key.value)
    table = run_cli(capsys, *arguments)[1]
    (line,) = [line for line in table.splitlines() if line.startswith("train.epochs ")]
    assert line.split()[:3] == ["train.epochs", "7", "100"]
    assert line.endswith("largest number of epochs of a model")
    for wrong, message in (
        (["--config=dens_ae"], "did you mean dense_ae"),
        (["--config=dense_ae", "--config.train.epoch=1"], "did you mean train.epochs"),
        (["--config.train.epochs=1"], "needs --config="),
        (["--test=x"], "needs --normal="),
        (["--format=xml"], "format"),
    ):
        status, out, err = run_cli(capsys, "list", *wrong)
        assert (status, out, err.count("\n")) == (2, "", 1) and message in err


def test_which_configurations_run_on_a_data_set(single, data, capsys, monkeypatch):
    shown = ["dense_ae", "mobilenet_v2_id", "lstm_ae", "giri2020_system2", "spectral"]
    monkeypatch.setattr(listing, "shown", lambda: shown)
    document, rows, _ = both(capsys, "list", f"--data_dir={single}")
    runs = {each["configuration"]: each["runs"] for each in document["configurations"]}
    assert runs == {
        **dict.fromkeys(shown, True),
        "mobilenet_v2_id": False,
        "giri2020_system2": False,
    }
    assert [row["runs"] for row in rows] == [str(runs[name]).lower() for name in shown]
    reason = rows[1]["reason"]
    assert "only one id" in reason and rows[0]["reason"] == ""
    status, _, err = run_cli(
        capsys, "run", "--dry_run", "--config=mobilenet_v2_id", f"--data_dir={single}"
    )
    assert (status, err) == (2, f"asd-jax: {reason}\n")
    table = run_cli(capsys, "list", f"--data_dir={single}")[1]
    assert f"mobilenet_v2_id   cannot  {reason}" in table and "dense_ae          runs" in table
    one = ("--config=mobilenet_v2_id", "--config.detector.frames=48", "--config.detector.hop=8")
    assert "mobilenet_v2_id  runs" in run_cli(capsys, "list", f"--data_dir={data}", *one)[1]
    own = ("--config=lstm_ae", "--config.detector.frames=1000", "--format=json")
    (found,) = as_json(run_cli(capsys, "list", f"--data_dir={data}", *own)[1])["configurations"]
    assert not found["runs"] and "too short for lstm_ae" in found["reason"]
    status, out, err = run_cli(capsys, "list", "--data_dir=/no/where")
    assert (status, out) == (2, "") and "/no/where" in err


def test_own_folders_too(single, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(listing, "shown", lambda: ["spectral", "mobilenet_v2_id"])
    normal = next(single.glob("**/train"))
    document, _, _ = both(capsys, "list", f"--normal={normal}")
    assert [each["runs"] for each in document["configurations"]] == [True, False]


@pytest.mark.parametrize("width", [60, 80, 120])
def test_tables_fit_the_terminal(finished, data, width, capsys, monkeypatch):
    """What is piped is not cut: as wide as it needs, one line a row."""
    for arguments in (
        ("report", finished),
        ("report", finished, str(finished) + "/"),
        ("index", f"--data_dir={data}"),
        ("list", "--config=dense_ae"),
        ("score", finished, next(data.glob("**/fan/test"))),
    ):
        piped = run_cli(capsys, *arguments)[1]
        monkeypatch.setattr(text_tables, "is_terminal", lambda stream: True)
        monkeypatch.setenv("COLUMNS", str(width))
        shown = run_cli(capsys, *arguments)[1]
        monkeypatch.undo()
        rows = [
            line for line in shown.splitlines() if line.startswith(("fan ", "valve ", "train."))
        ]
        assert all(len(line) <= width for line in rows) and "\x1b" not in shown
        for word in piped.split():
            if set(word) != {"-"} and len(word) < 20:
                assert word in shown


def test_a_score_s_record_has_the_fields_of_the_csv():
    record = score_record(FileScore("a.wav", "fan", 1.0, 2.0, 0))
    assert [*record] == [field for field in SCORE_FIELDS if field != "explanation"]
