"""The table of a sweep: a line for each variant, and no choice among them.

Test labels must not choose a setting. So the lines are in the order of the values, none is marked,
and what comes from normal recordings alone, the validation loss, stands beside the results.
"""

import csv
import dataclasses
import json
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from asd_jax.config.variants import written
from asd_jax.errors import UserError
from asd_jax.evaluation.results import read_results_csv
from asd_jax.evaluation.tables import markdown, mean_std, official_values
from asd_jax.runs.both_sets import sets_in
from asd_jax.runs.directory import SWEEP_FILE, RunDirectory, read_config
from asd_jax.runtime.files import atomic_write
from asd_jax.runtime.text_tables import aligned, filled

_FORMAT = 1  # of sweep.json
# Results by their names in `official_values`, and their columns in sweep.csv.
_RESULTS = {"AUC": "auc", "pAUC": "pauc", "official score": "official_score"}
_LOOKING = (
    "For looking: choosing a row by results on labelled test recordings makes its result too "
    "good. `asd-jax select` ranks runs without labels."
)


@dataclasses.dataclass(frozen=True)
class Sweep:
    """What `sweep.json` has.

    Attributes:
        variants: folder → values of the keys that had several, as JSON has them.
        seconds: folder → seconds of its run but for the training, which the log has.
    """

    variants: Mapping[str, Mapping[str, Any]] = dataclasses.field(default_factory=dict)
    seconds: Mapping[str, float] = dataclasses.field(default_factory=dict)

    @classmethod
    def read(cls, root: Path) -> "Sweep":
        """The sweep of a folder; an empty one where there is none."""
        path = root / SWEEP_FILE
        if not path.is_file():
            return cls()
        try:
            stored = json.loads(path.read_text(encoding="utf-8"))
            return cls({k: dict(v) for k, v in stored["variants"].items()}, stored["seconds"])
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise UserError(
                f"{path} is damaged ({error}); remove it and give the sweep's command again with "
                "another --out_dir, or run each variant alone"
            ) from error

    def joined(self, variants: Mapping[str, Mapping[str, Any]]) -> "Sweep":
        """The sweep with further variants."""
        return dataclasses.replace(self, variants={**self.variants, **variants})

    def with_seconds(self, name: str, seconds: float) -> "Sweep":
        """The sweep with more seconds of a variant."""
        added = round(self.seconds.get(name, 0.0) + seconds, 3)
        return dataclasses.replace(self, seconds={**self.seconds, name: added})

    def write(self, root: Path) -> None:
        """Writes `sweep.json`."""
        stored = {"format": _FORMAT, "variants": self.variants, "seconds": self.seconds}
        with atomic_write(root / SWEEP_FILE) as file:
            file.write(json.dumps(stored, indent=2) + "\n")


def is_sweep(path: os.PathLike | str) -> bool:
    """Whether a folder has the runs of several variants."""
    return Path(path, SWEEP_FILE).is_file()


def variant_dirs(path: os.PathLike | str) -> list[str]:
    """The run directories of a sweep's variants, as far as they are finished."""
    root = Path(path)
    dirs = [each for name in Sweep.read(root).variants for each in run_dirs_of(root / name)]
    return [os.fspath(each) for each in dirs if RunDirectory(each).finished]


def run_dirs_of(path: Path) -> tuple[Path, ...]:
    """The run directory of a variant, or those of both sets."""
    return tuple(path / subset for subset in sets_in(path)) or (path,)


def logged_seconds(path: Path) -> float:
    """Seconds of a variant's training, by its log; of a fleet its share."""
    return sum(
        entry.get("seconds", 0.0) / entry.get("variants", 1)
        for run in run_dirs_of(path)
        for entry in log_entries(RunDirectory(run))
    )


def log_entries(run_dir: RunDirectory) -> list[dict[str, Any]]:
    """The epochs of a run's log; lines that were cut off are left out."""
    if not run_dir.log.is_file():
        return []
    entries = []
    for line in run_dir.log.read_text(encoding="utf-8").splitlines():
        try:
            entry = json.loads(line)
        except json.JSONDecodeError:
            continue
        if isinstance(entry, dict) and entry.get("event") == "epoch":
            entries.append(entry)
    return entries


def sweep_table(path: os.PathLike | str, width: int | None = None) -> str:
    """The table of a sweep, with a line for each variant that is finished.

    Args:
        path: its folder.
        width: as in `aligned`.

    Raises:
        UserError: a file of it is damaged.
    """
    header, rows, waiting = _rows(Path(path))
    lines = aligned([header, *rows], width=width, keys=1) if rows else []
    notes = [line for line in _notes(waiting, header) for line in filled(line, width)]
    return "\n".join([*lines, *[""] * bool(lines), *notes])


