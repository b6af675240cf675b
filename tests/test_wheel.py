"""The package as it is installed elsewhere: what is in the wheel, and a run from there."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from shared_runs import rows_of

import asd_jax

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = {"asd_jax": "asd_jax", "configs": "asd_jax/configs"}  # folder: where it is installed


def files_of_packages() -> set[str]:
    """All that a wheel must hold beside its own metadata."""
    return {
        f"{installed}/{path.relative_to(ROOT / folder).as_posix()}"
        for folder, installed in PACKAGES.items()
        for path in (ROOT / folder).rglob("*")
        if path.is_file() and path.suffix != ".pyc"
    }


def run(*command, **options) -> str:
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, **options)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """Built from a copy, where no earlier build has left anything, and without a network."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    for name in PACKAGES:
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("README.md", "pyproject.toml", "setup.cfg", "setup.py"):
        shutil.copy(ROOT / name, source / name)
    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check")
    options = ("--no-index", "--no-deps", "--no-build-isolation", "--quiet")
    run(*pip, "wheel", *options, "--wheel-dir", folder / "made", source)
    (made,) = (folder / "made").glob("*.whl")
    return made


@pytest.fixture(scope="module")
def site(wheel, tmp_path_factory) -> Path:
    """The folder it is installed to."""
    folder = tmp_path_factory.mktemp("site")
    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check")
    run(*pip, "install", "--no-index", "--no-deps", "--quiet", "--target", folder, wheel)
    return folder


def test_every_file_of_the_packages_is_in_the_wheel_and_no_other(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    assert {name for name in names if ".dist-info/" not in name} == files_of_packages()


def test_a_configuration_runs_by_its_name_outside_the_repository(site, single, tmp_path):
    """By the command that is installed with it; what it imports is what is installed.

    Compiled as XLA does by default, which other tests are not: scores are those of their programs,
    to 1e-4 for float32 sums in another order.
    """
    environment = {**os.environ, "PYTHONPATH": str(site), "ASD_JAX_CACHE": str(tmp_path / "cache")}
    del environment["XLA_FLAGS"]
    outside = {"cwd": tmp_path, "env": environment}
    where = run(sys.executable, "-c", "import asd_jax; print(asd_jax.__file__)", **outside)
    assert Path(where.strip()).is_relative_to(site)
    command = (sys.executable, site / "bin" / "asd-jax")
    settings = ("train.epochs=1", "seeds=0,", "front_end.n_mels=8", "detector.hidden=8,")
    small = [f"--config.{setting}" for setting in settings]
    places = (f"--data_dir={single}", "--out_dir=run")
    out = run(*command, "run", "--config=dense_ae", *places, *small, **outside)
    assert "fan" in out
    tests = sorted(single.rglob("test/*.wav"))
    written = {row["clip"]: float(row["score"]) for row in rows_of(tmp_path / "run" / "scores.csv")}
    assert written.keys() == {path.name for path in tests}
    waveforms = np.stack([asd_jax.data.read(path, 16000) for path in tests])
    found = asd_jax.load(tmp_path / "run").score(waveforms, 16000)
    np.testing.assert_allclose(found, [written[path.name] for path in tests], rtol=1e-4)
