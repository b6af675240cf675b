import os
import shutil
import time

import numpy as np
import pytest
import soundfile

from asd_jax.deploy.watch import folders
from asd_jax.deploy.watch.folders import FolderSource

RATE = 8000


class Clock:
    """Stands for the monotonic clock."""

    def __init__(self):
        self.now = 1000.0

    thread_time = staticmethod(time.thread_time)

    def monotonic(self):
        return self.now


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(folders, "time", clock)
    return clock


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "in").mkdir()
    return tmp_path / "in"


def write(path, seconds=2.0, value=0.1, when=0):
    soundfile.write(path, np.full(round(seconds * RATE), value), RATE)
    os.utime(path, ns=(when, when))
    return path


class Watched:
    """A source whose clock goes on by `seconds` before each look."""

    def __init__(self, folder, clock, *more, **options):
        self.said, self.clock = [], clock
        self.source = FolderSource("a", folder, 1.0, 0.5, *more, report=self.said.append, **options)

    def look(self, seconds=3.0):
        self.clock.now += seconds
        return [*self.source.poll(1000)]

    def places(self, seconds=3.0):
        return [(window.file, window.file_begin) for window in self.look(seconds)]


def test_recordings_in_the_order_of_their_time(folder, clock):
    write(folder / "b.wav", when=10**9)
    write(folder / "a.wav", 1.2, when=2 * 10**9)
    (folder / "day").mkdir()
    write(folder / "day" / "c.wav", 0.5, when=3 * 10**9)
    (folder / "notes.txt").write_text("no recording")
    write(folder / ".hidden.wav")
    watched = Watched(folder, clock)
    assert watched.look() == []  # seen for the first time
    windows = watched.look()
    assert [(window.file, round(window.begin, 6), window.usual) for window in windows] == [
        ("b.wav", 0.0, True),
        ("b.wav", 0.5, True),
        ("b.wav", 1.0, True),
        ("a.wav", 2.0, True),
        ("a.wav", 2.2, True),  # up to its end
        (os.path.join("day", "c.wav"), 3.2, False),  # shorter than a window
    ]
    assert windows[0].wall_end == pytest.approx(1 - 1.0)  # its end was when the file was written
    assert [window.done is not None for window in windows] == [
        False,
        False,
        True,
        False,
        True,
        True,
    ]
    assert watched.look() == [] and not watched.said


def test_a_file_that_grows_is_waited_for(folder, clock):
    watched = Watched(folder, clock)
    whole = write(folder / "a.wav").read_bytes()
    for size in (10, 1000, len(whole) - 2):
        (folder / "a.wav").write_bytes(whole[:size])
        assert watched.look() == []
    (folder / "a.wav").write_bytes(whole)
    assert watched.look() == []
    assert len(watched.look()) == 3


def test_a_file_that_stays_incomplete_is_left_out(folder, clock):
    whole = write(folder / "a.wav").read_bytes()
    (folder / "a.wav").write_bytes(whole[:5000])
    write(folder / "b.wav")
    watched = Watched(folder, clock, give_up=60.0)
    assert watched.look() == []
    assert [file for file, _ in watched.places()] == ["b.wav"] * 3  # others go on
    assert watched.look(30.0) == []
    (left_out,) = watched.look(40.0)
    assert left_out.samples is None and "truncated" in left_out.problem
    assert len(watched.said) == 1 and "left out" in watched.said[0]
    assert watched.look(100.0) == []
    (folder / "a.wav").write_bytes(whole)  # complete after all
    watched.look()
    assert len(watched.look()) == 3


def test_a_name_that_is_used_again_is_another_recording(folder, clock):
    watched = Watched(folder, clock)
    for when in (10**9, 2 * 10**9):
        write(folder / "latest.wav", when=when)
        watched.look()
        assert len(watched.look()) == 3


def test_a_folder_that_is_unplugged(folder, clock, tmp_path):
    write(folder / "a.wav", when=1)
    watched = Watched(folder, clock)
    watched.look()
    source, windows = watched.source, []
    clock.now += 3
    windows += source.poll(2)  # in the middle of a recording
    source._reading = None  # as where its next block cannot be read
    shutil.move(folder, tmp_path / "away")
    assert watched.look() == [] and watched.look() == []
    assert watched.said == [f"a: {folder}: No such file or directory; waiting for it"]
    folder.mkdir()  # the empty folder where a disk is mounted
    assert watched.look() == []
    folder.rmdir()
    shutil.move(tmp_path / "away", folder)
    assert watched.look() == []
    windows += watched.look()
    assert [window.file_begin for window in windows] == [0.0, 0.5, 1.0]
    assert watched.look() == []
    assert watched.said[1] == f"a: {folder} is back"


def test_it_goes_on_where_it_was(folder, clock):
    for number in range(3):
        write(folder / f"{number}.wav", when=number)
    watched = Watched(folder, clock)
    watched.look()
    every = watched.look()
    assert len(every) == 9
    for last in range(9):
        done = [window.done for window in every[: last + 1] if window.done is not None]
        again = Watched(folder, clock, every[last].position, done)
        again.look()
        rest = again.look()
        assert [(w.file, w.file_begin, w.begin, w.position) for w in rest] == [
            (w.file, w.file_begin, w.begin, w.position) for w in every[last + 1 :]
        ]


def test_what_is_remembered_is_bounded(folder, clock, monkeypatch):
    monkeypatch.setattr(folders, "_REMEMBERED", 2)
    watched = Watched(folder, clock)
    for number in range(20):
        path = write(folder / f"{number}.wav", 0.5, when=number)
        watched.look()
        assert len(watched.look()) == 1
        path.unlink()
    assert len(watched.source._done) <= 6
    forgotten = watched.source.take_forgotten()
    assert len(forgotten) + len(watched.source._done) == 20
    assert watched.source.take_forgotten() == []


def test_once_ends_when_all_is_done(folder, clock):
    write(folder / "a.wav")
    watched = Watched(folder, clock, once=True)
    assert not watched.look() and not watched.source.ended
    assert len(watched.look()) == 3
    watched.look()
    assert watched.source.ended
