"""Maps over time and frequency of what is unusual in a clip.

A system gives a value of each frame and band, a cell: how far the clip is from what its network
reconstructs, the negative logarithm of a density, or the level itself. A cell counts by how far it
is from the usual cells of its band in normal clips:

    cells → smoothed → over the usual deviation, above or below → fourth power → summed

Smoothing is by a Gaussian over time and bands, as neighbours that deviate alike are no accident.
Levels in dB fall further below their middle than above it, so that either side has a deviation of
its own. What is below the usual counts as half as far: faults add sound more often than they take
some away, while a quiet day takes some from a whole band. The fourth power is a squared deviation
that is weighed by itself: thousands of ordinary cells, whose squares add up to much, do not hide
some extraordinary ones. `docs/results.md` has what each step is worth.

A map has at most `MOST_FRAMES` frames; those of a longer recording are sums of neighbours.
"""

from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
import scipy

MOST_FRAMES = 2048
# Standard deviations of the Gaussian.
SMOOTHING_SECONDS = 0.064
SMOOTHING_BANDS = 0.7
# A network's sensitivity is noisier, and is smoothed over twice the time and three times the bands.
SENSITIVITY_SECONDS = 0.128
SENSITIVITY_BANDS = 2.0

_POWER = 4
_BELOW = 0.5
_TRUNCATED = 4.0  # standard deviations, beyond which a Gaussian is 0
_AT_ONCE = 4096  # frames that are smoothed together
_LEAST_DEVIATION = 1e-6  # of a band that never changes, relative to the middle of those that do


class Usual(NamedTuple):
    """Cells of normal clips, smoothed as those of other clips are.

    Attributes:
        middle: (..., bands) median over time.
        above: (..., bands) root mean square of what is above it, of a Gaussian the deviation.
        below: (..., bands) root mean square of what is below it.
    """

    middle: np.ndarray
    above: np.ndarray
    below: np.ndarray


def usual_of(cells: np.ndarray) -> Usual:
    """What is usual of smoothed cells (frames, ..., bands).

    Examples:
        >>> usual = usual_of(np.array([[-2.0], [-1.0], [0.0], [3.0], [4.0]]))
        >>> [leaf.round(6).tolist() for leaf in usual]  # (2 · 25 / 5)^½ and (2 · 5 / 5)^½
        [[0.0], [3.162278], [1.414214]]
    """
    # Levels are of float32, whose columns NumPy sorts in less time than it takes a median.
    columns = np.ascontiguousarray(np.moveaxis(np.asarray(cells, np.float32), 0, -1))
    columns.sort(axis=-1)  # (..., bands, frames)
    half = columns.shape[-1] // 2
    middle = columns[..., half - 1 + columns.shape[-1] % 2 : half + 1].mean(-1, dtype=np.float64)
    columns -= middle[..., None]
    above, below = (
        np.sqrt(2 * np.mean(np.square(side(columns, 0)), axis=-1, dtype=np.float64))
        for side in (np.maximum, np.minimum)
    )
    return Usual(middle, above, below)


def evidence(cells: np.ndarray, usual: Usual) -> np.ndarray:
    """How unusual smoothed cells are, by the power of their deviations.

    Args:
        cells: (frames, ..., bands).
        usual: of normal clips.

    Returns:
        (2, frames, ..., bands): above the usual, and below it; one of both is 0.

    Examples:
        >>> usual = Usual(np.array([1.0]), np.array([2.0]), np.array([4.0]))
        >>> evidence(np.array([[5.0], [-3.0]]), usual).tolist()  # 2 and 1 deviations
        [[[16.0], [0.0]], [[0.0], [0.0625]]]
    """
    apart = cells - usual.middle
    above = np.maximum(apart, 0) / _positive(usual.above)
    below = _BELOW * np.maximum(-apart, 0) / _positive(usual.below)
    return np.stack([above, below]) ** _POWER


