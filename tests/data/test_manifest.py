"""A CSV file of recordings: what it may look like, and what is said of one that cannot be read."""

import pytest

from asd_jax.data.clips import ANOMALY, NORMAL, OWN, UNLABELLED
from asd_jax.data.layouts import find_clips
from asd_jax.data.manifest import Manifest
from asd_jax.errors import UserError

FILES = ("tag 1/Größe 1.flac", "tag 1/Größe 2.flac", "c.wav", "d.wav")


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "tag 1").mkdir()
    for name in FILES:
        (tmp_path / name).touch()
    return tmp_path


def clips_of(folder, text, encoding="utf-8"):
    (folder / "list.csv").write_text(text, encoding=encoding)
    lines = []
    return [*find_clips(Manifest(folder / "list.csv"), report=lines.append)], lines


def test_paths_alone_are_learned_from(folder):
    clips, lines = clips_of(folder, "path\n" + "\n".join(FILES) + "\n")
    assert sorted(clip.name for clip in clips) == sorted(FILES)
    assert {(c.machine, c.section, c.split, c.label, c.year) for c in clips} == {
        ("machine", "00", "train", NORMAL, OWN)
    }
    assert lines == ["machine: 4 normal to learn from"]


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_all_columns(folder, delimiter):
    """As a spreadsheet writes them: a mark of the encoding, any order, spaces."""
    table = [
        ["label", "path", "machine", "section", "domain", "attributes", "group", "split"],
        ["normal", "tag 1/Größe 1.flac", "Pumpe", "3", "source", "speed=6 load=2", "tag 1", ""],
        ["0", str(folder / "tag 1/Größe 2.flac"), "Pumpe", "3", "target", "slow", "tag 2", "test"],
        ["anomaly", "c.wav", "Pumpe", "3", "", "", "", ""],
        ["", "d.wav", "Pumpe", "3", "", "", "", ""],
    ]
    text = "\r\n".join(f" {delimiter} ".join(row).strip(" ") for row in table)
    clips, lines = clips_of(folder, text, "utf-8-sig")
    found = {clip.path.rpartition("/")[2]: clip for clip in clips}
    first = found["Größe 1.flac"]
    assert (first.domain, first.attributes) == ("source", (("load", "2"), ("speed", "6")))
    assert (first.group, first.split, first.section) == ("tag 1", "train", "3")
    second = found["Größe 2.flac"]
    assert (second.split, second.label, second.attributes) == (
        *("test", NORMAL),
        (("attributes", "slow"),),
    )
    assert (found["c.wav"].split, found["c.wav"].label) == ("test", ANOMALY)
    assert (found["d.wav"].split, found["d.wav"].label) == ("test", UNLABELLED)
    assert "Pumpe: 1 normal to learn from, 1 normal to score, 1 unknown to score" in lines[0]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("file\nc.wav\n", "there is no column 'file'"),
        ("path,lable\nc.wav,0\n", "there is no column 'lable'; did you mean"),
        ("machine\nfan\n", "has no column 'path'"),
        ("path\n", "lists no recording"),
        ("path,label\nc.wav,0,0\n", "line 2: the first line has 2 columns, this one has more"),
        ("path,label\nc.wav\n", "line 2: the first line has 2 columns, this one has fewer"),
        ("path\nc.wav\nno.wav\n", "line 3: there is no file "),
        ("path\nc.wav\nd.wav\nc.wav\n", "line 4: c.wav is in line 2 as well"),
        ("path,label\nc.wav,broken\n", "line 2: the label is 'broken'; it must be normal"),
        ("path,domain\nc.wav,both\n", "the domain is 'both'"),
        ("path,split\nc.wav,valid\n", "the split is 'valid'"),
        ("path,machine\nc.wav,a/b\n", "the machine is 'a/b'"),
        ("path,path\nc.wav,c.wav\n", "has the column 'path' twice"),
    ],
)
def test_what_cannot_be_read_is_one_line(folder, text, message):
    with pytest.raises(UserError) as found:
        clips_of(folder, text)
    assert message in str(found.value) and "\n" not in str(found.value)


def test_a_file_in_another_encoding_or_none(folder):
    with pytest.raises(UserError, match="is no CSV file in UTF-8"):
        clips_of(folder, "path\nGröße.wav\n", "latin-1")
    with pytest.raises(UserError, match="cannot read .*none.csv"):
        find_clips(Manifest(folder / "none.csv"))
    with pytest.raises(UserError, match="of no challenge year"):
        find_clips(Manifest(folder / "list.csv"), 2020)
