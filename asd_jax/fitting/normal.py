"""What explanations compare with: cells of a model's normal clips, their names and spectra."""

import contextlib
import dataclasses
import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from operator import itemgetter
from typing import TYPE_CHECKING, Any

import numpy as np

from asd_jax.detectors import Detector
from asd_jax.detectors.untrained import Untrained
from asd_jax.features.batches import ClipFrames, clip_batches, table_clips
from asd_jax.features.pieces import views_in_piece
from asd_jax.features.table import ClipInput, Features
from asd_jax.fitting.layout import Group, Layout
from asd_jax.fitting.map_frames import Overlapping, frames_program, row_of
from asd_jax.fitting.pooled import take
from asd_jax.runtime.side_by_side import dispatchers, in_order
from asd_jax.scoring.maps import Frames, Smoother, Usual, usual_of

if TYPE_CHECKING:
    from asd_jax.fitting.detector import FittedDetector

# Clips whose cells say what is usual, and clips among which a nearest is looked for by its mean
# spectrum; evenly of all.
_USUAL_CLIPS = 32
_USUAL_FRAMES = 20_000
_SPECTRA = 512
# Times the memory of a score that the cells of as many views need, about.
_CELLS = 8


@dataclasses.dataclass(frozen=True, eq=False)
class NormalClips:
    """Normal clips of one machine, or of one section of it.

    Attributes:
        names: of each clip.
        sections: of each clip.
        spectra: float16 (clips, bands), mean levels in dB; None where the system keeps vectors of
            its own of all training clips.
    """

    names: tuple[str, ...]
    sections: tuple[str, ...]
    spectra: np.ndarray | None

    def label(self, place: int) -> str:
        """Name of a clip, with its section where another section has a clip of that name."""
        name = self.names[place]
        return f"{self.sections[place]}/{name}" if self.names.count(name) > 1 else name

    def nearest(self, spectrum: np.ndarray, section: str = "") -> str | None:
        """The clip of the nearest mean spectrum.

        Args:
            spectrum: (bands,) in dB.
            section: among whose clips to look; "" for all.

        Examples:
            >>> clips = NormalClips(("a", "b"), ("00", "00"), np.array([[0.0, 9.0], [5.0, 5.0]]))
            >>> clips.nearest(np.array([6.0, 6.0]))
            'b'
        """
        if self.spectra is None or not len(self.spectra) or not np.isfinite(spectrum).all():
            return None
        apart = ((self.spectra.astype(np.float64) - spectrum) ** 2).sum(axis=1)
        if section in self.sections:
            apart = np.where(np.array(self.sections) == section, apart, np.inf)
        return self.label(int(apart.argmin()))


@dataclasses.dataclass(frozen=True, eq=False)
class Normal:
    """What explanations of a fitted system compare with.

    Attributes:
        usual: arrays (models, kinds, bands), see `asd_jax.scoring.maps.usual_of`.
        clips: of each machine, or section of it, that has models of its own.
    """

    usual: Usual
    clips: Mapping[Group, NormalClips]

    def to_file(self) -> tuple[list[Any], dict[str, Any]]:
        """What is of JSON's types, and the arrays."""
        meta = [[*group, own.names, own.sections] for group, own in self.clips.items()]
        spectra = {
            str(i): own.spectra
            for i, own in enumerate(self.clips.values())
            if own.spectra is not None
        }
        return meta, {"usual": self.usual._asdict(), "spectra": spectra}

    @classmethod
    def of_file(cls, meta: Sequence[Any] | None, arrays: Mapping[str, Any]) -> "Normal | None":
        """What `to_file` gave; None of a file of an earlier version."""
        if meta is None:
            return None
        spectra = arrays.get("spectra", {})
        clips = {
            (machine, section): NormalClips(tuple(names), tuple(sections), spectra.get(str(i)))
            for i, (machine, section, names, sections) in enumerate(meta)
        }
        return cls(Usual(**arrays["usual"]), clips)


