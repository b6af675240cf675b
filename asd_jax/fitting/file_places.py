"""The machine and section that recordings in files belong to."""

import os
from typing import NamedTuple

from asd_jax.data.clip_paths import parse_clip
from asd_jax.fitting.detector import FittedDetector
from asd_jax.fitting.fitted import Fitted

_UNNAMED = "machine"  # of models that were fitted or imported without a machine's name


class Place(NamedTuple):
    """Where a recording belongs.

    Attributes:
        machine: its machine type; None where nothing says it.
        section: its section; None where nothing says it.
        assumed: what was assumed in place of what the file's place says; "" for nothing.
        hint: what to do if the machine was not fitted.
    """

    machine: str | None
    section: str | None
    assumed: str = ""
    hint: str = ""

    @classmethod
    def of(
        cls,
        fitted: Fitted,
        file: os.PathLike | str,
        machine: str | None,
        section: str | None,
    ) -> "Place":
        """What is given, else what the file's place in a data set says, else the only one."""
        clip = parse_clip(os.path.abspath(file))
        machines, hint = fitted.machines, ""
        assumed = []
        if machine is None and machines != (_UNNAMED,) and clip is not None:
            machine = clip.machine
            if machine not in machines:
                hint = f" (its folder says {machine}; --machine= scores it as another)"
        elif machine is None and len(machines) == 1:
            machine = machines[0]
            assumed.append(f"machine {machine}, the only one that was fitted")
        section = section or (clip.section if clip else None)
        if machine in machines:
            sections = fitted.sections_of(machine)
            if section is None and sections is not None and len(sections) == 1:
                assumed.append(f"section {sections[0]}, the only one of {machine}")
            trained = fitted.sections.get(machine, ()) if isinstance(fitted, FittedDetector) else ()
            if section is not None and sections is None and trained and section not in trained:
                assumed.append(
                    f"section {section} of {machine}, which had no training clips; one model "
                    "scores all sections"
                )
        line = f"recordings are scored as of {' and '.join(assumed)}" if assumed else ""
        return cls(machine, section, line, hint)
