"""Configurations: typed frozen dataclasses, and overrides of their keys by text.

A configuration file is a Python file with a function `get_config()` that returns a `Config`, an
`EnsembleConfig` or a `ChoiceConfig`. There is no configuration framework: change one in Python with
`dataclasses.replace`, and from strings with `override`.
"""

import dataclasses
import importlib.util
import os
from collections.abc import Mapping
from pathlib import Path

from asd_jax.config import plugins
from asd_jax.config.members import (
    ChoiceConfig,
    EnsembleConfig,
    MemberEmbeddingConfig,
    MembersConfig,
    MemberTrainConfig,
)
from asd_jax.config.text import (
    difference,
    from_dict,
    keys,
    override,
    to_dict,
    to_json,
    upgraded,
)
from asd_jax.config.types import (
    BackendConfig,
    Config,
    DataConfig,
    EmbeddingConfig,
    TrainConfig,
)
from asd_jax.errors import UserError, nearest
from asd_jax.runtime.arguments import check, check_path

__all__ = [
    "BackendConfig",
    "ChoiceConfig",
    "Config",
    "DataConfig",
    "EmbeddingConfig",
    "EnsembleConfig",
    "MemberEmbeddingConfig",
    "MembersConfig",
    "MemberTrainConfig",
    "TrainConfig",
    "difference",
    "from_dict",
    "keys",
    "load_config",
    "nearest",
    "override",
    "shipped_configs",
    "to_dict",
    "to_json",
    "upgraded",
]


def shipped_configs() -> dict[str, Path]:
    """The configurations shipped with the package: name → file."""
    import asd_jax

    package = Path(asd_jax.__file__).parent
    # A wheel has the files inside the package, a checkout beside it.
    for folder in (package / "configs", package.parent / "configs"):
        if folder.is_dir():
            files = sorted(folder.glob("*.py"))
            return {file.stem: file for file in files if not file.stem.startswith("_")}
    return {}


def load_config(
    name_or_path: os.PathLike | str, overrides: Mapping[str, str] | None = None
) -> Config | MembersConfig:
    """Loads a configuration file and applies overrides.

    Args:
        name_or_path: path of a file with `get_config()`, the name of a shipped one, or the name of
            a system of another package, see `asd_jax.register`.
        overrides: dotted key to text, as in {"train.epochs": "5"}.

    Raises:
        UserError: no such file, no `get_config`, an unknown key, or a value of a wrong type.
    """
    check_path("the configuration", name_or_path)
    name_or_path = os.fspath(name_or_path)
    check("overrides", overrides or {}, (Mapping,), "a mapping, as in {'train.epochs': '5'}")
    for key, text in (overrides or {}).items():
        check(f"overrides[{key!r}]", text, (str,), f"a text, as in {{{key!r}: '5'}}")
    shipped = shipped_configs()
    path = shipped.get(name_or_path, Path(name_or_path))
    if path.suffix != ".py" or not os.path.isfile(path):
        if (system := plugins.find(name_or_path)) is not None:
            config = plugins.default_config(name_or_path, system)
            named = dataclasses.replace(config, name=config.name or name_or_path)
            return override(named, overrides or {})
        names = [*shipped, *plugins.names(), *(f"configs/{name}.py" for name in shipped)]
        raise UserError(
            f"--config={name_or_path}: no such .py file and no configuration of that name"
            f"{nearest(name_or_path, names)}; `asd-jax list` shows all"
        )
    module_name = f"{plugins.CONFIG_MODULE}{path.stem}"
    spec = importlib.util.spec_from_file_location(module_name, path)
    assert spec and spec.loader  # as the name ends in .py
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
        config = module.get_config()
    except UserError:
        raise
    except Exception as error:
        raise UserError(f"--config={path}: {type(error).__name__}: {error}") from error
    if not isinstance(config, Config | MembersConfig):
        raise UserError(
            f"--config={path}: get_config() gave a {type(config).__name__}, not asd_jax's Config"
        )
    return override(dataclasses.replace(config, name=config.name or path.stem), overrides or {})
