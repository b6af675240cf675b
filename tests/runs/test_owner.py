"""What is said of a process that ended suddenly in a run directory."""

import json
import os
import signal
import subprocess
import sys

import pytest

from asd_jax.errors import UserError
from asd_jax.runs import owner
from asd_jax.runs.directory import RunDirectory
from asd_jax.runs.owner import Owner

# Works in a folder until it is killed.
PROGRAM = """
import sys, time
from asd_jax.runs.directory import RunDirectory
with RunDirectory(sys.argv[1]).lock():
    print("works", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def killed(tmp_path):
    """A folder whose process was killed."""
    command = [sys.executable, "-c", PROGRAM, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "works\n"
        with pytest.raises(UserError, match=f"is in use by process {process.pid} on .*; wait"):
            said(tmp_path)
        os.kill(process.pid, signal.SIGKILL)
    return tmp_path


def said(folder):
    """Lines of the next start, and what the folder notes then and afterwards."""
    lines = []
    with RunDirectory(folder).lock(lines.append):
        assert json.loads((folder / ".lock").read_text())["name"].startswith("process ")
    assert (folder / ".lock").read_text() == ""
    return lines


def test_the_next_start_says_that_it_was_killed_once(killed):
    (line,) = said(killed)
    assert "ended abruptly, by a kill or a crash; this goes on from what it had saved" in line
    assert said(killed) == []


def test_the_kernels_kills_for_lack_of_memory_are_the_likely_cause(killed, monkeypatch, tmp_path):
    events = tmp_path / "vmstat"
    events.write_text(f"nr_free_pages 1\noom_kill {owner._kills() + 2}\n")
    monkeypatch.setattr(owner, "_EVENTS", events)
    (line,) = said(killed)
    assert "most likely by the kernel for lack of memory, which has killed 2 of" in line


def test_a_machine_that_was_started_again_is_the_cause(killed, monkeypatch, tmp_path):
    boot = tmp_path / "boot_id"
    boot.write_text("another\n")
    monkeypatch.setattr(owner, "_BOOT", boot)
    assert "ended as the machine was started again" in said(killed)[0]


def test_an_end_with_an_error_leaves_no_note(tmp_path):
    with pytest.raises(ZeroDivisionError), RunDirectory(tmp_path).lock():
        _ = 1 / 0
    assert said(tmp_path) == []


@pytest.mark.parametrize("text", ["process 7 on host", "{", "[1]", '{"pid": 3}', ""])
def test_a_note_of_an_earlier_version_or_a_damaged_one_says_nothing(tmp_path, text):
    (tmp_path / ".lock").write_text(text)
    assert said(tmp_path) == []


def test_a_process_of_another_machine_may_have_ended_for_any_reason(tmp_path):
    note = Owner("process 7 on elsewhere", "2026-01-02 03:04:05", "boot", 1)
    (tmp_path / ".lock").write_text(json.dumps(note._asdict()))
    (line,) = said(tmp_path)
    assert line == (
        "process 7 on elsewhere, at work here since 2026-01-02 03:04:05, ended without a word; "
        "this goes on from what it had saved"
    )
