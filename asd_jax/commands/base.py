"""The record of a command, and flags and services that several commands share."""

import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from absl import flags

from asd_jax.errors import UserError
from asd_jax.runtime.bounds import Between

if TYPE_CHECKING:
    from asd_jax.data.layouts import DataSource

CONFIG = "--config."  # prefix of a configuration's settings
# Flags that are paths, or lists of them.
PATHS = (
    *("config", "data_dir", "normal", "test", "anomalous", "manifest", "out_dir", "run_dir"),
    *("cache_dir", "members_dir", "ground_truth", "keras", "dev_run", "check", "drift"),
)


_T = TypeVar("_T")


class Command(NamedTuple):
    """A subcommand.

    Attributes:
        summary: one line for the list of commands.
        define: adds its flags to a `FlagValues`.
        run: runs it, given its flags, the positional words, and the overrides of the
            configuration.
        required: flags that must be given; "one|other" for either.
        positional: placeholder of the positional words; empty where it takes none.
    """

    summary: str
    define: Callable[[flags.FlagValues], None]
    run: Callable[[flags.FlagValues, list[str], dict[str, str]], None]
    required: tuple[str, ...] = ()
    positional: str = ""


def with_progress(label: str, work: Callable[[Callable[[int, int], None]], _T]) -> _T:
    """Calls `work(progress)` with a progress bar, which appears at the first `progress(…)`."""
    from asd_jax.runtime.progress import Reporter

    reporter = Reporter()
    begun = False

    def progress(done: int, total: int) -> None:
        nonlocal begun
        if not begun:
            reporter.start(label, total)
            begun = True
        reporter.advance(done)

    try:
        return work(progress)
    finally:
        reporter.stop()


YEAR = Between(0, 9999)  # of whatever layout; the commands know which there are


class _Number(flags.ArgumentParser):
    """Reads a number in a range; the library's own bounds let NaN through."""

    def __init__(self, parser: Any, bounds: Between) -> None:
        super().__init__()
        self._parser, self._bounds = parser, bounds

    def parse(self, argument: Any) -> float:
        try:
            number = self._parser.parse(argument)
        except (ValueError, OverflowError):
            raise ValueError(f"it must be {self._wanted()}") from None
        if number not in self._bounds:
            raise ValueError(f"it must be {self._wanted()}")
        return number

    def _wanted(self) -> str:
        whole = "a whole number, " if self.flag_type() == "int" else "a number, "
        return f"{whole}{self._bounds}"

    def flag_type(self) -> str:
        return self._parser.flag_type()


def define_whole(
    values: flags.FlagValues, name: str, default: int | None, help_: str, bounds: Between
) -> None:
    """Adds a flag that is a whole number in a range."""
    _define_number(flags.IntegerParser(), values, name, default, help_, bounds)


def define_real(
    values: flags.FlagValues, name: str, default: float | None, help_: str, bounds: Between
) -> None:
    """Adds a flag that is a number in a range; neither NaN nor an infinity is in any."""
    _define_number(flags.FloatParser(), values, name, default, help_, bounds)


def _define_number(
    parser: Any, values: flags.FlagValues, name: str, default: Any, help_: str, bounds: Between
) -> None:
    serializer: Any = flags.ArgumentSerializer()
    flags.DEFINE(_Number(parser, bounds), name, default, help_, values, serializer)


def define_mirror(values: flags.FlagValues) -> None:
    """Adds --mirror."""
    flags.DEFINE_string(
        "mirror",
        None,
        "scheme and host of a copy of the published archives, as in https://mirror.example",
        flag_values=values,
    )
    flags.register_validator(
        "mirror",
        lambda text: text is None or text.startswith(("http://", "https://")),
        message="it must begin with http:// or https://",
        flag_values=values,
    )


def define_on_bad_clip(values: flags.FlagValues) -> None:
    """Adds --on_bad_clip."""
    flags.DEFINE_enum(
        "on_bad_clip",
        "stop",
        ["stop", "skip"],
        "at a recording that cannot be used: stop, or skip it with a line",
        flag_values=values,
    )


