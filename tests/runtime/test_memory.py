"""Memory that runs out, in limits that a child process has."""

import resource
import subprocess
import sys

import numpy as np
import pytest

from asd_jax.errors import UserError
from asd_jax.runtime.memory import is_exhausted, needed_for, size


def limited(kibibytes, *arguments):
    """Ends of a process whose address space is limited: status, output, lines of errors."""

    def limit():
        resource.setrlimit(resource.RLIMIT_AS, (1024 * kibibytes, 1024 * kibibytes))

    done = subprocess.run(arguments, capture_output=True, text=True, preexec_fn=limit)
    return done.returncode, done.stdout, done.stderr.splitlines()


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        OSError(12, "Cannot allocate memory"),
        RuntimeError("can't start new thread"),
        RuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 8589934592 bytes."),
    ],
)
def test_errors_that_are_of_memory(error):
    assert is_exhausted(error)


@pytest.mark.parametrize(
    "error",
    [
        ValueError("RESOURCE_EXHAUSTED: Error writing: No space left on device"),
        OSError(28, "No space left on device"),
        ImportError("No module named 'x'"),
    ],
)
def test_errors_that_are_not(error):
    assert not is_exhausted(error)


def test_numpys_error_is_named_with_what_was_asked_for():
    with pytest.raises(UserError) as caught, needed_for("training", "train fewer machines"):
        np.empty(2**55, np.uint8)
    assert caught.value.exit_status == 1
    line = str(caught.value)
    assert line.startswith("out of memory in training (Unable to allocate 32.0 PiB")
    assert "this process may use" in line and line.endswith("); train fewer machines")


def test_other_errors_pass():
    with pytest.raises(ZeroDivisionError), needed_for("training", "nothing"):
        _ = 1 / 0


@pytest.mark.parametrize(("n", "text"), [(2**20, "1.0 MiB"), (2**31, "2.00 GiB")])
def test_size(n, text):
    assert size(n) == text


@pytest.mark.parametrize("kibibytes", [100_000, 700_000, 1_500_000])
def test_a_limit_below_what_jax_needs_is_refused(kibibytes, tmp_path):
    """By a line with what is needed, whatever is asked for, and nothing is written."""
    (tmp_path / "data").mkdir()
    flags = ["--config=spectral", f"--data_dir={tmp_path / 'data'}", f"--out_dir={tmp_path / 'x'}"]
    command = [sys.executable, "-m", "asd_jax", "run", *flags]
    status, output, lines = limited(kibibytes, *command)
    assert (status, output) == (1, "")
    (line,) = lines
    assert line.startswith(f"asd-jax: ulimit -v {kibibytes}: ") and "allow" in line
    assert not (tmp_path / "x").exists()


ABORTED = """
import os, sys
from asd_jax.runtime.memory import supervised
supervised()
print("works", flush=True)
os.write(2, b"terminate called: a trace of the stack\\n")
os.abort()
"""


def test_native_code_that_gets_no_memory_is_one_line():
    status, output, lines = limited(4_000_000, sys.executable, "-c", ABORTED)
    assert (status, output) == (1, "works\n")
    (line,) = lines
    assert line.startswith("asd-jax: ended by SIGABRT, most likely as memory could not be had")
    assert "ulimit -v 4000000" in line


def test_without_a_limit_the_process_is_its_own():
    program = "import os; from asd_jax.runtime.memory import supervised; before = os.getpid()"
    program += "; supervised(); print(os.getpid() == before)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout == "True\n"


def test_a_limited_child_ends_with_its_own_status_and_output():
    program = "import sys; from asd_jax.runtime.memory import supervised; supervised()"
    program += "; print('said', file=sys.stderr); sys.exit(7)"
    assert limited(4_000_000, sys.executable, "-c", program) == (7, "", ["said"])


def test_training_without_memory_names_what_lowers_it(monkeypatch):
    import asd_jax
    from asd_jax.fitting import fitting

    def train(*arguments, **options):
        raise MemoryError("Unable to allocate 9.0 TiB for an array")

    monkeypatch.setattr(fitting, "train", train)
    frames = np.random.default_rng(0).normal(size=(4, 40, 128)).astype(np.float32)
    with pytest.raises(UserError, match=r"in training \(Unable.*train.batch_size, or train fewer"):
        asd_jax.fit("dense_ae", frames, machine="fan", sections=["00"] * 4)
