"""The sound of alarms: which windows are kept, for how long, and how they become normals."""

import json

import numpy as np
import pytest
import soundfile
from command_line import run_cli

from asd_jax.data.groups import GROUP_FILE, group_beside
from asd_jax.deploy.watch import evidence
from asd_jax.deploy.watch.evidence import Evidence, Heard, acknowledge, kept_alarms, of_alarms
from asd_jax.deploy.watch.windows import Window
from asd_jax.errors import UserError


def heard(number, begin, alarm="a1", stream="fan 00", **record):
    samples = np.random.default_rng(number).normal(0, 0.1, (8, 2)).astype(np.float32)
    window = Window(stream, samples, 8, begin, 1.0)
    own = {"alarm_id": alarm, "alarm": "on", "exceeds": True, "window": number, "stream": stream}
    return Heard(window, {**own, "machine": "fan", "section": "00", **record})


def test_windows_of_alarms_are_those_that_exceed_and_the_one_that_raised_it():
    some = [
        heard(1, 0, alarm=None),
        heard(2, 1, alarm="a", exceeds=False),
        heard(3, 2, alarm="a", exceeds=False, **{}),
        heard(4, 3, alarm="a"),
    ]
    some[2] = some[2]._replace(record={**some[2].record, "alarm": "raised"})
    some.append(some[3]._replace(window=some[3].window._replace(samples=None)))
    kept = of_alarms([each.window for each in some], [each.record for each in some])
    assert [each.record["window"] for each in kept] == [3, 4]


def test_windows_that_do_not_overlap_are_kept_sample_by_sample(tmp_path):
    keeps = Evidence(tmp_path, pytest.fail)
    some = [heard(number, number / 2) for number in range(8)]  # each has half of the one before
    keeps.keep(some[:3])
    keeps.keep(some[3:])
    (alarm,) = kept_alarms(tmp_path)
    assert alarm.number == "a1" and alarm.record["group"] == "alarm a1"
    assert [path.name for path in alarm.windows] == [f"{n:09d}.wav" for n in (0, 2, 4, 6)]
    samples, rate = soundfile.read(alarm.windows[1], dtype="float32")
    assert rate == 8 and np.array_equal(samples, some[2].window.samples)
    assert group_beside(alarm.windows[0]) == "alarm a1"


def test_alarms_and_their_windows_are_bounded(tmp_path, monkeypatch):
    monkeypatch.setattr(evidence, "_MOST_ALARMS", 3)
    keeps = Evidence(tmp_path, pytest.fail)
    keeps.keep([heard(number, number, alarm="long") for number in range(40)])
    assert len(kept_alarms(tmp_path)[0].windows) == 24
    ages = iter(range(10))
    monkeypatch.setattr(evidence, "_age", lambda folder: folder.name)  # finer than file times
    for number in ages:
        keeps.keep([heard(number, 100 + number, alarm=f"n{number}")])
    assert {alarm.number for alarm in kept_alarms(tmp_path)} == {"n7", "n8", "n9"}


def test_a_disk_that_takes_nothing_is_said_once(tmp_path):
    (tmp_path / "alarms").write_text("a file in the way")
    said = []
    keeps = Evidence(tmp_path, said.append)
    for number in range(3):
        keeps.keep([heard(number, number)])
    assert len(said) == 1 and "the sound of alarms is not kept: cannot write" in said[0]


def test_an_alarm_called_false_becomes_normal_sound(tmp_path, capsys):
    keeps = Evidence(tmp_path, pytest.fail)
    keeps.keep([heard(1, 1, alarm="abc1", score=3.0, threshold=2.0)])
    keeps.keep([heard(2, 5, alarm="abd2"), heard(3, 1, alarm="b", stream="../up")])
    flags = ["RUN", f"--state_dir={tmp_path}"]
    status, out, _ = run_cli(capsys, "acknowledge", *flags)
    assert status == 0 and "abc1" in out and "fan 00" in out and len(out.splitlines()) == 5
    for number, message in (("zz", "no alarm of"), ("ab", "2 alarms of"), ("", "no alarm of")):
        with pytest.raises(UserError, match=message):
            acknowledge(tmp_path, number)
    status, out, _ = run_cli(capsys, "acknowledge", *flags, "abc")
    folder = tmp_path / "acknowledged" / "fan 00"
    assert status == 0 and (folder / "abc1" / GROUP_FILE).is_file()
    command = f"asd-jax adapt RUN '--normal={folder}' --machine=fan --section=00"
    assert out.splitlines()[-1].strip() == command
    assert {alarm.number for alarm in kept_alarms(tmp_path)} == {"abd2", "b"}
    _, outside = acknowledge(tmp_path, "b")
    assert outside.parent == tmp_path / "acknowledged"
    status, out, err = run_cli(capsys, "acknowledge", *flags, "gone")
    assert status == 2 and err.count("\n") == 1


def test_folders_that_are_no_alarms_are_passed_over(tmp_path):
    (tmp_path / "alarms" / "broken").mkdir(parents=True)
    (tmp_path / "alarms" / "broken" / GROUP_FILE).write_text("[1")
    (tmp_path / "alarms" / "empty").mkdir()
    assert kept_alarms(tmp_path) == [] and kept_alarms(tmp_path / "nowhere") == []
    assert group_beside(tmp_path / "alarms" / "broken" / "x.wav") == ""
    (tmp_path / GROUP_FILE).write_text(json.dumps({"group": 3}))
    assert group_beside(tmp_path / "x.wav") == ""
