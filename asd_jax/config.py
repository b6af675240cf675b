"""Configurations: typed frozen dataclasses, and changing them from the command line.

A configuration file is a Python file with a function `get_config()` that returns a
`Config`. Nothing here needs a configuration framework: `dataclasses.replace` is all there
is to changing one in Python, and `override` does the same from strings.
"""

import dataclasses
import difflib
import importlib.util
import json
import os
import types
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from asd_jax.audio.frontend import FrontEnd
from asd_jax.errors import UserError


@dataclasses.dataclass(frozen=True)
class DataConfig:
    """Which recordings of a data set are used.

    Attributes:
        machines: machine types; empty for all.
        subset: "dev" or "eval"; "auto" takes the development set where there is one.
        year: challenge year, for data whose year the layout does not tell; 0 finds it.
        channel: channel of recordings that have several; -1 takes their mean.
    """

    machines: tuple[str, ...] = ()
    subset: Literal["auto", "dev", "eval"] = "auto"
    year: int = 0
    channel: int = 0


@dataclasses.dataclass(frozen=True)
class TrainConfig:
    """How each model of a run is trained.

    Attributes:
        epochs: the most epochs a model is trained for.
        batch_size: views in an optimiser step.
        learning_rate: of the detector's optimiser.
        validation_split: share of each model's training clips held out, by whole clips.
        patience: a model stops when its validation loss has not improved for so many
            epochs, and its best weights are kept; 0 trains to the end and keeps the last.
        checkpoint_every: epochs between checkpoints.
        members: how the models of a fleet share a device: "vmap" computes them together,
            "map" one after another inside the same program, "loop" one compiled step at a
            time; "auto" chooses by backend and kind of step.
    """

    epochs: int = 100
    batch_size: int = 512
    learning_rate: float = 1e-3
    validation_split: float = 0.1
    patience: int = 0
    checkpoint_every: int = 10
    members: Literal["auto", "vmap", "map", "loop"] = "auto"

    def __post_init__(self):
        for name in ("epochs", "batch_size", "checkpoint_every"):
            if getattr(self, name) < 1:
                raise UserError(f"train.{name} is {getattr(self, name)}; it must be 1 or more")
        if not self.learning_rate > 0:
            raise UserError(f"train.learning_rate is {self.learning_rate}; it must be above 0")
        if not 0 <= self.validation_split < 1:
            raise UserError(
                f"train.validation_split is {self.validation_split}; it must be 0 or more, below 1"
            )
        if self.patience < 0:
            raise UserError(f"train.patience is {self.patience}; it must be 0 (off) or more")
        if self.patience and not self.validation_split:
            raise UserError("train.patience needs a validation set; raise train.validation_split")


@dataclasses.dataclass(frozen=True)
class Config:
    """A whole run: which system, on which data, how trained, with which seeds.

    Attributes:
        detector: the system's own configuration, defined in its file under `detectors/`.
        front_end: log-mel settings.
        data: which recordings.
        train: training settings.
        seeds: one model of each kind is trained a seed.
        threshold: the decision threshold is a quantile of the gamma distribution fitted to
            the training clips' scores ("gamma"), or their "mean", or 0 for systems whose score
            is a distance from a threshold of their own ("zero").
        threshold_quantile: that quantile.
        name: of the configuration; `load_config` gives it the file's name.
    """

    detector: Any
    front_end: FrontEnd = FrontEnd()
    data: DataConfig = DataConfig()
    train: TrainConfig = TrainConfig()
    seeds: tuple[int, ...] = (0, 1, 2)
    threshold: Literal["gamma", "mean", "zero"] = "gamma"
    threshold_quantile: float = 0.9
    name: str = ""

    def __post_init__(self):
        if not self.seeds:
            raise UserError("seeds is empty; name at least one, as in seeds=0,")
        if not isinstance(self.seeds, tuple) or not all(type(seed) is int for seed in self.seeds):
            raise UserError(f"seeds is {self.seeds!r}; it must be a tuple of whole numbers")
        if (
            len(set(self.seeds)) != len(self.seeds)
            or not 0 <= min(self.seeds) <= max(self.seeds) < 2**32
        ):
            raise UserError(f"seeds is {self.seeds}; they must differ and be 0 or more, below 2^32")
        if not 0 < self.threshold_quantile < 1:
            raise UserError(
                f"threshold_quantile is {self.threshold_quantile}; it must be between 0 and 1"
            )


def shipped_configs() -> dict[str, Path]:
    """The configurations that come with the package, name to file."""
    import asd_jax

    package = Path(asd_jax.__file__).parent
    # Installed, the files lie inside the package; in a checkout they lie beside it.
    for folder in (package / "configs", package.parent / "configs"):
        if folder.is_dir():
            files = sorted(folder.glob("*.py"))
            return {file.stem: file for file in files if not file.stem.startswith("_")}
    return {}


