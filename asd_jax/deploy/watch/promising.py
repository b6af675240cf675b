"""What a watch promises of its alarms, before it starts."""

from collections.abc import Mapping

from asd_jax.fitting.fitted import Fitted
from asd_jax.fitting.layout import Group
from asd_jax.scoring.alarm_promises import Cadence, alarm_promise, alarm_text
from asd_jax.scoring.alarms import AlarmRule


def promise_lines(
    fitted: Fitted, rule: AlarmRule, cadence: Cadence, thresholds: Mapping[Group, float]
) -> list[str]:
    """How many false alarms a month there are at most, machines of which it is alike in one line.

    Args:
        fitted: of the run.
        rule: of the alarms.
        cadence: of the windows.
        thresholds: of each machine and section.
    """
    lines: dict[str, list[str]] = {}
    for group, threshold in thresholds.items():
        reference = fitted.group_reference(group, None)
        line = "false alarms a month are not known, as no normal clip was kept apart from the fit"
        if reference.n_groups:
            line = alarm_text(alarm_promise(rule, threshold, reference, cadence))
        lines.setdefault(line, []).append(" ".join(filter(None, group)))
    return [f"{', '.join(sorted(machines))}: {line}" for line, machines in lines.items()]
