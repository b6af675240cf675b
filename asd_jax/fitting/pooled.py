"""Runs a detector's program over clips piece by piece, and pools the pieces of each clip."""

import functools
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import jax
import numpy as np

from asd_jax.detectors import Detector
from asd_jax.features.batches import ClipFrames, clip_batches
from asd_jax.features.table import ClipInput
from asd_jax.runtime.compilation import compiler_options

# A GPU or TPU is given more views at once than a CPU: it has more memory, and needs more work.
_ACCELERATOR = 8


def pool_program(
    detector: Detector, pool: Callable[[Any, ClipInput], Any]
) -> Callable[[Any, ClipInput], Any]:
    """Compiles a pool of one model.

    Args:
        detector: the system.
        pool: its `pool` or `statistics`.

    Returns:
        (weights, pieces) → pool, its arrays (1, pieces, …).
    """

    @functools.partial(jax.jit, compiler_options=compiler_options(detector.kind))
    def program(weights: Any, pieces: ClipInput) -> Any:
        pools = jax.vmap(pool, in_axes=(None, 0))(weights, pieces)
        return jax.tree.map(lambda leaf: leaf[None], pools)

    def in_precision(weights: Any, pieces: ClipInput) -> Any:
        with jax.enable_x64(detector.float64):
            return program(weights, pieces)

    return in_precision


def pool_clips(
    detector: Detector, program: Callable[[ClipInput], Any], clips: Iterable[ClipFrames]
) -> Iterator[tuple[ClipFrames, Any]]:
    """Pools clips of any lengths, in a memory that is independent of these.

    Args:
        detector: the system.
        program: pieces → one of the classes of `scoring.pooling`, its arrays (models, pieces, …).
        clips: none of them shorter than a view.

    Yields:
        Each clip, without its features, and the value of its pool for each model, as NumPy
        arrays (models, …).
    """
    clip: ClipFrames | None = None
    parts: list[Any] = []
    for of_pieces, pools in _ahead(detector, program, clips):
        for i, own in enumerate(of_pieces):
            if clip is not None and own.position != clip.position:
                yield clip, type(pools).merge(parts).value
                parts = []
            clip = own
            parts.append(type(pools)(*(leaf[:, i] for leaf in pools)))
        # What is kept of a long clip does not grow with its pieces.
        parts = [type(pools).merge(parts)]
    if clip is not None:
        yield clip, type(parts[0]).merge(parts).value


def _ahead(
    detector: Detector, program: Callable[[ClipInput], Any], clips: Iterable[ClipFrames]
) -> Iterator[tuple[list[ClipFrames], Any]]:
    """Clip of each piece, and the pools; the device works on a batch while the next is read."""
    views_at_once = detector.views_at_once
    if jax.default_backend() != "cpu":
        views_at_once *= _ACCELERATOR
    launched: tuple[list[ClipFrames], Any] | None = None
    for of_pieces, batch in clip_batches(clips, detector.views, views_at_once):
        pools = program(batch)
        if launched is not None:
            yield launched[0], jax.tree.map(np.asarray, launched[1])
        launched = of_pieces, pools
    if launched is not None:
        yield launched[0], jax.tree.map(np.asarray, launched[1])
