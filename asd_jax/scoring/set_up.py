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

from asd_jax.scoring.resampled import (
    FEWEST_GROUPS,
    LEAST_DB,
    LOST_DB,
    Change,
    Difference,
    bandwidth,
    folding,
    hertz,
    limit,
    lost_from,
    mirror,
    rms,
)

_BEYOND_DB = 15.0  # beyond all normal clips
_BACKGROUND_DB = 2.0
_FLOOR_DB = 1.5
_WAVES = 5  # a response has as many slow waves over the bands
_SMOOTH_SHARE = 0.7  # of its variance
_UNTOUCHED = 0.6  # of the bands that a new sound leaves as they were
_UNSURE = 2.0  # standard errors


class SetUp(NamedTuple):
    """What recordings of a set-up have, by which another one is known at once.

    Attributes:
        usual: (bands,) median level of the clips.
        level: lowest and highest level of a clip, the median over its bands.
        hz: (bands, 2) limits of the bands.
        whole: whether all clips have sound in all bands, so that a lack of it says something.
    """

    usual: np.ndarray
    level: tuple[float, float]
    hz: np.ndarray
    whole: bool

    @classmethod
    def of(cls, levels: np.ndarray, hz: np.ndarray) -> "SetUp":
        """From the levels (clips, 3, bands) of normal clips."""
        mean = np.asarray(levels, np.float64)[:, 0]
        usual, middle = np.median(mean, axis=0), np.median(mean, axis=1)
        whole = all(lost_from(own - usual, hz) is None for own in mean)
        return cls(usual, (float(middle.min()), float(middle.max())), hz, whole)

    def problem(self, mean: np.ndarray) -> str:
        """Why a recording cannot be of this set-up; "" where nothing says that.

        Only what no machine does is a problem: upper bands that are lost altogether, or a level 15
        dB beyond those of all normal clips. Smaller changes take several recordings to tell
        (`asd_jax.scoring.drift`). No clip that the set-up is of has a problem.

        Args:
            mean: (bands,) of the recording's levels over time.

        Examples:
            >>> levels = np.random.default_rng(0).normal(-60, 1, (20, 3, 32))
            >>> hz = np.stack([np.arange(32) * 250.0, np.arange(32) * 250.0 + 500], axis=1)
            >>> set_up = SetUp.of(levels, hz)
            >>> own = levels[0, 0]
            >>> set_up.problem(own), set_up.problem(own + 30)[:23]
            ('', '30 dB louder than usual')
            >>> set_up.problem(own - 40 * (hz[:, 0] >= 4000))
            'nothing above 4 kHz'
        """
        mean = np.asarray(mean, np.float64)
        edge = lost_from(mean - self.usual, self.hz) if self.whole else None
        if edge is not None and np.median((mean - self.usual)[edge:]) <= -2 * LOST_DB:
            return f"nothing above {limit(self.hz, edge)[0]}"
        middle, (low, high) = float(np.median(mean)), self.level
        if low - _BEYOND_DB <= middle <= high + _BEYOND_DB:
            return ""
        more = middle - float(np.median(self.usual))
        return (
            f"{abs(more):.0f} dB {'louder' if more > 0 else 'quieter'} than usual, far beyond "
            "every recording of training"
        )


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
    edge = lost_from(apart, hz)
    kept = np.arange(len(apart)) < (len(apart) if edge is None else edge)
    mirrored = mirror(difference, hz, area)
    if edge is not None:
        changes.append(bandwidth(apart, hz, edge))
        folded = folding(difference, hz, area, changes[0].size)
        if folded is not None:
            return [*changes, folded]
    elif mirrored is not None:
        changes.append(mirrored)
        kept = hz[:, 1] <= mirrored.size
    return changes + _within(difference.of_bands(kept), hz[kept], _Sure.of(sure, bool(kept.all())))


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
    has_level = abs(usual) >= LEAST_DB and (sure.level or abs(usual) > _UNSURE * error)
    changes = []
    if max(-low, high) <= max(1.5 * LEAST_DB, 0.2 * abs(usual), 1.5 * unsure):
        if has_level:
            changes.append(_level(usual, "in all bands"))
    elif not sure.uneven:
        if has_level:
            changes.append(_level(usual, "on the whole"))
    else:
        smooth = _slow(uneven)
        share = 1 - (rms(uneven - smooth) / max(rms(uneven), 1e-9)) ** 2
        # A new sound adds power: to what is quiet it adds much, and nothing becomes quieter.
        adds = np.percentile(mean, 5) >= -(0.3 + _UNSURE * error + unsure)
        adds = bool(adds and mean.max() >= _BACKGROUND_DB)
        if adds and (share < _SMOOTH_SHARE or _is_filled(difference)):
            changes.append(_background(mean - min(0.0, np.percentile(mean, 5)), hz))
        else:
            if has_level and abs(usual) >= 2 * LEAST_DB:
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
    it is while the others vary; most of all it fills the bands that were quiet, or a few of them.
    """
    mean, quiet, loud = difference.apart
    risen = mean - np.percentile(mean, 20)
    if np.mean(risen <= max(LEAST_DB, 0.25 * risen.max())) >= _UNTOUCHED:
        return True
    order = np.argsort(mean)
    few = max(2, len(mean) // 5)
    least, most = order[:few], order[-few:]
    closer = quiet - loud
    if abs(np.median(closer[most]) - np.median(closer[least])) >= LEAST_DB:
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
    if len(x) < FEWEST_GROUPS or x.std() < LEAST_DB:
        return None
    return float(np.polyfit(x, y, 1)[0])


def _tones(uneven: np.ndarray, errors: np.ndarray, hz: np.ndarray) -> list[Change]:
    """Narrow bands that stand out of their neighbours."""
    beside = np.array(
        [np.median(uneven[max(0, i - 8) : i + 9]) for i in range(len(uneven))]
    )  # (bands,)
    out = uneven - beside
    if not np.any(out >= np.maximum(3 * LEAST_DB, 2 * _UNSURE * errors)):
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
        f"from {smooth[bottom]:+.1f} dB at {hertz(centre[bottom])} to {smooth[top]:+.1f} dB at "
        f"{hertz(centre[top])}, slowly over frequency: compatible with another microphone, its "
        f"place or a filter{also}, and with a machine whose sound has become brighter or duller",
        float(smooth[top] - smooth[bottom]),
    )


def _background(mean: np.ndarray, hz: np.ndarray, *, narrow: bool = False) -> Change:
    top = int(mean.argmax())
    louder = np.flatnonzero(mean >= max(_BACKGROUND_DB, mean[top] / 2))
    what = "and nothing quieter" if not narrow else "than the bands beside"
    return Change(
        "background",
        f"{_spans(louder, hz)} louder by up to {mean[top]:.1f} dB (at {hertz(hz[top].mean())}) "
        f"{what}: compatible with a new sound in the background, and with a new sound of the "
        "machine itself; listen to some recordings",
        float(mean[top]),
    )


def _spectrum(uneven: np.ndarray, hz: np.ndarray) -> Change:
    far = int(np.abs(uneven).argmax())
    return Change(
        "spectrum",
        f"bands differ by {uneven.min():+.1f} to {uneven.max():+.1f} dB from one another, most at "
        f"{hertz(hz[far].mean())}: compatible with another place of the microphone, another state "
        "or load, and a change of the machine itself",
        float(uneven[far]),
    )


def _moments(quiet: np.ndarray, loud: np.ndarray, least: float) -> Change | None:
    """Whether quiet moments have become louder than loud ones have, or these louder than those."""
    size, of_quiet, of_loud = (float(np.mean(each)) for each in (quiet - loud, quiet, loud))
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
    return ", ".join(f"{hertz(hz[part[0], 0])} to {hertz(hz[part[-1], 1])}" for part in parts)
