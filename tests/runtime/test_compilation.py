"""How programs are compiled, and that they outlive the process."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from asd_jax.runtime import compilation
from asd_jax.runtime.compilation import compiler_options, keep_compiled

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = """
import sys, jax, jax.numpy as jnp
from asd_jax.runtime.compilation import keep_compiled
hits = []
jax.monitoring.register_event_listener(lambda name, **_: hits.append(name))
keep_compiled(sys.argv[1])
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
jax.block_until_ready(jax.jit(lambda x: jnp.linalg.svd(x @ x.T)[1])(jnp.ones((5, 7))))
print(*(hits.count(f"/jax/compilation_cache/cache_{what}") for what in ("hits", "misses")))
"""


def start(folder: Path) -> tuple[int, int]:
    """Programs found and not found on disk by a process that shares no cache with the tests."""
    cache = ("JAX_COMPILATION_CACHE", "JAX_PERSISTENT_CACHE")
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(folder)],
        cwd=ROOT,
        env={name: value for name, value in os.environ.items() if not name.startswith(cache)},
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


def test_a_cache_that_was_chosen_stays(tmp_path):
    chosen = {
        "jax_compilation_cache_dir": str(tmp_path / "chosen"),
        "jax_persistent_cache_min_compile_time_secs": 7.0,
        "jax_persistent_cache_min_entry_size_bytes": 11,
    }
    before = {name: getattr(jax.config, name) for name in chosen}
    try:
        for name, value in chosen.items():
            jax.config.update(name, value)
        keep_compiled(tmp_path / "ours")
        assert {name: getattr(jax.config, name) for name in chosen} == chosen
    finally:
        for name, value in before.items():
            jax.config.update(name, value)


def test_a_folder_that_cannot_be_is_no_error(tmp_path):
    (tmp_path / "file").write_text("", encoding="utf-8")
    assert start(tmp_path / "file")[0] == 0


def left_to_ynnpack(function, *arguments, kind: str) -> bool:
    compiled = jax.jit(function, compiler_options=compiler_options(kind)).lower(*arguments)
    return "%ynn_fusion" in compiled.compile().as_text()


def convolve(image, kernel):
    layout = ("NHWC", "HWIO", "NHWC")
    return jax.lax.conv_general_dilated(image, kernel, (1, 1), "SAME", dimension_numbers=layout)


def test_convolutions_and_dense_products_stay_with_xla_on_cpus():
    """Which of the two computes an operation is to be read in the compiled program."""
    image, kernel = jnp.ones((32, 16, 32, 64)), jnp.ones((3, 3, 64, 64))
    rows = jnp.ones((256, 256))
    assert compiler_options("recurrent") is None
    assert left_to_ynnpack(convolve, image, kernel, kind="recurrent")
    assert not left_to_ynnpack(convolve, image, kernel, kind="convolution")
    assert left_to_ynnpack(jnp.matmul, rows, rows, kind="convolution")
    assert not left_to_ynnpack(jnp.matmul, rows, rows, kind="dense")


@pytest.mark.parametrize("kind", ["dense", "convolution"])
def test_options_do_not_change_what_is_computed(kind):
    """A product of 256 terms of order 1: float32 in another order, within 1e-4."""
    a, b = np.random.default_rng(0).normal(size=(2, 256, 256)).astype(np.float32)
    found = jax.jit(jnp.matmul, compiler_options=compiler_options(kind))(a, b)
    np.testing.assert_allclose(found, a.astype(float) @ b, rtol=0, atol=1e-4)


def test_elsewhere_programs_are_compiled_as_xla_does(monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(jax, "default_backend", lambda: "gpu")
        compiler_options.cache_clear()
        assert compiler_options("convolution") is None
    # An XLA that has no such option, or no such value of it.
    monkeypatch.setitem(compilation._CPU_OPTIONS, "convolution", {"no_such_option": "1"})
    compiler_options.cache_clear()
    assert compiler_options("convolution") is None
    compiler_options.cache_clear()


@pytest.mark.parametrize(
    "initializer",
    [
        jax.nn.initializers.he_uniform(),
        jax.nn.initializers.lecun_normal(),  # truncated
        jax.nn.initializers.normal(0.02),
        jax.nn.initializers.orthogonal(),
    ],
)
def test_initial_weights_are_those_of_xla_s_defaults(initializer):
    """To the bit: LLVM's level of optimisation, 3 by default, may not change a value."""

    def draw(options):
        return jax.jit(initializer, static_argnums=1, compiler_options=options)

    # The package's options and XLA's defaults, in place of those of these tests (conftest.py).
    spec = importlib.util.find_spec(compilation.__name__)
    as_shipped = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(as_shipped)
    emitters = {"xla_cpu_use_fusion_emitters": True}
    defaults = emitters | {"xla_backend_optimization_level": "3"}
    expected = draw(defaults)(jax.random.key(0), (64, 48))
    found = draw(emitters | as_shipped.compiler_options("init"))(jax.random.key(0), (64, 48))
    np.testing.assert_array_equal(found, expected)
    assert len(np.unique(found)) > 1000
