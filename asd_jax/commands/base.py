"""The record of a command, and flags and services that several commands share."""

from collections.abc import Callable
from typing import NamedTuple, TypeVar

from absl import flags

CONFIG = "--config."  # prefix of a configuration's settings


_T = TypeVar("_T")


class Command(NamedTuple):
    """A subcommand.

    Attributes:
        summary: one line for the list of commands.
        define: adds its flags to a `FlagValues`.
        run: runs it, given its flags, the positional words, and the overrides of the
            configuration.
        required: flags that must be given.
        positional: placeholder of the positional words; empty where it takes none.
    """

    summary: str
    define: Callable[[flags.FlagValues], None]
    run: Callable[[flags.FlagValues, list[str], dict[str, str]], None]
    required: tuple[str, ...] = ()
    positional: str = ""


def define_none(values: flags.FlagValues) -> None:
    """No flags."""


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


def define_on_bad_clip(values: flags.FlagValues) -> None:
    """Adds --on_bad_clip."""
    flags.DEFINE_enum(
        "on_bad_clip",
        "stop",
        ["stop", "skip"],
        "at a recording that cannot be used: stop, or skip it with a line",
        flag_values=values,
    )


def keep_compiled(cache_dir: str | None) -> None:
    """Keeps compiled programs in the cache folder, the user's by default."""
    from asd_jax.features.cache import default_cache_dir
    from asd_jax.runtime.compilation import keep_compiled

    keep_compiled(cache_dir or default_cache_dir())
