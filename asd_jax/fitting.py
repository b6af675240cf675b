"""Fitting a system to normal clips: training, calibration, thresholds.

The command line and the Python interface both end here, so they give the same numbers.
"""

import dataclasses
import functools
import itertools
from collections.abc import Sequence
from typing import NamedTuple

import jax
import numpy as np

from asd_jax import config as configs
from asd_jax import distributed
from asd_jax.audio import count_views
from asd_jax.clip_features import (
    BATCH_CLIPS,
    ArrayFeatures,
    Features,
    check_features,
    clip_batches,
    embedding_batch,
    embeddings_of,
)
from asd_jax.compilation import compiler_options
from asd_jax.config import Config, TrainConfig
from asd_jax.data.clips import NORMAL, Clip
from asd_jax.detectors import make_detector
from asd_jax.errors import UserError
from asd_jax.fitted import FittedDetector, group_name, take
from asd_jax.progress import Reporter, Silent
from asd_jax.results import TrainingRow
from asd_jax.scoring.threshold import Threshold, gamma_threshold, mean_threshold
from asd_jax.training import FleetClips, Member, check_fit, fleet_clips, train


def fit_clips(
    config: Config,
    features: Features,
    *,
    reporter: Reporter | None = None,
    **training_options,
) -> FittedDetector:
    """Fits all models of a run to normal clips; thresholds are left to `with_thresholds`.

    Args:
        config: the run's configuration.
        features: features of the training clips.
        reporter: tells people how far it is.
        **training_options: `checkpoints`, `log`, `should_stop` of `training.train`.
    """
    reporter = reporter or Silent()
    detector = make_detector(config)
    clips, groups, settings, n_labels = lay_out(config, features.clips, features.n_frames)
    members = clips.members
    weights = train(
        detector.task(n_labels), clips, features, settings, reporter=reporter, **training_options
    )
    calibration = _calibrate(detector, features, groups, members, weights, reporter)
    return FittedDetector(
        config=config,
        members=tuple(members),
        weights=weights,
        calibration=calibration,
        thresholds=np.full(len(members), np.nan),
        group_thresholds={},
        sections=_sections(features.clips),
    )


def check_devices(config: Config, features: Features) -> None:
    """Raises UserError where the training settings do not fit the devices and these clips."""
    layout = lay_out(config, features.clips, features.n_frames)
    kind = make_detector(config).task().kind
    check_fit(layout.fleet, layout.settings, config.front_end.n_mels, kind)


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
    groups = _groups(config, clips)
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


def check_clips(config: Config, clips: Sequence[Clip]) -> None:
    """Raises UserError where the system cannot learn from these clips, whatever is in them."""
    detector = make_detector(config)
    for own in _groups(config, clips).values():
        detector.examples(own, clips, config.seeds[0])


def _groups(config: Config, clips: Sequence[Clip]) -> dict[tuple[str, str], np.ndarray]:
    """Machine and section of each kind of model → indices of its own training clips."""
    scope = make_detector(config).scope
    found: dict[tuple[str, str], list[int]] = {}
    for index, clip in enumerate(clips):
        if clip.split == "train":
            section = clip.section if scope == "section" else ""
            found.setdefault((clip.machine, section), []).append(index)
    return {group: np.array(indices) for group, indices in sorted(found.items())}


def with_perturbed(config: Config, clips: Sequence[Clip]) -> list[Clip]:
    """The clips, and the changed copies of training clips that the system learns from."""
    detector = make_detector(config)
    training: dict[str, list[Clip]] = {}
    for clip in clips:
        if clip.split == "train":
            training.setdefault(clip.machine, []).append(clip)
    copies = (detector.perturbed(found, config.seeds) for found in training.values())
    return [*clips, *itertools.chain.from_iterable(copies)]


def _sections(clips: Sequence[Clip]) -> dict[str, tuple[str, ...]]:
    """Each machine's sections that have training clips, ascending."""
    found: dict[str, set[str]] = {}
    for clip in clips:
        if clip.split == "train":
            found.setdefault(clip.machine, set()).add(clip.section)
    return {machine: tuple(sorted(sections)) for machine, sections in found.items()}


