"""Variants of a configuration: all combinations of the values that keys are given.

Values of a key that takes one number, choice or truth are separated by commas; values of a text, or
of a key that itself takes several, by semicolons. Tuples may also be in brackets: (64,),(32,).
"""

import hashlib
import itertools
import os
import re
import types
import typing
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

from asd_jax.config import load_config, override
from asd_jax.config.members import MembersConfig
from asd_jax.config.types import Config
from asd_jax.errors import UserError

MOST = 1000  # variants
_LONGEST = 120  # characters of a variant's name, which is that of a folder
_BRACKETS = re.compile(r"\s*[(\[][^()\[\]]*[)\]](?:\s*,\s*[(\[][^()\[\]]*[)\]])+\s*")


class Variant(NamedTuple):
    """One of several configurations that are run beside one another.

    Attributes:
        name: of its values, and of its run directory; "" where no key has several values.
        values: of the keys that have several, by their dotted names.
        config: the configuration.
    """

    name: str
    values: Mapping[str, Any]
    config: Config | MembersConfig


def load_variants(
    name_or_path: os.PathLike | str, overrides: Mapping[str, str] | None = None
) -> list[Variant]:
    """Loads a configuration once for each combination of the values that keys are given.

    Args:
        name_or_path: as of `load_config`.
        overrides: dotted key to text, in which several values are separated by commas, or by
            semicolons where the key takes a text or a tuple.

    Returns:
        The variants, the last key's values varying fastest; one without a name where no key has
        several values.

    Raises:
        UserError: as `load_config`, for any of the variants; an ambiguous text; or too many.

    Examples:
        >>> rates = {"train.learning_rate": "1e-3,1e-4", "seeds": "0,1", "train.patience": "5"}
        >>> for variant in load_variants("dense_ae", rates):
        ...     print(variant.name, variant.config.train.learning_rate, variant.config.seeds)
        train.learning_rate=0.001 0.001 (0, 1)
        train.learning_rate=0.0001 0.0001 (0, 1)
        >>> widths = load_variants("dense_ae", {"detector.hidden": "64,32;16,"})
        >>> [variant.name for variant in widths]
        ['detector.hidden=64+32', 'detector.hidden=16']
    """
    plain = load_config(name_or_path)
    texts = {}
    for key, text in (overrides or {}).items():
        if not isinstance(text, str):  # the error of `load_config`
            load_config(name_or_path, overrides)
        name, kind = _place(plain, key)
        texts[name] = [text] if kind is None else _values(text, kind, f"--config.{key}")
    several = [key for key, values in texts.items() if len(values) > 1]
    if not several:
        single = {key: values[0] for key, values in texts.items()}
        return [Variant("", {}, load_config(name_or_path, single))]
    count = 1
    for key in several:
        count *= len(texts[key])
    if count > MOST:
        raise UserError(f"{' and '.join(several)} have {count:,} combinations; at most {MOST:,}")
    variants: dict[str, Variant] = {}
    for chosen in itertools.product(*texts.values()):
        config = override(plain, dict(zip(texts, chosen, strict=True)))
        values = {key: value_of(config, key) for key in several}
        name = variant_name(values)
        if name in variants:
            raise UserError(f"{name} is given twice; name each value once")
        variants[name] = Variant(name, values, config)
    return [*variants.values()]


def value_of(config: Any, key: str) -> Any:
    """The value of a dotted key."""
    for part in key.split("."):
        config = config[part] if isinstance(config, Mapping) else getattr(config, part)
    return config


def variant_name(values: Mapping[str, Any]) -> str:
    """A folder's name of the values of some keys.

    Examples:
        >>> variant_name({"seeds": (0, 1), "train.learning_rate": 1e-5, "backend.kind": "knn"})
        'seeds=0+1,train.learning_rate=1e-05,backend.kind=knn'
        >>> variant_name({"embedding.weights": "/a b/c.h5"})
        'embedding.weights=_a_b_c.h5~54406f'
    """
    plain = ",".join(f"{key}={written(value)}" for key, value in values.items())
    safe = re.sub(r"[^\w.,=+-]", "_", plain, flags=re.ASCII)
    if safe == plain and len(plain) <= _LONGEST:
        return plain
    digest = hashlib.sha256(plain.encode(errors="surrogateescape")).hexdigest()[:6]
    return f"{safe[:_LONGEST]}~{digest}"


def written(value: Any) -> str:
    """A value in few characters.

    Examples:
        >>> written(0.001), written((64, 32)), written(None), written(False), written("knn")
        ('0.001', '64+32', 'none', 'false', 'knn')
    """
    if isinstance(value, tuple):
        return "+".join(map(written, value))
    if value is None or isinstance(value, bool):
        return str(value).lower()
    return repr(value) if isinstance(value, float) else str(value)


def _place(config: Any, key: str) -> tuple[str, Any]:
    """The whole name of a key today, and the type of its value; None of a key that there is not."""
    former = getattr(config, "FORMER_NAMES", {})
    head, _, rest = former.get(key, key).partition(".")
    inner = config.get(head) if isinstance(config, Mapping) else getattr(config, head, None)
    if not (isinstance(inner, Mapping) or hasattr(inner, "__dataclass_fields__")):
        hints = {} if isinstance(config, Mapping) else typing.get_type_hints(type(config))
        return (head, hints.get(head)) if not rest else (key, None)
    rest = rest or getattr(inner, "SHORT_FOR", "")
    if not rest:
        return key, None
    name, kind = _place(inner, rest)
    return f"{head}.{name}", kind


def _values(text: str, kind: Any, flag: str) -> list[str]:
    """The texts of the values that a text has."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, types.UnionType):
        kind = next(each for each in arguments if each is not type(None))
        return _values(text, kind, flag)
    if origin is tuple:
        return _tuples(text, arguments[0] in (int, float), flag)
    if origin is Literal or kind in (int, float, bool):
        return _single_values(text, flag)
    if len(text) > 1 and text[0] == text[-1] == '"':
        return [text[1:-1]] if ";" in text else [text]
    return text.split(";")


def _single_values(text: str, flag: str) -> list[str]:
    if "," in text and ";" in text:
        raise UserError(
            f"{flag}={text[:80]} has both , and ; between its values; write one of them"
        )
    values = [each.strip() for each in re.split("[,;]", text)]
    if len(values) > 1 and not all(values):
        raise UserError(f"{flag}={text[:80]} has an empty value; write values between commas")
    return values


def _tuples(text: str, numbers: bool, flag: str) -> list[str]:
    if ";" in text:
        return [each.strip() for each in text.split(";")]
    if _BRACKETS.fullmatch(text):
        return re.findall(r"[(\[][^()\[\]]*[)\]]", text)
    inside = text.strip()[1:-1] if text.strip()[:1] in ("(", "[") else text
    if numbers and re.search(r"[()\[\]]", inside):
        raise UserError(
            f"{flag}={text[:80]} is ambiguous; separate tuples by semicolons, as in 1,2;3,4"
        )
    return [text]
