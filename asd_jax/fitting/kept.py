"""What a fitted network keeps of the clips that it knows, so that it can be adapted to more.

Where scores compare with training clips (`Detector.keeps`), these are embedded once, and what they
are embedded to is kept: the comparison can be made again with more clips, without the recordings.
"""

import dataclasses
import functools
import zlib
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from asd_jax.data.clips import Clip
from asd_jax.detectors.training_clips import TrainingClips
from asd_jax.features.batches import table_clips
from asd_jax.features.table import Features
from asd_jax.fitting.layout import Group, Layout
from asd_jax.fitting.pooled import pool_clips, pool_program, take
from asd_jax.scoring.mahalanobis import Moments

if TYPE_CHECKING:
    from asd_jax.fitting.detector import FittedDetector
    from asd_jax.fitting.history import KnownClip

# A system whose clips take more keeps nothing, and compares with its first clips for ever.
MOST_BYTES = 2**28
# Parts of the clips that a system was adapted to; each is scored by a fit without its part.
_PARTS = 5
OF_FIT = -1  # the part of the clips of the fit
BANK, LEFT = "train", "left"  # splits of known clips: compared with, or no more
Sums = Mapping[tuple[str, int], Moments]


class KeptClips(NamedTuple):
    """What is kept of the known clips of one machine, or of one section of it.

    Attributes:
        pools: float32 (models, clips, values), what each clip is pooled to, in the order of
            `KnownClips.clips`; models as of `Served.models_for`.
        embeddings: float32 (clips, values) by a pretrained network; of no width without.
        sums: domain and part → statistics of its clips, merged, arrays (models, …); of systems
            that keep these.
    """

    pools: np.ndarray
    embeddings: np.ndarray
    sums: Sums

    def with_more(self, more: "KeptClips") -> "KeptClips":
        """More clips behind these."""
        sums = dict(self.sums)
        for key, own in more.sums.items():
            sums[key] = Moments.merge([sums[key], own]) if key in sums else own
        return KeptClips(
            np.concatenate([self.pools, more.pools], axis=1),
            np.concatenate([self.embeddings, more.embeddings]),
            sums,
        )

    def without(self, dropped: np.ndarray) -> "KeptClips":
        """The clips without some, given by a mask (clips,)."""
        return self._replace(pools=self.pools[:, ~dropped], embeddings=self.embeddings[~dropped])

    def learned(
        self,
        model: int,
        group: Group,
        known: "Sequence[KnownClip]",
        rows: np.ndarray,
        without: int | None,
    ) -> TrainingClips:
        """Clips with their statistics, as `Detector.calibrate` takes them.

        Args:
            model: place of the model.
            group: machine and section.
            known: the clips.
            rows: (n,) those that are chosen of them.
            without: a part whose sums are left out; None for none.
        """
        if self.sums:
            chosen = [key for key in self.sums if key[1] != without]
            clips = [Clip(group[0], group[1], BANK, "", "", domain=domain) for domain, _ in chosen]
            moments = [Moments(*(leaf[model] for leaf in self.sums[key])) for key in chosen]
            return TrainingClips(clips, lambda which: (moments[i] for i in which.tolist()))
        clips = [clip_of(known[row], group) for row in rows.tolist()]
        pools = self.pools[model, rows]
        return TrainingClips(clips, lambda which: iter(pools[which]))


@dataclasses.dataclass(frozen=True, eq=False)
class Kept:
    """What is kept of the known clips.

    Attributes:
        clips: of each machine, or section of it, that has models of its own.
    """

    clips: Mapping[Group, KeptClips]

    def to_file(self) -> tuple[list[Any], dict[str, Any]]:
        """What is of JSON's types, and the arrays."""
        meta, arrays = [], {}
        for i, (group, own) in enumerate(self.clips.items()):
            meta.append([*group, [*own.sums]])
            sums = {f"{n}": each._asdict() for n, each in enumerate(own.sums.values())}
            arrays[str(i)] = {"pools": own.pools, "embeddings": own.embeddings, "sums": sums}
        return meta, arrays

    @classmethod
    def of_file(cls, meta: Sequence[Any] | None, arrays: Mapping[str, Any]) -> "Kept | None":
        """What `to_file` gave; None of a system that keeps nothing, as earlier ones."""
        if meta is None:
            return None
        clips = {}
        for i, (machine, section, keys) in enumerate(meta):
            own = arrays[str(i)]
            sums = {
                (domain, part): Moments(**own["sums"][f"{n}"])
                for n, (domain, part) in enumerate(keys)
            }
            clips[machine, section] = KeptClips(own["pools"], own["embeddings"], sums)
        return cls(clips)