def _positive(deviation: np.ndarray) -> np.ndarray:
    """Deviations above 0: rounding in a band that never changes is nothing unusual."""
    typical = np.median(deviation, axis=-1, keepdims=True)
    return np.maximum(deviation, np.where(typical > 0, _LEAST_DEVIATION * typical, 1))


class Frames(NamedTuple):
    """Some consecutive frames of a clip.

    Attributes:
        levels: (frames, bands) in dB.
        cells: (frames, kinds, bands).
        known: (frames,) true where a frame has cells; at the ends of a clip some may not.
        sensitivity: (frames, bands) of the score to each level; None where it does not count.
    """

    levels: np.ndarray
    cells: np.ndarray
    known: np.ndarray
    sensitivity: np.ndarray | None = None


class Smoother:
    """Smooths the frames of a clip, some thousand at a time.

    Args:
        hop_seconds: from one frame to the next.

    Examples:
        A click keeps its sum.

        >>> cells = np.zeros((9, 1, 9))
        >>> cells[4, 0, 4] = 1.0
        >>> smoother = Smoother(0.064)
        >>> smoother.add(Frames(cells[:, 0], cells, np.ones(9, bool)))
        []
        >>> (found,) = smoother.rest()
        >>> round(float(found.cells.sum()), 3), round(float(found.cells.max()), 3)
        (1.0, 0.227)
    """

    def __init__(self, hop_seconds: float):
        self._hop_seconds = hop_seconds
        widest = max(SMOOTHING_SECONDS, SENSITIVITY_SECONDS) / hop_seconds
        self._halo = int(_TRUNCATED * widest + 1)
        self._waiting: list[Frames] = []
        self._given = 0  # frames at the beginning of these that have been given already
        self._count = 0

    def add(self, frames: Frames) -> list[Frames]:
        """Takes the next frames, and gives those that later ones do not change."""
        self._waiting.append(frames)
        self._count += len(frames.levels)
        if self._count < _AT_ONCE + 2 * self._halo:
            return []
        frames = _joined(self._waiting)
        smooth = _part(_smooth(frames, self._hop_seconds), self._given, self._count - self._halo)
        self._waiting = [_part(frames, self._count - 2 * self._halo, self._count)]
        self._given, self._count = self._halo, 2 * self._halo
        return [smooth]

    def rest(self) -> list[Frames]:
        """The frames that are left."""
        if self._count == self._given:
            return []
        smooth = _smooth(_joined(self._waiting), self._hop_seconds)
        return [_part(smooth, self._given, self._count)]


def _joined(blocks: list[Frames]) -> Frames:
    """Blocks one after another."""
    leaves: Any = zip(*blocks, strict=True)
    return _frames(None if leaf[0] is None else np.concatenate(leaf) for leaf in leaves)


def _part(frames: Frames, first: int, last: int) -> Frames:
    return _frames(None if leaf is None else leaf[first:last] for leaf in frames)


def _frames(leaves: Iterable[Any]) -> Frames:
    return Frames(*leaves)


def _smooth(frames: Frames, hop_seconds: float) -> Frames:
    levels, cells, known, sensitivity = frames
    places = np.flatnonzero(known)
    if len(places):  # cells that are not known are as their nearest neighbour
        cells = cells[np.clip(np.arange(len(cells)), places[0], places[-1])]
    cells = _gaussian(cells, SMOOTHING_SECONDS / hop_seconds, SMOOTHING_BANDS)
    if sensitivity is not None:
        sigmas = SENSITIVITY_SECONDS / hop_seconds, SENSITIVITY_BANDS
        sensitivity = _gaussian(sensitivity, *sigmas)
    return Frames(levels, cells, known, sensitivity)


def _gaussian(values: np.ndarray, frames: float, bands: float) -> np.ndarray:
    values = np.asarray(values, np.float64)
    for sigma, axis in ((frames, 0), (bands, -1)):
        values = scipy.ndimage.gaussian_filter1d(
            values, sigma, axis, mode="nearest", truncate=_TRUNCATED
        )
    return values


