"""The command export: writes a finished run as a file that other runtimes run."""

import sys

from absl import flags

from asd_jax.commands.base import Command, define_cache_dir, define_real, prepare_jax
from asd_jax.runtime.bounds import Between


def _define_export(values: flags.FlagValues) -> None:
    flags.DEFINE_string("run_dir", None, "run directory of a finished run", flag_values=values)
    flags.DEFINE_enum(
        "format", None, ["stablehlo", "onnx", "tflite"], "of the file", flag_values=values
    )
    flags.DEFINE_string(
        "out", None, "file to write; its metadata go to the same name with .json behind",
        flag_values=values,
    )  # fmt: skip
    flags.DEFINE_list(
        "machine", [], "machines, as fan,valve/00; all by default", flag_values=values
    )
    flags.DEFINE_enum(
        "input",
        "waveform",
        ["waveform", "features"],
        "what the file takes: waveforms, or features of the front end",
        flag_values=values,
    )
    define_real(
        values,
        "seconds",
        None,
        "fixed length of a clip; any length of stablehlo by default, 10 of the others",
        Between(0, 10**5, above=True),
    )
    define_cache_dir(values, "compiled programs")


def _export(values: flags.FlagValues, words: list[str], overrides: dict[str, str]) -> None:
    from asd_jax import pipeline
    from asd_jax.deploy.export.comparing import ROUNDING, TOLERANCE
    from asd_jax.deploy.export.exporting import export_run
    from asd_jax.runtime.text_tables import aligned

    prepare_jax(values.cache_dir)
    done = export_run(
        pipeline.load(values.run_dir),
        values.format,
        values.out,
        machines=values.machine,
        kind=values.input,
        seconds=values.seconds,
        run_dir=values.run_dir,
        report=lambda line: print(line, file=sys.stderr),
    )
    print(*aligned(done.costs.rows(done.seconds), right=(1,)), sep="\n")
    found = done.comparison
    print(
        f"{done.path}: scores of {found.compared - found.unresolved} clips differ from those of "
        f"the run by at most {found.difference:.2g}, relatively; {TOLERANCE:g} is allowed"
    )
    if found.unresolved:
        print(
            f"scores of {found.unresolved} more, which float32 resolves less, differ by no more "
            f"than where sound and weights change by {ROUNDING:.2g} of themselves"
        )


EXPORT = Command(
    "write a finished run as a file that plain JAX, ONNX Runtime or LiteRT runs",
    _define_export,
    _export,
    ("run_dir", "format", "out"),
)
