"""Prints docs/export.md's table of what each configuration's file takes, by exporting it.

    .venv/bin/python scripts/export_table.py [--format=stablehlo] [CONFIGURATION …]

Each configuration is fitted to a few short synthetic clips of two machines with two sections each,
networks for one epoch, and the file of the first machine is compared with it as `asd-jax export`
does. Any length is tried first, then `--seconds`. What cannot be exported has its line. With
`--format=onnx` and `tflite`, run it with the interpreter that `scripts/export.sh` prints.
"""

import tempfile
import time
from pathlib import Path

import numpy as np
from absl import app, flags

import asd_jax
from asd_jax.config import Config, MembersConfig, load_config, shipped_configs
from asd_jax.deploy.export.choosing import FORMATS, check_exportable
from asd_jax.deploy.export.exporting import export_run
from asd_jax.errors import UserError
from asd_jax.fitting.detector import FittedDetector

_FORMAT = flags.DEFINE_enum("format", "stablehlo", FORMATS, "of the files")
_SECONDS = flags.DEFINE_float("seconds", 10.0, "of the clip that is counted")

# What is changed, so that a few short clips without other files are enough.
CHANGES: dict[str, dict[str, str]] = {
    "iaeo3": {"embedding": "none"},
    "mobilenet_v2_id_resample": {"detector.resample": ""},  # the classes of a training alone
    "picture_mobilenet": {"detector.from_scratch": "true", "detector.copies": "0"},
}
HEADINGS = ("configuration", "clips", "difference", "file, MiB", "memory, MiB", "multiply-adds, M")
_CLIPS, _CLIP_SECONDS = 5, 2.5  # of a section


def main(argv: list[str]) -> None:
    """Prints the table, a line as soon as it is known."""
    print(line(HEADINGS))
    print("|" + len(HEADINGS) * "---|", flush=True)
    for name in argv[1:] or shipped_configs():
        begin = time.perf_counter()
        try:
            cells = row(name)
        except UserError as error:
            cells = ["no", str(error)]
        print(
            line([f"`{name}{flags_of(name)}`", *cells]),
            f"<!-- {time.perf_counter() - begin:.0f} s -->",
            flush=True,
        )


def row(name: str) -> list[str]:
    """Cells of a configuration's line."""
    fitted = fitted_to_little(name)
    form, seconds = _FORMAT.value, _SECONDS.value
    fixed = None if form == "stablehlo" else seconds
    try:
        check_exportable(fitted, form, "waveform", fixed)
    except UserError as error:
        if fixed is not None or "--seconds" not in str(error):
            raise
        fixed = seconds
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "file"
        done = export_run(fitted, form, path, machines=[fitted.machines[0]], seconds=fixed)
    costs, found = done.costs, done.comparison
    return [
        "any length" if fixed is None else f"{fixed:g} s",
        f"{found.difference:.1e}" + (f", {found.unresolved} unresolved" * (found.unresolved > 0)),
        f"{costs.file_bytes / 2**20:.1f}",
        f"{costs.peak_bytes / 2**20:.1f}",
        f"{costs.multiply_adds / 1e6:.1f}",
    ]


def fitted_to_little(name: str) -> FittedDetector:
    """The configuration's system, fitted to a few short clips.

    Raises:
        UserError: it is of several systems, or asks for more than clips.
    """
    config = load_config(name, CHANGES.get(name))
    if isinstance(config, MembersConfig):
        raise UserError(f"export the run of each member: {', '.join(config.members)}")
    assert isinstance(config, Config)  # the other kind
    changes = {**CHANGES.get(name, {}), "seeds": "0"}
    if config.detector.trains:
        changes |= {"train.epochs": "1", "train.batch_size": "32"}
        changes |= {"train.validation_split": "0", "train.patience": "0"}
        changes |= {"train.threshold_split": "0"}
    config = load_config(name, changes)
    rate, rng = config.front_end.sample_rate, np.random.default_rng(0)
    sections = np.repeat(["00", "01"], _CLIPS)
    shape = len(sections), round(_CLIP_SECONDS * rate)
    sounds = {
        machine: tone * np.sin(np.arange(shape[1]) * tone) + rng.normal(0, 0.1, shape)
        for machine, tone in (("fan", 0.2), ("pump", 0.5))
    }
    of_machines = {machine: [*sections] for machine in sounds}
    return asd_jax.fit(config, waveforms=sounds, sample_rate=rate, sections=of_machines)


def flags_of(name: str) -> str:
    """What is changed in a configuration, as on the command line."""
    changes = CHANGES.get(name, {})
    return "".join(f" --config.{key}={text}" for key, text in changes.items())


def line(texts: list[str] | tuple[str, ...]) -> str:
    """A line of a Markdown table."""
    return f"| {' | '.join(texts)} |"


if __name__ == "__main__":
    app.run(main)
