"""Conversion of configurations from and to text: overrides of the command line, and JSON."""

import dataclasses
import json
import types
import typing
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeVar

from asd_jax.audio.frontend import FrontEnd
from asd_jax.config.members import (
    ChoiceConfig,
    EnsembleConfig,
    MemberEmbeddingConfig,
    MembersConfig,
    MemberTrainConfig,
)
from asd_jax.config.plugins import package_of_settings
from asd_jax.config.types import (
    BackendConfig,
    Config,
    DataConfig,
    EmbeddingConfig,
    NoEffectError,
    TrainConfig,
)
from asd_jax.errors import UserError, nearest
from asd_jax.runtime.arguments import composed

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

_Group = TypeVar("_Group", bound="DataclassInstance")

# Key of `to_dict` for the package of a system that is not this one's.
_PACKAGE = "package"

# Keys that members of an ensemble take from it.
OF_ENSEMBLE = ("data", "seeds", "name")


def override(
    config: _Group, overrides: Mapping[str, str], *, root: Any = None, prefix: str = ""
) -> _Group:
    """Returns `config` with dotted keys set from text.

    The field's type decides how text is read: `5`, `3e-4`, `true`, `none`, `0,1,2`, `fan,pump`.

    Args:
        config: a frozen dataclass, nested or not.
        overrides: dotted key to text.
        root: the outermost configuration, when `config` is a group inside it.
        prefix: the dotted key of that group, with a dot at its end.

    Raises:
        UserError: an unknown key (with the nearest right one) or a wrong value.
    """
    root = config if root is None else root
    former = getattr(config, "FORMER_NAMES", {})
    overrides = {former.get(key, key): text for key, text in overrides.items()}
    hints = typing.get_type_hints(type(config))
    names = [field.name for field in dataclasses.fields(config)]
    values: dict[str, Any] = {}
    groups: dict[str, dict[str, str]] = {}
    for key, text in overrides.items():
        head, _, rest = key.partition(".")
        is_group = head in names and _is_group(getattr(config, head))
        if is_group and not rest and hasattr(getattr(config, head), "SHORT_FOR"):
            rest = getattr(config, head).SHORT_FOR
        if is_group and not rest:
            inside = keys(getattr(config, head), f"{prefix}{head}.")
            raise UserError(f"--config.{prefix}{head} is a group; set {' or '.join(inside)}")
        if is_group:
            groups.setdefault(head, {})[rest] = text
        elif head in names and not rest:
            values[head] = _parse(text, hints[head], f"--config.{prefix}{head}")
        else:
            full = f"{prefix}{key}"
            raise UserError(f"--config.{full}: no such key{nearest(full, keys(root))}")
    for head, inner in groups.items():
        group, where = getattr(config, head), f"{prefix}{head}."
        if isinstance(group, Mapping):
            values[head] = _override_members(group, inner, root, where)
        else:
            values[head] = override(group, inner, root=root, prefix=where)
    return dataclasses.replace(config, **values)


def _override_members(
    members: Mapping[str, Config | MembersConfig],
    overrides: Mapping[str, str],
    root: Any,
    prefix: str,
) -> dict[str, Config | MembersConfig]:
    """Named configurations with keys "NAME.KEY" set; arguments as in `override`."""
    of_member: dict[str, dict[str, str]] = {}
    for key, text in overrides.items():
        name, _, rest = key.partition(".")
        if name not in members or not rest:
            raise UserError(
                f"--config.{prefix}{key}: no such key{nearest(f'{prefix}{key}', keys(root))}"
            )
        if rest.partition(".")[0] in OF_ENSEMBLE:
            raise UserError(f"--config.{prefix}{key}: members have the ensemble's; set {rest}")
        of_member.setdefault(name, {})[rest] = text
    changed = {
        name: override(members[name], inner, root=root, prefix=f"{prefix}{name}.")
        for name, inner in of_member.items()
    }
    return {**members, **changed}


def _is_group(value: object) -> bool:
    return dataclasses.is_dataclass(value) or isinstance(value, Mapping)


def keys(config: Any, prefix: str = "") -> list[str]:
    """All dotted keys of a configuration."""
    dotted = []
    if isinstance(config, Mapping):
        values = dict(config)
    else:
        values = {field.name: getattr(config, field.name) for field in dataclasses.fields(config)}
    for name, value in values.items():
        dotted += keys(value, f"{prefix}{name}.") if _is_group(value) else [f"{prefix}{name}"]
    return dotted


def _parse(text: str, kind: Any, flag: str) -> Any:
    """Reads `text` as a value of the annotated type `kind`."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, types.UnionType):
        if text.lower() == "none":
            return None
        return _parse(text, next(a for a in arguments if a is not type(None)), flag)
    if origin is Literal:
        if text not in arguments:
            raise UserError(
                f"{flag}={_clipped(text)}: must be one of {', '.join(map(str, arguments))}"
            )
        return text
    if origin is tuple:
        inner = text.strip()
        if inner[:1] + inner[-1:] in ("()", "[]"):
            inner = inner[1:-1]
        items = [item.strip().strip("'\"") for item in inner.split(",") if item.strip()]
        if arguments[0] is str:  # names of machines
            items = list(map(composed, items))
        return tuple(_parse(item, arguments[0], flag) for item in items)
    if kind is bool:
        if text.lower() not in ("true", "false", "1", "0"):
            raise UserError(f"{flag}={_clipped(text)}: must be true or false")
        return text.lower() in ("true", "1")
    if kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            wanted = "a whole number" if kind is int else "a number"
            raise UserError(f"{flag}={_clipped(text)}: must be {wanted}") from None
    return text


def _clipped(text: str) -> str:
    """A text for a message, of a moderate length."""
    return text if len(text) <= 80 else f"{text[:80]}…"


def to_json(config: Config | MembersConfig) -> str:
    """The configuration as JSON, the detector's name included."""
    return json.dumps(to_dict(config), indent=2) + "\n"


