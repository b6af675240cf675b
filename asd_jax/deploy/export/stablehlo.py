"""StableHLO: what plain JAX runs, with any number of clips of any length."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jax import export

from asd_jax.deploy.export.choosing import array_shapes
from asd_jax.deploy.export.program import Program

PACKAGES = ()
PLATFORMS = ("cpu", "cuda", "rocm", "tpu")


def convert(program: Program, shape: Sequence[int] | None, metadata: Mapping[str, Any]) -> bytes:
    """Serialises a program; see `jax.export`.

    Its result is a dict of the program's outputs by their names.

    Args:
        program: with convolutions in the form that XLA computes fast on CPUs.
        shape: of one clip; None for any length. The number of clips is free.
        metadata: of the file, which has no place for them.
    """
    del metadata
    constraints = [f"length >= {program.shortest}"] if shape is None else []
    text = "batch, length" if shape is None else "batch"
    batch, *length = export.symbolic_shape(text, constraints=["batch >= 1", *constraints])
    if shape is not None:
        sizes = (batch, *shape)
    else:
        frame = (program.width,) if program.input == "features" else ()
        sizes = (batch, *length, *frame)

    def named(clips: jax.Array, *machine: jax.Array) -> dict[str, jax.Array]:
        return dict(zip(program.outputs, program(clips, *machine), strict=True))

    exported = export.export(jax.jit(named), platforms=PLATFORMS)(*array_shapes(program, sizes))
    return bytes(exported.serialize())


class Runner:
    """Runs a serialised program.

    Args:
        data: from `convert`.
        program: that it is of.
    """

    def __init__(self, data: bytes, program: Program):
        exported = export.deserialize(bytearray(data))
        self._call, self._program = exported.call, program

    def __call__(self, clip: np.ndarray, machine: int) -> dict[str, np.ndarray]:
        """Outputs for one clip, with the batch's axis."""
        selected = [np.int32(machine)] if self._program.selects else []
        found = self._call(clip[None], *selected)
        return {name: np.asarray(found[name]) for name in self._program.outputs}
