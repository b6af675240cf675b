"""Scores of an exported file beside those of the run, as closely as float32 resolves them.

A score near 0 is a small difference of large numbers: half the squared distance of two nearly equal
unit vectors, the probability that a sure classifier leaves to the other classes, a band 100 dB
below a tone. Two right programs, whose sums have another order, differ there by more than any
relative limit. How much, depends on the system and on the clip, and the run itself says it.
Rounding in a sum of products is as if its factors were other by so much (componentwise backward
error: Higham 2002, Accuracy and Stability of Numerical Algorithms, sections 1.5 and 3.1). So the
run scores a clip again with its samples, the weights and the calibration each changed by up to
`ROUNDING` of itself. A file that differs by no more computes the run's score, of numbers that
float32 does not tell apart. That limit is of the run alone: what a wrong file gives has no part
in it.
"""

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from asd_jax.data import audio_files
from asd_jax.deploy.export.program import Program, Target
from asd_jax.errors import UserError
from asd_jax.fitting.detector import FittedDetector
from asd_jax.runs.directory import RunDirectory
from asd_jax.runs.places import read_places

TOLERANCE = 1e-4  # largest relative difference between scores of the file and of the run
# Of each sample, or value of the features, and of each weight: 16 times float32's rounding, as
# the rounding of some hundred products may add up to; and a 32nd of a 16-bit step or less.
ROUNDING = 2.0**-20
USUAL_SECONDS = 10.0
_CHANGES = 4  # of sound and weights, of which the largest effect counts
_CLIPS = 2  # of each machine, by which a file is compared

Run = Callable[[np.ndarray, int], Mapping[str, np.ndarray]]


class Compared(NamedTuple):
    """One score.

    Attributes:
        wanted: by the run.
        found: by the file.
        resolution: largest change of the run's score where sound and weights change by `ROUNDING`.
    """

    wanted: float
    found: float
    resolution: float = 0.0

    @property
    def difference(self) -> float:
        """Relative; infinite where one is no finite number and the other is not the same."""
        if self.found == self.wanted:
            return 0.0
        apart = abs(self.found - self.wanted)
        return apart / self._size if np.isfinite(apart) else float("inf")

    @property
    def allowed(self) -> float:
        """Largest relative difference."""
        return max(TOLERANCE, self.resolution / self._size)

    @property
    def _size(self) -> float:
        return max(abs(self.wanted), float(np.finfo(np.float32).tiny))


class Comparison(NamedTuple):
    """The scores of a file beside those of the run.

    Attributes:
        difference: largest relative one of the scores that float32 resolves to `TOLERANCE`.
        compared: number of scores; those that are not numbers, in both, do not count.
        unresolved: number of those whose limit is their resolution.
        worst: the score that is the farthest beyond its limit, or the nearest to it.
    """

    difference: float
    compared: int
    unresolved: int
    worst: Compared

    @property
    def holds(self) -> bool:
        """Whether no score is beyond its limit."""
        return self.worst.difference <= self.worst.allowed


def comparison_of(scores: list[Compared]) -> Comparison:
    """Sums up scores.

    Examples:
        The second is 0 to the resolution of float32, and the file's says the same.

        >>> found = comparison_of([Compared(2.0, 2.0001), Compared(1e-15, 4e-15, 1e-13)])
        >>> found.holds, found.compared, found.unresolved, round(found.difference, 6)
        (True, 2, 1, 5e-05)
    """
    resolved = [own for own in scores if own.allowed <= TOLERANCE]
    return Comparison(
        max((own.difference for own in resolved), default=0.0),
        len(scores),
        len(scores) - len(resolved),
        max(scores, key=lambda own: own.difference / own.allowed, default=Compared(0.0, 0.0)),
    )


def compare(
    program: Program,
    run: Run,
    fixed: tuple[int, ...] | None,
    run_dir: Any,
    report: Callable[[str], None],
) -> Comparison:
    """Compares a file by recordings of each machine and noise.

    Args:
        program: that the file is of.
        run: the file: outputs of a clip and the place of its machine.
        fixed: shape of a clip; None where any length goes.
        run_dir: whose recordings are taken; None for noise alone.
        report: called with a line for a machine none of whose scores has the plain limit.
    """
    clips = [
        (place, _clip(program, waveform, fixed))
        for place, target in enumerate(program.targets)
        for waveform in _sounds(program, target, fixed, run_dir)
    ]
    wanted, resolutions = resolved_scores(program, clips)
    scores: list[Compared] = []
    for place, target in enumerate(program.targets):
        own = [
            Compared(float(wanted[k]), float(run(clip, place)["score"][0]), float(resolutions[k]))
            for k, (of_place, clip) in enumerate(clips)
            if of_place == place
        ]
        own = [each for each in own if not (np.isnan(each.wanted) and np.isnan(each.found))]
        if own and all(each.allowed > TOLERANCE for each in own):
            report(
                f"{target.name}: float32 resolves none of the {len(own)} compared scores to "
                f"{TOLERANCE:g}; the widest limit is {max(each.allowed for each in own):.2g}"
            )
        scores += own
    return comparison_of(scores)


