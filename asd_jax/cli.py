"""The command line: `asd-jax COMMAND --flag=value …`."""

import contextlib
import io
import logging
import os
import signal
import sys
import traceback
from collections.abc import Iterator, Sequence
from types import FrameType
from typing import Any, NoReturn

from absl import flags

from asd_jax.commands import COMMANDS, CONFIG, PATHS, Command
from asd_jax.errors import UserError, nearest
from asd_jax.runtime.interruption import end_at_once, handled_by, is_importing, stopped_line
from asd_jax.runtime.memory import exhausted, is_exhausted, supervised
from asd_jax.runtime.streams import discard, end


def main(argv: Sequence[str] | None = None) -> None:
    """Entry point of `asd-jax`; ends the process.

    Exit status: 0 when done; 2 for a request or recordings that cannot be used; 1 for work
    that could not be finished, as on a full disk; 128 + the signal's number when stopped by one.
    """
    # Errors reach the user as one line, printed below: libraries must not log their tracebacks,
    # nor their threads print them through the hook.
    logging.getLogger("absl").setLevel(logging.CRITICAL)
    sys.excepthook = lambda *_: None
    # Read when NumPy is loaded. Its matrices here are small; models and clips fill the cores.
    for name in ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ.setdefault(name, "1")
    for stream in (sys.stdout, sys.stderr):  # names of files may be of any bytes and script
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    own = argv is None  # whether the process is the command's own
    try:
        with _terminable(own):
            if own:
                supervised()
            _dispatch(list(sys.argv[1:] if argv is None else argv))
            sys.stdout.flush()
    except UserError as error:
        _end(str(error), error.exit_status, own)
    except KeyboardInterrupt as interrupt:
        number = interrupt.number if isinstance(interrupt, _Stopped) else signal.SIGINT
        line = stopped_line(number)
        _exit(line, 128 + number, own)
    except BrokenPipeError:  # the reader of a pipe closed it
        discard(sys.stdout)
    except OSError as error:
        if is_exhausted(error):
            _out_of_memory(error, own)
        where = f"{error.filename}: " if error.filename else ""
        _end(f"{where}{error.strerror or error}", 1, own)
    except Exception as error:
        if _joined():
            from asd_jax.runtime import distributed

            if distributed.is_loss(error):
                _end(distributed.LOST, 1, own)
        if is_exhausted(error):
            _out_of_memory(error, own)
        traceback.print_exc()
        _exit("", 1, own)
    sys.exit(0)


def _end(message: str, exit_status: int, own: bool) -> NoReturn:
    _exit(f"asd-jax: {message}", exit_status, own)


def _out_of_memory(error: Exception, own: bool) -> NoReturn:
    try:
        line = str(exhausted(error, "this command", "allow more, or give it less at once"))
    except MemoryError:
        line = "out of memory; allow more"
    _end(line, 1, own)


def _exit(text: str, exit_status: int, own: bool) -> NoReturn:
    # Threads of libraries may be at work, for which Python's end would wait, for ever after some
    # errors. What ends with an error has nothing left to save.
    if _joined() or (own and _COMPUTING in sys.modules):
        end(text, exit_status)
    if text:
        with contextlib.suppress(OSError):  # nobody reads it any more
            print(text, file=sys.stderr)
    sys.exit(exit_status)


# Every command that computes imports it, and with it JAX, which takes seconds.
_COMPUTING = "asd_jax.runtime.distributed"


def _joined() -> bool:
    """True if this process runs beside others."""
    if _COMPUTING not in sys.modules:
        return False
    from asd_jax.runtime import distributed

    return distributed.joined()


class _Stopped(KeyboardInterrupt):
    """A signal that asks to stop, as SIGTERM.

    Attributes:
        number: the signal.
    """

    def __init__(self, number: int):
        super().__init__()
        self.number = signal.Signals(number)


@contextlib.contextmanager
def _terminable(own: bool) -> Iterator[None]:
    """Ends with a line at each signal that asks to stop.

    Args:
        own: whether the process is the command's own.
    """

    def stop(number: int, frame: FrameType | None) -> None:
        if own and is_importing(frame):
            end_at_once(number, frame)
        raise _Stopped(number)

    with handled_by(stop):
        yield


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
    overrides, rest = _split_overrides(rest) if _configurable(values) else ({}, rest)
    try:
        # Flags may follow positional words; by default the library stops at the first such word.
        values.set_gnu_getopt(True)
        words = values(["asd-jax", *rest])[1:]
    except flags.Error as error:
        raise UserError(_flag_error(str(error), name, values)) from None
    if "run_dir" in values and words:
        words = _take_run_dirs(values, words)
    for flag in PATHS:
        if flag in values and values[flag].value:
            # The shell does not expand the tilde of --flag=~/place.
            given: Any = values[flag].value
            one = isinstance(given, str)
            values[flag].value = (
                os.path.expanduser(given) if one else [os.path.expanduser(path) for path in given]
            )
    required = [each.split("|") for each in command.required]
    missing = [each for each in required if not any(values[flag].value for flag in each)]
    if "dry_run" in values and values.dry_run:
        missing = [each for each in missing if each[0] in ("config", "paper")]
    if missing:
        wanted = " or ".join(f"--{flag}=…" for flag in missing[0])
        raise UserError(f"{name} needs {wanted}; `asd-jax {name} --help` says more")
    if words and not command.positional:
        raise UserError(f"{name} takes flags only, not {words[0]!r}; write --flag=value")
    if command.positional and not command.positional.endswith("]") and not words:
        raise UserError(f"{name} needs {command.positional}")
    command.run(values, words, overrides)


def _take_run_dirs(values: flags.FlagValues, words: list[str]) -> list[str]:
    """Takes run directories that are given by position; returns the other words."""
    flag: Any = values["run_dir"]
    if isinstance(flag.value, list):
        flag.value = [*flag.value, *words]
        return []
    if flag.value is None:
        flag.value = words[0]
        return words[1:]
    return words


def _configurable(values: flags.FlagValues) -> bool:
    """Whether a command takes overrides of configurations."""
    return "config" in values or "paper" in values


def _flag_error(message: str, name: str, values: flags.FlagValues) -> str:
    """The library's message; for an unknown flag, one with the nearest known flag."""
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
        if not argument.startswith(CONFIG):
            rest.append(argument)
            continue
        key, separator, text = argument.removeprefix(CONFIG).partition("=")
        if not separator:
            text = next(waiting, "--")
            if text.startswith("--"):
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
    def usage(flag: Any) -> str:
        default = "" if flag.value in (None, "", []) else f" (default {flag.default_as_str})"
        needed = " (required)" if flag.name in command.required else ""
        for each in command.required:
            either = each.split("|")
            if len(either) > 1 and flag.name == either[0]:
                needed = f" (required, or {' or '.join(f'--{other}' for other in either[1:])})"
        return f"  --{flag.name}: {flag.help}{default}{needed}"

    shown = [values[flag] for flag in values if values[flag].help and len(flag) > 1]
    tail = f" {command.positional}" if command.positional else ""
    lines = [f"usage: asd-jax {name} --flag=value …{tail}", "", command.summary, ""]
    lines += sorted(usage(flag) for flag in shown if "absl" not in (flag.help or ""))
    if _configurable(values):
        lines += [
            f"  {CONFIG}KEY: any key of the configuration, as in {CONFIG}train.epochs=5",
        ]
    if "paper" in values:
        lines += [f"  {CONFIG}RUN.KEY: for one run alone, by the name that --dry_run gives it"]
    return "\n".join(lines)
