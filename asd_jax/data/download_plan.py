"""What a download would fetch: archives, sizes and room on the disk."""

import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from asd_jax.data.download import (
    addresses,
    done_file,
    fetched_file,
    file_name,
    refuse_other_year,
)
from asd_jax.data.records import PublishedFile, reached_files
from asd_jax.data.years import Archive
from asd_jax.errors import UserError

# Times the bytes of an archive, with room: 117 clips of MIMII in a zip unpack to 1.30 of it.
_UNPACKED = 1.5


def describe_download(
    archives: Sequence[Archive], out_dir: os.PathLike | str, base_url: str | None = None
) -> list[str]:
    """What `fetch_archives` would fetch, as lines; asks for sizes, and writes nothing.

    Args:
        archives: of one year.
        out_dir: folder for the data of that year.
        base_url: as of `download`.

    Raises:
        UserError: `out_dir` holds another year, the site cannot be reached, or the disk has no
            room.
    """
    out_dir = Path(out_dir)
    refuse_other_year(out_dir, archives[0].year)
    missing = [archive for archive in archives if not done_file(archive, out_dir).exists()]
    here = len(archives) - len(missing)
    if not missing:
        return [f"all {len(archives)} archives are in {out_dir} already"]
    records: dict[str, dict[str, PublishedFile]] = {}
    sizes: list[int | None] = []
    lines: list[str] = []
    have = 0
    for archive in missing:
        name, record = file_name(archive), addresses(archive, base_url)[1]
        if record not in records:
            records[record] = reached_files(record, lines.append)
        size = records[record][name].size if name in records[record] else None
        lines.append(f"{name}: {_gigabytes(size)}")
        sizes.append(size)
        path = fetched_file(archive, out_dir)
        parts = (path, path.with_name(f"{path.name}.part"))
        have += sum(part.stat().st_size for part in parts if part.is_file())
    if here:
        lines.append(f"{here} of {len(archives)} archives are there already")
    known = [size for size in sizes if size is not None]
    if len(known) < len(sizes):
        lines.append(f"{len(missing)} archives to fetch into {out_dir}; not all sizes are known")
        return lines
    # An archive goes once it is unpacked.
    needed_bytes = int(_UNPACKED * sum(known)) + max(known)
    folder = out_dir.absolute()
    free = shutil.disk_usage(next(p for p in (folder, *folder.parents) if p.is_dir())).free
    begun = f", of which {_gigabytes(have)} are there" if have else ""
    lines.append(
        f"{len(missing)} archives to fetch into {out_dir}: {_gigabytes(sum(known))}{begun}; at "
        f"most about {_gigabytes(needed_bytes)} of disk are needed, and {_gigabytes(free)} are free"
    )
    if sum(known) - have > free:
        raise UserError(f"{lines[-1]}; make room, or choose another folder", exit_status=1)
    return lines


def _gigabytes(size: int | None) -> str:
    if size is None:
        return "of a size that its record does not tell"
    return f"{size / 1e9:.1f} GB" if size >= 1e8 else f"{size / 1e6:.1f} MB"


def refuse_other_files(out_dir: os.PathLike | str) -> None:
    """Raises UserError for recordings that came otherwise, which would be there twice."""
    if not os.path.isdir(out_dir):
        return
    ours = ("dev_data", "eval_data", "downloads")
    others = [name for name in os.listdir(out_dir) if not name.startswith(".")]
    if unknown := sorted(name for name in others if name not in ours):
        raise UserError(
            f"{out_dir} holds other files ({unknown[0]}) than those of a download; fetch into a "
            "folder of its own, or use the recordings that are there, without --download"
        )
