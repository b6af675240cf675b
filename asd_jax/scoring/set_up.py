"""What has changed in a set-up, in words and numbers, from the levels of bands before and after.

Levels say how sounds differ, and not why: a louder machine and a larger gain look alike. So a
change is named by what it is in the levels, with what it is compatible with. A fault of the machine
is among these wherever it can be.

    bandwidth      bands above a frequency have lost 10 dB or more, which no machine does
    mirror image   bands above half of a sample rate repeat, mirrored, what is below
    folding        bands below it have what was above, mirrored, beside their own
    level          all bands alike
    response       bands differ slowly over frequency, and quiet and loud moments alike
    background     nothing has become quieter, and some bands are louder
    noise floor    quiet moments are louder, loud ones less so
    spectrum       whatever else differs
"""

from collections.abc import Collection
from typing import NamedTuple

import numpy as np

# Half of common sample rates, in Hz.
HALF_RATES = (2000, 2756.25, 4000, 5512.5, 6000, 8000, 11025, 12000, 16000, 22050, 24000, 48000)
_LOST_DB = 10.0
_NEAR = 0.12  # of a frequency: an edge is that of a sample rate
_LEAST_DB = 1.0  # a smaller change is not named
_BACKGROUND_DB = 2.0
_FLOOR_DB = 1.5
_LEAST_HALF = 3000.0  # Hz of a rate of which images are looked for
_ALIKE, _MORE_ALIKE = 0.6, 0.3  # correlation of two sides of a mirror; beside the older clips
_GRID_HZ = 50.0
_FEWEST_POINTS = 16  # of the grid
_WAVES = 5  # a response has as many slow waves over the bands
_SMOOTH_SHARE = 0.7  # of its variance
_UNSURE = 2.0  # standard errors
_FEWEST_GROUPS = 5  # that a deviation is estimated from


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
    if len(recent) >= _FEWEST_GROUPS:
        deviation = np.maximum(deviation, 1.4826 * _mad(recent))
    return 1.25 * deviation * np.sqrt(1 / len(older) + 1 / len(recent))


def name_changes(
    difference: Difference,
    hz: np.ndarray,
    *,
    area: bool = True,
    sure: Collection[str] | None = None,
) -> list[Change]:
    """Names what differs, the plainest first.

    Args:
        difference: of the levels.
        hz: (bands, 2) limits of the bands.
        area: whether a band's level is of its mean power over frequency, as of Slaney's bands; else
            of its whole power.
        sure: statistics of `asd_jax.scoring.drift` that differ; None for all. What they say nothing
            of is not named.

    Examples:
        >>> levels = np.random.default_rng(0).normal(-60, 1, (20, 3, 32))
        >>> hz = np.stack([np.arange(32) * 200.0, np.arange(32) * 200.0 + 400], axis=1)
        >>> (change,) = name_changes(Difference(levels, levels + 6), hz)
        >>> change.kind, change.words[:26]
        ('level', '6.0 dB louder in all bands')
    """
    changes: list[Change] = []
    apart = difference.apart[0]  # (bands,)
    edge = _edge(apart)
    kept = np.arange(len(apart)) < (len(apart) if edge is None else edge)
    mirrored = _mirror(difference, hz, area)
    if edge is not None:
        changes.append(_bandwidth(apart, hz, edge))
        folded = _folding(difference, hz, area, changes[0].size)
        if folded is not None:
            return [*changes, folded]
    elif mirrored is not None:
        changes.append(mirrored)
        kept = hz[:, 1] <= mirrored.size
    return changes + _within(difference.of_bands(kept), hz[kept], _Sure.of(sure, bool(kept.all())))


def _mad(values: np.ndarray) -> np.ndarray:
    """(bands,) median distance from the median, of values (groups, bands)."""
    return np.median(np.abs(values - np.median(values, axis=0)), axis=0)


