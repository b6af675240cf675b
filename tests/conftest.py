"""Fixtures that every test may use, and what the processes that run tests share."""

import gc
import importlib.metadata
import inspect
import itertools
import os
import shutil
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import shared_runs

ROOT = Path(__file__).resolve().parent.parent
# LLVM may not change the order of a sum, whatever its level; a higher one compiles for longer.
OPTIMIZATION = "--xla_backend_optimization_level"
# XLA's newer code for fused operations compiles for twice as long as the one it replaced. An XLA
# that does not know the option would end the process.
EMITTERS = "--xla_cpu_use_fusion_emitters"
KNOWS_EMITTERS = "0.10."
FORGOTTEN_TOGETHER = 8  # files whose programs one process keeps
# Compiled programs of many versions of the project: beyond this the cache starts anew.
LARGEST_CACHE = 2 * 2**30


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder with real recordings and parity files; tests skip where it is absent."""
    folder = Path(os.environ.get("ASD_JAX_SHARED", ROOT.parent / "shared")).resolve()
    if not folder.is_dir():
        pytest.skip(f"no folder {folder}; set ASD_JAX_SHARED to run this test")
    return folder


@pytest.fixture(scope="session")
def keras():
    """Keras on JAX; tests skip where it is not installed."""
    os.environ["KERAS_BACKEND"] = "jax"
    return pytest.importorskip("keras")


@pytest.fixture(scope="session")
def data(tmp_path_factory) -> Path:
    """Two machines of two ids each; 2 s clips. Not to be changed, as all of the following."""
    return shared_runs.made_once(tmp_path_factory, "data", shared_runs.make_data)


@pytest.fixture(scope="session")
def single(tmp_path_factory) -> Path:
    """One machine of one id."""
    return shared_runs.made_once(tmp_path_factory, "single", shared_runs.make_single)


@pytest.fixture(scope="session")
def cache(tmp_path_factory) -> Path:
    """A folder of features, which grows."""
    return shared_runs.made_once(tmp_path_factory, "cache", Path.mkdir)


@pytest.fixture(scope="session")
def finished(data, cache, tmp_path_factory) -> Path:
    """A finished run on `data`."""
    return shared_runs.made_once(
        tmp_path_factory,
        "finished",
        lambda folder: shared_runs.run_to_its_end(shared_runs.run_arguments(data, cache, folder)),
    )


@pytest.fixture
def copied(finished, tmp_path) -> Path:
    """A copy of the finished run, to use and to damage."""
    return shutil.copytree(finished, tmp_path / "run")


@pytest.fixture
def no_pictures() -> Iterator[None]:
    """Runs draw no spectrograms; `finished` has its own."""
    with shared_runs.without_pictures():
        yield


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """One process for each core that this one may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def pytest_configure(config: pytest.Config) -> None:
    """Compiles every program once: workers, the commands they start and later runs share it.

    The key of a program in the cache has the versions of JAX and XLA, XLA_FLAGS and the compiler's
    options; the folder's name has the processor. `pytest --cache-clear` removes it.
    """
    sys.modules.setdefault("numba", without_compiling())
    os.environ["XLA_FLAGS"] = quick_to_compile(os.environ.get("XLA_FLAGS", ""))
    # Commands that run in a test's process choose no devices for the tests after it.
    os.environ.setdefault("NPROC", str(pytest_xdist_auto_num_workers()))
    starts_workers = config.getoption("numprocesses", None) and not is_worker(config)
    folder = compiled_programs(config)
    if folder is None:
        return
    if not is_worker(config):
        size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
        if size > LARGEST_CACHE:
            shutil.rmtree(folder)
    if starts_workers:
        return

    import jax

    from asd_jax.runtime import compilation

    # Weights that tests draw are few.
    compilation._CPU_OPTIONS["init"] = {OPTIMIZATION.lstrip("-"): "0"}
    compilation.keep_compiled(folder)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    # For the processes that tests start.
    os.environ["JAX_COMPILATION_CACHE_DIR"] = jax.config.jax_compilation_cache_dir
    os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
    os.environ["JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES"] = "-1"


def quick_to_compile(flags: str) -> str:
    """XLA's options of that name and, where they are not set, those that spare compiling."""
    if OPTIMIZATION not in flags:
        flags = f"{flags} {OPTIMIZATION}=0"
    if EMITTERS not in flags and importlib.metadata.version("jaxlib").startswith(KNOWS_EMITTERS):
        flags = f"{flags} {EMITTERS}=false"
    return flags.strip()


def without_compiling() -> types.ModuleType:
    """Stands in for numba, with which librosa compiles for half a minute when first imported.

    The functions that tests compare with (short-time transforms, mel bands, resampling) use none
    of what it compiles.
    """
    numba = types.ModuleType("numba")

    def decorator(*arguments: Any, **_: Any) -> Any:
        (function,) = [each for each in arguments if inspect.isfunction(each)] or [None]
        return function or decorator

    for name in ("jit", "guvectorize", "stencil", "vectorize"):
        setattr(numba, name, decorator)
    return numba


def is_worker(config: pytest.Config) -> bool:
    """Whether this process runs tests for another one that hands them out."""
    return hasattr(config, "workerinput")


def compiled_programs(config: pytest.Config) -> Path | None:
    """The folder of compiled programs; None where pytest keeps no cache."""
    cache = getattr(config, "cache", None)
    return None if cache is None else cache.mkdir("programs")


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """The libraries that tests compare with use no threads, which wait for one another."""
    from threadpoolctl import threadpool_limits  # comes with scikit-learn

    with threadpool_limits(1):
        yield


_files_tested = itertools.count(1)


@pytest.fixture(scope="module", autouse=True)
def modest_memory() -> Iterator[None]:
    """Forgets the programs of some files' tests: thousands, which add up to gigabytes."""
    yield
    if next(_files_tested) % FORGOTTEN_TOGETHER:
        return
    import jax

    jax.clear_caches()
    gc.collect()
