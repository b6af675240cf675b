"""Whether all processes of a run see the same recordings."""

import contextlib
import hashlib
import os
from collections.abc import Callable, Iterator, Mapping

from asd_jax import config as configs
from asd_jax.config import Config, MembersConfig, plugins
from asd_jax.data.clips import ClipTable
from asd_jax.errors import UserError
from asd_jax.runs.directory import PACKAGES, versions_of
from asd_jax.runtime import agreement, distributed, meeting


def states_of(config: Config | MembersConfig, options: Mapping[str, str]) -> dict[str, str]:
    """What the processes of a run must have alike before they look at recordings.

    Args:
        config: the run's.
        options: flags by name that change what is computed.
    """
    versions = versions_of([*PACKAGES, *plugins.packages()])
    keys = dict(agreement.flattened(configs.to_dict(config)))
    return {**keys, **options, **agreement.of_program(versions)}


def found_alike(find: Callable[[], ClipTable]) -> ClipTable:
    """The recordings that every process finds, which are the same in all.

    Raises:
        UserError: one of them finds others, or cannot go on.
    """
    if not distributed.several():
        return find()
    try:
        clips = find()
    except UserError as error:
        with contextlib.suppress(UserError):
            distributed.agree({meeting.PROBLEM: str(error)})
        raise
    distributed.agree(dict(_groups(clips)))
    return clips


def _groups(clips: ClipTable) -> Iterator[tuple[str, str]]:
    """Name of each group of recordings, and how many it has, with a digest of names and sizes."""
    columns = ("subset", "machine", "section", "split")
    for key, rows in clips.groups(*columns).items():
        digest = hashlib.sha256()
        for clip in clips[rows]:
            try:
                size = os.stat(clip.path).st_size
            except OSError:
                size = -1
            facts = (clip.name, clip.year, clip.domain, clip.label, clip.attributes, clip.group)
            digest.update(f"{facts} {clip.start} {size}\n".encode(errors="surrogateescape"))
        name = " ".join(str(each) for each in key if each)
        yield f"number of {name} recordings", f"{len(rows)} (digest {digest.hexdigest()[:8]})"