def with_normal(fitted: "FittedDetector", features: Features, layout: Layout) -> "FittedDetector":
    """The fitted system with what its explanations compare with.

    Args:
        fitted: the system.
        features: a table with its training clips.
        layout: of these clips.
    """
    detector = fitted.detector
    # Levels do not depend on the network, so that models of the same clips share them.
    levels_only = detector.by_gradient or not detector.config.detector.trains
    groups = [(model.machine, model.section) for model in fitted.models]
    first: dict[Group, int] = {}  # a model of each group
    for m, group in enumerate(groups):
        first.setdefault(group, m)

    def of_model(m: int) -> Usual:
        indices = evenly(layout.groups[groups[m]], _USUAL_CLIPS)
        weights = take(fitted.weights, fitted.networks_of([m])[0])
        return _usual(detector, weights, features, indices)

    models = [*first.values()] if levels_only else [*range(len(groups))]
    with contextlib.closing(in_order(of_model, models, dispatchers())) as found:
        of = dict(zip(models, found, strict=True))
    usual = [of[first[group] if levels_only else m] for m, group in enumerate(groups)]
    clips = {group: _clips(detector, features, layout.groups[group]) for group in first}
    normal = Normal(Usual(*(np.stack(leaves) for leaves in zip(*usual, strict=True))), clips)
    return dataclasses.replace(fitted, normal=normal)


def with_more_normal(
    fitted: "FittedDetector",
    features: Features,
    new: Mapping[Group, np.ndarray],
    dropped: Mapping[Group, np.ndarray],
) -> "FittedDetector":
    """The fitted system, whose explanations compare with more normal clips as well.

    What is usual of the new clips counts by their share among all clips.

    Args:
        fitted: the system; one of an earlier version, without `normal`, stays as it is.
        features: a table with the new clips.
        new: their rows by machine and section.
        dropped: masks of clips, the old ones before the new ones, that the system forgets.
    """
    if fitted.normal is None:
        return fitted
    detector = fitted.detector
    usual = Usual(*(np.array(leaf) for leaf in fitted.normal.usual))
    clips = dict(fitted.normal.clips)
    for group, own in new.items():
        before, more = clips[group], _clips(detector, features, own)
        share = len(own) / (len(own) + len(before.names))
        for m in fitted.models_for(group):
            weights = take(fitted.weights, fitted.networks_of([m])[0])
            of_new = _usual(detector, weights, features, evenly(own, _USUAL_CLIPS))
            usual.middle[m] += share * (of_new.middle - usual.middle[m])
            for whole, part in ((usual.above, of_new.above), (usual.below, of_new.below)):
                whole[m] = np.sqrt((1 - share) * whole[m] ** 2 + share * part**2)
        names, sections = before.names + more.names, before.sections + more.sections
        spectra = None
        stay = ~dropped[group] if group in dropped else np.ones(len(names), bool)
        if before.spectra is not None and more.spectra is not None:
            spectra = np.concatenate([before.spectra, more.spectra])
            stay[:] = False
            stay[evenly(np.arange(len(names)), _SPECTRA)] = True
            spectra = spectra[stay]
        kept = np.flatnonzero(stay).tolist()
        clips[group] = NormalClips(
            tuple(names[i] for i in kept), tuple(sections[i] for i in kept), spectra
        )
    return dataclasses.replace(fitted, normal=Normal(usual, clips))


def evenly(indices: np.ndarray, most: int) -> np.ndarray:
    """At most so many of some clips, evenly spread."""
    if len(indices) <= most:
        return indices
    return indices[np.linspace(0, len(indices) - 1, most).round().astype(int)]


