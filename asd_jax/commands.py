"""The commands of `asd-jax`: their flags, and what each does.

Each imports what it needs, so that a wrong flag is answered at once.
"""

import math
import shlex
import sys
from collections.abc import Callable
from typing import NamedTuple

from absl import flags

from asd_jax.config import EnsembleConfig, MembersConfig, load_config, shipped_configs
from asd_jax.errors import UserError
from asd_jax.runtime import distributed

CONFIG = "--config."  # what settings of a configuration begin with


class Command(NamedTuple):
    """A subcommand.

    Attributes:
        summary: one line for the list of commands.
        define: adds its flags to a `FlagValues`.
        run: does it, given its flags, the words that are no flags, and the overrides of the
            configuration.
        required: flags that must be given.
        positional: what the words that are no flags are; empty where there are none.
    """

    summary: str
    define: Callable[[flags.FlagValues], None]
    run: Callable[[flags.FlagValues, list[str], dict[str, str]], None]
    required: tuple[str, ...] = ()
    positional: str = ""


def _define_none(values: flags.FlagValues) -> None:
    pass


def _list(values, words, overrides) -> None:
    from asd_jax.detectors import make_detector, registry
    from asd_jax.training.task import count_values

    names, ensembles = {}, {}
    for name in shipped_configs():
        config = load_config(name)
        if isinstance(config, MembersConfig):
            ensembles[name] = config
            continue
        names.setdefault(config.detector.name, []).append((name, config))
    for name, cls in registry().items():
        print(f"{name}: {cls.title}")
        print(f"  from            {cls.paper}")
        scope = cls.scope.replace(" by section", ", which distinguishes its sections")
        print(f"  one model a     {scope}")
        for configuration, config in names.get(name, []):
            # Four labels: classifiers are counted for a machine of four ids.
            parameters = count_values(make_detector(config).task(4), config.front_end.n_mels)
            print(f"  configuration   {configuration} ({parameters:,} values a model)")
    print("ensemble: the scores of several systems as one")
    for name, config in ensembles.items():
        how = config.combine if isinstance(config, EnsembleConfig) else "one for each machine type"
        print(f"  configuration   {name} ({how}: {', '.join(config.members)})")


def _define_synth(values: flags.FlagValues) -> None:
    flags.DEFINE_string("out_dir", None, "folder to make", flag_values=values)
    flags.DEFINE_integer("year", 2020, "layout: 2020 to 2026, or 0 for MIMII", flag_values=values)
    flags.DEFINE_enum("subset", "dev", ["dev", "eval"], "which set", flag_values=values)
    flags.DEFINE_list("machines", [], "machine types; three by default", flag_values=values)
    flags.DEFINE_integer(
        "sections", None, "sections or ids a machine; all by default", flag_values=values
    )
    flags.DEFINE_integer("clips", 40, "training clips a section", flag_values=values)
    flags.DEFINE_float("duration", 10.0, "seconds a clip", flag_values=values)
    flags.DEFINE_integer("sample_rate", 16000, "Hz", flag_values=values)
    flags.DEFINE_enum(
        "difficulty",
        "default",
        ["easy", "default", "hard"],
        "faults 6 dB louder, as they are, or 6 dB fainter",
        flag_values=values,
    )
    flags.DEFINE_enum(
        "hall",
        "own",
        ["own", "factory"],
        "background: each id's own, or one factory's places, from clip to clip",
        flag_values=values,
    )
    flags.DEFINE_enum(
        "faults",
        "added",
        ["added", "all"],
        "sounds that come on top, or also changes of the machine's own sound",
        flag_values=values,
    )
    flags.DEFINE_integer("seed", 0, "of all that is random", flag_values=values)


def _synth(values, words, overrides) -> None:
    from asd_jax.data.synthetic import synthesize

    made = _with_progress(
        "clips",
        lambda progress: synthesize(
            values.out_dir,
            year=values.year,
            subset=values.subset,
            machines=values.machines or None,
            sections=values.sections,
            clips=values.clips,
            duration=values.duration,
            sample_rate=values.sample_rate,
            difficulty=values.difficulty,
            hall=values.hall,
            faults=values.faults,
            seed=values.seed,
            progress=progress,
        ),
    )
    print(
        f"{made.out_dir}: {made.clips} clips of {', '.join(made.machines)}, {made.anomalies} of "
        f"them anomalous ({made.written} written now, in {made.seconds:.0f} s)"
    )


