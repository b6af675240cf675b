"""Anomalous sound detection in JAX: hear that a machine fails when only its healthy sound is known.

| name | what |
|---|---|
| `audio` | log-mel front end on the device |
| `models` | network architectures as linen modules |
| `detectors` | the systems of the papers, `list_detectors()` |
| `embeddings` | pretrained networks: OpenL3, EdgeL3 |
| `metrics` | AUC, partial AUC, and what the challenge makes of them |
| `fit`, `load` | a system fitted to features of one's own, or from a run directory |
| `load_config`, `run` | a configuration by name or path, and the main job |
| `ensemble` | finished runs as one |
"""

import importlib
from typing import Any

__version__ = "0.1.0"

# Loaded when asked for, so that importing the package costs nothing.
_MODULES = (
    "audio",
    "config",
    "data",
    "detectors",
    "metrics",
    "models",
    "scoring",
    "training",
)
_NAMES = {
    "Config": "asd_jax.config",
    "UserError": "asd_jax.errors",
    "ensemble": "asd_jax.runs.ensemble",
    "fit": "asd_jax.fitting.fitting",
    "list_detectors": "asd_jax.detectors",
    "load": "asd_jax.pipeline",
    "load_config": "asd_jax.config",
    "run": "asd_jax.pipeline",
}

__all__ = ["__version__", "embeddings", *_MODULES, *_NAMES]


def __getattr__(name: str) -> Any:
    if name == "embeddings":
        return importlib.import_module("asd_jax.features.embeddings")
    if name in _MODULES:
        return importlib.import_module(f"asd_jax.{name}")
    if name in _NAMES:
        return getattr(importlib.import_module(_NAMES[name]), name)
    raise AttributeError(f"module 'asd_jax' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
