"""Every key of a configuration with type, default and meaning, from the fields themselves."""

import dataclasses
import inspect
import re
import types
import typing
from collections.abc import Iterator, Mapping
from typing import Any, Literal, NamedTuple

from asd_jax.config.text import OF_ENSEMBLE
from asd_jax.runtime.bounds import bounds_of

_NAMES = {int: "whole number", float: "number", bool: "true or false", str: "text"}


class Key(NamedTuple):
    """A key of a configuration.

    Attributes:
        key: dotted, as in "train.epochs".
        kind: type in words.
        choices: the values it may have, where these are few; empty where they are not.
        range: of a number, or of each of a list; empty of what is no number.
        default: value of its class; `dataclasses.MISSING` where it has none.
        value: value in the configuration.
        meaning: from the docstring of its class.
    """

    key: str
    kind: str
    choices: tuple[str, ...]
    range: str
    default: Any
    value: Any
    meaning: str


def reference(config: Any, prefix: str = "") -> Iterator[Key]:
    """Yields every key that `override` can set.

    Args:
        config: a configuration, or a group of one.
        prefix: dotted key of the group, with a dot at its end.

    Examples:
        >>> from asd_jax.config import load_config
        >>> found = {each.key: each for each in reference(load_config("dense_ae"))}
        >>> found["detector.latent"].kind, found["detector.latent"].value
        ('whole number', 8)
        >>> found["detector.latent"].range
        '1 or more, at most 10^5'
    """
    hints, meant = typing.get_type_hints(type(config)), meanings(type(config))
    ranges = bounds_of(type(config))
    for field in dataclasses.fields(config):
        value, key = getattr(config, field.name), f"{prefix}{field.name}"
        if dataclasses.is_dataclass(value):
            yield from reference(value, f"{key}.")
        elif isinstance(value, Mapping):
            yield from _of_members(value, f"{key}.")
        else:
            default = field.default
            if field.default_factory is not dataclasses.MISSING:
                default = field.default_factory()
            kind, choices = _described(hints[field.name])
            allowed = str(ranges.get(field.name, ""))
            yield Key(key, kind, choices, allowed, default, value, meant.get(field.name, ""))


def _of_members(members: Mapping[str, Any], prefix: str) -> Iterator[Key]:
    for name, member in members.items():
        for each in reference(member, f"{prefix}{name}."):
            own = each.key.removeprefix(f"{prefix}{name}.")
            if own.partition(".")[0] not in OF_ENSEMBLE:
                yield each


def meanings(cls: type) -> dict[str, str]:
    """What the attributes of a class mean, by the "Attributes:" of its docstring and its bases'.

    Examples:
        >>> from asd_jax.config import TrainConfig
        >>> meanings(TrainConfig)["learning_rate"]
        "of the detector's optimiser"
    """
    found: dict[str, str] = {}
    for base in reversed(cls.__mro__):
        found |= _attributes(vars(base).get("__doc__") or "")
    return found


def _attributes(docstring: str) -> dict[str, str]:
    """Name → text of the section "Attributes:", whose lines may be continued, deeper indented."""
    found: dict[str, list[str]] = {}
    inside, indent, name = False, 0, ""
    for line in inspect.cleandoc(docstring).splitlines():
        if line and not line[0].isspace():  # a heading, or text of the docstring
            inside = line.rstrip() == "Attributes:"
            indent, name = 0, ""
            continue
        if not inside or not line.strip():
            continue
        depth = len(line) - len(line.lstrip())
        indent = indent or depth
        begun = re.match(r"(\w+)(?: \([^)]*\))?:(?:\s+(.*))?$", line.strip())
        if depth <= indent and begun:
            name = begun[1]
            found[name] = [begun[2] or ""]
        elif name:
            found[name].append(line.strip())
    return {name: _sentence(" ".join(filter(None, texts))) for name, texts in found.items()}


def _sentence(text: str) -> str:
    """The text without a full stop after its only sentence, and without backticks."""
    text = text.replace("`", "").strip()
    return text.removesuffix(".") if text.count(". ") == 0 else text


def _described(kind: Any) -> tuple[str, tuple[str, ...]]:
    """An annotated type in words, and its values where these are few."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, types.UnionType):
        inner, choices = _described(next(a for a in arguments if a is not type(None)))
        return f"{inner}, or none", (*choices, "none") if choices else ()
    if origin is Literal:
        choices = tuple(map(str, arguments))
        return "one of " + ", ".join(choice or "(empty)" for choice in choices), choices
    if origin is tuple:
        return f"list of {_described(arguments[0])[0]}s", ()
    choices = ("true", "false") if kind is bool else ()
    return _NAMES.get(kind, getattr(kind, "__name__", str(kind))), choices


def as_text(value: Any) -> str:
    """A value as `override` reads it, the inverse of its parsing.

    Examples:
        >>> as_text((0, 1)), as_text((0,)), as_text(None), as_text(True), as_text(1e-3)
        ('0,1', '0,', 'none', 'true', '0.001')
    """
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, tuple | list):
        items = [as_text(item) for item in value]
        return f"{items[0]}," if len(items) == 1 else ",".join(items)
    return str(value)
