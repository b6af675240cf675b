"""Frames of clips as maps are made of them, piece by piece, whatever the clips' lengths."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from asd_jax.config import Config
from asd_jax.detectors import Detector
from asd_jax.detectors.cells import levels, sensitivity
from asd_jax.features.table import ClipFacts, ClipInput
from asd_jax.runtime.compilation import compiler_options
from asd_jax.runtime.side_by_side import over_devices
from asd_jax.scoring.maps import Frames


class PieceSums(NamedTuple):
    """What a map needs of a piece.

    Attributes:
        levels: (frames, bands) in dB; 0 of padding.
        heard: (frames,) 1 where a frame is the clip's own, else 0.
        cells: (frames, kinds, bands) sums over the views that have a frame.
        count: (frames,) number of these views.
        sensitivity: (frames, bands); None where it does not count.
    """

    levels: Any
    heard: Any
    cells: Any
    count: Any
    sensitivity: Any = None


Program = Callable[[Any, Any, ClipInput], PieceSums]


def frames_program(detector: Detector, *, sensitive: bool) -> Program:
    """Compiles what a map needs of pieces, by one model.

    Args:
        detector: the system.
        sensitive: whether to compute the score's sensitivity, which takes its gradient.

    Returns:
        (weights, calibration, pieces) → sums of each piece's frames, NumPy arrays (pieces, …).
        With the gradient it takes much memory: give it one piece at a time.
    """
    return _frames_program(type(detector), detector.config, sensitive)


@functools.lru_cache(maxsize=16)
def _frames_program(system: type[Detector], config: Config, sensitive: bool) -> Program:
    detector = system(config)
    front_end = detector.front_end

    def of_piece(model: tuple[Any, Any], clip: ClipInput) -> PieceSums:
        weights, calibration = model

        def score(piece: ClipInput) -> jax.Array:
            facts = ClipFacts(piece.label, piece.embedding)
            pooled = detector.pool(weights, piece).value
            return detector.score_pooled(calibration, pooled, facts)

        inside = jnp.arange(len(clip.features)) < clip.n_frames
        level = jnp.where(inside[:, None], levels(front_end, clip), 0)
        cells = detector.cells(weights, clip)
        slopes = None
        if sensitive:
            slopes = jnp.where(inside[:, None], sensitivity(front_end, score, clip), 0)
        return PieceSums(level, inside.astype(level.dtype), cells.total, cells.count, slopes)

    program = over_devices(
        lambda model, pieces: jax.vmap(of_piece, in_axes=(None, 0))(model, pieces),
        compiler_options=compiler_options(detector.kind),
    )

    def in_precision(weights: Any, calibration: Any, pieces: ClipInput) -> PieceSums:
        with jax.enable_x64(detector.float64):  # which each thread says for itself
            sums: PieceSums = jax.tree.map(np.asarray, program((weights, calibration), pieces))
        return sums

    return in_precision


def row_of(sums: PieceSums, row: int) -> PieceSums:
    """The sums of one piece."""
    of_piece: PieceSums = jax.tree.map(lambda leaf: leaf[row], sums)
    return of_piece


class Overlapping:
    """Puts the pieces of a clip together, where they overlap.

    Args:
        step: frames from one piece's beginning to the next one's.

    Examples:
        Pieces of 3 frames, of levels of 1 and 3 dB, begin every 2 frames.

        >>> frames = Overlapping(step=2)
        >>> one, counts = np.ones((3, 1)), np.ones(3)
        >>> blocks = frames.add(PieceSums(one, counts, one[:, None], counts), 3)
        >>> blocks += frames.add(PieceSums(3 * one, counts, one[:, None], counts), 3)
        >>> [block.levels.ravel().tolist() for block in blocks + frames.rest()]
        [[1.0, 1.0], [2.0, 3.0, 3.0]]
    """

    def __init__(self, step: int):
        self._step = step
        self._sums: PieceSums | None = None  # from the last piece's first frame on
        self._n_frames = 0

    def add(self, piece: PieceSums, n_frames: int) -> list[Frames]:
        """Takes the next piece.

        Args:
            piece: from the program.
            n_frames: of the piece that are the clip's own.

        Returns:
            The frames that neither this nor a later piece has.
        """
        sums: PieceSums = jax.tree.map(lambda leaf: np.array(leaf, np.float64), piece)
        before, step = self._sums, min(self._step, len(piece.levels))
        self._sums, self._n_frames = sums, n_frames
        if before is None:
            return []
        for leaf, earlier in zip(jax.tree.leaves(sums), jax.tree.leaves(before), strict=True):
            leaf[: len(leaf) - step] += earlier[step:]
        return [_means(before, step)]

    def rest(self) -> list[Frames]:
        """The frames that are left."""
        return [] if self._sums is None else [_means(self._sums, self._n_frames)]


def _means(sums: PieceSums, n_frames: int) -> Frames:
    """Means over views of the first frames; one without a view is not known."""
    levels, heard, cells, count, slopes = jax.tree.map(lambda leaf: leaf[:n_frames], sums)
    often = np.maximum(heard, 1)[:, None]
    return Frames(
        levels / often,
        cells / np.maximum(count, 1)[:, None, None],
        count > 0,
        None if slopes is None else slopes / often,
    )
