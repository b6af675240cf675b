"""The layout of a run: which models there are, and what each learns from."""

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from asd_jax.audio import count_views
from asd_jax.config import Config, TrainConfig
from asd_jax.data.clips import Clip, ClipTable
from asd_jax.detectors import make_detector
from asd_jax.features.table import (
    Features,
)
from asd_jax.training import FleetClips, Member, check_fit, fleet_clips


class Layout(NamedTuple):
    """Which models there are and what each learns from.

    Attributes:
        fleet: the models, and what each learns from: what `Detector.examples` gave.
        groups: (machine, section) → indices (clips,) of its own training clips.
        settings: the training settings, with a batch no larger than the views of the model
            that has the most.
        n_labels: the most labels that a model has.
    """

    fleet: FleetClips
    groups: dict[tuple[str, str], np.ndarray]
    settings: TrainConfig
    n_labels: int


def lay_out(config: Config, clips: Sequence[Clip], n_frames: np.ndarray) -> Layout:
    """The models of a run.

    Args:
        config: the run's configuration.
        clips: the table of clips.
        n_frames: (clips,) frames of each.
    """
    detector = make_detector(config)
    groups = groups_of(config, clips)
    members = [
        Member(*group, seed, repeat)
        for group in groups
        for seed in config.seeds
        for repeat in range(detector.repeats)
    ]
    examples = [
        detector.examples(groups[member.machine, member.section], clips, member.seed)
        for member in members
    ]
    views = {"view_length": detector.view_length, "view_hop": detector.view_hop}
    n_views = count_views(n_frames, *views.values())
    most = max(int(n_views[indices].sum()) for indices, _ in examples)
    size = min(config.train.batch_size, most)
    settings = dataclasses.replace(config.train, batch_size=size)
    n_labels = max(int(labels.max()) + 1 for _, labels in examples)
    fleet = fleet_clips(members, examples, n_frames, **views, config=settings)
    return Layout(fleet, groups, settings, n_labels)


def check_devices(config: Config, features: Features) -> None:
    """Raises UserError where the training settings do not fit the devices and these clips."""
    layout = lay_out(config, features.clips, features.n_frames)
    kind = make_detector(config).task().kind
    check_fit(layout.fleet, layout.settings, config.front_end.n_mels, kind)


def check_clips(config: Config, clips: Sequence[Clip]) -> None:
    """Raises UserError where the system cannot learn from these clips, whatever is in them."""
    detector = make_detector(config)
    for own in groups_of(config, clips).values():
        detector.examples(own, clips, config.seeds[0])


def with_perturbed(config: Config, clips: Sequence[Clip]) -> ClipTable:
    """The clips, and the changed copies of training clips that the system learns from."""
    detector, clips = make_detector(config), ClipTable.of(clips)
    training = clips.groups("machine", rows=clips.where(split="train")).values()
    copies = [detector.perturbed(clips[rows], config.seeds) for rows in training]
    return ClipTable.concatenate([clips, *filter(len, copies)])


def groups_of(config: Config, clips: Sequence[Clip]) -> dict[tuple[str, str], np.ndarray]:
    """Machine and section of each kind of model → indices of its own training clips."""
    clips = ClipTable.of(clips)
    training = clips.where(split="train")
    if make_detector(config).scope == "section":
        return dict(sorted(clips.groups("machine", "section", rows=training).items()))
    of_machines = clips.groups("machine", rows=training)
    return {(machine, ""): rows for (machine,), rows in sorted(of_machines.items())}


def sections_of(clips: Sequence[Clip]) -> dict[str, tuple[str, ...]]:
    """Each machine's sections that have training clips, ascending."""
    clips = ClipTable.of(clips)
    found: dict[str, set[str]] = {}
    for machine, section in clips.groups("machine", "section", rows=clips.where(split="train")):
        found.setdefault(machine, set()).add(section)
    return {machine: tuple(sorted(sections)) for machine, sections in found.items()}
