"""The command line as a user meets it: commands, files, bad input."""

import io
import json
import os
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from command_line import run_cli
from fits import trained_before
from shared_runs import SETTINGS, rows_of, run_arguments

import asd_jax
from asd_jax import config as configs
from asd_jax.commands import listing
from asd_jax.config import load_config
from asd_jax.detectors import list_detectors

ROOT = Path(__file__).resolve().parent.parent
pytestmark = pytest.mark.usefixtures("no_pictures")


def copy_of(data, tmp_path):
    """A data set to spoil."""
    return shutil.copytree(data, tmp_path / "spoiled")


def test_a_run_directory_has_what_the_contract_names(finished):
    names = {path.name for path in finished.iterdir()}
    assert {
        "config.json",
        "environment.json",
        "log.jsonl",
        "checkpoints",
        "scores",
        "scores.csv",
        "results.csv",
        "results.md",
        "analysis.md",
    } <= names
    assert {path.name for path in (finished / "spectrograms").iterdir()} == {"fan.png", "valve.png"}
    assert json.loads((finished / "config.json").read_text())["detector"]["name"] == "dense_ae"
    packages = json.loads((finished / "environment.json").read_text())["packages"]
    assert packages["jax"] == __import__("jax").__version__
    log = [json.loads(line) for line in (finished / "log.jsonl").read_text().splitlines()]
    assert [entry["epoch"] for entry in log] == [1, 2, 3, 4]
    assert set(log[0]["loss"]) == {f"{m} seed {s}" for m in ("fan", "valve") for s in (0, 1)}


def test_scores_csv_has_every_test_clip_of_every_seed(finished, data):
    rows = rows_of(finished / "scores.csv")
    assert ",".join(rows[0]) == (
        "machine,section,domain,seed,clip,label,score,threshold,decision,p_value,state,verdict"
    )
    wavs = {(path.parts[-3], path.name) for path in data.rglob("test/*.wav")}
    for seed in ("0", "1"):
        assert {(r["machine"], r["clip"]) for r in rows if r["seed"] == seed} == wavs
    for row in rows:
        assert int(row["label"]) == row["clip"].startswith("anomaly")
        assert int(row["decision"]) == (float(row["score"]) > float(row["threshold"]))


def test_results_csv_agrees_with_scikit_learn(finished):
    """AUC and both pAUCs from scores.csv; float64 throughout, so to 1e-9."""
    from sklearn.metrics import roc_auc_score

    scores = rows_of(finished / "scores.csv")
    results = rows_of(finished / "results.csv")
    assert len(results) == 2 * 2 * 2
    for result in results:
        own = [
            row
            for row in scores
            if all(row[k] == result[k] for k in ("machine", "section", "seed"))
        ]
        labels = [int(row["label"]) for row in own]
        values = [float(row["score"]) for row in own]
        assert int(result["n_anomaly"]) == sum(labels)
        assert float(result["auc"]) == pytest.approx(roc_auc_score(labels, values), abs=1e-9)
        expected = roc_auc_score(labels, values, max_fpr=0.1)
        assert float(result["pauc_mcclish"]) == pytest.approx(expected, abs=1e-9)


def test_challenge_files_are_there_for_every_seed(finished):
    files = sorted(path.relative_to(finished).as_posix() for path in finished.rglob("scores/*/*"))
    assert "scores/seed_0/anomaly_score_fan_id_00.csv" in files
    assert len(files) == 2 * 4


def test_the_table_and_the_report(copied, data, cache, capsys):
    status, table, err = run_cli(capsys, *run_arguments(data, cache, copied))
    assert (status, "is finished; nothing to do" in err) == (0, True)
    assert "fan" in table and "±" in table
    status, report, _ = run_cli(capsys, "report", f"--run_dir={copied}")
    assert (status, report) == (0, table)
    status, report, _ = run_cli(capsys, "report", f"--run_dir={copied}", f"{copied}")
    assert status == 0 and "fan" in report


