"""Clips of several machines in a mapping, and what is known of them likewise, as lists."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from asd_jax.errors import UserError

# What stands for a machine that a mapping lacks.
_DEFAULTS: Mapping[str, Any] = {
    **{"sections": "00", "domains": "", "attributes": "", "states": ""},
    "groups": None,
}


class Flat(NamedTuple):
    """Clips of all machines, one machine after another.

    Attributes:
        clips: the clips.
        machines: the machine of each.
        known: by name, what is known of each clip; None where nothing is.
    """

    clips: list[Any]
    machines: list[str]
    known: dict[str, list[Any] | None]


def flattened(clips: Mapping[str, Any], name: str, known: Mapping[str, Any]) -> Flat:
    """Puts the clips of a mapping one after another, and what is known of them beside them.

    Args:
        clips: of each machine.
        name: of the argument that has them, for messages.
        known: arguments of `fit` by their names: a mapping by machine with one value for all of a
            machine's clips or one for each, one value for all clips, or None.

    Raises:
        UserError: a machine without clips, of another name, or with another number of values.

    Examples:
        >>> flat = flattened({"fan": [1, 2], "pump": [3]}, "features", {"sections": {"fan": "01"}})
        >>> flat.clips, flat.machines, flat.known
        ([1, 2, 3], ['fan', 'fan', 'pump'], {'sections': ['01', '01', '00']})
    """
    if not clips:
        raise UserError(f"no clips: {name} is empty")
    lists = {machine: _listed(own, f"{name}[{machine!r}]") for machine, own in clips.items()}
    return Flat(
        [clip for own in lists.values() for clip in own],
        [machine for machine, own in lists.items() for _ in own],
        {column: _column(column, value, lists) for column, value in known.items()},
    )


def _listed(values: Any, name: str) -> list[Any]:
    try:
        listed = [] if isinstance(values, str | bytes | Mapping) else [*values]
    except TypeError:
        listed = []
    if not listed:
        raise UserError(f"{name} has no clips; it must be a list of arrays")
    return listed


def _column(name: str, value: Any, clips: Mapping[str, list[Any]]) -> list[Any] | None:
    """One value for each clip."""
    if value is None:
        return None
    if not isinstance(value, Mapping):
        if not _is_one(value):
            raise UserError(
                f"{name} is a list, and clips are given by machine; give a mapping, as "
                f"{{{next(iter(clips))!r}: …}}"
            )
        value = dict.fromkeys(clips, value)
    for machine in value:
        if machine not in clips:
            raise UserError(
                f"{name} names {machine!r}, of which there are no clips; there are "
                f"{', '.join(map(str, clips))}"
            )
    column: list[Any] = []
    for machine, own in clips.items():
        its = value.get(machine, _DEFAULTS[name])
        if its is None:
            raise UserError(f"{name} lacks {machine!r}; name the {name} of every machine")
        values = [its] * len(own) if _is_one(its) else [*its]
        if len(values) != len(own):
            raise UserError(f"{machine}: {len(own)} clips, but {len(values)} {name}")
        column += values
    return column


def _is_one(value: Any) -> bool:
    """Whether a value is of all clips alike."""
    return isinstance(value, str | int | np.integer | Mapping)
