"""The clips that a fitted system knows: what each is, and how loud its bands are.

`adapt` adds clips to a fit by it, and none twice; drift is judged by its levels.
"""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import xxhash

from asd_jax.data.clips import Clip
from asd_jax.features.batches import table_clips
from asd_jax.features.table import Features, FeatureSet
from asd_jax.fitting.layout import Group, Layout
from asd_jax.fitting.normal import evenly, model_frames

if TYPE_CHECKING:
    from asd_jax.fitting.detector import FittedDetector

# Clips of a machine or section whose levels are kept, evenly of all: 768 bytes each at 128 bands.
MOST_LEVELS = 256
# Frames of a clip that its levels are of; of a longer one every second, third, …
_MOST_FRAMES = 2048
_QUIET, _LOUD = 10, 90  # percentiles over time
_DIGEST_BYTES = 16
_COLUMNS = ("section", "domain", "attributes", "group", "start", "split", "version", "state")
_LATER = {"state": {"all": ""}}  # columns that files of earlier versions lack


class KnownClip(NamedTuple):
    """A clip that a system is fitted to, or that its thresholds are by.

    Attributes:
        content: digest of the recording's file, or of the features where there is none.
        section: as of `Clip`.
        domain: as of `Clip`.
        attributes: as of `Clip`.
        group: as of `Clip`.
        start: as of `Clip`.
        split: "train", or `HELD_OUT` of a clip that the models were not fitted to.
        version: 0 of the fit, n of the n-th adaptation.
        state: as of `Clip`.
    """

    content: bytes
    section: str = ""
    domain: str = ""
    attributes: tuple[tuple[str, str], ...] = ()
    group: str = ""
    start: float = 0.0
    split: str = "train"
    version: int = 0
    state: str = ""

    @classmethod
    def of(cls, clip: Clip, content: bytes, version: int = 0) -> "KnownClip":
        """What is kept of a clip."""
        facts = (clip.section, clip.domain, clip.attributes, clip.group, clip.start, clip.split)
        return cls(content, *facts, version, clip.state)

    @property
    def key(self) -> tuple[bytes, float]:
        """Equal for copies of a clip."""
        return self.content, self.start


class KnownClips(NamedTuple):
    """The known clips of one machine, or of one section of it.

    Attributes:
        clips: those that models are fitted to, in the order of the fit, before those held out.
        rows: int (n,), which of them have levels.
        levels: float16 (n, 3, bands) in dB: mean over time, level of quiet moments (10th
            percentile) and of loud ones (90th).
    """

    clips: tuple[KnownClip, ...]
    rows: np.ndarray
    levels: np.ndarray

    def group_names(self) -> list[Any]:
        """The group of each clip with levels; one by itself has a name of its own."""
        return [self.clips[row].group or row for row in self.rows.tolist()]

    def with_more(self, clips: Sequence[KnownClip], levels: np.ndarray) -> "KnownClips":
        """More clips behind these, with their levels (clips, 3, bands)."""
        rows = np.append(self.rows, len(self.clips) + np.arange(len(clips)))
        both = np.concatenate([self.levels, levels.astype(np.float16)]) if len(self.rows) else (
            levels.astype(np.float16)
        )  # fmt: skip
        kept = evenly(np.arange(len(rows)), MOST_LEVELS)
        return KnownClips((*self.clips, *clips), rows[kept], both[kept])

    def without(self, dropped: np.ndarray) -> "KnownClips":
        """The clips without some, given by a mask (clips,)."""
        place = np.cumsum(~dropped) - 1
        kept = ~dropped[self.rows]
        clips = tuple(clip for clip, gone in zip(self.clips, dropped, strict=True) if not gone)
        return KnownClips(clips, place[self.rows[kept]], self.levels[kept])


@dataclasses.dataclass(frozen=True, eq=False)
class History:
    """The clips that a fitted system knows.

    Attributes:
        known: of each machine, or section of it, that has models of its own.
    """

    known: Mapping[Group, KnownClips]

    @property
    def version(self) -> int:
        """Number of adaptations so far."""
        return max((clip.version for own in self.known.values() for clip in own.clips), default=0)

    def to_file(self) -> tuple[list[Any], dict[str, Any]]:
        """What is of JSON's types, and the arrays."""
        meta, arrays = [], {}
        for i, (group, own) in enumerate(self.known.items()):
            columns = {name: _packed([getattr(c, name) for c in own.clips]) for name in _COLUMNS}
            meta.append([*group, columns])
            contents = np.frombuffer(b"".join(clip.content for clip in own.clips), np.uint8)
            arrays[str(i)] = {
                "contents": contents.reshape(-1, _DIGEST_BYTES),
                "rows": own.rows.astype(np.int32),
                "levels": own.levels,
            }
        return meta, arrays

    @classmethod
    def of_file(cls, meta: Sequence[Any] | None, arrays: Mapping[str, Any]) -> "History | None":
        """What `to_file` gave; None of a file of an earlier version."""
        if meta is None:
            return None
        known = {}
        for i, (machine, section, packed) in enumerate(meta):
            own, packed = arrays[str(i)], {**_LATER, **packed}
            count = len(own["contents"])
            columns = {name: _unpacked(packed[name], count) for name in _COLUMNS}
            columns["attributes"] = [
                tuple((name, value) for name, value in pairs) for pairs in columns["attributes"]
            ]
            clips = tuple(
                KnownClip(content.tobytes(), *facts)
                for content, *facts in zip(own["contents"], *columns.values(), strict=True)
            )
            known[machine, section] = KnownClips(clips, own["rows"], own["levels"])
        return cls(known)


