"""Versions of a run's fitted system: one of the run itself, and one of each adaptation.

    RUN/versions/current.json    the version that the run has, and whether its files are in place
    RUN/versions/0/              files of the run as it was: model, training scores, results
    RUN/versions/1/              those of the first adaptation, and why.json

A version's folder is complete before it has its name. Then `current.json` names it, which is the
moment at which the run has it; then its files are put in their places. Whoever finds that this was
interrupted completes it, and `model_of` reads the right model at any time.
"""

import contextlib
import json
import os
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from asd_jax.errors import UserError
from asd_jax.runs.directory import RunDirectory
from asd_jax.runtime.files import atomic_write, disk_errors

_CURRENT, _WHY = "current.json", "why.json"


class Version(NamedTuple):
    """A version that a run has.

    Attributes:
        number: 0 of the run itself.
        why: what `keep` was given; empty of the run itself.
        is_current: whether it is the one that the run has.
    """

    number: int
    why: Mapping[str, Any]
    is_current: bool


def folder_of(run_dir: RunDirectory, number: int | str) -> Path:
    """The folder of a version."""
    return run_dir.path / "versions" / str(number)


def current_version(run_dir: RunDirectory) -> int:
    """The version that a run has; 0 of one that was never adapted."""
    return int(_current(run_dir)["version"])


def versions(run_dir: RunDirectory) -> list[Version]:
    """The versions that can be had, ascending; none of a run that was never adapted."""
    current = current_version(run_dir)
    numbers = []
    if (run_dir.path / "versions").is_dir():
        names = [entry.name for entry in (run_dir.path / "versions").iterdir()]
        numbers = sorted(int(name) for name in names if name.isdecimal())
    return [Version(n, _why(run_dir, n), n == current) for n in numbers]


def model_of(run_dir: RunDirectory) -> Path:
    """The model of the version that a run has, also while it is being put in its place."""
    current = _current(run_dir)
    if current["in_place"]:
        return run_dir.model
    return folder_of(run_dir, current["version"]) / run_dir.model.name


def settle(run_dir: RunDirectory) -> None:
    """Puts the files of the run's version in their places, where that was interrupted.

    Files of an adapted run that are lost are taken from its version again. The caller has locked
    the run.
    """
    if not (run_dir.path / "versions" / _CURRENT).is_file():
        return
    current = _current(run_dir)
    number = int(current["version"])
    if not current["in_place"]:
        _install(run_dir, number)
    elif number:
        for path in (run_dir.model, run_dir.training_csv):
            if not path.is_file():
                _copy(folder_of(run_dir, number) / path.name, path)


def is_settled(run_dir: RunDirectory) -> bool:
    """Whether all files of a run are of the version that it has."""
    return bool(_current(run_dir)["in_place"])


def keep(run_dir: RunDirectory, files: Mapping[str, Path], why: Mapping[str, Any]) -> int:
    """Gives a run a new version; the one that it has can be had back.

    Results, which are of the version before, leave the run with it.

    Args:
        run_dir: the run, locked by the caller and settled.
        files: name in the run → the new file, which is moved.
        why: what is to be known of it, of JSON's types.

    Returns:
        Its number.
    """
    before = current_version(run_dir)
    with disk_errors(folder_of(run_dir, before)):
        _remember(run_dir, before)
    number = max(version.number for version in versions(run_dir)) + 1
    with disk_errors(folder_of(run_dir, number)), _complete(run_dir, number) as folder:
        for name, file in files.items():
            os.replace(file, folder / name)
        # What the new version shares with the one before, as the description of its data.
        for path in _state(run_dir):
            if path.name not in files:
                _copy(path, folder / path.name)
        with atomic_write(folder / _WHY) as text:
            json.dump({**why, "from": before}, text, indent=2)
            text.write("\n")
    _put_in_place(run_dir, number)
    return number


def switch(run_dir: RunDirectory, number: int) -> None:
    """Gives a run one of its versions, with the results that it had.

    Args:
        run_dir: the run, locked by the caller and settled.
        number: of the version.
    """
    before = current_version(run_dir)
    with disk_errors(folder_of(run_dir, before)):
        _remember(run_dir, before)
    _put_in_place(run_dir, number)


def version_before(run_dir: RunDirectory) -> int:
    """The version that the run's was adapted from; UserError where it is the first one."""
    number = current_version(run_dir)
    if not number:
        raise UserError(f"{run_dir.path} is as it was fitted; there is nothing to roll back")
    return int(_why(run_dir, number).get("from", 0))