class Evidence(NamedTuple):
    """The evidence of a whole clip, of at most `MOST_FRAMES` frames.

    Attributes:
        values: (2, frames, kinds, bands), see `evidence`; times sensitivities, if there are any.
        levels: (frames, bands) mean in dB.
        together: frames of the clip that one of these stands for; the last may have fewer.
        n_frames: frames of the clip.
    """

    values: np.ndarray
    levels: np.ndarray
    together: int
    n_frames: int

    @property
    def mean_level(self) -> np.ndarray:
        """(bands,) mean over the clip, in dB."""
        counts = np.full(len(self.levels), self.together, float)
        counts[-1] = self.n_frames - self.together * (len(counts) - 1)
        mean: np.ndarray = counts @ self.levels / self.n_frames
        return mean


class EvidenceSum:
    """Adds up the evidence of a clip, block by block.

    Args:
        usual: of normal clips; of a system that was fitted without, None, and a clip's cells are
            compared with those of its own first block.
        hop_seconds: from one frame to the next.
    """

    def __init__(self, usual: Usual | None, hop_seconds: float):
        self._usual, self._smoother = usual, Smoother(hop_seconds)
        self._values, self._levels = _Sums(), _Sums()

    def add(self, frames: Frames) -> None:
        """Takes the next frames."""
        self._add(self._smoother.add(frames))

    def _add(self, blocks: list[Frames]) -> None:
        for frames in blocks:
            if self._usual is None:
                self._usual = usual_of(frames.cells)
            own = evidence(frames.cells, self._usual)  # (2, frames, kinds, bands)
            if frames.sensitivity is not None:
                own = own * frames.sensitivity[:, None]
            own = np.where(frames.known[:, None, None], own, 0.0)
            self._values.add(np.moveaxis(own, 1, 0))
            self._levels.add(np.asarray(frames.levels, np.float64))

    def result(self) -> Evidence:
        """The evidence of the clip, which ends here."""
        self._add(self._smoother.rest())
        levels = self._levels
        rows = levels.rows()
        counts = np.full(len(rows), levels.together, float)
        counts[-1] = levels.count - levels.together * (len(rows) - 1)
        values = np.moveaxis(self._values.rows(), 0, 1)
        return Evidence(values, rows / counts[:, None], levels.together, levels.count)


class _Sums:
    """Frames that are added up in groups of so many that at most `MOST_FRAMES` groups are left."""

    def __init__(self) -> None:
        self._blocks: list[np.ndarray] = []  # whole groups
        self._rest: np.ndarray | None = None  # frames of a group that has begun
        self.together = 1
        self.count = 0

    def add(self, frames: np.ndarray) -> None:
        """Adds frames (frames, ...)."""
        self.count += len(frames)
        waiting = frames if self._rest is None else np.concatenate([self._rest, frames])
        self._rest = self._take_groups(waiting)
        while sum(map(len, self._blocks)) > MOST_FRAMES:
            groups = np.concatenate(self._blocks)
            if len(groups) % 2:  # the last one's partner is to come
                alone = np.zeros((self.together, *groups.shape[1:]))
                alone[0] = groups[-1]
                self._rest = np.concatenate([alone, self._rest])
            self._blocks = [_in_groups(groups[: len(groups) // 2 * 2], 2)]
            self.together *= 2
            self._rest = self._take_groups(self._rest)

    def _take_groups(self, frames: np.ndarray) -> np.ndarray:
        """Keeps the whole groups, and gives what is left."""
        whole = len(frames) // self.together * self.together
        self._blocks.append(_in_groups(frames[:whole], self.together))
        return frames[whole:]

    def rows(self) -> np.ndarray:
        """The groups, the last of which may have fewer frames."""
        blocks = [*self._blocks]
        if self._rest is not None and len(self._rest):
            blocks.append(self._rest.sum(axis=0, keepdims=True))
        return np.concatenate(blocks)


def _in_groups(frames: np.ndarray, together: int) -> np.ndarray:
    return frames.reshape(-1, together, *frames.shape[1:]).sum(axis=1)
