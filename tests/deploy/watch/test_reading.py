"""Streams of which some do not answer: the others are read on."""

import queue
import threading
import time

import pytest

from asd_jax.deploy.watch import folders, reading
from asd_jax.deploy.watch.folders import FolderSource
from asd_jax.deploy.watch.reading import Reading
from asd_jax.deploy.watch.windows import Window


class Numbers:
    """A stream of some windows, which answers unless it is held."""

    def __init__(self, name, mount, count=10**9):
        self.name, self.mount, self.count = name, mount, count
        self.ended = self.closed = False
        self.made = 0
        self.answers = threading.Event()
        self.answers.set()

    def poll(self, room):
        for _ in range(room):
            self.answers.wait()
            if self.made == self.count:
                self.ended = True
                return
            self.made += 1
            time.sleep(0.001)  # as what is read
            yield Window(self.name, None, 0, float(self.made), 1.0)

    def close(self):
        self.closed = True


@pytest.fixture
def watched(monkeypatch):
    """Starts to read sources; returns the lines of the report, and what waits for a condition."""
    monkeypatch.setattr(reading, "HANGING_SECONDS", 0.3)
    begun = []

    def start(sources):
        lines, found = [], {source.name: [] for source in sources}
        made = Reading(sources, queue.Queue(16), lines.append)
        begun.append((made, sources))
        made.start()

        def until(condition, seconds=20.0):
            end = time.monotonic() + seconds
            while not condition() and time.monotonic() < end:
                try:
                    window = made._queue.get(timeout=0.01)
                    found[window.stream].append(window.begin)
                except queue.Empty:
                    pass
                made.look()
            assert condition()

        return made, lines, found, until

    yield start
    for made, sources in begun:
        for source in sources:
            source.answers.set()
        made.stop()


def test_all_windows_of_all_streams_in_their_order(watched):
    sources = [Numbers(f"s{i}", f"device {i % 2}", count=50 + i) for i in range(5)]
    made, lines, found, until = watched(sources)
    until(lambda: made.is_done and made._queue.empty())
    assert found == {s.name: [float(k + 1) for k in range(s.count)] for s in sources}
    assert not lines


@pytest.mark.parametrize("mount", ["one", "another"])
def test_a_stream_that_hangs_is_named_and_taken_up_again(watched, mount):
    """Others go on, of its own mount too; when it answers, nothing of it is lost or repeated."""
    hanging, other = Numbers("fan", "one", count=40), Numbers("pump", mount)
    hanging.answers.clear()
    made, lines, found, until = watched([hanging, other])
    until(lambda: lines)
    assert lines[0].startswith("fan does not answer for 0 s; others are read on")
    so_far = len(found["pump"])
    until(lambda: len(found["pump"]) > so_far + 20)
    assert not found["fan"] and len(lines) == 1
    hanging.answers.set()
    until(lambda: hanging.ended and len(found["fan"]) == 40)
    assert found["fan"] == [float(k + 1) for k in range(40)]
    assert found["pump"] == sorted(set(found["pump"]))
    until(lambda: len(lines) == 2)
    assert lines[1] == "fan answers again"
    other.count = other.made
    until(lambda: made.is_done)


def test_a_mount_that_does_not_answer_holds_few_threads(watched):
    """Of a dozen streams that hang, five are read; those of another mount go on."""
    gone = [Numbers(f"s{i}", "network") for i in range(12)]
    for source in gone:
        source.answers.clear()
    made, lines, found, until = watched([*gone, Numbers("pump", "disk")])
    until(lambda: len(lines) == 5)
    so_far = len(found["pump"])
    until(lambda: len(found["pump"]) > so_far + 20)
    assert sum(reader.thread.is_alive() for reader in made._readers) == 6
    assert lines[-1].endswith("others of its mount wait for it")
    for source in gone:
        source.answers.set()
    until(lambda: all(found.values()))
    until(lambda: len(lines) == 10)
    assert sum("answers again" in line for line in lines) == 5


def test_stopping_waits_for_no_stream_that_hangs(watched, monkeypatch):
    monkeypatch.setattr(reading, "_PATIENCE", 0.2)
    hanging = Numbers("fan", "one")
    hanging.answers.clear()
    made, *_ = watched([hanging])
    begun = time.monotonic()
    made.stop()
    assert time.monotonic() - begun < 2 and hanging.closed


def test_an_error_reaches_whoever_reads_the_queue(watched):
    class Broken(Numbers):
        def poll(self, room):
            raise ZeroDivisionError

    made, *_ = watched([Broken("fan", "one")])
    assert isinstance(made._queue.get(timeout=10), ZeroDivisionError)


def test_a_folder_whose_reads_hang(watched, monkeypatch, tmp_path):
    """As a mounted disk that is gone without a word: other folders are read on."""
    answers = threading.Event()

    def scandir(path):
        if path.startswith(str(tmp_path / "gone")):
            answers.wait()
        return real(path)

    real = folders.os.scandir
    monkeypatch.setattr(folders.os, "scandir", scandir)
    sources = []
    for name in ("gone", "here"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.wav").write_bytes(b"no sound")
        options = {"settle": 0.0, "give_up": 0.0, "once": True, "report": lambda line: None}
        sources.append(FolderSource(name, str(tmp_path / name), 1.0, 1.0, **options))
        sources[-1].answers = answers
    assert sources[0].mount == sources[1].mount
    made, lines, found, until = watched(sources)
    until(lambda: sources[1].ended)
    assert len(found["here"]) == 1 and not found["gone"]
    assert lines and lines[0].startswith("gone does not answer")
    answers.set()
    until(lambda: made.is_done and len(found["gone"]) == 1)
