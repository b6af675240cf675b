"""Identity of a recording: a digest of its content, and the file status that it was read under."""

import hashlib
import io
import os
import time
from typing import NamedTuple

import xxhash

_DIGEST_BYTES = 16
# Stands for the content of a file that cannot be read.
UNREADABLE = bytes(_DIGEST_BYTES)
# Timestamps may be this coarse: a file that changed so recently may change again under one status.
_COARSE_NS = 10**9


class Status(NamedTuple):
    """What a file system says of a file; a changed file differs in at least one of them.

    The time of the last change (ctime) is set by the system alone, so that a file that was
    replaced under its old size and modification time is noticed.

    Attributes:
        size: in bytes.
        modified: time of the last modification, in ns.
        changed: time of the last change of content or metadata, in ns.
        inode: number within the file system.
    """

    size: int
    modified: int
    changed: int
    inode: int

    @classmethod
    def of(cls, file: os.PathLike | str | int) -> "Status | None":
        """The status of a path or an open file; None of a file that is not there."""
        try:
            status = os.stat(file)
        except OSError:
            return None
        return cls(status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino)

    def is_settled(self) -> bool:
        """Whether a later change of the file would change its status, too."""
        return time.time_ns() - max(self.changed, self.modified) > _COARSE_NS


def digest_of(file: io.FileIO | io.BytesIO) -> bytes:
    """Digest (16 bytes) of an open file's whole content.

    XXH3 tells contents apart, at the speed of memory; it is no protection against forgery.

    Examples:
        >>> import io
        >>> digest_of(io.BytesIO(b"sound")) == digest_of(io.BytesIO(b"sound"))
        True
    """
    file.seek(0)
    return hashlib.file_digest(file, xxhash.xxh3_128).digest()


def read_digest(path: os.PathLike | str) -> bytes:
    """Digest of a file's content; `UNREADABLE` of a file that cannot be read."""
    try:
        if not os.path.isfile(path):  # opening a FIFO would wait for a writer
            return UNREADABLE
        with open(path, "rb", buffering=0) as file:
            return digest_of(file)
    except OSError:
        return UNREADABLE
