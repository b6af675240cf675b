"""Parameters and multiply-accumulates of a fitted system, for one clip."""

import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np

from asd_jax.features.table import ClipInput
from asd_jax.fitting.detector import FittedDetector
from asd_jax.fitting.ensemble import FittedChoice, FittedMembers
from asd_jax.fitting.fitted import Fitted
from asd_jax.fitting.pooled import take
from asd_jax.training.multiplications import multiplications

# Seconds of a clip, where a run of an earlier version did not note them.
USUAL_SECONDS = 10.0


class Complexity(NamedTuple):
    """What a system is made of, and takes for one clip.

    Attributes:
        subsystems: models whose scores are combined into one: seeds, members, repeated trainings.
        parameters: of all their networks, running statistics included, like Keras counts them.
        macs: multiplications of networks and scores for one clip; 0 without a network. The front
            end, and a pretrained network that computes embeddings, are not in either number.
    """

    subsystems: int
    parameters: int
    macs: int


def complexity_of(fitted: Fitted, seconds: float, n_seeds: int) -> Complexity:
    """Parameters and multiplications of the models that score one clip.

    A choice has the numbers of the member that has most.

    Args:
        fitted: the system.
        seconds: length of the clip.
        n_seeds: seeds whose scores are averaged.
    """
    if isinstance(fitted, FittedDetector):
        return _of_detector(fitted, seconds or USUAL_SECONDS, n_seeds)
    assert isinstance(fitted, FittedMembers)  # the other kind
    parts = [complexity_of(member, seconds, n_seeds) for member in fitted.members.values()]
    if isinstance(fitted, FittedChoice):
        return max(parts, key=lambda part: part.macs)
    return Complexity(*(sum(column) for column in zip(*parts, strict=True)))


def detectors_of(fitted: Fitted, name: str = "") -> Iterator[tuple[str, FittedDetector]]:
    """The systems that a fitted one is made of, each with its name among the members."""
    if isinstance(fitted, FittedDetector):
        yield name or fitted.config.name or fitted.config.detector.name, fitted
    if isinstance(fitted, FittedMembers):
        for own, member in fitted.members.items():
            yield from detectors_of(member, own)


def _of_detector(fitted: FittedDetector, seconds: float, n_seeds: int) -> Complexity:
    detector = fitted.detector
    if not fitted.config.detector.trains:
        return Complexity(1, 0, 0)
    models = n_seeds * detector.repeats
    weights = take(fitted.weights, 0)
    counted = {name: weights[name] for name in ("params", "batch_stats") if name in weights}
    parameters = sum(_sizes(jax.tree.leaves(counted)))
    with jax.enable_x64(detector.float64):
        macs = multiplications(
            detector.score,
            _shapes(weights),
            _shapes(take(fitted.calibration, 0)),
            _clip(fitted, seconds),
        )
    return Complexity(models, models * parameters, models * macs)


def _clip(fitted: FittedDetector, seconds: float) -> ClipInput:
    """The shapes of a clip of such a length."""
    front_end, views = fitted.detector.front_end, fitted.detector.views
    frames = front_end.frames(round(seconds * front_end.sample_rate))
    values: Any = jax.ShapeDtypeStruct(
        (max(frames, views.length), front_end.width), front_end.dtype
    )
    embedding: Any = None
    if fitted.config.embedding.kind != "none":
        size = 2 * front_end.width  # of "log_mel"
        if fitted.config.embedding.pretrained:
            size = fitted.embedder.size
        embedding = jax.ShapeDtypeStruct((size,), np.float32)
    number: Any = jax.ShapeDtypeStruct((), np.int32)
    return ClipInput(values, number, number, embedding)


def _shapes(tree: Mapping[str, Any]) -> Any:
    return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), tree)


def _sizes(leaves: Iterable[Any]) -> Iterator[int]:
    return (math.prod(leaf.shape) for leaf in leaves)
