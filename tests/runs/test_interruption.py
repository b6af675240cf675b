"""Runs that are stopped, killed or out of disk end with the bytes of one that was not."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time

import pytest
from command_line import run_cli
from shared_runs import made_once, run_arguments, run_to_its_end

# The command line, whose epochs take long enough to stop it between two.
SLOW = """
import sys, time
from asd_jax.training.epoch_log import EpochLog
from asd_jax.cli import main
entries = EpochLog.entries
EpochLog.entries = lambda *rest: time.sleep(1) or entries(*rest)
main(sys.argv[1:])
"""


def start(*arguments, program=("-m", "asd_jax")):
    return subprocess.Popen(
        [sys.executable, *program, *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_for(path, process, seconds=120):
    end = time.monotonic() + seconds
    while not path.exists():
        assert time.monotonic() < end and process.poll() is None, process.communicate()
        time.sleep(0.02)


LONGER = ("--config.train.epochs=60", "--config.train.checkpoint_every=3")


@pytest.fixture(scope="module")
def longer(data, cache, tmp_path_factory):
    """scores.csv of a longer run that nothing interrupted."""
    run_dir = made_once(
        tmp_path_factory,
        "longer",
        lambda folder: run_to_its_end(run_arguments(data, cache, folder, *LONGER)),
    )
    return (run_dir / "scores.csv").read_bytes()


def test_sigterm_saves_and_a_second_run_is_refused_meanwhile(
    data, cache, finished, tmp_path, capsys
):
    never = "--config.train.checkpoint_every=100"  # but for the signal
    arguments = run_arguments(data, cache, tmp_path / "run", never)
    process = start(*arguments, program=("-c", SLOW))
    wait_for(tmp_path / "run" / "log.jsonl", process)
    status, _, err = run_cli(capsys, *arguments)
    assert (status, f"in use by process {process.pid}" in err) == (2, True)
    while not (tmp_path / "run" / "log.jsonl").read_text():
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate()
    assert process.returncode == 128 + signal.SIGTERM, err
    assert "stopped by SIGTERM after epoch" in err.splitlines()[-1]
    assert "Traceback" not in err
    epoch = last_epoch(tmp_path / "run")
    assert 0 < epoch < 4 and (tmp_path / "run" / "checkpoints" / str(epoch)).is_dir()
    status, _, err = run_cli(capsys, *arguments)
    assert status == 0 and f"continuing after epoch {epoch} of 4" in err
    assert (tmp_path / "run" / "scores.csv").read_bytes() == (finished / "scores.csv").read_bytes()
    log = (tmp_path / "run" / "log.jsonl").read_text().splitlines()
    assert [json.loads(line)["epoch"] for line in log] == [1, 2, 3, 4]


@pytest.mark.parametrize(
    "number",
    [
        signal.SIGHUP,
        pytest.param(signal.SIGUSR1, marks=pytest.mark.slow),
        pytest.param(signal.SIGQUIT, marks=pytest.mark.slow),
    ],
)
def test_other_signals_save_as_well(data, cache, tmp_path, number):
    """A terminal that is closed, a batch system, Ctrl+backslash."""
    process = start(
        *run_arguments(data, cache, tmp_path / "run", "--config.train.checkpoint_every=100"),
        program=("-c", SLOW),
    )
    wait_for(tmp_path / "run" / "log.jsonl", process)
    while not last_epoch(tmp_path / "run"):
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(number)
    _, err = process.communicate()
    assert process.returncode == 128 + number, err
    assert f"stopped by {number.name} after epoch" in err.splitlines()[-1]
    epoch = last_epoch(tmp_path / "run")
    assert (tmp_path / "run" / "checkpoints" / str(epoch)).is_dir()


@pytest.mark.parametrize("seconds", [0.3, 0.8, 1.3])
def test_a_signal_while_it_starts_is_one_line(data, cache, tmp_path, seconds):
    """Modules are being imported then, which may swallow an exception."""
    number = random.choice([signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGXCPU])
    process = start(*run_arguments(data, cache, tmp_path / "run"))
    time.sleep(seconds)
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    line = f"asd-jax: stopped by {number.name}; the same command continues from there\n"
    assert (process.returncode, out, err) == (128 + number, "", line)


def test_a_closed_pipe_ends_the_lines_and_not_the_work(data, cache, finished, tmp_path):
    """As `asd-jax run … 2>&1 | head -1`; of a finished run, whose page is made again."""
    run_dir = shutil.copytree(finished, tmp_path / "run")
    (run_dir / "report.html").unlink(missing_ok=True)
    read, write = os.pipe()
    os.close(read)
    command = [sys.executable, "-m", "asd_jax", *map(str, run_arguments(data, cache, run_dir))]
    done = subprocess.run(command, stdout=write, stderr=write)
    os.close(write)
    assert done.returncode == 0
    assert (run_dir / "report.html").is_file()


def last_epoch(run_dir):
    """The last epoch in the log; 0 where there is none yet."""
    log = run_dir / "log.jsonl"
    lines = log.read_text().splitlines() if log.is_file() else []
    return json.loads(lines[-1])["epoch"] if lines else 0


@pytest.mark.slow
def test_killed_at_random_moments_it_ends_with_the_same_bytes(data, cache, tmp_path, longer):
    run_dir = tmp_path / "run"
    arguments = run_arguments(data, cache, run_dir, *LONGER)
    rng = random.Random()
    epochs = sorted(rng.sample(range(60), 5))
    print("killed after epochs", epochs)  # shown where the test fails
    for epoch in epochs:
        process = start(*arguments)
        while process.poll() is None and last_epoch(run_dir) < epoch:
            time.sleep(0.005)
        time.sleep(rng.uniform(0, 0.3 if epoch else 10))
        process.kill()
        _, err = process.communicate()
        assert process.returncode in (-signal.SIGKILL, 0), err
    process = start(*arguments)
    _, err = process.communicate()
    assert process.returncode == 0, err
    assert (run_dir / "scores.csv").read_bytes() == longer


def test_a_full_disk_is_one_line_and_loses_nothing(data, cache, tmp_path, capsys, monkeypatch):
    """The disk fills up while results are written; with room again the same command ends."""
    from asd_jax.runs import report as reporting
    from asd_jax.runtime import files

    arguments = run_arguments(data, cache, tmp_path / "run")

    def full(path, rows):
        with files.atomic_write(path) as file:
            file.write("half a line")
            raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(reporting, "write_scores_csv", full)
        status, _, err = run_cli(capsys, *arguments)
    assert status == 1
    assert "no space left on the disk" in err.splitlines()[-1]
    assert not (tmp_path / "run" / "scores.csv").exists()
    assert not list((tmp_path / "run").glob(".scores*"))
    log = (tmp_path / "run" / "log.jsonl").read_text()
    assert run_cli(capsys, *arguments)[0] == 0
    assert (tmp_path / "run" / "log.jsonl").read_text() == log, "nothing is trained twice"
