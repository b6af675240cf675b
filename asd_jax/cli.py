"""The command line: `asd-jax COMMAND --flag=value …`."""

import contextlib
import logging
import os
import signal
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple, NoReturn

from absl import flags

from asd_jax.config import load_config, nearest, shipped_configs
from asd_jax.errors import UserError

_CONFIG = "--config."


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


def main(argv: Sequence[str] | None = None) -> None:
    """Entry point of `asd-jax`; ends the process.

    Exit status: 0 when done; 2 for a request or recordings that cannot be used; 1 for work
    that could not be finished, as on a full disk; 128 + the signal's number when stopped by one.
    """
    # Libraries log errors, with tracebacks, that reach the user as one line from here; and the
    # threads of one print theirs through the hook. What this thread raises is printed below.
    logging.getLogger("absl").setLevel(logging.CRITICAL)
    sys.excepthook = lambda *_: None
    try:
        with _terminable():
            _dispatch(list(sys.argv[1:] if argv is None else argv))
    except UserError as error:
        _end(str(error), error.exit_status)
    except KeyboardInterrupt as interrupt:
        number = signal.SIGTERM if isinstance(interrupt, _Terminated) else signal.SIGINT
        _end(f"stopped by {number.name}; the same command goes on from there", 128 + number)
    except BrokenPipeError:  # the reader of a table went away
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        _end(f"{where}{error.strerror or error}", 1)
    except Exception as error:
        if "RESOURCE_EXHAUSTED" not in str(error) and not isinstance(error, MemoryError):
            traceback.print_exc()
            sys.exit(1)
        _end("out of memory; lower --config.train.batch_size, or train fewer machines or seeds", 1)
    sys.exit(0)


def _end(message: str, exit_status: int) -> NoReturn:
    print(f"asd-jax: {message}", file=sys.stderr)
    sys.exit(exit_status)


class _Terminated(KeyboardInterrupt):
    """SIGTERM."""


@contextlib.contextmanager
def _terminable() -> Iterator[None]:
    """Ends with a line at SIGTERM, as at SIGINT."""

    def terminate(number, frame):
        raise _Terminated

    before = signal.signal(signal.SIGTERM, terminate)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _dispatch(arguments: list[str]) -> None:
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(_help())
        return
    name, *rest = arguments
    if name == "--version":
        from asd_jax import __version__

        print(__version__)
        return
    if name not in COMMANDS:
        raise UserError(
            f"no command {name!r}{nearest(name, [*COMMANDS])}; `asd-jax help` lists all"
        )
    command = COMMANDS[name]
    values = flags.FlagValues()
    command.define(values)
    if {"-h", "--help"} & set(rest):
        print(_command_help(name, command, values))
        return
    overrides, rest = _split_overrides(rest) if "config" in values else ({}, rest)
    try:
        # The library stops at the first word that is no flag unless told otherwise.
        values.set_gnu_getopt(True)
        words = values(["asd-jax", *rest])[1:]
    except flags.Error as error:
        raise UserError(_flag_error(str(error), name, values)) from None
    for flag in ("data_dir", "out_dir", "run_dir", "cache_dir"):
        if flag in values and values[flag].value:
            # The shell leaves the tilde of --flag=~/place to us.
            given = values[flag].value
            one = isinstance(given, str)
            values[flag].value = (
                os.path.expanduser(given) if one else [os.path.expanduser(path) for path in given]
            )
    missing = [flag for flag in command.required if not values[flag].value]
    if "dry_run" in values and values.dry_run:
        missing = [flag for flag in missing if flag == "config"]
    if missing:
        raise UserError(f"{name} needs --{missing[0]}=…; `asd-jax {name} --help` says more")
    if words and not command.positional:
        raise UserError(f"{name} takes flags only, not {words[0]!r}; write --flag=value")
    if command.positional and not command.positional.startswith("[") and not words:
        raise UserError(f"{name} needs {command.positional}")
    command.run(values, words, overrides)


def _flag_error(message: str, name: str, values: flags.FlagValues) -> str:
    """The library's message, with the nearest flag where it names an unknown one."""
    if message.startswith("Unknown command line flag"):
        wrong = message.split("'")[1]
        hint = nearest(wrong, [flag for flag in values if "_" not in flag[:1]])
        return f"{name} has no flag --{wrong}{hint.replace('mean ', 'mean --')}"
    return f"{name}: {message}"


def _split_overrides(arguments: Sequence[str]) -> tuple[dict[str, str], list[str]]:
    """Takes `--config.key=value` and `--config.key value` out of the arguments."""
    overrides, rest = {}, []
    waiting = iter(arguments)
    for argument in waiting:
        if not argument.startswith(_CONFIG):
            rest.append(argument)
            continue
        key, separator, text = argument.removeprefix(_CONFIG).partition("=")
        if not separator:
            text = next(waiting, None)
            if text is None or text.startswith("--"):
                raise UserError(f"{argument} needs a value; write {argument}=…")
        overrides[key] = text
    return overrides, rest


