"""Numeric flags of every command: numbers that cannot be are one line and status 2."""

import pytest
from absl import flags
from command_line import run_cli

from asd_jax.commands import COMMANDS

ABSURD = ("nan", "inf", "-inf", "1e300", str(10**30), str(-(10**30)), "many", "")


def numeric(command):
    values = flags.FlagValues()
    COMMANDS[command].define(values)
    kinds = {name: values[name].flag_type() for name in values if len(name) > 1}
    return [name for name, kind in kinds.items() if kind in ("int", "float")]


@pytest.mark.parametrize("command", [name for name in COMMANDS if numeric(name)])
def test_a_number_that_cannot_be_is_refused_by_name(command, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in numeric(command):
        for text in ABSURD:
            status, out, err = run_cli(capsys, command, f"--{name}={text}")
            assert status == 2 and not out, f"{command} --{name}={text}"
            assert err.count("\n") == 1 and err.startswith("asd-jax: ")
            assert f"--{name}={text}: it must be a" in err
            assert "or more" in err or "above" in err
    assert not [*tmp_path.iterdir()]


def test_there_are_numeric_flags():
    """The kinds by which they are found are the library's names."""
    assert {"clips", "duration", "far_db", "sample_rate", "seed", "year"} <= {*numeric("synth")}
    assert numeric("score") and numeric("select") and numeric("submission")


def test_numbers_in_their_range_are_read():
    for command, given in [
        ("synth", {"clips": 8, "duration": 2.5, "far_db": 0.0, "seed": 2**32 - 1}),
        ("select", {"least": 1.0, "clips": 12}),
        ("score", {"false_alarms": 0.01, "cores": 1}),
    ]:
        values = flags.FlagValues()
        COMMANDS[command].define(values)
        values(["asd-jax", *(f"--{name}={number}" for name, number in given.items())])
        for name, number in given.items():
            assert values[name].value == number and type(values[name].value) is type(number)