def _edge(apart: np.ndarray) -> int | None:
    """The first of the upper bands that are lost, all of them; None where they are not.

    Args:
        apart: (bands,) recent minus older levels.
    """
    bands = len(apart)
    for edge in range(bands // 8 + 1, bands - max(2, bands // 25)):
        usual = np.median(apart[:edge])
        above = apart[edge:] - usual
        if np.mean(above <= -_LOST_DB) >= 0.95 and np.median(above) <= -1.5 * _LOST_DB:
            return edge
    return None


def _bandwidth(apart: np.ndarray, hz: np.ndarray, edge: int) -> Change:
    centre = float(hz[edge].mean())
    half = min(HALF_RATES, key=lambda rate: abs(rate - centre))
    lost = float(np.median(apart[edge:]) - np.median(apart[:edge]))
    where, why = f"about {_hz(centre)}", "a microphone, a codec or a resampler that loses them"
    if abs(half - centre) <= _NEAR * half:
        where, centre = _hz(half), half
        why = f"recordings that were once sampled at {_hz(2 * half)}, or that a codec has cut off"
    return Change(
        "bandwidth",
        f"nothing above {where}, where it is {-lost:.0f} dB quieter than in training: {why}; a "
        "machine does not do that",
        centre,
    )


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


def _mirror(difference: Difference, hz: np.ndarray, area: bool) -> Change | None:
    """Half of the rate above which recent clips repeat what is below it, mirrored.

    What clips have beside the usual tells it: in an image it is mirrored as well, while two sides
    of any spectrum may look alike.
    """
    if len(difference.recent) < _FEWEST_GROUPS:
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
    beside = f", {more:+.0f} dB beside training," if abs(more) >= _LEAST_DB else ""
    return Change(
        "mirror image",
        f"above {_hz(half)}{beside} a mirror image of what is below it: recordings sampled at "
        f"{_hz(2 * half)} and brought to a higher rate without a filter; a machine does not do that",
        half,
    )


def _own(levels: np.ndarray, hz: np.ndarray, grid: np.ndarray, area: bool) -> np.ndarray:
    """(groups, points) what each group has beside the usual and beside its own slope."""
    values = np.stack([_density(own, hz, grid, area) for own in levels])
    values = values - np.median(values, axis=0)
    place = np.linspace(-1, 1, len(grid))
    waves = np.polynomial.legendre.legvander(place, 2)
    return values - (waves @ np.linalg.lstsq(waves, values.T, rcond=None)[0]).T


def _folding(difference: Difference, hz: np.ndarray, area: bool, half: float) -> Change | None:
    """Whether what was above half of a rate is now below it."""
    sides = _sides(hz, half)
    if sides is None:
        return None
    below, above = (_density(difference.before[0], hz, side, area) for side in sides)
    now = _density(difference.after[0], hz, sides[0], area)
    foretold = 10 * np.log10(1 + 10 ** ((above - below) / 10))
    risen = now - below - np.median(now - below) + np.median(foretold)
    if foretold.max() < 3 or _rms(risen - foretold) > 0.5 * _rms(risen - np.median(risen)):
        return None
    return Change(
        "folding",
        f"below {_hz(half)} there is what lay above it, mirrored: the recordings were brought to "
        f"{_hz(2 * half)} without a filter; a machine does not do that",
        half,
    )


class _Sure(NamedTuple):
    """What is known to differ."""

    level: bool
    uneven: bool
    moments: bool

    @classmethod
    def of(cls, names: Collection[str] | None, whole: bool) -> "_Sure":
        """From the statistics that differ, where these are of the same bands."""
        if names is None or not whole:
            return cls(False, True, False)
        return cls(
            "level" in names,
            bool({"spectrum", "band", "response"} & {*names}),
            bool({"quiet moments", "loud moments"} & {*names}),
        )


def _within(difference: Difference, hz: np.ndarray, sure: _Sure) -> list[Change]:
    """Changes of the bands that are still there."""
    mean, quiet, loud = difference.apart
    usual, error = difference.level
    uneven, errors = difference.uneven
    unsure = _UNSURE * float(np.median(errors))
    low, high = np.percentile(uneven, [5, 95])
    has_level = abs(usual) >= _LEAST_DB and (sure.level or abs(usual) > _UNSURE * error)
    changes = []
    if max(-low, high) <= max(1.5 * _LEAST_DB, 0.2 * abs(usual), 1.5 * unsure):
        if has_level:
            changes.append(_level(usual, "in all bands"))
    elif not sure.uneven:
        if has_level:
            changes.append(_level(usual, "on the whole"))
    else:
        smooth = _slow(uneven)
        share = 1 - (_rms(uneven - smooth) / max(_rms(uneven), 1e-9)) ** 2
        # A new sound adds power: to what is quiet it adds much, and nothing becomes quieter.
        adds = np.percentile(mean, 5) >= -(0.3 + _UNSURE * error + unsure)
        adds = bool(adds and mean.max() >= _BACKGROUND_DB)
        if adds and (share < _SMOOTH_SHARE or _is_filled(difference)):
            changes.append(_background(mean - min(0.0, np.percentile(mean, 5)), hz))
        else:
            if has_level and abs(usual) >= 2 * _LEAST_DB:
                changes.append(_level(usual, "on the whole"))
            if share >= _SMOOTH_SHARE:
                changes.append(_response(smooth, hz, adds))
            else:
                changes.append(_spectrum(uneven, hz))
    if sure.uneven and not any(change.kind == "background" for change in changes):
        changes += _tones(uneven, errors, hz)
    least = _FLOOR_DB / 2 if sure.moments else max(_FLOOR_DB, unsure)
    floor = _moments(quiet, loud, least)
    return changes + ([] if floor is None else [floor])


def _is_filled(difference: Difference) -> bool:
    """Whether what has become louder follows the machine less than it did.

    A response changes quiet and loud moments alike, and bands go on varying together from clip to
    clip. A sound that is added fills the quiet moments, and in the bands that it fills it stays as
    it is while the others vary; most of all it fills the bands that were quiet.
    """
    mean, quiet, loud = difference.apart
    order = np.argsort(mean)
    few = max(2, len(mean) // 5)
    least, most = order[:few], order[-few:]
    closer = quiet - loud
    if abs(np.median(closer[most]) - np.median(closer[least])) >= _LEAST_DB:
        return True
    if np.corrcoef(difference.before[0], mean)[0, 1] <= -0.8:
        return True
    slopes = [_slope(each[:, 0, least], each[:, 0, most]) for each in difference]
    return slopes[0] is not None and slopes[1] is not None and slopes[1] < 0.7 * slopes[0]


def _slope(by: np.ndarray, values: np.ndarray) -> float | None:
    """By how many dB some bands rise with each dB of others, from group to group, (groups, bands).

    None where there are few groups, or they vary little.
    """
    x, y = np.median(by, axis=1), np.median(values, axis=1)
    if len(x) < _FEWEST_GROUPS or x.std() < _LEAST_DB:
        return None
    return float(np.polyfit(x, y, 1)[0])


def _tones(uneven: np.ndarray, errors: np.ndarray, hz: np.ndarray) -> list[Change]:
    """Narrow bands that stand out of their neighbours."""
    beside = np.array(
        [np.median(uneven[max(0, i - 8) : i + 9]) for i in range(len(uneven))]
    )  # (bands,)
    out = uneven - beside
    if not np.any(out >= np.maximum(3 * _LEAST_DB, 2 * _UNSURE * errors)):
        return []
    return [_background(np.where(out > 0, out, 0.0), hz, narrow=True)]


def _slow(values: np.ndarray) -> np.ndarray:
    """The slow waves over the bands that values (bands,) are nearest to."""
    place = (np.arange(len(values)) + 0.5) / len(values)
    waves = np.cos(np.pi * np.arange(min(_WAVES, len(values)))[:, None] * place).T
    return waves @ np.linalg.lstsq(waves, values, rcond=None)[0]


def _level(size: float, where: str) -> Change:
    louder = "louder" if size > 0 else "quieter"
    return Change(
        "level",
        f"{abs(size):.1f} dB {louder} {where}: compatible with another gain or distance of the "
        f"microphone, and with a machine that is {louder} as a whole",
        size,
    )


def _response(smooth: np.ndarray, hz: np.ndarray, adds: bool) -> Change:
    centre = hz.mean(axis=1)
    top, bottom = int(smooth.argmax()), int(smooth.argmin())
    also = ", a steady background" if adds else ""
    return Change(
        "response",
        f"from {smooth[bottom]:+.1f} dB at {_hz(centre[bottom])} to {smooth[top]:+.1f} dB at "
        f"{_hz(centre[top])}, slowly over frequency: compatible with another microphone, its place "
        f"or a filter{also}, and with a machine whose sound has become brighter or duller",
        float(smooth[top] - smooth[bottom]),
    )


def _background(mean: np.ndarray, hz: np.ndarray, *, narrow: bool = False) -> Change:
    top = int(mean.argmax())
    louder = np.flatnonzero(mean >= max(_BACKGROUND_DB, mean[top] / 2))
    what = "and nothing quieter" if not narrow else "than the bands beside"
    return Change(
        "background",
        f"{_spans(louder, hz)} louder by up to {mean[top]:.1f} dB (at {_hz(hz[top].mean())}) "
        f"{what}: compatible with a new sound in the background, and with a new sound of the "
        "machine itself; listen to some recordings",
        float(mean[top]),
    )


def _spectrum(uneven: np.ndarray, hz: np.ndarray) -> Change:
    far = int(np.abs(uneven).argmax())
    return Change(
        "spectrum",
        f"bands differ by {uneven.min():+.1f} to {uneven.max():+.1f} dB from one another, most at "
        f"{_hz(hz[far].mean())}: compatible with another place of the microphone, another state or "
        "load, and a change of the machine itself",
        float(uneven[far]),
    )


def _moments(quiet: np.ndarray, loud: np.ndarray, least: float) -> Change | None:
    """Whether quiet moments have become louder than loud ones have, or these louder than those."""
    size, of_quiet, of_loud = (float(np.median(v)) for v in (quiet - loud, quiet, loud))
    if abs(size) < least:
        return None
    beside = f"quiet moments {of_quiet:+.1f} dB, loud ones {of_loud:+.1f} dB"
    if size > 0 and of_quiet >= least:
        why = "a higher noise floor of the microphone or the hall, and with a machine that is never"
        return Change("noise floor", f"{beside}: compatible with {why} quiet now", of_quiet)
    if size < 0 and of_loud >= least:
        why = "sounds in the background that come and go, and with a machine that is less steady"
        return Change("background", f"{beside}: compatible with {why}", of_loud)
    return None


def _spans(bands: np.ndarray, hz: np.ndarray) -> str:
    """Frequencies of some bands, neighbours together, at most three spans."""
    parts = np.split(bands, np.flatnonzero(np.diff(bands) > 1) + 1)
    parts = sorted(sorted(parts, key=len)[-3:], key=lambda part: part[0])
    return ", ".join(f"{_hz(hz[part[0], 0])} to {_hz(hz[part[-1], 1])}" for part in parts)


def _rms(values: np.ndarray) -> float:
    return float(np.sqrt(np.mean(np.square(values))))


def _hz(frequency: float) -> str:
    """A frequency as people write it.

    Examples:
        >>> _hz(440.2), _hz(4000), _hz(5512.5)
        ('440 Hz', '4 kHz', '5.5 kHz')
    """
    if frequency < 1000:
        return f"{frequency:.0f} Hz"
    return f"{round(frequency / 1000, 1):g} kHz"
