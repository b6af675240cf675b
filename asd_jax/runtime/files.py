"""Atomic writing of files, and reading of files of plain arrays."""

import contextlib
import errno
import hashlib
import os
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import numpy as np

from asd_jax.errors import UserError

# Exceptions for a damaged file, of NumPy, its zip files, gzip and the use of their content.
DAMAGE = (
    OSError,
    ValueError,
    KeyError,
    TypeError,
    AttributeError,
    EOFError,
    NotImplementedError,
    zipfile.BadZipFile,
    zlib.error,
)

# Bytes; file systems take 255, of which a temporary file beside it adds some.
_LONGEST_NAME = 240
_DISK_ERRORS = {
    errno.ENOSPC: "no space left on the disk",
    errno.EDQUOT: "the disk quota is used up",
    errno.EROFS: "the file system is read-only",
    errno.EACCES: "permission denied",
    errno.EFBIG: "the file is larger than allowed",
    errno.ENOTDIR: "a part of the path is a file, not a folder",
    errno.EEXIST: "a file is in the way",
}

# The umask is read by setting it, which would disturb other threads later on.
_UMASK = os.umask(0)
os.umask(_UMASK)


def fitting_name(stem: str, suffix: str) -> str:
    """A file's name that every file system takes; a longer one ends in a digest of it.

    Args:
        stem: the name that is wanted, of any length.
        suffix: what it ends in, such as ".png".

    Examples:
        >>> fitting_name("fan", ".png")
        'fan.png'
        >>> len(fitting_name(250 * "é", ".png").encode()) <= 240
        True
    """
    name = os.fsencode(stem + suffix)
    if len(name) <= _LONGEST_NAME:
        return stem + suffix
    end = f"-{hashlib.sha256(name).hexdigest()[:12]}{suffix}"
    kept = os.fsencode(stem)[: _LONGEST_NAME - len(end.encode())]
    return kept.decode("utf-8", "ignore") + end


@contextlib.contextmanager
def disk_errors(path: os.PathLike | str) -> Iterator[None]:
    """Turns errors of the disk into one line that names `path`."""
    try:
        yield
    except OSError as error:
        if error.errno is None:  # not the disk's: other libraries raise OSError too
            raise
        reason = _DISK_ERRORS.get(error.errno, error.strerror)
        if error.errno == errno.ENOSPC and _lacks_inodes(path):
            reason = "the file system has no inodes left for further files (see df -i)"
        raise UserError(
            f"cannot write {path}: {reason}; correct that and run the same command again, it "
            "continues where it stopped",
            exit_status=1,
        ) from error


def _lacks_inodes(path: os.PathLike | str) -> bool:
    """Whether the file system of a path that may not exist has no inode left."""
    place = Path(path).expanduser().absolute()
    while not place.exists() and place != place.parent:
        place = place.parent
    with contextlib.suppress(OSError):
        system = os.statvfs(place)
        return bool(system.f_files) and system.f_favail == 0
    return False


@contextlib.contextmanager
def atomic_write(path: os.PathLike | str, mode: str = "w") -> Iterator[IO]:
    """Opens a temporary file beside `path` and renames it to `path` after success.

    Args:
        path: the file to write; its folder is created if it does not exist.
        mode: "w" for text (UTF-8, newlines untouched) or "wb" for bytes.

    Yields:
        The open file.

    Raises:
        UserError: the disk is full, read-only or forbidden. `path` is then unchanged.

    Examples:
        A failure leaves the file as it was, and nothing beside it.

        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Path(folder) / "notes.txt"
        ...     with atomic_write(path) as file:
        ...         characters = file.write("complete")
        ...     with contextlib.suppress(ZeroDivisionError), atomic_write(path) as file:
        ...         characters = file.write("hal") / 0
        ...     print(path.read_text(), os.listdir(folder))
        complete ['notes.txt']
    """
    path = Path(path)
    text: dict[str, Any] = {} if "b" in mode else {"encoding": "utf-8", "newline": ""}
    with disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        try:
            with os.fdopen(descriptor, mode, **text) as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            os.chmod(temporary, 0o666 & ~_UMASK)
            os.replace(temporary, path)
        except BaseException:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(temporary)
            raise


def read_arrays(file: os.PathLike | str | IO[bytes]) -> dict[str, np.ndarray]:
    """Reads all arrays of an .npz file; nothing is unpickled.

    Args:
        file: path of the file, or an open one.

    Raises:
        FileNotFoundError: the file does not exist.
        Exception: one of `DAMAGE`, for a file that is no .npz file of plain arrays.

    Examples:
        >>> import io
        >>> file = io.BytesIO()
        >>> np.savez(file, weights=np.arange(3))
        >>> read_arrays(io.BytesIO(file.getvalue()))
        {'weights': array([0, 1, 2])}
    """
    arrays = np.load(file, allow_pickle=False)
    if isinstance(arrays, np.ndarray):
        raise ValueError("it is one array, not an archive of arrays")
    with arrays:
        return {name: arrays[name] for name in arrays.files}
