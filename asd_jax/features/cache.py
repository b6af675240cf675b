"""The feature cache's entries: tables of frames on disk or in a bucket.

    <cache>/<name>/table/        a Zarr array of frames (rows, width)
    <cache>/<digest>/index.json  name of the table and frames of each clip; written last, so that
                                 it marks a whole entry

An entry is named after its recordings' contents, which are known when they are read; a table
after the files' paths and statuses. Two processes that write the same table write the same values
to the same places. Chunks have checksums, and a missing chunk is an error, so that damage is
always noticed.
"""

import contextlib
import dataclasses
import json
import math
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import tensorstore as ts

from asd_jax.errors import UserError
from asd_jax.runtime.files import disk_errors

_CHUNK_FRAMES = 2048  # 1 MiB of 128 bands
# Beginnings of TensorStore's errors for a damaged table; the last is that of a missing chunk.
_DAMAGED = ("DATA_LOSS", "FAILED_PRECONDITION", "OUT_OF_RANGE", "NOT_FOUND")
# Declared rows of the Zarr array: an entry's length is known only when its last clip is read, and
# one shape for all lets two processes open the same array. Also the limit of int32.
MAX_FRAMES = 2**31 - 1
# Kinds of URL that can be written to and last, and seconds that a bucket has to answer.
_SCHEMES = ("gs", "s3", "file")
_PATIENCE = 60.0
_LONG = 200  # characters of TensorStore's reason that are shown


@dataclasses.dataclass(frozen=True)
class Index:
    """An entry's `index.json`.

    Attributes:
        table: name of the table's folder in the cache.
        n_frames: of each clip of the group; 0 for one left out.
        lines: lines reported while the entry was computed, with `mark(i)` for the path of clip i.
    """

    table: str
    n_frames: list[int]
    lines: list[str]

    @classmethod
    def parse(cls, text: bytes, n_clips: int) -> "Index":
        """The index of `n_clips` clips; raises ValueError, KeyError or TypeError on other text."""
        fields = json.loads(text)
        index = cls(fields["table"], fields["n_frames"], fields["lines"])
        if len(index.n_frames) != n_clips or len(fields) != 3:
            raise ValueError("an index of other clips")
        if not re.fullmatch("[0-9a-f]{32}", index.table):
            raise ValueError("a table's name is a digest")
        if not all(type(n) is int and n >= 0 for n in index.n_frames):
            raise ValueError("frames are counted")
        if not all(type(line) is str for line in index.lines):
            raise ValueError("lines are text")
        return index


def mark(index: int) -> str:
    """What stands for the path of a clip in an entry's lines: another folder may hold the clips."""
    return f"\0{index}\0"