def _calibrate(detector, features, groups, members, weights, reporter) -> dict[str, np.ndarray]:
    """Each member's calibration from its training clips, and what becomes of them together."""

    @functools.partial(jax.jit, compiler_options=compiler_options(detector.task().kind))
    def statistics(weights, batch, n_frames, embeddings):
        if embeddings is None:
            return jax.vmap(detector.statistics, in_axes=(None, 0, 0))(weights, batch, n_frames)
        of_clips = jax.vmap(detector.statistics, in_axes=(None, 0, 0, 0))
        return of_clips(weights, batch, n_frames, embeddings)

    def clips(indices, member_weights):
        for first, batch, n_frames in clip_batches(features, indices, detector.view_length):
            chosen = indices[first : first + BATCH_CLIPS]
            embeddings = embedding_batch(features, chosen)
            found = statistics(member_weights, batch, n_frames, embeddings)
            found = jax.tree.map(np.asarray, found)
            for i, index in enumerate(chosen):
                yield features.clips[index], jax.tree.map(lambda leaf, i=i: leaf[i], found)

    calibrations: list[dict[str, np.ndarray] | None] = [None] * len(members)
    problem = None
    used = {group: detector.calibrated_on(own) for group, own in groups.items()}
    of_members = [used[member.machine, member.section] for member in members]
    reporter.start("calibrating", len(members))
    for m, (member, indices) in enumerate(zip(members, of_members, strict=True)):
        if not distributed.is_own(m):
            continue
        try:
            calibrations[m] = detector.calibrate(clips(indices, take(weights, m)))
        except UserError as error:
            reporter.line(f"{member.name}: {error}; its scores are not numbers")
            problem = error
        reporter.advance(m + 1)
    reporter.stop()
    calibrations = _of_all_processes(calibrations)
    sound = next((each for each in calibrations if each is not None), None)
    if sound is None:
        raise problem or UserError("no model could be calibrated; another process says why")
    nothing = {name: np.full_like(leaf, np.nan) for name, leaf in sound.items()}
    filled = [nothing if each is None else each for each in calibrations]
    stacked = {name: _stack(*[each[name] for each in filled]) for name in sound}
    return detector.calibrate_fleet(stacked, of_members, features.embeddings)


def _of_all_processes(calibrations: list[dict[str, np.ndarray] | None]) -> list:
    """A list of which each process has made some of the places, made whole."""
    if not distributed.several():
        return calibrations
    own = {
        f"{m} {name}": np.asarray(value)
        for m, found in enumerate(calibrations)
        if found is not None
        for name, value in [("", np.zeros(0)), *found.items()]
    }
    whole: list[dict[str, np.ndarray] | None] = [None] * len(calibrations)
    for part in map(
        distributed.load_arrays, distributed.gather_bytes(distributed.save_arrays(**own))
    ):
        for place, value in part.items():
            m, name = place.split(" ", 1)
            whole[int(m)] = (whole[int(m)] or {}) | ({name: value} if name else {})
    return whole


def _stack(*leaves: np.ndarray) -> np.ndarray:
    """Stacked arrays; where their first axes differ, the shorter ones end in NaN."""
    if len({leaf.shape for leaf in leaves}) == 1:
        return np.stack(leaves)
    stacked = np.full((len(leaves), max(map(len, leaves)), *leaves[0].shape[1:]), np.nan)
    for row, leaf in zip(stacked, leaves, strict=True):
        row[: len(leaf)] = leaf
    return stacked.astype(leaves[0].dtype)


def score_training(
    fitted: FittedDetector, features: Features, reporter: Reporter
) -> list[TrainingRow]:
    """Scores of the training clips, by the models that serve them.

    Args:
        fitted: a fitted system, with or without thresholds.
        features: of its training clips; others in the table are left out.
        reporter: tells people how far it is.

    Raises:
        UserError: there are no training clips of any of its models.
    """
    rows = []
    found = _groups(fitted.config, features.clips)
    groups = {group: own for group, own in found.items() if _members_of(fitted, group)}
    if not groups:  # of an imported model
        raise UserError(
            f"the model is of {', '.join(fitted.machines)}, the training clips are of "
            f"{', '.join(dict.fromkeys(machine for machine, _ in found))}; import it for that "
            "machine into another --out_dir"
        )
    reporter.start("scoring training clips", len(groups))
    for done, (group, indices) in enumerate(groups.items(), 1):
        chosen = _members_of(fitted, group)
        scores = fitted.member_scores(chosen, features, indices, trained_on=True)
        for seed, row in zip(fitted.config.seeds, scores, strict=True):
            for index, score in zip(indices, row, strict=True):
                clip = features.clips[index]
                rows.append(
                    TrainingRow(clip.machine, clip.section, clip.domain, seed, clip.name, score)
                )
        reporter.advance(done)
    reporter.stop()
    return rows


def _members_of(fitted: FittedDetector, group: tuple[str, str]) -> list[int]:
    return [
        m for m, member in enumerate(fitted.members) if (member.machine, member.section) == group
    ]


