"""The one function that an exported file computes: waveforms in, scores and a threshold out.

    waveforms (batch, samples) → front end → features (batch, frames, width)
        → score of each model → smallest of a seed's trainings → mean over the seeds (batch,)

It is `FittedDetector.score` in float32, as pure JAX by the detectors' own methods, traced in the
portable form (`asd_jax.runtime.portable`). All formats are made of it.
"""

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from asd_jax.audio import FrontEnd
from asd_jax.audio.views import ViewSpec
from asd_jax.features.table import ClipInput
from asd_jax.fitting.detector import FittedDetector
from asd_jax.fitting.layout import Group
from asd_jax.runtime.portable import portable

Input = Literal["waveform", "features"]


class Target(NamedTuple):
    """A machine, or a section of one, whose recordings a file scores.

    Attributes:
        name: "fan", or "fan/00" where its sections are scored differently.
        group: machine and section.
        threshold: of the mean score over the seeds; NaN where there is none.
    """

    name: str
    group: Group
    threshold: float


@dataclasses.dataclass(frozen=True, eq=False)
class Program:
    """What a file computes, for one machine or several.

    Attributes:
        fitted: the system.
        targets: the machines, in the order of the input that selects one.
        input: "waveform", or "features" as the front end computes them.
        convolutions: as of `portable`.

    Examples:
        A system of one machine scores two clips of a second.

        >>> import asd_jax
        >>> sounds = np.random.default_rng(0).normal(0, 0.1, (8, 16000)).astype(np.float32)
        >>> fitted = asd_jax.fit("spectral", waveforms=sounds, sample_rate=16000)
        >>> program = Program(fitted, (Target("machine/00", ("machine", "00"), 1.5),))
        >>> scores, threshold = program(sounds[:2])
        >>> scores.shape, float(threshold)
        ((2,), 1.5)
    """

    fitted: FittedDetector
    targets: tuple[Target, ...]
    input: Input = "waveform"
    convolutions: bool = False

    @property
    def selects(self) -> bool:
        """Whether a second input selects the machine."""
        return len(self.targets) > 1

    @property
    def outputs(self) -> tuple[str, ...]:
        """Names of the outputs."""
        more = ("reconstruction",) if self._reconstructs else ()
        return "score", "threshold", *more

    def of(self, target: Target) -> "Program":
        """The same program of one machine."""
        return dataclasses.replace(self, targets=(target,))

    @property
    def _reconstructs(self) -> bool:
        return self.input == "features" and hasattr(self.fitted.detector, "residuals")

    @property
    def shortest(self) -> int:
        """Samples, or frames, of the shortest clip that fills a view."""
        frames = self.fitted.detector.views.length
        return frames if self.input == "features" else self.samples(frames)

    def samples(self, frames: int) -> int:
        """Fewest samples that have so many frames."""
        front_end = self.fitted.detector.front_end
        reach = front_end.n_fft + front_end.hop_length * (frames - 1)
        if isinstance(front_end, FrontEnd) and front_end.center:
            half = front_end.n_fft // 2
            # What is mirrored at the ends is a part of the waveform.
            least = half + 1 if front_end.pad_mode == "reflect" else 1
            return max(least, reach - 2 * half)
        return reach

    def __call__(self, clips: jax.Array, machine: Any = 0) -> tuple[jax.Array, ...]:
        """Scores clips of one machine.

        Args:
            clips: float32 (batch, samples) of waveforms, full scale at 1, at the front end's sample
                rate; or (batch, frames, width) of features. Sizes may be symbols.
            machine: int32 (), place of the machine in `targets`.

        Returns:
            Scores (batch,) and threshold (), float32; of features, where the system has one, also
            the reconstruction (batch, views, values).
        """
        detector = self.fitted.detector
        with portable(convolutions=self.convolutions):
            features = clips if self.input == "features" else self.features(clips)
            features = repeated(features, detector.views)
            label = _selected(self._labels, machine)
            of_models = []
            for model in range(len(self._rows[0])):
                weights, calibration = self._arrays(model, machine)
                of_models.append(self._scores(weights, calibration, features, label))
            threshold = _selected(np.array([own.threshold for own in self.targets]), machine)
            scores = of_seeds(of_models, detector.repeats), jnp.float32(threshold)
            if not self._reconstructs:
                return scores
            weights, _ = self._arrays(0, machine)
            return *scores, self._reconstruction(weights, features)

    def features(self, waveforms: jax.Array) -> jax.Array:
        """(batch, frames, width) of waveforms (batch, samples)."""
        front_end = self.fitted.detector.front_end
        # Blocks of samples are not padded.
        of_whole = front_end if isinstance(front_end, FrontEnd) else front_end.of_padded
        with portable(convolutions=self.convolutions):
            return of_whole(waveforms)

    def _scores(self, weights: Any, calibration: Any, features: jax.Array, label: Any) -> jax.Array:
        """(batch,) scores by one model of features (batch, frames, width)."""

        def score(own: jax.Array) -> jax.Array:
            clip = ClipInput(own, own.shape[0], label)
            return self.fitted.detector.score(weights, calibration, clip)

        return jax.vmap(score)(features).astype(jnp.float32)

    def _reconstruction(self, weights: Any, features: jax.Array) -> jax.Array:
        """(batch, views, values) by one model of features (batch, frames, mels)."""
        detector: Any = self.fitted.detector

        def reconstruction(own: jax.Array) -> jax.Array:
            clip = ClipInput(own, own.shape[0])
            residuals, _ = detector.residuals(weights, clip)
            views, _ = clip.views(detector.views)
            return (views - residuals).reshape(views.shape[0], views.shape[1] * views.shape[2])

        return jax.vmap(reconstruction)(features)

    @functools.cached_property
    def _rows(self) -> list[list[int]]:
        """Models of each target, those of a seed's trainings side by side."""
        rows = [self.fitted.models_of(target.group) for target in self.targets]
        # Without training, one model stands for all seeds.
        return rows if self.fitted.config.detector.trains else [own[:1] for own in rows]

    @property
    def _labels(self) -> np.ndarray:
        return np.array([self.fitted.label_of(own.group) for own in self.targets], np.int32)

    @functools.cached_property
    def _used(self) -> tuple[Any, Any]:
        """Which arrays of weights and calibration the score depends on, as trees of bool."""
        first = self._rows[0][0]
        network = self.fitted.networks_of([first])[0]
        weights = _rounded(jax.tree.map(lambda leaf: leaf[network], self.fitted.weights))
        calibration = _rounded(jax.tree.map(lambda leaf: leaf[first], self.fitted.calibration))
        detector = self.fitted.detector
        features = jax.ShapeDtypeStruct((1, detector.views.length, self.width), jnp.float32)
        return used(
            (weights, calibration), lambda own, x: self._scores(own[0], own[1], x, 0), features
        )

    @property
    def width(self) -> int:
        """Values of a frame of features."""
        return self.fitted.detector.front_end.width

    def _arrays(self, model: int, machine: Any) -> tuple[Any, Any]:
        """Weights and calibration of a machine's model, float32; zero where it is not used."""
        rows = [own[model] for own in self._rows]
        networks = self.fitted.networks_of(rows)
        trees = (self.fitted.weights, networks), (self.fitted.calibration, rows)

        def chosen(leaf: np.ndarray, is_used: bool, own: Sequence[int]) -> Any:
            if not is_used:
                return np.zeros((), np.float32)
            one = len(set(own)) == 1  # a network for all machines
            return _selected(_rounded(leaf[own[:1] if one else list(own)]), 0 if one else machine)

        weights, calibration = (
            jax.tree.map(lambda leaf, is_used, own=own: chosen(leaf, is_used, own), tree, flags)
            for (tree, own), flags in zip(trees, self._used, strict=True)
        )
        return weights, calibration


