"""Levels of recordings: constant, clipped and far louder ones, which a microphone does not give."""

import math
from typing import NamedTuple

import numpy as np

from asd_jax.data.clips import ClipTable

# 20 dB above full scale; samples beyond are integers' values as numbers of floating point.
LARGEST_PEAK = 10.0
# Integer formats of 16 bits and more reach this share of full scale.
_FULL_SCALE = 0.9999
# A recording of floating point may go a little beyond full scale: 2 dB.
_BEYOND = 1.25
# Share of samples in runs at full scale from which a recording is called clipped.
_CLIPPED = 1e-3
# A recording so much louder than its machine's median is called far louder.
_LOUDER_DB = 20.0


class Level(NamedTuple):
    """Level of a recording's samples, over all channels; or of many, as arrays.

    Attributes:
        rms_db: root mean square relative to full scale, in dB; −inf of silence.
        peak: largest magnitude; full scale is 1.
        clipped: share of samples that are at full scale and equal to the one before.
        constant: whether all samples of each channel are equal.
    """

    rms_db: float = -math.inf
    peak: float = 0.0
    clipped: float = 0.0
    constant: bool = False

    @classmethod
    def of(cls, samples: np.ndarray) -> "Level":
        """The level of samples (samples, channels).

        Examples:
            >>> Level.of(np.full((100, 1), 0.1)).constant
            True
            >>> round(Level.of(np.array([[1.0], [-1.0]])).rms_db, 1)
            0.0
        """
        meter = LevelMeter()
        meter.add(samples)
        return meter.level()


class LevelMeter:
    """Measures the level of samples that come block by block.

    Attributes:
        n_samples: of each channel, so far.

    Examples:
        >>> meter = LevelMeter()
        >>> for block in (np.full((10, 1), 0.5), np.full((10, 1), -0.5)):
        ...     meter.add(block)
        >>> meter.n_samples, meter.level().peak, meter.level().constant
        (20, 0.5, False)
    """

    def __init__(self) -> None:
        self.n_samples = 0
        self._count, self._power, self._clipped = 0, 0.0, 0
        self._low, self._high = np.zeros(0), np.zeros(0)  # (channels,)
        self._last = np.zeros((0, 0))  # (1, channels), the last sample

    def add(self, samples: np.ndarray) -> None:
        """Adds the next samples (samples, channels)."""
        if not samples.size:
            return
        low, high = samples.min(axis=0), samples.max(axis=0)
        if self.n_samples:
            self._low, self._high = np.minimum(self._low, low), np.maximum(self._high, high)
        else:
            self._low, self._high = low, high
        if max(-low.min(), high.max()) >= _FULL_SCALE:
            # Of one block and the next, the last sample goes before the first.
            follow = np.concatenate([self._last, samples]) if self.n_samples else samples
            full = np.abs(follow) >= _FULL_SCALE
            self._clipped += int(np.sum(full[1:] & (follow[1:] == follow[:-1])))
        self._power += float(np.vdot(samples, samples))
        self._count += samples.size
        self.n_samples += len(samples)
        self._last = samples[-1:].copy()

    def level(self) -> Level:
        """The level of all samples so far."""
        if not self._count:
            return Level()
        power = self._power / self._count
        return Level(
            rms_db=10 * math.log10(power) if power > 0 else -math.inf,
            # NaN of any channel stays NaN.
            peak=float(np.maximum(-self._low, self._high).max()),
            clipped=self._clipped / self._count,
            constant=bool((self._low == self._high).all()),
        )


def odd_levels(clips: ClipTable, levels: np.ndarray) -> dict[str, np.ndarray]:
    """Recordings whose level is not that of a working microphone.

    Args:
        clips: the clips.
        levels: (clips, 4), the fields of `Level` of each clip's recording.

    Returns:
        Kind → rows of the clips: constant ones; clipped ones (0.1 % of the samples or more);
        those beyond full scale; and those 20 dB or more above the median of their machine.
    """
    rms, peak, clipped, constant = levels.T
    louder = np.zeros(len(levels), bool)
    for rows in clips.groups("machine", rows=constant == 0).values():
        louder[rows] = rms[rows] >= np.median(rms[rows]) + _LOUDER_DB
    kinds = {
        "constant, all samples equal": constant != 0,
        "clipped, samples staying at full scale": clipped >= _CLIPPED,
        "beyond full scale": peak > _BEYOND,
        f"{_LOUDER_DB:.0f} dB or more louder than most of their machine": louder,
    }
    return {kind: np.flatnonzero(mask) for kind, mask in kinds.items() if mask.any()}
