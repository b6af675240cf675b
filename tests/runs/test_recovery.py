"""What is lost or damaged in a run directory is made again, or named in one line."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from command_line import run_cli
from fits import trained_before
from shared_runs import rows_of, run_arguments

import asd_jax
from asd_jax.data.synthetic.synthesis import synthesize
from asd_jax.runs.directory import completed


@pytest.mark.parametrize(
    "lost",
    ["model.npz", "training_scores.csv", "scores.csv", "results.csv", "results.md", "scores"],
)
def test_what_is_lost_is_made_again(data, cache, finished, copied, capsys, lost):
    path = copied / lost
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    status, out, err = run_cli(capsys, *run_arguments(data, cache, copied))
    assert status == 0, err
    assert "nothing to do" not in err
    assert "fan" in out
    assert (copied / "scores.csv").read_bytes() == (finished / "scores.csv").read_bytes()
    assert (copied / "log.jsonl").read_bytes() == (finished / "log.jsonl").read_bytes()
    assert path.exists()


def test_a_damaged_model_is_named_and_made_again_once_removed(data, cache, copied, capsys):
    """Empty, text, cut off."""
    model = copied / "model.npz"
    whole = model.read_bytes()
    wav = next(data.rglob("*.wav"))
    for damaged in (b"", b"no such format", whole[: len(whole) // 2]):
        model.write_bytes(damaged)
        status, _, err = run_cli(capsys, "score", f"--run_dir={copied}", wav)
        assert status == 2 and "model.npz is damaged" in err and err.count("\n") == 1
    model.unlink()
    assert run_cli(capsys, *run_arguments(data, cache, copied))[0] == 0
    assert run_cli(capsys, "score", f"--run_dir={copied}", wav)[0] == 0


def test_a_run_of_a_version_with_fewer_settings_goes_on(data, cache, copied, capsys):
    """They are at their defaults; one that this version lacks is another configuration."""
    path = copied / "config.json"
    stored = json.loads(path.read_text())
    complete = json.loads(path.read_text())
    assert stored["train"].pop("table_mib") == 0
    assert stored["front_end"].pop("pad_mode") == "constant"
    del stored["threshold"]
    assert completed(stored) == complete
    path.write_text(json.dumps(stored))
    status, _, err = run_cli(capsys, *run_arguments(data, cache, copied))
    assert status == 0 and "is finished; nothing to do" in err
    path.write_text(json.dumps({**stored, "train": {**stored["train"], "gone": 1}}))
    status, _, err = run_cli(capsys, *run_arguments(data, cache, copied))
    assert status == 2 and "train.gone is 1 there and None here" in err


@pytest.mark.parametrize("name", ["scores.csv", "results.csv"])
def test_a_damaged_table_is_named_and_made_again_once_removed(
    data, cache, finished, copied, capsys, name
):
    (copied / name).write_text("cut sho")
    status, _, err = run_cli(capsys, *run_arguments(data, cache, copied))
    assert status == 2 and f"{name} is damaged" in err
    (copied / name).unlink()
    assert run_cli(capsys, *run_arguments(data, cache, copied))[0] == 0
    assert (copied / name).read_bytes() == (finished / name).read_bytes()


@pytest.mark.parametrize("name", ["config.json", "data.json"])
@pytest.mark.parametrize("text", ["", "[]", "{}", "{"])
def test_a_damaged_description_is_one_line(data, cache, copied, capsys, name, text):
    (copied / name).write_text(text)
    status, _, err = run_cli(capsys, *run_arguments(data, cache, copied))
    assert status == 2 and f"{name} is damaged" in err


def test_a_damaged_checkpoint_is_named_and_the_one_before_serves(
    data, cache, finished, copied, capsys
):
    for made in ("model.npz", "results.md"):
        (copied / made).unlink()
    for file in (copied / "checkpoints" / "4").rglob("*"):
        if file.is_file() and file.stat().st_size > 1000:
            file.write_bytes(b"\0" * 100)
    # In a process of its own: threads of the checkpoint's reader write to standard error.
    again = run_arguments(data, cache, copied)
    command = [sys.executable, "-m", "asd_jax", *again]
    ended = subprocess.run(command, capture_output=True, text=True)
    assert ended.returncode == 1, ended.stderr
    assert "checkpoints/4 is damaged" in ended.stderr and "Traceback" not in ended.stderr
    shutil.rmtree(copied / "checkpoints" / "4")
    status, _, err = run_cli(capsys, *again)
    assert status == 0 and "continuing after epoch 2" in err
    assert (copied / "scores.csv").read_bytes() == (finished / "scores.csv").read_bytes()


def test_odd_recordings_after_a_first_start_that_failed(data, cache, finished, tmp_path, capsys):
    """An anomalous training clip and a name that is not UTF-8 are left out, and said."""
    copy, run_dir = shutil.copytree(data, tmp_path / "set"), tmp_path / "run"
    broken = sorted(copy.rglob("train/*.wav"))[0]
    whole = broken.read_bytes()
    broken.write_bytes(b"")
    assert run_cli(capsys, *run_arguments(copy, cache, run_dir))[0] == 2

    broken.write_bytes(whole)
    faulty = next(copy.rglob("fan/test/anomaly_*.wav"))
    training = faulty.parent.parent / "train"
    shutil.copy(faulty, training / faulty.name.replace("0000", "0900", 1))
    wav = os.fsencode(next(copy.rglob("test/normal_*.wav")))
    try:
        os.rename(wav, wav.replace(b"normal_", b"normal_\xff"))
        said = r"normal_\xff"
    except OSError:  # this file system takes no such names
        said = ""
    # Another configuration is welcome: the first one never began.
    again = run_arguments(copy, cache, run_dir, "--config.train.epochs=1")
    if said:
        status, _, err = run_cli(capsys, *again)
        assert status == 2 and "1 recordings among the clips of " in err
    with trained_before(asd_jax.load(finished).weights):
        status, _, err = run_cli(capsys, *again, "--on_bad_clip=skip")
    assert status == 0 and "fan: 1 training clips are named anomalous" in err
    assert said in err


def test_sigterm_while_features_are_computed_is_one_line(tmp_path):
    folder = tmp_path / "set"
    synthesize(folder, machines=["fan"], sections=1, clips=20, duration=2.0)
    arguments = run_arguments(folder, tmp_path / "cache", tmp_path / "run")
    process = subprocess.Popen(
        [sys.executable, "-m", "asd_jax", *map(str, arguments)], stderr=subprocess.PIPE, text=True
    )
    while not (tmp_path / "cache").exists():
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate()
    assert process.returncode == 128 + signal.SIGTERM, err
    assert "stopped by SIGTERM" in err.splitlines()[-1] and "Traceback" not in err


def test_2021_without_domains_is_refused_before_training(data, cache, tmp_path, capsys):
    folder = tmp_path / "set" / "fan"
    wav = next(data.rglob("train/*.wav"))
    for name in (
        "train/section_00_source_train_normal_0000_a_1.wav",
        "train/section_00_source_train_normal_0001_a_1.wav",
        "test/section_00_0000.wav",
    ):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(wav, folder / name)
    arguments = run_arguments(folder.parent, cache, tmp_path / "run", "--config.data.year=2021")
    status, _, err = run_cli(capsys, *arguments)
    assert status == 2 and "have no domain" in err
    assert not (tmp_path / "run").exists()


def test_a_home_folder_is_understood(data, cache, copied, capsys, monkeypatch):
    monkeypatch.setenv("HOME", str(copied.parent))
    status, _, err = run_cli(capsys, *run_arguments(data, cache, "~/run"))
    assert status == 0 and "is finished; nothing to do" in err
    assert run_cli(capsys, "report", "--run_dir=~/run")[0] == 0


def test_runs_of_one_name_are_told_apart(finished, tmp_path, capsys):
    other = shutil.copytree(finished, tmp_path / "other" / finished.name)
    status, out, _ = run_cli(capsys, "report", f"--run_dir={finished}", f"--run_dir={other}")
    assert status == 0 and str(other) in out.replace("\n", "")


def test_scores_that_are_not_numbers_end_in_nan(data, cache, tmp_path, capsys):
    """A learning rate at which training diverges: said, and results are NaN, no crash.

    And a batch of more views than any memory holds is one of all views.
    """
    settings = ("--config.train.learning_rate=1e20", "--config.train.batch_size=1000000")
    with np.errstate(all="ignore"):
        status, _, err = run_cli(capsys, *run_arguments(data, cache, tmp_path / "run", *settings))
    assert status == 0 and "the training loss is not finite" in err
    rows = rows_of(tmp_path / "run" / "results.csv")
    assert rows and all(row["auc"] == "nan" for row in rows)


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("train.data_devices=3", "train.data_devices is 3; it must divide the number of devices"),
        ("train.table_mib=0.001", "train.table_mib leaves 0.000999 MiB for frames"),
    ],
)
def test_settings_that_do_not_fit_leave_the_folder_free(
    data, cache, tmp_path, capsys, setting, said
):
    out = tmp_path / "run"
    status, _, err = run_cli(capsys, *run_arguments(data, cache, out), f"--config.{setting}")
    assert status == 2 and err.splitlines()[-1].startswith(f"asd-jax: {said}")
    assert not [path for path in out.iterdir() if not path.name.startswith(".")]
