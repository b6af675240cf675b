"""States of clips, by attributes and by side files."""

import numpy as np
import pytest

from asd_jax.data.clips import Clip
from asd_jax.data.states import BESIDE, OFF, TRANSIENT, StateSource, pairs_of, state_text
from asd_jax.errors import UserError

NAMES = ("speed", "on")


def clip(path, start=0.0, **attributes):
    pairs = tuple(sorted(attributes.items()))
    return Clip("fan", "00", "train", str(path), str(path), start=start, attributes=pairs)


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "a.csv").write_text("s;speed;on\n0;1000;1\n20;1010;1\n30;2000;yes\n40;2000;off\n")
    return tmp_path


def states(source, path, spans):
    clips = [clip(path, start) for start, _ in spans]
    return source.states(clips, [stop - start for start, stop in spans], lambda line: None)


def test_a_line_of_a_side_file_holds_until_the_next(folder):
    """By hand: 5 s at 1000 and 5 s at 1010 are 1005 on average, and within a twentieth."""
    source = StateSource(NAMES, BESIDE)
    spans = [(0, 10), (15, 25), (25, 35), (30, 40), (38, 42), (40, 50)]
    found = states(source, folder / "a.wav", spans)
    expected = ["speed=1000", "speed=1005", TRANSIENT, "speed=2000", TRANSIENT, OFF]
    assert found == expected
    assert states(source, folder / "other.wav", [(0, 10)]) == [""]


def test_a_side_file_of_all_recordings_leaves_gaps(folder):
    log = folder / "log.csv"
    log.write_text("path,begin,end,load\nb.wav,10,20,high\nb.wav,0,10,low\n./c.wav,0,5,high\n")
    source = StateSource(("load",), str(log))
    spans = [(0, 10), (5, 15), (10, 20), (18, 28)]
    assert states(source, folder / "b.wav", spans) == ["load=low", TRANSIENT, "load=high", ""]
    assert states(source, folder / "c.wav", [(0, 5)]) == ["load=high"]
    said = []
    source.states([clip(folder / "b.wav")], [10.0], said.append)
    assert len(said) == 1 and "the recording ends at 10.0 s" in said[0]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("s,velocity\n0,1\n", "has no column 'speed'; it needs s,speed and has s,velocity"),
        ("time,speed\n0,1\n", "has no column 's'"),
        ("s,speed\n0,1\n0,2\n", "line 3: 0 s is not after 0 s"),
        ("s,speed\n-1,1\n", "line 2: the time is '-1'"),
        ("s,speed\n", "has no line below its first"),
        ("s,speed,speed\n0,1,2\n", "the column 'speed' twice"),
        ("s,speed\n0\n", "line 2: the first line has 2 columns, this one has fewer"),
    ],
)
def test_a_wrong_side_file_is_one_line(tmp_path, text, message):
    (tmp_path / "a.csv").write_text(text)
    with pytest.raises(UserError, match=message):
        StateSource(("speed",), BESIDE).check([clip(tmp_path / "a.wav")])


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("a.wav,5,15,1\na.wav,0,10,1", "lines 3 and 2 overlap from 5 s on"),
        ("a.wav,5,5,1", "line 2: from '5' to '5' is no stretch"),
        ("a.wav,x,5,1", "line 2: from 'x' to '5' is no stretch"),
    ],
)
def test_a_wrong_table_of_stretches_is_one_line(tmp_path, line, message):
    (tmp_path / "log.csv").write_text(f"path,begin,end,speed\n{line}\n")
    with pytest.raises(UserError, match=message):
        StateSource(("speed",), str(tmp_path / "log.csv"))


def test_states_that_no_recording_has_are_one_line(tmp_path):
    clips = [clip(tmp_path / "a.wav", speed="6")]
    with pytest.raises(UserError, match="data.state names 'load', which no recording has; their"):
        StateSource(("speed", "load"), "").check(clips)
    with pytest.raises(UserError, match="no recording has a side file"):
        StateSource(("speed",), BESIDE).check(clips)
    assert StateSource(("speed",), "").states(clips, np.ones(1), print) == ["speed=6"]


def test_texts_of_states():
    assert state_text({"speed": "6.00", "load": " very high "}, ("load", "speed")) == (
        "load=very_high speed=6"
    )
    assert state_text({"speed": "6", "on": "False"}, NAMES) == OFF
    assert state_text({"on": "1"}, ("on",)) == "on"
    assert state_text({"speed": ""}, ("speed",)) == ""
    assert pairs_of("speed=6,load=2") == {"speed": "6", "load": "2"}
    with pytest.raises(UserError, match="the state is 'fast'; write name=value"):
        pairs_of("fast")
