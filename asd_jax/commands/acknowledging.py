"""The command acknowledge: alarms of a watch that were false become normal sound to learn."""

import shlex

from absl import flags

from asd_jax.commands.base import Command
from asd_jax.commands.watching import default_state_dir


def _define_acknowledge(values: flags.FlagValues) -> None:
    flags.DEFINE_string("run_dir", None, "run directory that is watched with", flag_values=values)
    flags.DEFINE_string(
        "state_dir", None, "folder of the watch's state; RUN/watch by default", flag_values=values
    )


def _acknowledge(values: flags.FlagValues, words: list[str], overrides: dict[str, str]) -> None:
    from asd_jax.deploy.watch.evidence import acknowledge

    state_dir = values.state_dir or default_state_dir(values.run_dir)
    if not words:
        _print_alarms(state_dir)
        return
    commands: dict[str, None] = {}
    for number in words:
        alarm, folder = acknowledge(state_dir, number)
        count = len(alarm.windows)
        what = f"{count} windows are" if count != 1 else "its window is"
        print(f"{alarm.number}: {what} normal sound now, in {folder}")
        command = ["asd-jax", "adapt", values.run_dir, f"--normal={folder}"]
        for flag in ("machine", "section"):
            if alarm.record.get(flag):
                command.append(f"--{flag}={alarm.record[flag]}")
        commands[shlex.join(command)] = None
    print("learn from all such sound by", *(f"    {command}" for command in commands), sep="\n")


def _print_alarms(state_dir: str) -> None:
    from asd_jax.deploy.watch.evidence import kept_alarms
    from asd_jax.runtime.text_tables import aligned, terminal_width

    alarms = kept_alarms(state_dir)
    if not alarms:
        print(f"{state_dir} has no sound of alarms")
        return
    rows = [
        [
            alarm.number[:12],
            str(alarm.record.get("stream")),
            str(alarm.record.get("begin")),
            f"{alarm.record.get('score') or float('nan'):.6g}",
            f"{alarm.record.get('threshold') or float('nan'):.6g}",
            str(len(alarm.windows)),
        ]
        for alarm in alarms
    ]
    heads = ["id of the alarm", "stream", "raised at", "score", "threshold", "windows kept"]
    print(*aligned([heads, *rows], width=terminal_width(), headings=1), sep="\n")


ACKNOWLEDGE = Command(
    "call alarms of a watch false, so that adapt can learn their sound",
    _define_acknowledge,
    _acknowledge,
    ("run_dir",),
    "[RUN] [ALARM …]",
)
