"""Operating states of windows: by streams, side files and levels; what is unscored is no alarm."""

import dataclasses
import json

import numpy as np
import pytest
import soundfile

import asd_jax
from asd_jax.config import load_config
from asd_jax.deploy.watch import watching
from asd_jax.deploy.watch.scorer import Heard, WindowScorer
from asd_jax.deploy.watch.states import WindowStates
from asd_jax.deploy.watch.streams import Named, Stream, table_streams
from asd_jax.deploy.watch.windows import Window
from asd_jax.detectors import make_detector
from asd_jax.errors import UserError
from asd_jax.fitting.ensemble import FittedChoice, FittedEnsemble
from asd_jax.fitting.recordings import score_files

RATE = 16_000
SMALL = {"front_end.n_mels": "16"}
SPEEDS = [1, 2] * 8


def sound(speed, seed, seconds=1.0):
    """Noise and a tone by the speed, louder the faster; next to nothing of 0."""
    rng, count = np.random.default_rng(seed), round(seconds * RATE)
    time = np.arange(count) / RATE
    tone = 0.05 * speed * np.sin(2 * np.pi * 500 * speed * time)
    return (tone + rng.normal(0, 0.01 * speed + 1e-5, count)).astype(np.float32)


def fitted_to(name, settings=(), states=True, off=0):
    speeds = [*SPEEDS, *[0] * off]
    waveforms = [sound(speed, seed) for seed, speed in enumerate(speeds)]
    given = [f"speed={speed}" for speed in speeds] if states else None
    config = load_config(name, {**SMALL, **dict(settings)})
    return asd_jax.fit(config, waveforms=waveforms, sample_rate=RATE, machine="pump", states=given)


@pytest.fixture(scope="module")
def spectral():
    return fitted_to("spectral")


def heard(speed, seed, state="", group=("pump", "00")):
    return Heard(sound(speed, seed)[:, None], RATE, group, state=state)


@pytest.mark.parametrize("name", ["spectral", "mel_knn"])
def test_windows_are_scored_as_recordings_in_their_states(name, spectral, tmp_path):
    """Relative 1e-5: sums of float32, in other orders.

    A clip is compared with those of its state, or what its state moves is taken off its score.
    """
    fitted = spectral if name == "spectral" else fitted_to(name)
    said = [(1, "speed=1"), (2, "speed=2"), (1, "speed=2"), (1, ""), (3, "speed=3"), (0, "off")]
    windows = [heard(speed, 50 + i, state) for i, (speed, state) in enumerate(said)]
    found = WindowScorer(fitted, [("pump", "00")]).score(windows)
    assert not any(found.problems)
    for i, (window, (_, state)) in enumerate(zip(windows, said, strict=True)):
        path = tmp_path / f"{i}.wav"
        soundfile.write(path, window.samples, RATE, subtype="FLOAT")
        (row,) = score_files(fitted, [path], report=str, state=state or None)
        np.testing.assert_allclose(found.scores[i], row.score, rtol=1e-5)
        assert (found.states[i], found.unscored[i]) == (
            row.state,
            row.verdict if row.verdict not in ("normal", "anomalous") else "",
        )
    assert found.unscored == ["", "", "", "", "unseen state", "off"]
    if name == "spectral":
        assert found.scores[2] > 10 * found.scores[1]
    else:
        assert fitted.operating.moved


def test_levels_tell_what_is_off_in_members_as_well():
    """By the member that learned it; the other one would score it."""
    quiet = fitted_to("mel_mahalanobis", {"data.learn_off": "true"}, states=False, off=4)
    plain = fitted_to("mel_knn", states=False)
    windows = [heard(1, 60), heard(0, 61)]
    both = {"quiet": quiet, "plain": plain}
    scale = {"machine": "pump", "section": "00", "mean": [[1.0]] * 2, "deviation": [[1.0]] * 2}
    scales = [{**scale, "thresholds": [1.0], "threshold": 1.0}]
    for system in (
        quiet,
        FittedChoice(both, quiet.seeds, {"pump": "quiet"}),
        FittedEnsemble(both, quiet.seeds, "mean", scales),
    ):
        found = WindowScorer(system, [("pump", "00")]).score(windows)
        assert found.unscored == ["", "off"] and np.isnan(found.scores[1])


def window(name, file="", begin=0.0, seconds=1.0):
    return Window(name, np.zeros((1, 1)), RATE, 0.0, seconds, file=file, file_begin=begin)