def test_python_gives_the_numbers_of_the_command_line(finished, data):
    """Features of one's own, fit and score_features, against scores.csv: to float32 rounding.

    A threshold is further out than the scores that a gamma distribution is fitted to: to 1e-3.
    """
    import soundfile

    config = load_config("dense_ae", {**SETTINGS, "seeds": "0"})

    def features(paths):
        return [np.asarray(config.front_end(soundfile.read(p, dtype="float32")[0])) for p in paths]

    train = sorted(data.glob("**/fan/train/*.wav"))
    test = sorted(data.glob("**/fan/test/*.wav"))
    fitted = asd_jax.fit(
        config, features(train), machine="fan", sections=[p.name.split("_")[2] for p in train]
    )
    scores = dict(zip([p.name for p in test], fitted.score_features(features(test)), strict=True))
    rows = [
        r for r in rows_of(finished / "scores.csv") if r["machine"] == "fan" and r["seed"] == "0"
    ]
    assert len(rows) == len(test)
    for row in rows:
        assert scores[row["clip"]] == pytest.approx(float(row["score"]), rel=1e-4)
        assert fitted.threshold() == pytest.approx(float(row["threshold"]), rel=1e-3)


def test_scoring_new_recordings(finished, data, capsys):
    files = sorted(data.glob("**/fan/test/*.wav"))[:2]
    status, out, _ = run_cli(capsys, "score", f"--run_dir={finished}", *files)
    assert status == 0
    lines = out.splitlines()
    assert len(lines) == 2
    rows = [r for r in rows_of(finished / "scores.csv") if r["clip"] == files[0].name]
    mean = np.mean([float(row["score"]) for row in rows if row["machine"] == "fan"])
    assert float(lines[0].split("score ")[1].split()[0]) == pytest.approx(mean, rel=1e-4)

    fitted = asd_jax.load(finished)
    import soundfile

    waveforms = np.stack([soundfile.read(file, dtype="float32")[0] for file in files])
    scores = fitted.score(waveforms, 16000, machine="fan", section="00")
    assert scores.shape == (2,)
    assert scores[0] == pytest.approx(mean, rel=1e-4)


def test_scoring_a_folder_is_scoring_its_recordings(finished, data, tmp_path, capsys):
    """In order; hidden files and others are no recordings, and a folder without any is an error."""
    folder = shutil.copytree(next(data.glob("**/fan/test")), tmp_path / "fan/test")
    (folder / "notes.txt").write_text("", encoding="utf-8")
    (folder / "._a.wav").write_bytes(b"")
    files = sorted(folder.glob("[!.]*.wav"))
    status, of_folder, _ = run_cli(capsys, "score", finished, folder)
    assert status == 0
    assert [line.split()[0] for line in of_folder.splitlines()] == [str(file) for file in files]
    assert run_cli(capsys, "score", finished, *files)[1] == of_folder
    (tmp_path / "empty").mkdir()
    status, out, err = run_cli(capsys, "score", finished, tmp_path / "empty")
    assert (status, out) == (2, "") and "empty is a folder without recordings" in err


def test_scoring_asks_for_the_machine_when_it_cannot_tell(finished, data, tmp_path, capsys):
    lonely = tmp_path / "recording.wav"
    shutil.copy(next(data.glob("**/fan/test/*.wav")), lonely)
    status, out, err = run_cli(capsys, "score", f"--run_dir={finished}", lonely)
    assert (status, out) == (1, "")
    assert "choose one" in err and "fan, valve" in err and err.count("\n") == 1
    status, out, _ = run_cli(capsys, "score", f"--run_dir={finished}", "--machine=fan", lonely)
    assert status == 0 and "recording.wav" in out


@pytest.mark.parametrize(
    "some",
    [
        ("dense_ae", "mobilenet_v2_baseline", "giri2020_system2"),
        pytest.param((), marks=pytest.mark.slow),  # every network is traced to count its values
    ],
)
def test_list(capsys, monkeypatch, some):
    """Systems without a configuration, too."""
    shipped = configs.shipped_configs()
    shown = {name: shipped[name] for name in some or shipped}
    monkeypatch.setattr(listing, "shown", lambda: [*shown])
    status, out, _ = run_cli(capsys, "list")
    assert status == 0 and "dense_ae (269,992 values a model)" in out
    for name in (*list_detectors(), *shown):
        assert name in out


