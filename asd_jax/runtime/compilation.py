"""Compiler options, and the cache of compiled programs, so that a second start compiles nothing."""

import functools
import hashlib
import os
import platform
import warnings
from pathlib import Path
from typing import Any

import jax

_COMPILED = "compiled"
# Options of XLA on CPUs by kind of program; other kinds keep its defaults.
_CPU_OPTIONS = {
    # Operations left to YNNPACK.
    "dense": {"xla_cpu_experimental_ynn_fusion_type": ""},
    "convolution": {
        "xla_cpu_experimental_ynn_fusion_type": "LIBRARY_FUSION_TYPE_INDIVIDUAL_DOT,"
        "LIBRARY_FUSION_TYPE_REDUCE"
    },
    # Runs once: networks of many layers compile in half the time, with the same values.
    "init": {"xla_backend_optimization_level": "1"},
}


def keep_compiled(cache_dir: os.PathLike | str) -> None:
    """Makes JAX keep its compiled programs in a folder, unless it is configured already.

    For commands, before anything is compiled; users of the library configure JAX themselves.

    Args:
        cache_dir: the programs are in a folder below it for the kind of processor, since machines
            with different processors may share a home folder. Without permission to write there,
            programs are compiled again, and nothing else changes.
    """
    settings: Any = jax.config  # whose type does not list them
    if settings.jax_compilation_cache_dir or "://" in os.fspath(cache_dir):
        return
    # A full disk makes programs compile again, which JAX would warn of for each.
    warnings.filterwarnings("ignore", "Error (reading|writing) persistent compilation cache")
    kind = hashlib.sha256(_processor().encode()).hexdigest()[:12]
    jax.config.update("jax_compilation_cache_dir", str(Path(cache_dir) / _COMPILED / kind))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.1)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)


def traces_folder() -> Path | None:
    """Where traced programs are kept: beside what `keep_compiled` keeps; None without it."""
    settings: Any = jax.config
    folder = Path(settings.jax_compilation_cache_dir or "")
    return folder.with_name("traced") if folder.parent.name == _COMPILED else None


@functools.cache
def compiler_options(kind: str) -> dict[str, str] | None:
    """`compiler_options` of `jax.jit` for a program with one predominant kind of operation.

    On CPUs, XLA (of jax 0.10) by default leaves dense products, convolutions and sums to a
    library, YNNPACK. XLA's own code is faster for some of these: convolutions, above all the
    gradients of their kernels, and the products and sums of dense networks.
    `python -m benchmarks steps` measures the gain; its peer "xla" has the defaults.

    Args:
        kind: "dense", "recurrent" or "convolution"; "init" for drawing initial weights.

    Returns:
        The options; None for the defaults, on other backends and with an XLA without the option.
    """
    if jax.default_backend() != "cpu" or kind not in _CPU_OPTIONS:
        return None
    options = _CPU_OPTIONS[kind]
    try:
        jax.jit(lambda: 0, compiler_options=options).lower().compile()
    except jax.errors.JaxRuntimeError:
        return None
    return options


def round_up(count: int, least: int) -> int:
    """Rounds up to one of eight numbers between a power of two and the next one.

    A program is compiled for the sizes of its arrays. With arrays padded to few sizes, data sets of
    other sizes, and machines one after another, share programs.

    Args:
        count: what is rounded.
        least: the smallest result, a power of two.

    Examples:
        >>> [round_up(count, 8) for count in (0, 9, 16, 17, 1000, 1100)]
        [8, 9, 16, 18, 1024, 1152]
    """
    count = max(count, least)
    unit = 1 << max(0, (count - 1).bit_length() - 4)
    return -(-count // unit) * unit


def _processor() -> str:
    """Properties of the processor that programs depend on, as far as the system reports them."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    keys = ("flags", "Features", "model name")
    return "\n".join(dict.fromkeys(line for line in lines if line.startswith(keys)))
