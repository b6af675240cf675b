"""ONNX, by jax2onnx: one clip of one length at a time; an integer input selects the machine."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from asd_jax.deploy.export.choosing import array_shapes
from asd_jax.deploy.export.constants import folded
from asd_jax.deploy.export.program import Program
from asd_jax.runtime.extras import needed

PACKAGES = ("jax2onnx", "onnxruntime")
WHAT = "--format=onnx"
# Of operators; runtimes of 2025 and later have it.
OPSET = 23
_ONLY_ERRORS = 3  # of ONNX Runtime's messages


def inputs_of(program: Program) -> list[str]:
    """Names of the inputs."""
    return [program.input, "machine"] if program.selects else [program.input]


def convert(program: Program, shape: Sequence[int], metadata: Mapping[str, Any]) -> bytes:
    """Converts a program to an ONNX model with its metadata, as JSON under the key "asd_jax".

    Args:
        program: with convolutions of its own.
        shape: of one clip.
        metadata: of the file.
    """
    converter = needed("jax2onnx", WHAT)
    shapes = array_shapes(program, (1, *shape))
    model = converter.to_onnx(
        # Traced by this: the converter's own forms of layers do not know all that JAX does.
        folded(program, shapes, len(program.targets)),
        shapes,
        model_name="asd_jax",
        opset=OPSET,
        input_names=inputs_of(program),
        output_names=[*program.outputs],
    )
    entry = model.metadata_props.add()
    entry.key, entry.value = "asd_jax", json.dumps(metadata)
    return model.SerializeToString()


class Runner:
    """Runs a model by ONNX Runtime.

    Args:
        data: from `convert`.
        program: that it is of.
    """

    def __init__(self, data: bytes, program: Program):
        runtime = needed("onnxruntime", WHAT)
        options = runtime.SessionOptions()
        options.log_severity_level = _ONLY_ERRORS
        self._session = runtime.InferenceSession(data, options, ["CPUExecutionProvider"])
        self._program = program

    def __call__(self, clip: np.ndarray, machine: int) -> dict[str, np.ndarray]:
        """Outputs for one clip, with the batch's axis."""
        values = clip[None], np.array(machine, np.int32)
        given = dict(zip(inputs_of(self._program), values, strict=False))
        names = self._program.outputs
        return dict(zip(names, self._session.run([*names], given), strict=True))