@dataclasses.dataclass(frozen=True)
class Entry:
    """One entry of the cache: a table of frames and its index.

    Attributes:
        cache_dir: the cache's folder or URL.
        table: name of the table's folder.
        width: values of a frame.
        dtype: of the values, by NumPy's name.
        digest: name of the entry; "" until it is known.
    """

    cache_dir: str
    table: str
    width: int
    dtype: str = "float32"
    digest: str = ""

    @property
    def place(self) -> str:
        """Folder or URL of the table's parent."""
        return child(self.cache_dir, self.table)

    def load(self, n_clips: int, report: Callable[[str], None]) -> "tuple[Entry, Index] | None":
        """The finished entry with its table, and its index; None where it is missing or damaged."""
        place = child(self.cache_dir, self.digest)
        text = read_file(place, "index.json")
        if text is None:
            return None
        found = self
        with contextlib.suppress(ValueError, KeyError, TypeError):
            index = Index.parse(text, n_clips)
            found = dataclasses.replace(self, table=index.table)
            chunks = range(math.ceil(sum(index.n_frames) / _CHUNK_FRAMES))
            with _cache_errors("read", found.place):
                names = set(ts.KvStore.open(_kvstore(found.place)).result().list().result())
            if names.issuperset(f"table/c/{i}/0".encode() for i in chunks):
                if chunks:
                    found.open()
                return found, index
        report(f"the features in {place} are damaged; they are computed anew")
        for damaged in {place, found.place}:
            with _cache_errors("write", damaged):
                ts.KvStore.open(_kvstore(damaged)).result().delete_range(
                    ts.KvStore.KeyRange()
                ).result()
        return None

    def open(self, create: bool = False) -> ts.TensorStore:
        """The table; rows past the entry's last frame are NaN, or 0 of an integer type."""
        spec = {
            "driver": "zarr3",
            "kvstore": _kvstore(child(self.place, "table")),
            # Chunks of the fill value are written too, so that a missing chunk is an error.
            "store_data_equal_to_fill_value": True,
            "fill_missing_data_reads": False,
            "metadata": {
                "shape": [MAX_FRAMES, self.width],
                "data_type": self.dtype,
                "fill_value": "NaN" if np.dtype(self.dtype).kind == "f" else 0,
                "chunk_grid": {
                    "name": "regular",
                    "configuration": {"chunk_shape": [_CHUNK_FRAMES, self.width]},
                },
                "codecs": [
                    {"name": "bytes", "configuration": {"endian": "little"}},
                    {"name": "crc32c"},
                ],
            },
        }
        return ts.open(spec, open=True, create=create).result()

    def read(self, start: int, stop: int) -> np.ndarray:
        """Reads rows of the table; discards a damaged entry and raises UserError."""
        with _cache_errors("read", self.place):
            try:
                rows = self.open()[start:stop].read().result()
                intact = rows.dtype.kind != "f" or bool(np.isfinite(rows).all())
            except ValueError as error:
                if not str(error).startswith(_DAMAGED):
                    raise
                intact = False
        if not intact:
            write_file(child(self.cache_dir, self.digest), "index.json", None)
            raise UserError(
                f"the features in {self.place} are damaged and were discarded; run the same "
                "command again, they are computed anew",
                exit_status=1,
            )
        return rows

    def commit(self, index: Index) -> None:
        """Declares the entry, whose digest is known, finished."""
        text = json.dumps(dataclasses.asdict(index)).encode()
        write_file(child(self.cache_dir, self.digest), "index.json", text)


class Writer:
    """Appends frames to an entry's table in whole chunks, and writes one in the background."""

    def __init__(self, entry: Entry):
        self._place = entry.place
        if "://" not in self._place:  # the system's reason is shorter than TensorStore's
            with disk_errors(self._place):
                Path(self._place).expanduser().mkdir(parents=True, exist_ok=True)
        with _cache_errors("write", self._place):
            self._store = entry.open(create=True)
        self._fill = np.nan if np.dtype(entry.dtype).kind == "f" else 0
        self._chunk = np.empty((_CHUNK_FRAMES, entry.width), entry.dtype)
        self._filled = 0
        self._chunks_written = 0
        self._under_way: ts.WriteFutures | None = None

    def append(self, frames: np.ndarray) -> None:
        """Adds frames (n, width) at the end."""
        while len(frames):
            n = min(len(frames), _CHUNK_FRAMES - self._filled)
            self._chunk[self._filled : self._filled + n] = frames[:n]
            self._filled += n
            frames = frames[n:]
            if self._filled == _CHUNK_FRAMES:
                self._write()

    def flush(self) -> None:
        """Writes the last, incomplete chunk and waits until all chunks are on disk."""
        if self._filled:
            self._chunk[self._filled :] = self._fill
            self._write()
        self._wait()

    def close(self) -> None:
        """Waits for a chunk that is being written; hides its error in favour of an earlier one."""
        with contextlib.suppress(UserError):
            self._wait()

    def _write(self) -> None:
        self._wait()
        first = self._chunks_written * _CHUNK_FRAMES
        if first + _CHUNK_FRAMES > MAX_FRAMES:
            raise UserError(f"{self._place}: more than {MAX_FRAMES} frames: take fewer clips")
        with _cache_errors("write", self._place):
            self._under_way = self._store[first : first + _CHUNK_FRAMES].write(self._chunk)
        self._chunk = np.empty_like(self._chunk)
        self._filled = 0
        self._chunks_written += 1

    def _wait(self) -> None:
        under_way, self._under_way = self._under_way, None
        if under_way is not None:
            with _cache_errors("write", self._place):
                under_way.result()