def _packed(values: list[Any]) -> Any:
    """A column: one value where all are equal."""
    return {"all": values[0]} if values and all(v == values[0] for v in values) else values


def _unpacked(values: Any, count: int) -> list[Any]:
    return [values["all"]] * count if isinstance(values, dict) else values


def with_history(fitted: "FittedDetector", features: Features, layout: Layout) -> "FittedDetector":
    """The fitted system with what it knows of its clips.

    Args:
        fitted: the system.
        features: a table with its training clips and those held out.
        layout: of these clips.
    """
    nothing = np.zeros(0, int)
    known = {}
    for group, trained in layout.groups.items():
        rows = np.append(trained, layout.held_out.get(group, nothing))
        clips = tuple(known_clips(features, rows))
        chosen = evenly(np.arange(len(rows)), MOST_LEVELS)
        levels = levels_of(fitted, features, rows[chosen])
        known[group] = KnownClips(clips, chosen, levels.astype(np.float16))
    return dataclasses.replace(fitted, history=History(known))


def known_clips(features: Features, rows: np.ndarray, version: int = 0) -> Iterable[KnownClip]:
    """What is kept of some clips of a table."""
    for row in rows.tolist():
        if isinstance(features, FeatureSet):
            content = features.digests[row].tobytes()
        else:
            (frames,) = features.read_clips([row])
            content = xxhash.xxh3_128_digest(np.ascontiguousarray(frames).tobytes())
        yield KnownClip.of(features.clips[row], content, version)


def levels_of(fitted: "FittedDetector", features: Features, rows: np.ndarray) -> np.ndarray:
    """float64 (clips, 3, bands) levels of some clips of a table, see `KnownClips`."""
    detector = fitted.detector
    clips = table_clips(features, rows)
    found = []
    if not detector.config.detector.hears_waveforms:  # features are levels
        for clip in clips:
            meter = BandMeter()
            for block in clip.blocks:
                meter.add(block)
            found.append(meter.levels())
    else:
        for _, blocks in model_frames(detector, None, clips):
            meter = BandMeter()
            for frames in blocks:
                meter.add(frames.levels)
            found.append(meter.levels())
    return np.stack(found)


class BandMeter:
    """Measures the levels of a clip's bands from frames that come block by block.

    Attributes:
        n_frames: so far.

    Examples:
        >>> meter = BandMeter()
        >>> for block in np.arange(22.0).reshape(2, 11, 1):
        ...     meter.add(block)
        >>> meter.levels().ravel().round(2).tolist()
        [10.5, 2.1, 18.9]
    """

    def __init__(self) -> None:
        self._kept: list[np.ndarray] = []
        self.n_frames = 0
        self._total, self._every = np.zeros(1), 1

    def add(self, frames: np.ndarray) -> None:
        """Adds the next frames (frames, bands) in dB."""
        frames = np.asarray(frames, np.float64)
        first = -self.n_frames % self._every
        self._kept.append(frames[first :: self._every])
        self._total = self._total + frames.sum(axis=0)
        self.n_frames += len(frames)
        while sum(map(len, self._kept)) > _MOST_FRAMES:  # of which every second one stays
            self._kept = [np.concatenate(self._kept)[::2]]
            self._every *= 2

    def levels(self) -> np.ndarray:
        """(3, bands): mean over time, level of quiet moments, level of loud ones."""
        kept = np.concatenate(self._kept)
        quiet, loud = np.percentile(kept, [_QUIET, _LOUD], axis=0)
        return np.stack([self._total / self.n_frames, quiet, loud])


def with_more_known(
    fitted: "FittedDetector",
    features: Features,
    new: Mapping[Group, np.ndarray],
    dropped: Mapping[Group, np.ndarray],
) -> History:
    """What a system knows with new clips, and without some.

    Args:
        fitted: the system, with its history.
        features: a table with the new clips.
        new: their rows, by machine and section.
        dropped: masks of clips, the old ones before the new ones, that it forgets.
    """
    assert fitted.history is not None
    known = dict(fitted.history.known)
    version = fitted.history.version + 1
    for group, own in new.items():
        more = [*known_clips(features, own, version)]
        both = known[group].with_more(more, levels_of(fitted, features, own))
        known[group] = both.without(dropped[group]) if group in dropped else both
    return History(known)
