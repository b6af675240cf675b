"""The fitted system of a run: loaded where it is there, or trained from the last checkpoint on."""

import contextlib
import io
import shutil
import signal
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from asd_jax.detectors import Detector
from asd_jax.errors import UserError
from asd_jax.evaluation.results import write_training_csv
from asd_jax.features.table import Features
from asd_jax.fitting.detector import FittedDetector
from asd_jax.fitting.fitting import fit_clips
from asd_jax.fitting.history import with_history
from asd_jax.fitting.kept import with_kept
from asd_jax.fitting.layout import Layout, plan_lines
from asd_jax.fitting.normal import with_normal
from asd_jax.fitting.operating import Operating
from asd_jax.fitting.thresholds import with_training_scores
from asd_jax.runs.directory import RunDirectory
from asd_jax.runs.tensorboard import Events
from asd_jax.runtime import distributed
from asd_jax.runtime.files import disk_errors
from asd_jax.runtime.interruption import stop_signals
from asd_jax.runtime.progress import Reporter
from asd_jax.training import Interrupted
from asd_jax.training.checkpoints import Checkpoints
from asd_jax.training.programs import Programs


def fit_run(
    detector: Detector,
    training: Features,
    layout: Layout,
    run_dir: RunDirectory,
    reporter: Reporter,
    programs: Programs | None = None,
    weights: Any = None,
    tensorboard: bool = False,
    operating: Operating | None = None,
) -> FittedDetector:
    """Loads the fitted detector with its thresholds, or computes the missing parts.

    The first of several processes reads and writes the files, and sends their content to the
    others.

    Args:
        detector: the system, with the run's configuration.
        training: features of the training clips.
        layout: of the training.
        run_dir: the run directory.
        reporter: shows progress.
        programs: of the training, where they are compiled already.
        weights: of the networks, where they are trained already.
        tensorboard: whether its event files grow with the log.
        operating: states of the training clips, from `fitted_states`.
    """
    writes = distributed.is_primary()

    def stored() -> bytes:
        return run_dir.model.read_bytes() if run_dir.model.is_file() else b""

    if data := distributed.from_primary(stored):
        fitted = FittedDetector.load(run_dir.model if writes else io.BytesIO(data))
    else:
        for line in plan_lines(detector, training.clips):
            reporter.line(line)
        if weights is not None:
            fitted = fit_clips(
                detector,
                training,
                layout,
                reporter=reporter,
                weights=weights,
                operating=operating,
            )
            fitted.save(run_dir.model)
        elif detector.config.detector.trains:
            fitted = _train(
                *(detector, training, layout, run_dir, reporter, programs, tensorboard),
                operating=operating,
            )
        else:
            fitted = _fit_untrained(detector, training, layout, run_dir, reporter, operating)
    # A model that was trained anew after its loss, or imported, has no thresholds yet.
    lost = writes and not run_dir.training_csv.is_file()
    if np.isnan(fitted.thresholds).all() or distributed.any_of(lost):
        fitted, rows = with_training_scores(fitted, training, layout, reporter)
        if writes:
            fitted = with_history(with_normal(fitted, training, layout), training, layout)
            fitted = with_kept(fitted, training, layout)
            fitted.save(run_dir.model)
            write_training_csv(run_dir.training_csv, rows)
    return fitted


def _train(
    detector: Detector,
    training: Features,
    layout: Layout,
    run_dir: RunDirectory,
    reporter: Reporter,
    programs: Programs | None,
    tensorboard: bool,
    operating: Operating | None,
) -> FittedDetector:
    """Continues training from the last checkpoint, and saves the model."""
    if not distributed.is_primary():
        with stop_signals() as received, stopped_by(received):
            return fit_clips(
                detector,
                training,
                layout,
                operating=operating,
                should_stop=lambda: bool(received),
            )
    run_dir.write_environment()
    checkpoints = Checkpoints(run_dir.checkpoints)
    log = RunLog(run_dir, checkpoints.latest or 0, tensorboard)
    try:
        with stop_signals() as received, stopped_by(received):
            fitted = fit_clips(
                detector,
                training,
                layout,
                reporter=reporter,
                checkpoints=checkpoints,
                log=log,
                should_stop=lambda: bool(received),
                programs=programs,
                operating=operating,
            )
    finally:
        log.close()
        with contextlib.suppress(UserError):  # the error that ended the training is the one to show
            checkpoints.close()
    fitted.save(run_dir.model)
    if received:  # too late to interrupt the training
        raise UserError(
            f"stopped by {received[0].name} after training, which is saved; the same command "
            "continues from there",
            exit_status=128 + received[0],
        )
    return fitted


class RunLog:
    """The log of a run, which goes on after an epoch, and event files beside it if asked for.

    Args:
        run_dir: the run directory.
        keep_epochs: epochs before.
        tensorboard: whether TensorBoard's event files are written as well.
    """

    def __init__(self, run_dir: RunDirectory, keep_epochs: int, tensorboard: bool):
        self._log = run_dir.open_log(keep_epochs=keep_epochs)
        self._events = Events(run_dir) if tensorboard else None

    def __call__(self, entry: Mapping[str, Any]) -> None:
        """Adds an entry."""
        self._log(entry)
        if self._events:
            self._events(entry)

    def close(self) -> None:
        """Closes the files."""
        self._log.close()
        if self._events:
            self._events.close()


def _fit_untrained(
    detector: Detector,
    training: Features,
    layout: Layout,
    run_dir: RunDirectory,
    reporter: Reporter,
    operating: Operating | None,
) -> FittedDetector:
    """Fits a system that has no network, which takes one pass over the features.

    Vectors of the machines that were gone through are kept until the model is, which has them all.
    """
    if not distributed.is_primary():
        return fit_clips(detector, training, layout, operating=operating)
    run_dir.write_environment()
    with disk_errors(run_dir.vectors):
        run_dir.vectors.mkdir(exist_ok=True)
    fitted = fit_clips(
        detector,
        training,
        layout,
        reporter=reporter,
        kept_dir=run_dir.vectors,
        operating=operating,
    )
    fitted.save(run_dir.model)
    shutil.rmtree(run_dir.vectors, ignore_errors=True)
    return fitted


@contextlib.contextmanager
def stopped_by(received: Sequence[signal.Signals]) -> Iterator[None]:
    """Turns an interruption of training into a line with its epoch and signal."""
    try:
        yield
    except Interrupted as interrupted:
        # A signal to one of several processes stops them all.
        number = received[0] if received else signal.SIGTERM
        of = "" if received else " to another process"
        raise UserError(
            f"stopped by {number.name}{of} after epoch {interrupted.epoch}, which is saved; the "
            "same command continues from there",
            exit_status=128 + number,
        ) from None