def with_data(fitted, **changes):
    """The system as if its states were from elsewhere."""
    data = dataclasses.replace(fitted.config.data, **changes)
    detector = make_detector(dataclasses.replace(fitted.config, data=data))
    return dataclasses.replace(fitted, detector=detector)


def test_side_files_say_the_state_of_each_window(spectral, tmp_path):
    (tmp_path / "a.csv").write_text("s,speed\n0,1\n5,2\n")
    (tmp_path / "bad.csv").write_text("s,load\n0,1\n")
    said = []
    streams = [Stream("p", str(tmp_path), ("pump", "00")), Stream("q", "-", ("pump", "00"))]
    states = WindowStates(with_data(spectral, state_log="beside"), streams, said.append)
    assert states.of(window("p", "a.wav", 1.0)) == ("speed=1", "")
    assert states.of(window("p", "a.wav", 4.5)) == ("transient", "")
    assert states.of(window("p", "a.wav", 6.0)) == ("speed=2", "")
    assert not said
    assert states.of(window("p", "b.wav")) == ("", "") == states.of(window("p", "c.wav"))
    assert states.of(window("q")) == ("", "")
    assert len(said) == 2 and said[0].startswith("p: no state is known")
    state, problem = states.of(window("p", "bad.wav"))
    assert state == "" and "bad.csv has no column 'speed'" in problem


def test_one_file_of_all_recordings_is_read_again_where_it_grew(spectral, tmp_path):
    log = tmp_path / "log.csv"
    log.write_text("path,begin,end,speed\na.wav,0,10,1\n")
    streams = [Stream("p", str(tmp_path), ("pump", "00"))]
    states = WindowStates(with_data(spectral, state_log=str(log)), streams, str)
    assert states.of(window("p", "a.wav")) == ("speed=1", "")
    log.write_text("path,begin,end,speed\na.wav,0,10,1\nb.wav,0,10,2\n")
    assert states.of(window("p", "b.wav")) == ("speed=2", "")
    log.unlink()
    assert "cannot read" in states.of(window("p", "b.wav"))[1]


def test_a_column_gives_a_stream_its_state(spectral, tmp_path):
    (tmp_path / "pump").mkdir()
    table = tmp_path / "streams.csv"
    table.write_text('path,state\npump,"speed=2.0"\n')
    (stream,) = table_streams(spectral, str(table), Named())
    assert stream.state == "speed=2"
    states = WindowStates(spectral, [stream], str)
    assert states.of(window("pump", "a.wav")) == ("speed=2", "")
    table.write_text("path,state\npump,load=2\n")
    with pytest.raises(UserError, match="line 2: the state 'load=2' has 'load'"):
        table_streams(spectral, str(table), Named())


def test_a_watch_of_a_machine_that_changes_its_state(spectral, tmp_path):
    """A file with a side file: normal, another speed that nobody heard, off, and a fault."""
    folder = tmp_path / "pump"
    folder.mkdir()
    parts = [(1, "1,1"), (3, "3,1"), (0, "0,0"), (1, "2,1"), (2, "2,1")]
    made = np.concatenate([sound(speed, 70 + i, 2.0) for i, (speed, _) in enumerate(parts)])
    soundfile.write(folder / "a.wav", made, RATE, subtype="FLOAT")
    lines = [f"{2 * i},{state}" for i, (_, state) in enumerate(parts)]
    (folder / "a.csv").write_text("\n".join(["s,speed,on", *lines]) + "\n")
    fitted = with_data(spectral, state=("speed", "on"), state_log="beside")
    streams = [Stream("pump", str(folder), ("pump", "00"))]
    settings = watching.WatchSettings(1.0, 1.0, settle=0.0, once=True)
    said, out = [], tmp_path / "out.jsonl"
    with watching.watching(
        fitted, streams, settings, tmp_path / "state", out=out, report=said.append
    ) as watch:
        watch.run(lambda: False)
    records = [json.loads(line) for line in out.read_text().splitlines()]
    verdicts = [record["verdict"] for record in records]
    assert verdicts[::2] == ["normal", "unseen state", "off", "anomalous", "normal"]
    assert [record["state"] for record in records[::2]] == [
        *("speed=1", "speed=3", "off", "speed=2", "speed=2"),
    ]
    for record in records[2:6]:
        assert record["score"] is record["decision"] is record["p_value"] is None
        assert record["problem"] is None and not record["exceeds"]
        assert record["alarm"] == "off"
    assert [record["alarm"] for record in records[6:9]] == ["raised", "on", "cleared"]
