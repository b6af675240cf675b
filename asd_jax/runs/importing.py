"""Imports models that other programs trained, as run directories."""

import dataclasses
import hashlib
import os

import jax
import numpy as np

from asd_jax import config as configs
from asd_jax.config import Config, MembersConfig
from asd_jax.detectors.dense_ae import DenseAutoencoderDetector
from asd_jax.errors import UserError
from asd_jax.fitting.detector import FittedDetector
from asd_jax.fitting.layout import group_name
from asd_jax.fitting.thresholds import threshold_of
from asd_jax.models.pretrained.keras_autoencoder import load_keras_autoencoder
from asd_jax.runs.directory import RunDirectory
from asd_jax.runtime.arguments import composed
from asd_jax.runtime.files import atomic_write
from asd_jax.training import FleetModel

_SYSTEM = "dense_ae"


def import_keras(
    config: Config | MembersConfig, path: os.PathLike | str, *, machine: str = "machine"
) -> FittedDetector:
    """Loads the weights of a Keras model into a fitted system, whose scores are the same.

    Without training clips, its thresholds are NaN unless the configuration asks for zero.

    Args:
        config: of `dense_ae`, with the network of the file; only its first seed is kept.
        path: a model saved by Keras as .h5, or its weights.
        machine: machine type of its recordings.

    Raises:
        UserError: another system, a score that needs training clips, or a file that cannot be
            read or does not fit.
    """
    if not isinstance(config, Config) or config.detector.name != _SYSTEM:
        system = config.detector.name if isinstance(config, Config) else "an ensemble"
        raise UserError(f"--config is of {system}; models of Keras can be imported for {_SYSTEM}")
    if config.detector.score != "mse":
        raise UserError(
            f"detector.score is {config.detector.score}, which training clips are needed for; "
            "import with --config.detector.score=mse"
        )
    config = dataclasses.replace(config, seeds=config.seeds[:1])
    detector = DenseAutoencoderDetector(config)
    n_values = detector.views.length * config.front_end.n_mels
    variables = load_keras_autoencoder(path, detector.module, n_values)
    machine = composed(machine)
    model = FleetModel(machine, "", config.seeds[0])
    threshold = threshold_of(config, np.zeros(0)).value
    return FittedDetector(
        detector=detector,
        models=(model,),
        weights=jax.tree.map(lambda leaf: leaf[None], variables),
        calibration={},
        thresholds=np.array([threshold]),
        group_thresholds={group_name(model): threshold},
        sections={machine: ()},
    )


def import_run(
    config: Config | MembersConfig,
    path: os.PathLike | str,
    out_dir: os.PathLike | str,
    *,
    machine: str = "machine",
) -> FittedDetector:
    """Makes a run directory of a Keras model; arguments and errors as those of `import_keras`.

    `asd_jax.load` and `score_files` read it at once; `run` on it computes the threshold from
    training clips and evaluates. The log names the file of the model.

    Args:
        config: as there.
        path: as there.
        out_dir: the run directory; a new or an empty folder.
        machine: as there.

    Returns:
        The fitted system.
    """
    fitted = import_keras(config, path, machine=machine)
    with open(path, "rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    run_dir = RunDirectory(out_dir)
    with run_dir.lock():
        if run_dir.config.is_file():
            raise UserError(f"{run_dir.path} holds a run already; choose another --out_dir")
        run_dir.check(fitted.config)
        run_dir.write_environment()
        log = run_dir.open_log(keep_epochs=0)
        log({"imported": os.path.abspath(path), "sha256": digest})
        log.close()
        fitted.save(run_dir.model)
        # Last: a folder with a configuration and no model is one in which `run` would train.
        with atomic_write(run_dir.config) as file:
            file.write(configs.to_json(fitted.config))
    return fitted
