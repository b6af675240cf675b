"""The run directory: its files, lock, log, configuration and environment."""

import contextlib
import fcntl
import importlib.metadata
import json
import os
import platform
import shutil
import subprocess
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax

from asd_jax import config as configs
from asd_jax.config import Config, MembersConfig, plugins
from asd_jax.detectors import config_classes
from asd_jax.errors import UserError
from asd_jax.runs.owner import Owner
from asd_jax.runtime.files import atomic_write, disk_errors

PACKAGES = (
    "asd-jax",
    "jax",
    "jaxlib",
    "flax",
    "optax",
    "orbax-checkpoint",
    "numpy",
    "scipy",
    "scikit-learn",
    "librosa",
    "soundfile",
)
# Which sets a folder has runs of, each in a folder of its name; such a one is no run directory.
SETS_FILE = "sets.json"
# Which variants a folder has runs of, likewise.
SWEEP_FILE = "sweep.json"


class RunDirectory:
    """Paths of a run's files.

    Args:
        path: the folder.
    """

    def __init__(self, path: os.PathLike | str):
        self.path = Path(path)
        self.config = self.path / "config.json"
        self.environment = self.path / "environment.json"
        self.data = self.path / "data.json"
        self.classes = self.path / "classes.csv"
        self.log = self.path / "log.jsonl"
        self.checkpoints = self.path / "checkpoints"
        self.vectors = self.path / "vectors"
        self.model = self.path / "model.npz"
        self.ensemble = self.path / "ensemble.json"
        self.training_csv = self.path / "training_scores.csv"
        self.scores = self.path / "scores"
        self.scores_csv = self.path / "scores.csv"
        self.results_csv = self.path / "results.csv"
        self.results_md = self.path / "results.md"
        self.published_md = self.path / "published.md"
        self.ground_truth = self.path / "ground_truth.json"
        self.recordings_csv = self.path / "recordings.csv"
        self.report_html = self.path / "report.html"
        self.analysis_md = self.path / "analysis.md"
        self.spectrograms = self.path / "spectrograms"

    @property
    def results(self) -> tuple[Path, ...]:
        """What is made of the test clips; first what marks the run as finished."""
        made = (self.results_md, self.published_md, self.results_csv, self.scores_csv)
        more = (self.report_html, self.ground_truth, self.analysis_md, self.spectrograms)
        return (*made, *more, self.scores)

    @contextlib.contextmanager
    def lock(self, report: Callable[[str], None] = lambda line: None) -> Iterator[None]:
        """Locks the folder against a second run until this process ends, however it ends.

        Args:
            report: called with a line where the process before was ended without a word.

        Raises:
            UserError: another process is running in the folder.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            file = open(self.path / ".lock", "a+")  # noqa: SIM115 - held open, that is the lock
        except OSError as error:
            raise UserError(
                f"--out_dir={self.path}: {error.strerror}; choose a folder that can be written to"
            ) from error
        with file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise UserError(
                    f"{self.path} is in use by {Owner.read(file).name or 'another process'}; wait "
                    "for it or choose another --out_dir"
                ) from None
            if line := Owner.read(file).why_ended():
                report(line)
            Owner.of_this_process().write(file)
            try:
                yield
            finally:
                Owner().write(file)

    @property
    def finished(self) -> bool:
        """Whether the folder has all files of a finished run."""
        made = (
            self.ensemble if self.ensemble.exists() else self.model,
            self.training_csv,
            self.scores,
            self.scores_csv,
            self.results_csv,
            self.results_md,
        )
        return all(path.exists() for path in made)

    def check(self, config: Config | MembersConfig, but_for: Sequence[str] = ()) -> None:
        """Checks that the folder is free for a run, or has one of this configuration.

        Args:
            config: the run's configuration.
            but_for: names of entries that may precede the run in the folder.

        Raises:
            UserError: the folder has a run of another configuration, or other files.
        """
        if self.config.is_file():
            differences = stored_differences(self.config, config)
            if differences:
                raise UserError(
                    f"{self.path} holds a run of another configuration "
                    f"({'; '.join(differences[:3])}); choose another --out_dir"
                )
        elif leftovers := [
            entry.name
            for entry in self.path.iterdir()
            if not entry.name.startswith(".") and entry.name not in but_for
        ]:
            raise UserError(
                f"{self.path} holds other files ({leftovers[0]}) and no run; choose another "
                "--out_dir"
            )

    def is_outdated(self, data: Mapping[str, Any]) -> bool:
        """Whether the folder has a run on these training clips that scored other test clips."""
        if not (self.data.is_file() and self.config.is_file()):
            return False
        before = self.read_data()
        return _agree(before, data, "training", "year") and not _agree(before, data, "test")

    def claim(
        self,
        config: Config | MembersConfig,
        data: Mapping[str, Any],
        old_fingerprint: Callable[[], str] = lambda: "",
    ) -> None:
        """Writes data description and configuration, once the run is known to be possible.

        Results of a run on the same training clips and other test clips are removed.

        Args:
            config: the configuration.
            data: from `describe_data`, or of an ensemble's members.
            old_fingerprint: that of these recordings in a description without their contents.

        Raises:
            UserError: the folder has a run on other training clips.
        """
        if self.data.is_file() and self.config.is_file():
            before = self.read_data()
            if before == data:
                return
            if before.get("held_out", data.get("held_out", "")) != data.get("held_out", ""):
                raise UserError(
                    f"{self.path} was begun with other clips held out for thresholds, as groups or "
                    "attributes of the recordings have changed; choose another --out_dir"
                )
            known = "training" in before
            if self.is_outdated(data):
                self._remove_results()
            elif (
                _agree(before, data, "training", "test", "year")
                if known
                else before["fingerprint"] in (data["fingerprint"], old_fingerprint())
            ):
                # Ensembles of this run know it by its fingerprint.
                data = {**data, "fingerprint": before["fingerprint"]}
            else:
                raise UserError(
                    f"{self.path} was begun with other recordings ({before['n_clips']} clips "
                    f"there, {data['n_clips']} here, or training clips that have changed); choose "
                    "another --out_dir"
                )
            with atomic_write(self.data) as file:
                file.write(json.dumps(data, indent=2) + "\n")
            return
        # The configuration first: a folder that has it alone, on a full disk, is known as a run's.
        for path, text in (
            (self.config, configs.to_json(config)),
            (self.data, json.dumps(data, indent=2) + "\n"),
        ):
            with atomic_write(path) as file:
                file.write(text)

    def _remove_results(self) -> None:
        """Removes what was made of the test clips, first what marks the run as finished."""
        with disk_errors(self.path):
            made = (self.results_md, self.published_md, self.results_csv, self.scores_csv)
            for path in (*made, self.report_html, self.recordings_csv, self.ground_truth):
                path.unlink(missing_ok=True)
            shutil.rmtree(self.scores, ignore_errors=True)

    def write_environment(self) -> None:
        """Writes versions and devices of the run's training or its continuation."""
        with atomic_write(self.environment) as file:
            json.dump(environment(), file, indent=2)
            file.write("\n")

    def read_data(self) -> dict[str, Any]:
        """Reads the description of the run's recordings; UserError if it is damaged."""
        return _read_json(self.data, ("year", "synthetic", "n_clips", "fingerprint"))

    def read_ground_truth(self) -> dict[str, Any]:
        """Reads where the labels of the test clips are from; UserError if that is damaged."""
        return _read_json(self.ground_truth, ("source",))

    def open_log(self, keep_epochs: int) -> "Log":
        """Opens the log to continue after an epoch; drops lines of later epochs."""
        kept = []
        if self.log.is_file():
            for line in self.log.read_text(encoding="utf-8").splitlines():
                with contextlib.suppress(json.JSONDecodeError):  # a line cut off by a kill
                    entry = json.loads(line)
                    if entry.get("epoch", 0) <= keep_epochs:
                        kept.append(line)
        with atomic_write(self.log) as file:
            file.writelines(line + "\n" for line in kept)
        return Log(self.log)


