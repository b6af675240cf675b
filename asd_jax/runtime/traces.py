"""Traced programs that outlive the process, so that a second start traces nothing anew.

JAX keeps compiled programs (`compilation.keep_compiled`), and finds them by the program that it has
traced and lowered: a second for a small network, many for a deep one. A trace is kept as StableHLO
(`jax.export`), by all that it is made of: this package's source, the versions of what it calls,
JAX's settings, the kind of device, and what the caller names.
"""

import dataclasses
import functools
import hashlib
import itertools
import sys
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

import jax
import jax.export
import numpy as np
import xxhash

from asd_jax.errors import UserError
from asd_jax.runtime.compilation import compiler_options, traces_folder
from asd_jax.runtime.files import atomic_write

_PACKAGE = Path(__file__).resolve().parents[1]
_VERSIONS = ("flax", "jax", "jaxlib", "numpy", "optax")
_DIGEST_BYTES = 16


@dataclasses.dataclass(frozen=True)
class Traces:
    """Kept traces of programs of one origin.

    Attributes:
        folder: has a file for each program and each set of shapes.
        origin: digest of what the programs are made of, but for the shapes.
    """

    folder: Path
    origin: str

    @classmethod
    def of(cls, *made_of: object) -> "Traces | None":
        """Of programs made of this package and of settings that their `repr` tells apart.

        None where compiled programs are not kept by this package either.
        """
        folder = traces_folder()
        if folder is None:
            return None
        device = jax.local_devices()[0]
        settings = sorted((name, repr(value)) for name, value in jax.config.values.items())
        origin = (_source(), device.platform, device.device_kind, settings, made_of)
        return cls(folder, hashlib.sha256(repr(origin).encode()).hexdigest())

    def path(self, name: str, arguments: Any) -> Path:
        """Where a program of a name is, for arguments of such shapes."""
        leaves, structure = jax.tree.flatten(arguments)
        shapes = [(_shape(leaf), repr(getattr(leaf, "sharding", None))) for leaf in leaves]
        key = repr((self.origin, name, str(structure), shapes))
        return self.folder / hashlib.sha256(key.encode()).hexdigest()


class Program:
    """A compiled function, from its kept trace where there is one.

    Called with other shapes than those that it was lowered for, it is what `jax.jit` makes of it.

    Args:
        name: of the program, among those of one origin.
        function: of arrays and trees of arrays.
        result: (arguments) → a tree of the result's structure, whose leaves do not matter.
        kind: of the compiler's options.
        donate: number of the argument whose arrays are donated; None for none.
        traces: where traces are kept; None traces at each start.
    """

    def __init__(
        self,
        name: str,
        function: Callable[..., Any],
        result: Callable[..., Any],
        *,
        kind: str,
        donate: int | None = None,
        traces: Traces | None = None,
    ):
        self._name, self._function, self.result = name, function, result
        self._traces, self._options = traces, compiler_options(kind)
        self._donate = donate
        donated = () if donate is None else (donate,)
        self._plain = jax.jit(function, donate_argnums=donated, compiler_options=self._options)
        # Shapes of the arguments, a function of these, flat, and the structure of its result.
        self._kept: tuple[Any, Any, Any] | None = None

    def lower(self, *arguments: Any) -> Any:
        """The lowered program, as of `jax.jit`, for arguments of such shapes."""
        if self._traces is None:
            return self._plain.lower(*arguments)
        structure = jax.tree.structure(self.result(*arguments))
        exported = self._exported(self._traces, arguments, structure)
        if exported is None:
            return self._plain.lower(*arguments)
        places = itertools.count()
        by_argument = [[next(places) for _ in jax.tree.leaves(each)] for each in arguments]
        flat = jax.jit(
            exported.call,
            donate_argnums=[] if self._donate is None else by_argument[self._donate],
            compiler_options=self._options,
        )
        self._kept = _shapes(arguments), flat, structure
        return flat.lower(*jax.tree.leaves(arguments))

    def __call__(self, *arguments: Any) -> Any:
        """The function's result."""
        if self._kept is None or self._kept[0] != _shapes(arguments):
            return self._plain(*arguments)
        _, flat, structure = self._kept
        return jax.tree.unflatten(structure, flat(*jax.tree.leaves(arguments)))

    def _exported(self, traces: Traces, arguments: Any, wanted: Any) -> Any:
        """The trace for such arguments, found or made; None where there can be none."""
        path = traces.path(self._name, arguments)
        try:
            kept = path.read_bytes()
            content = bytearray(kept[_DIGEST_BYTES:])
            if xxhash.xxh3_128_digest(content) == kept[:_DIGEST_BYTES]:
                return jax.export.deserialize(content)
        except OSError:
            pass  # not kept yet
        leaves, structure = jax.tree.flatten(arguments)

        def flat(*leaves: Any) -> list[Any]:
            results, found = jax.tree.flatten(
                self._function(*jax.tree.unflatten(structure, leaves))
            )
            if found != wanted:
                raise TypeError(f"the result has structure {found}, not {wanted}")
            return results

        try:
            exported = jax.export.export(jax.jit(flat))(*leaves)
            content = exported.serialize()
            with atomic_write(path, "wb") as file:
                file.write(xxhash.xxh3_128_digest(content) + content)
        except (ValueError, NotImplementedError, UserError):
            return None  # it cannot be exported, or not be written
        # As it will be read, so that a second start finds what is compiled from it now.
        return jax.export.deserialize(content)


def _shape(leaf: Any) -> tuple[Any, ...]:
    return np.shape(leaf), getattr(leaf, "dtype", type(leaf))


def _shapes(arguments: Any) -> tuple[Any, ...]:
    leaves, structure = jax.tree.flatten(arguments)
    return structure, tuple(map(_shape, leaves))


@functools.cache
def _source() -> str:
    """Digest of this package's source, and of the versions of what its programs are made with."""
    digest = hashlib.sha256(repr(sys.version_info[:3]).encode())
    for name in _VERSIONS:
        digest.update(f"{name} {metadata.version(name)}\n".encode())
    for path in sorted(_PACKAGE.rglob("*.py")):
        digest.update(str(path.relative_to(_PACKAGE)).encode() + path.read_bytes())
    return digest.hexdigest()
