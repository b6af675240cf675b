"""Notes of recordings' contents, so that those that have not changed need not be read.

    <cache>/recordings/<digest of the paths>.json

has the status, the digest and the level of each file of a group of recordings. What is noted holds
while a file's status is the one that was noted.
"""

import hashlib
import json
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

from asd_jax.data.audio_files import Recording, read_recording
from asd_jax.data.identity import UNREADABLE, Status, read_digest
from asd_jax.data.levels import Level
from asd_jax.features.cache import child, read_file, write_file

_THREADS = 4


class Content(NamedTuple):
    """What a recording holds.

    Attributes:
        digest: of the file's content.
        level: of its samples.
    """

    digest: bytes = UNREADABLE
    level: Level = Level()


_Note = tuple[Status | None, Content]


class Notes:
    """Notes of a group of recordings.

    Args:
        cache_dir: the cache's folder or URL.
        paths: absolute paths of the recordings.
    """

    def __init__(self, cache_dir: os.PathLike | str, paths: Sequence[str]):
        # The kind of digest is part of the name: notes of another kind are not found.
        names = "\0".join(["xxh3", *paths]).encode("utf-8", "surrogateescape")
        self._place = child(cache_dir, "recordings")
        self._name = f"{hashlib.sha256(names).hexdigest()[:32]}.json"
        self._paths = paths

    def contents(self, verify: bool = False) -> list[Content] | None:
        """The recordings' contents; None where nothing is noted.

        Recordings whose status is not the noted one are read, and noted anew.

        Args:
            verify: whether all are read.
        """
        noted = self._read()
        if noted is None:
            return None
        contents = [content for _, content in noted]
        changed = [
            i
            for i, (path, (status, _)) in enumerate(zip(self._paths, noted, strict=True))
            if verify or status is None or Status.of(path) != status
        ]
        if changed:
            with ThreadPoolExecutor(_THREADS) as pool:
                renewed = pool.map(lambda i: _renewed(self._paths[i], contents[i]), changed)
                for i, note in zip(changed, renewed, strict=True):
                    noted[i], contents[i] = note, note[1]
            self._write(noted)
        return contents

    def take(self, recordings: dict[int, Recording]) -> list[Content]:
        """Notes what was read; returns the contents of all recordings.

        Args:
            recordings: facts by index; those that are missing are read.
        """
        noted = []
        for i, path in enumerate(self._paths):
            recording = recordings.get(i) or read_recording(path)
            noted.append(_note(recording))
        self._write(noted)
        return [content for _, content in noted]

    def _read(self) -> list[_Note] | None:
        """The file of notes; None where there is none, or a damaged one."""
        text = read_file(self._place, self._name)
        if text is None:
            return None
        try:
            noted = [
                (
                    Status(*map(int, status)) if status else None,
                    Content(bytes.fromhex(digest), Level(*level)),
                )
                for status, digest, level in json.loads(text)
            ]
        except (ValueError, TypeError):
            return None
        return noted if len(noted) == len(self._paths) else None

    def _write(self, noted: Sequence[_Note]) -> None:
        rows = [[status, content.digest.hex(), content.level] for status, content in noted]
        write_file(self._place, self._name, json.dumps(rows).encode())


def _renewed(path: str, content: Content) -> _Note:
    """Notes a recording anew; one whose content is the noted one need not be decoded."""
    status = Status.of(path)  # before the read, so that a later change is noticed
    if read_digest(path) == content.digest != UNREADABLE:
        return _settled(status), content
    return _note(read_recording(path))


def _note(recording: Recording) -> _Note:
    return _settled(recording.status), Content(recording.digest, recording.level)


def _settled(status: Status | None) -> Status | None:
    """The status to note; None where the file may change again without a change of status."""
    return status if status is not None and status.is_settled() else None
