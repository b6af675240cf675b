"""Recordings of a machine that is off, told by their level alone.

What is known are normal clips, of which some may be off. A clip is cut into eight segments; a
segment's level is the median over its frames of the mean level in dB over the bands.

The clips' levels are sorted. Where a gap of 6 dB or more, wide beside what the louder ones vary,
has at most half of the clips below it, those are off, and the boundary is in its middle. Else none
is, and the boundary is 10 dB below the quietest clip.

A clip is off if all its segments are below the boundary, and transient if some are below and some
above. Machines that pause, of whose running normal clips more than one in ten has a segment below
the boundary, have no transient clips.

Whether a quiet machine is off or broken, its sound does not say. This is therefore by request only.
"""

from typing import Literal, NamedTuple

import numpy as np

SEGMENTS = 8
_GAP_DB, _BELOW_DB = 6.0, 10.0
_DEVIATIONS = 5.0  # by which a gap is wide
_MOST_OFF, _MOST_TRANSIENT = 0.5, 0.1


class Quiet(NamedTuple):
    """What is off, of one machine.

    Attributes:
        below: level in dB.
        pauses: whether segments of a running machine are below it, too.
    """

    below: float
    pauses: bool

    def says(self, levels: np.ndarray) -> Literal["", "off", "transient"]:
        """What a clip is, by the levels of its segments.

        Args:
            levels: (segments,).

        Examples:
            >>> quiet = Quiet(-60.0, False)
            >>> quiet.says(np.array([-70.0] * 8)), quiet.says(np.array([-70.0] * 4 + [-40.0] * 4))
            ('off', 'transient')
        """
        below = levels < self.below
        if below.all():
            return "off"
        return "transient" if below.any() and not self.pauses else ""


def segment_levels(frames: np.ndarray) -> np.ndarray:
    """Levels of a clip's segments.

    Args:
        frames: (frames,) mean level of each in dB.

    Returns:
        (segments,), fewer of a clip of fewer frames.
    """
    parts = np.array_split(frames, min(SEGMENTS, len(frames)))
    return np.array([np.median(part) for part in parts])


def learn_quiet(levels: np.ndarray) -> Quiet:
    """Learns what is off from normal clips.

    Args:
        levels: (clips, segments); NaN for segments that a clip lacks.

    Examples:
        >>> rng = np.random.default_rng(0)
        >>> level = np.array([-80.0] * 5 + [-50.0] * 20)[:, None]
        >>> quiet = learn_quiet(level + rng.normal(0, 1, (25, 8)))
        >>> -70 < quiet.below < -60, quiet.pauses
        (True, False)
    """
    clips = np.nanmedian(levels, axis=1)
    ascending = np.sort(clips)
    gaps = np.diff(ascending)
    below = ascending[0] - _BELOW_DB
    for place in np.argsort(-gaps, kind="stable").tolist():
        upper = ascending[place + 1 :]
        few = place + 1 <= _MOST_OFF * len(clips)
        wide = gaps[place] >= max(_GAP_DB, _DEVIATIONS * upper.std())
        if few and wide and len(upper) > 1:
            below = (ascending[place] + upper[0]) / 2
            break
    running = levels[clips >= below]
    share = float(np.mean((running < below).any(axis=1))) if len(running) else 0.0
    return Quiet(float(below), share > _MOST_TRANSIENT)