def _usual(detector: Detector, weights: Any, features: Features, indices: np.ndarray) -> Usual:
    """What is usual of the cells of clips."""
    most = max(1, _USUAL_FRAMES // len(indices))
    cells: list[np.ndarray] = []
    for position, blocks in model_frames(detector, weights, table_clips(features, indices)):
        every = -(-int(features.n_frames[indices[position]]) // most)
        smoother = Smoother(hop_seconds(detector))
        for block in blocks:
            cells += [frames.cells[frames.known][::every] for frames in smoother.add(block)]
        cells += [frames.cells[frames.known][::every] for frames in smoother.rest()]
    return Usual(*(leaf.astype(np.float32) for leaf in usual_of(np.concatenate(cells))))


def _clips(detector: Detector, features: Features, indices: np.ndarray) -> NormalClips:
    """Names of clips, and their spectra where these are needed."""
    spectra = None
    if not isinstance(detector, Untrained):
        indices = evenly(indices, _SPECTRA)
        spectra = np.stack([*_mean_levels(detector, features, indices)]).astype(np.float16)
    clips = [features.clips[i] for i in indices.tolist()]
    names, sections = zip(*((clip.name, clip.section) for clip in clips), strict=True)
    return NormalClips(names, sections, spectra)


def _mean_levels(
    detector: Detector, features: Features, indices: np.ndarray
) -> Iterator[np.ndarray]:
    """(bands,) mean level of each clip."""
    clips = table_clips(features, indices)
    if not detector.config.detector.hears_waveforms:  # features are levels
        for clip in clips:
            total, count = np.zeros(1), 0
            for block in clip.blocks:
                total, count = total + block.sum(axis=0, dtype=np.float64), count + len(block)
            yield total / count
        return
    for _, own in model_frames(detector, None, clips):
        total, count = np.zeros(1), 0
        for frames in own:
            total, count = total + frames.levels.sum(axis=0), count + len(frames.levels)
        yield total / count


def hop_seconds(detector: Detector) -> float:
    """Time from one frame to the next."""
    return detector.front_end.hop_length / detector.front_end.sample_rate


def piece_step(detector: Detector) -> int:
    """Frames from one piece's beginning to the next one's."""
    return detector.views.hop * views_in_piece(detector.views)


def model_frames(
    detector: Detector, weights: Any, clips: Iterable[ClipFrames]
) -> Iterator[tuple[int, Iterator[Frames]]]:
    """Frames of clips without sensitivities, by one model.

    Args:
        detector: the system.
        weights: of the model; None of a system whose cells are levels.
        clips: none of them shorter than a view.

    Yields:
        Position of a clip, and its frames in blocks, which must be used before the next one's.
    """
    blocks = _blocks(detector, weights, clips)
    for position, own in itertools.groupby(blocks, key=itemgetter(0)):
        yield position, map(itemgetter(1), own)


def _blocks(
    detector: Detector, weights: Any, clips: Iterable[ClipFrames]
) -> Iterator[tuple[int, Frames]]:
    """Position of a clip, and some of its frames."""
    program = frames_program(detector, sensitive=False)
    position, together = -1, Overlapping(piece_step(detector))

    def computed(batch: tuple[list[ClipFrames], ClipInput]) -> tuple[list[ClipFrames], Any, Any]:
        of_pieces, pieces = batch
        return of_pieces, pieces.n_frames, program(weights, None, pieces)

    threads = dispatchers()
    views_at_once = max(1, detector.views_at_once // _CELLS // threads)
    in_turn = in_order(computed, clip_batches(clips, detector.views, views_at_once), threads)
    with contextlib.closing(in_turn):
        for of_pieces, n_frames, sums in in_turn:
            for row, clip in enumerate(of_pieces):
                if clip.position != position:
                    yield from ((position, frames) for frames in together.rest())
                    position, together = clip.position, Overlapping(piece_step(detector))
                found = together.add(row_of(sums, row), int(n_frames[row]))
                yield from ((position, frames) for frames in found)
    yield from ((position, frames) for frames in together.rest())
