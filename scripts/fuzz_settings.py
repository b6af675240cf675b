"""Random settings by the thousands: each is accepted, or refused by one line.

    .venv/bin/python scripts/fuzz_settings.py [--seed=0] [--count=2000]

A trial changes a shipped configuration by text, as the command line does, by values in Python, or
in its stored form; or it calls a command with a number that cannot be. A configuration that is
accepted is made a system, too. Nothing is trained, and no command gets far enough to run.

Each trial has a random stream of its own, keyed by seed and number, so that one that fails can be
done again alone: --seed=SEED --first=NUMBER --count=1. The exit status is 1 if any ends in anything
but a `UserError` or an accepted value.
"""

import contextlib
import dataclasses
import io
import json
import random
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from absl import flags
from fuzz_trials import Outcome, do_trials

from asd_jax import cli
from asd_jax.commands import COMMANDS
from asd_jax.config import Config, from_dict, load_config, override, shipped_configs, to_dict
from asd_jax.config.reference import Key, reference
from asd_jax.detectors import make_detector, registry
from asd_jax.errors import UserError

_LONGEST_LINE = 400
_NUMBERS: tuple[Any, ...] = (
    *(float("nan"), float("inf"), -float("inf"), 1e30, -1e30, 1e300, 5e-324, 1e-30, -0.0),
    *(10**60, -(10**60), 10**5000, 2**31, 2**32, 2**63, 2**64, -1, 0, 1, 2, 3, 7, 0.5, 1.5),
)
_OTHERS: tuple[Any, ...] = ("", "5", "nan", "fan", None, True, False, (), (1, "a"), ((),), {}, 1j)
_TEXTS = (
    *(
        "",
        " ",
        ",",
        ",,",
        "-",
        "e",
        "1e",
        "0x10",
        "1_000",
        "٣",
        "½",
        "1e400",
        "-1e400",
        "NaN",
        "Inf",
    ),
    *("none", "true", "1,2", "1,nan", "(1, 2", "[inf]", "'1'", "--", "a.b", "9" * 5000, "é" * 300),
)
_BROKEN = ("nan", "inf", "-inf", "1e300", "-1e300", str(10**30), str(-(10**30)), "many", "1,2", "")


def number_of(rng: random.Random) -> Any:
    """A number: one of those that are often forgotten, or any of any size."""
    if rng.random() < 0.5:
        return rng.choice(_NUMBERS)
    size = 10 ** rng.uniform(-12, 20)
    value = rng.choice((-1, 1)) * size
    return int(value) if rng.random() < 0.5 else value


def text_of(rng: random.Random) -> str:
    """A text that might be given in place of a number."""
    if rng.random() < 0.3:
        return rng.choice(_TEXTS)
    count = 1 if rng.random() < 0.8 else rng.randint(2, 5)
    return ",".join(_written(number_of(rng)) for _ in range(count))


def _written(number: Any) -> str:
    return "1" + "0" * 5000 if number == 10**5000 else str(number)


def by_text(rng: random.Random, config: Any) -> tuple[str, Callable[[], Any]]:
    """Some keys set by text."""
    keys: list[Key] = [*reference(config)]
    chosen = {rng.choice(keys).key: text_of(rng) for _ in range(rng.randint(1, 3))}
    return f"{chosen}", lambda: override(config, chosen)


def by_value(rng: random.Random, config: Any) -> tuple[str, Callable[[], Any]]:
    """A field of the configuration, or of a group of it, set in Python."""
    groups = [(name, each) for name, each in _fields(config) if dataclasses.is_dataclass(each)]
    group, settings = rng.choice([("", config), *groups])
    numbers = [
        (name, value)
        for name, value in _fields(settings)
        if isinstance(value, int | float | tuple) or value is None
    ]
    if not numbers:
        return "nothing to set", lambda: config
    name, before = rng.choice(numbers)
    value = number_of(rng) if rng.random() < 0.8 else rng.choice(_OTHERS)
    if isinstance(before, tuple) and rng.random() < 0.8:
        value = tuple(number_of(rng) for _ in range(rng.randint(0, 4)))

    def change() -> Any:
        changed = dataclasses.replace(settings, **{name: value})
        return dataclasses.replace(config, **{group: changed}) if group else changed

    return f"{group}.{name} = {_short(value)}", change


