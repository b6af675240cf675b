"""The models of a fleet, and the views that each of them learns from."""

import dataclasses
import functools
import zlib
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from asd_jax.audio.views import view_starts
from asd_jax.config import TrainConfig
from asd_jax.training.task import TrainingStatistics


@dataclasses.dataclass(frozen=True, order=True)
class Member:
    """One model of a fleet.

    Attributes:
        machine: machine type.
        section: the section it is trained for; "" where it serves a whole machine type.
        seed: seed of its initial weights, shuffling and validation clips.
        repeat: which of a seed's trainings it is, for systems that train several.
    """

    machine: str
    section: str
    seed: int
    repeat: int = 0

    @property
    def name(self) -> str:
        """For people: "fan 00 seed 1"."""
        section = f" {self.section}" if self.section else ""
        repeat = f" training {self.repeat + 1}" if self.repeat else ""
        return f"{self.machine}{section} seed {self.seed}{repeat}"

    @property
    def entropy(self) -> tuple[int, int]:
        """What all of the member's random choices come from."""
        repeat = f"#{self.repeat}" if self.repeat else ""
        return self.seed, zlib.crc32(f"{self.machine}/{self.section}{repeat}".encode())


class FleetData(NamedTuple):
    """Data of all members, stacked on the first axis.

    Attributes:
        key: (members,) typed keys.
        statistics: of the training views.
        training: training views.
        validation: validation views.
    """

    key: jax.Array
    statistics: TrainingStatistics
    training: "Views"
    validation: "Views"


class Views(NamedTuple):
    """Where the views of all members start, stacked on the first axis and padded.

    Attributes:
        starts: (members, views) rows of the table of frames.
        labels: (members, views) labels of their clips.
        count: (members,) how many of them are real.
    """

    starts: jax.Array
    labels: jax.Array
    count: jax.Array


def split_clips(member: Member, clips: np.ndarray, share: float) -> tuple[np.ndarray, np.ndarray]:
    """Draws a member's validation clips.

    Whole clips are held out, so that no validation view overlaps a training view.

    Args:
        member: whose clips they are.
        clips: (clips,) indices into the table of clips.
        share: held-out share; at least one clip is held out when it is above 0 and there
            are two or more, and at least one is left for training.

    Returns:
        Indices of the training clips and of the validation clips, both ascending.
    """
    n_held = min(max(1, round(share * len(clips))), len(clips) - 1) if share else 0
    order = np.random.default_rng(member.entropy).permutation(len(clips))
    return np.sort(clips[order[n_held:]]), np.sort(clips[order[:n_held]])


def fleet_data(
    members: Sequence[Member],
    examples: Sequence[tuple[np.ndarray, np.ndarray]],
    table: np.ndarray,
    offsets: np.ndarray,
    n_frames: np.ndarray,
    *,
    view_length: int,
    view_hop: int,
    config: TrainConfig,
) -> FleetData:
    """Lays out the data of a fleet.

    Args:
        members: the models.
        examples: a member each: indices (clips,) of what it learns from, and their labels.
        table: (frames, mels) features of all clips, end to end.
        offsets: (clips,) first frame of each clip in the table.
        n_frames: (clips,) frames of each clip.
        view_length: frames in a view.
        view_hop: frames from one view to the next.
        config: `validation_split` and `batch_size` are used.
    """
    training, validation = [], []
    for member, (clips, labels) in zip(members, examples, strict=True):
        for found, part in zip(
            (training, validation),
            split_clips(member, np.arange(len(clips)), config.validation_split),
            strict=True,
        ):
            found.append((clips[part], labels[part]))

    def views(parts) -> Views:
        starts, of_views = [], []
        for clips, labels in parts:
            rows = [offsets[c] + view_starts(n_frames[c], view_length, view_hop) for c in clips]
            starts.append(np.concatenate([np.zeros(0, np.int64), *rows]))
            of_views.append(np.repeat(labels, [len(row) for row in rows]))
        count = np.array([len(row) for row in starts], np.int32)
        padded = (_pad(rows, config.batch_size) for rows in (starts, of_views))
        return Views(*map(jnp.asarray, padded), jnp.asarray(count))

    statistics = _frame_statistics(table, offsets, n_frames, [clips for clips, _ in training])
    n_labels = np.array([labels.max() + 1 for _, labels in examples], np.int32)
    return FleetData(
        key=jnp.stack([member_key(member) for member in members]),
        statistics=jax.tree.map(jnp.asarray, TrainingStatistics(*statistics, n_labels)),
        training=views(training),
        validation=views(validation),
    )


def _frame_statistics(
    table: np.ndarray, offsets: np.ndarray, n_frames: np.ndarray, member_clips: Sequence[np.ndarray]
) -> list[np.ndarray]:
    """Mean, deviation, minimum and maximum of each member's training frames.

    Each (members, mels) float32; sums in float64.
    """

    @functools.cache
    def of_clip(c):
        frames = table[offsets[c] : offsets[c] + n_frames[c]].astype(np.float64)
        return frames.sum(0), (frames**2).sum(0), frames.min(0), frames.max(0)

    found = []
    for clips in member_clips:
        sums, squares, low, high = map(np.stack, zip(*map(of_clip, clips), strict=True))
        count = n_frames[clips].sum()
        mean = sums.sum(0) / count
        std = np.sqrt(np.maximum(squares.sum(0) / count - mean**2, 0))
        found.append((mean, std, low.min(0), high.max(0)))
    return [np.stack(rows).astype(np.float32) for rows in zip(*found, strict=True)]


def member_key(member: Member) -> jax.Array:
    """The key from which a member's weights, shuffling and dropout come."""
    seed, name = member.entropy
    return jax.random.fold_in(jax.random.key(seed), name)


def _pad(rows: Sequence[np.ndarray], multiple: int) -> np.ndarray:
    """Stacks rows of unequal length, padded with zeros to a multiple."""
    width = max(1, -(-max(map(len, rows)) // multiple)) * multiple
    padded = np.zeros((len(rows), width), np.int32)
    for row, values in zip(padded, rows, strict=True):
        row[: len(values)] = values
    return padded