def to_dict(config: Config | MembersConfig) -> dict[str, Any]:
    """Converts a configuration to nested dictionaries of JSON's types."""
    if isinstance(config, MembersConfig):
        members = {name: to_dict(member) for name, member in config.members.items()}
        own = {field.name: getattr(config, field.name) for field in dataclasses.fields(config)}
        own |= {k: dataclasses.asdict(own[k]) for k in ("data", "train", "embedding")}
        kind = _MEMBERS_KINDS[type(config)]
        settings = {name: own.pop(name) for name in kind.settings}
        detector = {"name": kind.name, **settings}
        return json.loads(json.dumps({**own, "members": members, "detector": detector}))
    data = dataclasses.asdict(config)
    package = package_of_settings(config.detector)
    origin = {} if package is None else {_PACKAGE: package}
    data["detector"] = {"name": config.detector.name, **origin, **data["detector"]}
    return json.loads(json.dumps(data))


class _Kind(NamedTuple):
    """Name of a configuration with members in JSON, and its settings there."""

    name: str
    settings: tuple[str, ...]


_MEMBERS_KINDS = {
    EnsembleConfig: _Kind("ensemble", ("combine",)),
    ChoiceConfig: _Kind("choice", ("choices", "default")),
}


def upgraded(data: Mapping[str, Any]) -> dict[str, Any]:
    """Converts the dictionaries of an earlier version to those of `to_dict` today."""
    data = dict(data)
    if "members" in data:
        data["members"] = {name: upgraded(member) for name, member in data["members"].items()}
    if isinstance(train := data.get("train"), Mapping):
        former = TrainConfig.FORMER_NAMES
        data["train"] = {former.get(key, key): value for key, value in train.items()}
    detector = dict(data.get("detector", {}))
    if "group" in detector:  # of systems without training, before all had it
        data["data"] = {**data.get("data", {}), "group": detector.pop("group")}
        data["detector"] = detector
    if detector.get("name") == "ensemble" and "choices" in detector:
        if detector["combine"] == "choose":
            del detector["combine"]
            detector["name"] = "choice"
            data.pop("threshold_quantile", None)  # had no effect
        else:
            del detector["choices"], detector["default"]
        data["detector"] = detector
    return data


def from_dict(
    data: Mapping[str, Any], detector_configs: Mapping[str, type]
) -> Config | MembersConfig:
    """Converts dictionaries from `to_dict`, of this version or an earlier one, to a configuration.

    Args:
        data: nested dictionaries.
        detector_configs: each detector's configuration class by the detector's name.

    Raises:
        UserError: keys or a detector that this version lacks.
    """
    data = upgraded(data)
    detector = dict(data.pop("detector"))
    name, package = str(detector.pop("name")), detector.pop(_PACKAGE, None)
    for cls, kind in _MEMBERS_KINDS.items():
        if name == kind.name:
            members = {k: from_dict(v, detector_configs) for k, v in data.pop("members").items()}
            values = _built(_MEMBERS_GROUPS, data)
            return _build(cls, {"members": members, **values, **detector, **data})
    if name not in detector_configs and package:
        raise UserError(
            f"detector {name!r} is of the package {package!r}, which is not installed here or does "
            f"not register it: install it, or import it before asd_jax.load"
        )
    if name not in detector_configs:
        raise UserError(
            f"this version has no detector {name!r}{nearest(name, [*detector_configs])}"
        )
    values = _built(_GROUPS, data)
    return _build(
        Config, {"detector": _build(detector_configs[name], detector, "detector"), **values, **data}
    )


_GROUPS: Mapping[str, type] = {
    "front_end": FrontEnd,
    "data": DataConfig,
    "train": TrainConfig,
    "embedding": EmbeddingConfig,
    "backend": BackendConfig,
}
_MEMBERS_GROUPS: Mapping[str, type] = {
    "data": DataConfig,
    "train": MemberTrainConfig,
    "embedding": MemberEmbeddingConfig,
}


def _built(groups: Mapping[str, type], data: dict[str, Any]) -> dict[str, Any]:
    """Builds the groups of settings in `data`, and removes them from it."""
    return {key: _build(groups[key], data.pop(key), key) for key in groups if key in data}


def _build(cls: type[_Group], values: Mapping[str, Any], where: str = "config") -> _Group:
    unknown = set(values) - {field.name for field in dataclasses.fields(cls)}
    if unknown:
        raise UserError(
            f"{where} has keys this version does not know: {', '.join(sorted(unknown))}"
        )
    values = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
    while True:
        try:
            return cls(**values)
        except NoEffectError as error:  # earlier versions accepted it
            if error.group in values:
                group = values[error.group]
                default = {f.name: f.default for f in dataclasses.fields(group)}[error.field]
                values[error.group] = dataclasses.replace(group, **{error.field: default})
            elif error.field in values:
                del values[error.field]
            else:
                raise


def difference(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> list[str]:
    """Dotted keys in which two configurations' dictionaries differ, each with both values."""

    def flatten(data: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
        for key, value in data.items():
            if isinstance(value, dict):
                yield from flatten(value, f"{prefix}{key}.")
            else:
                yield f"{prefix}{key}", value

    here, there = dict(flatten(ours)), dict(flatten(theirs))
    return [
        f"{key} is {there.get(key)} there and {here.get(key)} here"
        for key in sorted(here.keys() | there.keys())
        if here.get(key) != there.get(key)
    ]
