"""Loads the fitted system of a run directory, whatever it is made of."""

import os
from pathlib import Path

from asd_jax.fitting.detector import FittedDetector
from asd_jax.fitting.ensemble import FittedChoice, FittedEnsemble
from asd_jax.runs.directory import RunDirectory, read_config
from asd_jax.runs.ensemble import load_members
from asd_jax.runs.versions import model_of
from asd_jax.runtime.arguments import check_path


def load(path: os.PathLike | str) -> FittedDetector | FittedEnsemble | FittedChoice:
    """Loads the fitted system of a run directory, or of an .npz that `FittedDetector.save` wrote.

    Raises:
        UserError: no run directory, or training has not finished; or no such file.
    """
    check_path("the run directory", path)
    if Path(path).suffix == ".npz" and Path(path).is_file():
        return FittedDetector.load(path)
    run_dir = RunDirectory(path)
    read_config(run_dir.config)
    if run_dir.ensemble.is_file():
        return load_members(run_dir.ensemble, load)
    return FittedDetector.load(model_of(run_dir))
