"""The compiled program that scores windows of many streams, each by the models of its machine."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from asd_jax.audio.views import ViewSpec
from asd_jax.detectors import Detector
from asd_jax.features.table import ClipFacts, ClipInput
from asd_jax.runtime.compilation import compiler_options


@functools.lru_cache(maxsize=16)
def window_program(
    system: type[Detector], config: Any, n_models: int
) -> Callable[..., tuple[jax.Array, jax.Array]]:
    """Compiles what scores windows.

    Returns:
        (weights, calibration, frames (blocks, rows, frames, width), networks, models, labels) →
        scores (models, blocks, rows) and the mean frame of each window (blocks, rows, width).
    """
    detector = system(config)
    spec = detector.views

    def of_window(weights: Any, calibration: Any, frames: Any, model: Any, label: Any) -> jax.Array:
        own = jax.tree.map(lambda leaf: leaf[model], calibration)
        pool = detector.pool(weights, ClipInput(frames, frames.shape[0], label))
        return detector.score_pooled(own, pool.value, ClipFacts(label))

    def of_block(
        weights: Any, calibration: Any, frames: Any, network: Any, models: Any, labels: Any
    ) -> jax.Array:
        own = jax.tree.map(lambda leaf: leaf[network], weights)
        over_rows = jax.vmap(of_window, in_axes=(None, None, 0, 0, 0))
        return over_rows(own, calibration, frames, models, labels)

    def program(
        weights: Any, calibration: Any, heard: Any, networks: Any, models: Any, labels: Any
    ) -> tuple[jax.Array, jax.Array]:
        blocks, n_frames = heard.shape[0], heard.shape[2]
        frames = heard[:, :, np.arange(filled_to(n_frames, spec)) % n_frames]

        def of_model(m: int) -> jax.Array:  # (blocks, rows)
            if blocks == 1:
                one = of_block(
                    weights, calibration, frames[0], networks[m, 0], models[m, 0], labels[0]
                )
                return one[None]
            over_blocks = jax.vmap(of_block, in_axes=(None, None, 0, 0, 0, 0))
            return over_blocks(weights, calibration, frames, networks[m], models[m], labels)

        return jnp.stack([of_model(m) for m in range(n_models)]), heard.mean(2)

    return jax.jit(program, compiler_options=compiler_options(detector.kind))


def filled_to(n_frames: int, spec: ViewSpec) -> int:
    """Frames by which a clip is scored; what is missing is the clip from its begin again."""
    needed = spec.length
    if n_frames >= spec.length and spec.crop:
        needed = n_frames + -(n_frames - spec.length) % spec.hop  # to the clip's end
    return max(needed, n_frames)
