"""Which recordings are read again, and that a changed one is never taken for the one before."""

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile
from recordings import rows

from asd_jax.data import identity
from asd_jax.features import notes


@pytest.fixture(autouse=True)
def settled(monkeypatch):
    """Files as if written long ago: those of the last second are read again in any case."""
    monkeypatch.setattr(identity, "_COARSE_NS", -(10**15))


@pytest.fixture
def reread(monkeypatch):
    """Names of the recordings that are read for their digests alone."""
    names, read = [], notes.read_digest

    def counting(path):
        names.append(Path(path).name)
        return read(path)

    monkeypatch.setattr(notes, "read_digest", counting)
    return names


def set_times(path, ns):
    os.utime(path, ns=(ns, ns))


def test_a_replaced_recording_of_the_same_size_and_time_is_noticed(clips, compute, reread):
    """As in archives that give all files one time."""
    for clip in clips:
        set_times(clip.path, 315532800 * 10**9)
    before = compute(clips)
    assert compute.read == 5
    size = os.path.getsize(clips[2].path)
    soundfile.write(clips[2].path, np.zeros(16000), 16000)
    set_times(clips[2].path, 315532800 * 10**9)
    assert os.path.getsize(clips[2].path) == size
    after = compute(clips)
    assert Path(clips[2].path).name in reread
    assert after.key != before.key and (after.read_clips([2])[0] < -150).all()
    assert [i for i in range(5) if after.digests[i] != before.digests[i]] == [2]
    assert after.levels[2].tolist() == [-np.inf, 0.0, 0.0, 1.0]


def test_a_touched_recording_is_read_once_and_computed_never(clips, compute, reread):
    before = compute(clips)
    set_times(clips[3].path, 10**18)
    for _ in range(2):
        after = compute(clips)
        assert compute.read == 0 and reread == [Path(clips[3].path).name]
    assert after.key == before.key
    np.testing.assert_array_equal(rows(after), rows(before))
    np.testing.assert_array_equal(after.digests, before.digests)


def test_a_copy_has_the_same_identity(clips, compute, tmp_path):
    before = compute(clips)
    copied = shutil.copytree(tmp_path / "data", tmp_path / "copy")
    moved = [
        type(clip)(**{**vars(clip), "path": clip.path.replace(str(tmp_path / "data"), str(copied))})
        for clip in clips
    ]
    after = compute(moved)
    assert after.key == before.key
    np.testing.assert_array_equal(after.digests, before.digests)


def test_verify_reads_all(clips, compute, reread):
    before = compute(clips)
    after = compute(clips, verify=True)
    assert len(reread) == 5 and after.key == before.key


def test_what_changed_behind_an_equal_status_is_found_by_verify(clips, compute, monkeypatch):
    """A file system without times of change; nothing else can notice it."""
    of = identity.Status.of
    monkeypatch.setattr(
        identity.Status,
        "of",
        classmethod(lambda cls, file: of(file)._replace(modified=0, changed=0, inode=0)),
    )
    before = compute(clips)
    soundfile.write(clips[2].path, np.zeros(16000), 16000)
    assert compute(clips).key == before.key
    after = compute(clips, verify=True)
    assert after.key != before.key and (after.read_clips([2])[0] < -150).all()


@pytest.mark.parametrize("text", [b"", b"[]", b"[[1]]", b'[["x", "zz", []]]', b"null"])
def test_damaged_notes_are_made_again(clips, compute, tmp_path, text):
    before = compute(clips)
    (place,) = (tmp_path / "cache/recordings").iterdir()
    place.write_bytes(text)
    assert compute(clips).key == before.key and compute.read == 5
    assert compute(clips).key == before.key and compute.read == 0


def test_lines_name_the_files_that_are_there(clips, compute, tmp_path):
    soundfile.write(clips[1].path, np.zeros(9000), 8000)
    compute(clips)
    assert [line for line in compute.lines if clips[1].path in line]
    os.rename(tmp_path / "data", tmp_path / "moved")
    moved = [
        type(clip)(**{**vars(clip), "path": clip.path.replace("/data/", "/moved/")})
        for clip in clips
    ]
    compute(moved)
    again = compute(moved)
    assert compute.read == 0 and len(again.clips) == 5
    (line,) = compute.lines
    assert line.endswith(f"first {moved[1].path}")


def test_a_file_of_this_moment_is_read_again(clips, compute, reread, monkeypatch):
    """It may change once more within what its file system counts as one time."""
    monkeypatch.setattr(identity, "_COARSE_NS", 10**15)
    compute(clips)
    compute(clips)
    assert compute.read == 0 and len(reread) == 5
