"""Wrong command lines by the hundreds: each is done, or refused by one line.

    .venv/bin/python scripts/fuzz_command_lines.py [--seed=0] [--count=500]

Two machines' recordings are made and two runs on them, then command lines of every command are
changed at random: values that are wrong, missing, doubled, empty, absurd, quoted or not UTF-8;
files in place of folders and the reverse; flags of other commands, unknown keys, words in wrong
places. Each runs in a process of its own, in two minutes. It must end with status 0, or with 1 or 2
and one line; without a traceback, without half a file, and with recordings and runs as they were.
Nothing is downloaded: no command line has a year for that.

Each trial has a random stream of its own, keyed by seed and number, so that one that fails can be
done again alone: --seed=SEED --first=NUMBER --count=1. The exit status is 1 if any ends otherwise.
"""

import functools
import json
import os
import random
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from absl import flags
from fuzz_trials import Ended, Outcome, do_trials, in_child

from asd_jax import cli
from asd_jax.commands import COMMANDS

_SECONDS = 120.0
_LONGEST_LINE = 1000  # beside what was given
_SETTINGS = ("--config=mel_mahalanobis", "--config.front_end.n_mels=16", "--config.seeds=0")

# By command, complete requests; {} are places, see `_places`.
_REQUESTS = {
    "list": ["", "--config=mel_mahalanobis", "--data_dir={data}", "--format=json"],
    "synth": ["--out_dir={new} --clips=2 --duration=2 --machines=fan --sections=1"],
    "index": ["--data_dir={data}", "--normal={normal}", "--data_dir={data} --headers_only"],
    "run": [
        "--data_dir={data} --out_dir={new} {settings}",
        "--data_dir={data} --out_dir={new} {settings} --dry_run",
        "--normal={normal} --test={normal} --out_dir={new} {settings}",
        "--data_dir={data} --out_dir={run} {settings}",
    ],
    "reproduce": ["--paper=giri2020 --data_dir={folder} --out_dir={new} --dry_run"],
    "score": ["--run_dir={run} --machine=fan {clip}", "{run} {normal} --machine=fan --section=00"],
    "import": ["--keras={file} --config=dense_ae --out_dir={new}"],
    "ensemble": ["{run} {other} --out_dir={new}"],
    "report": ["{run}", "{run} {other} --format=csv"],
    "select": ["{run} {other}"],
    "submission": ["{run}", "--check={folder}"],
    "completion": ["bash"],
    "download": ["--out_dir={new}"],
}
_VALUES = (
    *("", " ", "nan", "-1", "0", "1.5", "1e400", "9" * 3000, "none", "True", "a,b", ",", "=", "--"),
    *("'fan'", '"fan"', "fan ", "FAN", "a\nb", "\udcff\udcfe.wav", "é" * 200, "$(x)", "*", "[x]"),
    *("~", "~nobody/x", "http://x.org/y", "file:///x", "{x}", "%s", "\\", ".", "..", "\x1b[31m"),
)
_PLACES = ("data", "normal", "clip", "file", "folder", "missing", "run", "other", "below", "fifo")


def prepare(root: Path) -> None:
    """Makes the recordings and runs that command lines name."""
    for name in ("folder", "home", "work", "cache"):
        (root / name).mkdir()
    (root / "file").write_text("no recording\n")
    os.mkfifo(root / "fifo")
    data = f"--data_dir={root / 'data'}"
    for arguments in (
        ["synth", f"--out_dir={root / 'data'}", "--clips=4", "--duration=2", "--machines=fan,pump"],
        *(["run", data, f"--out_dir={root / name}", *_SETTINGS] for name in ("run", "other")),
    ):
        ended = _run(root, arguments)
        if ended.status != 0:
            raise RuntimeError(f"{arguments}: {ended}")


def _places(root: Path) -> dict[str, str]:
    train = root / "data" / "dev_data" / "fan" / "train"
    train = train if train.exists() else next(root.glob("data/**/fan/train"))
    own = {"normal": train, "clip": sorted(train.iterdir())[0], "below": root / "file" / "x"}
    names = ("data", "file", "folder", "run", "other", "fifo", "missing")
    return {name: str(place) for name, place in (own | {n: root / n for n in names}).items()}


def _run(root: Path, arguments: list[str]) -> Ended:
    """How a command ends in a process of its own, in an empty folder."""

    def work() -> None:
        os.chdir(root / "work")
        os.environ |= {"HOME": str(root / "home"), "ASD_JAX_CACHE": str(root / "cache")}
        sys.argv = ["asd-jax", *arguments]
        cli.main()

    return in_child(work, _SECONDS)


def command_line(rng: random.Random, name: str, places: dict[str, str]) -> list[str]:
    """A request of a command, changed once or more."""
    request = rng.choice(_REQUESTS[name]).replace("{settings}", " ".join(_SETTINGS)).split()
    arguments = [name, *(word.format(**places) for word in request)]
    for _ in range(rng.choice((1, 1, 2, 3))):
        arguments = _changed(rng, arguments, places)
    return arguments


