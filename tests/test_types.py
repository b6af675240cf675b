"""Types: names that editors see are there at run time, and functions without types only get fewer.

mypy itself runs in .ci/run, over the package, the configurations and `public_types.py`.
"""

import ast
import importlib
import tomllib
from pathlib import Path

import pytest

import asd_jax

ROOT = Path(__file__).resolve().parent.parent
FILES = sorted([*(ROOT / "asd_jax").rglob("*.py"), *(ROOT / "configs").glob("*.py")])
# Modules that may have functions without types. Lower it when one gets them all.
MOST = 8
# What users import: never without types.
PUBLIC = (
    *("audio", "metrics", "config", "errors", "scoring", "fitting", "pipeline", "runs"),
    *("data.clips", "data.columns", "data.layouts", "data.index", "data.audio_files"),
    *("features", "detectors", "training.task", "training.models", "training.trainer"),
)


def module_of(path: Path) -> str:
    """The dotted name of a file."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def is_untyped(function: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    """Whether an argument or the result lacks its type, as `disallow_untyped_defs` counts it."""
    given = function.args
    arguments = [*given.posonlyargs, *given.args, *given.kwonlyargs, given.vararg, given.kwarg]
    own = [each for each in arguments if each is not None and each.arg not in ("self", "cls")]
    if any(each.annotation is None for each in own):
        return True
    return function.returns is None and not (function.name == "__init__" and own)


def untyped_in(source: str) -> list[str]:
    """Names of the functions of a source text, inner ones included, that lack types."""
    functions = (ast.FunctionDef, ast.AsyncFunctionDef)
    nodes = [node for node in ast.walk(ast.parse(source)) if isinstance(node, functions)]
    return [node.name for node in nodes if is_untyped(node)]


@pytest.fixture(scope="module")
def settings() -> dict:
    """mypy's, in pyproject.toml."""
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["mypy"]


@pytest.fixture(scope="module")
def listed(settings) -> list[str]:
    """The modules that are excused."""
    (names,) = [
        override["module"]
        for override in settings["overrides"]
        if override.get("disallow_untyped_defs") is False
    ]
    return names


def test_untyped_functions_are_found():
    source = """
class Kind:
    def __init__(self, size: int): ...
    def __enter__(self): ...
    def grown(self, by) -> int: ...
    def shrunk(self, *, by: int, **options) -> int: ...
    def size(self) -> int:
        def inner(x: int): ...
        return 1
"""
    assert untyped_in(source) == ["__enter__", "grown", "shrunk", "inner"]


def test_all_other_modules_have_all_types(settings, listed):
    """The list is that of the modules that need it: it shrinks with them, and cannot grow."""
    assert settings["disallow_untyped_defs"] is True
    lacking = [module_of(path) for path in FILES if untyped_in(path.read_text(encoding="utf-8"))]
    assert listed == lacking
    assert len(listed) <= MOST
    public = [f"asd_jax.{name}" for name in PUBLIC]
    for name in listed:
        assert not [each for each in public if name == each or name.startswith(f"{each}.")], name


def test_errors_are_only_ignored_by_code_and_for_a_reason():
    for path in [*FILES, ROOT / "tests" / "public_types.py"]:
        for line in path.read_text(encoding="utf-8").splitlines():
            _, ignored, rest = line.partition("# type: ignore")
            code, _, reason = rest.partition("]")
            if ignored and "`type: ignore`" not in line:
                assert code.startswith("[") and reason.strip("# "), f"{path}: {line}"


def test_names_that_editors_see_are_the_ones_at_run_time():
    """Of the same objects, too: what `__init__.pyi` imports is what the package hands out."""
    stub = ast.parse((ROOT / "asd_jax" / "__init__.pyi").read_text(encoding="utf-8"))
    shown = {"__version__"}
    imports = [node for node in stub.body if isinstance(node, ast.ImportFrom)]
    for node in imports:
        for alias in node.names:
            assert alias.asname == alias.name, "an import without `as` is not seen from outside"
            shown.add(alias.name)
            inside = ".".join(filter(None, ("asd_jax", node.module)))
            try:
                there = importlib.import_module(f"{inside}.{alias.name}")
            except ModuleNotFoundError:
                there = getattr(importlib.import_module(inside), alias.name)
            assert getattr(asd_jax, alias.name) is there
    assert shown == set(asd_jax.__all__)


def test_the_package_says_that_it_has_types():
    assert (ROOT / "asd_jax" / "py.typed").is_file()


@pytest.mark.slow
def test_mypy_sees_the_signatures(tmp_path, monkeypatch):
    """Through the lazy import: the names have their types, and a misuse is an error."""
    api = pytest.importorskip("mypy.api")
    monkeypatch.chdir(ROOT)
    snippet = tmp_path / "snippet.py"
    snippet.write_text(
        "import asd_jax\n"
        'reveal_type(asd_jax.load("run"))\n'
        "reveal_type(asd_jax.fit)\n"
        "asd_jax.fit(1, [])\n"
    )
    out, err, status = api.run(
        [
            "--config-file=pyproject.toml",
            str(snippet),
        ]
    )
    assert status == 1, err
    loaded, fit, misuse, summary = out.splitlines()
    for name in ("detector.FittedDetector", "ensemble.FittedEnsemble", "ensemble.FittedChoice"):
        assert f"asd_jax.fitting.{name}" in loaded
    assert "asd_jax.config.types.Config | str" in fit and "-> asd_jax.fitting." in fit
    assert misuse.startswith(f'{snippet}:4: error: Argument 1 to "fit"')
    assert summary.startswith("Found 1 error")
