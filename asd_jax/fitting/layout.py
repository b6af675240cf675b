"""The layout of a run: its models, the clips that each learns from, and those held out."""

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from asd_jax.config import TrainConfig
from asd_jax.data.clips import HELD_OUT, Clip, ClipTable
from asd_jax.data.groups import hold_out, recording_numbers
from asd_jax.data.supplemental import SPLIT
from asd_jax.detectors import Detector
from asd_jax.detectors.classes import describe_span, find_classes
from asd_jax.errors import UserError
from asd_jax.runtime.cores import Fleet
from asd_jax.training import FleetClips, FleetModel, fleet_clips

_NOTHING_TO_LEARN = "no machine has training clips; a train/ folder of normal clips is needed"
Group = tuple[str, str]  # machine and section; the section is "" where a model serves all of them


def group_name(model: FleetModel) -> str:
    """Name that models share which differ only in their seed: "machine/section"."""
    return f"{model.machine}/{model.section}"


class Layout(NamedTuple):
    """The models of a run, and the clips that each learns from.

    Attributes:
        fleet: the networks to train, each with its clips and labels from `Detector.examples`.
        models: what scores clips: those networks; or, where one is trained for all machines, each
            machine or section with the network of each seed.
        groups: indices (clips,) of the training clips of each machine and section that has
            models of its own.
        held_out: likewise of the clips that none is fitted to.
        sections: each machine's sections that have training clips, ascending.
        settings: the training settings, with a batch no larger than the largest number of views
            of a model.
        n_labels: largest number of labels of a model.
    """

    fleet: FleetClips
    models: Sequence[FleetModel]
    groups: dict[Group, np.ndarray]
    held_out: dict[Group, np.ndarray]
    sections: dict[str, tuple[str, ...]]
    settings: TrainConfig
    n_labels: int


def lay_out(detector: Detector, clips: Sequence[Clip], n_frames: np.ndarray) -> Layout:
    """Lays out the models of a run.

    Args:
        detector: the system, with the run's configuration.
        clips: the table of clips.
        n_frames: (clips,) frames of each.

    Raises:
        UserError: the system cannot learn from these clips.
    """
    config, spec = detector.config, detector.views
    groups = groups_of(detector, clips)
    if not groups:
        raise UserError(_NOTHING_TO_LEARN)
    models = [
        FleetModel(*group, seed, repeat)
        for group in groups
        for seed in config.seeds
        for repeat in range(detector.repeats)
    ]
    networks = [FleetModel("", "", seed) for seed in config.seeds] if detector.joint else models
    learnt = _learnt(detector, groups)
    examples = [
        detector.examples(learnt[network.machine, network.section], clips, network.seed)
        for network in networks
    ]
    n_views = spec.n_views(n_frames)  # (clips,)
    most = max(int(n_views[indices].sum()) for indices, _ in examples)
    size = min(config.train.batch_size, most)
    settings = dataclasses.replace(config.train, batch_size=size)
    n_labels = max(int(labels.max()) + 1 for _, labels in examples)
    fleet = fleet_clips(
        networks,
        examples,
        n_frames,
        view_length=spec.length,
        view_hop=spec.hop,
        crop=spec.crop,
        config=settings,
        validation=detector.validation(clips),
        together=recording_numbers(ClipTable.of(clips)),
    )
    held_out = groups_of(detector, clips, HELD_OUT)
    return Layout(fleet, models, groups, held_out, _sections_of(clips), settings, n_labels)


def with_held_out(detector: Detector, clips: Sequence[Clip]) -> ClipTable:
    """The clips, of which a share of each section's normal ones is held out from training.

    Args:
        detector: the system, with the run's configuration (`train.threshold_split`).
        clips: the clips of the run.
    """
    clips = ClipTable.of(clips)
    if not detector.config.detector.trains:  # its training clips are scored without their groups
        return clips
    own = np.flatnonzero(clips.where(split="train"))
    labels = find_classes(clips[own], detector.by).labels
    mask = np.zeros(len(clips), bool)
    together = ("machine", "section") if detector.scope == "section" else ("machine",)
    share = detector.config.train.threshold_split
    mask[own] = hold_out(clips[own], labels, share, () if detector.joint else together)
    return clips.replace(mask, split=HELD_OUT)


def fleet_of(detector: Detector, clips: Sequence[Clip]) -> Fleet:
    """What is going to be trained, as far as the clips' names say it.

    Args:
        detector: the system, with the run's configuration.
        clips: the table of clips.
    """
    config = detector.config
    if not config.detector.trains:
        return Fleet(detector.kind, 0)
    groups = 1 if detector.joint else len(groups_of(detector, clips))
    models = groups * len(config.seeds) * detector.repeats
    return Fleet(detector.kind, models, config.train.data_devices)


