"""Fitting a system to normal clips: training, calibration, thresholds.

The command line and the Python interface both end here, so they give the same numbers.
"""

import functools
import reprlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from asd_jax import config as configs
from asd_jax.config import Config
from asd_jax.data.clips import NORMAL, Clip
from asd_jax.detectors import make_detector
from asd_jax.detectors.base import Detector, TrainingClips
from asd_jax.detectors.untrained import GROUP
from asd_jax.errors import UserError
from asd_jax.features.batches import table_clips
from asd_jax.features.checks import check_features
from asd_jax.features.embeddings import embeddings_of
from asd_jax.features.table import ArrayFeatures, Features
from asd_jax.fitting.detector import FittedDetector
from asd_jax.fitting.layout import Layout, lay_out, with_perturbed
from asd_jax.fitting.lengths import FRAMES
from asd_jax.fitting.pooled import pool_clips, pool_program, take
from asd_jax.fitting.scores import score_training, with_thresholds
from asd_jax.runtime import distributed
from asd_jax.runtime.arguments import check, check_machine, check_section, composed
from asd_jax.runtime.files import DAMAGE, atomic_write, read_arrays
from asd_jax.runtime.progress import Reporter, Silent
from asd_jax.training import train


def fit_clips(
    detector: Detector,
    features: Features,
    layout: Layout,
    *,
    reporter: Reporter | None = None,
    kept_dir: Path | None = None,
    **training_options: Any,
) -> FittedDetector:
    """Fits all models of a run to normal clips; `with_thresholds` adds thresholds.

    Args:
        detector: the system, with the run's configuration.
        features: features of the training clips.
        layout: of these clips, from `lay_out`.
        reporter: shows progress; none by default.
        kept_dir: folder that keeps what a model's clips were pooled to, as soon as they all are;
            what is there already is not computed again. For systems without training.
        **training_options: `checkpoints`, `log`, `should_stop` of `training.train`.
    """
    reporter = reporter or Silent()
    models = layout.fleet.models
    weights: Any = {}
    if detector.config.detector.trains:
        weights = train(
            detector.task(layout.n_labels),
            layout.fleet,
            features,
            layout.settings,
            reporter=reporter,
            **training_options,
        )
    calibration = _calibrate(detector, features, layout, weights, reporter, kept_dir)
    if not detector.config.detector.trains:
        rows = [layout.groups[model.machine, model.section] for model in models]
        for line in detector.notes(calibration, [features.clips[each] for each in rows]):
            reporter.line(line)
        n_frames = [features.n_frames[each] for each in rows]
        calibration[FRAMES] = np.array([[each.min(), each.max()] for each in n_frames])
    return FittedDetector(
        detector=detector,
        models=tuple(models),
        weights=weights,
        calibration=calibration,
        thresholds=np.full(len(models), np.nan),
        group_thresholds={},
        sections=layout.sections,
    )


def _calibrate(
    detector: Detector,
    features: Features,
    layout: Layout,
    weights: Any,
    reporter: Reporter,
    kept_dir: Path | None,
) -> dict[str, np.ndarray]:
    """Calibrates each model from its training clips, then all models together.

    Several processes calibrate some of the models each. A model that cannot be calibrated is
    reported and gets NaN.
    """

    trains = detector.config.detector.trains
    # What a system without training keeps of a clip is what it scores it by.
    statistics_of = pool_program(detector, "statistics" if trains else "pool")

    def of_model(indices: np.ndarray, weights: Any) -> TrainingClips:
        """The training clips of a model; its statistics are computed batch by batch."""

        def statistics(chosen: np.ndarray) -> Iterator[Any]:
            clips = table_clips(features, indices[chosen])
            program = functools.partial(statistics_of, weights)
            for _, value in pool_clips(detector, program, clips):
                yield jax.tree.map(lambda leaf: leaf[0], value)

        return TrainingClips([features.clips[i] for i in indices], statistics)

    models = layout.fleet.models
    calibrations: list[dict[str, np.ndarray] | None] = [None] * len(models)
    problem = None
    # Indices (clips,) of each model's training clips.
    own = [layout.groups[model.machine, model.section] for model in models]
    reporter.start("calibrating", len(models))
    for m, (model, indices) in enumerate(zip(models, own, strict=True)):
        if not distributed.is_own(m):
            continue
        try:
            compute = functools.partial(detector.calibrate, of_model(indices, take(weights, m)))
            calibrations[m] = _kept(kept_dir and kept_dir / f"{m}.npz", compute)
        except UserError as error:
            reporter.line(f"{model.name}: {error}; its scores will be NaN")
            problem = error
        reporter.advance(m + 1)
    reporter.stop()
    # From here on every process has the calibrations of all models.
    calibrations = _of_all_processes(calibrations)
    sound = next((each for each in calibrations if each is not None), None)
    if sound is None:
        raise problem or UserError("no model could be calibrated; another process says why")
    # NaN for a model without a calibration makes its scores NaN, and no other model's.
    nothing = {name: np.full_like(leaf, np.nan) for name, leaf in sound.items()}
    filled = [nothing if each is None else each for each in calibrations]
    stacked = {name: _stack(*[each[name] for each in filled]) for name in sound}
    return detector.calibrate_fleet(stacked, own, features.embeddings)


