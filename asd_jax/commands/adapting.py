"""The command adapt: a run learns more normal recordings, and forgets them again."""

from typing import Any

from absl import flags

from asd_jax.commands.base import (
    Command,
    define_cache_dir,
    define_cores,
    define_on_bad_clip,
    define_whole,
    prepare_jax,
)
from asd_jax.errors import UserError
from asd_jax.runtime.bounds import Between

_BEFORE = -1  # of --rollback without a number


class _VersionParser(flags.ArgumentParser):
    """Reads the number of a version; "true", of a flag without a value, is the one before."""

    def parse(self, argument: Any) -> int | None:
        text = str(argument)
        if text in ("true", "false"):
            return _BEFORE if text == "true" else None
        if not text.isdecimal():
            raise ValueError("it must be the number of a version, see --list")
        return int(text)

    def flag_type(self) -> str:
        return "version"


class _VersionFlag(flags.Flag):
    """A flag that may have a value, as --rollback or --rollback=2."""

    def __init__(self, name: str, help_: str):
        super().__init__(_VersionParser(), flags.ArgumentSerializer(), name, None, help_)
        self.boolean = True  # for the library, one that needs no value


def _define_adapt(values: flags.FlagValues) -> None:
    flags.DEFINE_string("run_dir", None, "run directory of a finished run", flag_values=values)
    flags.DEFINE_string(
        "normal", None, "folder of recordings of a normal machine to learn", flag_values=values
    )
    flags.DEFINE_string("machine", None, "machine type of the recordings", flag_values=values)
    flags.DEFINE_string("section", None, "section or id of the recordings", flag_values=values)
    flags.DEFINE_string(
        "state",
        None,
        "of the machine in all recordings, as speed=1500,load=2; by default as names or side files "
        "say",
        flag_values=values,
    )
    define_whole(
        values,
        "max_bank",
        None,
        "recordings that systems of nearest neighbours keep of each machine or section; of two "
        "that are alike the older one leaves",
        Between(2, 10**7),
    )
    text = "have the version before back, or that of a number, as --rollback=0"
    flags.DEFINE_flag(_VersionFlag("rollback", text), flag_values=values)
    flags.DEFINE_bool("list", False, "list the versions of the run", flag_values=values)
    define_cache_dir(values, "features and compiled programs")
    define_cores(values)
    define_on_bad_clip(values)


def _adapt(values: flags.FlagValues, words: list[str], overrides: dict[str, str]) -> None:
    if words:
        raise UserError(f"adapt takes one run, and recordings by --normal=FOLDER, not {words[0]!r}")
    asked = {
        "normal": values.normal is not None,
        "rollback": values.rollback is not None,
        "list": values.list,
    }
    if not any(asked.values()):
        raise UserError(
            "adapt needs --normal=FOLDER, --rollback or --list; `asd-jax adapt --help` says more"
        )
    first, *others = [f"--{name}" for name, given in asked.items() if given]
    if others:
        raise UserError(f"{first} and {others[0]} are of two commands; give one")
    of_normal = ("machine", "section", "state", "max_bank")
    unused = [name for name in of_normal if values[name].value is not None]
    if unused and not asked["normal"]:
        raise UserError(f"--{unused[0]} has no effect without --normal=FOLDER; leave it out")
    from asd_jax.runs import adapting

    if values.list:
        _print_versions(values.run_dir)
        return
    if values.rollback is not None:
        number = None if values.rollback == _BEFORE else values.rollback
        done = adapting.roll_back(values.run_dir, number)
    else:
        prepare_jax(values.cache_dir, values.cores)
        done = adapting.adapt_run(
            values.run_dir,
            values.normal,
            machine=values.machine,
            section=values.section,
            state=values.state,
            max_bank=values.max_bank,
            on_bad_clip=values.on_bad_clip,
            cache_dir=values.cache_dir,
        )
    print(*done.lines, sep="\n")


def _print_versions(run_dir: str) -> None:
    from asd_jax.runs.adapting import version_records

    records = version_records(run_dir)
    if not records:
        print(f"{run_dir} was never adapted; it has the system as it was fitted")
    for record in records:
        mark = "*" if record["current"] else " "
        what = "as it was fitted"
        if record["from"] is not None:
            what = (
                f"{record['new_clips']} clips of {record['normal']} on {record['time']}, "
                f"from version {record['from']}"
            )
        print(f"{mark} {record['version']}  {what}")


ADAPT = Command(
    "learn more normal recordings, with versions that can be had back",
    _define_adapt,
    _adapt,
    ("run_dir",),
    "[RUN]",
)
