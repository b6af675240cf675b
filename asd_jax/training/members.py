"""The members of a fleet: who they are, and which views each of them learns from."""

import dataclasses
import zlib
from collections.abc import Sequence
from typing import NamedTuple

import jax
import numpy as np

from asd_jax.audio import count_views
from asd_jax.config import TrainConfig
from asd_jax.training.task import TrainingStatistics


@dataclasses.dataclass(frozen=True)
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


class FleetData(NamedTuple):
    """Data of all members, stacked on the first axis, beside a table of frames.

    Attributes:
        key: (members,) typed keys.
        statistics: of the training views.
        training: training views in that table.
        validation: validation views in it.
    """

    key: jax.Array
    statistics: TrainingStatistics
    training: Views
    validation: Views


class Examples(NamedTuple):
    """What one model learns from, or is judged by.

    Attributes:
        clips: (n,) indices into the table of clips.
        labels: (n,) their labels.
    """

    clips: np.ndarray
    labels: np.ndarray


class FleetClips(NamedTuple):
    """What the models of a fleet learn from, clip by clip.

    Attributes:
        members: the models.
        training: a member each.
        validation: a member each; no clip of them is among its training clips.
        n_frames: (clips,) frames of every clip of the table of clips.
        view_length: frames in a view.
        view_hop: frames from one view to the next.
        batch_size: views of a step.
    """

    members: Sequence[Member]
    training: Sequence[Examples]
    validation: Sequence[Examples]
    n_frames: np.ndarray
    view_length: int
    view_hop: int
    batch_size: int

    def n_views(self) -> np.ndarray:
        """(clips,) views of every clip."""
        return count_views(self.n_frames, self.view_length, self.view_hop)


def fleet_clips(
    members: Sequence[Member],
    examples: Sequence[tuple[np.ndarray, np.ndarray]],
    n_frames: np.ndarray,
    *,
    view_length: int,
    view_hop: int,
    config: TrainConfig,
) -> FleetClips:
    """Splits what each model learns from into training and validation clips.

    Args:
        members: the models.
        examples: a member each: indices (clips,) of what it learns from, and their labels.
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
            found.append(Examples(clips[part], labels[part]))
    return FleetClips(
        members, training, validation, n_frames, view_length, view_hop, config.batch_size
    )


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


def lay_out_views(
    fleet: FleetClips,
    examples: Sequence[Examples],
    first_rows: np.ndarray,
    width: int | None = None,
) -> Views:
    """The members' views of those of their clips that lie in a table of frames.

    Args:
        fleet: the members' clips.
        examples: its `training` or its `validation`.
        first_rows: (clips,) first row of every clip in the table; negative where it is not there.
        width: views to pad every member to; by default as many as the largest needs, rounded up
            to whole batches.

    Returns:
        NumPy arrays.
    """
    n_views = fleet.n_views()
    starts, labels = [], []
    for clips, of_clips in examples:
        there = first_rows[clips] >= 0
        counts = n_views[clips[there]]
        of_view = np.repeat(np.arange(len(counts)), counts)
        place = np.arange(len(of_view)) - (np.cumsum(counts) - counts)[of_view]
        starts.append(first_rows[clips[there]][of_view] + fleet.view_hop * place)
        labels.append(of_clips[there][of_view])
    count = np.array([len(row) for row in starts], np.int32)
    if width is None:
        width = whole_batches(int(count.max()), fleet.batch_size)
    return Views(_pad(starts, width), _pad(labels, width), count)


def whole_batches(views: int, batch_size: int) -> int:
    """Views rounded up to whole batches, at least one."""
    return max(1, -(-views // batch_size)) * batch_size


def member_key(member: Member) -> jax.Array:
    """The key from which a member's weights, shuffling and dropout come."""
    seed, name = member.entropy
    return jax.random.fold_in(jax.random.key(seed), name)


def _pad(rows: Sequence[np.ndarray], width: int) -> np.ndarray:
    """Stacks rows of unequal length, padded with zeros."""
    padded = np.zeros((len(rows), width), np.int32)
    for row, values in zip(padded, rows, strict=True):
        row[: len(values)] = values
    return padded
