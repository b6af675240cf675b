"""Recordings that are too short for a system: how long they are, what is needed, what helps.

All commands name this cause by the same words, from the recordings' headers.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from asd_jax.audio import FrontEnd
from asd_jax.config import override
from asd_jax.data.audio_files import AudioInfo, unusable
from asd_jax.data.clips import Clip, ClipTable
from asd_jax.data.index import read_headers
from asd_jax.detectors import Detector, make_detector
from asd_jax.errors import UserError
from asd_jax.features.request import ClipFrontEnd


class TooShort(NamedTuple):
    """Recordings that a system cannot use since they have too few frames.

    Attributes:
        paths: of them.
        total: number of recordings that were looked at.
        none_left: whether they are all of the training or all of the test clips.
        what: their length, and the length that is needed.
        hint: what to do.
    """

    paths: tuple[str, ...]
    total: int
    none_left: bool
    what: str
    hint: str

    @property
    def line(self) -> str:
        """The cause in one line."""
        skip = "" if self.none_left else ", or leave them out by --on_bad_clip=skip"
        return (
            f"{len(self.paths)} of {self.total} recordings are {self.what}, first "
            f"{self.paths[0]}; {self.hint}{skip}"
        )

    def explains(self, error: UserError) -> bool:
        """Whether a run ended by this error because of these recordings."""
        if error.exit_status != 2:  # the disk, or another process
            return False
        starts = tuple(f"{' '.join(path.split())}: " for path in self.paths)
        return self.none_left or str(error).startswith(starts)


def frames_of_header(front_end: ClipFrontEnd, header: AudioInfo) -> int:
    """Frames of a usable recording; 0 for one that is shorter than a frame."""
    n_samples = -(-header.n_samples * front_end.sample_rate // header.sample_rate)
    return _frames(front_end, n_samples)


def too_short(
    detector: Detector, clips: Sequence[Clip], headers: Sequence[AudioInfo] | None = None
) -> TooShort | None:
    """Finds the recordings that a system cannot use since they have too few frames.

    Args:
        detector: the system, with the run's configuration.
        clips: clips of the run; changed copies of recordings are not looked at.
        headers: of the clips; read by default.

    Returns:
        The recordings; None where there are none.
    """
    clips = ClipTable.of(clips)
    if headers is None:
        headers = read_headers((clip.path for clip in clips), total=len(clips))
    front_end, needed = detector.front_end, detector.views.fewest
    own = clips.where(perturbation="")
    short: dict[int, tuple[int, float]] = {}  # frames and seconds by row
    for row in np.flatnonzero(own).tolist():
        header = headers[row]
        if header.problem is None and (n := frames_of_header(front_end, header)) < needed:
            short[row] = n, header.n_samples / header.sample_rate
    if not short:
        return None
    is_short = np.zeros(len(clips), bool)
    is_short[[*short]] = True
    is_test = clips.where(split="test")
    sides = [side for side in (own & ~is_test, own & is_test) if side.any()]
    frames, seconds = zip(*short.values(), strict=True)
    rate, hop = front_end.sample_rate, ""
    if isinstance(front_end, FrontEnd):
        hop = f"front_end.hop_length={front_end.hop_length} and "
    return TooShort(
        paths=tuple(clips.path(row) for row in short),
        total=int(own.sum()),
        none_left=any(bool(is_short[side].all()) for side in sides),
        what=(
            f"too short for {detector.config.name or detector.config.detector.name}: "
            f"{_span(frames)} frames ({_span(seconds)} s) where {needed} are needed "
            f"({math.ceil(1000 * _samples(front_end, needed) / rate) / 1000:g} s at {hop}{rate} Hz)"
        ),
        hint=_hint(detector, min(frames)),
    )


def check_lengths(
    detector: Detector,
    clips: Sequence[Clip],
    on_bad_clip: str,
    headers: Sequence[AudioInfo] | None = None,
) -> list[str]:
    """Lines about recordings that cannot be used or are too short, and are left out.

    Args:
        detector: as in `too_short`.
        clips: as in `too_short`.
        on_bad_clip: "stop" or "skip".
        headers: as in `too_short`.

    Raises:
        UserError: there are some, and they stop the run or leave nothing of it.
    """
    clips = ClipTable.of(clips)
    if headers is None:
        headers = read_headers((clip.path for clip in clips), total=len(clips))
    lines = []
    for row in np.flatnonzero(clips.where(perturbation="")).tolist():
        if problem := headers[row].problem:
            error = unusable(clips.path(row), problem)
            if on_bad_clip == "stop":
                raise error
            lines.append(f"left out: {error}")
    short = too_short(detector, clips, headers)
    if short is None:
        return lines
    if on_bad_clip == "stop" or short.none_left:
        raise UserError(short.line)
    return [*lines, short.line]


def _frames(front_end: ClipFrontEnd, n_samples: int) -> int:
    try:
        return front_end.frames(n_samples)
    except UserError:  # less than a frame
        return 0


def _samples(front_end: ClipFrontEnd, n_frames: int) -> int:
    """Samples of the shortest recording that has so many frames."""
    low, high = 0, n_frames * front_end.hop_length + front_end.n_fft  # too few, enough
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if _frames(front_end, middle) >= n_frames else (middle, high)
    return high


def _span(values: Sequence[float]) -> str:
    """The smallest and the largest value, or the one value."""
    low, high = (f"{value:.4g}" for value in (min(values), max(values)))
    return low if low == high else f"{low} to {high}"


def _hint(detector: Detector, n_frames: int) -> str:
    """What makes recordings of so many frames usable."""
    settings = detector.config.detector
    if hasattr(settings, "frames"):
        # A view may need more frames than a clip, or fewer, or a multiple of some number.
        for frames in range(min(settings.frames, 8 * n_frames), 0, -1):
            key = {"detector.frames": str(frames)}
            try:
                views = make_detector(override(detector.config, key)).views
            except UserError:
                continue
            if views.fewest <= n_frames:
                return f"set --config.detector.frames={frames}, or give longer recordings"
    elif hasattr(settings, "seconds"):
        front_end = detector.front_end
        seconds = detector.views.length * front_end.hop_length / front_end.sample_rate
        return f"set --config.detector.seconds below {seconds:g}, or give longer recordings"
    elif hasattr(settings, "order") and n_frames >= 2:
        return "name fewer frames in --config.detector.order, or give longer recordings"
    return "give longer recordings"
