"""How programs are compiled, and where they are kept, so that a second start compiles nothing."""

import functools
import hashlib
import os
import platform
from pathlib import Path

import jax

# What programs leave to YNNPACK, by kind; of other kinds, what XLA leaves to it by default.
_LEFT_TO_YNNPACK = {
    "dense": "",
    "convolution": "LIBRARY_FUSION_TYPE_INDIVIDUAL_DOT,LIBRARY_FUSION_TYPE_REDUCE",
}


def keep_compiled(cache_dir: os.PathLike | str) -> None:
    """Makes JAX keep its compiled programs in a folder, where it is not told otherwise already.

    For commands, before anything is compiled; a library's user sets JAX up as they like.

    Args:
        cache_dir: below this, in a folder of the processor's kind: a home folder may be shared
            by machines of which one's programs do not run on another. A folder that cannot be
            written to costs the gain, and nothing else.
    """
    if jax.config.jax_compilation_cache_dir or "://" in os.fspath(cache_dir):
        return
    kind = hashlib.sha256(_processor().encode()).hexdigest()[:12]
    jax.config.update("jax_compilation_cache_dir", str(Path(cache_dir) / "compiled" / kind))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.1)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)


@functools.cache
def compiler_options(kind: str) -> dict[str, str] | None:
    """`compiler_options` of `jax.jit` for a program that spends its time on one kind of work.

    On CPUs, XLA (of jax 0.10) by default leaves dense products, convolutions and sums to a
    library, YNNPACK. Some of these XLA does faster itself: convolutions, above all the gradients
    of their kernels, and the products and sums of dense networks. `python -m benchmarks steps`
    measures what that gains; its peer "xla" has the defaults.

    Args:
        kind: "dense", "recurrent" or "convolution".

    Returns:
        The options; None for the defaults, which stay on other backends and where XLA has no
        such choice.
    """
    if jax.default_backend() != "cpu" or kind not in _LEFT_TO_YNNPACK:
        return None
    options = {"xla_cpu_experimental_ynn_fusion_type": _LEFT_TO_YNNPACK[kind]}
    try:
        jax.jit(lambda: 0, compiler_options=options).lower().compile()
    except jax.errors.JaxRuntimeError:
        return None
    return options


def _processor() -> str:
    """What programs for this processor depend on, as far as the system tells."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    told = ("flags", "Features", "model name")
    return "\n".join(dict.fromkeys(line for line in lines if line.startswith(told)))