def by_stored(rng: random.Random, config: Any) -> tuple[str, Callable[[], Any]]:
    """A number of the configuration's stored form, as of a run of another version."""
    data = to_dict(config)
    path, place, key = rng.choice([*_numbers_in(data)])
    place[key] = number_of(rng)
    what = f"{path} = {_short(place[key])} in {json.dumps(to_dict(config))[:20]}…"
    known = {name: system.Config for name, system in registry().items()}
    return what, lambda: from_dict(data, known)


def _fields(settings: Any) -> Iterator[tuple[str, Any]]:
    for field in dataclasses.fields(settings):
        yield field.name, getattr(settings, field.name)


def _numbers_in(data: Any, path: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Dotted place, container and key of each number in nested dictionaries and lists."""
    items = data.items() if isinstance(data, Mapping) else enumerate(data)
    for key, value in items:
        if isinstance(value, Mapping | list):
            yield from _numbers_in(value, f"{path}{key}.")
        elif isinstance(value, int | float) and not isinstance(value, bool):
            yield f"{path}{key}", data, key


def _short(value: Any) -> str:
    try:
        return repr(value)[:80]
    except ValueError:  # more digits than Python writes
        return "a whole number of thousands of digits"


_CHANGES = {"text": by_text, "Python": by_value, "stored": by_stored}


def try_change(rng: random.Random, kind: str, configs: Mapping[str, Any]) -> Outcome:
    """A shipped configuration, changed, and the system of it."""
    name = rng.choice([*configs])
    what, change = _CHANGES[kind](rng, configs[name])
    what = f"{name}: {what}"
    try:
        changed = change()
        if isinstance(changed, Config):
            make_detector(changed)
    except UserError as error:
        line = str(error)
        right = "\n" not in line
        return Outcome("refused", what) if right else Outcome("wrong", what, f"no line: {line}")
    except Exception:
        return Outcome("wrong", what, traceback.format_exc())
    return Outcome("accepted", what)


def try_command(rng: random.Random, configs: Mapping[str, Any]) -> Outcome:
    """A command with a broken number, among its flags or its configuration's keys."""
    if rng.random() < 0.3:
        name = rng.choice([*configs])
        key = rng.choice([key for key in reference(configs[name]) if key.range])
        arguments = ["list", f"--config={name}", f"--config.{key.key}={rng.choice(_BROKEN)}"]
    else:
        command = rng.choice([name for name in COMMANDS if numeric_flags(name)])
        names = numeric_flags(command)
        chosen = rng.sample(names, rng.randint(1, min(3, len(names))))
        arguments = [command, *(f"--{flag}={rng.choice(_BROKEN)}" for flag in chosen)]
    status, err = run(arguments)
    what = " ".join(arguments)
    if status == 0 and not err:  # as of an empty list
        return Outcome("accepted", what)
    right = status == 2 and err.count("\n") == 1 and len(err) < _LONGEST_LINE
    return Outcome("refused", what) if right else Outcome("wrong", what, f"status {status}: {err}")


def numeric_flags(command: str) -> list[str]:
    """Names of a command's flags that are numbers."""
    values = flags.FlagValues()
    COMMANDS[command].define(values)
    return [name for name in values if values[name].flag_type() in ("int", "float")]


def run(arguments: list[str]) -> tuple[int, str]:
    """Exit status and standard error of a command in this process."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            cli.main(arguments)
        except SystemExit as ended:
            return int(ended.code or 0), err.getvalue()
    raise AssertionError("the command line ends the process")


def main(argv: list[str] | None = None) -> int:
    """Does the trials and prints a table of how they ended; returns the exit status."""
    configs = {name: load_config(name) for name in shipped_configs()}

    def trial(kind: str, rng: random.Random) -> Outcome:
        return try_command(rng, configs) if kind == "command" else try_change(rng, kind, configs)

    words = ("accepted", "refused", "wrong")
    return do_trials(argv, __doc__, 2000, [*_CHANGES, "command"], trial, words)


if __name__ == "__main__":
    sys.exit(main())
