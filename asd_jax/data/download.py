"""Fetches the challenge's data sets from where the organisers publish them.

    asd-jax download --year=2020 --machines=fan,pump --out_dir=data/dcase2020

The clips come to `<out_dir>/<dev_data|eval_data>/<machine>/`. The same command continues where an
interrupted one stopped, and does nothing where all is there. Their licences are on the pages of
their records; read them before you use the sounds.
"""

import contextlib
import difflib
import hashlib
import json
import os
import shutil
import stat
import zipfile
import zlib
from collections.abc import Callable, Generator, Iterable, Sequence
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any
from urllib.parse import urlsplit

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from asd_jax.data.records import TIMEOUT_S, PublishedFile, http, known_files, reason
from asd_jax.data.years import Archive, official_archives
from asd_jax.errors import UserError
from asd_jax.runtime.files import atomic_write, disk_errors

_AGAIN = "run the same command again, it continues where it stopped"
_PIECE = 1 << 18
_JUNK = ("__MACOSX", ".DS_Store")


def select(
    year: int, machines: Sequence[str] = (), subset: str | None = None
) -> tuple[Archive, ...]:
    """The archives of a challenge year.

    Args:
        year: 2020 to 2026.
        machines: machine types; all if empty.
        subset: "dev" or "eval"; None for both.

    Returns:
        The archives, development before evaluation, train before test.

    Raises:
        UserError: an unknown year, machine or subset.
    """
    of_year = [archive for archive in official_archives() if archive.year == year]
    if not of_year:
        years = sorted({archive.year for archive in official_archives()})
        raise UserError(f"year {year}: archives are known for {years[0]} to {years[-1]}")
    if subset not in (None, "dev", "eval"):
        raise UserError(f"subset {subset!r} is neither 'dev' nor 'eval'")
    of_subset = [archive for archive in of_year if subset in (None, archive.subset)]
    known = list(dict.fromkeys(archive.machine for archive in of_subset))
    for machine in machines:
        if machine not in known:
            near = difflib.get_close_matches(machine, known, n=1, cutoff=0.5)
            meant = f"did you mean {near[0]}? " if near else ""
            of = f"{year}{f' {subset}' if subset else ''}"
            raise UserError(f"no machine {machine!r} in {of}; {meant}known: {', '.join(known)}")
    return tuple(a for a in of_subset if not machines or a.machine in machines)


def download(
    year: int,
    machines: Sequence[str],
    subset: str | None,
    out_dir: os.PathLike | str,
    base_url: str | None = None,
    report: Callable[[str], None] = print,
) -> None:
    """Fetches, checks and unpacks a year's archives, one after the other.

    An archive is checked against the MD5 that its record publishes, and each clip against the
    archive's own checksum. Complete archives are not fetched again.

    Args:
        year: 2020 to 2026.
        machines: machine types; all if empty.
        subset: "dev" or "eval"; None for both.
        out_dir: folder for the data of one year.
        base_url: scheme and host of a mirror, in place of the published ones.
        report: called with one line for each step.

    Raises:
        UserError: an unknown year, machine or subset; `out_dir` holds another year; the network
            or the disk failed; an archive is damaged. Fetched parts stay for the next try.
    """
    fetch_archives(select(year, machines, subset), out_dir, base_url, report)


def fetch_archives(
    archives: Sequence[Archive],
    out_dir: os.PathLike | str,
    base_url: str | None = None,
    report: Callable[[str], None] = print,
) -> None:
    """Fetches, checks and unpacks archives of one year; arguments and errors as of `download`."""
    out_dir = Path(out_dir)
    refuse_other_year(out_dir, archives[0].year)
    records: dict[str, dict[str, PublishedFile]] = {}
    for archive in archives:
        name, done = file_name(archive), done_file(archive, out_dir)
        if done.exists():
            report(f"{name}: here already")
            continue
        path = fetched_file(archive, out_dir)
        with disk_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
        url, record = addresses(archive, base_url)
        if record not in records:
            records[record] = known_files(record, report)
        if not path.exists():
            md5 = records[record][name].md5 if name in records[record] else None
            _fetch(url, path, md5, report)
        n_files = _unpack(path, archive.machine, done.parent)
        with atomic_write(done) as file:
            json.dump({"year": archive.year, "url": archive.url, "files": n_files}, file)
        path.unlink()
        report(f"{name}: {n_files} files in {done.parent}")
    if (out_dir / "downloads").is_dir() and not any((out_dir / "downloads").iterdir()):
        (out_dir / "downloads").rmdir()


def _md5() -> Any:
    return hashlib.md5(usedforsecurity=False)


def file_name(archive: Archive) -> str:
    """The name of an archive's file."""
    return PurePosixPath(urlsplit(archive.url).path).name


def addresses(archive: Archive, base_url: str | None) -> tuple[str, str]:
    """Addresses of the archive, and of the description of its record."""
    url = urlsplit(archive.url)
    base = base_url.rstrip("/") if base_url else f"{url.scheme}://{url.netloc}"
    _, _, record, *_ = url.path.split("/")
    return base + url.path, f"{base}/api/records/{record}"


def done_file(archive: Archive, out_dir: Path) -> Path:
    """The file that says that an archive is unpacked, in its machine's folder."""
    machine_dir = out_dir / f"{archive.subset}_data" / archive.machine
    return machine_dir / f".{file_name(archive)}.done"


def fetched_file(archive: Archive, out_dir: Path) -> Path:
    """Where an archive is until it is unpacked; a part of it has the suffix ".part"."""
    return out_dir / "downloads" / file_name(archive)


