"""Builds the API pages from the docstrings, without a network.

    .venv/bin/python scripts/api_pages.py [FOLDER]

Anything that cannot be documented (a name in `__all__` that is not there, an annotation that
does not resolve, a docstring that cannot be read) ends the build.
"""

import sys
import warnings
from pathlib import Path

import pdoc

import asd_jax
from asd_jax.detectors import registry

# Modules that the package's own table of contents does not name, but that users meet.
BESIDE_THE_FACE = (
    "asd_jax.data.download",
    "asd_jax.data.synthetic",
    "asd_jax.errors",
    "asd_jax.evaluation.results",
    "asd_jax.features.embeddings",
    "asd_jax.features.table",
    "asd_jax.fitting.detector",
    "asd_jax.fitting.ensemble",
    "asd_jax.testing",
)


def build(folder: Path) -> list[str]:
    """Writes the pages and returns the names of the modules asked for."""
    for name in asd_jax.__all__:  # they load lazily, and pdoc looks at what is loaded
        setattr(asd_jax, name, getattr(asd_jax, name))
    systems = sorted({system.__module__ for system in registry().values()})
    modules = ["asd_jax", *sorted([*BESIDE_THE_FACE, *systems])]
    pdoc.render.configure(docformat="google", show_source=False, footer_text="asd_jax")
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)  # pdoc's own
        pdoc.pdoc(*modules, output_directory=folder)
    return modules


if __name__ == "__main__":
    target = Path(sys.argv[1] if len(sys.argv) > 1 else "build/api")
    print(f"{len(build(target))} modules: {target / 'index.html'}")
