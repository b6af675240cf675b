"""The published recordings that a report's runs need, fetched where they are missing."""

import os
from collections.abc import Mapping
from pathlib import PurePosixPath
from urllib.parse import urlsplit

from asd_jax.config import Config, MembersConfig, load_config
from asd_jax.data.download import fetch_archives, select
from asd_jax.data.download_plan import describe_download, refuse_other_files
from asd_jax.data.years import Archive
from asd_jax.detectors import make_detector
from asd_jax.errors import UserError
from asd_jax.papers import tables
from asd_jax.papers.layouts import PAPERS
from asd_jax.papers.settings import settings_of
from asd_jax.runtime.progress import Reporter


def archives_of(paper: str, overrides: Mapping[str, str]) -> tuple[Archive, ...]:
    """The archives of the recordings that a report's runs learn from and score.

    The development set of the report's year; and the training clips of the additional set, where a
    system learns from both. Of `data.machines`, with those that serve as their outliers.

    Args:
        paper: one of `layouts.PAPERS`.
        overrides: as of `reproduce`.

    Examples:
        >>> [archive.subset for archive in archives_of("jalali2020", {"data.machines": "fan"})]
        ['dev']
        >>> [archive.subset for archive in archives_of("giri2020", {"data.machines": "fan"})]
        ['dev', 'eval']
    """
    needed = tables.needed(paper)
    settings = settings_of(paper, needed, overrides)
    machines: set[str] = set()
    of_both: set[str] = set()
    whole: set[str] = set()
    for run in needed:
        config = load_config(run.configuration, settings[run.name])
        own = {name for name in run.machines if name in (config.data.machines or run.machines)}
        machines |= own | {run.machines[name] for name in own} - {""}
        if _learns_from_both(config):
            of_both |= own
        if config.data.subset in ("eval", "both"):
            whole |= own
    of_year = select(PAPERS[paper].year)
    return tuple(
        archive
        for archive in of_year
        if archive.machine in (machines if archive.subset == "dev" else whole)
        or (archive.machine in of_both and _is_training(archive))
    )


def fetch_recordings(
    paper: str,
    data_dir: os.PathLike | str,
    overrides: Mapping[str, str],
    reporter: Reporter,
    mirror: str | None = None,
) -> None:
    """Fetches what is missing of `archives_of`, and says before how much that is.

    Args:
        paper: as of `archives_of`.
        data_dir: folder for the recordings of the report's year.
        overrides: as of `archives_of`.
        reporter: shows what is done.
        mirror: scheme and host in place of the published ones.

    Raises:
        UserError: as of `plan_recordings`; the network or the disk failed. The same call continues.
    """
    for line in plan_recordings(paper, data_dir, overrides, mirror):
        reporter.line(line)
    fetch_archives(archives_of(paper, overrides), data_dir, mirror, reporter.line)


def plan_recordings(
    paper: str,
    data_dir: os.PathLike | str,
    overrides: Mapping[str, str],
    mirror: str | None = None,
) -> list[str]:
    """What `fetch_recordings` would fetch, as lines; arguments as there.

    Raises:
        UserError: the folder has other recordings, the site cannot be reached, or the disk has no
            room.
    """
    archives = archives_of(paper, overrides)
    if not archives:
        raise UserError(f"DCASE {PAPERS[paper].year} has none of the machines that are asked for")
    refuse_other_files(data_dir)
    return describe_download(archives, data_dir, mirror)


def _learns_from_both(config: Config | MembersConfig) -> bool:
    if isinstance(config, Config):
        return make_detector(config).both_sets
    return any(_learns_from_both(member) for member in config.member_configs().values())


def _is_training(archive: Archive) -> bool:
    return "train" in PurePosixPath(urlsplit(archive.url).path).name
