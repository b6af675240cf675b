"""Runs a detector's program over clips piece by piece, and pools the pieces of each clip."""

import contextlib
import functools
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from asd_jax.config import Config
from asd_jax.detectors import Detector
from asd_jax.features.batches import ClipFrames, clip_batches, pieces_of_batch
from asd_jax.features.table import ClipFacts, ClipInput
from asd_jax.runtime.compilation import compiler_options
from asd_jax.runtime.side_by_side import dispatchers, in_order, over_devices
from asd_jax.training import fleet

# A GPU or TPU is given more views at once than a CPU: it has more memory, and needs more work.
_ACCELERATOR = 8


def pool_program(
    detector: Detector, method: Literal["pool", "statistics"]
) -> Callable[[Any, ClipInput], Any]:
    """Compiles a pool of one model.

    Args:
        detector: the system.
        method: which of its methods pools.

    Returns:
        (weights, pieces) → pool, its arrays (1, pieces, …).
    """
    return _pool_program(type(detector), detector.config, method)


# A detector is its class and settings: fitted ones of the same settings share their programs.
@functools.lru_cache(maxsize=16)
def _pool_program(
    system: type[Detector], config: Config, method: str
) -> Callable[[Any, ClipInput], Any]:
    detector = system(config)

    program = over_devices(
        jax.vmap(getattr(detector, method), in_axes=(None, 0)),
        compiler_options=compiler_options(detector.kind),
    )

    def in_precision(weights: Any, pieces: ClipInput) -> Any:
        with jax.enable_x64(detector.float64):  # which each thread says for itself
            return jax.tree.map(lambda leaf: np.asarray(leaf)[None], program(weights, pieces))

    return in_precision


def pool_of_models(detector: Detector) -> Callable[[Any, ClipInput], Any]:
    """Compiles a system's pool for several models.

    Returns:
        (stacked weights, pieces) → pool, its arrays (models, pieces, …).
    """
    one = pool_program(detector, "pool")
    config = detector.config
    if not config.detector.trains:
        return one  # a machine and section has one model, without weights
    if fleet.choose_driver(config.train, detector.kind) == "vmap":
        over_models = jax.vmap(jax.vmap(detector.pool, in_axes=(None, 0)), in_axes=(0, None))

        def rows_first(weights: Any, pieces: ClipInput) -> Any:
            pools = over_models(weights, pieces)  # (models, pieces, …)
            return jax.tree.map(lambda leaf: jnp.swapaxes(leaf, 0, 1), pools)

        program = over_devices(rows_first, compiler_options=compiler_options(detector.kind))
        return lambda weights, pieces: jax.tree.map(
            lambda leaf: np.swapaxes(leaf, 0, 1), program(weights, pieces)
        )

    # On a CPU, models one after another, as in training.
    def pool(weights: Any, pieces: ClipInput) -> Any:
        count = len(jax.tree.leaves(weights)[0])
        pools = [one(take(weights, m), pieces) for m in range(count)]
        return jax.tree.map(lambda *leaves: np.concatenate(leaves), *pools)

    return pool


def scores_of_pools(
    detector: Detector, at_once: int
) -> Callable[[Any, Sequence[tuple[ClipFrames, Any]], bool], np.ndarray]:
    """Compiles `score_pooled` for several models and clips.

    Args:
        detector: the system.
        at_once: most clips in a call, whose number is filled up to it.

    Returns:
        (stacked calibration, clips with their values (models, …), `ClipFacts.trained`) → scores
        (models, at_once); those past the clips mean nothing.
    """

    program = _score_program(type(detector), detector.config)

    def rows(of_clips: Sequence[Any], axis: int = 0) -> np.ndarray:
        return np.stack([*of_clips, *[of_clips[-1]] * (at_once - len(of_clips))], axis=axis)

    def scores(
        calibration: Any, some: Sequence[tuple[ClipFrames, Any]], trained: bool
    ) -> np.ndarray:
        values = jax.tree.map(lambda *leaves: rows(leaves, axis=1), *(value for _, value in some))
        if not detector.float64:
            values = jax.tree.map(_single, values)
        labels = rows([np.int32(clip.label) for clip, _ in some])
        embeddings = None
        if some[0][0].embedding is not None:
            embeddings = rows([clip.embedding for clip, _ in some])
        with jax.enable_x64(detector.float64):
            return np.asarray(program(calibration, values, labels, embeddings, trained))

    return scores


@functools.lru_cache(maxsize=16)
def _score_program(
    system: type[Detector], config: Config
) -> Callable[[Any, Any, Any, Any, bool], jax.Array]:
    """(calibration, values, labels, embeddings, trained) → (models, clips)."""
    detector = system(config)

    @functools.partial(jax.jit, static_argnums=4)
    def program(
        calibration: Any, values: Any, labels: Any, embeddings: Any, trained: bool
    ) -> jax.Array:
        def of_clip(calibration: Any, value: Any, label: Any, embedding: Any) -> jax.Array:
            facts = ClipFacts(label, embedding, trained)
            return detector.score_pooled(calibration, value, facts)

        of_clips = jax.vmap(of_clip, in_axes=(None, 0, 0, 0))
        return jax.vmap(of_clips, in_axes=(0, 0, None, None))(
            calibration, values, labels, embeddings
        )

    return program


def _single(leaf: np.ndarray) -> np.ndarray:
    return leaf.astype(np.float32) if leaf.dtype == np.float64 else leaf


def take(tree: Any, chosen: int | Sequence[int]) -> Any:
    """The chosen models of a stacked tree."""
    rows = chosen if isinstance(chosen, int) else np.asarray(chosen)
    return jax.tree.map(lambda leaf: leaf[rows], tree)


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
    """Clip of each piece, and the pools; batches are computed side by side."""

    def computed(batch: tuple[list[ClipFrames], ClipInput]) -> tuple[list[ClipFrames], Any]:
        return batch[0], jax.tree.map(np.asarray, program(batch[1]))

    of_clips = clip_batches(clips, detector.views, _views_at_once(detector))
    in_turn = in_order(computed, of_clips, dispatchers())
    with contextlib.closing(in_turn):
        yield from in_turn


def pieces_at_once(detector: Detector) -> int:
    """Pieces of a batch of `pool_clips`, on JAX's default device."""
    return pieces_of_batch(detector.views, _views_at_once(detector))


def _views_at_once(detector: Detector) -> int:
    if jax.default_backend() == "cpu":
        return max(1, detector.views_at_once // dispatchers())
    return detector.views_at_once * _ACCELERATOR