def _agree(before: Mapping[str, Any], data: Mapping[str, Any], *keys: str) -> bool:
    """Whether two descriptions of data have the same values of some keys."""
    return all(key in before and before[key] == data.get(key) for key in keys)


class Log:
    """An append-only file of one JSON object a line.

    Args:
        path: the file.
    """

    def __init__(self, path: Path):
        self._path = path
        with disk_errors(path):
            self._file = open(path, "a", encoding="utf-8")  # noqa: SIM115 - closed by `close`

    def __call__(self, entry: Mapping[str, Any]) -> None:
        """Adds a line."""
        with disk_errors(self._path):
            self._file.write(json.dumps(entry) + "\n")
            self._file.flush()

    def close(self) -> None:
        """Closes the file."""
        self._file.close()


def read_config(path: os.PathLike | str) -> dict[str, Any]:
    """Reads a run's configuration as nested dictionaries, in the form of this version.

    Raises:
        UserError: the file is missing or damaged.
    """
    if not Path(path).is_file():
        if (folder := Path(path).parent).joinpath(SETS_FILE).is_file():
            raise UserError(
                f"{folder} has the runs of both sets; name {folder / 'dev'} or {folder / 'eval'}"
            )
        if folder.joinpath(SWEEP_FILE).is_file():
            raise UserError(f"{folder} has the runs of several variants; name one of its folders")
        raise UserError(f"{Path(path).parent} is no run directory: it has no config.json")
    return configs.upgraded(_read_json(Path(path), ("name", "detector")))