def _help() -> str:
    width = max(map(len, COMMANDS))
    lines = [f"  {name:<{width}}  {command.summary}" for name, command in COMMANDS.items()]
    return "\n".join(
        [
            "asd-jax: anomalous sound detection in JAX",
            "",
            "usage: asd-jax COMMAND --flag=value …",
            "",
            *lines,
            "",
            "`asd-jax COMMAND --help` lists a command's flags.",
        ]
    )


def _command_help(name: str, command: Command, values: flags.FlagValues) -> str:
    def usage(flag):
        default = "" if flag.value in (None, "", []) else f" (default {flag.default_as_str})"
        needed = " (required)" if flag.name in command.required else ""
        return f"  --{flag.name}: {flag.help}{default}{needed}"

    found = [values[flag] for flag in values if values[flag].help and len(flag) > 1]
    tail = f" {command.positional}" if command.positional else ""
    lines = [f"usage: asd-jax {name} --flag=value …{tail}", "", command.summary, ""]
    lines += sorted(usage(flag) for flag in found if "absl" not in (flag.help or ""))
    if "config" in values:
        lines += [
            f"  {_CONFIG}KEY: any key of the configuration, as in {_CONFIG}train.epochs=5",
        ]
    return "\n".join(lines)


# The commands. Each imports what it needs, so that a wrong flag is answered at once.


def _define_none(values: flags.FlagValues) -> None:
    pass


def _list(values, words, overrides) -> None:
    from asd_jax.detectors import make_detector, registry
    from asd_jax.training.task import count_values

    names = {}
    for name in shipped_configs():
        config = load_config(name)
        names.setdefault(config.detector.name, []).append((name, config))
    for name, cls in registry().items():
        print(f"{name}: {cls.title}")
        print(f"  from            {cls.paper}")
        print(f"  one model a     {cls.scope}")
        for configuration, config in names.get(name, []):
            # Four labels: classifiers are counted for a machine of four ids.
            parameters = count_values(make_detector(config).task(4), config.front_end.n_mels)
            print(f"  configuration   {configuration} ({parameters:,} values a model)")


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
    from asd_jax.progress import Reporter

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
        "cache_dir", None, "where features are kept; a folder of yours", flag_values=values
    )
    flags.DEFINE_bool(
        "dry_run",
        False,
        "say what it would take and stop; without --data_dir as if on DCASE 2020",
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


def _run(values, words, overrides) -> None:
    config = load_config(values.config, overrides)
    from asd_jax import pipeline

    if values.dry_run:
        print(pipeline.dry_run(config, values.data_dir))
        return
    print(
        pipeline.run(
            config,
            values.data_dir,
            values.out_dir,
            cache_dir=values.cache_dir,
            on_bad_clip=values.on_bad_clip,
        )
    )


def _define_score(values: flags.FlagValues) -> None:
    flags.DEFINE_string("run_dir", None, "run directory of a finished run", flag_values=values)
    flags.DEFINE_string("machine", None, "machine type of the recordings", flag_values=values)
    flags.DEFINE_string("section", None, "section or id of the recordings", flag_values=values)
    _define_on_bad_clip(values)


def _score(values, words, overrides) -> None:
    from asd_jax import pipeline

    rows = pipeline.score_files(
        values.run_dir,
        words,
        machine=values.machine,
        section=values.section,
        on_bad_clip=values.on_bad_clip,
        report=lambda line: print(line, file=sys.stderr),
    )
    width = max([len(row[0]) for row in rows], default=0)
    for file, machine, score, threshold, decision in rows:
        verdict = "anomalous" if decision else "normal"
        print(
            f"{file:<{width}}  {machine}  score {score:.6g}  threshold {threshold:.6g}  {verdict}"
        )


def _define_report(values: flags.FlagValues) -> None:
    flags.DEFINE_multi_string("run_dir", [], "run directory; may be repeated", flag_values=values)


def _report(values, words, overrides) -> None:
    from asd_jax import pipeline

    print(pipeline.report([*values.run_dir, *words]))


COMMANDS = {
    "list": Command("detectors and configurations", _define_none, _list),
    "synth": Command("make a labelled data set", _define_synth, _synth, ("out_dir",)),
    "index": Command(
        "what a data folder holds, and what is wrong with it", _define_index, _index, ("data_dir",)
    ),
    "run": Command(
        "train, score and evaluate", _define_run, _run, ("config", "data_dir", "out_dir")
    ),
    "score": Command(
        "score new recordings with a fitted run", _define_score, _score, ("run_dir",), "FILE.wav …"
    ),
    "report": Command(
        "tables of finished runs side by side, with published numbers",
        _define_report,
        _report,
        ("run_dir",),
        "[RUN …]",
    ),
}