def define_ground_truth(values: flags.FlagValues) -> None:
    """Adds --ground_truth."""
    flags.DEFINE_string(
        "ground_truth",
        None,
        "labels of an evaluation set to evaluate by: folder of an official evaluator or of the "
        "baselines, or one of their lists",
        flag_values=values,
    )


def define_source(values: flags.FlagValues) -> None:
    """Adds the flags that say where recordings are."""
    flags.DEFINE_string(
        "data_dir", None, "folder of recordings in a layout of the challenge", flag_values=values
    )
    flags.DEFINE_string(
        "normal",
        None,
        "in place of --data_dir, a folder of normal recordings: any names, formats and subfolders",
        flag_values=values,
    )
    flags.DEFINE_string(
        "test", None, "with --normal: folder of recordings to score", flag_values=values
    )
    flags.DEFINE_string(
        "anomalous",
        None,
        "with --normal: folder of recordings to score that are known to be anomalous",
        flag_values=values,
    )
    flags.DEFINE_string(
        "manifest",
        None,
        "in place of --data_dir, a CSV file with a line a recording: path, and if you like "
        "machine, section, domain, attributes, group, split (train, test), label (normal, anomaly)",
        flag_values=values,
    )
    flags.DEFINE_string(
        "machine", None, "with --normal: the machine's name in tables and files", flag_values=values
    )
    flags.DEFINE_bool(
        "machine_folders",
        False,
        "with --normal: each folder has a subfolder a machine",
        flag_values=values,
    )


_SOURCES = ("data_dir", "normal", "manifest")
_OF_NORMAL = ("test", "anomalous", "machine", "machine_folders")


def source_of(values: flags.FlagValues) -> "DataSource | None":
    """Where the recordings are, by the flags of `define_source`; None where none is given."""
    from asd_jax.data.manifest import Manifest
    from asd_jax.data.own_folders import OwnFolders

    given = [flag for flag in _OF_NORMAL if values[flag].value]
    sources = [flag for flag in _SOURCES if values[flag].value]
    if len(sources) > 1:
        raise UserError(
            f"--{sources[0]} and --{sources[1]} both say where the recordings are; give one"
        )
    if given and not values.normal:
        raise UserError(f"--{given[0]} needs --normal=…, the folder of normal recordings")
    if values.manifest:
        return Manifest(values.manifest)
    if not values.normal:
        return values.data_dir
    named = {"machine": values.machine} if values.machine else {}
    return OwnFolders(
        values.normal,
        values.test or None,
        values.anomalous or None,
        machine_folders=values.machine_folders,
        **named,
    )


def define_cores(values: flags.FlagValues) -> None:
    """Adds --cores."""
    text = "cores to use; all that this process may by default"
    define_whole(values, "cores", None, text, Between(1, 10**6))


def define_cache_dir(values: flags.FlagValues, what: str) -> None:
    """Adds --cache_dir, which `prepare_jax` takes."""
    text = f"for {what}; in your cache folder by default"
    flags.DEFINE_string("cache_dir", None, text, flag_values=values)


def prepare_jax(
    cache_dir: str | None = None, cores: int | None = None, *, alone: bool = True
) -> None:
    """Keeps compiled programs, and lets JAX's devices be chosen by the cores.

    Args:
        cache_dir: of this process, for the programs and for all that has no other place given; the
            user's by default.
        cores: as of `runtime.cores.claim`.
        alone: as there.
    """
    from asd_jax.features.cache import default_cache_dir
    from asd_jax.runtime.compilation import keep_compiled
    from asd_jax.runtime.cores import claim, usable_cores
    from asd_jax.runtime.memory import check_limits

    claim(cores, alone=alone)
    check_limits(usable_cores())
    if cache_dir:
        os.environ["ASD_JAX_CACHE"] = cache_dir
    keep_compiled(default_cache_dir())
