"""Walking the folders of a data set: its files, and which of them are recordings."""

import os
from collections.abc import Iterator
from pathlib import Path

from asd_jax.data.audio_files import inspect
from asd_jax.errors import UserError

EXPECTED = (
    "expected <machine>/train/*.wav and <machine>/test/*.wav named as in DCASE 2020 to 2026, "
    "or <machine>/id_NN/normal/*.wav as in MIMII; with other names, give --normal=FOLDER"
)

RENAMED = "test_rename"  # labelled evaluation clips, as the challenge's tools name them
SPLITS = {
    "train": "train",
    **dict.fromkeys(("test", "source_test", "target_test", RENAMED), "test"),
}
# Endings of recordings, also of formats that are not read here.
_SOUND = frozenset(
    f".{ending}"
    for ending in (
        *("aac", "aif", "aifc", "aiff", "amr", "ape", "au", "caf", "flac", "m4a", "mp3", "oga"),
        *("ogg", "opus", "rf64", "snd", "w64", "wave", "wma"),
    )
)


def walk(data_dir: Path, skipped: list[str]) -> Iterator[Path]:
    """Yields all files under a folder, and adds folders that are not walked to the list."""
    for folder, names in walk_folders(data_dir, skipped):
        yield from (Path(folder, name) for name in names)


def walk_folders(data_dir: Path, skipped: list[str]) -> Iterator[tuple[str, list[str]]]:
    """Yields all folders under a folder with their files' names; arguments as of `walk`."""
    if not data_dir.exists():
        raise UserError(f"no folder {data_dir}; {EXPECTED}")
    if not data_dir.is_dir():
        raise UserError(f"{data_dir} is a file; give the folder of the data set")

    def fail(error: OSError) -> None:
        raise UserError(f"cannot read the folder {error.filename}: {error.strerror}") from error

    # Data sets are often assembled from links to other disks; a link to a folder above itself would
    # be an endless loop. Real paths of each folder and of those above it:
    above: dict[str, frozenset[str]] = {}
    for folder, folders, files in os.walk(
        os.path.abspath(data_dir), followlinks=True, onerror=fail
    ):
        real = os.path.realpath(folder)
        outer = above.pop(folder, frozenset())
        if real in outer:
            folders.clear()
            continue
        waste = {name for name in folders if _is_waste(folder, name)}
        skipped += (os.path.join(folder, name) for name in waste)
        folders[:] = sorted(set(folders) - waste)
        above.update((os.path.join(folder, name), outer | {real}) for name in folders)
        yield folder, sorted(files)


def _is_waste(folder: str, name: str) -> bool:
    """Whether a folder is hidden, a bin or a snapshot, and not a machine of that name."""
    if name in ("__MACOSX", "@eaDir", "lost+found", "$RECYCLE.BIN"):
        return True
    return name.startswith(".") and not any(
        os.path.isdir(os.path.join(folder, name, split)) for split in SPLITS
    )


def is_wav(path: Path) -> bool:
    """Whether a file is called a wav file."""
    return path.suffix.lower() == ".wav"


def has_sound_suffix(name: str) -> bool:
    """Whether a file is called a recording, whatever it holds."""
    suffix = os.path.splitext(name)[1].lower()
    return suffix == ".wav" or suffix in _SOUND


def is_recording(path: Path) -> bool:
    """Whether a file is a recording, by its name or its content."""
    if path.name.startswith("."):
        return False
    return path.suffix.lower() in _SOUND or inspect(path).problem is None
