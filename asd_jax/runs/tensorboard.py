"""A run's losses, rates and results as TensorBoard's event files, in its folder `tensorboard`."""

import datetime
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from asd_jax.evaluation.results import read_results_csv
from asd_jax.evaluation.tables import official_values, result_lines
from asd_jax.runs.directory import RunDirectory, read_config
from asd_jax.runs.sweep_table import log_entries
from asd_jax.runtime.extras import check_installed, needed
from asd_jax.runtime.files import disk_errors

_FOLDER = "tensorboard"
_WHAT = "--tensorboard"
# Numbers of an entry of the log that are of all models.
_OF_ALL = ("learning_rate", "steps", "steps_per_second", "views_per_second", "seconds")


def check_tensorboard() -> None:
    """Raises UserError where what writes event files is not installed."""
    check_installed("tensorboardX", _WHAT)


class Events:
    """Event files that grow with a training; what was there before is written anew.

    Args:
        run_dir: the run directory, whose log has the epochs before.
    """

    def __init__(self, run_dir: RunDirectory):
        self._writer = _writer(run_dir)
        for entry in log_entries(run_dir):
            self(entry)

    def __call__(self, entry: Mapping[str, Any]) -> None:
        """Adds an entry of the log; those that are of no epoch are left out."""
        if entry.get("event") != "epoch":
            return
        where: dict[str, Any] = {"global_step": entry["epoch"]}
        if "time" in entry:  # logs of earlier versions have none
            where["walltime"] = datetime.datetime.fromisoformat(entry["time"]).timestamp()
        for name in _OF_ALL:
            if name in entry:
                self._add(name, entry[name], **where)
        for name, values in entry.items():
            for model, value in values.items() if isinstance(values, Mapping) else ():
                self._add(f"{name}/{model}", value, **where)
        self._writer.flush()

    def results(self, run_dir: RunDirectory) -> None:
        """Adds the means of the results over the seeds, at the last epoch; nothing without any."""
        if not run_dir.results_csv.is_file():
            return
        rows, year = read_results_csv(run_dir.results_csv), run_dir.read_data()["year"]
        epochs = [entry["epoch"] for entry in log_entries(run_dir)]
        step = max(epochs, default=0)
        for (machine, section, domain), line in result_lines(rows, year).items():
            for metric, values in line.values._asdict().items():
                if not np.isnan(values).any():
                    name = f"{metric}/{machine} {section} {domain}"
                    self._add(name, values.mean(), global_step=step)
        for name, values in official_values(rows, year).items():
            if not np.isnan(values).any():
                self._add(f"official/{name}", values.mean(), global_step=step)

    def _add(self, name: str, value: float, **where: Any) -> None:
        # Names of models have blanks, which names of curves may not have.
        self._writer.add_scalar(re.sub(r"[^\w./-]", "_", name), value, **where)

    def close(self) -> None:
        """Ends the files."""
        self._writer.close()


def write_events(run_dir: RunDirectory) -> Path:
    """Writes the event files of a run, finished or not, in place of those that were there.

    Returns:
        The folder that has them.

    Raises:
        UserError: no run directory; or tensorboardX is not installed.
    """
    read_config(run_dir.config)  # raises UserError for another folder
    check_tensorboard()
    events = Events(run_dir)
    try:
        events.results(run_dir)
    finally:
        events.close()
    return run_dir.path / _FOLDER


def _writer(run_dir: RunDirectory) -> Any:
    folder = run_dir.path / _FOLDER
    with disk_errors(folder):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        return needed("tensorboardX", _WHAT).SummaryWriter(str(folder), max_queue=1000)
