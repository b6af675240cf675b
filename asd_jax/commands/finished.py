"""Commands on finished runs and models: score, import, report, ensemble."""

import math
import os
import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from absl import flags

from asd_jax.commands.base import (
    CONFIG,
    Command,
    define_cache_dir,
    define_cores,
    define_ground_truth,
    define_on_bad_clip,
    define_real,
    prepare_jax,
)
from asd_jax.commands.drifting import asks_for_drift, define_drift, report_drift
from asd_jax.commands.output import (
    PAPER_FORMATS,
    define_format,
    print_csv,
    print_json,
    print_remarks,
)
from asd_jax.errors import UserError
from asd_jax.runtime.bounds import Between

if TYPE_CHECKING:
    from asd_jax.fitting.recordings import FileScore


def _define_score(values: flags.FlagValues) -> None:
    flags.DEFINE_string("run_dir", None, "run directory of a finished run", flag_values=values)
    flags.DEFINE_string("machine", None, "machine type of the recordings", flag_values=values)
    flags.DEFINE_string("section", None, "section or id of the recordings", flag_values=values)
    flags.DEFINE_string(
        "state",
        None,
        "operating state of the recordings, as speed=6 or speed=6,load=2, off, transient; by "
        "default what their names or side files say",
        flag_values=values,
    )
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
    _define_false_alarms(values)
    define_cache_dir(values, "compiled programs and fetched weights")
    define_cores(values)
    define_on_bad_clip(values)
    define_format(values)


def _define_false_alarms(values: flags.FlagValues) -> None:
    define_real(
        values,
        "false_alarms",
        None,
        "decide by thresholds that keep this rate of false alarms, as 0.01, in place of the run's",
        Between(0, 1, above=True, below=True),
    )


def _score(values: flags.FlagValues, words: list[str], overrides: dict[str, str]) -> None:
    if values.out_dir is not None and not values.explain:
        raise UserError("--out_dir has no effect without --explain, whose files it is for")
    from asd_jax import pipeline
    from asd_jax.fitting import recordings
    from asd_jax.fitting.score_records import SCORE_FIELDS, score_record

    prepare_jax(values.cache_dir, values.cores)
    rows = recordings.score_files(
        pipeline.load(values.run_dir),
        _files(words),
        machine=values.machine,
        section=values.section,
        on_bad_clip=values.on_bad_clip,
        report=lambda line: print(line, file=sys.stderr),
        explain=values.explain,
        false_alarms=values.false_alarms,
        state=values.state,
    )
    written = _written(values.out_dir, rows) if values.out_dir is not None else {}
    if values.format == "table":
        _print_scores(rows, written)
        return
    records = [score_record(row) for row in rows]
    if values.format == "csv":
        fields = [field for field in SCORE_FIELDS if values.explain or field != "explanation"]
        print_csv(fields, records)
    else:
        print_json({"run": values.run_dir, "recordings": records})


def _written(out_dir: str, rows: "Sequence[FileScore]") -> dict[str, Path]:
    """Writes the explanations' files; returns the JSON file of each recording."""
    from asd_jax.evaluation.explained import Scored, write_explanation

    return {
        row.file: write_explanation(out_dir, Scored(*row[:5]), row.explanation)
        for row in rows
        if row.explanation is not None
    }


def _print_scores(rows: "Sequence[FileScore]", written: "Mapping[str, Path]") -> None:
    from asd_jax.fitting.judging import UNSCORED
    from asd_jax.runtime.text_tables import columns_of, terminal_width

    verdicts = []
    for row in rows:
        verdict = f"threshold {row.threshold:.6g}  {'anomalous' if row.decision else 'normal'}"
        if math.isnan(row.threshold):
            verdict = "no threshold, so no decision"
        elif math.isnan(row.score):
            verdict = f"threshold {row.threshold:.6g}  no score, so no decision"
        if row.verdict in UNSCORED:
            verdicts.append(f"{row.machine}  {_unscored(row)}")
            continue
        rate = "" if math.isnan(row.p_value) else f"  p-value {row.p_value:.3g}"
        verdicts.append(f"{row.machine}  score {row.score:.6g}  {verdict}{rate}")
    widest = max([columns_of(row.file) for row in rows], default=0)
    longest = widest + 2 + max(map(columns_of, verdicts), default=0)
    terminal = terminal_width()
    for row, verdict in zip(rows, verdicts, strict=True):
        if terminal is not None and longest > terminal:
            print(row.file, f"  {verdict}", sep="\n")
        else:
            print(f"{row.file}{' ' * (widest - columns_of(row.file))}  {verdict}")
        for line in row.explanation.lines() if row.explanation else ():
            print(f"    {line}")
        if row.file in written:
            print(f"    {written[row.file]}")