def _with_progress(label: str, work: Callable):
    """Does `work(progress)` with a bar that begins at its first call."""
    from asd_jax.runtime.progress import Reporter

    reporter = Reporter()
    begun = False

    def progress(done, total):
        nonlocal begun
        if not begun:
            reporter.start(label, total)
            begun = True
        reporter.advance(done)

    try:
        return work(progress)
    finally:
        reporter.stop()


def _define_index(values: flags.FlagValues) -> None:
    flags.DEFINE_string("data_dir", None, "folder of recordings", flag_values=values)
    flags.DEFINE_integer("year", None, "challenge year, if not told", flag_values=values)


def _index(values, words, overrides) -> None:
    from asd_jax.data.index import describe

    print(
        _with_progress(
            "headers", lambda progress: describe(values.data_dir, values.year, progress=progress)
        )
    )


def _define_run(values: flags.FlagValues) -> None:
    flags.DEFINE_string(
        "config", None, "path of a configuration, or the name of a shipped one", flag_values=values
    )
    flags.DEFINE_string("data_dir", None, "folder of recordings", flag_values=values)
    flags.DEFINE_string("out_dir", None, "run directory to make or go on with", flag_values=values)
    flags.DEFINE_string(
        "cache_dir",
        None,
        "for features and compiled programs; a folder of yours",
        flag_values=values,
    )
    flags.DEFINE_string(
        "members_dir",
        None,
        "of an ensemble: where its members' runs are or are made, to be shared by several",
        flag_values=values,
    )
    flags.DEFINE_bool(
        "dry_run",
        False,
        "say what it would take and stop; without --data_dir as if on DCASE 2020",
        flag_values=values,
    )
    flags.DEFINE_string(
        "coordinator",
        None,
        "of a run by several processes: HOST:PORT of the first (or JAX_COORDINATOR_ADDRESS)",
        flag_values=values,
    )
    flags.DEFINE_integer(
        "num_processes", None, "how many there are (or JAX_NUM_PROCESSES)", flag_values=values
    )
    flags.DEFINE_integer(
        "process_id", None, "which one this is, from 0 (or JAX_PROCESS_ID)", flag_values=values
    )
    flags.DEFINE_bool(
        "distributed",
        False,
        "find the processes out from Slurm, Open MPI, Kubernetes or a TPU pod",
        flag_values=values,
    )
    _define_on_bad_clip(values)


def _define_on_bad_clip(values: flags.FlagValues) -> None:
    flags.DEFINE_enum(
        "on_bad_clip",
        "stop",
        ["stop", "skip"],
        "at a recording that cannot be used: stop, or skip it with a line",
        flag_values=values,
    )


def _keep_compiled(cache_dir: str | None) -> None:
    from asd_jax.features.cache import default_cache_dir
    from asd_jax.runtime.compilation import keep_compiled

    keep_compiled(cache_dir or default_cache_dir())


def _run(values, words, overrides) -> None:
    config = load_config(values.config, overrides)
    place = None
    if not values.dry_run:
        place = distributed.place_of(
            values.coordinator, values.num_processes, values.process_id, values.distributed
        )
    if place is not None:
        distributed.supervise()
        distributed.join(place)
    from asd_jax import pipeline

    _keep_compiled(values.cache_dir)
    if values.dry_run:
        print(pipeline.dry_run(config, values.data_dir))
        return
    table = pipeline.run(
        config,
        values.data_dir,
        values.out_dir,
        members_dir=values.members_dir,
        cache_dir=values.cache_dir,
        on_bad_clip=values.on_bad_clip,
    )
    if table:
        print(table)
    if place is not None:
        distributed.leave()


def _define_reproduce(values: flags.FlagValues) -> None:
    flags.DEFINE_string(
        "paper",
        None,
        "whose tables: jalali2020, hassankhani2021, giri2020, grollmisch2020 or kazakova2022",
        flag_values=values,
    )
    flags.DEFINE_string("data_dir", None, "folder of recordings", flag_values=values)
    flags.DEFINE_string(
        "out_dir", None, "folder for the runs and tables, or to go on in", flag_values=values
    )
    flags.DEFINE_string(
        "cache_dir",
        None,
        "for features and compiled programs; a folder of yours",
        flag_values=values,
    )
    flags.DEFINE_bool(
        "dry_run",
        False,
        "say what would be trained, for how long and in how much memory, and stop; reports of "
        "2020 without --data_dir as if on DCASE 2020",
        flag_values=values,
    )
    _define_on_bad_clip(values)


