"""Both sets of a year in one run: a run directory and a table each."""

import dataclasses
import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from asd_jax.config import Config, MembersConfig
from asd_jax.data import layouts
from asd_jax.data.layouts import DataSource, listed_clips
from asd_jax.errors import UserError
from asd_jax.evaluation.standing import SETS
from asd_jax.runs.directory import SETS_FILE, RunDirectory
from asd_jax.runs.outcome import RunResult
from asd_jax.runtime import distributed
from asd_jax.runtime.files import atomic_write
from asd_jax.runtime.progress import Reporter

BOTH = "both"

_AnyConfig = Config | MembersConfig


def configs_of(config: _AnyConfig, data_dir: DataSource) -> dict[str, _AnyConfig]:
    """The configuration of each set's run.

    Args:
        config: of both sets; machines that it names may be in one of them.
        data_dir: of the recordings.

    Raises:
        UserError: there is one set alone, or a machine in neither.
    """
    clips = listed_clips(layouts.scan(data_dir, config.data.year or None), data_dir)
    found = clips.distinct("subset")
    if missing := [subset for subset in SETS if subset not in found]:
        raise UserError(
            f"data.subset is {BOTH}, and {data_dir} has no {SETS[missing[0]]}; leave it out, or "
            "give the folder that has dev_data and eval_data"
        )
    unknown = set(config.data.machines) - set(clips.distinct("machine"))
    configs = {}
    for subset in SETS:
        # Machines that no set has stay, for the error that says which there are.
        there = {*clips[clips.where(subset=subset)].distinct("machine"), *unknown}
        machines = tuple(machine for machine in config.data.machines if machine in there)
        if machines or not config.data.machines:
            own: dict[str, Any] = {"subset": subset, "machines": machines}
            data = dataclasses.replace(config.data, **own)
            configs[subset] = dataclasses.replace(config, data=data)
    return configs


def run_both(
    run: Callable[..., RunResult],
    check: Callable[..., None],
    config: _AnyConfig,
    data_dir: DataSource,
    out_dir: os.PathLike | str,
    reporter: Reporter,
    *,
    ground_truth: os.PathLike | str | None = None,
    members_dir: os.PathLike | str | None = None,
    on_bad_clip: str = "stop",
    **options: Any,
) -> RunResult:
    """Runs both sets, one after another, into folders of `out_dir`.

    Arguments are those of `run`, and `check`, which raises what is wrong with a set before the
    first one starts.
    """
    root, configs = Path(out_dir), configs_of(config, data_dir)
    _check_free(root)
    for subset, own in configs.items():
        check(own, data_dir, ground_truth=_of(subset, ground_truth), on_bad_clip=on_bad_clip)
    if distributed.is_primary():
        with atomic_write(root / SETS_FILE) as file:
            file.write(json.dumps({"sets": [*configs]}) + "\n")
    tables, paths = [], []
    for subset, own in configs.items():
        reporter.line(f"{SETS[subset]}, in {root / subset}")
        result = run(
            own,
            data_dir,
            root / subset,
            ground_truth=_of(subset, ground_truth),
            members_dir=None if members_dir is None else Path(members_dir) / subset,
            on_bad_clip=on_bad_clip,
            reporter=reporter,
            **options,
        )
        tables.append(f"{SETS[subset]}\n\n{result.table}" if result.table else "")
        paths.append(root / subset)
    return RunResult(root, "\n\n".join(filter(None, tables)), tuple(paths))


def both_plans(
    dry_run: Callable[..., str],
    config: _AnyConfig,
    data_dir: DataSource,
    *,
    ground_truth: os.PathLike | str | None = None,
    on_bad_clip: str = "stop",
) -> str:
    """What the runs of both sets take; arguments as of `dry_run`."""
    plans = {
        subset: dry_run(
            own, data_dir, ground_truth=_of(subset, ground_truth), on_bad_clip=on_bad_clip
        )
        for subset, own in configs_of(config, data_dir).items()
    }
    return "\n\n".join(f"{SETS[subset]}\n{plan}" for subset, plan in plans.items())


def _of(subset: str, ground_truth: os.PathLike | str | None) -> os.PathLike | str | None:
    """The ground truth of a set: labels of the development set are in its names."""
    return ground_truth if subset == "eval" else None


def _check_free(root: Path) -> None:
    """Raises UserError where a folder has something else than runs of both sets."""
    if RunDirectory(root).config.exists():
        raise UserError(
            f"{root} holds a run of one set; choose another --out_dir for those of both"
        )
    if (root / SETS_FILE).is_file() or not root.is_dir():
        return
    others = sorted(entry.name for entry in root.iterdir() if not entry.name.startswith("."))
    if others:
        raise UserError(f"{root} holds other files ({others[0]}); choose another --out_dir")


def sets_in(path: os.PathLike | str) -> tuple[str, ...]:
    """The sets that a folder has runs of; empty for a run directory, or another folder.

    Raises:
        UserError: the list of them is damaged.
    """
    file = Path(path) / SETS_FILE
    if not file.is_file():
        return ()
    try:
        return tuple(subset for subset in json.loads(file.read_text())["sets"] if subset in SETS)
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{file} is damaged: {error}; the command of the run writes it") from error


def by_set(paths: Sequence[str]) -> dict[str, list[str]]:
    """Run directories that a report compares, in place of folders that have both sets.

    Args:
        paths: run directories, and folders with those of both sets.

    Returns:
        Of such folders alone, a list for each set by its name; else one list of all, by "".
    """
    sets = {path: sets_in(path) for path in paths}
    if not all(sets.values()):
        return {"": [own for path in paths for own in _within(path, sets[path])]}
    found = dict.fromkeys(subset for own in sets.values() for subset in own)
    return {
        SETS[subset]: [os.path.join(path, subset) for path in paths if subset in sets[path]]
        for subset in found
    }


def _within(path: str, sets: Sequence[str]) -> list[str]:
    return [os.path.join(path, subset) for subset in sets] or [path]


def with_hidden_labels(path: str) -> str:
    """The run directory that a ground truth is for: of a folder with both sets, the second's."""
    return os.path.join(path, "eval") if "eval" in sets_in(path) else path
