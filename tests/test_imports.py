"""Imports point one way: from what sees everything down to what sees nothing."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parent.parent / "asd_jax"

# From the bottom up; a module imports only from rows above its own, or from its own package.
LAYERS = [
    {"errors"},
    {"runtime"},
    {"data", "audio", "models", "metrics", "published"},
    {"config", "losses", "scoring"},
    {"features"},
    {"training", "evaluation"},
    {"detectors"},
    {"fitting", "page"},
    {"runs"},
    {"pipeline", "testing", "deploy"},
    {"papers"},
    {"commands"},
    {"cli"},
    {"__main__"},
]
LEVEL = {name: level for level, names in enumerate(LAYERS) for name in names}


def top(module: str) -> str:
    """The part of a dotted name below the package."""
    return module.split(".")[1]


def imports_of(path: Path) -> set[str]:
    """Dotted names inside the package that a file imports, wherever in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names if alias.name.startswith("asd_jax.")}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute here"
            if node.module == "asd_jax":
                found |= {f"asd_jax.{alias.name}" for alias in node.names}
            elif (node.module or "").startswith("asd_jax."):
                found.add(node.module)
    return found


FILES = sorted(path for path in PACKAGE.rglob("*.py") if path != PACKAGE / "__init__.py")


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_point_one_way(path):
    own = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    for module in imports_of(path):
        other = top(module)
        if other == "__version__":
            continue
        assert other == own or LEVEL[other] < LEVEL[own], f"{own} must not import {other}"


def test_models_know_no_data_no_loss_and_no_training():
    for path in (PACKAGE / "models").rglob("*.py"):
        allowed = {"models", "errors"} | ({"runtime"} if "pretrained" in path.parts else set())
        assert not {top(module) for module in imports_of(path)} - allowed
        assert "optax" not in path.read_text(encoding="utf-8")


def test_training_knows_no_system_by_name():
    from asd_jax.detectors import list_detectors

    for path in (PACKAGE / "training").glob("*.py"):
        text = path.read_text(encoding="utf-8")
        assert not [name for name in list_detectors() if name in text], path
