"""Exports a run: converts it, runs the file beside the run itself, and writes it."""

import dataclasses
import hashlib
import importlib.metadata
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from asd_jax import __version__
from asd_jax.deploy.export import onnx, stablehlo, tflite
from asd_jax.deploy.export.choosing import Format, check_exportable, clip_shape, targets_of
from asd_jax.deploy.export.comparing import TOLERANCE, USUAL_SECONDS, Comparison, compare
from asd_jax.deploy.export.costs import Costs, costs_of
from asd_jax.deploy.export.program import Input, Program
from asd_jax.detectors import make_detector
from asd_jax.errors import UserError
from asd_jax.fitting.detector import FittedDetector
from asd_jax.fitting.fitted import Fitted
from asd_jax.fitting.operating import Operating
from asd_jax.runtime.extras import check_installed
from asd_jax.runtime.files import atomic_write

# Each has the `PACKAGES` that convert and run, `convert`, and a `Runner`.
_MODULES: Mapping[Format, Any] = {"stablehlo": stablehlo, "onnx": onnx, "tflite": tflite}


@dataclasses.dataclass(frozen=True)
class Exported:
    """What was written.

    Attributes:
        path: the file; beside it is its metadata, with ".json" behind the name.
        metadata: see docs/export.md.
        costs: of one clip of `seconds`.
        seconds: of that clip.
        comparison: of its scores with those of the run.
    """

    path: Path
    metadata: Mapping[str, Any]
    costs: Costs
    seconds: float
    comparison: Comparison


def export_run(
    fitted: Fitted,
    form: Format,
    path: os.PathLike | str,
    *,
    machines: Sequence[str] = (),
    kind: Input = "waveform",
    seconds: float | None = None,
    run_dir: os.PathLike | str | None = None,
    report: Callable[[str], None] = lambda line: None,
) -> Exported:
    """Writes a fitted system as a file that scores recordings without this package.

    Args:
        fitted: the system.
        form: the format.
        path: the file to write.
        machines: names of machines, or of "machine/section"; all by default.
        kind: whether clips are waveforms or features.
        seconds: fixed length of the clips. By default any length of StableHLO, 10 s of others.
        run_dir: where it is from, whose recordings the file is compared by; without, noise.
        report: called with a line at each stage.

    Raises:
        UserError: the format cannot have it, what converts is not installed, or the scores of the
            file differ from those of the run by more than `TOLERANCE` and than float32 resolves.
            Nothing is written then.
    """
    check_exportable(fitted, form, kind, seconds)
    assert isinstance(fitted, FittedDetector)  # which that checked
    for package in _MODULES[form].PACKAGES:
        check_installed(package, f"--format={form}")
    if fitted.operating != Operating():
        report(
            "the file scores every clip: whoever runs it leaves out those that are off, transient "
            "or of an unseen state, see docs/states.md"
        )
        fitted = dataclasses.replace(fitted, operating=Operating())
    fitted = in_float32(fitted)
    targets = targets_of(fitted, machines)
    program = Program(fitted, targets, kind, convolutions=form != "stablehlo")
    length = USUAL_SECONDS if seconds is None else seconds
    shape = clip_shape(program, length)
    fixed = None if form == "stablehlo" and seconds is None else shape
    for target in targets:
        if not np.isfinite(target.threshold):
            report(f"{target.name} has no threshold: NaN in the file; null in its metadata")
    report(f"converting {fitted.config.detector.name} to {form} for {len(targets)} machine(s)")
    metadata = _metadata(program, form, fixed)
    data = _converted(form, program, fixed, metadata)
    report("comparing its scores with those of the run")
    comparison = compare(program, _MODULES[form].Runner(data, program), fixed, run_dir, report)
    if not comparison.holds:
        worst = comparison.worst
        raise UserError(
            f"scores of the exported file differ from those of the run by {worst.difference:.2g}, "
            f"relatively, where {worst.allowed:g} is allowed; {path} is not written. Export it in "
            "another format",
            exit_status=1,
        )
    costs = costs_of(dataclasses.replace(program, convolutions=True), shape, len(data))
    metadata |= {
        "sha256": hashlib.sha256(data).hexdigest(),
        "costs": {**costs._asdict(), "seconds": length},
        "largest_relative_difference": comparison.difference,
        "compared_scores": comparison.compared,
        "unresolved_scores": comparison.unresolved,
    }
    _write(Path(path), data, metadata)
    return Exported(Path(path), metadata, costs, length, comparison)


def in_float32(fitted: FittedDetector) -> FittedDetector:
    """The system with the front end in float32, whose scores a file has."""
    config = fitted.config
    if config.detector.hears_waveforms:  # its spectra are in float32 anyway
        return fitted
    front_end = dataclasses.replace(config.front_end, precision="float32")
    return dataclasses.replace(
        fitted, detector=make_detector(dataclasses.replace(config, front_end=front_end))
    )


def _converted(
    form: Format, program: Program, fixed: tuple[int, ...] | None, metadata: Mapping[str, Any]
) -> bytes:
    """The file's content.

    Raises:
        UserError: what converts cannot.
    """
    try:
        return _MODULES[form].convert(program, fixed, metadata)
    except UserError:
        raise
    except Exception as error:  # of many kinds, by converter and operation
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        hint = "add --seconds=10, or " if form == "stablehlo" and fixed is None else ""
        raise UserError(
            f"{program.fitted.config.detector.name} cannot be exported as {form}: {reason[:200]}; "
            f"{hint}choose another format",
            exit_status=1,
        ) from error


def _metadata(program: Program, form: Format, fixed: tuple[int, ...] | None) -> dict[str, Any]:
    """What a user of the file must know of it."""
    fitted, config = program.fitted, program.fitted.config
    signatures = tflite.signatures_of(program.targets)
    machines = [
        {
            "name": target.name,
            "machine": target.group[0],
            "section": target.group[1] or None,
            "threshold": target.threshold if np.isfinite(target.threshold) else None,
            **({"signature": name} if form == "tflite" else {"index": index}),
        }
        for index, (target, name) in enumerate(zip(program.targets, signatures, strict=True))
    ]
    packages = ["jax", "jaxlib", "numpy", *_MODULES[form].PACKAGES]
    return {
        "format": form,
        "system": config.detector.name,
        "input": program.input,
        "selects_machine": program.selects and form != "tflite",
        "outputs": [*program.outputs],
        "machines": machines,
        "sample_rate": config.front_end.sample_rate,
        "batch": None if form == "stablehlo" else 1,
        "shape": None if fixed is None else [*fixed],
        "shortest": program.shortest if fixed is None else fixed[0],
        "width": program.width if program.input == "features" else None,
        "seeds": [*fitted.seeds],
        "tolerance": TOLERANCE,
        "versions": {"asd_jax": __version__, **dict(_versions(packages))},
    }


def _versions(packages: Sequence[str]) -> Iterator[tuple[str, str]]:
    for package in packages:
        try:
            yield package, importlib.metadata.version(package.replace("_", "-"))
        except importlib.metadata.PackageNotFoundError:  # another distribution has it
            continue


def _write(path: Path, data: bytes, metadata: Mapping[str, Any]) -> None:
    """Both files, each whole or not at all; the metadata names the file by its digest."""
    with atomic_write(path, "wb") as file:
        file.write(data)
    with atomic_write(path.with_name(f"{path.name}.json")) as file:
        json.dump(metadata, file, indent=2)
        file.write("\n")
