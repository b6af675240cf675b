"""Levels of bands before and after, and what only a change of sample rates makes of them."""

import bisect
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

# Half of common sample rates, in Hz.
HALF_RATES = (2000, 2756.25, 4000, 5512.5, 6000, 8000, 11025, 12000, 16000, 22050, 24000, 48000)
LOST_DB = 10.0
_NEAR = 0.12  # of a frequency: an edge is that of a sample rate
_LEAST_HALF = 3000.0  # Hz of a rate of which images are looked for
_ALIKE, _MORE_ALIKE = 0.6, 0.3  # correlation of two sides of a mirror; beside the older clips
_GRID_HZ = 50.0
_FEWEST_POINTS = 16  # of the grid
FEWEST_GROUPS = 5  # that a deviation is estimated from
LEAST_DB = 1.0  # a smaller change is not named


class Change(NamedTuple):
    """One change.

    Attributes:
        kind: one of those above.
        words: what differs, by how much, and what that is compatible with.
        size: in dB, positive where the recent sound is louder; in Hz of a bandwidth.
    """

    kind: str
    words: str
    size: float


class Difference(NamedTuple):
    """Levels of recent groups of clips beside those of older ones.

    Attributes:
        older: (groups, 3, bands) in dB: mean over time, of quiet moments, of loud ones.
        recent: (groups, 3, bands) likewise.
    """

    older: np.ndarray
    recent: np.ndarray

    def of_bands(self, bands: np.ndarray) -> "Difference":
        """The levels of some bands, given by a mask."""
        return Difference(self.older[..., bands], self.recent[..., bands])

    @property
    def before(self) -> np.ndarray:
        """(3, bands) medians over the older groups."""
        return np.median(self.older, axis=0)

    @property
    def after(self) -> np.ndarray:
        """(3, bands) medians over the recent groups."""
        return np.median(self.recent, axis=0)

    @property
    def apart(self) -> np.ndarray:
        """(3, bands) recent minus older levels."""
        return self.after - self.before

    @property
    def level(self) -> tuple[float, float]:
        """How much louder all bands are, and its standard error."""
        older, recent = (np.median(each[:, 0], axis=1) for each in self)
        return float(np.median(recent) - np.median(older)), float(_error(older, recent))

    @property
    def uneven(self) -> tuple[np.ndarray, np.ndarray]:
        """(bands,) how much louder each band is beside all bands, and its standard errors."""
        older, recent = (each[:, 0] - np.median(each[:, 0], axis=1, keepdims=True) for each in self)
        return np.median(recent, axis=0) - np.median(older, axis=0), _error(older, recent)


def _error(older: np.ndarray, recent: np.ndarray) -> np.ndarray:
    """Standard error of the difference of medians over groups (groups, …), by the wider of both."""
    deviation = 1.4826 * _mad(older)
    if len(recent) >= FEWEST_GROUPS:
        deviation = np.maximum(deviation, 1.4826 * _mad(recent))
    return 1.25 * deviation * np.sqrt(1 / len(older) + 1 / len(recent))


def _mad(values: np.ndarray) -> np.ndarray:
    """(bands,) median distance from the median, of values (groups, bands)."""
    return np.median(np.abs(values - np.median(values, axis=0)), axis=0)


