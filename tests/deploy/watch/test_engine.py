"""The engine by a scorer and a source of the tests' own: what is lost by kills and full disks."""

import contextlib
import errno
import json
import os
import sqlite3
from unittest import mock

import numpy as np
import pytest

from asd_jax.deploy.watch import engine, watching
from asd_jax.deploy.watch.output import LineFile
from asd_jax.deploy.watch.scorer import Scored
from asd_jax.deploy.watch.state import WatchState
from asd_jax.deploy.watch.streams import Stream
from asd_jax.deploy.watch.windows import Window
from asd_jax.errors import UserError
from asd_jax.scoring.alarms import AlarmRule, alarms_of
from asd_jax.scoring.conformal import Reference

STREAMS = [Stream(name, name, ("fan", "00")) for name in ("a", "b", "c")]
N_WINDOWS = 40
RULE = AlarmRule(need=2, among=3, clear_after=2)
SCORES = np.random.default_rng(3).uniform(0, 2, (len(STREAMS), N_WINDOWS))


class Killed(BaseException):
    """Stands for SIGKILL: nothing of the process runs after it."""


class FakeFitted:
    machines, seeds = ("fan",), (0,)

    def threshold(self, **place):
        return 1.0

    def group_reference(self, group, seed):
        return Reference.of([0.5, 1.5])


class FakeScorer:
    """Scores by the first sample."""

    def __init__(self, fitted, groups):
        pass

    def score(self, windows):
        return Scored(np.array([float(w.samples[0, 0]) for w in windows]), [""] * len(windows))


class FakeSource:
    """A stream whose windows are known, from a position on."""

    def __init__(self, stream, known):
        self.name, self.ended = stream.name, False
        self._next = 0 if known is None else known.position
        self._scores = SCORES[[own.name for own in STREAMS].index(stream.name)]

    def poll(self, room):
        for _ in range(room):
            if self._next == N_WINDOWS:
                self.ended = True
                return
            begin = self._next
            self._next += 1
            samples = np.full((1, 1), self._scores[begin])
            yield Window(self.name, samples, 1, begin, 1.0, position=self._next, done=begin)

    def take_forgotten(self):
        return []

    def close(self):
        pass


@pytest.fixture(autouse=True)
def small(monkeypatch):
    monkeypatch.setattr(watching, "WindowScorer", FakeScorer)
    for name, value in {"_COMMIT_SECONDS": 0.0, "_BATCH": 4, "_RETRY_SECONDS": 0.02}.items():
        monkeypatch.setattr(engine, name, value)


def watch(folder, *, command="", said=None, stop=lambda: False, streams=STREAMS, **changes):
    settings = watching.WatchSettings(1.0, rule=RULE, on_alarm=command, **changes)
    with watching.watching(
        FakeFitted(),
        streams,
        settings,
        folder / "state",
        out=folder / "out.jsonl",
        sources=FakeSource,
        report=(said if said is not None else []).append,
    ) as made:
        made.run(stop)
        return made


def records(folder):
    text = (folder / "out.jsonl").read_text()
    assert text.endswith("\n")
    return [json.loads(line) for line in text.splitlines()]


def check_all_once(found):
    assert len(found) == len(STREAMS) * N_WINDOWS
    for stream, scores in zip(STREAMS, SCORES, strict=True):
        own = [record for record in found if record["stream"] == stream.name]
        assert [record["window"] for record in own] == [*range(1, N_WINDOWS + 1)]
        np.testing.assert_allclose([record["score"] for record in own], scores)
        places = {record["alarm"]: [] for record in own}
        for place, record in enumerate(own):
            places[record["alarm"]].append(place)
        wanted = alarms_of(RULE, scores, 1.0)
        assert places["raised"] == [begin for begin, _ in wanted] and wanted
        assert places["cleared"] == [end for _, end in wanted if end is not None]


def test_every_window_has_a_record_and_alarms_are_the_rules(tmp_path):
    made = watch(tmp_path)
    found = records(tmp_path)
    check_all_once(found)
    assert made.meter.windows == len(found) and made.meter.sound == len(found)
    first = found[0]
    assert {key: first[key] for key in ("machine", "section", "threshold", "problem")} == {
        "machine": "fan",
        "section": "00",
        "threshold": 1.0,
        "problem": None,
    }
    assert first["decision"] == int(first["exceeds"]) == int(first["score"] > 1)
    # Of two normal clips with 0.5 and 1.5: (1 + those as large) / 3.
    above = sum(value >= first["score"] for value in (0.5, 1.5))
    assert first["p_value"] == pytest.approx((1 + above) / 3)
    assert "a" in made.summary()[2]
    assert watch(tmp_path).meter.windows == 0  # all is done
    check_all_once(records(tmp_path))


def killed_at(monkeypatch, owner, name, number, *, after):
    """Lets a call of a method be the process's last act."""
    real, calls = getattr(owner, name), []

    def call(*arguments):
        calls.append(0)
        if len(calls) == number and not after:
            raise Killed
        result = real(*arguments)
        if len(calls) == number:
            raise Killed
        return result

    monkeypatch.setattr(owner, name, call)


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("owner, name", [(WatchState, "commit"), (LineFile, "write")])
def test_killed_ten_times(tmp_path, owner, name, after):
    """At each of ten starts the process dies before or after a transaction, or a block of lines."""
    told = tmp_path / "told"
    for kill in range(10):
        with pytest.MonkeyPatch.context() as patch:
            killed_at(patch, owner, name, 1 + kill % 3, after=after)
            with contextlib.suppress(Killed):
                watch(tmp_path, command=f"cat >> {told}")
    watch(tmp_path, command=f"cat >> {told}")
    found = records(tmp_path)
    check_all_once(found)
    events = {
        f"{record['alarm_id']}-{record['alarm']}"
        for record in found
        if record["alarm"] in ("raised", "cleared")
    }
    delivered = {json.loads(line)["id"] for line in told.read_text().splitlines()}
    assert delivered == events


