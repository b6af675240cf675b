"""The command `watch` on the finished run: recordings, raw PCM, kills, wrong flags."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time

import pytest
import soundfile

import asd_jax
from asd_jax import pipeline
from asd_jax.cli import main
from asd_jax.config import load_config
from asd_jax.fitting.recordings import score_files

QUICK = ["--window_seconds=1.5", "--settle_seconds=0", "--once"]


def end_of(arguments, capfd):
    with pytest.raises(SystemExit) as ended:
        main(["watch", *map(os.fspath, arguments)])
    return ended.value.code, *capfd.readouterr()


@pytest.fixture
def folders(data, tmp_path):
    """A folder a machine and id, of two recordings each."""
    for machine, section in (("fan", "00"), ("valve", "02")):
        folder = tmp_path / "in" / f"{machine}_{section}"
        folder.mkdir(parents=True)
        files = sorted((data / "dev_data" / machine / "test").glob(f"*_id_{section}_*.wav"))
        for file in files[:2]:
            shutil.copy(file, folder)
    return tmp_path / "in"


def test_recordings(finished, folders, tmp_path, capfd):
    state = f"--state_dir={tmp_path / 'state'}"
    flags = [finished, folders, "--stream_folders", state, *QUICK]
    status, out, err = end_of(flags, capfd)
    assert status == 0, err
    records = [json.loads(line) for line in out.splitlines()]
    # Of two seconds: at 0 and 0.5 s, up to its end.
    assert len(records) == 2 * 2 * 2 and {record["file_begin_s"] for record in records} == {0, 0.5}
    fitted = pipeline.load(finished)
    for number, record in enumerate(records):  # each window, cut out and saved, as `score` has it
        samples, rate = soundfile.read(folders / record["stream"] / record["file"], dtype="int16")
        begin = round(record["file_begin_s"] * rate)
        path = tmp_path / f"{number}.wav"
        soundfile.write(path, samples[begin : begin + round(1.5 * rate)], rate)
        (row,) = score_files(
            fitted, [path], machine=record["machine"], section="00", report=lambda line: None
        )
        assert record["score"] == pytest.approx(row.score, rel=1e-5)
        assert record["threshold"] == row.threshold and record["decision"] == row.decision
    assert (
        "2 streams, windows of 1.5 s every 0.736 s" in err
    )  # 23 frames of 32 ms and "x real time" in err
    status, out, _ = end_of(flags, capfd)
    assert status == 0 and not out  # all is done


def test_raw_pcm(finished, tmp_path, data):
    """Of a process of its own, as its standard input is."""
    file = next((data / "dev_data" / "fan" / "test").glob("*_id_00_*.wav"))
    samples, rate = soundfile.read(file, dtype="int16")
    command = [sys.executable, "-m", "asd_jax", "watch", finished, "--pcm=s16le", f"--rate={rate}"]
    command += ["--machine=fan", "--window_seconds=1.5", f"--state_dir={tmp_path / 'state'}"]
    done = subprocess.run(
        list(map(os.fspath, command)), input=samples.tobytes(), capture_output=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    records = [json.loads(line) for line in done.stdout.splitlines()]
    assert [record["begin_s"] for record in records] == [0, 0.5]
    path = tmp_path / "last.wav"
    soundfile.write(path, samples[-round(1.5 * rate) :], rate)
    (row,) = score_files(pipeline.load(finished), [path], machine="fan")
    assert records[1]["score"] == pytest.approx(row.score, rel=1e-5)


@pytest.mark.parametrize(
    "flags, says",
    [
        ([], "watch needs folders that fill"),
        (["nowhere"], "nowhere does not exist"),
        (["--pcm=s16le"], "needs --rate"),
        (["--pcm=s17le", "--rate=16000"], "no such format"),
        (["--rate=16000", "in"], "--rate is of raw PCM"),
        (["--streams=none.csv"], "cannot read none.csv"),
        (["--streams=none.csv", "in"], "both say what the streams are"),
        (["in", "--machine=pump"], "machine 'pump' was not fitted"),
        (["in", "--machine=fan", "--alarm_need=3"], "alarm.need is 3"),
        (["in", "--machine=fan", "--hop_seconds=0"], "hop_seconds"),
        (["in", "--machine=fan", "--false_alarms=0.0001"], "promise"),
        (["in", "--machine=fan", "--alarms_a_month=0.001"], "promised"),
        (["in", "--machine=fan", "--alarms_a_month=9", "--false_alarms=0.1"], "both choose"),
        (["in", "--machine=fan", "--alarm_url=host"], "is no URL"),
        (["--stream_folders", "--pcm=s16le", "--rate=9"], "--stream_folders has no effect"),
    ],
)
def test_wrong_flags(flags, says, finished, tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "in").mkdir()
    status, out, err = end_of([finished, "--state_dir=state", *flags], capfd)
    assert status == 2 and says in err and err.count("asd-jax:") == 1 and not out


@pytest.fixture
def spectral(data, tmp_path):
    """A system that needs no held out clips for a rate of false alarms."""
    waveforms, sections = {}, {}
    for machine in ("fan", "valve"):
        files = sorted((data / "dev_data" / machine / "train").glob("*.wav"))
        waveforms[machine] = [soundfile.read(file, dtype="float32")[0] for file in files]
        sections[machine] = [file.name.split("_id_")[1][:2] for file in files]
    config = load_config("spectral", {"front_end.n_mels": "16"})
    fitted = asd_jax.fit(config, waveforms=waveforms, sample_rate=16000, sections=sections)
    fitted.save(tmp_path / "model.npz")
    return tmp_path / "model.npz"


@pytest.mark.slow
def test_killed_and_started_again(spectral, folders, tmp_path):
    """By SIGKILL at random moments: every window once, and every alarm delivered."""
    out, told = tmp_path / "out.jsonl", tmp_path / "told"
    command = [sys.executable, "-m", "asd_jax", "watch", spectral, folders, "--stream_folders"]
    command += ["--window_seconds=1", "--hop_seconds=0.02", "--settle_seconds=0", f"--out={out}"]
    command += [f"--state_dir={tmp_path / 'state'}", f"--on_alarm=cat >> {told}"]
    # Thresholds that about half of the windows exceed.
    command = list(map(os.fspath, [*command, "--false_alarms=0.5"]))
    draws = random.Random(0)
    for _ in range(4):
        size = out.stat().st_size if out.exists() else 0
        process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        end = time.monotonic() + 120
        while time.monotonic() < end and (not out.exists() or out.stat().st_size == size):
            time.sleep(0.01)
        time.sleep(draws.uniform(0, 0.3))
        process.send_signal(signal.SIGKILL)
        process.wait()
    subprocess.run([*command, "--once"], check=True, timeout=300)
    records = [json.loads(line) for line in out.read_text().splitlines()]
    places = [(record["stream"], record["file"], record["file_begin_s"]) for record in records]
    assert len(places) == len(set(places)) == 2 * 2 * 51
    events = {
        f"{record['alarm_id']}-{record['alarm']}"
        for record in records
        if record["alarm"] in ("raised", "cleared")
    }
    assert events
    assert {json.loads(line)["id"] for line in told.read_text().splitlines()} == events
