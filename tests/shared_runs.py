"""Recordings and trained runs that many tests look at, made once for all processes."""

import contextlib
import csv
import fcntl
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from unittest import mock

import pytest

from asd_jax.cli import main
from asd_jax.data.synthetic.synthesis import synthesize

MACHINES, SECTIONS, CLIPS = ("fan", "valve"), ("00", "02"), 12
# Of the run `finished`, and of those that are compared with it.
SETTINGS = {
    "front_end.n_mels": "16",
    "detector.hidden": "16,",
    "train.epochs": "4",
    "train.checkpoint_every": "2",
    "train.batch_size": "64",
    "seeds": "0,1",
}


def made_once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], None]) -> Path:
    """The folder of that name, which the first of all processes to need it makes.

    Nobody may change it: a test that does takes a copy.
    """
    base = factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        base = base.parent  # the workers' own folders are in it
    folder, done = base / "shared" / name, base / "shared" / f"{name}.done"
    folder.parent.mkdir(exist_ok=True)
    with locked(folder.with_name(f"{name}.lock")):
        if not done.exists():
            shutil.rmtree(folder, ignore_errors=True)  # of a process that failed
            make(folder)
            done.touch()
    return folder


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Keeps other processes out."""
    with open(path, "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def make_data(folder: Path) -> None:
    """Two machines of two ids each; 2 s clips."""
    synthesize(folder, machines=MACHINES, sections=len(SECTIONS), clips=CLIPS, duration=2.0)


def make_single(folder: Path) -> None:
    """One machine of one id; 2 s clips."""
    synthesize(folder, machines=["fan"], sections=1, clips=10, duration=2.0)


@contextlib.contextmanager
def without_pictures() -> Iterator[None]:
    """Runs inside draw no spectrograms and write no page, which take most of a small run."""
    drawing = ("evaluation.analysis.write_spectrograms", "runs.page.write_page")
    with contextlib.ExitStack() as stack:
        for name in drawing:
            stack.enter_context(mock.patch(f"asd_jax.{name}", lambda *_, **__: None))
        yield


def run_arguments(data: Path, cache: Path, run_dir: Path | str, *more: str) -> list[str]:
    """The command of a small run of the dense autoencoder."""
    return [
        "run",
        "--config=dense_ae",
        f"--data_dir={data}",
        f"--cache_dir={cache}",
        f"--out_dir={run_dir}",
        *(f"--config.{key}={text}" for key, text in SETTINGS.items()),
        *more,
    ]


def run_to_its_end(arguments: list[str]) -> None:
    """Does what a command does, which must succeed."""
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 0


def rows_of(path: Path) -> list[dict[str, str]]:
    """A CSV file's lines by its header."""
    with open(path, newline="") as file:
        return list(csv.DictReader(file))
