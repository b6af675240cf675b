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
        (weights, calibration, waveforms, networks, models, labels) → scores (models, blocks, rows)
        and the mean frame of each window (blocks, rows, width).
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
        weights: Any, calibration: Any, waveforms: Any, networks: Any, models: Any, labels: Any
    ) -> tuple[jax.Array, jax.Array]:
        blocks, rows, length = waveforms.shape
        with jax.enable_x64(False):  # a front end has a precision of its own
            frames = _frames(detector, waveforms.reshape(blocks * rows, length), spec)
        frames = frames.reshape(blocks, rows, *frames.shape[1:])

        def of_model(m: int) -> jax.Array:  # (blocks, rows)
            if blocks == 1:
                one = of_block(
                    weights, calibration, frames[0], networks[m, 0], models[m, 0], labels[0]
                )
                return one[None]
            over_blocks = jax.vmap(of_block, in_axes=(None, None, 0, 0, 0, 0))
            return over_blocks(weights, calibration, frames, networks[m], models[m], labels)

        n_frames = detector.front_end.frames(length)  # what follows repeats them
        return jnp.stack([of_model(m) for m in range(n_models)]), frames[:, :, :n_frames].mean(2)

    return jax.jit(program, compiler_options=compiler_options(detector.kind))


def _frames(detector: Detector, waveforms: jax.Array, spec: ViewSpec) -> jax.Array:
    """Frames (rows, frames, width) as those of recordings of that length are scored."""
    front_end = detector.front_end
    before, behind = front_end.padding(waveforms.shape[1])
    mode = getattr(front_end, "pad_mode", "constant")
    padded = jnp.pad(waveforms, ((0, 0), (before, behind)), mode=mode)
    frames = front_end.of_padded(padded)
    n_frames = frames.shape[1]
    needed = spec.length
    if n_frames >= spec.length and spec.crop:
        needed = n_frames + -(n_frames - spec.length) % spec.hop  # to the clip's end
    # What is missing is the clip from its beginning again.
    return frames[:, np.arange(max(needed, n_frames)) % n_frames]