def resolved_scores(
    program: Program, clips: Sequence[tuple[int, np.ndarray]]
) -> tuple[np.ndarray, np.ndarray]:
    """The run's scores of clips, and what float32 resolves of them.

    Args:
        program: whose system scores.
        clips: each with the place of its machine, (samples,) or (frames, width) as the file takes.

    Returns:
        (clips,) scores and largest changes of them, float64.
    """

    def scored(fitted: FittedDetector, rng: np.random.Generator | None) -> np.ndarray:
        scores = []
        for place, clip in clips:
            machine, section = program.targets[place].group
            own: dict[str, Any] = {"machine": machine, "section": section or None}
            given = (clip if rng is None else _changed(clip, rng))[None]
            if program.input == "waveform":
                found = fitted.score(given, fitted.config.front_end.sample_rate, **own)
            else:
                found = fitted.score_features(given, **own)
            scores.append(float(found[0]))
        return np.array(scores)

    fitted, rng = program.fitted, np.random.default_rng(1)
    wanted, resolutions = scored(fitted, None), np.zeros(len(clips))
    for _ in range(_CHANGES):
        arrays = (fitted.weights, fitted.calibration)
        weights, calibration = jax.tree.map(lambda leaf: _changed(np.asarray(leaf), rng), arrays)
        other = dataclasses.replace(fitted, weights=weights, calibration=calibration)
        change = np.abs(scored(other, rng) - wanted)
        resolutions = np.maximum(resolutions, np.where(np.isfinite(change), change, 0))
    return wanted, resolutions


def _changed(values: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Values that are changed by up to `ROUNDING` of themselves; whole numbers are flags."""
    if not np.issubdtype(values.dtype, np.floating):
        return values
    change = rng.uniform(-ROUNDING, ROUNDING, values.shape).astype(np.float32)
    return np.where(values == np.round(values), values, values * (1 + change)).astype(values.dtype)


def _clip(program: Program, waveform: np.ndarray, fixed: tuple[int, ...] | None) -> np.ndarray:
    """A clip as the file takes it."""
    if program.input == "waveform":
        return waveform
    features = program.fitted.features(waveform, program.fitted.config.front_end.sample_rate)[0]
    return np.asarray(features[: fixed[0]] if fixed else features, np.float32)


def _sounds(
    program: Program, target: Target, fixed: tuple[int, ...] | None, run_dir: Any
) -> Iterator[np.ndarray]:
    """Recordings of a machine of the run, where they still are; and noise, as of no machine."""
    rate = program.fitted.config.front_end.sample_rate
    shortest = program.samples(program.fitted.detector.views.length)
    n = max(shortest, round(USUAL_SECONDS * rate))
    if fixed is not None:
        frames = fixed[0]
        n = frames if program.input == "waveform" else program.samples(frames)
    found = [np.resize(own, n) for own in _recordings(program, target, run_dir)]
    yield from found
    rng = np.random.default_rng(0)
    for _ in range(_CLIPS - len(found)):
        yield _noise(rng, n)
    yield _noise(rng, n if fixed is not None else max(shortest, n // 3))  # another length


def _recordings(program: Program, target: Target, run_dir: Any) -> Iterator[np.ndarray]:
    """At most two recordings of a machine that the run scored or learned from."""
    if run_dir is None or not Path(run_dir).is_dir():
        return
    config, left = program.fitted.config, _CLIPS
    for places in reversed(read_places(RunDirectory(run_dir).recordings_csv)):
        for (machine, section, _), place in places.items():
            if left and machine == target.group[0] and target.group[1] in ("", section):
                try:
                    yield audio_files.read(place, config.front_end.sample_rate, config.data.channel)
                except (UserError, OSError):  # moved, or replaced since
                    continue
                left -= 1


def _noise(rng: np.random.Generator, n: int) -> np.ndarray:
    """(n,) samples of 16 bits, as float32."""
    return np.round(rng.normal(0, 0.1, n) * 2**15).astype(np.float32) / 2**15
