"""The systems of the zoo, one file each; a new file is registered by its presence.

A system's file has its name: `dense_ae` is in `dense_ae.py`. A system is imported when it is first
asked for. Systems of other packages are known by `register` or by an entry point.
"""

import dataclasses
import functools
import importlib
import inspect
import pkgutil
import re
from collections.abc import Iterator, Mapping
from typing import Any, TypeVar

from asd_jax.config import Config, MembersConfig, plugins, shipped_configs
from asd_jax.config.types import check_no_effect
from asd_jax.detectors.backends import on_embeddings
from asd_jax.detectors.base import Detector, DetectorConfig
from asd_jax.errors import UserError

# Modules here that are of no one system.
_SHARED = (
    *("backends", "banked", "base", "cells", "classes", "joint", "networks", "outliers"),
    *("settings", "training_clips", "untrained", "vectors"),
)


SCOPES = ("machine", "section", "machine by section")
_System = TypeVar("_System", bound=Detector)


class _Systems(Mapping[str, type[Detector]]):
    """The systems' classes by name; each is imported when it is first asked for."""

    def __init__(self) -> None:
        names = {info.name for info in pkgutil.iter_modules(__path__)}
        self.own = sorted(names.difference(_SHARED))

    def __getitem__(self, name: str) -> type[Detector]:
        if name in self.own:
            module = importlib.import_module(f"{__name__}.{name}")
            systems = [
                cls
                for _, cls in inspect.getmembers(module, inspect.isclass)
                if issubclass(cls, Detector) and cls.__module__ == module.__name__
            ]
            assert systems, f"{module.__name__} has no system: name it in _SHARED of {__name__}"
            return systems[0]
        system: Any = plugins.find(name)
        if system is None:
            raise KeyError(name)
        if check_system(system) != name:
            point = plugins.entry_points()[name]
            raise UserError(
                f"detector {name!r} of {plugins.package_of(point)} calls itself "
                f"{system.Config.name!r}; give its entry point that name"
            )
        return system

    def __iter__(self) -> Iterator[str]:
        others = (name for name in plugins.names() if name not in self.own)
        return iter([*self.own, *others])

    def __len__(self) -> int:
        return sum(1 for _ in self)


class _ConfigClasses(Mapping[str, type[DetectorConfig]]):
    """The classes of the systems' settings by name."""

    def __getitem__(self, name: str) -> type[DetectorConfig]:
        return registry()[name].Config

    def __iter__(self) -> Iterator[str]:
        return iter(registry())

    def __len__(self) -> int:
        return len(registry())


@functools.cache
def registry() -> _Systems:
    """The systems' classes by name, those of other packages behind this one's.

    A system that cannot be used raises UserError where it is asked for.
    """
    return _Systems()


def config_classes() -> Mapping[str, type[DetectorConfig]]:
    """The classes of the systems' settings by name, as `config.from_dict` takes them."""
    return _ConfigClasses()


def register(system: type[_System]) -> type[_System]:
    """Makes a system of another package usable by its name, in this process.

    A package that is installed does without the call: an entry point of the group
    `asd_jax.detectors` with the system's name makes it known to every process.

    Args:
        system: the class, a `Detector` whose `Config.name` is the name.

    Returns:
        The class, so that this is a decorator.

    Raises:
        UserError: the class lacks something, or the name is taken.

    Examples:
        >>> @register
        ... class Mine:
        ...     pass
        Traceback (most recent call last):
        asd_jax.errors.UserError: Mine is no detector: it must be a subclass of ...
    """
    name = check_system(system)
    if name in registry().own:
        raise UserError(f"{name!r} is a detector of asd_jax; give {system.__name__} another name")
    if name in shipped_configs():
        raise UserError(
            f"{name!r} is a configuration of asd_jax; give {system.__name__} another name"
        )
    plugins.remember(name, system)
    return system


def check_system(system: Any) -> str:
    """Checks that a class has what a system needs, and returns its name.

    Raises:
        UserError: it lacks something.
    """
    shown = getattr(system, "__name__", repr(system))
    if not (inspect.isclass(system) and issubclass(system, Detector)):
        raise UserError(
            f"{shown} is no detector: it must be a subclass of asd_jax.detectors.Detector"
        )
    if missing := sorted(system.__abstractmethods__):
        raise UserError(f"{shown} lacks {', '.join(missing)}, which every detector defines")
    settings = getattr(system, "Config", None)
    if not (
        inspect.isclass(settings)
        and issubclass(settings, DetectorConfig)
        and dataclasses.is_dataclass(settings)
    ):
        raise UserError(f"{shown} needs Config, a frozen dataclass derived from DetectorConfig")
    if not re.fullmatch(r"[A-Za-z]\w*", settings.name):
        raise UserError(
            f"{shown}.Config.name is {settings.name!r}; it must be a name of letters, digits and _"
        )
    if without := [
        field.name
        for field in dataclasses.fields(settings)
        if field.default is field.default_factory  # both are MISSING
    ]:
        raise UserError(f"{shown}.Config: {without[0]} needs a default")
    for attribute in ("title", "paper"):
        if not isinstance(getattr(system, attribute, None), str):
            raise UserError(f"{shown} needs {attribute}, a text for `asd-jax list`")
    if getattr(system, "scope", None) not in SCOPES:
        raise UserError(f"{shown}.scope must be one of {', '.join(map(repr, SCOPES))}")
    return settings.name


def other_systems() -> tuple[dict[str, type[Detector]], list[str]]:
    """Systems of other packages by name, and a line for each that cannot be used."""
    systems, lines = {}, plugins.clashes()
    for name in plugins.names():
        if name in registry().own or name in shipped_configs():
            package = plugins.package_of(plugins.entry_points()[name])
            lines.append(f"detector {name!r} of {package} is left out: the name is asd_jax's")
            continue
        try:
            systems[name] = registry()[name]
        except UserError as error:
            lines.append(str(error))
    return systems, lines


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
    """Whether a configuration holds clips out for thresholds, which published networks learn from.

    Examples:
        >>> from asd_jax.config import load_config
        >>> [holds_out_for_thresholds(load_config(name)) for name in ("multibranch", "dense_ae")]
        [True, False]
    """
    return not isinstance(config, MembersConfig) and config.train.threshold_split > 0


__all__ = [
    "Detector",
    "DetectorConfig",
    "config_classes",
    "holds_out_for_thresholds",
    "list_detectors",
    "make_detector",
    "other_systems",
    "register",
    "registry",
]