def _kept(path: Path | None, compute: Callable[[], dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """The arrays of a file; without the file, or with a damaged one, they are computed."""
    if path is None:
        return compute()
    try:
        return read_arrays(path)
    except (FileNotFoundError, *DAMAGE):
        arrays: Any = compute()
        with atomic_write(path, "wb") as file:
            np.savez(file, **arrays)
        return arrays


def _of_all_processes(
    calibrations: list[dict[str, np.ndarray] | None],
) -> list[dict[str, np.ndarray] | None]:
    """Gathers a list that each process has filled in part."""
    if not distributed.several():
        return calibrations
    own = {
        f"{m} {name}": np.asarray(value)
        for m, calibration in enumerate(calibrations)
        if calibration is not None
        # The entry without a name marks a calibration that has no arrays.
        for name, value in [("", np.zeros(0)), *calibration.items()]
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
    """Stacks arrays; where their first axes differ, shorter ones are padded with NaN."""
    if len({leaf.shape for leaf in leaves}) == 1:
        return np.stack(leaves)
    stacked = np.full((len(leaves), max(map(len, leaves)), *leaves[0].shape[1:]), np.nan)
    for row, leaf in zip(stacked, leaves, strict=True):
        row[: len(leaf)] = leaf
    return stacked.astype(leaves[0].dtype)


def fit(
    config: Config | str,
    features: Sequence[np.ndarray] | np.ndarray,
    *,
    machine: str = "machine",
    sections: Sequence[str | int] | str | int = "00",
    domains: Sequence[str] | str = "",
    groups: Sequence[str | int] | None = None,
    outliers: Sequence[np.ndarray] = (),
    embeddings: np.ndarray | None = None,
    reporter: Reporter | None = None,
) -> FittedDetector:
    """Fits a system to features in memory.

    Args:
        config: a configuration, or the name of one.
        features: (frames, mels) of each normal clip, of any lengths.
        machine: the machine type's name; the models' random numbers depend on it.
        sections: the section or machine id of each clip, or one for all.
        domains: "source" or "target" of each clip, or one for all; for systems that
            distinguish them.
        groups: what each clip was recorded with, as the recording, session or day; for systems
            without training, whose training scores are by the clips of other groups.
        outliers: (frames, mels) of each clip of another machine; for systems that also learn
            from such clips.
        embeddings: (clips, values) of each clip, by the network that the configuration names.
        reporter: shows progress; none by default.

    Returns:
        The fitted system.

    Raises:
        UserError: features of a wrong shape, with NaN, or with fewer frames than a view; not as
            many sections or domains as clips; a domain of another name; an argument of another
            type; or a system that also learns from changed recordings.
    """
    check_machine(machine)
    machine = composed(machine)
    detector = make_detector(_one_system(config))
    config = detector.config
    features = check_features(_clips(features, "features"), config.front_end.n_mels, detector.views)
    columns = {
        "sections": _column(sections, "sections", len(features)),
        "domains": _column(domains, "domains", len(features)),
    }
    for section in columns["sections"]:
        check_section("a section", section)
    for domain in columns["domains"]:
        if not (isinstance(domain, str) and domain in ("", "source", "target")):
            raise UserError(f'domains: {domain!r} is neither "source" nor "target" (nor "")')
    own = _groups(groups, len(features), detector)
    clips = [
        Clip(
            *(machine, str(section), "train", f"{i:08}", ""),
            domain=domain,
            label=NORMAL,
            attributes=own[i],
        )
        for i, (section, domain) in enumerate(
            zip(columns["sections"], columns["domains"], strict=True)
        )
    ]
    if len(with_perturbed(detector, clips)) > len(clips):
        raise UserError(
            f"{config.name or config.detector.name} also learns from changed recordings, which "
            "features cannot give: use `asd-jax run`, or turn them off in config.detector"
        )
    outliers = _clips(outliers, "outliers")
    if outliers:
        outliers = check_features(outliers, config.front_end.n_mels, detector.views)
    clips += [
        Clip(f"not {machine}", "", "other", f"{i:08}", "", label=NORMAL)
        for i in range(len(outliers))
    ]
    reporter = reporter or Silent()
    table = ArrayFeatures(clips, [*features, *outliers], embeddings)
    table.embeddings = embeddings_of(config, table)
    layout = lay_out(detector, table.clips, table.n_frames)
    learnt = (
        detector.examples(own, table.clips, config.seeds[0])[0] for own in layout.groups.values()
    )
    if outliers and not any((rows >= len(features)).any() for rows in learnt):
        raise UserError(
            f"outliers are given, which {detector.config.detector.name} does not learn from; leave "
            "them out"
        )
    fitted = fit_clips(detector, table, layout, reporter=reporter)
    rows = score_training(fitted, table, layout.groups, reporter)
    return with_thresholds(fitted, rows, reporter)


def _groups(groups: Any, count: int, detector: Detector) -> list[tuple[tuple[str, str], ...]]:
    """`Clip.attributes` of each clip: its group, where one is given."""
    if groups is None:
        return [()] * count
    if detector.config.detector.trains:
        raise UserError(
            f"groups are given, which {detector.config.detector.name} does not use; they are for "
            "systems without training"
        )
    if detector.config.detector.group:
        raise UserError(
            f"groups are given, and detector.group is {detector.config.detector.group!r}; leave "
            "one of them out"
        )
    column = _column(groups, "groups", count)
    for group in column:
        check("a group", group, (str, int, np.integer), "a name or a whole number")
    return [((GROUP, str(group)),) for group in column]


def _one_system(config: Any) -> Config:
    """The configuration of a system, given itself or by its name; UserError for anything else."""
    if isinstance(config, str):
        config = configs.load_config(config)
    check("config", config, (Config, configs.MembersConfig), "a configuration or the name of one")
    if isinstance(config, configs.MembersConfig):
        raise UserError(
            f"{config.name or 'the configuration'} is an ensemble, which combines finished runs; "
            f"fit its members one by one ({', '.join(config.members)}), or use `asd-jax run`"
        )
    return config


def _clips(values: Any, name: str) -> list[np.ndarray]:
    """The clips of an argument; UserError for what holds none."""
    try:
        clips = [] if isinstance(values, str | bytes) else [np.asarray(clip) for clip in values]
        right = not isinstance(values, str | bytes | Mapping)
    except (TypeError, ValueError):  # nothing to iterate over, or a clip of unequal frames
        right = False
    if not right or any(clip.dtype.kind not in "fiu" for clip in clips):
        raise UserError(
            f"{name} is {reprlib.repr(values)}; it must be a list of arrays of numbers, (frames, "
            "mels) of each clip"
        )
    return clips


def _column(values: Any, name: str, count: int) -> list[Any]:
    """A value for each clip, from one for all or one for each."""
    if isinstance(values, str | int | np.integer):
        return [values] * count
    try:
        column = [*values]
    except TypeError:
        raise UserError(f"{name} is {values!r}; it must be one for all clips, or a list") from None
    if len(column) != count:
        raise UserError(f"{count} clips, but {len(column)} {name}")
    return column