def _unscored(row: "FileScore") -> str:
    """Why a recording has no score."""
    said = row.verdict if row.state in ("", row.verdict) else f"{row.verdict} {row.state}"
    return f"{said}, so no score"


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
    from asd_jax.config import load_config

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
    _define_false_alarms(values)
    define_ground_truth(values)
    define_drift(values)
    define_on_bad_clip(values)
    flags.DEFINE_bool(
        "tensorboard",
        False,
        "also write TensorBoard's event files, into the folder `tensorboard` of each run directory",
        flag_values=values,
    )
    define_format(values, for_papers=True)


def _report(values: flags.FlagValues, words: list[str], overrides: dict[str, str]) -> None:
    if asks_for_drift(values):
        report_drift(values)
        return
    from asd_jax.evaluation.records import MetricRecord
    from asd_jax.runs import report as reporting
    from asd_jax.runs.both_sets import by_set
    from asd_jax.runs.sweep_table import is_sweep, sweep_table, variant_dirs
    from asd_jax.runtime.text_tables import terminal_width

    given: Any = values["run_dir"]
    if values.tensorboard:
        _write_events(given.value)
    plain = values.format == "table" and values.ground_truth is None
    if plain and values.false_alarms is None and [*map(is_sweep, given.value)] == [True]:
        print(sweep_table(given.value[0], terminal_width()))
        return
    given.value = [
        run for path in given.value for run in (variant_dirs(path) if is_sweep(path) else [path])
    ]
    if not given.value:
        raise UserError("no variant has results yet; the sweep's command goes on with them")
    if values.ground_truth is not None:
        _label(values)
    if values.format == "table":
        for i, (name, paths) in enumerate(by_set(values.run_dir).items()):
            if i:
                print()
            if name:
                print(f"{name}\n")
            print(reporting.report(paths, terminal_width(), false_alarms=values.false_alarms))
            if len(paths) == 1:
                _tell_of_page(paths[0])
        return
    if values.false_alarms is not None:
        raise UserError(
            f"--false_alarms changes decisions, of which --format={values.format} has none of its "
            "own; leave one of them out"
        )
    if values.format in PAPER_FORMATS:
        _print_for_papers(by_set(values.run_dir), values.format)
        return
    paths = [path for paths in by_set(values.run_dir).values() for path in paths]
    records, notes = reporting.report_records(paths)
    print_remarks(notes)
    if values.format == "csv":
        print_csv(MetricRecord._fields, [record._asdict() for record in records])
    else:
        print_json({"results": [record._asdict() for record in records], "notes": notes})


def _write_events(paths: "Sequence[str]") -> None:
    """Writes event files of runs, those of sweeps and of both sets included."""
    from asd_jax.runs.both_sets import by_set
    from asd_jax.runs.directory import RunDirectory
    from asd_jax.runs.sweep_table import is_sweep, variant_dirs
    from asd_jax.runs.tensorboard import write_events

    for path in paths:
        inside = variant_dirs(path) if is_sweep(path) else sum(by_set([path]).values(), [])
        for run in inside:
            print(f"{write_events(RunDirectory(run))} has event files", file=sys.stderr)


def _print_for_papers(runs: "Mapping[str, Sequence[str]]", style: str) -> None:
    """A table a set, whose name is a heading or a comment."""
    from asd_jax.runs.paper_tables import paper_table

    tables = []
    for name, paths in runs.items():
        heading = f"{'%' if style == 'latex' else '##'} {name}\n\n" if name else ""
        tables.append(heading + paper_table(paths, style))
    print("\n\n".join(tables))


def _label(values: flags.FlagValues) -> None:
    """Evaluates the runs by a ground truth, which their files then have."""
    from asd_jax.runs.both_sets import with_hidden_labels
    from asd_jax.runs.directory import RunDirectory
    from asd_jax.runs.labelled import label_run
    from asd_jax.runs.report import finished_run

    prepare_jax()
    for path in map(with_hidden_labels, values.run_dir):
        finished_run(path)  # raises UserError, before anything is made in the folder
        with RunDirectory(path).lock():
            label_run(
                path,
                values.ground_truth,
                lambda line: print(line, file=sys.stderr),
                on_bad_clip=values.on_bad_clip,
            )


def _tell_of_page(run_dir: str) -> None:
    """Says where the page of a run is, and makes it where it is missing."""
    from asd_jax.runs.page import with_page

    def tell(line: str) -> None:
        print(line, file=sys.stderr)

    prepare_jax()
    try:
        tell(with_page(run_dir, tell))
    except UserError as error:  # as in a folder of somebody else's; the table is there
        tell(f"without a page: {error}")


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