def clip_of(known: "KnownClip", group: Group) -> Clip:
    """A known clip of a machine and section."""
    return Clip(
        *(group[0], known.section or group[1], known.split, "", ""),
        domain=known.domain,
        attributes=known.attributes,
        group=known.group,
    )


def part_of(clip: "KnownClip") -> int:
    """The part of a known clip, that of its group."""
    if not clip.version:
        return OF_FIT
    return zlib.crc32(clip.group.encode() or clip.content) % _PARTS


def with_kept(fitted: "FittedDetector", features: Features, layout: Layout) -> "FittedDetector":
    """The fitted system with what it needs to be adapted.

    Args:
        fitted: the system, with its history.
        features: a table with its training clips and those held out.
        layout: of these clips.
    """
    assert fitted.history is not None
    detector = fitted.detector
    if not (detector.config.detector.trains and detector.keeps):
        return fitted
    kept, size = {}, 0
    for group, trained in layout.groups.items():
        rows = np.append(trained, layout.held_out.get(group, np.zeros(0, int)))
        known = fitted.history.known[group].clips
        own = kept_clips(fitted, group, features, rows, known, MOST_BYTES - size)
        if own is None:
            return fitted
        size += own.pools.nbytes
        kept[group] = own
    return dataclasses.replace(fitted, kept=Kept(kept))


def kept_clips(
    fitted: "FittedDetector",
    group: Group,
    features: Features,
    rows: np.ndarray,
    known: "Sequence[KnownClip]",
    most: float = np.inf,
) -> KeptClips | None:
    """What is kept of some clips of a group.

    Args:
        fitted: the system.
        group: machine and section, of the layout.
        features: a table of clips.
        rows: (n,) of the clips in the table.
        known: (n,) what is known of each.
        most: bytes.

    Returns:
        None if it would be more.
    """
    detector, chosen = fitted.detector, fitted.models_for(group)
    weights = take(fitted.weights, fitted.networks_of(chosen))
    program = functools.partial(fitted.pool_pieces, weights)
    pools = np.zeros((len(chosen), len(rows), 0), np.float32)
    for clip, value in pool_clips(detector, program, table_clips(features, rows)):
        if not clip.position:
            if value.nbytes / value.itemsize * 4 * len(rows) > most:
                return None
            pools = np.zeros((*pools.shape[:2], value.shape[-1]), np.float32)
        pools[:, clip.position] = value
    embeddings = np.zeros((len(rows), 0), np.float32)
    if features.embeddings is not None:
        embeddings = np.asarray(features.embeddings[rows], np.float32)
    sums: dict[tuple[str, int], Moments] = {}
    if detector.keeps == "sums":
        learned = np.array([clip.split == BANK for clip in known], bool)
        own = [clip for clip in known if clip.split == BANK]
        of_models = [
            _sums_of_model(detector, take(weights, m), features, rows[learned], own)
            for m in range(len(chosen))
        ]
        for key in of_models[0]:
            leaves = zip(*(each[key] for each in of_models), strict=True)
            sums[key] = Moments(*(np.stack(leaf) for leaf in leaves))
    return KeptClips(pools, embeddings, sums)


def _sums_of_model(
    detector: Any,
    weights: Any,
    features: Features,
    rows: np.ndarray,
    known: "Sequence[KnownClip]",
) -> dict[tuple[str, int], Moments]:
    """Statistics by one network, merged over the clips of each domain and part."""
    program = functools.partial(pool_program(detector, "statistics"), weights)

    def statistics() -> Iterator[tuple[tuple[str, int], Moments]]:
        for clip, value in pool_clips(detector, program, table_clips(features, rows)):
            own = known[clip.position]
            domain = "target" if own.domain == "target" else "source"
            yield (domain, part_of(own)), Moments(*(leaf[0] for leaf in value))

    sums: dict[tuple[str, int], Moments] = {}
    for key, value in statistics():
        sums[key] = Moments.merge([*([sums[key]] if key in sums else []), value])
    return sums
