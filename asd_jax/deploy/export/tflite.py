"""TFLite, by TensorFlow: one clip of one length at a time; each machine has its own signature.

A signature's weights are constants, which the interpreter's fast kernels need.
"""

import os
import re
import tempfile
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np

from asd_jax.deploy.export.choosing import array_shapes
from asd_jax.deploy.export.program import Program, Target
from asd_jax.errors import UserError
from asd_jax.runtime.extras import needed

PACKAGES = ("tensorflow", "ai_edge_litert")
WHAT = "--format=tflite"


def signatures_of(targets: Sequence[Target]) -> list[str]:
    """Names of the signatures: those of the machines, of letters, digits and "_".

    Examples:
        >>> signatures_of([Target("fan/00", ("fan", "00"), 1.0), Target("fan_00", ("x", ""), 1.0)])
        ['fan_00', 'fan_00_2']
    """
    names: list[str] = []
    for target in targets:
        plain = re.sub(r"[^A-Za-z0-9]", "_", target.name)
        count = sum(re.fullmatch(rf"{plain}(_\d+)?", name) is not None for name in names)
        names.append(f"{plain}_{count + 1}" if count else plain)
    return names


def check_convertible(program: Program, shape: Sequence[int]) -> None:
    """Raises UserError where a program sorts or ranks, of which the converter knows neither.

    Args:
        program: with convolutions of its own.
        shape: of one clip.
    """
    one = program.of(program.targets[0])
    traced = jax.make_jaxpr(one)(*array_shapes(one, (1, *shape)))
    if re.search(r"= (sort|top_k)\[", str(traced)):  # in a loop as well
        raise UserError(
            f"{program.fitted.config.detector.name} cannot be exported as tflite: it sorts "
            "frames or distances, which its converter cannot; export it as stablehlo or onnx"
        )


def convert(program: Program, shape: Sequence[int], metadata: Mapping[str, Any]) -> bytes:
    """Converts a program to a TFLite model.

    Args:
        program: with convolutions of its own.
        shape: of one clip.
        metadata: of the file, beside which they are.

    Raises:
        UserError: see `check_convertible`.
    """
    del metadata
    check_convertible(program, shape)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    tensorflow = needed("tensorflow", WHAT)
    module, functions = tensorflow.Module(), {}
    for name, target in zip(signatures_of(program.targets), program.targets, strict=True):
        functions[name] = _function(tensorflow, program.of(target), shape)
    with tempfile.TemporaryDirectory() as folder:
        tensorflow.saved_model.save(module, folder, signatures=functions)
        converter = tensorflow.lite.TFLiteConverter.from_saved_model(
            folder, signature_keys=[*functions]
        )
        return converter.convert()


def _function(tensorflow: Any, program: Program, shape: Sequence[int]) -> Any:
    """The program of one machine as a function of TensorFlow."""
    from jax.experimental import jax2tf

    def named(clips: Any) -> dict[str, Any]:
        return dict(zip(program.outputs, program(clips), strict=True))

    converted = jax2tf.convert(named, with_gradient=False, native_serialization_platforms=("cpu",))
    (shapes,) = array_shapes(program, (1, *shape))
    signature = [tensorflow.TensorSpec(shapes.shape, tensorflow.float32, name=program.input)]
    function = tensorflow.function(converted, input_signature=signature, autograph=False)
    return function.get_concrete_function()


class Runner:
    """Runs a model by the LiteRT interpreter.

    Args:
        data: from `convert`.
        program: that it is of.
    """

    def __init__(self, data: bytes, program: Program):
        interpreter = needed("ai_edge_litert.interpreter", WHAT).Interpreter(model_content=data)
        self._signatures = [
            interpreter.get_signature_runner(name) for name in signatures_of(program.targets)
        ]
        self._program = program

    def __call__(self, clip: np.ndarray, machine: int) -> dict[str, np.ndarray]:
        """Outputs for one clip, with the batch's axis."""
        return self._signatures[machine](**{self._program.input: clip[None]})
