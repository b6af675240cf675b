"""The training clips of a model, as its calibration takes them."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from asd_jax.data.clips import Clip


class TrainingClips:
    """A model's training clips with their statistics, which are computed on demand.

    Args:
        clips: the clips.
        statistics: (indices into `clips`) → each one's value of `Detector.statistics`, as NumPy
            arrays.
        indices: (n,) chosen clips; all by default.
        labels: int32 (clips,), from `Detector.examples`, by which their network has learned them;
            −1 for a clip that it was not given. By default 0.

    Iterating gives (clip, statistics) pairs.
    """

    def __init__(
        self,
        clips: Sequence[Clip],
        statistics: Callable[[np.ndarray], Iterable[Any]],
        indices: np.ndarray | None = None,
        labels: np.ndarray | None = None,
    ):
        self._clips, self._statistics = clips, statistics
        self._indices = np.arange(len(clips)) if indices is None else indices
        self._labels = np.zeros(len(clips), np.int32) if labels is None else labels

    def __len__(self) -> int:
        return len(self._indices)

    def __iter__(self) -> Iterator[tuple[Clip, Any]]:
        clips = (self._clips[i] for i in self._indices.tolist())
        return zip(clips, self._statistics(self._indices), strict=True)

    @property
    def labels(self) -> np.ndarray:
        """(n,) labels of the chosen clips."""
        return self._labels[self._indices]

    def take(self, chosen: np.ndarray) -> "TrainingClips":
        """The clips at some places among these."""
        chosen = self._indices[chosen]
        return TrainingClips(self._clips, self._statistics, chosen, self._labels)
