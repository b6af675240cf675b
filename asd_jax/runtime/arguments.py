"""Checks of the arguments of public functions: a wrong type is one line, not an error far away."""

import os
import reprlib
import unicodedata
from collections.abc import Collection
from typing import Any

import numpy as np

from asd_jax.errors import UserError


def check(name: str, value: Any, kinds: tuple[type, ...], wanted: str) -> None:
    """Raises UserError where an argument is of none of some types; bools are no numbers.

    Examples:
        >>> check("machine", ["fan"], (str,), "a text, as in 'fan'")
        Traceback (most recent call last):
        asd_jax.errors.UserError: machine is ['fan'] (list); it must be a text, as in 'fan'
    """
    if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
        kind = "" if value is None else f" ({type(value).__name__})"
        raise UserError(f"{name} is {reprlib.repr(value)}{kind}; it must be {wanted}")


def check_path(name: str, value: Any, *, optional: bool = False) -> None:
    """Raises UserError where an argument is no path, or None where that is allowed."""
    if value is None and optional:
        return
    check(name, value, (str, os.PathLike), "a path" + " or None" * optional)


def check_machine(value: Any, *, optional: bool = False) -> None:
    """Raises UserError where `machine` is no name, or None where that is allowed."""
    if value is None and optional:
        return
    check("machine", value, (str,), "one name, as in 'fan'" + ", or None" * optional)


def check_section(name: str, value: Any) -> None:
    """Raises UserError where a section is neither text nor a whole number."""
    check(name, value, (str, int, np.integer), "a text or a whole number, as in '00'")


def check_choice(name: str, value: Any, choices: Collection[str]) -> None:
    """Raises UserError where an argument is none of some texts."""
    if not (isinstance(value, str) and value in choices):
        wanted = " or ".join(map(repr, choices))
        raise UserError(f"{name} is {reprlib.repr(value)}; it must be {wanted}")


def composed(name: str) -> str:
    """A machine's name in composed characters: systems may store that of a folder decomposed."""
    return unicodedata.normalize("NFC", name)