def write_table(root: Path) -> None:
    """Writes `sweep.md`, and `sweep.csv` with all digits."""
    header, rows, waiting = _rows(root)
    with atomic_write(root / "sweep.md") as file:
        file.write("\n\n".join([markdown([header, *rows]), *_notes(waiting, header)]) + "\n")
    lines = [_record(root, *each) for each in _finished(root)]
    columns = [*dict.fromkeys(name for line in lines for name in line)]
    with atomic_write(root / "sweep.csv") as file:
        writer = csv.DictWriter(file, columns, lineterminator="\n", restval="")
        writer.writeheader()
        writer.writerows(lines)


def _notes(waiting: Sequence[str], header: Sequence[str]) -> list[str]:
    several = "Results in percent, means ± standard deviations over the seeds. "
    loss = "val. loss is the mean over the models, of normal recordings that none learns from. "
    notes = [several + loss * ("val. loss" in header) + _LOOKING]
    if waiting:
        notes.append(f"without {', '.join(waiting)}, which the sweep's command goes on with")
    return notes


def _finished(root: Path) -> list[tuple[str, Path]]:
    """Folder and run directory of each finished run."""
    return [
        (name, run)
        for name in Sweep.read(root).variants
        for run in run_dirs_of(root / name)
        if RunDirectory(run).finished
    ]


def _rows(root: Path) -> tuple[list[str], list[list[str]], list[str]]:
    """Headings, rows, and variants that are not finished."""
    sweep, finished = Sweep.read(root), _finished(root)
    waiting = [name for name in sweep.variants if name not in dict(finished)]
    records = [_record(root, *each) for each in finished]
    settings = _settings(root, finished)
    shown: dict[str, list[str]] = {key: [] for key in settings}
    if any("set" in record for record in records):
        shown["set"] = [str(record.get("set", "")) for record in records]
    for key, values in settings.items():
        shown[key] += map(written, values)
    for name, column in _RESULTS.items():
        if any(f"{column}_mean" in record for record in records):
            shown[name] = [_percent(root, run, name) for _, run in finished]
    losses = [record.get("validation_loss") for record in records]
    if any(loss is not None for loss in losses):
        shown["val. loss"] = ["–" if loss is None else f"{loss:.4g}" for loss in losses]
    shown["seconds"] = [f"{record['seconds']:.1f}" for record in records]
    return [*shown], [list(row) for row in zip(*shown.values(), strict=True)], waiting


def _settings(root: Path, finished: Sequence[tuple[str, Path]]) -> dict[str, list[Any]]:
    """Values of each key that had several in any of the sweep's commands, by the configurations."""
    sweep = Sweep.read(root)
    keys = dict.fromkeys(key for values in sweep.variants.values() for key in values)
    stored = [read_config(run / "config.json") for _, run in finished]
    return {key: [_stored(each, key) for each in stored] for key in keys}


def _stored(config: Any, key: str) -> Any:
    for part in key.split("."):
        config = config.get(part) if isinstance(config, Mapping) else None
    return tuple(config) if isinstance(config, list) else config


def _percent(root: Path, run: Path, name: str) -> str:
    run_dir = RunDirectory(run)
    results = read_results_csv(run_dir.results_csv)
    values = official_values(results, run_dir.read_data()["year"])
    return mean_std(values.get(name, np.array([])))


def _record(root: Path, name: str, run: Path) -> dict[str, Any]:
    """A line of sweep.csv."""
    run_dir = RunDirectory(run)
    record: dict[str, Any] = {"variant": name}
    if run.parent != root:
        record["set"] = run.name
    for key, (value,) in _settings(root, [(name, run)]).items():
        record[key] = written(value)
    results = read_results_csv(run_dir.results_csv)
    for metric, values in official_values(results, run_dir.read_data()["year"]).items():
        if metric in _RESULTS:
            record[f"{_RESULTS[metric]}_mean"] = float(values.mean())
            std = float(values.std(ddof=1)) if len(values) > 1 else ""
            record[f"{_RESULTS[metric]}_std"] = std
    if (loss := _validation_loss(run_dir)) is not None:
        record["validation_loss"] = loss
    trained = sum(e.get("seconds", 0.0) / e.get("variants", 1) for e in log_entries(run_dir))
    rest = Sweep.read(root).seconds.get(name, 0.0) / len(run_dirs_of(root / name))
    record["seconds"] = round(trained + rest, 3)
    return record


def _validation_loss(run_dir: RunDirectory) -> float | None:
    """Of the weights that are kept, the mean over the models; None without validation clips."""
    patience = _stored(read_config(run_dir.config), "train.patience")
    of_models: dict[str, float] = {}
    for entry in log_entries(run_dir):
        for model, loss in entry.get("validation_loss", {}).items():
            best = min(loss, of_models.get(model, math.inf))
            of_models[model] = best if patience else loss
    return float(np.mean([*of_models.values()])) if of_models else None