def refuse_other_year(out_dir: Path, year: int) -> None:
    """Raises UserError for a folder with another year's data.

    Machines and file names recur each year: clips of two years would mix in one folder.
    """
    for done in out_dir.glob("*_data/*/.*.done"):
        other = json.loads(done.read_text(encoding="utf-8"))["year"]
        if other != year:
            raise UserError(f"{out_dir} holds data of {other}; give {year} a folder of its own")


def _fetch(url: str, path: Path, md5: str | None, report: Callable[[str], None]) -> None:
    """Fetches an archive to `path`, which exists only once it is complete and checked."""
    part = path.with_name(f"{path.name}.part")
    requests = http()
    try:
        _stream(url, part, report)
    except requests.RequestException as error:
        raise UserError(
            f"{path.name}: the download stopped ({reason(error)}); {_AGAIN}", exit_status=1
        ) from error
    if md5:
        with part.open("rb") as file:
            digest = hashlib.file_digest(file, _md5).hexdigest()
        if digest != md5:
            part.unlink()
            raise UserError(
                f"{path.name}: MD5 {digest} instead of the published {md5}; the copy was removed, "
                "run the same command again to fetch it anew",
                exit_status=1,
            )
    os.replace(part, path)


def _stream(url: str, part: Path, report: Callable[[str], None]) -> None:
    """Appends the missing bytes to `part`; begins again where the server cannot resume."""
    requests = http()
    have = part.stat().st_size if part.exists() else 0
    headers = {"Accept-Encoding": "identity"}
    if have:
        headers["Range"] = f"bytes={have}-"
    name = part.name.removesuffix(".part")
    with requests.get(url, headers=headers, stream=True, timeout=TIMEOUT_S) as response:
        if response.status_code == 416 and have:  # nothing left to send, or another file by now
            if response.headers.get("Content-Range") == f"bytes */{have}":
                return
            part.unlink()
            return _stream(url, part, report)
        response.raise_for_status()
        appends = response.status_code == 206 and response.headers.get(
            "Content-Range", ""
        ).startswith(f"bytes {have}-")
        if have and not appends:
            report(f"{name}: the server cannot resume, so this begins again")
            have = 0
        length = response.headers.get("Content-Length")
        total = have + int(length) if length else None
        size = f" of {total / 1e6:.1f} MB" if total else ""
        report(f"{name}: {'resuming at' if have else 'fetching'} {have / 1e6:.1f} MB{size}")
        shown = _shown(response.iter_content(_PIECE), name, have, total, report)
        with (
            contextlib.closing(shown) as pieces,
            disk_errors(part),
            part.open("ab" if have else "wb") as file,
        ):
            for piece in pieces:
                have += file.write(piece)
    if total is not None and have != total:
        raise requests.ConnectionError(f"{have} of {total} bytes came")


def _shown(
    pieces: Iterable[bytes],
    name: str,
    have: int,
    total: int | None,
    report: Callable[[str], None],
) -> Generator[bytes, None, None]:
    """Yields the pieces, and shows progress: a bar on a terminal, otherwise a line a tenth."""
    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        task = progress.add_task(name, total=total, completed=have)
        tenth = 10 * have // total if total else 0
        for piece in pieces:
            yield piece
            have += len(piece)
            progress.update(task, completed=have)
            if total and not console.is_terminal and 10 * have // total > tenth:
                tenth = 10 * have // total
                report(f"{name}: {10 * tenth} %")


def _unpack(path: Path, machine: str, machine_dir: Path) -> int:
    """Unpacks an archive below the machine's folder and returns the number of files.

    Each file appears under its name only once it is complete and its checksum is right.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            members = _members(archive, path.name, machine)
            _refuse_full_disk(machine_dir, sum(info.file_size for info, _ in members))
            for info, relative in members:
                target = machine_dir / relative
                temporary = target.with_name(f".{target.name}.part")
                with disk_errors(target):
                    target.parent.mkdir(parents=True, exist_ok=True)
                    with archive.open(info) as source, temporary.open("wb") as copy:
                        shutil.copyfileobj(source, copy, _PIECE)
                    os.replace(temporary, target)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError) as error:
        path.unlink()
        raise UserError(
            f"{path.name} is damaged ({error}); it was removed, run the same command again to "
            "fetch it anew",
            exit_status=1,
        ) from error
    if hasattr(os, "sync"):  # the archive is removed next, so its files must be on the disk
        os.sync()
    return len(members)


def _members(
    archive: zipfile.ZipFile, name: str, machine: str
) -> list[tuple[zipfile.ZipInfo, PurePosixPath]]:
    """The files of an archive, each with its path below the machine's folder."""
    members = []
    for info in archive.infolist():
        path = PureWindowsPath(info.filename)  # splits at both kinds of slash
        is_link = stat.S_ISLNK(info.external_attr >> 16)
        if path.anchor or ".." in path.parts or is_link:
            raise UserError(
                f"{name} holds {info.filename!r}, which leads out of its folder; nothing was "
                "unpacked, and the archive should not be trusted",
                exit_status=1,
            )
        if info.is_dir() or any(part in _JUNK for part in path.parts):
            continue
        # Archives differ in how many folders they put above the machine's.
        above = path.parts.index(machine) + 1 if machine in path.parts[:-1] else 0
        members.append((info, PurePosixPath(*path.parts[above:])))
    return members


def _refuse_full_disk(machine_dir: Path, n_bytes: int) -> None:
    with disk_errors(machine_dir):
        machine_dir.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(machine_dir).free
    if n_bytes > free:
        raise UserError(
            f"{machine_dir} needs {n_bytes / 1e9:.1f} GB and has {free / 1e9:.1f} GB free; make "
            f"room and {_AGAIN}",
            exit_status=1,
        )