def load_config(name_or_path: str, overrides: Mapping[str, str] | None = None) -> Config:
    """Loads a configuration file and applies overrides.

    Args:
        name_or_path: path of a file with `get_config()`, or the name of a shipped one.
        overrides: dotted key to text, as in {"train.epochs": "5"}.

    Raises:
        UserError: no such file, no `get_config`, an unknown key, a value of a wrong type.
    """
    shipped = shipped_configs()
    path = shipped.get(name_or_path, Path(name_or_path))
    if path.suffix != ".py" or not os.path.isfile(path):
        names = [*shipped, *(f"configs/{name}.py" for name in shipped)]
        raise UserError(
            f"--config={name_or_path}: no such .py file and no configuration of that name"
            f"{nearest(name_or_path, names)}; `asd-jax list` shows all"
        )
    spec = importlib.util.spec_from_file_location(f"asd_jax_config_{path.stem}", path)
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
        config = module.get_config()
    except UserError:
        raise
    except Exception as error:
        raise UserError(f"--config={path}: {type(error).__name__}: {error}") from error
    if not isinstance(config, Config):
        raise UserError(
            f"--config={path}: get_config() gave a {type(config).__name__}, not asd_jax's Config"
        )
    return override(dataclasses.replace(config, name=config.name or path.stem), overrides or {})


def override(config, overrides: Mapping[str, str], *, root=None, prefix: str = ""):
    """Returns `config` with dotted keys set from text.

    Text is read by the field's type: `5`, `3e-4`, `true`, `none`, `0,1,2`, `fan,pump`.

    Args:
        config: a frozen dataclass, nested or not.
        overrides: dotted key to text.
        root: the outermost configuration, when `config` is a group inside it.
        prefix: the dotted key of that group, with a dot at its end.

    Raises:
        UserError: an unknown key (with the nearest right one) or a wrong value.
    """
    root = config if root is None else root
    hints = typing.get_type_hints(type(config))
    names = [field.name for field in dataclasses.fields(config)]
    values, groups = {}, {}
    for key, text in overrides.items():
        head, _, rest = key.partition(".")
        is_group = head in names and dataclasses.is_dataclass(getattr(config, head))
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
        values[head] = override(getattr(config, head), inner, root=root, prefix=f"{prefix}{head}.")
    return dataclasses.replace(config, **values)


def keys(config, prefix: str = "") -> list[str]:
    """All dotted keys of a configuration."""
    found = []
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if dataclasses.is_dataclass(value):
            found += keys(value, f"{prefix}{field.name}.")
        else:
            found.append(f"{prefix}{field.name}")
    return found


def nearest(wrong: str, right: Sequence[str]) -> str:
    """A "did you mean" for a message, or nothing where no name is near."""
    matches = difflib.get_close_matches(wrong, right, n=1, cutoff=0.5)
    if not matches:  # a key given without its group, such as `epochs` for `train.epochs`
        matches = [name for name in right if name.rsplit(".", 1)[-1] == wrong.rsplit(".", 1)[-1]]
    return f"; did you mean {matches[0]}?" if matches else ""


def _parse(text: str, kind, flag: str):
    """Reads `text` as a value of the annotated type `kind`."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, types.UnionType):
        if text.lower() == "none":
            return None
        return _parse(text, next(a for a in arguments if a is not type(None)), flag)
    if origin is Literal:
        if text not in arguments:
            raise UserError(f"{flag}={text}: must be one of {', '.join(map(str, arguments))}")
        return text
    if origin is tuple:
        inner = text.strip()
        if inner[:1] + inner[-1:] in ("()", "[]"):
            inner = inner[1:-1]
        items = [item.strip().strip("'\"") for item in inner.split(",") if item.strip()]
        return tuple(_parse(item, arguments[0], flag) for item in items)
    if kind is bool:
        if text.lower() not in ("true", "false", "1", "0"):
            raise UserError(f"{flag}={text}: must be true or false")
        return text.lower() in ("true", "1")
    if kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            wanted = "a whole number" if kind is int else "a number"
            raise UserError(f"{flag}={text}: must be {wanted}") from None
    return text


def to_json(config: Config) -> str:
    """The configuration as JSON, with the detector's name in it."""
    return json.dumps(to_dict(config), indent=2) + "\n"


def to_dict(config: Config) -> dict[str, Any]:
    """The configuration as nested dictionaries of JSON's types."""
    data = dataclasses.asdict(config)
    data["detector"] = {"name": config.detector.name, **data["detector"]}
    return json.loads(json.dumps(data))


def from_dict(data: Mapping[str, Any], detector_configs: Mapping[str, type]) -> Config:
    """The configuration that `to_dict` wrote.

    Args:
        data: nested dictionaries.
        detector_configs: each detector's configuration class by the detector's name.

    Raises:
        UserError: keys that this version does not know, or a detector it does not have.
    """
    data = dict(data)
    detector = dict(data.pop("detector"))
    name = str(detector.pop("name"))
    if name not in detector_configs:
        raise UserError(
            f"this version has no detector {name!r}{nearest(name, [*detector_configs])}"
        )
    groups = {"front_end": FrontEnd, "data": DataConfig, "train": TrainConfig}
    values = {key: _build(groups[key], data.pop(key), key) for key in groups if key in data}
    return _build(
        Config, {"detector": _build(detector_configs[name], detector, "detector"), **values, **data}
    )


def _build(cls, values: Mapping[str, Any], where: str = "config"):
    unknown = set(values) - {field.name for field in dataclasses.fields(cls)}
    if unknown:
        raise UserError(
            f"{where} has keys this version does not know: {', '.join(sorted(unknown))}"
        )
    return cls(**{k: tuple(v) if isinstance(v, list) else v for k, v in values.items()})


def difference(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> list[str]:
    """Dotted keys in which two configurations' dictionaries differ, each with both values."""

    def flatten(data, prefix=""):
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
