import os

import pytest

from asd_jax.deploy.watch.pcm import PcmFormat
from asd_jax.deploy.watch.streams import (
    Named,
    Stream,
    check_names,
    folder_streams,
    group_of,
    stdin_stream,
    table_streams,
)
from asd_jax.errors import UserError
from asd_jax.fitting.fitted import Fitted

PCM = PcmFormat("s16le", 16000, 1)


class Sections(Fitted):
    """Machines whose sections are scored apart, but for the pump's."""

    seeds = (0,)
    machines = ("fan", "fan_large", "pump")
    two_channels = False

    def sections_of(self, machine):
        return None if machine == "pump" else ("00", "02")

    def seed_scores(self, *arguments):
        raise NotImplementedError

    group_threshold = group_reference = heard_states = seed_scores

    def state_spaces(self, group):
        return []


FITTED = Sections()


@pytest.mark.parametrize(
    "name, group",
    [
        ("fan_00", ("fan", "00")),
        ("fan-id_02", ("fan", "02")),
        ("fan section 02", ("fan", "02")),
        ("hall/fan.00", ("fan", "00")),
        ("fan_large_00", ("fan_large", "00")),
        ("pump", ("pump", "")),
        ("pump_07", ("pump", "")),
    ],
)
def test_machine_and_section_by_a_name(name, group):
    assert group_of(FITTED, name, None, None) == group


def test_what_is_given_comes_first():
    assert group_of(FITTED, "fan_00", "pump", None) == ("pump", "")
    assert group_of(FITTED, "fan_00", None, "02") == ("fan", "02")
    assert group_of(FITTED, "fan_00", "fan", None) == ("fan", "00")
    assert group_of(FITTED, "anything", "fan", "02") == ("fan", "02")


@pytest.mark.parametrize(
    "name, says",
    [("hall", "several machines"), ("fan", "several sections"), ("fan_07", "several sections")],
)
def test_a_name_that_says_too_little(name, says):
    with pytest.raises(UserError, match=f"stream {name}: {says}.*--streams=TABLE.csv"):
        group_of(FITTED, name, None, None)


def test_folders(tmp_path):
    for name in ("fan_00", "pump", ".trash"):
        (tmp_path / name).mkdir()
    inside = folder_streams(FITTED, [os.fspath(tmp_path)], Named(), subfolders=True)
    assert inside == [
        Stream("fan_00", os.fspath(tmp_path / "fan_00"), ("fan", "00")),
        Stream("pump", os.fspath(tmp_path / "pump"), ("pump", "")),
    ]
    (one,) = folder_streams(FITTED, [os.fspath(tmp_path / "pump")], Named())
    assert one == inside[1]
    (tmp_path / "file").touch()
    for folder, says in (("file", "is a file"), ("none", "does not exist")):
        with pytest.raises(UserError, match=says):
            folder_streams(FITTED, [os.fspath(tmp_path / folder)], Named())
    with pytest.raises(UserError, match="has no subfolder"):
        folder_streams(FITTED, [os.fspath(tmp_path / "pump")], Named(), subfolders=True)


def test_a_table(tmp_path):
    (tmp_path / "hall").mkdir()
    os.mkfifo(tmp_path / "pump.pipe")
    os.mkfifo(tmp_path / "other.pipe")
    table = tmp_path / "streams.csv"
    table.write_text(
        "path;stream;machine;section;pcm;rate;channels\n"
        "hall;north;fan;02;;;\n"
        "pump.pipe;;;;;;\n"
        "other.pipe;south;pump;;f32le;48000;2\n"
        "-;;fan;00;;;\n"
    )
    assert table_streams(FITTED, os.fspath(table), Named(pcm=PCM)) == [
        Stream("north", os.fspath(tmp_path / "hall"), ("fan", "02")),
        Stream("pump.pipe", os.fspath(tmp_path / "pump.pipe"), ("pump", ""), PCM),
        Stream(
            "south",
            os.fspath(tmp_path / "other.pipe"),
            ("pump", ""),
            PcmFormat("f32le", 48000, 2),
        ),
        Stream("stdin", "-", ("fan", "00"), PCM),
    ]


@pytest.mark.parametrize(
    "text, says",
    [
        ("", "has no column 'path'"),
        ("path\n", "lists no stream"),
        ("path,machin\nhall,fan\n", "no column 'machin'; did you mean machine"),
        ("path,machine\nhall\n", "line 2: the first line has 2 columns, this one has fewer"),
        ("path,path\nhall,hall\n", "the column 'path' twice"),
        ("path,machine,section\n,fan,00\n", "line 2: the path is empty"),
        ("path,machine,section\nhall,fan,07\n", "line 2: stream hall: fan: section 07 was not"),
        ("path,machine,section\nstreams.csv,fan,00\n", "line 2: .* is a file"),
        ("path,machine\npump.pipe,pump\n", "line 2: a pipe needs pcm and rate"),
        ("path,machine,pcm,rate\npump.pipe,pump,s16le,0\n", "rate is '0'"),
        ("path,machine,pcm,rate\npump.pipe,pump,s17le,1\n", "no such format"),
        ("path,machine,pcm,rate\nhall,pump,s16le,8000\n", "is a folder, for which pcm"),
    ],
)
def test_a_wrong_table(text, says, tmp_path):
    (tmp_path / "hall").mkdir()
    os.mkfifo(tmp_path / "pump.pipe")
    (tmp_path / "streams.csv").write_text(text)
    with pytest.raises(UserError, match=says):
        table_streams(FITTED, os.fspath(tmp_path / "streams.csv"), Named())


def test_standard_input():
    assert stdin_stream(FITTED, Named("pump", None, PCM)) == Stream("stdin", "-", ("pump", ""), PCM)


def test_streams_of_one_name_or_path():
    one = Stream("a", "folder", ("pump", ""))
    check_names([one, Stream("b", "other", ("pump", ""))])
    for other, says in (
        (one._replace(path="x"), "name a"),
        (one._replace(name="x"), "path .*folder"),
    ):
        with pytest.raises(UserError, match=f"two streams have the {says}"):
            check_names([one, other])
