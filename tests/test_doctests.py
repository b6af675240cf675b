"""The examples in docstrings run, and every public function of the library's face has one."""

import doctest
import importlib
import inspect
from pathlib import Path

import pytest

from asd_jax.runtime.extras import EXTRAS

ROOT = Path(__file__).resolve().parent.parent
# Modules are chosen by their text, so that only those with examples are imported, each in its test.
FILES = [path for path in sorted(ROOT.glob("asd_jax/**/*.py")) if ">>>" in path.read_text("utf-8")]
MODULES = [
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
    for path in FILES
]
FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


@pytest.mark.parametrize("name", MODULES)
def test_examples_run(name):
    for package in EXTRAS:
        if package in FILES[MODULES.index(name)].read_text("utf-8"):
            pytest.importorskip(package)
    failed, tried = doctest.testmod(importlib.import_module(name), optionflags=FLAGS)
    assert tried and not failed


def public_names(module) -> list[str]:
    """Functions and callable classes of a module of the library's face; records are neither."""
    return [
        name
        for name, value in vars(module).items()
        if getattr(value, "__module__", "").startswith(module.__name__)
        and not name.startswith("_")
        and (inspect.isfunction(value) or "__call__" in vars(value))
    ]


@pytest.mark.parametrize("face", ["asd_jax.audio", "asd_jax.metrics", "asd_jax.models"])
def test_the_library_face_has_examples(face):
    module = importlib.import_module(face)
    names = public_names(module)
    finder = doctest.DocTestFinder(recurse=False)
    bare = [
        name
        for name in names
        if not any(test.examples for test in finder.find(getattr(module, name), name))
    ]
    assert len(names) > 5 and not bare
