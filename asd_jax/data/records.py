"""What the pages of published data sets say of their files: sizes and checksums."""

from collections.abc import Callable
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from asd_jax.errors import UserError
from asd_jax.runtime.extras import needed

TIMEOUT_S = (15, 60)  # to connect; between two pieces


class PublishedFile(NamedTuple):
    """What a record says of a file; None for what it does not say."""

    md5: str | None
    size: int | None


def http() -> Any:
    """The package that speaks HTTP; UserError where it is not installed."""
    return needed("requests", "downloading")


def files_of(record: str) -> dict[str, PublishedFile]:
    """The files of a record, by name."""
    with http().get(record, timeout=TIMEOUT_S) as response:
        response.raise_for_status()
        files = response.json()["files"]
    found = {}
    for file in files:
        kind, _, digest = file["checksum"].partition(":")
        size = file.get("size")
        known = size if isinstance(size, int) and size > 0 else None
        found[file["key"]] = PublishedFile(digest if kind == "md5" else None, known)
    return found


def reached_files(record: str, report: Callable[[str], None]) -> dict[str, PublishedFile]:
    """The files of a record; UserError where its site cannot be reached."""
    requests = http()
    try:
        return files_of(record)
    except (requests.ConnectionError, requests.Timeout) as error:
        raise UserError(
            f"{urlsplit(record).netloc} cannot be reached ({reason(error)}), where recordings that "
            "are missing are published; connect this machine, or use recordings that are there, "
            "without --download",
            exit_status=1,
        ) from error
    except (requests.RequestException, ValueError, KeyError, TypeError, AttributeError) as error:
        report(f"sizes cannot be had from {record} ({reason(error)})")
        return {}


def known_files(record: str, report: Callable[[str], None]) -> dict[str, PublishedFile]:
    """The files of a record, by name; empty if it cannot be read."""
    requests = http()
    try:
        return files_of(record)
    except (requests.RequestException, ValueError, KeyError, TypeError, AttributeError) as error:
        report(
            f"the published checksums cannot be had from {record} ({reason(error)}); "
            "the archives' own checksums are checked alone"
        )
        return {}


def reason(error: BaseException) -> str:
    """The innermost cause of a network error, which is the most specific."""
    while error.__context__ is not None:
        error = error.__context__
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
