"""The systems of the zoo, one file each; a new file is registered by its presence.

A system's file has its name: `dense_ae` is in `dense_ae.py`. A system is imported when it is first
asked for.
"""

import functools
import importlib
import inspect
import pkgutil
from collections.abc import Iterator, Mapping

from asd_jax.config import Config, MembersConfig
from asd_jax.config.types import check_no_effect
from asd_jax.detectors.backends import on_embeddings
from asd_jax.detectors.base import Detector, DetectorConfig
from asd_jax.errors import UserError

_SHARED = (
    *("backends", "banked", "base", "cells", "classes", "joint", "networks", "outliers"),
    *("training_clips", "untrained"),
)


class _Systems(Mapping[str, type[Detector]]):
    """The systems' classes by name; each file is imported when its system is first asked for."""

    def __init__(self) -> None:
        names = {info.name for info in pkgutil.iter_modules(__path__)}
        self._names = sorted(names.difference(_SHARED))

    def __getitem__(self, name: str) -> type[Detector]:
        if name not in self._names:
            raise KeyError(name)
        module = importlib.import_module(f"{__name__}.{name}")
        return next(
            cls
            for _, cls in inspect.getmembers(module, inspect.isclass)
            if issubclass(cls, Detector) and cls.__module__ == module.__name__
        )

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


class _ConfigClasses(Mapping[str, type[DetectorConfig]]):
    """The classes of the systems' settings by name."""

    def __getitem__(self, name: str) -> type[DetectorConfig]:
        return registry()[name].Config

    def __iter__(self) -> Iterator[str]:
        return iter(registry())

    def __len__(self) -> int:
        return len(registry())


@functools.cache
def registry() -> Mapping[str, type[Detector]]:
    """The systems' classes by name."""
    return _Systems()


def config_classes() -> Mapping[str, type[DetectorConfig]]:
    """The classes of the systems' settings by name, as `config.from_dict` takes them."""
    return _ConfigClasses()


def list_detectors() -> tuple[str, ...]:
    """Names of all systems.

    Examples:
        >>> "dense_ae" in list_detectors()
        True
    """
    return tuple(registry())


def make_detector(config: Config) -> Detector:
    """The system that a configuration asks for.

    Raises:
        UserError: settings that the system has no use for.

    Examples:
        >>> from asd_jax.config import load_config
        >>> make_detector(load_config("dense_ae")).views.length
        5
    """
    system = registry()[config.detector.name]
    if config.embedding.kind != "none" and not system.Config.uses_embedding:
        raise UserError(
            f"embedding is {config.embedding.kind}, which {config.detector.name} does not use; "
            "leave it at none"
        )
    if config.backend.kind != "own":
        why = f"backend is {config.backend.kind}, not own"
        check_no_effect("detector", config.detector, system.Config.own_score, why)
        system = on_embeddings(system)
    return system(config)


def holds_out_for_thresholds(config: Config | MembersConfig) -> bool:
    """Whether clips that a configuration holds out set thresholds and choose no epoch.

    Published scores of such networks are of ones that learned from all clips.

    Examples:
        >>> from asd_jax.config import load_config
        >>> [holds_out_for_thresholds(load_config(name)) for name in ("multibranch", "dense_ae")]
        [True, False]
    """
    if isinstance(config, MembersConfig) or not make_detector(config).joint:
        return False
    return config.train.validation_split > 0 and not config.train.patience


__all__ = [
    "Detector",
    "DetectorConfig",
    "config_classes",
    "holds_out_for_thresholds",
    "list_detectors",
    "make_detector",
    "registry",
]
