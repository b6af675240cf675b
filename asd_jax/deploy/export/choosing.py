"""What is exported, and what cannot be: said before anything is converted."""

from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp

from asd_jax.audio import FrontEnd
from asd_jax.audio.products import factors_of
from asd_jax.config import nearest
from asd_jax.deploy.export.program import Input, Program, Target
from asd_jax.errors import UserError
from asd_jax.fitting.detector import FittedDetector
from asd_jax.fitting.ensemble import FittedMembers
from asd_jax.fitting.fitted import Fitted
from asd_jax.scoring.operating import NAMES

Format = Literal["stablehlo", "onnx", "tflite"]
FORMATS: tuple[Format, ...] = ("stablehlo", "onnx", "tflite")

# Systems whose program needs a length that is known when it is made.
FIXED_LENGTH = {
    "twfr_gmm": "ranks all frames of a clip",
    "lstm_ae": "goes through a loop",
    "picture_mobilenet": "resizes pictures",
}


class Refusal(NamedTuple):
    """Why a system cannot be exported.

    Attributes:
        formats: that it is about.
        applies: whether it applies to a system and an input.
        reason: in words.
    """

    formats: Sequence[Format]
    applies: Callable[[FittedDetector, Input], bool]
    reason: str


_REFUSALS = (
    Refusal(
        FORMATS,
        lambda fitted, _: NAMES[0] in fitted.calibration or bool(fitted.operating.moved),
        "its scores are by the operating state of a clip, which a file that is given sound alone "
        "does not know; fit it without data.state",
    ),
    Refusal(
        FORMATS,
        lambda fitted, _: fitted.config.front_end.canceller,
        "front_end.canceller takes the far channel off a whole recording before any frame, which "
        "no file can; fit it without",
    ),
    Refusal(
        FORMATS,
        lambda fitted, _: fitted.config.embedding.kind != "none",
        "its scores read embeddings of whole clips, which are computed outside of the network; fit "
        "it with --config.embedding=none",
    ),
    Refusal(
        FORMATS,
        lambda fitted, kind: kind == "features" and fitted.config.detector.hears_waveforms,
        "it hears waveforms and has no features; leave --input at waveform",
    ),
    Refusal(
        ("onnx", "tflite"),
        lambda fitted, _: fitted.config.precision != "float32",
        "its network computes in bfloat16, which these runtimes do not round alike; export it as "
        "stablehlo",
    ),
    Refusal(
        ("tflite",),
        lambda fitted, _: fitted.config.detector.hears_waveforms,
        "it transforms whole recordings, which this version does not bring into TFLite's kernels; "
        "export it as stablehlo or onnx",
    ),
)


def check_exportable(fitted: Fitted, form: Format, kind: Input, seconds: float | None) -> None:
    """Raises UserError where a system cannot be exported, before anything is tried.

    Args:
        fitted: the system.
        form: the format.
        kind: what the file takes.
        seconds: fixed length of its clips; None where it is left open.
    """
    if isinstance(fitted, FittedMembers):
        raise UserError(
            f"an ensemble or a choice of {', '.join(fitted.members)} cannot be exported as one "
            "file; export the run of each member, and combine their scores"
        )
    assert isinstance(fitted, FittedDetector)  # the other kind
    name = fitted.config.detector.name
    for refusal in _REFUSALS:
        if form in refusal.formats and refusal.applies(fitted, kind):
            raise UserError(f"{name} cannot be exported as {form}: {refusal.reason}")
    if form == "stablehlo" and seconds is None and name in FIXED_LENGTH:
        raise UserError(
            f"{name} {FIXED_LENGTH[name]}: its clips need one length; add --seconds=10, or what "
            "yours have"
        )
    front_end = fitted.detector.front_end
    if kind == "waveform" and isinstance(front_end, FrontEnd):
        factors_of(front_end.n_fft)


def targets_of(fitted: FittedDetector, names: Sequence[str] = ()) -> tuple[Target, ...]:
    """The machines, and sections where they are scored differently, that a file serves.

    Args:
        fitted: the system.
        names: "fan" for all its sections, or "fan/00"; all by default.

    Raises:
        UserError: a name that was not fitted.
    """
    every = []
    for machine in fitted.machines:
        sections = fitted.sections_of(machine)
        for section in (None,) if sections is None else sections:
            group = fitted.resolve(machine, section)
            name = "/".join(filter(None, group))
            every.append(Target(name, group, float(fitted.group_threshold(group, None))))
    chosen = []
    for name in names or [target.name for target in every]:
        found = [own for own in every if name in (own.name, own.group[0])]
        if not found:
            known = [target.name for target in every]
            raise UserError(
                f"machine {name!r} was not fitted{nearest(name, known)}; there are "
                + ", ".join(known)
            )
        chosen += [own for own in found if own not in chosen]
    return tuple(chosen)


def clip_shape(program: Program, seconds: float) -> tuple[int, ...]:
    """Shape of one clip of a length, as the program takes it: (samples,) or (frames, width).

    Raises:
        UserError: it is too short.
    """
    detector = program.fitted.detector
    front_end, views = detector.front_end, detector.views
    samples = round(seconds * front_end.sample_rate)
    least = program.samples(views.fewest)
    if samples < least:
        raise UserError(
            f"--seconds is {seconds:g}; this system needs {least / front_end.sample_rate:.4g} or "
            "more"
        )
    if program.input == "waveform":
        return (samples,)
    return front_end.frames(samples), front_end.width


def array_shapes(program: Program, shape: Sequence) -> list:
    """Shapes and types of the program's inputs for clips (batch, …) of a shape."""
    machine = [jax.ShapeDtypeStruct((), jnp.int32)] if program.selects else []
    return [jax.ShapeDtypeStruct(tuple(shape), jnp.float32), *machine]
