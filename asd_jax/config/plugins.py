"""Systems of other packages: registered by a call, or found by their entry points.

A system of this package is a file; one of another package is known by `asd_jax.register`, or by an
entry point of the group `asd_jax.detectors`, which is loaded when its name is first asked for.
What is here knows classes of detectors by their names alone, so that configurations can be loaded
by name; `asd_jax.detectors` checks them.
"""

import functools
import importlib.metadata
from typing import Any

from asd_jax.config.types import Config
from asd_jax.errors import UserError

GROUP = "asd_jax.detectors"
# Modules of configuration files are called this, and the file's name.
CONFIG_MODULE = "asd_jax_config_"
_OWN = "asd_jax"

_registered: dict[str, type] = {}


def remember(name: str, system: type) -> None:
    """Makes a system known by its name, in this process; a reloaded class replaces itself.

    Raises:
        UserError: another class has the name.
    """
    before = _registered.get(name)
    if before is not None and _place(before) != _place(system):
        raise UserError(
            f"a detector {name!r} is registered already, {_place(before)}; give {_place(system)} "
            "another name in its Config"
        )
    point = entry_points().get(name)
    if point is not None and _package(point.module) != _package(system.__module__):
        raise UserError(
            f"a detector {name!r} is of {package_of(point)} already; give {_place(system)} another "
            "name in its Config"
        )
    _registered[name] = system


def names() -> tuple[str, ...]:
    """Names of the systems that are registered or have an entry point."""
    return tuple(sorted({*_registered, *entry_points()}))


def find(name: str) -> type | None:
    """The class of a system; None for an unknown name.

    Raises:
        UserError: its entry point cannot be loaded.
    """
    if name in _registered:
        return _registered[name]
    point = entry_points().get(name)
    if point is None:
        return None
    try:
        return point.load()
    except Exception as error:
        raise UserError(
            f"detector {name!r} of {package_of(point)} cannot be loaded: "
            f"{type(error).__name__}: {error}"
        ) from error


@functools.cache
def entry_points() -> dict[str, importlib.metadata.EntryPoint]:
    """The entry points by name; of two with one name, the first that is found."""
    found: dict[str, importlib.metadata.EntryPoint] = {}
    for point in importlib.metadata.entry_points(group=GROUP):
        found.setdefault(point.name, point)
    return found


def clashes() -> list[str]:
    """A line for each entry point whose name is that of another package's."""
    return [
        f"detector {point.name!r} of {package_of(point)} is left out: {package_of(first)} has one "
        "of that name"
        for point in importlib.metadata.entry_points(group=GROUP)
        if (first := entry_points().get(point.name)) is not None and first.value != point.value
    ]


def packages() -> list[str]:
    """Names of the packages that have entry points."""
    points = importlib.metadata.entry_points(group=GROUP)
    return sorted({point.dist.name for point in points if point.dist})


def package_of(point: importlib.metadata.EntryPoint) -> str:
    """The package of an entry point, for messages."""
    return f"package {point.dist.name}" if point.dist else f"module {point.module}"


def package_of_settings(settings: Any) -> str | None:
    """The package that a system's settings are from; None of this one and of a file's.

    It is kept with a configuration, so that a run of a system that is missing can name it.
    """
    package = _package(type(settings).__module__)
    own = package == _OWN or package.startswith((CONFIG_MODULE, "__main__"))
    return None if own else package


def default_config(name: str, system: Any) -> Config:
    """The configuration of a system by its name: that of its `get_config`, else its defaults."""
    if hasattr(system, "get_config"):
        try:
            config = system.get_config()
        except UserError:
            raise
        except Exception as error:
            raise UserError(
                f"detector {name!r}: get_config: {type(error).__name__}: {error}"
            ) from error
        if not isinstance(config, Config):
            raise UserError(
                f"detector {name!r}: get_config() gave a {type(config).__name__}, not asd_jax's "
                "Config"
            )
        return config
    settings = system.Config()
    return Config(settings, seeds=(0, 1, 2) if settings.trains else (0,))


def _package(module: str) -> str:
    return module.partition(".")[0]


def _place(system: type) -> str:
    return f"{system.__module__}.{system.__qualname__}"