def with_thresholds(
    fitted: FittedDetector, rows: Sequence[TrainingRow], reporter: Reporter
) -> FittedDetector:
    """The fitted system with decision thresholds from the scores of its training clips.

    Args:
        fitted: the system.
        rows: as `score_training` gave them.
        reporter: told where a threshold is not what the configuration asks for.
    """
    of_group: dict[tuple[str, str], list[list[float]]] = {}
    by_section = fitted.detector.scope == "section"
    for row in rows:
        group = row.machine, row.section if by_section else ""
        scores = of_group.setdefault(group, [[] for _ in fitted.config.seeds])
        scores[fitted.config.seeds.index(row.seed)].append(row.score)
    thresholds, group_thresholds = np.full(len(fitted.members), np.nan), {}
    for group, lists in of_group.items():
        scores, chosen = np.array(lists, np.float32), _members_of(fitted, group)
        for m in chosen:
            row = scores[fitted.config.seeds.index(fitted.members[m].seed)]
            thresholds[m], fallback = threshold_of(fitted.config, row)
            if fallback and not fitted.members[m].repeat:
                reporter.line(
                    f"{fitted.members[m].name}: threshold by the scores' own quantile ({fallback})"
                )
        of_mean = threshold_of(fitted.config, scores.mean(axis=0))
        group_thresholds[group_name(fitted.members[chosen[0]])] = of_mean.value
    return dataclasses.replace(fitted, thresholds=thresholds, group_thresholds=group_thresholds)


def threshold_of(config: Config, scores: np.ndarray) -> Threshold:
    """The decision threshold that a configuration asks for, from (clips,) training scores."""
    if config.threshold == "zero" and config.backend.kind == "own":
        return Threshold(0.0)
    if config.threshold == "mean":
        return mean_threshold(scores)
    return gamma_threshold(scores, config.threshold_quantile)


def fit(
    config: Config | str,
    features: Sequence[np.ndarray],
    *,
    machine: str = "machine",
    sections: Sequence[str | int] | str | int = "00",
    domains: Sequence[str] | str = "",
    outliers: Sequence[np.ndarray] = (),
    embeddings: np.ndarray | None = None,
    reporter: Reporter | None = None,
) -> FittedDetector:
    """Fits a system to features of one's own.

    Args:
        config: a configuration, or the name of one.
        features: (frames, mels) of each normal clip, of any lengths.
        machine: the machine type's name; the models' random numbers depend on it.
        sections: the section or machine id of each clip, or one for all.
        domains: "source" or "target" of each clip, or one for all; for systems that tell
            them apart.
        outliers: (frames, mels) of each clip of another machine; for systems that learn from
            such clips too.
        embeddings: (clips, values) of each clip, by the network that the configuration names.
        reporter: shows progress; none by default.

    Returns:
        The fitted system.

    Raises:
        UserError: features of a wrong shape, NaN values, fewer frames than a view has, or
            not as many sections or domains as clips, or a domain of another name; a system
            that learns from changed recordings as well.
    """
    config = configs.load_config(config) if isinstance(config, str) else config
    detector = make_detector(config)
    lengths = detector.view_length, detector.fewest_frames
    features = check_features(features, config, *lengths)
    columns = {}
    for name, values in (("sections", sections), ("domains", domains)):
        one = isinstance(values, str | int)
        columns[name] = [values] * len(features) if one else list(values)
        if len(columns[name]) != len(features):
            raise UserError(f"{len(features)} clips, but {len(columns[name])} {name}")
    for wrong in set(columns["domains"]) - {"", "source", "target"}:
        raise UserError(f'domains: {wrong!r} is neither "source" nor "target" (nor "")')
    clips = [
        Clip(machine, str(section), "train", f"{i:08}", "", domain=domain, label=NORMAL)
        for i, (section, domain) in enumerate(
            zip(columns["sections"], columns["domains"], strict=True)
        )
    ]
    if len(with_perturbed(config, clips)) > len(clips):
        raise UserError(
            f"{config.name or config.detector.name} also learns from changed recordings, which "
            "features cannot give: use `asd-jax run`, or turn them off in config.detector"
        )
    if len(outliers):
        outliers = check_features(outliers, config, *lengths)
    clips += [
        Clip(f"not {machine}", "", "other", f"{i:08}", "", label=NORMAL)
        for i in range(len(outliers))
    ]
    reporter = reporter or Silent()
    table = ArrayFeatures(clips, [*features, *outliers], embeddings)
    table.embeddings = embeddings_of(config, table)
    fitted = fit_clips(config, table, reporter=reporter)
    return with_thresholds(fitted, score_training(fitted, table, reporter), reporter)