def _changed(rng: random.Random, arguments: list[str], places: dict[str, str]) -> list[str]:
    place = rng.randrange(len(arguments))
    how = rng.choice(("value", "value", "drop", "double", "flag", "other", "key", "word", "name"))
    word = arguments[place]
    flag, separator, _ = word.partition("=")
    if how == "value" and separator:
        arguments[place] = f"{flag}={_value(rng, places)}"
    elif how == "drop":
        del arguments[place]
    elif how == "double":
        again = f"{flag}={_value(rng, places)}" if separator and rng.random() < 0.5 else word
        arguments.insert(rng.randint(1, len(arguments)), again)
    elif how == "flag":
        wrong = (word[:-1], word.upper(), f"-{word}", word.lstrip("-"), "--=x", "---", "-x", flag)
        arguments[place] = rng.choice(wrong)
    elif how == "other":
        arguments.append(f"--{rng.choice(_flags())}={_value(rng, places)}")
    elif how == "key":
        keys = ("", "train", "train.epochs", "x.y", "name", "front_end.n_mels", "seeds", "detector")
        value = rng.choice((f"={_value(rng, places)}", "", "=1", "=many"))
        arguments.append(f"--config.{rng.choice(keys)}{value}")
    elif how == "word":
        arguments.insert(rng.randint(0, len(arguments)), _value(rng, places))
    elif how == "name":
        arguments[0] = rng.choice(("", "Run", "runn", "--run", "help", *COMMANDS))
    return arguments or [""]


def _value(rng: random.Random, places: dict[str, str]) -> str:
    return places[rng.choice(_PLACES)] if rng.random() < 0.4 else rng.choice(_VALUES)


@functools.cache
def _flags() -> list[str]:
    """Names of the flags of all commands."""
    names: set[str] = set()
    for command in COMMANDS.values():
        values = flags.FlagValues()
        command.define(values)
        names |= {*values}
    return sorted(names)


def _state(root: Path) -> dict[str, tuple[int, int]]:
    """Size and time of all files that no command may change."""
    found = {}
    for name in ("data", "run", "other", "folder", "file"):
        for path in [root / name, *(root / name).rglob("*")]:
            if path.is_file():
                status = path.stat()
                found[str(path)] = status.st_size, status.st_mtime_ns
    return found


def _half_written(folder: Path) -> Iterator[str]:
    """Files of a folder that are temporary, or are no JSON in spite of their names."""
    for path in folder.rglob("*"):
        if path.name.startswith(".") and path.name != ".lock":  # of runtime.files
            yield f"{path} is left"
        if path.suffix == ".json":
            try:
                json.loads(path.read_bytes())
            except ValueError:
                yield f"{path} is no JSON"


def try_line(root: Path, name: str, rng: random.Random) -> Outcome:
    """One command line."""
    places = _places(root) | {"new": str(root / "work" / "new")}
    if name == "reproduce":  # whose trainings, and even their estimates, take minutes
        places["data"] = places["folder"]
    arguments = command_line(rng, name, places)
    if arguments[0] == "reproduce" and not any("--data_dir=" in word for word in arguments):
        arguments.append(f"--data_dir={places['missing']}")
    before = _state(root)
    ended = _run(root, arguments)
    what = " ".join(map(ascii, arguments))[:_LONGEST_LINE]
    wrong = [_wrong(ended, max(map(len, arguments))), *_half_written(root / "work")]
    # A command that may write there is told to by its out_dir, and has done so where it ended well.
    changed = [path for path, state in _state(root).items() if before.get(path, state) != state]
    lost = before.keys() - _state(root).keys()
    told = any(word.startswith("--out_dir=") for word in arguments) and ended.status == 0
    if lost or (changed and not told):
        wrong.append(f"changed: {sorted([*lost, *changed])}")
    for leftover in ("work", "home"):
        shutil.rmtree(root / leftover)
        (root / leftover).mkdir()
    wrong = [each for each in wrong if each]
    if wrong:
        return Outcome("wrong", what, "\n".join(wrong))
    return Outcome("done" if ended.status == 0 else "refused", what)


def _wrong(ended: Ended, longest: int) -> str:
    """What is wrong about a process's end; empty if nothing. `longest` is a word's length."""
    if ended.status is None:
        return f"not done after {_SECONDS:.0f} s: {ended.err[-_LONGEST_LINE:]}"
    if "Traceback" in ended.out + ended.err or ended.status not in (0, 1, 2):
        return f"status {ended.status}: {ended.err[-5 * _LONGEST_LINE :]}"
    if ended.status == 0:
        return ""
    lines = ended.err.splitlines()
    said = [line for line in lines if line.startswith("asd-jax: ")]
    # Lines of progress may stand before it.
    if not said or said[-1] != lines[-1] or len(said[-1]) > _LONGEST_LINE + 2 * longest:
        return (
            f"status {ended.status}, not one line at the end: {ended.err[-2 * _LONGEST_LINE :]!r}"
        )
    return ""


def main(argv: list[str] | None = None) -> int:
    """Does the trials and prints a table of how they ended; returns the exit status."""
    # What all processes share is imported once, before they are forked; JAX starts in each alone.
    import asd_jax.papers.score_runs
    import asd_jax.pipeline
    import asd_jax.runs.report  # noqa: F401

    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder).resolve()
        prepare(root)
        return do_trials(
            *(argv, __doc__, 500, [*_REQUESTS]),
            lambda name, rng: try_line(root, name, rng),
            ("done", "refused", "wrong"),
        )


if __name__ == "__main__":
    sys.exit(main())