def test_a_line_that_was_written_in_part(tmp_path, monkeypatch):
    real = os.write

    def torn(file, data):
        if len(data) > 100:  # a block of lines, and then no more
            real(file, data[: len(data) // 2 + 7])
            raise Killed
        return real(file, data)

    for _ in range(5):
        with mock.patch("asd_jax.deploy.watch.output.os.write", torn), contextlib.suppress(Killed):
            watch(tmp_path)
    watch(tmp_path)
    check_all_once(records(tmp_path))


def test_stopped_and_started(tmp_path):
    stops = iter([False] * 3 + [True] * 1000)
    watch(tmp_path, stop=lambda: next(stops))
    before = len(records(tmp_path))
    assert 0 < before < len(STREAMS) * N_WINDOWS
    watch(tmp_path)
    check_all_once(records(tmp_path))


@pytest.mark.parametrize("failing", ["state", "lines"])
def test_a_full_disk(tmp_path, monkeypatch, failing):
    full = [True] * 6

    def fails():
        return full and full.pop()

    commit, write = WatchState.commit, os.write

    def full_commit(self, changes):
        if failing == "state" and fails():
            raise sqlite3.OperationalError("database or disk is full")
        return commit(self, changes)

    def full_write(file, data):
        if failing == "lines" and len(data) > 1 and fails():
            write(file, data[: len(data) // 3])  # some of it finds space
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(file, data)

    monkeypatch.setattr(WatchState, "commit", full_commit)
    monkeypatch.setattr("asd_jax.deploy.watch.output.os.write", full_write)
    said = []
    watch(tmp_path, said=said)
    check_all_once(records(tmp_path))
    promise, *said = said
    assert "false alarms a month" in promise
    assert len(said) == 2 and "cannot be written" in said[0] and "nothing is lost" in said[1]


def test_a_disk_that_stays_full(tmp_path, monkeypatch):
    """Reading stops when too much waits; the end says what is not kept, and a restart has it."""
    monkeypatch.setattr(engine, "_MOST_PENDING", 8)
    real = WatchState.commit

    def full_commit(self, changes):
        raise sqlite3.OperationalError("database or disk is full")

    monkeypatch.setattr(WatchState, "commit", full_commit)
    looks = iter([False] * 40 + [True] * 1000)
    with pytest.raises(UserError, match="could not be kept") as raised:
        watch(tmp_path, stop=lambda: next(looks))
    assert raised.value.exit_status == 1
    assert int(str(raised.value).split()[0]) <= 8 + 4 * 4  # and the batches that were under way
    monkeypatch.setattr(WatchState, "commit", real)
    watch(tmp_path)
    check_all_once(records(tmp_path))


def test_a_file_that_is_moved_away(tmp_path):
    stops = iter([False] * 5 + [True] * 1000)
    watch(tmp_path, stop=lambda: next(stops))
    first = records(tmp_path)
    (tmp_path / "out.jsonl").rename(tmp_path / "out.1")
    watch(tmp_path)
    check_all_once(first + records(tmp_path))


def test_lines_are_added_to_what_is_there(tmp_path):
    (tmp_path / "out.jsonl").write_text('{"of": "others"}\n')
    watch(tmp_path)
    found = records(tmp_path)
    assert found[0] == {"of": "others"}
    check_all_once(found[1:])


def test_another_rule_starts_anew(tmp_path):
    stops = iter([False] * 4 + [True] * 1000)
    watch(tmp_path, stop=lambda: next(stops))
    settings = watching.WatchSettings(1.0, rule=AlarmRule(need=1, among=5))
    with watching.watching(
        FakeFitted(), STREAMS, settings, tmp_path / "state", out=tmp_path / "o", sources=FakeSource
    ) as made:
        made.run()
    assert (tmp_path / "o").stat().st_size


def test_refused(tmp_path):
    watch(tmp_path)
    made = watching.watching(FakeFitted(), STREAMS, watching.WatchSettings(2.0), tmp_path / "state")
    with pytest.raises(UserError, match="its windows are others.*1 s every 0.5 s.*2 s every 1 s"):
        made.__enter__()
    with pytest.raises(UserError, match="two streams have the name a"):
        watch(tmp_path, streams=[STREAMS[0], STREAMS[0]])
    one = watching.WatchSettings(1.0)
    first = watching.watching(FakeFitted(), STREAMS, one, tmp_path / "state", sources=FakeSource)
    with first, pytest.raises(UserError, match="in use by another watch"):
        watch(tmp_path)
    (tmp_path / "state" / "state.sqlite").write_bytes(b"no database at all" * 100)
    with pytest.raises(UserError, match="is damaged"):
        watch(tmp_path)


def test_an_error_of_a_source_ends_the_watch(tmp_path, monkeypatch):
    def poll(self, room):
        raise UserError("broken")
        yield

    monkeypatch.setattr(FakeSource, "poll", poll)
    with pytest.raises(UserError, match="broken"):
        watch(tmp_path)
