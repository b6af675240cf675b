import os

import pytest

from asd_jax.deploy.watch.output import LineFile, LineStream
from asd_jax.errors import UserError


def test_a_block_is_completed_where_it_was_torn(tmp_path):
    path = tmp_path / "folder" / "lines"
    first = LineFile(path)
    first.write(b"one\ntwo\n")
    place = first.place
    for there in (b"", b"th", b"three\nfo", b"three\nfour\n"):
        path.write_bytes(b"one\ntwo\n" + there)
        again = LineFile(path, place)
        again.write(b"three\nfour\n")
        again.write(b"five\n")
        assert path.read_bytes() == b"one\ntwo\nthree\nfour\nfive\n"


def test_lines_of_others_are_left_alone(tmp_path):
    path = tmp_path / "lines"
    lines = LineFile(path)
    lines.write(b"one\n")
    with open(path, "ab") as file:
        file.write(b"another's\n")
    lines.write(b"two\n")
    assert path.read_bytes() == b"one\nanother's\ntwo\n"
    path.unlink()  # as those that rotate logs do
    lines.write(b"three\n")
    assert path.read_bytes() == b"three\n"
    path.write_bytes(b"")
    lines.write(b"four\n")
    assert path.read_bytes() == b"four\n"


def test_a_place_of_another_file_does_not_count(tmp_path):
    one = LineFile(tmp_path / "one")
    one.write(b"long line\n")
    for place in (one.place, "", "no place"):
        other = LineFile(tmp_path / "other", place)
        other.write(b"line\n")
    assert (tmp_path / "other").read_bytes() == b"line\n" * 3


def test_a_file_that_cannot_be_written(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="cannot write"):
        LineFile(tmp_path / "file" / "lines")


def test_a_stream_goes_on_after_an_error(monkeypatch):
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    lines = LineStream(writing)
    block = bytes(range(256)) * 1000  # more than a pipe holds
    found = b""
    while True:
        try:
            lines.write(block)
            break
        except BlockingIOError:
            found += os.read(reading, 2**16)
    os.close(writing)
    while more := os.read(reading, 2**16):
        found += more
    assert found == block
    os.close(reading)
