"""Clips of other lengths than the training clips: statistics over time depend on the length."""

from collections.abc import Sequence

import numpy as np

from asd_jax.fitting.detector import FittedDetector
from asd_jax.fitting.layout import Group

FRAMES = "frames"  # of a calibration: (models, 2) those of the shortest and longest training clip

# Times the shortest and longest training clip, beyond which a clip is of another length.
_OTHER = 2.0


def length_line(
    fitted: FittedDetector, group: Group, names: Sequence[str], n_frames: Sequence[int]
) -> str | None:
    """A line on clips that are far shorter or longer than those trained on.

    Only systems without training compare statistics of whole clips. The mean and the largest
    value of half as many frames lie elsewhere, so that the clip scores higher, or lower.

    Args:
        fitted: the system.
        group: machine and section of the clips.
        names: of the clips.
        n_frames: of each clip.

    Returns:
        The line; None where there are none, or the system does not mind.
    """
    frames = fitted.calibration.get(FRAMES)
    if frames is None:
        return None
    chosen = fitted.models_of(group)[0]
    low, high = (int(each) for each in frames[chosen])
    count = np.asarray(n_frames)
    others = np.flatnonzero((count * _OTHER < low) | (count > high * _OTHER))
    if not len(others):
        return None
    rate, hop = fitted.config.front_end.sample_rate, fitted.config.front_end.hop_length

    def seconds(least: int, most: int) -> str:
        spans = [f"{frames * hop / rate:.3g}" for frames in (least, most)]
        return " to ".join(dict.fromkeys(spans))

    machine, section = group
    own = seconds(count[others].min(), count[others].max())
    return (
        f"{' '.join(filter(None, [machine, section]))}: {len(others)} of {len(names)} clips last "
        f"{own} s where the training clips have {seconds(low, high)} s, first {names[others[0]]}; "
        "statistics over time depend on the length, and so do scores: cut clips of about the same "
        "length"
    )
