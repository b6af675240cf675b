"""Fitting a system to normal clips: training, calibration, thresholds.

The command line and the Python interface both end here, so they give the same numbers.
"""

import functools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np

from asd_jax.detectors.base import Detector, TrainingClips
from asd_jax.errors import UserError
from asd_jax.features.batches import table_clips
from asd_jax.features.table import Features
from asd_jax.fitting.detector import FittedDetector
from asd_jax.fitting.layout import Layout, labels_of, supplemental_of
from asd_jax.fitting.lengths import FRAMES
from asd_jax.fitting.operating import Operating
from asd_jax.fitting.pooled import pool_clips, pool_program, take
from asd_jax.runtime import distributed
from asd_jax.runtime.files import DAMAGE, atomic_write, read_arrays
from asd_jax.runtime.memory import needed_for
from asd_jax.runtime.progress import Reporter, Silent
from asd_jax.training import train
from asd_jax.training.programs import Programs

_LESS_AT_ONCE = (
    "allow more, lower --config.train.batch_size, or train fewer machines or seeds at once"
)


def fit_clips(
    detector: Detector,
    features: Features,
    layout: Layout,
    *,
    reporter: Reporter | None = None,
    kept_dir: Path | None = None,
    programs: Programs | None = None,
    weights: Any = None,
    operating: Operating | None = None,
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
        programs: of the training, if they are compiled already.
        weights: of the networks, if they are trained already.
        operating: states of the training clips, from `fitted_states`.
        **training_options: `checkpoints`, `log`, `should_stop` of `training.train`.
    """
    reporter = reporter or Silent()
    models = layout.models
    if weights is None and not detector.config.detector.trains:
        weights = {}
    if weights is None:
        with needed_for("training", _LESS_AT_ONCE):
            weights = train(
                programs.task if programs else detector.task(layout.n_labels),
                layout.fleet,
                features,
                layout.settings,
                reporter=reporter,
                programs=programs,
                **training_options,
            )
    with needed_for("calibration", "allow more, or fit fewer machines at once"):
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
        operating=operating or Operating(),
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

    def of_model(indices: np.ndarray, network: int) -> TrainingClips:
        """The training clips of a model; its statistics are computed batch by batch."""

        def statistics(chosen: np.ndarray) -> Iterator[Any]:
            clips = table_clips(features, indices[chosen])
            program = functools.partial(statistics_of, take(weights, network))
            for _, value in pool_clips(detector, program, clips):
                yield jax.tree.map(lambda leaf: leaf[0], value)

        labels = labels_of(layout, network)[indices]
        return TrainingClips([features.clips[i] for i in indices], statistics, labels=labels)

    models = layout.models
    # Row of each model's network; a joint one serves all machines.
    rows = {model.seed: n for n, model in enumerate(layout.fleet.models)}
    networks = [rows[each.seed] if detector.joint else m for m, each in enumerate(models)]
    calibrations: list[dict[str, np.ndarray] | None] = [None] * len(models)
    problem = None
    # Indices (clips,) of each model's training clips.
    places = [(model.machine, model.section) for model in models]
    own = [layout.groups[place] for place in places]
    also = [supplemental_of(detector, features.clips, place) for place in places]
    reporter.start("calibrating", len(models))
    for m, (model, indices) in enumerate(zip(models, own, strict=True)):
        if not distributed.is_own(m):
            continue
        try:
            learned = of_model(np.append(indices, also[m]), networks[m])
            compute = functools.partial(detector.calibrate, learned)
            calibrations[m] = _kept(kept_dir and kept_dir / f"{m}.npz", compute)
        except UserError as error:
            if error.exit_status != 2:  # the disk, not the clips
                raise
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
    stacked = {name: stack(*[each[name] for each in filled]) for name in sound}
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


def stack(*leaves: np.ndarray) -> np.ndarray:
    """Stacks arrays; where their first axes differ, shorter ones are padded with NaN."""
    if len({leaf.shape for leaf in leaves}) == 1:
        return np.stack(leaves)
    stacked = np.full((len(leaves), max(map(len, leaves)), *leaves[0].shape[1:]), np.nan)
    for row, leaf in zip(stacked, leaves, strict=True):
        row[: len(leaf)] = leaf
    return stacked.astype(leaves[0].dtype)
