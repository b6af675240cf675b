"""The systems of the zoo, one file each; a new file is found by itself."""

import functools
import importlib
import inspect
import pkgutil
from types import MappingProxyType

from asd_jax.config import Config
from asd_jax.detectors.backends import on_embeddings
from asd_jax.detectors.base import Detector, DetectorConfig
from asd_jax.errors import UserError


@functools.cache
def registry() -> MappingProxyType[str, type[Detector]]:
    """The systems' classes by name."""
    systems = {}
    for info in pkgutil.iter_modules(__path__):
        module = importlib.import_module(f"{__name__}.{info.name}")
        for _, cls in inspect.getmembers(module, inspect.isclass):
            own = cls.__module__ == module.__name__
            if own and issubclass(cls, Detector) and not inspect.isabstract(cls):
                systems[cls.Config.name] = cls
    return MappingProxyType(dict(sorted(systems.items())))


def list_detectors() -> tuple[str, ...]:
    """Names of all systems."""
    return tuple(registry())


def make_detector(config: Config) -> Detector:
    """The system that a configuration asks for.

    Raises:
        UserError: settings that the system has no use for.
    """
    system = registry()[config.detector.name]
    if config.embedding.kind != "none" and not system.Config.uses_embedding:
        raise UserError(
            f"embedding is {config.embedding.kind}, of which {config.detector.name} has no use; "
            "leave it at none"
        )
    if config.backend.kind != "own":
        system = on_embeddings(system)
    return system(config)


__all__ = ["Detector", "DetectorConfig", "list_detectors", "make_detector", "registry"]
