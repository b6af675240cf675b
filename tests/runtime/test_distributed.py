"""One run by several processes on this machine."""

import csv
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from command_line import run_cli

from asd_jax.data.synthetic.synthesis import synthesize
from asd_jax.errors import UserError
from asd_jax.runtime import distributed

ROOT = Path(__file__).resolve().parents[2]
# JAX warns of proxies, which have nothing to do with this machine's processes.
QUIET = {name: value for name, value in os.environ.items() if "_proxy" not in name.lower()}
# The command line, which also writes down which recordings it reads, waits before it reads them
# (the process that a file asks to) and after each epoch, and draws nothing.
PROGRAM = """
import sys, time
from pathlib import Path
from asd_jax.evaluation import analysis
from asd_jax.features import entries as features
from asd_jax.training.epoch_log import EpochLog
from asd_jax.cli import main
noted, seconds = Path(sys.argv[1]), float(sys.argv[2])
analysis.write_spectrograms = lambda *arguments: None
read_recordings, entries = features.read_recordings, EpochLog.entries
def slowly(*arguments):
    time.sleep(seconds)
    return entries(*arguments)
def read(paths, *rest):
    with noted.open("a") as file:
        file.writelines(path + "\\n" for path in paths)
    while noted.with_suffix(".wait").exists():
        time.sleep(0.1)
    return read_recordings(paths, *rest)
features.read_recordings, EpochLog.entries = read, slowly
main(sys.argv[3:])
"""
SMALL = [
    "--config.front_end.n_mels=8",
    *("--config.train.batch_size=64", "--config.train.validation_split=0.2"),
]
ENCODER = "--config.detector.encoder=8,"
# Every step by both processes, and frames by windows.
STREAMED = ["--config.train.data_devices=2", "--config.train.table_mib=0.02", ENCODER]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Two machines, of which one process reads the one and one the other."""
    path = tmp_path_factory.mktemp("data") / "set"
    synthesize(path, machines=["fan", "pump"], sections=1, clips=8, duration=2.0)
    return path


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module", autouse=True)
def compiled_once(tmp_path_factory):
    """A restart, and the next test, load the programs of the first start."""
    own = {
        "JAX_COMPILATION_CACHE_DIR": str(tmp_path_factory.mktemp("programs")),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
    }
    QUIET.update(own | {name: os.environ[name] for name in own if name in os.environ})


def arguments(data, out, cache, *settings):
    """The command of a small run."""
    places = (f"--data_dir={data}", f"--out_dir={out}", f"--cache_dir={cache}")
    return ["run", "--config=interpolation_ae", *places, *SMALL, *settings]


class Run:
    """A run by two processes, under way; `pause`: seconds after each epoch."""

    def __init__(self, folder, *where, pause=0):
        with socket.socket() as place:
            place.bind(("127.0.0.1", 0))
            port = place.getsockname()[1]
        self.folder, self.processes = folder, []
        for i in range(2):
            told = ["--num_processes=2", f"--process_id={i}"]
            told.append(f"--coordinator=127.0.0.1:{port}")
            options = [str(folder / f"read{i}"), str(pause)]
            command = [sys.executable, "-c", PROGRAM, *options, *arguments(*where)]
            with open(folder / f"out{i}", "w") as stdout, open(folder / f"err{i}", "w") as stderr:
                self.processes.append(
                    subprocess.Popen(
                        command + told,
                        cwd=ROOT,
                        stdout=stdout,
                        stderr=stderr,
                        env={**QUIET, "JAX_NUM_CPU_DEVICES": "1"},
                    )
                )

    def text(self, name):
        path = self.folder / name
        return path.read_text() if path.exists() else ""

    def wait_for(self, text, name="err0", seconds=120):
        until = time.monotonic() + seconds
        while text not in self.text(name):
            assert time.monotonic() < until, self.text(name)
            time.sleep(0.1)

    def statuses(self):
        return [process.wait(timeout=120) for process in self.processes]


def scores(out):
    with open(out / "scores.csv") as file:
        return {
            (row["machine"], row["seed"], row["clip"]): float(row["score"])
            for row in csv.DictReader(file)
        }


@pytest.mark.parametrize(
    ("settings", "stopped"),
    [
        (STREAMED, False),
        pytest.param(STREAMED, True, marks=pytest.mark.slow),
        pytest.param(["--config.train.data_devices=1", ENCODER], True, marks=pytest.mark.slow),
        # Convolutions, on CPUs each process its own models.
        pytest.param(
            [
                "--config.train.data_devices=0",
                "--config=ganomaly",
                *("--config.front_end.n_mels=16", "--config.detector.frames=16"),
                *("--config.detector.width=2", "--config.train.batch_size=4"),
            ],
            True,
            marks=pytest.mark.slow,
        ),
    ],
)
def test_two_processes_give_the_scores_of_one(
    data, cache, tmp_path, capsys, no_pictures, settings, stopped
):
    """To 1e-3, for sums in another order; each reads a share of the recordings, one writes.

    Also where they were stopped and go on.
    """
    epochs = "--config.train.epochs=5"
    single, out = tmp_path / "single", tmp_path / "run"
    status, _, err = run_cli(capsys, *arguments(data, single, cache, epochs, *settings[1:]))
    assert status == 0, err
    where = (tmp_path, data, out, tmp_path / "cache", epochs, *settings)
    if stopped:
        run = Run(*where, pause=1)
        run.wait_for("epoch 1/")
        run.processes[1].send_signal(signal.SIGTERM)  # to one of them stops both
        assert run.statuses() == [128 + signal.SIGTERM] * 2
        lines = [run.text(f"err{i}").splitlines()[-1] for i in (0, 1)]
        assert all("stopped by SIGTERM" in line and "which is saved" in line for line in lines)
        assert "to another process" in lines[0]

    run = Run(*where)
    assert run.statuses() == [0, 0], run.text("err0") + run.text("err1")
    assert ("continuing after epoch" in run.text("err0")) == stopped
    for said in (err, run.text("err0")):
        streamed = "frames are streamed through the device" in said
        assert streamed == any("table_mib" in setting for setting in settings)
    expected, found = scores(single), scores(out)
    assert found.keys() == expected.keys() and len({seed for _, seed, _ in found}) == 3
    for clip, score in expected.items():
        np.testing.assert_allclose(found[clip], score, rtol=1e-3)
    read = [run.text(f"read{i}").splitlines() for i in range(2)]
    assert read[0] and read[1]
    assert sorted(read[0] + read[1]) == sorted(str(path) for path in data.rglob("*.wav"))
    assert run.text("out0").startswith("machine") and "results are in" in run.text("err0")
    assert run.text("out1") == run.text("err1") == ""


def assert_lost(run, victim):
    """Kills one process, which cannot say anything, and sees what the other one says."""
    run.processes[victim].kill()
    assert run.statuses()[1 - victim] == 1
    assert run.processes[victim].returncode == -signal.SIGKILL
    said = run.text(f"err{1 - victim}").splitlines()
    assert said[-1] == f"asd-jax: {distributed.LOST}"
    assert not any("Traceback" in line or "@  " in line for line in said)


def test_a_process_lost_while_recordings_are_read_stops_the_others(data, tmp_path):
    """The coordinator, for which the other one waits."""
    (tmp_path / "read0.wait").touch()
    run = Run(tmp_path, data, tmp_path / "run", tmp_path / "cache", *STREAMED)
    for i in range(2):
        run.wait_for(".wav", f"read{i}")
    assert_lost(run, victim=0)


@pytest.mark.slow
@pytest.mark.parametrize("victim", [0, 1])
def test_a_process_lost_in_training_stops_the_others_and_a_restart_goes_on(
    data, cache, tmp_path, victim
):
    out = tmp_path / "run"
    endless = ("--config.train.epochs=100000", "--config.train.checkpoint_every=1", *STREAMED)
    run = Run(tmp_path, data, out, cache, *endless)
    run.wait_for("epoch 1/")
    (checkpoints := out / "checkpoints").mkdir(exist_ok=True)
    until = time.monotonic() + 60
    while not any(path.name.isdigit() for path in checkpoints.iterdir()):
        assert time.monotonic() < until
        time.sleep(0.1)
    assert_lost(run, victim)
    assert not (out / "model.npz").exists()

    again = Run(tmp_path, data, out, cache, *endless)
    again.wait_for("continuing after epoch")
    again.wait_for("epoch ")
    again.processes[1 - victim].send_signal(signal.SIGTERM)
    assert again.statuses() == [128 + signal.SIGTERM] * 2
    lines = [again.text(f"err{i}").splitlines()[-1] for i in (0, 1)]
    assert "to another process" in lines[victim]


def test_a_place_is_told_by_flags_or_by_the_environment(monkeypatch):
    for name in ("JAX_COORDINATOR_ADDRESS", "JAX_NUM_PROCESSES", "JAX_PROCESS_ID"):
        monkeypatch.delenv(name, raising=False)
    assert distributed.place_of(None, None, None, False) is None
    assert distributed.place_of(None, None, None, True) == (None, None, None)
    assert distributed.place_of("a:1", 2, 0, False) == ("a:1", 2, 0)
    assert distributed.place_of(None, 2, None, False) is distributed.HERE
    monkeypatch.setenv("JAX_COORDINATOR_ADDRESS", "b:2")
    monkeypatch.setenv("JAX_NUM_PROCESSES", "3")
    monkeypatch.setenv("JAX_PROCESS_ID", "2")
    assert distributed.place_of(None, None, None, False) == ("b:2", 3, 2)
    assert distributed.place_of(None, None, 1, False) == ("b:2", 3, 1)


@pytest.mark.parametrize(
    ("told", "said"),
    [
        (("a:1", None, None), "--num_processes or JAX_NUM_PROCESSES"),
        ((None, 2, 0), "--coordinator or JAX_COORDINATOR_ADDRESS"),
        (("a", 2, 0), "--coordinator is 'a'; it must be HOST:PORT"),
        (("a:1", 2, 2), "--process_id is 2; with --num_processes=2 it must be from 0 to 1"),
        (("a:1", 2, -1), "--process_id is -1"),
        (("a:1", "two", 0), "--num_processes is 'two'; it must be a whole number"),
        (("a:1", 0, 0), "--num_processes is 0; it must be from 1 to 100000"),
        ((None, 10**9, None), "--num_processes is 1000000000; it must be from 1"),
        ((None, None, 1), "--coordinator or JAX_COORDINATOR_ADDRESS"),
    ],
)
def test_a_wrong_place_is_one_line(told, said, monkeypatch):
    for name in ("JAX_COORDINATOR_ADDRESS", "JAX_NUM_PROCESSES", "JAX_PROCESS_ID"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(UserError, match=said):
        distributed.place_of(*told, False)


def test_arrays_travel_as_they_are():
    arrays = {"a": np.arange(3), "b": np.array("text"), "c": np.array([np.nan, 1e300])}
    found = distributed.load_arrays(distributed.save_arrays(**arrays))
    for name, array in arrays.items():
        assert found[name].dtype == array.dtype
        np.testing.assert_array_equal(found[name], array)


def test_shares_cover_everything_once(monkeypatch):
    import jax

    monkeypatch.setattr(jax, "process_count", lambda: 3)
    found = []
    for own in range(3):
        monkeypatch.setattr(jax, "process_index", lambda own=own: own)
        found += distributed.share_of(10)
        assert 3 <= len(distributed.share_of(10)) <= 4
        assert [i for i in range(6) if distributed.is_own(i)] == [own, own + 3]
    assert found == list(range(10))