def plan_lines(detector: Detector, clips: Sequence[Clip]) -> list[str]:
    """What a user should know of the training clips before anything is fitted, as lines."""
    return [*detector.plan(clips), *_threshold_lines(detector, clips)]


def _threshold_lines(detector: Detector, clips: Sequence[Clip]) -> list[str]:
    """What thresholds are from, where models are trained."""
    if not detector.config.detector.trains:
        return []
    if not detector.config.train.threshold_split:
        return [
            "thresholds by clips that the models learn from, so more normal clips than intended "
            "are above, and no p-values; --config.train.threshold_split=0.1 holds some out"
        ]
    held_out, lines = groups_of(detector, clips, HELD_OUT), []
    if held_out:
        span = describe_span(np.array([*map(len, held_out.values())]))
        what = "section" if detector.scope == "section" else "machine"
        lines.append(f"thresholds by {span} of each {what}, held out from training")
    trained = groups_of(detector, clips)
    if none := [" ".join(filter(None, group)) for group in trained if group not in held_out]:
        lines.append(
            f"{', '.join(none)}: too few clips to hold one out; thresholds by clips that the "
            "models learn from, so more normal clips than intended are above, and no p-values"
        )
    return lines


def labels_of(layout: Layout, network: int) -> np.ndarray:
    """Labels by which a network learns the clips of the table.

    Args:
        layout: of the run.
        network: its place among `layout.fleet.models`.

    Returns:
        int32 (clips,), −1 for a clip that it is not given.
    """
    labels = np.full(len(layout.fleet.n_frames), -1, np.int32)
    for part in (layout.fleet.training[network], layout.fleet.validation[network]):
        labels[part.clips] = part.labels
    return labels


def check_clips(detector: Detector, clips: Sequence[Clip]) -> None:
    """Raises UserError where the system cannot learn from these clips; reads no recording."""
    groups = groups_of(detector, clips)
    if detector.joint and not groups:
        raise UserError(_NOTHING_TO_LEARN)
    for own in _learnt(detector, groups).values():
        detector.examples(own, clips, detector.config.seeds[0])


def _learnt(detector: Detector, groups: dict[Group, np.ndarray]) -> dict[Group, np.ndarray]:
    """Indices of the training clips of each network, by machine and section."""
    if not detector.joint or not groups:
        return groups
    return {("", ""): np.sort(np.concatenate([*groups.values()]))}


def groups_of(
    detector: Detector, clips: Sequence[Clip], split: str = "train"
) -> dict[Group, np.ndarray]:
    """Indices of the clips of a split of each machine and section that has models of its own."""
    clips = ClipTable.of(clips)
    training = clips.where(split=split)
    if detector.scope == "section":
        return dict(sorted(clips.groups("machine", "section", rows=training).items()))
    of_machines = clips.groups("machine", rows=training)
    return {(machine, ""): rows for (machine,), rows in sorted(of_machines.items())}


def supplemental_of(detector: Detector, clips: Sequence[Clip], group: Group) -> np.ndarray:
    """Indices of the supplemental clips that a system without training fits a model to, too.

    Args:
        detector: the system, with the run's configuration.
        clips: the table of clips.
        group: machine and section of the model.
    """
    if detector.config.detector.trains or not detector.supplemental:
        return np.zeros(0, int)
    machine, section = group
    sections = [section, ""]  # of names that do not say it
    return np.flatnonzero(ClipTable.of(clips).where(split=SPLIT, machine=machine, section=sections))


def with_perturbed(detector: Detector, clips: Sequence[Clip]) -> ClipTable:
    """The clips, followed by the changed copies of training clips that the system learns from."""
    clips = ClipTable.of(clips)
    learned = ["train", "other"] if detector.both_sets else ["train"]
    training = clips.groups("machine", rows=clips.where(split=learned)).values()
    copies = [detector.perturbed(clips[rows], detector.config.seeds) for rows in training]
    return ClipTable.concatenate([clips, *filter(len, copies)])


def _sections_of(clips: Sequence[Clip]) -> dict[str, tuple[str, ...]]:
    clips = ClipTable.of(clips)
    sections: dict[str, set[str]] = {}
    for machine, section in clips.groups("machine", "section", rows=clips.where(split="train")):
        sections.setdefault(machine, set()).add(section)
    return {machine: tuple(sorted(own)) for machine, own in sections.items()}
