"""Help, the version and the package itself come without what takes long to import."""

import subprocess
import sys

import pytest

from asd_jax.commands import COMMANDS

# What takes longer to import than a command's help should take.
HEAVY = (
    *("jax", "jaxlib", "numpy", "scipy", "sklearn", "flax", "optax", "orbax", "tensorstore"),
    *("matplotlib", "librosa", "soundfile", "soxr", "h5py", "pooch", "requests", "rich"),
    *("audiomentations", "keras", "numba"),
)


@pytest.mark.parametrize(
    "arguments",
    [[], ["--help"], ["--version"], *[[name, "--help"] for name in COMMANDS], ["runn"]],
    ids=" ".join,
)
def test_help_imports_nothing_heavy(arguments):
    code = (
        "import sys; from asd_jax.cli import main\n"
        "try: main(sys.argv[1:])\n"
        "except SystemExit as ended: status = ended.code\n"
        f"print(status, *[name for name in {HEAVY} if name in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True)
    lines = done.stderr.splitlines()
    assert lines[-1] == ("2" if arguments == ["runn"] else "0"), done.stderr
    assert done.stdout or arguments == ["runn"]


def test_the_package_imports_nothing_heavy():
    code = f"import sys, asd_jax; print([name for name in {HEAVY} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stderr


def test_a_run_starts_without_what_only_its_results_need():
    late = (
        "scipy.signal",
        "scipy.stats",
        "scipy.ndimage",
        "matplotlib",
        "sklearn",
        "orbax",
    )
    code = (
        "import sys, asd_jax.pipeline, asd_jax.detectors.dense_ae\n"
        f"print([name for name in {late} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stderr
