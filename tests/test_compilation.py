"""Compiled programs that outlive the process."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PROGRAM = """
import sys, jax, jax.numpy as jnp
from asd_jax.compilation import keep_compiled
hits = []
jax.monitoring.register_event_listener(lambda name, **_: hits.append(name))
before = sys.argv[2] if len(sys.argv) > 2 else None
if before:
    jax.config.update("jax_compilation_cache_dir", before)
keep_compiled(sys.argv[1])
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
jax.block_until_ready(jax.jit(lambda x: jnp.linalg.svd(x @ x.T)[1])(jnp.ones((5, 7))))
print(*(hits.count(f"/jax/compilation_cache/cache_{what}") for what in ("hits", "misses")))
"""


def start(*folders) -> tuple[int, int]:
    """Programs found and not found on disk by a process of its own."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *map(str, folders)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    hits, misses = map(int, done.stdout.split())
    return hits, misses


def files(folder: Path) -> set[Path]:
    return {path for path in folder.rglob("*-cache") if path.is_file()}


def test_a_second_start_compiles_nothing(tmp_path):
    hits, misses = start(tmp_path)
    assert hits == 0 and misses > 0
    kept = files(tmp_path / "compiled")
    assert len(kept) == misses
    assert start(tmp_path) == (misses, 0)
    assert files(tmp_path / "compiled") == kept


def test_a_cache_that_was_chosen_stays_and_a_folder_that_cannot_be_is_no_error(tmp_path):
    assert start(tmp_path / "ours", tmp_path / "chosen")[1] > 0
    assert files(tmp_path / "chosen") and not (tmp_path / "ours").exists()
    (tmp_path / "file").write_text("", encoding="utf-8")
    assert start(tmp_path / "file")[0] == 0
