"""Where lines of results go: a file that grows, or standard output."""

import contextlib
import json
import os
from typing import Protocol

from asd_jax.runtime.files import disk_errors


class Lines(Protocol):
    """Takes lines, whole blocks of them, in their order."""

    def write(self, data: bytes) -> None:
        """Writes a block; after an error, the same block again.

        Raises:
            OSError: the disk is full, or nobody reads.
        """
        ...

    @property
    def place(self) -> str:
        """How far the file is, to be kept; "" where that has no meaning."""
        ...


class LineFile:
    """A file to which lines are added, each once.

    A block may be written in part when a process is killed or the disk is full. So the file beyond
    the place that is known is compared with the block, and what is missing is added. A file that
    was moved away or cut by others is begun anew.

    Args:
        path: of the file.
        place: `place` of the process before; "" for the file's end.

    Raises:
        UserError: the file cannot be written.
    """

    def __init__(self, path: os.PathLike | str, place: str = ""):
        self._path = os.path.abspath(path)
        with disk_errors(path):
            os.makedirs(os.path.dirname(self._path), exist_ok=True)
            with open(self._path, "ab") as file:
                status = os.fstat(file.fileno())
        self._size, self._inode = status.st_size, status.st_ino
        with contextlib.suppress(ValueError):
            known = json.loads(place)
            if (known["path"], known["inode"]) == (self._path, self._inode):
                self._size = known["size"]

    @property
    def place(self) -> str:
        """The file's path, size and inode."""
        return json.dumps({"path": self._path, "size": self._size, "inode": self._inode})

    def write(self, data: bytes) -> None:
        """Adds a block, or what is missing of it."""
        os.makedirs(os.path.dirname(self._path), exist_ok=True)
        file = os.open(self._path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o666)
        try:
            status = os.fstat(file)
            if status.st_ino != self._inode or status.st_size < self._size:
                self._size, self._inode = status.st_size, status.st_ino
            there = os.pread(file, len(data), self._size)
            if not data.startswith(there) or status.st_size > self._size + len(data):
                self._size, there = status.st_size, b""  # others write to it
            rest = memoryview(data)[len(there) :]
            while rest:
                rest = rest[os.write(file, rest) :]
            os.fsync(file)
            self._size += len(data)
        finally:
            os.close(file)


class LineStream:
    """Standard output, or another open file, of which nobody knows how far it was read.

    Args:
        file: its number.
    """

    place = ""

    def __init__(self, file: int = 1):
        self._file = file
        self._sent = 0  # bytes of the block

    def write(self, data: bytes) -> None:
        """Writes a block, or what is missing of it."""
        while self._sent < len(data):
            self._sent += os.write(self._file, data[self._sent :])
        self._sent = 0
