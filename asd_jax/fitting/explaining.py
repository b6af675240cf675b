"""Explanations of a fitted system's scores: their parts, and maps over time and frequency."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from asd_jax.detectors.cells import band_hz, frame_seconds
from asd_jax.features.batches import ClipFrames, clip_batches, table_clips
from asd_jax.features.table import ClipInput, Features
from asd_jax.fitting.in_state import in_state
from asd_jax.fitting.map_frames import Overlapping, PieceSums, frames_program, row_of
from asd_jax.fitting.normal import hop_seconds, piece_step
from asd_jax.fitting.pooled import take
from asd_jax.scoring.explanation import Explanation
from asd_jax.scoring.maps import Evidence, EvidenceSum, Usual

if TYPE_CHECKING:
    from asd_jax.fitting.detector import FittedDetector


def explain_clips(
    fitted: "FittedDetector", chosen: Sequence[int], clips: Iterable[ClipFrames]
) -> Iterator[tuple[ClipFrames, np.ndarray, Explanation]]:
    """Explains the scores of clips of any lengths, one after another, in a fixed amount of memory.

    Parts are of the first model; a map is the mean of those of the first training of each seed.

    Args:
        fitted: the system.
        chosen: indices of the models that score, as of `FittedDetector.model_scores`.
        clips: the clips, whose features are read once.

    Yields:
        Each clip, its score by each seed, float32 (seeds,), and its explanation.
    """
    detector = fitted.detector
    weights = take(fitted.weights, fitted.networks_of(chosen))
    clip: ClipFrames | None = None
    pools: list[Any] = []
    maps: _Maps | None = None
    for of_pieces, batch in clip_batches(_counting(clips), detector.views, detector.views_at_once):
        pooled = jax.tree.map(np.asarray, fitted.pool_pieces(weights, batch))
        sums = _Sums(fitted, chosen, batch)
        for row, own in enumerate(of_pieces):
            if clip is None or own.position != clip.position:
                if maps is not None and clip is not None:
                    yield (clip, *maps.explain(clip, type(pools[0]).merge(pools).value))
                clip, pools, maps = own, [], _Maps(fitted, chosen)
            assert maps is not None
            maps.add(sums.of_row(row), int(np.asarray(batch.n_frames)[row]))
            pools.append(type(pooled)(*(leaf[:, row] for leaf in pooled)))
        pools = [type(pooled).merge(pools)]  # does not grow with a clip's length
    if maps is not None and clip is not None:
        yield (clip, *maps.explain(clip, type(pools[0]).merge(pools).value))


def explain_table(
    fitted: "FittedDetector", chosen: Sequence[int], features: Features, labels: np.ndarray
) -> list[Explanation]:
    """Explains the scores of all clips of a table; arguments as of `model_scores`."""
    clips = table_clips(features, range(len(labels)), labels)
    return [explanation for *_, explanation in explain_clips(fitted, chosen, clips)]


class _Counted:
    """Blocks of a clip, whose frames are counted as they are read."""

    def __init__(self, blocks: Iterable[np.ndarray]):
        self._blocks, self.n_frames = blocks, 0

    def __iter__(self) -> Iterator[np.ndarray]:
        for block in self._blocks:
            self.n_frames += len(block)
            yield block


def _counting(clips: Iterable[ClipFrames]) -> Iterator[ClipFrames]:
    return (clip._replace(blocks=_Counted(clip.blocks)) for clip in clips)


class _Sums:
    """What maps need of a batch of pieces, by several models."""

    def __init__(self, fitted: "FittedDetector", chosen: Sequence[int], batch: ClipInput):
        detector = fitted.detector
        own = list(chosen[:: detector.repeats])
        program = frames_program(detector, sensitive=detector.by_gradient)
        weights = [take(fitted.weights, row) for row in fitted.networks_of(own)]
        calibrations: list[Any] = [None] * len(own)
        if detector.by_gradient:
            calibrations = [take(fitted.calibration, m) for m in own]
        models = [*zip(weights, calibrations, strict=True)]

        def of_row(row: int) -> list[PieceSums]:
            pieces = jax.tree.map(lambda leaf: leaf[row : row + 1], batch)
            return [row_of(program(*model, pieces), 0) for model in models]

        self.of_row: Callable[[int], list[PieceSums]] = of_row
        if not detector.by_gradient:
            together = [program(*model, batch) for model in models]
            self.of_row = lambda row: [row_of(sums, row) for sums in together]


class _Maps:
    """The maps of one clip by several models, from its pieces."""

    def __init__(self, fitted: "FittedDetector", chosen: Sequence[int]):
        self._fitted, self._chosen = fitted, chosen
        detector = fitted.detector
        own = list(chosen[:: detector.repeats])
        self._frames = [Overlapping(piece_step(detector)) for _ in own]
        self._sums = [EvidenceSum(self._usual(m), hop_seconds(detector)) for m in own]

    def _usual(self, model: int) -> Usual | None:
        normal = self._fitted.normal
        return None if normal is None else Usual(*(leaf[model] for leaf in normal.usual))

    def add(self, of_models: Sequence[PieceSums], n_frames: int) -> None:
        """Takes the next piece, of which so many frames are the clip's own."""
        for sums, frames, evidence in zip(of_models, self._frames, self._sums, strict=True):
            for block in frames.add(sums, n_frames):
                evidence.add(block)

    def explain(self, clip: ClipFrames, pooled: Any) -> tuple[np.ndarray, Explanation]:
        """Scores and explanation of the clip, which ends here.

        Args:
            clip: the clip.
            pooled: value of its pool by each model, arrays (models, ...).
        """
        fitted, detector = self._fitted, self._fitted.detector
        left = in_state(fitted, self._chosen, [(clip, pooled)])
        scores = fitted.of_seeds(self._chosen, fitted.scores_of_pools(self._chosen, left))
        first = self._chosen[0]
        calibration = take(fitted.calibration, first)
        value = jax.tree.map(lambda leaf: leaf[0], pooled)
        parts = detector.parts(calibration, jax.tree.map(lambda leaf: leaf[0], left[0][1]))
        found: list[Evidence] = []
        for frames, evidence in zip(self._frames, self._sums, strict=True):
            for block in frames.rest():
                evidence.add(block)
            found.append(evidence.result())
        maps = [detector.map(parts, own.values) for own in found]
        known = [each for each in maps if each is not None]
        # Of a clip that was repeated to fill a view, the clip itself.
        assert isinstance(clip.blocks, _Counted)
        n_frames = min(clip.blocks.n_frames, found[0].n_frames)
        times = frame_seconds(detector.front_end, n_frames, found[0].together)
        last, score = len(times), float(scores[:, 0].mean())
        return scores[:, 0], Explanation(
            score,
            parts,
            band_hz(detector.front_end),
            _sum_to_one(np.mean(known, axis=0)[:last]) if known and np.isfinite(score) else None,
            times,
            found[0].levels[:last],
            self._nearest(calibration, value, found[0].mean_level, clip),
        )

    def _nearest(
        self, calibration: Any, value: Any, spectrum: np.ndarray, clip: ClipFrames
    ) -> str | None:
        """Name of the nearest normal clip."""
        fitted, model = self._fitted, self._fitted.models[self._chosen[0]]
        if fitted.normal is None or (model.machine, model.section) not in fitted.normal.clips:
            return None
        clips = fitted.normal.clips[model.machine, model.section]
        place = fitted.detector.nearest(calibration, value)
        if place is not None:
            return clips.label(place)
        section = ""
        if fitted.detector.scope == "machine by section":
            section = fitted.sections[model.machine][clip.label]
        return clips.nearest(spectrum, section)


def _sum_to_one(shares: np.ndarray) -> np.ndarray:
    total = shares.sum()
    return shares / total if total > 0 else shares