def lost_from(apart: np.ndarray, hz: np.ndarray) -> int | None:
    """The first of the upper bands that are lost, all of them; None where they are not.

    Args:
        apart: (bands,) recent minus older levels.
        hz: (bands, 2) limits of the bands.
    """
    bands, centre = len(apart), hz.mean(axis=1)
    if not np.ptp(apart) >= LOST_DB:  # as of nearly all windows of a watch
        return None
    # Medians of the bands below each edge and from it on leave few edges to be looked at.
    below_edge = np.array([np.nan, *_running_medians(apart.tolist())])
    above_edge = np.array([*_running_medians(reversed(apart.tolist()))])[::-1]
    far_apart = above_edge - below_edge[:bands] <= -LOST_DB
    for edge in range(bands // 8 + 1, bands - max(2, bands // 25)):
        if not far_apart[edge]:
            continue
        usual = np.median(apart[:edge])
        above = apart[edge:] - usual
        if np.mean(above <= -LOST_DB) < 0.95 or np.median(above) > -1.5 * LOST_DB:
            continue
        # A filter of a microphone falls over octaves, the end of a bandwidth within a third of one.
        near, far = centre[edge] * np.array([[0.7, 0.88], [1.08, 1.35]])
        below = (centre >= near[0]) & (centre <= near[1])
        beyond = (centre >= far[0]) & (centre <= far[1])
        beyond[-1] |= not beyond.any()
        if below.any() and np.median(apart[below]) - np.median(apart[beyond]) >= 1.2 * LOST_DB:
            return edge
    return None


def _running_medians(values: Iterable[float]) -> list[float]:
    """Medians of the first value, of the first two, and so on."""
    ordered: list[float] = []
    medians = []
    for value in values:
        bisect.insort(ordered, value)
        half = len(ordered) // 2
        medians.append((ordered[half] + ordered[-half - 1]) / 2)
    return medians


def bandwidth(apart: np.ndarray, hz: np.ndarray, edge: int) -> Change:
    """Names the loss of the bands from one on."""
    lost = float(np.median(apart[edge:]) - np.median(apart[:edge]))
    where, half, known = limit(hz, edge)
    why = "a microphone, a codec or a resampler that loses them"
    if known:
        why = f"recordings that were once sampled at {hertz(2 * half)}, or that a codec has cut off"
    return Change(
        "bandwidth",
        f"nothing above {where}, where it is {-lost:.0f} dB quieter than in training: {why}; a "
        "machine does not do that",
        half,
    )


def limit(hz: np.ndarray, edge: int) -> tuple[str, float, bool]:
    """Where the bands from one on begin, in words and Hz; and whether it is half a common rate."""
    centre = float(hz[edge].mean())
    half = min(HALF_RATES, key=lambda rate: abs(rate - centre))
    known = abs(half - centre) <= _NEAR * half
    return (hertz(half), half, True) if known else (f"about {hertz(centre)}", centre, False)


def _density(levels: np.ndarray, hz: np.ndarray, grid: np.ndarray, area: bool) -> np.ndarray:
    """Levels (bands,) at some frequencies, in dB of the power by frequency."""
    if not area:
        levels = levels - 10 * np.log10(hz[:, 1] - hz[:, 0])
    return np.interp(grid, hz.mean(axis=1), levels)


def _sides(hz: np.ndarray, half: float) -> tuple[np.ndarray, np.ndarray] | None:
    """Frequencies below half of a rate, and their mirror images above it."""
    most = min(half - hz[0, 1], hz[-1].mean() - half)
    away = np.arange(100.0, most, _GRID_HZ)
    return (half - away, half + away) if len(away) >= _FEWEST_POINTS else None


def _correlation(a: np.ndarray, b: np.ndarray) -> float:
    """Of values around 0."""
    size = np.linalg.norm(a) * np.linalg.norm(b)
    return float((a * b).sum() / size) if size > 0 else 0.0


def mirror(difference: Difference, hz: np.ndarray, area: bool) -> Change | None:
    """Half of the rate above which recent clips repeat what is below it, mirrored.

    What clips have beside the usual tells it: in an image it is mirrored as well, while two sides
    of any spectrum may look alike.
    """
    if len(difference.recent) < FEWEST_GROUPS:
        return None
    best, half = 0.0, 0.0
    for rate in HALF_RATES:
        sides = _sides(hz, rate)
        if sides is None or rate < _LEAST_HALF:
            continue
        older, recent = (
            _correlation(*(_own(levels[:, 0], hz, side, area) for side in sides))
            for levels in difference
        )
        if recent >= max(_ALIKE, older + _MORE_ALIKE) and recent > best:
            best, half = recent, rate
    if not half:
        return None
    more = np.median(difference.apart[0][hz.mean(axis=1) > half])
    beside = f", {more:+.0f} dB beside training," if abs(more) >= LEAST_DB else ""
    return Change(
        "mirror image",
        f"above {hertz(half)}{beside} a mirror image of what is below it: recordings sampled at "
        f"{hertz(2 * half)} and brought to a higher rate without a filter; a machine does not do "
        "that",
        half,
    )


def _own(levels: np.ndarray, hz: np.ndarray, grid: np.ndarray, area: bool) -> np.ndarray:
    """(groups, points) what each group has beside the usual and beside its own slope."""
    values = np.stack([_density(own, hz, grid, area) for own in levels])
    values = values - np.median(values, axis=0)
    place = np.linspace(-1, 1, len(grid))
    waves = np.polynomial.legendre.legvander(place, 2)
    return values - (waves @ np.linalg.lstsq(waves, values.T, rcond=None)[0]).T


def folding(difference: Difference, hz: np.ndarray, area: bool, half: float) -> Change | None:
    """Whether what was above half of a rate is now below it."""
    sides = _sides(hz, half)
    if sides is None:
        return None
    below, above = (_density(difference.before[0], hz, side, area) for side in sides)
    now = _density(difference.after[0], hz, sides[0], area)
    foretold = 10 * np.log10(1 + 10 ** ((above - below) / 10))
    risen = now - below - np.median(now - below) + np.median(foretold)
    if foretold.max() < 3 or rms(risen - foretold) > 0.5 * rms(risen - np.median(risen)):
        return None
    return Change(
        "folding",
        f"below {hertz(half)} there is what lay above it, mirrored: the recordings were brought to "
        f"{hertz(2 * half)} without a filter; a machine does not do that",
        half,
    )


def rms(values: np.ndarray) -> float:
    """Root mean square."""
    return float(np.sqrt(np.mean(np.square(values))))


def hertz(frequency: float) -> str:
    """A frequency as people write it.

    Examples:
        >>> hertz(440.2), hertz(4000), hertz(5512.5)
        ('440 Hz', '4 kHz', '5.5 kHz')
    """
    if frequency < 1000:
        return f"{frequency:.0f} Hz"
    return f"{round(frequency / 1000, 1):g} kHz"