def adapted_since(ensemble: Path) -> list[str]:
    """Members of an ensemble that have other versions than when it was combined.

    Args:
        ensemble: its `ensemble.json`; none are said of a damaged or missing one.
    """
    try:
        meta = json.loads(ensemble.read_text(encoding="utf-8"))
        places = dict(zip(meta["members"], meta["paths"], strict=True))
        known = meta.get("versions") or [0] * len(places)
        return [
            name
            for (name, place), number in zip(places.items(), known, strict=True)
            if current_version(RunDirectory(os.path.normpath(ensemble.parent / place))) != number
        ]
    except (OSError, ValueError, KeyError, TypeError):
        return []


def _put_in_place(run_dir: RunDirectory, number: int) -> None:
    _set_current(run_dir, number, in_place=False)
    _install(run_dir, number)


def _current(run_dir: RunDirectory) -> dict[str, Any]:
    path = run_dir.path / "versions" / _CURRENT
    try:
        current = json.loads(path.read_text(encoding="utf-8"))
        return {"version": int(current["version"]), "in_place": bool(current["in_place"])}
    except FileNotFoundError:
        return {"version": 0, "in_place": True}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(
            f'{path} is damaged ({error}); write {{"version": 0, "in_place": false}} into it for '
            "the system as it was fitted, or the number of another folder beside it"
        ) from error


def _set_current(run_dir: RunDirectory, number: int, *, in_place: bool) -> None:
    with atomic_write(run_dir.path / "versions" / _CURRENT) as file:
        json.dump({"version": number, "in_place": in_place}, file)
        file.write("\n")


def _why(run_dir: RunDirectory, number: int) -> dict[str, Any]:
    try:
        return dict(json.loads((folder_of(run_dir, number) / _WHY).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return {}


def _state(run_dir: RunDirectory) -> Sequence[Path]:
    """What every version has."""
    return run_dir.model, run_dir.training_csv, run_dir.data


def _remember(run_dir: RunDirectory, number: int) -> None:
    """Keeps the files of the run as those of a version; results, as it has them now."""
    folder = folder_of(run_dir, number)
    if not folder.is_dir():
        with _complete(run_dir, number) as made:
            for path in _state(run_dir):
                _copy(path, made / path.name)
    for path in run_dir.results:
        _copy(path, folder / path.name)
    if not (run_dir.path / "versions" / _CURRENT).is_file():
        _set_current(run_dir, number, in_place=True)


@contextlib.contextmanager
def _complete(run_dir: RunDirectory, number: int) -> Any:
    """A folder to fill, which becomes that of a version once it is complete."""
    root = run_dir.path / "versions"
    root.mkdir(exist_ok=True)
    for left in root.glob(".new-*"):  # of a process that was killed
        shutil.rmtree(left, ignore_errors=True)
    made = Path(tempfile.mkdtemp(prefix=".new-", dir=root))
    try:
        yield made
        made.chmod(0o755)
        os.replace(made, folder_of(run_dir, number))
    except BaseException:
        shutil.rmtree(made, ignore_errors=True)
        raise


def _install(run_dir: RunDirectory, number: int) -> None:
    """Puts a version's files in their places; results of another version are removed first."""
    folder = folder_of(run_dir, number)
    if not (folder / run_dir.model.name).is_file():
        raise UserError(f"{folder} has no {run_dir.model.name}; the version cannot be had")
    with disk_errors(run_dir.path):
        for path in run_dir.results:  # first what marks the run as finished
            _remove(path)
        for path in (*_state(run_dir), *reversed(run_dir.results)):
            _copy(folder / path.name, path)
    _set_current(run_dir, number, in_place=True)


def _copy(source: Path, target: Path) -> None:
    """Makes a file or folder a copy of another one, a file whole or not at all; or removes it."""
    if source.is_dir():
        _remove(target)
        for folder, _, names in os.walk(source):
            place = target / os.path.relpath(folder, source)
            place.mkdir(parents=True, exist_ok=True)
            for name in names:
                shutil.copyfile(Path(folder, name), place / name)
    elif source.is_file():
        with atomic_write(target, "wb") as file, open(source, "rb") as original:
            shutil.copyfileobj(original, file)
    else:
        _remove(target)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
