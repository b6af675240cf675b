"""What the processes of a run must have alike, and the line that says where they differ."""

import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax

_SHOWN = 4  # keys that a line names with their values
_LONGEST = 60  # characters of a value
# Settings of JAX that change what is computed.
_JAX = (
    *("jax_default_matmul_precision", "jax_enable_x64", "jax_default_prng_impl"),
    *("jax_threefry_partitionable", "jax_platforms", "jax_numpy_dtype_promotion"),
)


def flattened(nested: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Dotted keys and values, as JSON, of a configuration as a dictionary.

    Examples:
        >>> dict(flattened({"train": {"epochs": 5}, "seeds": [0, 1]}))
        {'train.epochs': '5', 'seeds': '[0, 1]'}
    """
    for key, value in nested.items():
        if isinstance(value, Mapping) and value:
            yield from flattened(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", json.dumps(value)


def of_program(versions: Mapping[str, str | None]) -> dict[str, str]:
    """The code of this package, the versions of others, and JAX's settings.

    Args:
        versions: of packages.
    """
    settings = {name: str(jax.config.values.get(name)) for name in _JAX}
    others = {f"version of {name}": str(version) for name, version in versions.items()}
    return {"code of asd_jax": _digest_of_code(), **others, **settings}


def difference(statements: Sequence[Mapping[str, str]]) -> str:
    """One line that names the keys in which some process differs from the first; "" if none does.

    Args:
        statements: of each process, in their order.

    Examples:
        >>> difference([{"seeds": "[0]"}, {"seeds": "[0]"}, {"seeds": "[1]"}]).partition(";")[0]
        'the processes of this run differ: seeds is [0] in process 0 and [1] in process 2'
        >>> difference([{"seeds": "[0]"}, {"seeds": "[0]"}])
        ''
    """
    found = []
    for key in sorted({key for statement in statements for key in statement}):
        values = [statement.get(key, "nothing") for statement in statements]
        other = next((i for i, value in enumerate(values) if value != values[0]), None)
        if other is not None:
            own, its = _short(values[0], values[other])
            found.append((key, f"{key} is {own} in process 0 and {its} in process {other}"))
    if not found:
        return ""
    named = ", ".join(text for _, text in found[:_SHOWN])
    more = ", ".join(key for key, _ in found[_SHOWN : 6 * _SHOWN])
    left = len(found) - 6 * _SHOWN
    further = f"; also {more}{f' and {left} more' if left > 0 else ''}" if more else ""
    return (
        f"the processes of this run differ: {named}{further}; start all of them with the same "
        "command on the same code and recordings"
    )


def _short(*values: str) -> list[str]:
    """The values; long ones from where they begin to differ."""
    if max(map(len, values)) <= _LONGEST:
        return [*values]
    start = max(0, len(os.path.commonprefix(values)) - _LONGEST // 3)
    return [
        f"{'…' * (start > 0)}{value[start : start + _LONGEST]}"
        f"{'…' * (len(value) > start + _LONGEST)}"
        for value in values
    ]


def _digest_of_code() -> str:
    """Of all Python files of this package, whatever folder it is in."""
    package = Path(__file__).resolve().parent.parent
    digest = hashlib.sha256()
    for path in sorted(package.rglob("*.py")):
        digest.update(f"{path.relative_to(package)}\n".encode())
        digest.update(path.read_bytes().replace(b"\r\n", b"\n"))
    return digest.hexdigest()[:12]
