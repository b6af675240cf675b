"""Which configurations run on a data set, and why others cannot, without training anything."""

from typing import NamedTuple

from asd_jax.config import Config, MembersConfig
from asd_jax.data import layouts
from asd_jax.data.audio_files import AudioInfo
from asd_jax.data.clips import ClipTable
from asd_jax.data.index import read_headers
from asd_jax.data.layouts import DataSource, Scan
from asd_jax.detectors import make_detector
from asd_jax.errors import UserError
from asd_jax.fitting.layout import lay_out
from asd_jax.runs.channels import check_channels
from asd_jax.runs.clips import find_chosen
from asd_jax.runs.ensemble import keys_of_member, member_keys, members_on
from asd_jax.runs.lengths import check_lengths
from asd_jax.runs.plan import frames_of


class Suitability(NamedTuple):
    """Whether a configuration runs on a data set.

    Attributes:
        runs: True if nothing that names and headers of the recordings show is in its way.
        reason: why it does not run, in one line; "" where it does.
        remarks: what a run would say of the recordings.
    """

    runs: bool
    reason: str = ""
    remarks: tuple[str, ...] = ()


class KnownRecordings:
    """The recordings of a data set, for several configurations: every file is looked at once.

    Args:
        data_dir: as in `layouts.scan`.
    """

    def __init__(self, data_dir: DataSource):
        self.data_dir = data_dir
        self._scans: dict[int | None, Scan] = {}
        self._headers: dict[str, AudioInfo] = {}

    def scan(self, data_dir: DataSource, year: int | None = None) -> Scan:
        """What `layouts.scan` finds; the folders are walked once for each year asked for."""
        assert data_dir is self.data_dir
        if year not in self._scans:
            self._scans[year] = layouts.scan(data_dir, year)
        return self._scans[year]

    def headers(self, clips: ClipTable) -> list[AudioInfo]:
        """The header of each clip's file."""
        paths = [clips.path(row) for row in range(len(clips))]
        new = [path for path in dict.fromkeys(paths) if path not in self._headers]
        self._headers.update(zip(new, read_headers(new), strict=True))
        return [self._headers[path] for path in paths]


def suitability(
    config: Config | MembersConfig, known: KnownRecordings, on_bad_clip: str = "stop"
) -> Suitability:
    """Finds out whether a configuration runs on a data set; an ensemble, if all its members do.

    Args:
        config: the configuration.
        known: the recordings.
        on_bad_clip: as in `pipeline.run`.

    Returns:
        The answer: the errors of `pipeline.dry_run` are its reasons.
    """
    try:
        return Suitability(True, "", tuple(dict.fromkeys(_remarks(config, known, on_bad_clip))))
    except UserError as error:
        return Suitability(False, str(error))


def _remarks(config: Config | MembersConfig, known: KnownRecordings, on_bad_clip: str) -> list[str]:
    """What a run would say of the recordings; UserError where there is none."""
    if isinstance(config, MembersConfig):
        lines: list[str] = []
        for name, member in members_on(config, known.data_dir, known.scan).items():
            with keys_of_member(name):
                own = _remarks(member, known, on_bad_clip)
            lines += [member_keys(line, name) for line in own]
        return lines
    lines = []
    detector = make_detector(config)
    clips = find_chosen(detector, known.data_dir, lines.append, on_bad_clip, known.scan)
    detector = detector.settled(clips)
    lines += check_channels(config, clips, on_bad_clip, known.headers(clips))
    lines += check_lengths(detector, clips, on_bad_clip, known.headers(clips))
    training = clips[~clips.where(split="test")]
    usable, n_frames = frames_of(detector, training, known.headers(training))
    if config.detector.trains:
        lay_out(detector, usable, n_frames)
    return [*lines, *detector.plan(usable)]
