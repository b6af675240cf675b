"""Commands on finished runs and models: score, import, report, ensemble."""

import math
import os
import shlex
import sys
from pathlib import Path

from absl import flags

from asd_jax.commands.base import CONFIG, Command, define_on_bad_clip, keep_compiled
from asd_jax.config import load_config
from asd_jax.errors import UserError


def _define_score(values: flags.FlagValues) -> None:
    flags.DEFINE_string("run_dir", None, "run directory of a finished run", flag_values=values)
    flags.DEFINE_string("machine", None, "machine type of the recordings", flag_values=values)
    flags.DEFINE_string("section", None, "section or id of the recordings", flag_values=values)
    flags.DEFINE_bool(
        "explain",
        False,
        "say below each score what it is made of: statistics, times, frequencies",
        flag_values=values,
    )
    flags.DEFINE_string(
        "out_dir",
        None,
        "with --explain: folder for a picture and a JSON file of each recording",
        flag_values=values,
    )
    define_on_bad_clip(values)


def _score(values: flags.FlagValues, words: list[str], overrides: dict[str, str]) -> None:
    if values.out_dir is not None and not values.explain:
        raise UserError("--out_dir has no effect without --explain, whose files it is for")
    from asd_jax import pipeline
    from asd_jax.evaluation.explained import Scored, write_explanation
    from asd_jax.fitting import recordings

    keep_compiled(None)
    rows = recordings.score_files(
        pipeline.load(values.run_dir),
        _files(words),
        machine=values.machine,
        section=values.section,
        on_bad_clip=values.on_bad_clip,
        report=lambda line: print(line, file=sys.stderr),
        explain=values.explain,
    )
    width = max([len(row[0]) for row in rows], default=0)
    for file, machine, score, threshold, decision, explanation in rows:
        verdict = f"threshold {threshold:.6g}  {'anomalous' if decision else 'normal'}"
        if math.isnan(threshold):
            verdict = "no threshold, so no decision"
        print(f"{file:<{width}}  {machine}  score {score:.6g}  {verdict}")
        if explanation is None:
            continue
        for line in explanation.lines():
            print(f"    {line}")
        if values.out_dir is not None:
            scored = Scored(file, machine, score, threshold, decision)
            print(f"    {write_explanation(values.out_dir, scored, explanation)}")


def _files(words: list[str]) -> list[str]:
    """The named recordings, and those of the named folders, in order."""
    from asd_jax.data.folders import is_recording, is_wav, walk

    files = []
    for word in words:
        if not os.path.isdir(word) or word.lower().endswith(".wav"):
            files.append(word)
            continue
        inside = [path.relative_to(os.path.abspath(word)) for path in walk(Path(word), [])]
        visible = [Path(word, path) for path in inside if not path.name.startswith(".")]
        found = [path for path in visible if is_wav(path) or is_recording(path)]
        if not found:
            raise UserError(f"{word} is a folder without recordings")
        files += map(os.fspath, found)
    return files


def _define_import(values: flags.FlagValues) -> None:
    flags.DEFINE_string("keras", None, "model saved by Keras as .h5", flag_values=values)
    flags.DEFINE_string(
        "config", None, "path or name of a configuration of dense_ae", flag_values=values
    )
    flags.DEFINE_string("out_dir", None, "run directory to make", flag_values=values)
    flags.DEFINE_string(
        "machine", "machine", "machine type, as in the data's folders", flag_values=values
    )


def _import(values: flags.FlagValues, words: list[str], overrides: dict[str, str]) -> None:
    config = load_config(values.config, overrides)
    from asd_jax.runs import importing

    fitted = importing.import_run(config, values.keras, values.out_dir, machine=values.machine)
    if len(config.seeds) > 1:  # there is one model, so the run that goes on has one seed
        overrides = {**overrides, "seeds": f"{fitted.config.seeds[0]},"}
    settings = [f"{CONFIG}{key}={text}" for key, text in overrides.items()]
    command = ["asd-jax", "run", f"--config={values.config}", *settings]
    print(
        f"{values.out_dir} has the model of {values.keras} for {fitted.machines[0]}, ready to "
        "score; its threshold from training clips, and results, come with",
        f"    {shlex.join([*command, f'--out_dir={values.out_dir}'])} --data_dir=DIR",
        sep="\n",
    )


def _define_report(values: flags.FlagValues) -> None:
    flags.DEFINE_multi_string("run_dir", [], "run directory; may be repeated", flag_values=values)


def _report(values: flags.FlagValues, words: list[str], overrides: dict[str, str]) -> None:
    from asd_jax.runs import report as reporting

    print(reporting.report(values.run_dir))


def _define_ensemble(values: flags.FlagValues) -> None:
    flags.DEFINE_multi_string("run_dir", [], "finished run; two or more", flag_values=values)
    flags.DEFINE_string("out_dir", None, "run directory to make", flag_values=values)
    flags.DEFINE_enum(
        "combine",
        "mean",
        ["mean", "max"],
        "of the scores, standardised by those of the training clips of each machine id",
        flag_values=values,
    )


def _ensemble(values: flags.FlagValues, words: list[str], overrides: dict[str, str]) -> None:
    from asd_jax.runs.ensemble import ensemble

    print(ensemble(values.run_dir, values.out_dir, combine=values.combine))


SCORE = Command(
    "score new recordings with a fitted run",
    _define_score,
    _score,
    ("run_dir",),
    "[RUN] FILE.wav|FOLDER …",
)
IMPORT = Command(
    "make a run directory of a model that Keras trained",
    _define_import,
    _import,
    ("keras", "config", "out_dir"),
)
ENSEMBLE = Command(
    "combine the scores of finished runs",
    _define_ensemble,
    _ensemble,
    ("run_dir", "out_dir"),
    "[RUN …]",
)
REPORT = Command(
    "tables of finished runs side by side, with published numbers",
    _define_report,
    _report,
    ("run_dir",),
    "[RUN …]",
)