def _reproduce(values, words, overrides) -> None:
    from asd_jax.papers.reproduce import reproduce

    _keep_compiled(values.cache_dir)
    outcome = reproduce(
        values.paper,
        values.data_dir,
        values.out_dir,
        overrides=overrides,
        cache_dir=values.cache_dir,
        on_bad_clip=values.on_bad_clip,
        dry_run=values.dry_run,
    )
    print(outcome.text)
    if outcome.failed and not values.dry_run:
        raise UserError(
            f"without {', '.join(outcome.failed)}, as said above; the same command goes on from "
            "there",
            exit_status=1,
        )


def _define_score(values: flags.FlagValues) -> None:
    flags.DEFINE_string("run_dir", None, "run directory of a finished run", flag_values=values)
    flags.DEFINE_string("machine", None, "machine type of the recordings", flag_values=values)
    flags.DEFINE_string("section", None, "section or id of the recordings", flag_values=values)
    _define_on_bad_clip(values)


def _score(values, words, overrides) -> None:
    from asd_jax import pipeline
    from asd_jax.fitting import recordings

    _keep_compiled(None)
    rows = recordings.score_files(
        pipeline.load(values.run_dir),
        words,
        machine=values.machine,
        section=values.section,
        on_bad_clip=values.on_bad_clip,
        report=lambda line: print(line, file=sys.stderr),
    )
    width = max([len(row[0]) for row in rows], default=0)
    for file, machine, score, threshold, decision in rows:
        verdict = f"threshold {threshold:.6g}  {'anomalous' if decision else 'normal'}"
        if math.isnan(threshold):
            verdict = "no threshold, so no decision"
        print(f"{file:<{width}}  {machine}  score {score:.6g}  {verdict}")


def _define_import(values: flags.FlagValues) -> None:
    flags.DEFINE_string("keras", None, "model saved by Keras as .h5", flag_values=values)
    flags.DEFINE_string(
        "config", None, "path or name of a configuration of dense_ae", flag_values=values
    )
    flags.DEFINE_string("out_dir", None, "run directory to make", flag_values=values)
    flags.DEFINE_string(
        "machine", "machine", "machine type, as in the data's folders", flag_values=values
    )


def _import(values, words, overrides) -> None:
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


def _report(values, words, overrides) -> None:
    from asd_jax.runs import report as reporting

    print(reporting.report([*values.run_dir, *words]))


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


def _ensemble(values, words, overrides) -> None:
    from asd_jax.runs.ensemble import ensemble

    print(ensemble([*values.run_dir, *words], values.out_dir, combine=values.combine))


COMMANDS = {
    "list": Command("detectors and configurations", _define_none, _list),
    "synth": Command("make a labelled data set", _define_synth, _synth, ("out_dir",)),
    "index": Command(
        "what a data folder holds, and what is wrong with it", _define_index, _index, ("data_dir",)
    ),
    "run": Command(
        "train, score and evaluate", _define_run, _run, ("config", "data_dir", "out_dir")
    ),
    "reproduce": Command(
        "a report's tables: train what they need, ours beside the published numbers",
        _define_reproduce,
        _reproduce,
        ("paper", "data_dir", "out_dir"),
    ),
    "score": Command(
        "score new recordings with a fitted run", _define_score, _score, ("run_dir",), "FILE.wav …"
    ),
    "import": Command(
        "make a run directory of a model that Keras trained",
        _define_import,
        _import,
        ("keras", "config", "out_dir"),
    ),
    "ensemble": Command(
        "combine the scores of finished runs",
        _define_ensemble,
        _ensemble,
        ("run_dir", "out_dir"),
        "[RUN …]",
    ),
    "report": Command(
        "tables of finished runs side by side, with published numbers",
        _define_report,
        _report,
        ("run_dir",),
        "[RUN …]",
    ),
}