def _read_json(path: Path, needed: Sequence[str]) -> dict[str, Any]:
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(stored, dict) or not set(needed) <= stored.keys():
            raise ValueError(f"it lacks {', '.join(needed)}")
        return stored
    except (OSError, ValueError) as error:
        raise UserError(f"{path} is damaged: {error}; choose another --out_dir") from error


def stored_differences(path: os.PathLike | str, config: Config | MembersConfig) -> list[str]:
    """Keys in which a stored configuration differs from this one, with both values."""
    return configs.difference(configs.to_dict(config), completed(read_config(path)))


def completed(stored: Mapping[str, Any]) -> Mapping[str, Any]:
    """A stored configuration with all settings of this version.

    Those that its own version did not have are at their defaults; a new setting must have one that
    changes nothing.
    """
    with contextlib.suppress(UserError):  # settings that this version lacks are differences
        return configs.to_dict(configs.from_dict(stored, config_classes()))
    return stored


def environment() -> dict[str, Any]:
    """Versions, devices and commit; None for what cannot be determined."""
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": versions_of([*PACKAGES, *plugins.packages()]),
        "backend": jax.default_backend(),
        "devices": [device.device_kind for device in jax.devices()],
        "cpu_count": os.cpu_count(),
        "commit": commit(),
    }


def versions_of(packages: Iterable[str]) -> dict[str, str | None]:
    """Installed version of each package; None where it is not installed."""

    def version(package: str) -> str | None:
        try:
            return importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            return None

    return {package: version(package) for package in packages}


def commit() -> str | None:
    """Commit of this file's checkout, with "+" where files differ from it; None without one."""
    folder = Path(__file__).resolve().parent

    def git(*arguments: str) -> str:
        return subprocess.run(
            ["git", "-C", folder, *arguments], capture_output=True, text=True, check=True
        ).stdout.strip()

    try:
        if not git("ls-files", Path(__file__).name):  # installed inside another checkout
            return None
        return git("rev-parse", "HEAD") + ("+" if git("status", "--porcelain", "-uno") else "")
    except (OSError, subprocess.CalledProcessError):
        return None
