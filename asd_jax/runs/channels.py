"""Recordings that lack the channels which a configuration reads, by their headers."""

from collections.abc import Sequence
from typing import NamedTuple

from asd_jax.config import Config
from asd_jax.data.audio_files import AudioInfo
from asd_jax.data.channels import channel_problem
from asd_jax.data.clips import Clip, ClipTable
from asd_jax.data.index import read_headers
from asd_jax.errors import UserError


class WrongChannels(NamedTuple):
    """Recordings that lack a channel, all in the same way.

    Attributes:
        paths: of them.
        total: number of recordings that were looked at.
        what: their channels, and those that are needed.
        hint: what to do.
    """

    paths: tuple[str, ...]
    total: int
    what: str
    hint: str

    @property
    def none_left(self) -> bool:
        """Whether no recording has the channel."""
        return len(self.paths) == self.total

    @property
    def line(self) -> str:
        """The cause in one line."""
        skip = "" if self.none_left else ", or leave them out by --on_bad_clip=skip"
        return (
            f"{len(self.paths)} of {self.total} recordings have {self.what}, first "
            f"{self.paths[0]}; {self.hint}{skip}"
        )


def wrong_channels(
    config: Config, clips: Sequence[Clip], headers: Sequence[AudioInfo] | None = None
) -> list[WrongChannels]:
    """Finds the recordings without the channels that are read, by what they have instead.

    Args:
        config: the run's configuration.
        clips: its clips.
        headers: of the clips; read by default, where a channel may be missing.
    """
    if config.channel in (0, "mean"):  # all recordings have it
        return []
    clips = ClipTable.of(clips)
    if headers is None:
        headers = read_headers((clip.path for clip in clips), total=len(clips))
    found: dict[tuple[str, str], list[int]] = {}
    for row, header in enumerate(headers):
        if header.problem is None and (problem := channel_problem(header, config.channel)):
            found.setdefault(problem, []).append(row)
    return [
        WrongChannels(tuple(clips.path(row) for row in rows), len(clips), *problem)
        for problem, rows in found.items()
    ]


def check_channels(
    config: Config,
    clips: Sequence[Clip],
    on_bad_clip: str,
    headers: Sequence[AudioInfo] | None = None,
) -> list[str]:
    """Lines about recordings without the channels that are read, and left out.

    Args:
        config: as of `wrong_channels`.
        clips: as of `wrong_channels`.
        on_bad_clip: "stop" or "skip".
        headers: as of `wrong_channels`.

    Raises:
        UserError: there are some, and they stop the run or leave nothing of it.
    """
    wrong = wrong_channels(config, clips, headers)
    for each in wrong:
        if on_bad_clip == "stop" or each.none_left:
            raise UserError(each.line)
    return [each.line for each in wrong]