def read_file(place: str, name: str) -> bytes | None:
    """Reads a small file of a folder or URL; None where there is none."""
    with _cache_errors("read", place):
        stored = ts.KvStore.open(_kvstore(place)).result().read(name).result()
    return stored.value if stored.state == "value" else None


def write_file(place: str, name: str, content: bytes | None) -> None:
    """Writes a small file of a folder or URL as a whole; None removes it."""
    with _cache_errors("write", place):
        ts.KvStore.open(_kvstore(place)).result().write(name, content).result()


def child(place: os.PathLike | str, name: str) -> str:
    """A place within a folder or URL."""
    place = os.fspath(place)
    return f"{place.rstrip('/')}/{name}" if "://" in place else os.path.join(place, name)


def _kvstore(place: str) -> str | dict[str, str]:
    if "://" in place:
        return place + "/"
    return {"driver": "file", "path": os.path.abspath(os.path.expanduser(place)) + os.sep}


@contextlib.contextmanager
def _cache_errors(verb: str, place: str) -> Iterator[None]:
    """Turns TensorStore's errors, whose text holds the system's error, into one line."""
    try:
        yield
    except TimeoutError:
        raise
    except (ValueError, OSError) as error:
        text = str(error)
        code = re.search(r"os_error_code='(\d+)'", text)
        if code:
            with contextlib.suppress(OSError), disk_errors(place):
                raise OSError(int(code[1]), text) from error
        reason = text.split(" [")[0]
        if len(reason) > _LONG:  # whose last part is what happened
            reason = reason.rpartition(": ")[2][:_LONG]
        raise UserError(f"cannot {verb} the cache {place}: {reason}", exit_status=1) from error


def place_of(cache_dir: os.PathLike | str | None) -> str:
    """The cache's folder or URL; the user's by default.

    Raises:
        UserError: it is a URL that cannot be a cache, or a bucket that does not answer.
    """
    place = os.fspath(cache_dir or default_cache_dir())
    scheme, separator, _ = place.partition("://")
    if not separator:
        return place
    if scheme not in _SCHEMES:
        raise UserError(
            f"the cache cannot be {place}: give a folder, or a bucket as gs://… or s3://…"
        )
    try:
        with _cache_errors("read", place):
            store = ts.KvStore.open(_kvstore(place)).result(timeout=_PATIENCE)
            store.read("index.json").result(timeout=_PATIENCE)
    except TimeoutError as error:
        raise UserError(
            f"the cache {place} does not answer within {_PATIENCE:g} s; correct its name or the "
            "credentials, or give a folder",
            exit_status=1,
        ) from error
    return place


def default_cache_dir() -> str:
    """$ASD_JAX_CACHE, or asd_jax in the user's cache folder ($XDG_CACHE_HOME, ~/.cache)."""
    return os.environ.get("ASD_JAX_CACHE") or _users_folder()


def folder_of(cache_dir: os.PathLike | str | None) -> str:
    """A folder for files that are fetched: the cache, or the user's where that is a bucket."""
    place = os.fspath(cache_dir or default_cache_dir())
    return _users_folder() if "://" in place else place


def _users_folder() -> str:
    try:
        return str(Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "asd_jax")
    except RuntimeError as error:
        raise UserError(
            "there is no home folder for the feature cache; set ASD_JAX_CACHE or --cache_dir"
        ) from error
