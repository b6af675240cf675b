"""Disks that are full, in bytes and in files."""

import errno
import os
from types import SimpleNamespace

import pytest

from asd_jax.errors import UserError
from asd_jax.runtime.files import disk_errors


@pytest.mark.parametrize(
    ("free", "inodes", "reason"),
    [
        (0, 100, "no space left on the disk"),
        (100, 100, "no inodes left for further files"),
        (100, 0, "no space left on the disk"),  # a file system without a table of inodes
    ],
)
def test_the_cause_of_a_full_disk(monkeypatch, tmp_path, free, inodes, reason):
    full = SimpleNamespace(f_files=inodes, f_favail=0 if free else 50)
    monkeypatch.setattr(os, "statvfs", lambda path: full)
    with pytest.raises(UserError, match=reason) as caught, disk_errors(tmp_path / "no" / "file"):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert caught.value.exit_status == 1
