"""Compiled programs kept on disk, so that the second start of a command compiles nothing."""

import hashlib
import os
import platform
from pathlib import Path

import jax


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


def _processor() -> str:
    """What programs for this processor depend on, as far as the system tells."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    told = ("flags", "Features", "model name")
    return "\n".join(dict.fromkeys(line for line in lines if line.startswith(told)))
