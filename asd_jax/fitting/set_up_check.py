"""Names recordings that cannot be of the set-up that a system was fitted to."""

import functools
from collections.abc import Hashable, Sequence

import numpy as np

from asd_jax.detectors.cells import band_hz
from asd_jax.fitting.detector import FittedDetector
from asd_jax.fitting.layout import Group
from asd_jax.scoring.set_up import SetUp

_FEWEST_CLIPS = 5  # that a set-up is known by


class MeanMeter:
    """Means over time of a recording's bands, from frames that come block by block.

    Attributes:
        n_frames: so far.

    Examples:
        >>> meter = MeanMeter()
        >>> for block in (np.array([[1.0], [3.0]]), np.array([[8.0]])):
        ...     meter.add(block)
        >>> meter.mean.tolist(), meter.n_frames
        ([4.0], 3)
    """

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        """Forgets the frames so far."""
        self.n_frames = 0
        self._total = np.zeros(1)

    def add(self, frames: np.ndarray) -> None:
        """Adds the next frames (frames, bands) in dB."""
        self._total = self._total + frames.sum(axis=0, dtype=np.float64)
        self.n_frames += len(frames)

    @property
    def mean(self) -> np.ndarray:
        """(bands,) in dB."""
        return self._total / max(self.n_frames, 1)


class SetUpCheck:
    """Checks recordings as they are scored; see `asd_jax.scoring.set_up.SetUp.problem`.

    Each is given a meter, which is given its frames block by block; `lines` says what was found.

    Args:
        fitted: the system. One that hears waveforms, and one of an earlier version, checks nothing.
    """

    def __init__(self, fitted: FittedDetector):
        self._fitted = fitted
        self._meters: list[tuple[Group, int, MeanMeter]] = []

    def meter(self, group: Group, index: int) -> MeanMeter | None:
        """What measures a recording.

        Args:
            group: its machine and section, from `Fitted.resolve`.
            index: its place among the recordings, of which several may be clips of one.

        Returns:
            To be given the recording's frames; None where it cannot be checked.
        """
        if self.set_up(group) is None:
            return None
        self._meters.append((group, index, MeanMeter()))
        return self._meters[-1][2]

    def set_up(self, group: Group) -> SetUp | None:
        """The set-up of a machine and section; None where it is not known."""
        machine, section = group
        by_section = self._fitted.detector.scope == "section"
        return _set_up_of(self._fitted, (machine, section if by_section else ""))

    def lines(self, files: Sequence[str]) -> list[tuple[Hashable, str]]:
        """A line on the recordings of each machine that cannot be of its set-up.

        Args:
            files: names of all recordings.

        Returns:
            Machine with the kind of problem, and the line.
        """
        found: dict[tuple[Group, str], list[int]] = {}
        counts: dict[Group, set[int]] = {}
        for group, index, meter in self._meters:
            counts.setdefault(group, set()).add(index)
            set_up = self.set_up(group)
            problem = set_up.problem(meter.mean) if set_up and meter.n_frames else ""
            if problem:
                # Levels differ from one to the next; the first one's stands for all.
                alike = (key for key in found if (key[0], _kind(key[1])) == (group, _kind(problem)))
                found.setdefault(next(alike, (group, problem)), []).append(index)
        return [
            (
                (group, _kind(problem)),
                f"{' '.join(filter(None, group))}: {len({*own})} of {len(counts[group])} "
                f"recordings cannot be of the set-up of training, first {files[own[0]]}: "
                f"{problem}; their scores say little of the machine, and `asd-jax report --drift` "
                "compares them with training",
            )
            for (group, problem), own in found.items()
        ]


def _kind(problem: str) -> str:
    """A problem without its size in dB."""
    return problem.split(" dB ")[-1]


@functools.lru_cache(maxsize=256)
def _set_up_of(fitted: FittedDetector, group: Group) -> SetUp | None:
    history = fitted.history
    known = None if history is None else history.known.get(group)
    if known is None or len(known.levels) < _FEWEST_CLIPS:
        return None
    if fitted.config.detector.hears_waveforms:
        return None
    return SetUp.of(known.levels, band_hz(fitted.detector.front_end))
