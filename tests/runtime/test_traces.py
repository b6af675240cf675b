"""Traces of programs that are kept from one process to the next."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from asd_jax.runtime import traces
from asd_jax.runtime.compilation import keep_compiled, traces_folder
from asd_jax.runtime.traces import Program, Traces

ARGUMENTS = (np.float32(2), {"a": np.arange(3, dtype="f4"), "b": np.ones((2, 2), "f4")})


class Counted:
    """A function of a factor and a tree, and how often it was traced."""

    def __init__(self, function=jnp.sin):
        self.times, self.function = 0, function

    def __call__(self, factor, tree):
        self.times += 1
        return jax.tree.map(lambda leaf: self.function(factor * leaf), tree)


def started(folder, function, *, origin="one", donate=1):
    """A program as a new process has it, lowered."""
    kept = folder and Traces(folder, origin)
    program = Program(
        "scaled", function, lambda factor, tree: tree, kind="dense", donate=donate, traces=kept
    )
    program.lower(*ARGUMENTS).compile()
    return program


def test_a_second_start_traces_nothing_and_computes_the_same(tmp_path):
    first, second = Counted(), Counted()
    plain = started(None, Counted())(*ARGUMENTS)
    for function in (first, second):
        jax.tree.map(np.testing.assert_array_equal, started(tmp_path, function)(*ARGUMENTS), plain)
    assert (first.times, second.times) == (1, 0)


def test_other_shapes_are_traced(tmp_path):
    started(tmp_path, Counted())
    function = Counted()
    program = started(tmp_path, function)
    other = {"a": np.ones(5, "f4"), "b": np.ones(1, "f4")}
    np.testing.assert_allclose(program(np.float32(2), other)["a"], np.sin(2), rtol=1e-6)
    assert function.times == 1
    integers = {"a": np.arange(3), "b": np.ones((2, 2), "f4")}
    np.testing.assert_allclose(program(np.float32(2), integers)["a"][1], np.sin(2), rtol=1e-6)


def test_what_is_made_of_something_else_is_another_trace(tmp_path):
    started(tmp_path, Counted())
    function = Counted(jnp.cos)
    found = started(tmp_path, function, origin="two")(*ARGUMENTS)
    assert function.times == 1
    np.testing.assert_allclose(found["b"], np.full((2, 2), np.cos(2)), rtol=1e-6)


@pytest.mark.parametrize("damage", [b"", b"short", None])
def test_a_damaged_trace_is_made_anew(tmp_path, damage):
    started(tmp_path, Counted())
    (kept,) = tmp_path.iterdir()
    whole = kept.read_bytes()
    flipped = whole[:100] + bytes([whole[100] ^ 1]) + whole[101:]
    kept.write_bytes(flipped if damage is None else damage)
    second, third = Counted(), Counted()
    for function in (second, third):
        assert np.isfinite(started(tmp_path, function)(*ARGUMENTS)["a"]).all()
    assert (second.times, third.times) == (1, 0)


def test_where_nothing_can_be_written_programs_work(tmp_path):
    (tmp_path / "file").write_text("", encoding="utf-8")
    found = started(tmp_path / "file" / "folder", Counted())(*ARGUMENTS)
    np.testing.assert_allclose(found["b"], np.full((2, 2), np.sin(2)), rtol=1e-6)


def test_what_cannot_be_exported_is_traced(tmp_path):
    def by_the_host(values):
        return jax.pure_callback(np.sin, jax.typeof(values), values)

    found = started(tmp_path, Counted(by_the_host))(*ARGUMENTS)
    np.testing.assert_allclose(found["b"], np.full((2, 2), np.sin(2)), rtol=1e-6)
    assert not [*tmp_path.iterdir()]


def test_donated_arguments_are_donated(tmp_path):
    tree = jax.tree.map(jnp.asarray, ARGUMENTS[1])
    started(tmp_path, Counted())(ARGUMENTS[0], tree)
    assert all(leaf.is_deleted() for leaf in jax.tree.leaves(tree))


def test_the_source_the_settings_and_what_is_named_tell_origins_apart(tmp_path, monkeypatch):
    monkeypatch.setattr(traces, "traces_folder", lambda: tmp_path)
    one = Traces.of("dense_ae", 3)
    assert Traces.of("dense_ae", 3) == one
    origins = {one.origin, Traces.of("dense_ae", 4).origin}
    with jax.enable_x64(True):
        origins.add(Traces.of("dense_ae", 3).origin)
    monkeypatch.setattr(traces, "_source", lambda: "another version")
    origins.add(Traces.of("dense_ae", 3).origin)
    assert len(origins) == 4


def test_a_line_of_source_changes_the_digest(tmp_path, monkeypatch):
    (tmp_path / "part").mkdir()
    source = tmp_path / "part" / "module.py"
    source.write_text("RATE = 1\n", encoding="utf-8")
    monkeypatch.setattr(traces, "_PACKAGE", tmp_path)
    digest = traces._source.__wrapped__
    before = digest()
    assert digest() == before
    source.write_text("RATE = 2\n", encoding="utf-8")
    assert digest() != before


def test_traces_are_kept_where_this_package_keeps_programs(tmp_path):
    before = jax.config.jax_compilation_cache_dir
    try:
        for chosen, expected in ((None, None), (str(tmp_path / "of a user"), None)):
            jax.config.update("jax_compilation_cache_dir", chosen)
            assert traces_folder() is expected
        jax.config.update("jax_compilation_cache_dir", None)
        keep_compiled(tmp_path)
        assert traces_folder() == tmp_path / "compiled" / "traced"
    finally:
        jax.config.update("jax_compilation_cache_dir", before)