def _selected(table: np.ndarray, machine: Any) -> Any:
    """Row of a table (machines, …)."""
    if len(table) == 1:
        return table[0]
    return jax.lax.dynamic_index_in_dim(jnp.asarray(table), machine, keepdims=False)


def _rounded(tree: Any) -> Any:
    """A tree of arrays as float32, where they are float64."""

    def rounded(leaf: Any) -> np.ndarray:
        leaf = np.asarray(leaf)
        return leaf.astype(np.float32) if leaf.dtype == np.float64 else leaf

    return jax.tree.map(rounded, tree)


def used(tree: Any, function: Any, *arguments: Any) -> Any:
    """Which leaves of a tree a function reads: a tree of bool.

    Examples:
        >>> used({"a": np.ones(2), "b": np.ones(2)}, lambda tree, x: tree["a"] * x, np.ones(2))
        {'a': True, 'b': False}
    """
    leaves, structure = jax.tree.flatten(tree)
    with portable(convolutions=True):
        jaxpr = jax.make_jaxpr(function)(tree, *arguments).jaxpr
    read = {id(value) for equation in jaxpr.eqns for value in equation.invars}
    read |= {id(value) for value in jaxpr.outvars}
    flags = [id(value) in read for value in jaxpr.invars[: len(leaves)]]
    return jax.tree.unflatten(structure, flags)


def of_seeds(scores: Sequence[jax.Array], trainings: int) -> jax.Array:
    """Mean (batch,) over the seeds of the smallest score of each one's trainings.

    Args:
        scores: (batch,) of each model, those of a seed side by side.
        trainings: of a seed. NaN of one that diverged leaves the seed to the others.

    Examples:
        >>> of_seeds([jnp.ones(1), jnp.full(1, jnp.nan), 5 * jnp.ones(1), 3 * jnp.ones(1)], 2)
        Array([2.], dtype=float32)
    """
    seeds = []
    for first in range(0, len(scores), trainings):
        smallest = scores[first]
        for other in scores[first + 1 : first + trainings]:
            smaller = jnp.minimum(smallest, other)
            smaller = jnp.where(jnp.isnan(smallest), other, smaller)
            smallest = jnp.where(jnp.isnan(other), smallest, smaller)
        seeds.append(smallest)
    return functools.reduce(jnp.add, seeds) / len(seeds)


def repeated(features: jax.Array, views: ViewSpec) -> jax.Array:
    """Repeats what is repeated of a clip: all of one shorter than a view, or its beginning.

    Args:
        features: (batch, frames, width); a symbolic number of frames is taken to fill a view.
        views: how the clip is cut.

    Returns:
        (batch, frames', width).

    Examples:
        >>> clip = jnp.arange(5.0).reshape(1, 5, 1)
        >>> repeated(clip, ViewSpec(7))[0, :, 0].tolist()
        [0.0, 1.0, 2.0, 3.0, 4.0, 0.0, 1.0]
        >>> repeated(clip, ViewSpec(3, 3, crop=True))[0, :, 0].tolist()
        [0.0, 1.0, 2.0, 3.0, 4.0, 0.0]
    """
    n_frames = features.shape[1]
    if isinstance(n_frames, int) and n_frames < views.length:
        return features[:, np.arange(views.length) % n_frames]
    if not views.crop:
        return features
    # Until the views of a fixed length reach the end.
    rest = -(n_frames - views.length) % views.hop
    return jnp.concatenate([features, features[:, :rest]], axis=1)