def test_help(capsys):
    status, out, _ = run_cli(capsys)
    assert status == 0
    for command in ("list", "synth", "index", "run", "score", "report"):
        assert command in out
        assert run_cli(capsys, command, "--help")[0] == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["runn"], "did you mean run?"),
        (["run", "--data_dir=x"], "run needs --config="),
        (["run", "--config=dense_ae", "--out_dir=x"], "run needs --data_dir="),
        (["run", "--confg=dense_ae"], "no flag --confg; did you mean --config?"),
        (["run", "--config=dense_ae", "--data_dir=x", "--out_dir=y", "z"], "takes flags only"),
        (["run", "--config=dens_ae", "--data_dir=x", "--out_dir=y"], "did you mean dense_ae"),
        (["run", "--config=dense_ae", "--config.train.epoch=1"], "run needs --data_dir="),
        (
            ["run", "--config=dense_ae", "--data_dir=x", "--out_dir=y", "--config.train.epoch=1"],
            "--config.train.epoch: no such key; did you mean train.epochs?",
        ),
        (
            ["run", "--config=dense_ae", "--data_dir=x", "--out_dir=y", "--config.train.epochs"],
            "needs a value",
        ),
        (["run", "--config=dense_ae", "--data_dir=/no/where", "--out_dir=y"], "/no/where"),
        (["run", "--on_bad_clip=ignore"], "on_bad_clip"),
        (["score", "--run_dir=/no/where", "x.wav"], "no run directory"),
        (["score", "--run_dir=x"], "score needs [RUN] FILE.wav"),
        (["report", "--run_dir=/no/where"], "no run directory"),
        (["synth", "--out_dir=y", "--clips=many"], "clips"),
        (["index", "--data_dir=/no/where"], "/no/where"),
    ],
)
def test_a_wrong_request_is_one_line_and_status_2(
    arguments, message, capsys, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    status, out, err = run_cli(capsys, *arguments)
    assert status == 2
    assert message in err
    assert err.count("\n") == 1 and err.startswith("asd-jax: ")
    assert out == ""
    assert list(tmp_path.iterdir()) == [], "nothing is written before the request is right"


def test_another_configuration_or_other_files_are_refused(copied, data, cache, tmp_path, capsys):
    arguments = run_arguments(data, cache, copied, "--config.detector.latent=4")
    status, _, err = run_cli(capsys, *arguments)
    assert status == 2
    assert "detector.latent is 8 there and 4 here" in err
    (mine := tmp_path / "mine").mkdir()
    (mine / "notes.txt").write_text("mine")
    status, _, err = run_cli(capsys, *run_arguments(data, cache, mine))
    assert (status, "notes.txt" in err) == (2, True)
    assert [path.name for path in mine.iterdir() if path.suffix] == ["notes.txt"]


def test_changed_recordings_are_noticed(copied, data, cache, tmp_path, capsys):
    spoiled = copy_of(data, tmp_path)
    next(spoiled.glob("**/fan/train/*.wav")).unlink()
    status, _, err = run_cli(capsys, *run_arguments(spoiled, cache, copied))
    assert (status, "other recordings" in err) == (2, True)


def bad_files(folder):
    """A clip of each bad kind among the training clips of a machine."""
    import soundfile

    fan = next(folder.glob("**/fan/train"))
    good = sorted(fan.glob("*.wav"))
    whole = good[0].read_bytes()
    good[0].write_text("this is not audio")
    good[1].write_bytes(whole[: len(whole) // 2])
    good[2].write_bytes(b"")
    soundfile.write(good[3], np.full(32000, np.nan, np.float32), 16000, subtype="FLOAT")
    soundfile.write(good[4], np.zeros(100, np.float32), 16000)
    return good[:5]


@pytest.fixture
def as_finished(finished):
    """Runs have the weights of `finished`, for tests of what they read and say."""
    with trained_before(asd_jax.load(finished).weights):
        yield


@pytest.mark.usefixtures("as_finished")
def test_bad_clips_stop_the_run_or_are_left_out(data, cache, tmp_path, capsys):
    spoiled = copy_of(data, tmp_path)
    bad = bad_files(spoiled)
    run_dir = tmp_path / "run"
    status, _, err = run_cli(capsys, *run_arguments(spoiled, cache, run_dir))
    last = err.splitlines()[-1]
    assert status in (1, 2) and last.startswith("asd-jax: ") and bad[0].name in last
    assert "Traceback" not in err
    # The same folder goes on once the user decides to leave them out.
    again = run_arguments(spoiled, cache, run_dir, "--on_bad_clip=skip")
    status, _, err = run_cli(capsys, *again)
    assert status == 0
    for path in bad:
        assert sum(path.name in line for line in err.splitlines()) == 1, (path.name, err)
    assert (run_dir / "results.md").is_file()


@pytest.mark.usefixtures("as_finished")
def test_other_formats_are_read(data, cache, tmp_path, capsys):
    """An 8-channel 48 kHz file among mono 16 kHz ones: resampled, and said once."""
    import soundfile

    other = copy_of(data, tmp_path)
    for path in sorted(other.glob("**/fan/train/*.wav"))[:2]:
        wave, rate = soundfile.read(path)
        soundfile.write(path, np.repeat(np.repeat(wave, 3)[:, None], 8, axis=1), 3 * rate)
    status, _, err = run_cli(capsys, *run_arguments(other, cache, tmp_path / "run"))
    assert status == 0
    assert sum("48000" in line for line in err.splitlines()) == 1
    status, out, _ = run_cli(capsys, "index", f"--data_dir={other}")
    assert "48000" in out


@pytest.mark.usefixtures("as_finished")
def test_missing_parts_are_said_and_the_rest_goes_on(data, cache, tmp_path, capsys):
    holes = copy_of(data, tmp_path)
    for path in holes.glob("**/fan/test/*.wav"):
        path.unlink()
    for path in holes.glob("**/valve/test/anomaly_id_00*.wav"):
        path.unlink()
    status, out, err = run_cli(capsys, *run_arguments(holes, cache, tmp_path / "run"))
    assert status == 0
    assert "fan: no test clips" in err
    assert "–" in out  # valve 00 has one class only
    results = rows_of(tmp_path / "run" / "results.csv")
    assert {(r["section"], r["auc"] == "nan") for r in results} == {("00", True), ("02", False)}

    for path in holes.glob("**/train/*.wav"):
        path.unlink()
    status, _, err = run_cli(capsys, *run_arguments(holes, cache, tmp_path / "other"))
    assert (status, "no machine has training clips" in err) == (2, True)


def test_an_empty_folder_is_one_line(tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    arguments = ["run", "--config=dense_ae", f"--data_dir={tmp_path}/empty"]
    status, _, err = run_cli(capsys, *arguments, f"--out_dir={tmp_path}/run")
    assert status == 2 and err.count("\n") == 1 and "empty" in err
    assert not (tmp_path / "run").exists()


def test_run_directories_by_position(finished, data, tmp_path, capsys):
    """In every command that takes some, as by the flag."""
    wav = next(data.glob("**/fan/test/*.wav"))
    for by_flag, by_place in (
        (["report", f"--run_dir={finished}"], ["report", finished]),
        (["score", f"--run_dir={finished}", wav], ["score", finished, wav]),
    ):
        expected = run_cli(capsys, *by_flag)
        assert expected[0] == 0 and run_cli(capsys, *by_place) == expected
    status, _, err = run_cli(capsys, "score", finished)
    assert status == 2 and "score needs [RUN] FILE.wav" in err
    status, _, err = run_cli(capsys, "score", wav, wav)
    assert status == 2 and "is no run directory" in err
    assert run_cli(capsys, "ensemble", finished, f"--out_dir={tmp_path / 'e'}")[0] == 2


@pytest.mark.parametrize("encoding", ["utf-8", "ascii", "latin-1"])
def test_a_name_that_is_not_utf_8_is_shown_escaped(
    finished, data, tmp_path, monkeypatch, capsys, encoding
):
    """The good file's score is printed all the same; streams as Python opens them for a command."""
    wav = next(data.glob("**/fan/test/*.wav"))
    odd = os.fsencode(tmp_path) + b"/caf\xe9.wav"
    shutil.copyfile(wav, odd)
    printed = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(printed, encoding=encoding))
    arguments = ["score", "--machine=fan", finished, wav, os.fsdecode(odd)]
    status, _, err = run_cli(capsys, *arguments)
    sys.stdout.flush()
    assert status == 0, err
    lines = printed.getvalue().splitlines()
    assert len(lines) == 2 and rb"caf\udce9.wav" in lines[1]


def test_a_configuration_in_the_home_folder(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "mine.py").write_text((ROOT / "configs/dense_ae.py").read_text())
    status, out, err = run_cli(capsys, "run", "--config=~/mine.py", "--dry_run")
    assert status == 0 and "269,992" in out, err
